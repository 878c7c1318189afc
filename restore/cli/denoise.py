"""`restore denoise`."""

from __future__ import annotations

from typing import Annotated

import typer

from restore.cli import options
from restore.cli.restoring import Request, restore_as_asked
from restore.types import Precision, Task

Sigma = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=255.0,
        help="Noise level: standard deviation on 0–255; by default estimated by the network.",
    ),
]


def denoise(  # noqa: PLR0917  the order is that of the help page
    inputs: options.Inputs,
    output: options.Output,
    model: options.Model = "denoise",
    sigma: Sigma = None,
    strength: options.Strength = 1.0,
    device: options.Device = "auto",
    precision: options.PrecisionOption = Precision.AUTO,
    tile: options.Tile = "auto",
    ensemble: options.Ensemble = None,
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
    """Remove noise from photographs; originals are never replaced."""
    restore_as_asked(Request.of(locals()), Task.DENOISE, sigma=sigma)
