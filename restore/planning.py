"""What a run over files will do, checked before anything is written."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from restore.atomic import sweep_partials
from restore.errors import NothingToDoError, OutputError, UsageError
from restore.images import FORMATS, HIDDEN, KEPT_APART, UNREADABLE, UNSUPPORTED, find_images, may_be_read
from restore.sharding import WHOLE, Shard
from restore.types import Existing

SkipHandler = Callable[[Path, str], None]

NOT_WORTH_TELLING = {HIDDEN, KEPT_APART}  # reasons to pass over a path

_FOREIGN_SUFFIXES = {*UNSUPPORTED, ".gif"}  # those that mean a picture, though not one that can be written


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write, its name below the input, and its place in the plan, from 0 on."""

    source: Path
    target: Path
    name: str
    number: int


@dataclass(frozen=True)
class Plan:
    """What a run will do; iterating yields the jobs in a fixed order, also those whose input is gone by then.

    Args:
        inputs: files and folders.
        names: of the pictures in each input, relative to it; an empty one for an input that is a file.
        output: folder, or the file where a single file goes to a named file.
        suffix: of the outputs, None to keep each input's.
        existing: what becomes of jobs whose output exists.
        num_skipped_files: files that are no pictures by their names, and links and devices that are not followed.
        unreadable: folders and files that the system keeps from us, each with the reason.
        shard: the part of the inputs that this is the plan for.
    """

    inputs: tuple[Path, ...]
    names: tuple[Sequence[str], ...]  # strings take a fifth of the memory of paths
    output: Path
    suffix: str | None
    existing: Existing
    num_skipped_files: int = 0
    unreadable: tuple[str, ...] = ()
    shard: Shard = WHOLE

    def part(self, shard: Shard) -> Plan:
        """Return the plan of those jobs that fall to a shard; it is empty where none does."""
        if shard == WHOLE:
            return self
        names = tuple(
            [name for name in names if shard.holds(name or root.name)]
            for root, names in zip(self.inputs, self.names, strict=True)
        )
        return dataclasses.replace(self, names=names, shard=shard)

    def __iter__(self) -> Iterator[Job]:
        """Yield the jobs."""
        number = itertools.count()
        for root, names in zip(self.inputs, self.names, strict=True):
            top = self.output if len(self.inputs) == 1 else self.output / root.resolve().name
            for name in names:
                target = self._with_suffix(top / name) if name else self._target_of_file(root)
                yield Job(root / name, target, name or root.name, next(number))

    @property
    def output_folder(self) -> Path | None:
        """The output; None where it is a single file that is named."""
        return None if names_a_file(self.output) else self.output

    @property
    def num_jobs(self) -> int:
        """How many there are."""
        return sum(map(len, self.names))

    def skips(self, job: Job) -> bool:
        """Return whether a job's output is there already, and is kept; of what cannot be read it is another's."""
        return self.existing is Existing.SKIP and _is_taken(job.target) and may_be_read(job.source)

    def refuses(self, job: Job) -> bool:
        """Return whether a job's output, which was not there when the plan was made, is by now, and is kept."""
        return self.existing is Existing.REFUSE and _is_taken(job.target)

    def _target_of_file(self, source: Path) -> Path:
        if names_a_file(self.output) and len(self.inputs) == 1:
            return self.output
        return self._with_suffix(self.output / source.name)

    def _with_suffix(self, target: Path) -> Path:
        return target if self.suffix is None else target.with_suffix(self.suffix)


def make_plan(
    inputs: Sequence[Path],
    output: Path,
    *,
    suffix: str | None = None,
    existing: Existing = Existing.REFUSE,
    shard: Shard = WHOLE,
    on_skip: SkipHandler | None = None,
) -> Plan:
    """Check a run before anything is written.

    Args:
        inputs: files and folders; what is named twice counts once.
        output: where to.
        suffix: of the outputs with its dot, None to keep each input's.
        existing: what becomes of jobs whose output exists.
        shard: plan for this part alone; inputs are checked whole, since the other parts are done beside it.
        on_skip: hears of every file passed over, and why.

    Raises:
        UsageError: a missing input, an output that is an input, two inputs for one output, or outputs that exist.
        NothingToDoError: no inputs, or no pictures in them.
        OutputError: the output lies where we may not look.
    """
    named_once: dict[str, Path] = {}
    for root in inputs:
        named_once.setdefault(os.path.abspath(root), root)  # noqa: PTH100  q and r/../q are one; a link has its own name
    roots = tuple(named_once.values())
    _check_paths(roots, output, suffix)
    num_skipped_files, unreadable = 0, []
    example = ""

    def count_skipped(path: Path, reason: str) -> None:
        nonlocal num_skipped_files, example
        if reason.startswith(UNREADABLE):
            unreadable.append(f"{path}: {reason}; check its permissions")
            return
        if reason not in NOT_WORTH_TELLING:
            num_skipped_files += 1
            example = example or f", such as {path.name}: {reason}"
        if on_skip is not None:
            on_skip(path, reason)

    names = tuple(_names_in(root, output, count_skipped) for root in roots)
    plan = Plan(roots, names, output, suffix, existing, num_skipped_files, tuple(unreadable))
    guard = _Guard(plan)
    num_existing = 0
    first_existing: Path | None = None
    for job in plan:
        guard.check(job)
        if shard.holds(job.name) and _is_taken(job.target):
            num_existing += 1
            first_existing = first_existing or job.target
    if num_existing and existing is Existing.REFUSE:
        others = f" and {num_existing - 1} more exist" if num_existing > 1 else " exists"
        raise UsageError(f"{first_existing}{others} already; skip (--skip-existing) or overwrite (--overwrite)")
    if plan.num_jobs == 0:
        where = ", ".join(map(str, roots))
        why = unreadable[0] if unreadable else f"{where}: no pictures here ({num_skipped_files} passed over{example})"
        raise NothingToDoError(f"{why}; {_known_formats()} are read")
    return plan.part(shard)


def _names_in(root: Path, output: Path, on_skip: SkipHandler) -> list[str]:
    if not _is_folder(root):
        return [""]
    return [str(path.relative_to(root)) for path in find_images(root, exclude=output, on_skip=on_skip)]


def prepare_output(output: Path) -> None:
    """Make sure that the output can be written, before anything slow starts.

    Raises:
        OutputError: it cannot.
    """
    folder = _folder_of(output)
    prepare_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}; choose a folder that can be written") from error


@contextlib.contextmanager
def output_ready(output: Path) -> Iterator[None]:
    """Make sure that the output can be written; the folders that it takes go again if the block fails.

    Raises:
        OutputError: it cannot.
    """
    folder = _folder_of(output)
    missing = [each for each in (folder, *folder.parents) if not _exists(each)]
    prepare_output(output)
    try:
        yield
    except BaseException:
        for each in missing:
            with contextlib.suppress(OSError):  # something lies in it by now
                each.rmdir()
        raise


def check_output(output: Path) -> None:
    """Look whether the output could be written, and write nothing.

    Raises:
        OutputError: it could not.
    """
    folder = _folder_of(output)
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if _exists(parent))
    if not _is_folder(nearest):
        raise OutputError(f"{nearest}: a file stands where the output folder should be; choose another output")
    listed = os.R_OK if _exists(folder) else 0  # in search of what killed runs left
    if not os.access(nearest, os.W_OK | os.X_OK | listed):
        raise OutputError(f"{nearest}: Permission denied; choose a folder that can be written")


def prepare_folder(folder: Path) -> None:
    """Create a folder, and clear it of what killed runs left.

    Raises:
        OutputError: it cannot be created or read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_partials(folder)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}; choose a folder that can be written") from error


def names_a_file(output: Path) -> bool:
    """Return whether an output path means a file: it looks like a picture and is not a folder."""
    return output.suffix.lower() in FORMATS and not _is_folder(output)


def _folder_of(output: Path) -> Path:
    return output.parent if names_a_file(output) else output


class _Guard:
    """Refuses jobs that would write over an original, or two to one output."""

    def __init__(self, plan: Plan) -> None:
        roots = [Path(os.path.realpath(root)) for root in plan.inputs]
        self.folders = [root for root in roots if root.is_dir()]
        self.files_by_name: dict[str, list[Path]] = {}
        for file in set(roots).difference(self.folders):
            self.files_by_name.setdefault(file.name.casefold(), []).append(file)
        self.output = Path(os.path.realpath(plan.output))
        self.may_collide = plan.suffix is not None or len(plan.inputs) > 1
        self.sources: dict[Path, Path] = {}
        self.folder: Path | None = None
        self.real_folder = Path()

    def check(self, job: Job) -> None:
        other = self.sources.setdefault(job.target, job.source) if self.may_collide else job.source
        if other != job.source and may_be_read(job.source):
            if may_be_read(other):
                remedy = "restore them to different folders or keep their formats"
                raise UsageError(f"{job.source} and {other} would both become {job.target}; {remedy}")
            self.sources[job.target] = job.source
        if job.target.parent != self.folder:  # jobs come folder by folder
            self.folder, self.real_folder = job.target.parent, Path(os.path.realpath(job.target.parent))
        target = self.real_folder / job.target.name
        if self._is_file(target) or any(self._is_input(target, folder) for folder in self.folders):
            raise UsageError(
                f"{job.target}: this output is an input; choose another output, originals are never replaced"
            )

    def _is_file(self, target: Path) -> bool:
        """Return whether a target is an input, also where a disk takes a.JPG and a.jpg for one name."""
        namesakes = self.files_by_name.get(target.name.casefold(), ())
        return target in namesakes or (
            bool(namesakes)
            and _exists(target)
            and any(target.samefile(file) and target.parent.samefile(file.parent) for file in namesakes)
        )

    def _is_input(self, target: Path, folder: Path) -> bool:
        output_is_apart = self.output.is_relative_to(folder) and target.is_relative_to(self.output)
        return target.is_relative_to(folder) and not output_is_apart


def _check_paths(roots: Sequence[Path], output: Path, suffix: str | None) -> None:
    if not roots:
        raise NothingToDoError("no inputs were named; name files or folders")
    if suffix is not None and suffix not in FORMATS:
        raise UsageError(f"{suffix[1:]}: not a format that can be written; choose one of {_known_formats()}")
    for root in roots:
        if not _exists(root):
            raise UsageError(f"{root}: no such file or folder, or no right to look at it; check the path")
        if _is_folder(root) and names_a_file(output):
            raise UsageError(f"{output}: the output of a folder must be a folder, and this names a file")
        if _exists(output) and output.samefile(root):
            raise UsageError(
                f"{root}: input and output are the same; choose another output, originals are never replaced"
            )
    _check_output_name(roots, output, suffix)


def _check_output_name(roots: Sequence[Path], output: Path, suffix: str | None) -> None:
    if _exists(output) and not _is_folder(output) and not names_a_file(output):
        raise UsageError(f"{output}: a file stands where the output folder should be")
    if names_a_file(output) and len(roots) > 1:
        raise UsageError(f"{output}: several inputs need a folder as output")
    if names_a_file(output) and suffix is not None and FORMATS[suffix] != FORMATS[output.suffix.lower()]:
        raise UsageError(f"{output}: its name and the format {suffix[1:]} contradict each other")
    if output.suffix.lower() in _FOREIGN_SUFFIXES and not _is_folder(output):
        raise UsageError(f"{output}: not a format that can be written; choose one of {_known_formats()}")
    if len(roots) == 1 and not _is_folder(roots[0]) and _looks_like_a_file(output) and not _exists(output):
        remedy = f"choose one of {_known_formats()}, or make the folder first if it shall be one"
        raise UsageError(f"{output}: not a format that can be written; {remedy}")


def _looks_like_a_file(output: Path) -> bool:
    extension = output.suffix[1:]
    return not names_a_file(output) and extension.isalpha() and 3 <= len(extension) <= 4


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  Path.exists raises where a name is too long or a folder closed


def _is_taken(target: Path) -> bool:
    return _exists(target) and not _is_folder(target)  # which no option replaces: writing says so


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  as above


def _known_formats() -> str:
    return ", ".join(sorted({suffix[1:] for suffix in FORMATS}))
