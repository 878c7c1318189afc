"""restore.data.photos: pictures are decoded when they are asked for, and kept within a bound of memory."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from restore.data import Photos, describe, open_photos, pack
from restore.errors import ImageError, NothingToDoError, UsageError

Noise = Callable[..., np.ndarray[Any, Any]]
Write = Callable[..., None]
Counting = Callable[..., tuple[Photos, list[int]]]


def test_every_depth_is_read_as_integers_of_three_channels(noise: Noise, write: Write, tmp_path: Path) -> None:
    write(tmp_path / "a" / "grey.png", noise(4, 6, 1))
    write(tmp_path / "b.png", noise(4, 6, dtype=np.uint16), alpha=np.full((4, 6), 7, np.uint16))
    write(tmp_path / "c.tif", noise(4, 6, dtype=np.float32) * 2 - 0.5)
    photos = open_photos(tmp_path)
    assert list(photos.names) == ["a/grey.png", "b.png", "c.tif"]
    assert describe(photos) == {"a": 1, ".": 2}
    grey, deep, wide = (photos.read(index) for index in range(3))
    assert (grey.shape, grey.dtype) == ((3, 4, 6), torch.uint8)
    assert np.array_equal(grey[2].numpy(), noise(4, 6, 1))
    assert np.array_equal(deep.permute(1, 2, 0).numpy(), noise(4, 6, dtype=np.uint16))
    assert wide.dtype == torch.uint16
    assert (int(wide.int().min()), int(wide.int().max())) == (0, 65535)


def test_nothing_is_decoded_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    photos = open_photos(tmp_path)
    assert len(photos) == 1
    assert photos.size(0) is None
    with pytest.raises(ImageError, match=r"a\.png"):
        photos.read(0)


def test_the_cache_keeps_the_latest_within_its_bound(counting: Counting) -> None:
    photos, reads = counting(4, cache_bytes=2 * 300)
    for index in (0, 1, 0, 2, 0, 1):  # 2 drops 1, since 0 was used later
        assert int(photos.read(index)[0, 0, 0]) == index
    assert reads == [0, 1, 2, 1]
    photos.divide_memory(2)
    photos.read(1)
    photos.read(0)
    assert reads == [0, 1, 2, 1, 0]


def test_a_picture_larger_than_the_cache_is_read_and_not_kept(counting: Counting) -> None:
    photos, reads = counting(2, cache_bytes=299)
    photos.read(0)
    photos.read(0)
    assert reads == [0, 0]


def test_a_picture_larger_than_the_cache_drops_no_other() -> None:
    reads = []

    def load(index: int) -> np.ndarray[Any, Any]:
        reads.append(index)
        return np.zeros((10, 10 + 90 * index, 3), np.uint8)

    photos = Photos(["small", "large"], load, lambda _: None, cache_bytes=300)
    for index in (0, 1, 0, 1):
        photos.read(index)
    assert reads == [0, 1, 1]


def test_a_grey_picture_takes_the_memory_of_one_channel() -> None:
    reads = []

    def load(index: int) -> np.ndarray[Any, Any]:
        reads.append(index)
        return np.zeros((10, 10), np.uint8)

    photos = Photos(["a", "b", "c"], load, lambda _: None, cache_bytes=300)
    for index in (0, 1, 2, 0, 1, 2):
        assert photos.read(index).shape == (3, 10, 10)
    assert reads == [0, 1, 2]


def test_how_much_is_kept_is_that_of_the_caller(noise: Noise, write: Write, tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.png", noise(4, 6))
    pack(tmp_path / "photos", tmp_path / "pack.tar", max_bytes=10**6)
    for source in ("photos", "pack.tar"):
        photos = open_photos(tmp_path / source, cache_bytes=5)
        assert photos.cache_bytes == 5
        assert photos.size(0) == (4, 6)


def test_a_copy_in_another_process_starts_without_the_cached_pictures(
    noise: Noise, write: Write, tmp_path: Path
) -> None:
    write(tmp_path / "a.png", noise(100, 100))
    photos = open_photos(tmp_path)
    photos.read(0)
    sent = pickle.dumps(photos)
    assert len(sent) < 3000
    copied = pickle.loads(sent)  # noqa: S301  our own
    copied.divide_memory(10**9)  # to nothing
    assert torch.equal(copied.read(0), photos.read(0))


def test_folders_without_pictures_and_missing_ones_are_named(noise: Noise, write: Write, tmp_path: Path) -> None:
    with pytest.raises(NothingToDoError, match="no pictures"):
        open_photos(tmp_path)
    (tmp_path / "linked").mkdir()
    write(tmp_path / "a.png", noise(8, 8))
    (tmp_path / "linked" / "a.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(NothingToDoError, match=r"linked/a\.png: a link out of the folder"):
        open_photos(tmp_path / "linked")
    (tmp_path / "a.png").unlink()
    with pytest.raises(NothingToDoError, match=r"\(.*linked: kept apart\)"):
        open_photos(tmp_path, exclude=tmp_path / "linked")
    with pytest.raises(UsageError, match="no such folder"):
        open_photos(tmp_path / "absent")
