"""`restore score`."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

import restore
from restore.cli import console, options
from restore.cli.report import counted, show

if TYPE_CHECKING:
    from restore.scoring import ScoreReport

SCHEMA_VERSION = 1
SECONDS_BETWEEN_LINES = 5.0

Reference = Annotated[Path, typer.Argument(metavar="REFERENCE", help="Folder (or file) of reference pictures.")]
Restored = Annotated[
    Path, typer.Argument(metavar="RESTORED", help="Folder (or file) to compare; names match without their extension.")
]
Metrics = Annotated[str, typer.Option(metavar="NAME,…", help="psnr, ssim; the worst pictures are by the first.")]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Accept pictures without a partner.")]


def score(  # noqa: PLR0917  the order is that of the help page
    reference: Reference,
    restored: Restored,
    metrics: Metrics = "psnr,ssim",
    allow_missing: AllowMissing = False,
    max_pixels: options.MaxPixels = options.DEFAULT_MAX_PIXELS,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Compare restored pictures with their references, and print the protocol with the scores.

    Sizes and channels must agree: nothing is ever resized. Pictures in which
    every value agrees have an infinite PSNR, which is left out of the mean.
    """
    del debug  # read where errors are explained
    from restore.scoring import score_folders  # noqa: PLC0415  torch takes two seconds to import

    names = tuple(dict.fromkeys(name.strip().lower() for name in metrics.split(",")))
    with _progress(show=not quiet) as on_pair:
        report = score_folders(reference, restored, names, max_pixels=max_pixels, on_pair=on_pair)
    if not quiet:
        _warn(report, reference, restored, allow_missing=allow_missing)
    for failure in report.failures:
        console.error(failure.reason)
    if not allow_missing:
        _name_missing(report, reference, restored)
    if json:
        console.result_json({"schema_version": SCHEMA_VERSION, "versions": _versions(), **report.document()})
    else:
        show(report)
    if report.failures or (report.num_missing and not allow_missing):
        raise typer.Exit(1)


def _versions() -> dict[str, str]:
    """Return the versions of all that has a part in a score."""
    import cv2  # noqa: PLC0415  these are slow to import, and imported by now
    import numpy as np  # noqa: PLC0415
    import PIL  # noqa: PLC0415
    import torch  # noqa: PLC0415

    libraries = {"torch": torch, "numpy": np, "opencv": cv2, "pillow": PIL}
    python = {"restore": restore.__version__, "python": platform.python_version()}
    return python | {name: str(module.__version__) for name, module in libraries.items()}


def _warn(report: ScoreReport, reference: Path, restored: Path, *, allow_missing: bool) -> None:
    if reference.samefile(restored):
        console.warn(f"{restored}: is the reference itself, so every pair is identical")
    for pair in report.pairs:
        for warning in pair.warnings:
            console.warn(warning)
    num_clipped = sum(pair.clipped for pair in report.pairs)
    if num_clipped:
        console.warn(f"{counted(num_clipped, 'pair')} with float values outside [0,1], clipped for the scores")
    if allow_missing and report.num_missing:
        console.warn(f"{counted(report.num_missing, 'picture')} without a partner left out")


def _name_missing(report: ScoreReport, reference: Path, restored: Path) -> None:
    remedy = "add it, or leave it out with --allow-missing"
    for name in report.only_reference:
        console.error(f"{reference / name}: has no partner in {restored}; {remedy}")
    for name in report.only_restored:
        console.error(f"{restored / name}: has no partner in {reference}; {remedy}")


@contextlib.contextmanager
def _progress(*, show: bool) -> Iterator[Callable[[int, int], None]]:
    """Give what to call with (done, all): a bar on a terminal, elsewhere a line every few seconds."""
    last_line = time.monotonic()
    hidden = not (show and console.is_terminal())
    with Progress(console=console.stderr_console(), disable=hidden, transient=True) as bar:
        task = bar.add_task("scoring")

        def on_pair(done: int, total: int) -> None:
            nonlocal last_line
            bar.update(task, completed=done, total=total)
            if show and hidden and time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
                last_line = time.monotonic()
                console.say(f"{done} of {total} pairs scored")

        yield on_pair
