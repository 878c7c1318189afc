"""Memory: how the C library treats large blocks, and how running out of it shows."""

from __future__ import annotations

import ctypes
import sys

_TOLD = (
    "allocate memory",
    "not enough memory",
    "bad_alloc",
    "Insufficient memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
)
_TOLD_BY_ONEDNN = "could not create a primitive"  # with "descriptor" behind it, it knows no such operation


def keep_freed_memory() -> None:
    """Let glibc keep what it frees: feature maps are large, and fetching their pages anew costs up to half the time."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether Python, the system, OpenCV, Pillow, or torch on any device, ran out of memory."""
    told = getattr(error, "strerror", None) or str(error)  # without the name of the file, which may hold any words
    return isinstance(error, MemoryError) or told == _TOLD_BY_ONEDNN or any(words in told for words in _TOLD)
