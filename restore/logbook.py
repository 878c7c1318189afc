"""What a run says of itself: `log.jsonl`, TensorBoard events, and the curves as a picture."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, ImageDraw
from torch import Tensor

from restore.atomic import write_atomically
from restore.errors import OutputError, UsageError
from restore.jsonable import jsonable

Record = Mapping[str, Any]
Point = tuple[float, float]
COLOURS = ("#1f5fa8", "#c8501e", "#2b8a3e", "#8a3ea8", "#8a6d1f", "#444444")
MOST_DOTS = 100  # points of a line that are dots, too
MOST_TICKS = 6  # of an axis
RESUMABLE = "free some space or mend that, and go on from the last checkpoint with --resume"
SCALARS = ("loss", "lr", "gradient_norm", "images_per_second", "validation_psnr_db", "validation_gain_db")


class Logbook:
    """Keeps the records of a run.

    Args:
        run_dir: gets `log.jsonl`, `curves.png`, and `tensorboard/` if asked.
        tensorboard: whether to write TensorBoard events.
        on_record: is told every record too, for the screen.
        writes: whether this process is the one that does.

    Raises:
        UsageError: TensorBoard is asked for and absent.
    """

    def __init__(
        self, run_dir: Path, *, tensorboard: bool, on_record: Callable[[Record], None], writes: bool = True
    ) -> None:
        self.path = run_dir / "log.jsonl"
        self.on_record = on_record
        self.writes = writes
        self.events = _summary_writer(run_dir / "tensorboard") if tensorboard and writes else None

    def write(self, event: str, **record: Any) -> None:  # noqa: ANN401  JSON types
        """Append a record; NaN and infinite numbers become null."""
        if not self.writes:
            return
        complete = {"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "event": event} | jsonable(record)
        try:
            with self.path.open("a+b") as file:
                file.write(_missing_end(file) + json.dumps(complete, allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror or error}; {RESUMABLE}") from error
        if self.events is not None and "step" in record:
            for key in SCALARS:
                if record.get(key) is not None:
                    self.events.add_scalar(key, record[key], record["step"])
        self.on_record(complete)

    def show(self, pictures_NCHW: Tensor, step: int) -> None:
        """Put a row of pictures (degraded, restored, reference) into TensorBoard."""
        if self.events is not None and len(pictures_NCHW):
            self.events.add_images("validation", pictures_NCHW.clamp(0, 1), step)

    def close(self) -> None:
        """Draw the curves and finish the events."""
        if self.events is not None:
            self.events.close()
        if self.writes and self.path.exists():
            with contextlib.suppress(OSError):  # the numbers are in the log
                draw_curves(self.path, self.path.with_name("curves.png"))


def draw_curves(log: Path, target: Path) -> None:
    """Draw loss, validation PSNR and learning rate against minutes of training, where a log holds them."""
    records = read_log(log)
    last_minute = max((record["minutes"] for record in records if "minutes" in record), default=0.0)
    panels = []
    for key, label in (("loss", "loss"), ("validation_psnr_db", "validation PSNR, dB"), ("lr", "learning rate")):
        points = [(r["minutes"], r[key]) for r in records if r.get(key) is not None and "minutes" in r]
        if len(points) > 1:
            panels.append(line_plot({label: [points]}, "min", x_high=last_minute))
    if not panels:
        return
    picture = Image.new("RGB", (panels[0].width, sum(panel.height for panel in panels)), "white")
    top = 0
    for panel in panels:
        picture.paste(panel, (0, top))
        top += panel.height
    drawn = io.BytesIO()
    picture.save(drawn, "png")
    write_atomically(target, drawn.getbuffer())


def read_log(log: Path) -> list[dict[str, Any]]:
    """Return the records of a `log.jsonl`; lines that a full disk or a power cut left half are passed over.

    Raises:
        OSError: as the system says it.
    """
    records = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):  # half a line may be a number
                records.append(record)
    return records


def line_plot(
    lines: Mapping[str, Sequence[Sequence[Point]]],
    x_unit: str,
    *,
    x_high: float | None = None,
    size: tuple[int, int] = (900, 280),
) -> Image.Image:
    """Return a plot of lines by name, each in pieces, against x from zero on; the names stand above it.

    Args:
        lines: at least one point in all.
        x_unit: stands at the end of the axis.
        x_high: where it ends, by default at the last point.
        size: width and height in pixels.
    """
    points = [point for pieces in lines.values() for piece in pieces for point in piece]
    x_end = max(max(x for x, _ in points) if x_high is None else x_high, 1e-3)
    y_low, y_high = _limits([y for _, y in points])
    left, right, top, bottom = 90, size[0] - 60, 14 + 20 * len(lines), size[1] - 40
    plot = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(plot)

    def place(x: float, y: float) -> Point:
        return left + x / x_end * (right - left), bottom - (y - y_low) / (y_high - y_low) * (bottom - top)

    for y in round_ticks(y_low, y_high):
        pen.line([place(0, y), place(x_end, y)], fill="#dddddd")
        pen.text((left - 8, place(0, y)[1]), f"{y:.4g}", fill="#555555", anchor="rm", font_size=13)
    for x in round_ticks(0, x_end):
        pen.text((place(x, y_low)[0], bottom + 8), f"{x:.4g}", fill="#555555", anchor="ma", font_size=13)
    pen.text((right + 12, bottom + 8), x_unit, fill="#555555", anchor="la", font_size=13)
    for index, (name, pieces) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        pen.text((left, 8 + 20 * index), name, fill=colour, font_size=15)
        for piece in pieces:
            pen.line([place(*point) for point in piece], fill=colour, width=2, joint="curve")
            if len(piece) <= MOST_DOTS:
                for x, y in (place(*point) for point in piece):
                    pen.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
    return plot


def round_ticks(low: float, high: float) -> list[float]:
    """Return round numbers of one distance between two limits, to label an axis with.

    >>> round_ticks(29.78, 30.89)
    [29.8, 30.0, 30.2, 30.4, 30.6, 30.8]
    """
    power = 10.0 ** math.floor(math.log10((high - low) / MOST_TICKS))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if (high - low) / (factor * power) < MOST_TICKS)
    return [round(index * step, 12) for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _missing_end(file: BinaryIO) -> bytes:
    """Return the end of the last line where a full disk or a power cut has left half of it: a record stands alone."""
    if not file.tell():
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read() == b"\n" else b"\n"


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _summary_writer(folder: Path) -> Any:  # noqa: ANN401  the extra may be absent
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  an extra
    except ImportError as error:
        raise UsageError("tensorboard = true needs the extra: pip install 'restore[tensorboard]'") from error
    return SummaryWriter(str(folder))
