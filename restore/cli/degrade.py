"""`restore degrade`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import console, options
from restore.cli.run import Run, say_skipped
from restore.errors import NothingToDoError, UsageError
from restore.types import Word

if TYPE_CHECKING:
    from restore.degradations import Chain
    from restore.images import Photo
    from restore.planning import Job, Plan, SkipHandler

QUALITY = 95  # of JPEG outputs that nobody asked to compress


class BlurKind(Word):
    """What blurs."""

    GAUSSIAN = "gaussian"
    DEFOCUS = "defocus"
    MOTION = "motion"
    FRAMES = "frames"


Input = Annotated[
    Path, typer.Argument(metavar="INPUT", readable=False, help="A photograph, or a folder searched recursively.")
]
Blur = Annotated[
    BlurKind | None,
    typer.Option(help="Blur before the noise. In linear light: a lens, a shaking camera, or the mean of video frames."),
]
BlurSize = Annotated[
    float | None,
    typer.Option(
        metavar="PX", min=0.0, max=500.0, help="In pixels: σ of gaussian, radius of defocus, length of motion."
    ),
]
Blades = Annotated[
    int | None,
    typer.Option(metavar="N", min=3, max=20, help="For --blur defocus: sides of the aperture; by default it is round."),
]
NumFrames = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=2, max=1000, help="For --blur frames: how many become one, named after the middle one."
    ),
]
FrameStep = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="For --blur frames: from one mean to the next; by default all that a mean spans."
    ),
]
FrameSkip = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="For --blur frames: from one frame of a mean to the next; by default 1, consecutive ones.",
    ),
]
CameraNoise = Annotated[
    float | None,
    typer.Option(
        metavar="ISO",
        min=25,
        max=102400,
        help="Noise of a phone camera at this ISO, with that camera's mosaic and tones.",
    ),
]
Noise = Annotated[float | None, typer.Option(min=0.0, max=255.0, help="Gaussian noise: standard deviation on 0–255.")]
Poisson = Annotated[
    float | None, typer.Option(help="Shot noise: mean number of photons at white; the fewer, the noisier.")
]
Jpeg = Annotated[
    int | None,
    typer.Option(
        min=1, max=100, help="JPEG compression at this quality, after the noise; JPEG outputs are compressed only once."
    ),
]
Webp = Annotated[int | None, typer.Option(min=1, max=100, help="WebP compression at this quality, in place of JPEG.")]
Reference = Annotated[
    bool,
    typer.Option(
        "--reference",
        help="Write what to score the degraded pictures against instead: sharp and clean, developed in the same way.",
    ),
]
Seed = Annotated[int, typer.Option(help="The same seed and relative file name give the same blur and noise.")]


def degrade(  # noqa: PLR0917  the order is that of the help page
    input_: Input,
    output: options.Output,
    blur: Blur = None,
    blur_size: BlurSize = None,
    blades: Blades = None,
    num_frames: NumFrames = None,
    frame_step: FrameStep = None,
    frame_skip: FrameSkip = None,
    camera_noise: CameraNoise = None,
    noise: Noise = None,
    poisson: Poisson = None,
    jpeg: Jpeg = None,
    webp: Webp = None,
    reference: Reference = False,
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
    chain = _chain(settings)
    existing = options.what_becomes_of_existing(skip_existing=skip_existing, overwrite=overwrite)
    on_skip = say_skipped if verbose else None
    frames = _frames(input_, output, settings, on_skip)
    plan = planning.make_plan(
        list(frames) or [input_], output, suffix=options.suffix_of(format_), existing=existing, on_skip=on_skip
    )
    run = Run(plan, json=json, quiet=quiet, verbose=verbose)
    document = {"command": "degrade", "settings": settings}
    file_options = pipeline.FileOptions(quality=QUALITY if reference or not jpeg else jpeg, max_pixels=max_pixels)
    records = DoneRecords(plan.output_folder, settings, frames)
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
        mean_of = frames.get(job.source, ())
        return pipeline.degrade_photo(
            photo,
            job,
            chain,
            root=input_,
            seed=seed,
            frames=mean_of,
            max_pixels=max_pixels,
            reference=reference,
        )

    results = pipeline.process_files(plan, change, file_options, records)
    run.conclude(results, "degraded", document)


def _chain(settings: Mapping[str, Any]) -> Chain:
    """Return the steps that are wanted, in the order of a camera.

    Raises:
        UsageError: there are none, or options contradict each other.
    """
    from restore.degradations import MAX_PHOTONS, MIN_PHOTONS, SHOT_PER_ISO, Chain  # noqa: PLC0415  torch takes two seconds to import

    blur, size, iso, poisson = (settings[name] for name in ("blur", "blur_size", "camera_noise", "poisson"))
    if poisson is not None and not MIN_PHOTONS <= poisson <= MAX_PHOTONS:
        raise UsageError(f"--poisson {poisson}: choose a number of photons from {MIN_PHOTONS:g} to {MAX_PHOTONS:g}")
    if (blur in {None, BlurKind.FRAMES}) != (size is None):
        raise UsageError("--blur and --blur-size belong together, but for --blur frames, which has --num-frames")
    if settings["blades"] is not None and blur != BlurKind.DEFOCUS:
        raise UsageError("--blades goes with --blur defocus")
    if (blur == BlurKind.FRAMES) != (settings["num_frames"] is not None):
        raise UsageError("--blur frames and --num-frames belong together: give both")
    for name, option in (("frame_step", "--frame-step"), ("frame_skip", "--frame-skip")):
        if settings[name] is not None and blur != BlurKind.FRAMES:
            raise UsageError(f"{option} goes with --blur frames")
    if settings["jpeg"] is not None and settings["webp"] is not None:
        raise UsageError("--jpeg and --webp: choose one compression")
    wanted = [
        (f"{blur}-blur", {BlurKind.DEFOCUS: "radius", BlurKind.MOTION: "length"}.get(blur, "sigma"), size),
        ("camera-noise", "shot", None if iso is None else iso * SHOT_PER_ISO),
        ("poisson-noise", "peak", poisson),
        ("gaussian-noise", "sigma", settings["noise"]),
        ("jpeg", "quality", settings["jpeg"]),
        ("webp", "quality", settings["webp"]),
    ]
    steps: list[dict[str, Any]] = [
        {"kind": kind, name: (value, value)} for kind, name, value in wanted if value is not None
    ]
    if settings["blades"] is not None:
        steps[0]["blades"] = settings["blades"]  # the blur comes first
    if not steps and blur != BlurKind.FRAMES:
        raise UsageError("nothing to do: choose --blur, --camera-noise, --noise, --poisson, --jpeg or --webp")
    return Chain.model_validate({"steps": steps})


def _frames(
    folder: Path, output: Path, settings: Mapping[str, Any], on_skip: SkipHandler | None
) -> dict[Path, list[Path]]:
    """Return the frames that become one, by the middle one; none where frames are no blur.

    Raises:
        UsageError: the input is no folder, or the output the same.
        NothingToDoError: too few frames lie in it; folders below are not searched.
    """
    if settings["blur"] != BlurKind.FRAMES:
        return {}
    from restore.data import frames_spanned, natural_order, windows  # noqa: PLC0415  torch takes two seconds to import
    from restore.images import find_images  # noqa: PLC0415  imported with torch
    from restore.planning import NOT_WORTH_TELLING  # noqa: PLC0415  see above

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; --blur frames takes a folder of consecutive frames")
    if output.exists() and output.samefile(folder):
        raise UsageError(f"{folder}: input and output are the same; choose another output, frames are never replaced")
    num, skip = settings["num_frames"], settings["frame_skip"] or 1
    needed = frames_spanned(num, skip)
    others: list[str] = []

    def pass_over(path: Path, reason: str) -> None:
        if reason not in NOT_WORTH_TELLING:
            others.append(f"{path.name}: {reason}")
        if on_skip is not None:
            on_skip(path, reason)

    found = [path for path in find_images(folder, exclude=output, on_skip=pass_over) if path.parent == folder]
    found.sort(key=lambda path: natural_order(path.name))
    if len(found) < needed:
        example = f" ({len(others)} passed over, such as {others[0]})" if others else ""
        raise NothingToDoError(
            f"{folder}: frames found: {len(found)}, and a mean takes {needed}{example}; name a folder with more"
        )
    if output.is_file() and any(output.samefile(path) for path in found):
        raise UsageError(f"{output}: is one of the frames; choose another output, frames are never replaced")
    return dict(windows(found, num, settings["frame_step"] or needed, skip))


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
