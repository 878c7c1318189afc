"""`restore degrade`."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restore.cli import console, options
from restore.cli.run import Run, say_skipped
from restore.errors import ImageError, UsageError

if TYPE_CHECKING:
    from restore.images import Photo
    from restore.planning import Job, Plan

Input = Annotated[Path, typer.Argument(metavar="INPUT", help="A photograph, or a folder searched recursively.")]
Noise = Annotated[
    float | None, typer.Option(min=0.0, max=255.0, help="Gaussian noise, its standard deviation on 0–255.")
]
Poisson = Annotated[float | None, typer.Option(help="Shot noise: mean number of photons at white; fewer, noisier.")]
Jpeg = Annotated[
    int | None,
    typer.Option(min=1, max=100, help="JPEG compression of this quality, after the noise; JPEG outputs get it once."),
]
Seed = Annotated[int, typer.Option(help="The same seed and relative file name give the same noise.")]


def degrade(  # noqa: PLR0917  the order is that of the help page
    input_: Input,
    output: options.Output,
    noise: Noise = None,
    poisson: Poisson = None,
    jpeg: Jpeg = None,
    seed: Seed = 0,
    format_: options.Format = None,
    skip_existing: options.SkipExisting = False,
    overwrite: options.Overwrite = False,
    max_pixels: options.MaxPixels = options.DEFAULT_MAX_PIXELS,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Make test material: add shot noise, Gaussian noise and JPEG compression, in this order.

    TIFF outputs (--format tiff) are float32 and keep the noise as drawn, below
    black and above white too, as published comparisons demand.
    Other formats clip and round to their depth.
    """
    del debug  # read where errors are explained
    from restore import pipeline, planning  # noqa: PLC0415  torch takes two seconds to import

    if noise is None and poisson is None and jpeg is None:
        raise UsageError("nothing to do: choose --noise, --poisson or --jpeg")
    if poisson is not None and not (poisson > 0 and math.isfinite(poisson)):
        raise UsageError(f"--poisson {poisson}: choose a positive number of photons")
    existing = options.what_becomes_of_existing(skip_existing=skip_existing, overwrite=overwrite)
    on_skip = say_skipped if verbose else None
    plan = planning.make_plan([input_], output, suffix=options.suffix_of(format_), existing=existing, on_skip=on_skip)
    run = Run(plan, json=json, quiet=quiet, verbose=verbose)
    if dry_run:
        run.conclude(pipeline.dry_run(plan), "would degrade", {})
        return
    planning.prepare_output(plan.output)
    if not quiet and not (noise is None and poisson is None):
        _say_what_is_clipped(plan)

    def change(job: Job, photo: Photo) -> Photo:
        return degrade_photo(
            photo,
            job,
            root=input_,
            seed=seed,
            peak=poisson,
            sigma=0.0 if noise is None else noise / 255,
            quality=jpeg,
        )

    file_options = pipeline.FileOptions(quality=jpeg or 95, max_pixels=max_pixels)
    results = pipeline.process_files(plan, change, file_options)
    settings = {"noise": noise, "poisson": poisson, "jpeg": jpeg, "seed": seed}
    run.conclude(results, "degraded", {"command": "degrade", "settings": settings})


def degrade_photo(
    photo: Photo, job: Job, *, root: Path, seed: int, peak: float | None, sigma: float, quality: int | None
) -> Photo:
    """Degrade the pixels of a photograph and keep all else; the depth becomes what the output can hold.

    Args:
        photo: as read.
        job: where it comes from and goes to.
        root: the input of the run: names below it make the noise.
        seed: of the run.
        peak: photons at white, None for no shot noise.
        sigma: of the Gaussian noise, in [0,1].
        quality: of the JPEG compression, None for none; a JPEG output is left to its encoder.

    Raises:
        ImageError: the picture cannot be degraded so.
    """
    import torch  # noqa: PLC0415  takes two seconds

    from restore.degradations import degrade as degrade_image  # noqa: PLC0415  see above
    from restore.degradations import generator_for  # noqa: PLC0415  see above
    from restore.images import FORMATS, from_float, to_float  # noqa: PLC0415  see above

    kind = FORMATS.get(job.target.suffix.lower())
    name = job.source.relative_to(root) if root.is_dir() else Path(job.source.name)
    pixels = torch.from_numpy(to_float(photo.pixels))
    image = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    try:
        degraded = degrade_image(
            image,
            generator_for(seed, name),
            peak=peak,
            sigma=sigma,
            quality=None if kind == "jpeg" else quality,
        )
    except ValueError as error:
        raise ImageError(f"{job.source}: {error}; leave this picture out") from error
    array = (degraded[0] if pixels.ndim == 2 else degraded.permute(1, 2, 0)).contiguous().numpy()
    if kind == "tiff":
        alpha = None if photo.alpha is None else to_float(photo.alpha)
        return dataclasses.replace(photo, pixels=array, alpha=alpha)
    as_if_lossless = dataclasses.replace(photo, format=kind or photo.format, lossless=True)  # so that WebP adds no loss
    return dataclasses.replace(as_if_lossless, pixels=from_float(array, photo.pixels.dtype))


def _say_what_is_clipped(plan: Plan) -> None:
    """Say once that some outputs cannot hold the noise as drawn."""
    from restore.images import FORMATS  # noqa: PLC0415  imported with torch

    if any(FORMATS.get(job.target.suffix.lower()) != "tiff" for job in plan):
        console.say("note: outputs other than TIFF clip and round the noise; --format tiff keeps it as drawn")
