"""Draw the validation PSNR of training runs against hours, one line for each run, as a PNG.

    python scripts/plot_hours.py runs/denoise runs/denoise-fast --out hours.png
    python scripts/plot_hours.py runs/first runs/second --joined --out hours.png

With --gain the PSNR of the degraded pictures is taken off. With --joined each run goes on where the one before it
ended: their hours add up. The validation pictures of a run are degraded as its training samples are, so that lines of
runs with the same degradations can be compared, others cannot. Where a run was taken back to an earlier state to go on
from there, its line begins anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from restore.logbook import Point, line_plot, read_log

SIZE = (1000, 560)  # pixels


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the plot; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of training runs, or their log.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--joined", action="store_true", help="each run continues the one before it")
    parser.add_argument(
        "--gain",
        dest="what",
        action="store_const",
        const="gain",
        default="PSNR",
        help="over the degraded pictures, in place of the PSNR",
    )
    parser.add_argument("--from-db", type=float, metavar="DB", help="leave out what lies below")
    options = parser.parse_args(arguments)
    try:
        lines = read_lines(options.runs, options.what, joined=options.joined, from_db=options.from_db)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        draw(lines, options.what).save(options.out)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


def read_lines(
    runs: Sequence[Path], what: str = "PSNR", *, joined: bool = False, from_db: float | None = None
) -> dict[str, list[list[Point]]]:
    """Return the points of each run by its name, in pieces along which the hours grow.

    Args:
        runs: folders, or their logs.
        what: PSNR or gain, both in dB.
        joined: whether each goes on where the one before it ended.
        from_db: leave out points below.

    Raises:
        OSError: a log cannot be read.
        ValueError: none holds a validation.
    """
    key = f"validation_{what.lower()}_db"
    lines: dict[str, list[list[Point]]] = {}
    offset = 0.0
    for run in runs:
        path = run / "log.jsonl" if run.is_dir() else run
        records = read_log(path)
        found = [
            (offset + record["minutes"] / 60, record[key])
            for record in records
            if record.get(key) is not None and "minutes" in record
        ]
        pieces: list[list[Point]] = []
        last = float("inf")
        for hours, value_db in found:
            if hours < last:
                pieces.append([])
            last = hours
            if from_db is None or value_db >= from_db:
                pieces[-1].append((hours, value_db))
        name = path.parent.name if path.name == "log.jsonl" else path.stem
        lines[str(path) if name in lines else name] = [piece for piece in pieces if piece]
        if joined:
            offset += next((record["minutes"] / 60 for record in reversed(records) if "minutes" in record), 0)
    if not any(lines.values()):
        raise ValueError(f"{runs[0]}: no validation to draw; it comes with the first checkpoint")
    return lines


def draw(lines: Mapping[str, Sequence[Sequence[Point]]], what: str = "PSNR") -> Image.Image:
    """Return the plot of lines by name."""
    named = {}
    for name, pieces in lines.items():
        best = max((y for piece in pieces for _, y in piece), default=None)
        named[f"{name}: validation {what}, " + ("nothing to show" if best is None else f"best {best:.2f} dB")] = pieces
    return line_plot(named, "hours", size=SIZE)


if __name__ == "__main__":
    sys.exit(main())
