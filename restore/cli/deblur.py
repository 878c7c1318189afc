"""`restore deblur`."""

from __future__ import annotations

from typing import Annotated

import typer

from restore.cli import options
from restore.cli.restoring import Request, restore_as_asked
from restore.types import LocalStatistics, Precision, Task

Tlc = Annotated[
    LocalStatistics,
    typer.Option(
        help="Average attention locally in networks trained on whole patches; auto: as the weights say, on for "
        "NAFNet's GoPro files."
    ),
]


def deblur(  # noqa: PLR0917  the order is that of the help page
    inputs: options.Inputs,
    output: options.Output,
    model: options.Model = "deblur",
    strength: options.Strength = 1.0,
    device: options.Device = "auto",
    precision: options.PrecisionOption = Precision.AUTO,
    tile: options.Tile = "auto",
    ensemble: options.Ensemble = None,
    tlc: Tlc = LocalStatistics.AUTO,
    format_: options.Format = None,
    quality: options.Quality = 95,
    skip_existing: options.SkipExisting = False,
    overwrite: options.Overwrite = False,
    strip_metadata: options.StripMetadata = False,
    max_pixels: options.MaxPixels = options.DEFAULT_MAX_PIXELS,
    allow_truncated: options.AllowTruncated = False,
    shard: options.ShardOption = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Sharpen photographs blurred by motion or a lens out of focus; originals are never replaced."""
    restore_as_asked(Request.of(locals()), Task.DEBLUR, tlc=tlc)
