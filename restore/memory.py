"""Memory: how much is left, how the C library treats large blocks, and how running out of it shows."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TOLD = (
    "allocate memory",
    "not enough memory",
    "bad_alloc",
    "Insufficient memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
)
_TOLD_BY_ONEDNN = "could not create a primitive"  # with "descriptor" behind it, it knows no such operation

_UNKNOWN = 4 * 2**30  # where the system does not tell


class _Hierarchy(NamedTuple):
    """Where Linux keeps the limits of groups of processes, as containers and batch systems set them."""

    mount: str
    limit: str
    usage: str
    cache: str


_VERSION_1 = _Hierarchy("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Hierarchy("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")


def free_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process can have without swapping, of the machine and of its container.

    The page cache of files just read counts as free. Systems other than Linux do not tell: 4 GiB.

    Args:
        root: of the file system in which Linux tells.
    """
    amounts = [*_of_the_machine(root), *_of_the_groups(root)]
    return max(0, min(amounts)) if amounts else _UNKNOWN


def _of_the_machine(root: Path) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield 1024 * int(line.split()[1])


def _of_the_groups(root: Path) -> Iterator[int]:
    for hierarchy, folder in _groups(root):
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max", for no limit
            limit = int((folder / hierarchy.limit).read_text(encoding="ascii"))
            usage = int((folder / hierarchy.usage).read_text(encoding="ascii"))
            numbers = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
            yield limit - usage + int(numbers.get(hierarchy.cache, 0))


def _groups(root: Path) -> Iterator[tuple[_Hierarchy, Path]]:
    """Yield the groups of this process, each with those that it lies in: all their limits hold."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        hierarchy = _VERSION_1 if controllers else _VERSION_2
        mount = root / hierarchy.mount
        group = mount / path.lstrip("/")
        yield from ((hierarchy, folder) for folder in (group, *group.parents) if folder.is_relative_to(mount))


def keep_freed_memory() -> None:
    """Let glibc keep what it frees: feature maps are large, and fetching their pages anew costs up to half the time."""
    _call_glibc("mallopt", -3, 2**30)  # M_MMAP_THRESHOLD
    _call_glibc("mallopt", -1, 2**31 - 1)  # M_TRIM_THRESHOLD


def give_back_freed_memory() -> None:
    """Have glibc give back what it keeps: where memory ran out, others such as oneDNN could not have it otherwise."""
    _call_glibc("malloc_trim", 0)


def _call_glibc(name: str, *arguments: int) -> None:
    if sys.platform == "linux" and (function := getattr(ctypes.CDLL(None), name, None)) is not None:  # musl has none
        function(*arguments)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether Python, the system, OpenCV, Pillow, or torch on any device, ran out of memory."""
    told = getattr(error, "strerror", None) or str(error)  # without the name of the file, which may hold any words
    return isinstance(error, MemoryError) or told == _TOLD_BY_ONEDNN or any(words in told for words in _TOLD)
