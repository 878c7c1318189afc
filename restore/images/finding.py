"""Finding photographs in folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from restore.images.photo import FORMATS
from restore.images.reading import UNSUPPORTED

_ARCHIVES = {".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst"}

HIDDEN, KEPT_APART, UNREADABLE = "hidden", "kept apart", "cannot be read"
"""Reasons to pass over a path: what nobody needs to hear of, and how it starts where the system keeps it from us."""

SkipHandler = Callable[[Path, str], None]


def find_images(
    root: str | os.PathLike[str],
    *,
    exclude: str | os.PathLike[str] | None = None,
    on_skip: SkipHandler | None = None,
) -> Iterator[Path]:
    """Yield the photographs below a folder, in the order of their names; one folder's list is in memory at a time.

    Suffixes decide, in any case. Photographs of kinds that cannot be read yet (HEIC, camera raw, …) are yielded too, so
    that `read_photo` says what to do about them. Hidden files and folders, pipes and devices, links that are broken or
    lead out of the root, and links to folders, which are searched where they are unless hidden, are passed over.

    Args:
        root: a folder, or a file, which is yielded as it is.
        exclude: a folder below the root that is not entered, such as the output; it need not exist.
        on_skip: is told of each path passed over, and why.

    Yields:
        Paths that start with root.
    """
    root = Path(root)
    if not root.is_dir():
        yield root
        return
    skip: SkipHandler = on_skip or _ignore
    excluded = None if exclude is None else os.path.realpath(exclude)
    real_root = Path(os.path.realpath(root))
    levels = [iter([root])]
    while levels:
        path = next(levels[-1], None)
        if path is None:
            levels.pop()
            continue
        try:
            status = path.stat() if path == root else _status_within(path, real_root)
            if not stat.S_ISDIR(status.st_mode):
                _check_file(path, status)
                yield path
            elif excluded is not None and path != root and os.path.realpath(path) == excluded:
                skip(path, KEPT_APART)
            else:
                levels.append(map(path.__truediv__, sorted(os.listdir(path))))  # noqa: PTH208  a million names fit, paths do not
        except _SkipError as reason:
            skip(path, str(reason))
        except OSError as error:
            skip(path, f"{UNREADABLE}: {error.strerror}")


class _SkipError(Exception):
    """Why a path is passed over."""


def _status_within(path: Path, real_root: Path) -> os.stat_result:
    """Return the status of a path, of what a link leads to if that lies below the root."""
    if path.name.startswith("."):
        raise _SkipError(HIDDEN)
    status = path.lstat()
    if not stat.S_ISLNK(status.st_mode):
        return status
    try:
        target = path.stat()
    except OSError as error:  # it ends nowhere, or the way there is closed
        raise _SkipError("a broken link") from error
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(real_root):
        raise _SkipError("a link out of the folder")
    if stat.S_ISDIR(target.st_mode):
        is_hidden = any(part.startswith(".") for part in real.relative_to(real_root).parts)
        raise _SkipError("a link to a hidden folder" if is_hidden else "a link to a folder that is searched itself")
    return target


def _check_file(path: Path, status: os.stat_result) -> None:
    suffix = path.suffix.lower()
    if not stat.S_ISREG(status.st_mode):
        raise _SkipError("not a regular file")
    if suffix in _ARCHIVES:
        raise _SkipError("an archive; unpack it first")
    if suffix not in FORMATS and suffix not in UNSUPPORTED:
        raise _SkipError("not a picture by its suffix")


def _ignore(_path: Path, _reason: str) -> None:
    """Tell nobody."""
