"""Draw the validation PSNR of training runs against hours, one line for each run, as a PNG.

    python scripts/plot_hours.py runs/denoise runs/denoise-fast --out hours.png
    python scripts/plot_hours.py runs/first runs/second --joined --out hours.png

With --joined each run goes on where the one before it ended: their hours add up. The validation pictures of a run are
degraded as its training samples are, so that lines of runs with the same degradations can be compared, others cannot.
Where a run was taken back to an earlier state to go on from there, its line begins anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from restore.logbook import round_ticks

SIZE, LEFT, RIGHT, TOP, BOTTOM = (1000, 560), 80, 24, 16, 52
COLOURS = ("#1f5fa8", "#c8501e", "#2b8a3e", "#8a3ea8", "#8a6d1f", "#444444")
Point = tuple[float, float]  # hours, dB


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the plot; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of training runs, or their log.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--joined", action="store_true", help="each run continues the one before it")
    parser.add_argument("--from-db", type=float, metavar="DB", help="leave out what lies below")
    options = parser.parse_args(arguments)
    try:
        lines = read_lines(options.runs, joined=options.joined, from_db=options.from_db)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        draw(lines).save(options.out)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


def read_lines(
    runs: Sequence[Path], *, joined: bool = False, from_db: float | None = None
) -> dict[str, list[list[Point]]]:
    """Return the points of each run by its name, in pieces along which the hours grow.

    Raises:
        OSError: a log cannot be read.
        ValueError: one is not JSON, or none holds a validation.
    """
    lines: dict[str, list[list[Point]]] = {}
    offset = 0.0
    for run in runs:
        path = run / "log.jsonl" if run.is_dir() else run
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        found = [r for r in records if r.get("validation_psnr_db") is not None and "minutes" in r]
        pieces: list[list[Point]] = []
        last = float("inf")
        for record in found:
            hours = offset + record["minutes"] / 60
            if hours < last:
                pieces.append([])
            last = hours
            if from_db is None or record["validation_psnr_db"] >= from_db:
                pieces[-1].append((hours, record["validation_psnr_db"]))
        lines[path.parent.name if path.name == "log.jsonl" else path.stem] = [piece for piece in pieces if piece]
        offset = last if joined and found else offset
    if not any(lines.values()):
        raise ValueError(f"{runs[0]}: no validation to draw; it comes with the first checkpoint")
    return lines


def draw(lines: dict[str, list[list[Point]]]) -> Image.Image:
    """Return the plot of lines by name."""
    points = [point for pieces in lines.values() for piece in pieces for point in piece]
    x_high = max(x for x, _ in points) or 1.0
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    margin = 0.05 * (y_high - y_low) or 0.5
    y_low, y_high = y_low - margin, y_high + margin
    plot = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(plot)
    width, height = SIZE[0] - LEFT - RIGHT, SIZE[1] - TOP - BOTTOM

    def place(x: float, y: float) -> Point:
        return LEFT + x / x_high * width, TOP + (y_high - y) / (y_high - y_low) * height

    for y in round_ticks(y_low, y_high):
        pen.line([place(0, y), place(x_high, y)], fill="#dddddd")
        pen.text((LEFT - 8, place(0, y)[1]), f"{y:.4g}", fill="#555555", anchor="rm", font_size=14)
    for x in round_ticks(0, x_high):
        pen.text((place(x, y_low)[0], TOP + height + 8), f"{x:.3g}", fill="#555555", anchor="ma", font_size=14)
    pen.text((LEFT + width / 2, SIZE[1] - 6), "hours of training", fill="#555555", anchor="mb", font_size=14)
    for index, (name, pieces) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        for piece in pieces:
            pen.line([place(*point) for point in piece], fill=colour, width=2, joint="curve")
            for x, y in (place(*point) for point in piece):
                pen.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
        best = max((y for piece in pieces for _, y in piece), default=None)
        label = f"{name}: validation PSNR, best {best:.2f} dB" if best is not None else f"{name}: nothing to show"
        corner = (SIZE[0] - RIGHT - 8, TOP + height - 12 - 20 * (len(lines) - 1 - index))
        pen.text(corner, label, fill=colour, anchor="rb", font_size=15)
    return plot


if __name__ == "__main__":
    sys.exit(main())
