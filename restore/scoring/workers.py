"""Threads that score, and what may go wrong in one of them without stopping the others."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from restore.errors import ImageError
from restore.images.opencv import cv2
from restore.memory import is_out_of_memory

_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")

_MOST_CHARACTERS = 120  # of what OpenCV has to say


@contextlib.contextmanager
def as_image_errors(path: Path) -> Iterator[None]:
    """Blame one picture where the memory is exhausted or OpenCV refuses; all other errors pass.

    Raises:
        ImageError: instead; one line that names the path and the remedy.
    """
    try:
        yield
    except (MemoryError, RuntimeError, cv2.error) as error:
        if is_out_of_memory(error):
            reason = "there is not enough memory to score it; close other programs, or use --workers 1"
        elif isinstance(error, cv2.error):
            text = " ".join(str(error).split())[:_MOST_CHARACTERS]
            reason = f"OpenCV cannot work with it ({text}); write it anew, or leave it out"
        else:
            raise
        raise ImageError(f"{path}: {reason}") from error


def in_threads(
    function: Callable[[_Item], _Outcome], items: Iterable[_Item], num_workers: int | None
) -> Iterator[_Outcome]:
    """Yield the outcomes in order, a few items ahead of their consumer."""
    num_workers = num_workers or min(4, os.cpu_count() or 1)
    waiting: deque[Future[_Outcome]] = deque()
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="score")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
