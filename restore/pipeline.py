"""A folder of photographs goes in, a better one comes out: plan, then decode, restore and encode side by side."""

from __future__ import annotations

import dataclasses
import errno
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from restore.degradations import Chain, Jpeg, generator_for, mean_light
from restore.distributed import own_device
from restore.done import NO_RECORDS, DoneRecords, Kept
from restore.errors import ImageError, OutputError, UsageError
from restore.images import FORMATS, MAX_PIXELS, Photo, from_float, read_photo, to_float, write_photo
from restore.images.opencv import cv2
from restore.images.photo import count_outside
from restore.images.writing import assert_holds
from restore.inference import Restorer, find_device, load
from restore.memory import is_out_of_memory
from restore.planning import Job, Plan, make_plan, output_ready, prepare_folder
from restore.sharding import Shard
from restore.types import Existing, FileStatus, as_word

# these would meet every other file too
FATAL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOENT}

BAND_ROWS = 1024
ROWS_AROUND_BAND = 256  # as far as a network of any size sees clearly

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Arguments = ParamSpec("Arguments")
Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Args:
        source: the input.
        target: the output.
        status: done, skipped, failed or planned.
        message: why it failed or was skipped.
        warnings: what a person should know of a file that is done.
        width: in pixels, 0 where unknown.
        height: in pixels, 0 where unknown.
        seconds: spent on the change of its pixels.
    """

    source: Path
    target: Path
    status: FileStatus
    message: str | None = None
    warnings: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class FileOptions:
    """How files are read and written.

    Args:
        quality: 1 to 100, of JPEG and WebP.
        max_pixels: larger pictures are refused before they are decoded.
        allow_truncated: accept what is there of a truncated picture, with a warning.
        strip_metadata: leave EXIF out, GPS with it; the colour profile stays.

    Raises:
        UsageError: there is no such quality.
    """

    quality: int = 95
    max_pixels: int = MAX_PIXELS
    allow_truncated: bool = False
    strip_metadata: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise UsageError(f"the quality must lie between 1 and 100, got {self.quality}")


def restore_folder(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    model: str | Path | Restorer = "denoise",
    sigma: float | None = None,
    strength: float = 1.0,
    existing: Existing | str = Existing.REFUSE,
    shard: str | None = None,
    options: FileOptions | None = None,
) -> list[FileResult]:
    """Restore files and folders of photographs; one that fails does not stop the others.

    Args:
        inputs: a file or folder, or several; folders are searched recursively and mirrored in the output.
        output: a folder; with a single input file also the name of the file to write.
        model: a Restorer, or what `restore.load` takes; with the shard `auto` each process of torchrun then computes on
            a GPU of its own.
        sigma: standard deviation of the noise in [0,1]; None to let the network find out.
        strength: 0 to 1, blend of the input (0) and the restored picture (1).
        existing: `refuse` to start where an output exists; `skip` files that are done, and make anew what was made of
            another input or in another way; or `overwrite` all.
        shard: `I/N` to do only part I, from 0, of N; `auto` for the part that torchrun or srun gives this process.
        options: how files are read and written.

    Returns:
        A result for each file, or for each of the part, in a fixed order.

    Raises:
        UsageError: paths that make no sense together, outputs that exist, a model that cannot be told sigma, or no
            such word for existing or shard.
        NothingToDoError: no pictures.
        OutputError: the output cannot be written, or the disk is full.
        WeightsError: the model cannot be loaded.
        DeviceError: not enough memory for a single tile of the smallest size, or fewer GPUs than processes of torchrun.
        ValueError: sigma or strength lie outside [0,1].
    """
    paths = [inputs] if isinstance(inputs, str | Path) else inputs
    plan = make_plan(
        [Path(path) for path in paths],
        Path(output),
        existing=as_word(Existing, existing, "existing"),
        shard=Shard.parse(shard),
    )
    with output_ready(plan.output):
        if not isinstance(model, Restorer):
            model = load(model, device=device_of("auto", shard))
        model.check(sigma, strength)
    return list(restore_files(plan, model, sigma=sigma, strength=strength, options=options))


def device_of(name: str, shard: str | None) -> str:
    """Return the device to compute a shard on: each process of torchrun has a GPU of its own where it asks what to do.

    Args:
        name: as for `restore.load`.
        shard: as for `restore_folder`.

    Raises:
        UsageError: there is no device of that name, or LOCAL_RANK is no number.
        DeviceError: no such device on this machine, or fewer GPUs than processes of torchrun.
    """
    device = find_device(name)
    return str(own_device(device) if shard == "auto" else device)


def restore_files(
    plan: Plan,
    restorer: Restorer,
    *,
    sigma: float | None = None,
    strength: float = 1.0,
    options: FileOptions | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Iterator[FileResult]:
    """Restore the files of a plan one after the other; arguments, results and errors as `restore_folder`.

    `on_progress` is told after each tile how many files are done, the one at work counting by its share.
    """
    restorer.check(sigma, strength)
    options = options or FileOptions()

    def change(job: Job, photo: Photo) -> Photo:
        def tell(share: float) -> None:
            if on_progress is not None:
                on_progress(job.number + share)

        return restore_photo(photo, restorer, sigma=sigma, strength=strength, on_progress=tell)

    records = records_of_restoring(plan, restorer, sigma=sigma, strength=strength, options=options)
    return process_files(plan, change, options, records)


def records_of_restoring(
    plan: Plan, restorer: Restorer, *, sigma: float | None, strength: float, options: FileOptions
) -> DoneRecords:
    """Return what tells whether outputs were made of the same inputs by the same weights and options."""
    if restorer.info is None:  # without a checksum networks are all alike
        return NO_RECORDS
    made_by = {
        "command": restorer.info.task and str(restorer.info.task),
        "model": restorer.info.sha256,
        "ensemble": restorer.ensemble,
        "tlc_px": restorer.tlc_px,
        "sigma": sigma,
        "strength": strength,
        "quality": options.quality,
        "strip_metadata": options.strip_metadata,
    }
    return DoneRecords(plan.output_folder, made_by)


def dry_run(plan: Plan, records: DoneRecords = NO_RECORDS) -> Iterator[FileResult]:
    """Yield what a run would do with each file, and do nothing."""
    for job in plan:
        yield _kept(job, plan, records) or FileResult(job.source, job.target, FileStatus.PLANNED)


def process_files(
    plan: Plan, change: Callable[[Job, Photo], Photo], options: FileOptions, records: DoneRecords = NO_RECORDS
) -> Iterator[FileResult]:
    """Read, change and write the files of a plan; the next is decoded and the last encoded beside the change.

    Args:
        plan: what to do.
        change: takes a job and the photograph read, returns the one to write.
        options: how files are read and written.
        records: of what is done already, to go by and to add to.

    Yields:
        A result for each job, in the order of the plan.

    Raises:
        OutputError: the disk is full or cannot be written any more; earlier files are complete.
    """
    reader = ThreadPoolExecutor(1, thread_name_prefix="read")
    writer = ThreadPoolExecutor(1, thread_name_prefix="write")
    outputs = _Outputs(plan, options, records)

    def read(job: Job) -> Photo | FileResult:
        if (kept := _kept(job, plan, records)) is not None:
            return kept
        records.begin(job)
        return _attempt(
            job, read_photo, job.source, max_pixels=options.max_pixels, allow_truncated=options.allow_truncated
        )

    def work(job: Job, reading: Future[Photo | FileResult]) -> Future[FileResult]:
        photo = reading.result()
        if isinstance(photo, FileResult):
            return _known(photo)
        started = time.perf_counter()
        changed = _attempt(job, change_if_it_fits, job, photo)
        if isinstance(changed, FileResult):
            return _known(changed)
        return writer.submit(write, job, changed, time.perf_counter() - started)

    def change_if_it_fits(job: Job, photo: Photo) -> Photo:
        assert_holds(job.target, *photo.pixels.shape[:2])
        return change(job, photo)

    def write(job: Job, photo: Photo, seconds: float) -> FileResult:
        notes = _attempt(job, outputs.write, job, photo)
        if isinstance(notes, FileResult):
            return notes
        height, width = photo.pixels.shape[:2]
        return FileResult(job.source, job.target, FileStatus.DONE, None, photo.warnings + notes, width, height, seconds)

    try:
        reading = _ahead((job, reader.submit(read, job)) for job in plan)
        for writing in _ahead(work(job, photo) for job, photo in reading):
            yield writing.result()
    finally:
        reader.shutdown(cancel_futures=True)
        writer.shutdown(cancel_futures=True)


def restore_photo(
    photo: Photo,
    restorer: Restorer,
    *,
    sigma: float | None = None,
    strength: float = 1.0,
    on_progress: Callable[[float], None] | None = None,
) -> Photo:
    """Restore the pixels of a photograph and keep all else; arguments as `Restorer.restore`.

    Floats are not clipped. Where alpha is 0 the network sees the nearest visible colour, so that hidden pixels leave
    no halo, and the hidden ones come back as they were.
    """
    pixels, hidden = _with_hidden_filled(photo)
    restored, notes = restorer.restore(pixels, sigma=sigma, strength=strength, clip=False, on_progress=on_progress)
    if hidden is not None:
        restored[hidden] = photo.pixels[hidden]
    return dataclasses.replace(photo, pixels=restored, warnings=photo.warnings + notes + _doubts(photo.pixels))


def degrade_photo(
    photo: Photo,
    job: Job,
    chain: Chain,
    *,
    root: Path,
    seed: int,
    frames: Sequence[Path] = (),
    max_pixels: int = MAX_PIXELS,
    reference: bool = False,
) -> Photo:
    """Degrade the pixels of a photograph and keep all else; the depth becomes what the output can hold.

    Pixels where alpha is 0 stay as they are, and visible ones see the nearest visible colour in their place.

    Args:
        photo: as read.
        job: where it comes from and goes to.
        chain: what to do to it; JPEG compression is left to the encoder of a JPEG output.
        root: the input of the run: names below it make the noise.
        seed: of the run.
        frames: files of which the mean in linear light is degraded in place of the photograph, which is one of them.
        max_pixels: larger frames are refused.
        reference: give what the degraded picture is to be compared with, in its place; see `Degraded`.

    Raises:
        ImageError: the picture cannot be degraded so, or a frame cannot be read.
    """
    kind = FORMATS.get(job.target.suffix.lower())
    if kind == "jpeg":
        steps = tuple(step for step in chain.steps if not isinstance(step, Jpeg))
        chain = chain.model_copy(update={"steps": steps})
    name = job.source.relative_to(root) if root.is_dir() else Path(job.source.name)
    filled, hidden = _with_hidden_filled(photo)
    sharp = _as_image(to_float(filled))
    image = _mean_of_frames(photo, job, frames, max_pixels) if frames else sharp
    generator = generator_for(seed, name)
    try:
        if reference:
            made = chain.degrade_pair(image, generator, sharp if frames else None).reference
        else:
            made = chain.degrade(image, generator)
    except ValueError as error:
        raise ImageError(f"{job.source}: {error}; leave this picture out") from error
    array = (made[0] if photo.pixels.ndim == 2 else made.permute(1, 2, 0)).contiguous().numpy()
    if hidden is not None:
        array[hidden] = to_float(photo.pixels[hidden])
    photo = dataclasses.replace(photo, warnings=photo.warnings + _on_scale(photo.pixels) + _clipped(photo, chain))
    if kind == "tiff":
        alpha = None if photo.alpha is None else to_float(photo.alpha)
        return dataclasses.replace(photo, pixels=array, alpha=alpha)
    as_if_lossless = dataclasses.replace(photo, format=kind or photo.format, lossless=True)  # so that WebP adds no loss
    return dataclasses.replace(as_if_lossless, pixels=from_float(array, photo.pixels.dtype))


def _as_image(pixels: Pixels) -> Tensor:
    """Return (C,H,W) of (H,W) or (H,W,3) float32."""
    image = torch.from_numpy(pixels)
    return image[None] if image.ndim == 2 else image.permute(2, 0, 1)


def _mean_of_frames(photo: Photo, job: Job, frames: Sequence[Path], max_pixels: int) -> Tensor:
    def read(path: Path) -> Tensor:
        pixels = photo.pixels if path == job.source else read_photo(path, max_pixels=max_pixels).pixels
        if pixels.shape != photo.pixels.shape:
            (height, width), (other_height, other_width) = photo.pixels.shape[:2], pixels.shape[:2]
            difference = f"{path} has {other_width}×{other_height} pixels and {job.source.name} {width}×{height}"
            if (height, width) == (other_height, other_width):
                difference = f"one of it and {path} is grey and the other is not"
            raise ImageError(f"{job.source}: {difference}; frames of one video are all alike")
        return _as_image(to_float(pixels))

    return mean_light(read(path) for path in frames)


def _kept(job: Job, plan: Plan, records: DoneRecords) -> FileResult | None:
    """Return the result of a job whose output exists and is kept."""
    why = records.why_kept(job) if plan.skips(job) else None
    if why is None:
        return None
    warnings = (why.value,) if why in {Kept.STALE, Kept.OTHER} else ()
    return FileResult(job.source, job.target, FileStatus.SKIPPED, why.value, warnings)


def _attempt(
    job: Job, action: Callable[Arguments, Outcome], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Outcome | FileResult:
    """Turn an error that concerns one file into its result; those that would meet every other file pass through."""
    try:
        return action(*args, **kwargs)
    except (MemoryError, RuntimeError, cv2.error) as error:
        if not is_out_of_memory(error):
            raise
        message = f"{job.source}: not enough memory for this picture; free some or split it"
    except ImageError as error:
        message = str(error) if str(error).startswith(f"{job.source}:") else f"{job.source}: {error}"
    except OutputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in FATAL_ERRNOS:
            raise
        message = str(error)
    return FileResult(job.source, job.target, FileStatus.FAILED, message)


class _Outputs:
    """Writes the outputs of a run."""

    def __init__(self, plan: Plan, options: FileOptions, records: DoneRecords) -> None:
        self.plan = plan
        self.options = options
        self.records = records
        self.prepared: set[Path] = set()
        self.written: dict[int, int] = {}
        self.is_told_of_records = False

    def write(self, job: Job, photo: Photo) -> tuple[str, ...] | FileResult:
        """Record and write an output and return what to warn of, or the result where another is kept."""
        target = job.target
        if target.parent not in self.prepared:
            prepare_folder(target.parent)
            self.prepared.add(target.parent)
        name = hash(unicodedata.normalize("NFC", str(target)).casefold())  # numbers: names of a million files are many
        if name in self.written and self.written[name] == _inode(target):
            reason = "on this disk it is the output of another picture, whose name differs in case or accents alone"
            raise OutputError(f"{target}: {reason}; restore them to different folders")
        if (kept := _kept(job, self.plan, self.records)) is not None:  # somebody made or changed it meanwhile
            return kept
        if self.plan.refuses(job):
            remedy = "let --skip-existing or --overwrite decide, or choose another folder"
            raise OutputError(f"{target}: somebody else made it since the run began, and it is kept; {remedy}")
        doubts: list[str] = []

        def record(content: bytes | memoryview) -> None:
            try:
                self.records.add(job, content)
            except OSError as error:  # the picture itself can be there
                if self.is_told_of_records:
                    return
                self.is_told_of_records = True
                remedy = "mend that, or --skip-existing will not know how the output was made"
                doubts.append(f"{self.records.path}: {error.strerror or error}; {remedy}")

        quality, strip = self.options.quality, self.options.strip_metadata
        notes = write_photo(target, photo, quality=quality, strip_metadata=strip, on_encoded=record)
        if (inode := _inode(target)) is not None:
            self.written[name] = inode
        return (*notes, *doubts)


def _inode(path: Path) -> int | None:
    """Return the number of a file on its disk; None where it is gone or may not be looked at."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items with the next one already started."""
    previous: deque[Item] = deque()
    try:
        for item in items:
            if previous:
                yield previous.popleft()
            previous.append(item)
    finally:  # also where the next one cannot be started, or is stopped: what is under way is told
        yield from previous


def _known(result: FileResult) -> Future[FileResult]:
    future: Future[FileResult] = Future()
    future.set_result(result)
    return future


def _with_hidden_filled(photo: Photo) -> tuple[Pixels, Mask | None]:
    """Return the pixels with the nearest visible colour where alpha is 0, and where that is, if anywhere.

    Band by band, since the search takes 20 bytes a pixel; rows around a band are searched with it.
    """
    if photo.alpha is None or photo.alpha.all():
        return photo.pixels, None
    hidden = photo.alpha == 0
    filled = []
    for top in range(0, len(hidden), BAND_ROWS):
        first = max(0, top - ROWS_AROUND_BAND)
        rows = slice(first, top + BAND_ROWS + ROWS_AROUND_BAND)
        filled.append(_fill_band(photo.pixels[rows], hidden[rows])[top - first :][:BAND_ROWS])
    return np.concatenate(filled), hidden


def _fill_band(pixels: Pixels, hidden: Mask) -> Pixels:
    if hidden.all() or not hidden.any():
        return pixels
    _, labels = cv2.distanceTransformWithLabels(hidden.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    nearest = np.zeros(int(labels.max()) + 1, dtype=np.int64)
    nearest[labels[~hidden]] = np.flatnonzero(~hidden)
    filled: Pixels = pixels.copy()
    colours = pixels.reshape(hidden.size, *pixels.shape[2:])
    filled[hidden] = colours[nearest[labels[hidden]]]
    return filled


def _doubts(pixels: Pixels) -> tuple[str, ...]:
    """Return what to say of values that no photograph should hold."""
    if pixels.dtype != np.float32:
        return ()
    num = int(np.count_nonzero(~np.isfinite(pixels)))
    return (*([f"{num} values are NaN or infinite; they were left as they are"] if num else []), *_on_scale(pixels))


def _clipped(photo: Photo, chain: Chain) -> tuple[str, ...]:
    """Return a warning where a step clips values that an integer could not have held."""
    num = count_outside(photo.pixels) if any(step.clips for step in chain.steps) else 0
    return (f"{num} values below 0 or above 1 were clipped, as camera, motion and compression do",) if num else ()


def _on_scale(pixels: Pixels) -> tuple[str, ...]:
    """Return a warning where floats are on another scale than that of 1 for white."""
    if pixels.dtype != np.float32 or np.count_nonzero(pixels > 1) <= pixels.size // 2:
        return ()
    return ("most of its values lie above 1, which is white; divide them by what is white in it, such as 255 or 65535",)
