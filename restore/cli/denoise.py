"""`restore denoise`."""

from __future__ import annotations

from typing import Annotated

import typer

from restore.cli import options
from restore.cli.run import Run, say_skipped
from restore.types import Precision, Task

Sigma = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=255.0,
        help="Strength of the noise, its standard deviation on 0–255; estimated by the network if absent.",
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
    format_: options.Format = None,
    quality: options.Quality = 95,
    skip_existing: options.SkipExisting = False,
    overwrite: options.Overwrite = False,
    strip_metadata: options.StripMetadata = False,
    max_pixels: options.MaxPixels = options.DEFAULT_MAX_PIXELS,
    allow_truncated: options.AllowTruncated = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Remove noise from photographs; originals are never replaced."""
    del debug  # read where errors are explained
    from restore import inference, pipeline, planning  # noqa: PLC0415  torch takes two seconds to import

    existing = options.what_becomes_of_existing(skip_existing=skip_existing, overwrite=overwrite)
    tile_size = options.tile_size(tile)
    on_skip = say_skipped if verbose else None
    plan = planning.make_plan(inputs, output, suffix=options.suffix_of(format_), existing=existing, on_skip=on_skip)
    run = Run(plan, json=json, quiet=quiet, verbose=verbose)
    if dry_run:
        run.conclude(pipeline.dry_run(plan), "would restore", {})
        return
    planning.prepare_output(plan.output)
    restorer = inference.load(model, task=Task.DENOISE, device=device, precision=precision, tile=tile_size)
    results = pipeline.restore_files(
        plan,
        restorer,
        sigma=None if sigma is None else sigma / 255,
        strength=strength,
        options=pipeline.FileOptions(
            quality=quality,
            max_pixels=max_pixels,
            allow_truncated=allow_truncated,
            strip_metadata=strip_metadata,
        ),
    )
    settings = {
        "sigma": sigma,
        "strength": strength,
        "precision": str(restorer.precision),
        "device": str(restorer.device),
    }
    assert restorer.info is not None
    weights = {"name": restorer.info.name, "sha256": restorer.info.sha256}
    run.conclude(results, "restored", {"command": "denoise", "model": weights, "settings": settings})
