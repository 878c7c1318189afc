"""A folder of photographs goes in, a better one comes out: plan, then decode, restore and encode side by side."""

from __future__ import annotations

import dataclasses
import errno
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from restore.atomic import sweep_partials
from restore.errors import ImageError, NothingToDoError, OutputError, UsageError
from restore.images import FORMATS, MAX_PIXELS, Photo, find_images, read_photo, write_photo
from restore.images.opencv import cv2
from restore.inference import Restorer, load
from restore.types import Existing, FileStatus

FATAL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}  # these would meet every other file too

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Arguments = ParamSpec("Arguments")
Pixels = npt.NDArray[np.generic]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Plan:
    """What a run will do; iterating finds the jobs anew, so that a million of them need no memory.

    Args:
        inputs: files and folders.
        output: folder, or the file where a single file goes to a named file.
        suffix: of the outputs, None to keep each input's.
        existing: what becomes of jobs whose output exists.
        num_jobs: how many there are.
        num_skipped_files: files that are no pictures, and links and devices that are not followed.
        num_existing: jobs whose output exists.
    """

    inputs: tuple[Path, ...]
    output: Path
    suffix: str | None
    existing: Existing
    num_jobs: int = 0
    num_skipped_files: int = 0
    num_existing: int = 0

    def __iter__(self) -> Iterator[Job]:
        """Yield the jobs in a fixed order."""
        yield from self.jobs()

    def jobs(self, on_skip: Callable[[Path, str], None] | None = None) -> Iterator[Job]:
        """Yield the jobs; on_skip hears of every file passed over, and why."""
        for root in self.inputs:
            if not root.is_dir():
                yield Job(root, self._target_of_file(root))
                continue
            top = self.output if len(self.inputs) == 1 else self.output / root.resolve().name
            for source in find_images(root, exclude=self.output, on_skip=on_skip):
                yield Job(source, self._with_suffix(top / source.relative_to(root)))

    def _target_of_file(self, source: Path) -> Path:
        if names_a_file(self.output) and len(self.inputs) == 1:
            return self.output
        return self._with_suffix(self.output / source.name)

    def _with_suffix(self, target: Path) -> Path:
        return target if self.suffix is None else target.with_suffix(self.suffix)


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
        seconds: spent in the network.
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
    """

    quality: int = 95
    max_pixels: int = MAX_PIXELS
    allow_truncated: bool = False
    strip_metadata: bool = False


def restore_folder(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    model: str | Path | Restorer = "denoise-fast",
    sigma: float | None = None,
    strength: float = 1.0,
    existing: Existing | str = Existing.REFUSE,
    options: FileOptions | None = None,
) -> list[FileResult]:
    """Restore files and folders of photographs; one that fails does not stop the others.

    Args:
        inputs: a file or folder, or several; folders are searched recursively and mirrored in the output.
        output: a folder; with a single input file also the name of the file to write.
        model: a Restorer, or what `restore.load` takes.
        sigma: standard deviation of the noise in [0,1]; None to let the network find out.
        strength: 0 to 1, blend of the input (0) and the restored picture (1).
        existing: `refuse` to start where an output exists, `skip` those files, or `overwrite` them.
        options: how files are read and written.

    Returns:
        A result for each file, in a fixed order.

    Raises:
        UsageError: paths that make no sense together, or outputs that exist.
        NothingToDoError: no pictures.
        OutputError: the output cannot be written, or the disk is full.
        WeightsError: the model cannot be loaded.
    """
    paths = [inputs] if isinstance(inputs, str | Path) else inputs
    plan = make_plan([Path(path) for path in paths], Path(output), existing=Existing(existing))
    prepare_output(plan.output)
    restorer = model if isinstance(model, Restorer) else load(model)
    return list(restore_files(plan, restorer, sigma=sigma, strength=strength, options=options))


def restore_files(
    plan: Plan,
    restorer: Restorer,
    *,
    sigma: float | None = None,
    strength: float = 1.0,
    options: FileOptions | None = None,
) -> Iterator[FileResult]:
    """Restore the files of a plan one after the other; arguments, results and errors as `restore_folder`."""

    def change(_job: Job, photo: Photo) -> Photo:
        return restore_photo(photo, restorer, sigma=sigma, strength=strength)

    return process_files(plan, change, options or FileOptions())


def dry_run(plan: Plan) -> Iterator[FileResult]:
    """Yield what a run would do with each file, and do nothing."""
    for job in plan:
        skips = plan.existing is Existing.SKIP and job.target.exists()
        yield FileResult(job.source, job.target, FileStatus.SKIPPED if skips else FileStatus.PLANNED)


def make_plan(
    inputs: Sequence[Path], output: Path, *, suffix: str | None = None, existing: Existing = Existing.REFUSE
) -> Plan:
    """Check a run before anything is written.

    Args:
        inputs: files and folders.
        output: where to.
        suffix: of the outputs with its dot, None to keep each input's.
        existing: what becomes of jobs whose output exists.

    Raises:
        UsageError: a missing input, an output that is an input, two inputs for one output, or outputs that exist.
        NothingToDoError: no pictures.
    """
    if suffix is not None and suffix not in FORMATS:
        raise UsageError(f"{suffix[1:]}: not a format that can be written; choose one of {_known_formats()}")
    plan = Plan(tuple(inputs), output, suffix, existing)
    _check_roots(plan)
    num_skipped_files = 0

    def count_skipped(_path: Path, _reason: str) -> None:
        nonlocal num_skipped_files
        num_skipped_files += 1

    num_jobs = num_existing = 0
    first_existing: Path | None = None
    may_collide = suffix is not None or len(plan.inputs) > 1
    seen: dict[Path, Path] = {}
    roots_below_output = [root for root in plan.inputs if root.resolve().is_relative_to(output.resolve())]
    for job in plan.jobs(count_skipped):
        num_jobs += 1
        if may_collide and seen.setdefault(job.target, job.source) != job.source:
            raise UsageError(
                f"{job.source} and {seen[job.target]} would both become {job.target}; "
                "restore them to different folders or keep their formats"
            )
        if any(job.target.resolve().is_relative_to(root.resolve()) for root in roots_below_output):
            raise UsageError(f"{job.target}: this output is an input; choose another output folder")
        if job.target.exists():
            num_existing += 1
            first_existing = first_existing or job.target
    if num_existing and existing is Existing.REFUSE:
        raise UsageError(
            f"{first_existing} exists, one of {num_existing}; add --skip-existing to keep such files or --overwrite"
        )
    if num_jobs == 0:
        names = ", ".join(str(root) for root in plan.inputs)
        raise NothingToDoError(
            f"{names}: no pictures here ({num_skipped_files} other files); {_known_formats()} are read"
        )
    return dataclasses.replace(plan, num_jobs=num_jobs, num_skipped_files=num_skipped_files, num_existing=num_existing)


def prepare_output(output: Path) -> None:
    """Make sure that the output can be written, before anything slow starts.

    Raises:
        OutputError: it cannot.
    """
    folder = output.parent if names_a_file(output) else output
    _prepare_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}; choose a folder that can be written") from error


def process_files(plan: Plan, change: Callable[[Job, Photo], Photo], options: FileOptions) -> Iterator[FileResult]:
    """Read, change and write the files of a plan; the next is decoded and the last encoded beside the change.

    Args:
        plan: what to do.
        change: takes a job and the photograph read, returns the one to write.
        options: how files are read and written.

    Yields:
        A result for each job, in the order of the plan.

    Raises:
        OutputError: the disk is full or cannot be written any more; earlier files are complete.
    """
    reader = ThreadPoolExecutor(1, thread_name_prefix="read")
    writer = ThreadPoolExecutor(1, thread_name_prefix="write")
    prepared: set[Path] = set()

    def read(job: Job) -> Photo | FileResult:
        if plan.existing is Existing.SKIP and job.target.exists():
            return FileResult(job.source, job.target, FileStatus.SKIPPED, "the output exists")
        return _attempt(
            job, read_photo, job.source, max_pixels=options.max_pixels, allow_truncated=options.allow_truncated
        )

    def work(job: Job, reading: Future[Photo | FileResult]) -> Future[FileResult]:
        photo = reading.result()
        if isinstance(photo, FileResult):
            return _known(photo)
        started = time.perf_counter()
        changed = _attempt(job, change, job, photo)
        if isinstance(changed, FileResult):
            return _known(changed)
        return writer.submit(write, job, changed, time.perf_counter() - started)

    def write(job: Job, photo: Photo, seconds: float) -> FileResult:
        if job.target.parent not in prepared:
            prepared.add(job.target.parent)
            _prepare_folder(job.target.parent)
        notes = _attempt(
            job, write_photo, job.target, photo, quality=options.quality, strip_metadata=options.strip_metadata
        )
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


def restore_photo(photo: Photo, restorer: Restorer, *, sigma: float | None = None, strength: float = 1.0) -> Photo:
    """Restore the pixels of a photograph and keep all else.

    Floats are not clipped. Where alpha is 0 the network sees the nearest visible colour, so that hidden pixels leave
    no halo, and the hidden ones come back as they were.
    """
    pixels, hidden = photo.pixels, None
    if photo.alpha is not None and not photo.alpha.all():
        hidden = photo.alpha == 0
        pixels = _filled_from_visible(pixels, hidden)
    restored = restorer(pixels, sigma=sigma, strength=strength, clip=False)
    if hidden is not None:
        restored[hidden] = photo.pixels[hidden]
    return dataclasses.replace(photo, pixels=restored, warnings=photo.warnings + _non_finite(photo.pixels))


def names_a_file(output: Path) -> bool:
    """Return whether an output path means a file: it looks like a picture and is not a folder."""
    return output.suffix.lower() in FORMATS and not output.is_dir()


def _attempt(
    job: Job, action: Callable[Arguments, Outcome], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Outcome | FileResult:
    """Turn an error that concerns one file into its result; those that would meet every other file pass through."""
    try:
        return action(*args, **kwargs)
    except (MemoryError, cv2.error):
        message = f"{job.source}: not enough memory for this picture; free some or split it"
    except ImageError as error:
        message = str(error) if str(error).startswith(f"{job.source}:") else f"{job.source}: {error}"
    except OutputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in FATAL_ERRNOS:
            raise
        message = str(error)
    return FileResult(job.source, job.target, FileStatus.FAILED, message)


def _ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items with the next one already started."""
    previous: deque[Item] = deque()
    for item in items:
        if previous:
            yield previous.popleft()
        previous.append(item)
    yield from previous


def _known(result: FileResult) -> Future[FileResult]:
    future: Future[FileResult] = Future()
    future.set_result(result)
    return future


def _prepare_folder(folder: Path) -> None:
    """Create a folder, and clear it of what killed runs left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_partials(folder)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}; choose a folder that can be written") from error


def _check_roots(plan: Plan) -> None:
    for root in plan.inputs:
        if not root.exists():
            raise UsageError(f"{root}: no such file or folder; check the path")
        if root.is_dir() and names_a_file(plan.output):
            raise UsageError(f"{plan.output}: the output of a folder must be a folder, and this names a file")
        if plan.output.exists() and plan.output.samefile(root):
            raise UsageError(
                f"{root}: input and output are the same; choose another output, originals are never replaced"
            )
    if plan.output.exists() and not plan.output.is_dir() and not names_a_file(plan.output):
        raise UsageError(f"{plan.output}: a file stands where the output folder should be")
    if names_a_file(plan.output) and len(plan.inputs) > 1:
        raise UsageError(f"{plan.output}: several inputs need a folder as output")


def _filled_from_visible(pixels: Pixels, hidden: Mask) -> Pixels:
    if hidden.all():
        return pixels
    _, labels = cv2.distanceTransformWithLabels(hidden.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    nearest = np.zeros(int(labels.max()) + 1, dtype=np.int64)
    nearest[labels[~hidden]] = np.flatnonzero(~hidden)
    flat = pixels.reshape(hidden.size, -1)
    filled: Pixels = flat[nearest[labels.ravel()]].reshape(pixels.shape)
    return filled


def _non_finite(pixels: Pixels) -> tuple[str, ...]:
    if pixels.dtype != np.float32:
        return ()
    num = int(np.count_nonzero(~np.isfinite(pixels)))
    return (f"{num} values are NaN or infinite; they were left as they are",) if num else ()


def _known_formats() -> str:
    return ", ".join(sorted(FORMATS))
