"""`restore degrade`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore.cli import console, options
from restore.cli import degrade_options as given
from restore.cli.run import Run, say_skipped
from restore.sharding import Shard

if TYPE_CHECKING:
    from restore.images import Photo
    from restore.planning import Job, Plan

QUALITY = 95  # of JPEG outputs that nobody asked to compress


def degrade(  # noqa: PLR0917  the order is that of the help page
    input_: given.Input,
    output: options.Output,
    blur: given.Blur = None,
    blur_size: given.BlurSize = None,
    blades: given.Blades = None,
    num_frames: given.NumFrames = None,
    frame_step: given.FrameStep = None,
    frame_skip: given.FrameSkip = None,
    camera_noise: given.CameraNoise = None,
    noise: given.Noise = None,
    poisson: given.Poisson = None,
    jpeg: given.Jpeg = None,
    webp: given.Webp = None,
    reference: given.Reference = False,
    seed: given.Seed = 0,
    format_: options.Format = None,
    skip_existing: options.SkipExisting = False,
    overwrite: options.Overwrite = False,
    max_pixels: options.MaxPixels = options.DEFAULT_MAX_PIXELS,
    shard: options.ShardOption = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Make test material: add blur, noise and compression, in the order of a camera.

    Blur comes first, then camera noise, shot noise and Gaussian noise, then
    JPEG or WebP. TIFF outputs are always float32, even from 8 and 16 bits:
    they keep shot and Gaussian noise as drawn, below black and above white,
    as published comparisons demand, unless JPEG or WebP follow. Other formats
    clip and round to their depth. With --blur frames the input is a folder of
    consecutive video frames, sorted by the numbers in their names, and every
    N of them become one. The same command with --reference writes what to
    score its pictures against: camera noise comes with the camera's mosaic
    and tones.
    """
    del debug  # read where errors are explained
    from restore import pipeline, planning  # noqa: PLC0415  torch takes two seconds to import
    from restore.done import DoneRecords  # noqa: PLC0415  see above

    settings: dict[str, Any] = {"blur": blur and str(blur), "blur_size": blur_size, "blades": blades}
    settings |= {"num_frames": num_frames, "frame_step": frame_step, "frame_skip": frame_skip}
    settings |= {"camera_noise": camera_noise, "noise": noise, "poisson": poisson, "jpeg": jpeg, "webp": webp}
    settings |= {"reference": reference, "seed": seed}
    chain = given.chain_of(settings)
    existing = options.what_becomes_of_existing(skip_existing=skip_existing, overwrite=overwrite)
    on_skip = say_skipped if verbose else None
    frames = given.frames_of(input_, output, settings, on_skip)
    plan = planning.make_plan(
        list(frames) or [input_],
        output,
        suffix=options.suffix_of(format_),
        existing=existing,
        shard=Shard.parse(shard),
        on_skip=on_skip,
    )
    run = Run(plan, json=json, quiet=quiet, verbose=verbose)
    document = {"command": "degrade", "settings": settings}
    file_options = pipeline.FileOptions(quality=QUALITY if reference or not jpeg else jpeg, max_pixels=max_pixels)
    made_by = {"command": "degrade --reference" if reference else "degrade", "settings": settings}
    records = DoneRecords(plan.output_folder, made_by, frames)
    if dry_run:
        planning.check_output(plan.output)
        run.conclude(pipeline.dry_run(plan, records), "would degrade", document)
        return
    planning.prepare_output(plan.output)
    if not quiet:
        is_noisy = not reference and (noise, poisson) != (None, None) and jpeg is webp is None
        _say_what_becomes_of_depths(plan, is_noisy=is_noisy, is_compressed=jpeg is not None and not reference)
        if camera_noise is not None and not reference:
            console.say("note: score against what --reference writes; mosaic and tones are no noise")

    def change(job: Job, photo: Photo) -> Photo:
        return pipeline.degrade_photo(
            photo,
            job,
            chain,
            root=input_,
            seed=seed,
            frames=frames.get(job.source, ()),
            max_pixels=max_pixels,
            reference=reference,
        )

    results = pipeline.process_files(plan, change, file_options, records)
    run.conclude(results, "degraded", document)


def _say_what_becomes_of_depths(plan: Plan, *, is_noisy: bool, is_compressed: bool) -> None:
    """Say once that TIFF changes its depth, and that other outputs cannot hold noise as drawn or anything exactly."""
    from restore.images import FORMATS  # noqa: PLC0415  imported with torch

    def is_of(kind: str, path: Path) -> bool:
        return FORMATS.get(path.suffix.lower()) == kind

    if any(is_of("tiff", job.source) and is_of("tiff", job.target) for job in plan):
        console.say(
            "note: TIFF outputs are float32, whatever the depth of the inputs; --format png keeps 8 and 16 bits"
        )
    if not is_compressed and any(is_of("jpeg", job.target) for job in plan):
        console.say(f"note: JPEG outputs are compressed too, at quality {QUALITY}; --format png is exact")
    if is_noisy and not all(is_of("tiff", job.target) for job in plan):
        console.say("note: outputs other than TIFF clip and round the noise; --format tiff keeps it as drawn")
