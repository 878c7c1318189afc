"""Pictures for the tests of training data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restore.data import Photos
from restore.errors import ImageError
from restore.images import Photo, write_photo

Pixels = np.ndarray[Any, Any]


@pytest.fixture
def noise() -> Callable[..., Pixels]:
    """Makes random pixels, the same for the same size."""

    def make(height: int, width: int, channels: int = 3, dtype: Any = np.uint8) -> Pixels:
        shape = (height, width, 3) if channels == 3 else (height, width)
        values = np.random.default_rng(height * 1000 + width).random(shape, np.float32)
        return values if dtype == np.float32 else (values * np.iinfo(dtype).max).astype(dtype)

    return make


@pytest.fixture
def write() -> Callable[..., None]:
    """Writes pixels to a file, its folder included."""

    def make(path: Path, pixels: Pixels, **settings: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_photo(path, Photo(pixels, **settings))

    return make


@pytest.fixture
def counting() -> Callable[..., tuple[Photos, list[int]]]:
    """Makes pictures p0, p1, … of 300 bytes, each filled with its number, and the list of those that were decoded."""

    def make(num: int, cache_bytes: int = 10**6, bad: Sequence[int] = ()) -> tuple[Photos, list[int]]:
        reads: list[int] = []

        def load(index: int) -> Pixels:
            reads.append(index)
            if index in bad:
                raise ImageError(f"p{index}: it is damaged; copy it again")
            return np.full((10, 10, 3), index, np.uint8)

        return Photos([f"p{index}" for index in range(num)], load, lambda _: None, cache_bytes), reads

    return make
