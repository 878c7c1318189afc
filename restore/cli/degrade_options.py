"""The options of `restore degrade`, and how their values are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.errors import NothingToDoError, UsageError
from restore.types import Word

if TYPE_CHECKING:
    from restore.degradations import Chain
    from restore.planning import SkipHandler


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


def chain_of(settings: Mapping[str, Any]) -> Chain:
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


def frames_of(
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
