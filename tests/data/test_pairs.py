"""restore.data.pairs: every picture has its partner of the same size, or is named."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from restore.data import open_pairs
from restore.errors import ImageError, UsageError

Noise = Callable[..., np.ndarray[Any, Any]]
Write = Callable[..., None]


def test_pairs_are_matched_whatever_the_extension(noise: Noise, write: Write, tmp_path: Path) -> None:
    for height, stem in enumerate(("x/b", "y/b", "a", "c.1", "c.2"), 5):
        write(tmp_path / "noisy" / f"{stem}.png", noise(height, 5))
        write(tmp_path / "clean" / f"{stem}.tif", noise(height, 5))
    pairs = open_pairs(tmp_path / "noisy", tmp_path / "clean")
    assert [pairs.name(index) for index in range(5)] == ["a.tif", "c.1.tif", "c.2.tif", "x/b.tif", "y/b.tif"]
    for index in range(5):
        assert pairs.degraded.name(index)[:-4] == pairs.name(index)[:-4]
        assert torch.equal(*pairs.read(index))


def test_pairs_are_matched_by_name_where_extensions_sort_them_differently(
    noise: Noise, write: Write, tmp_path: Path
) -> None:
    for height, degraded, reference in ((5, "a.bmp", "a.png"), (6, "a.o.png", "a.o.png")):
        write(tmp_path / "noisy" / degraded, noise(height, 5))
        write(tmp_path / "clean" / reference, noise(height, 5))
    pairs = open_pairs(tmp_path / "noisy", tmp_path / "clean")
    assert [pairs.name(index) for index in range(2)] == ["a.o.png", "a.png"]
    assert [pairs.degraded.name(index) for index in range(2)] == ["a.o.png", "a.bmp"]
    for index, height in enumerate((6, 5)):
        assert pairs.degraded.size(index) == pairs.reference.size(index) == (height, 5)
        assert torch.equal(*pairs.read(index))


def test_both_sides_share_the_memory(noise: Noise, write: Write, tmp_path: Path) -> None:
    write(tmp_path / "a.png", noise(5, 5))
    pairs = open_pairs(tmp_path, tmp_path, cache_bytes=1000)
    assert [side.cache_bytes for side in (pairs.degraded, pairs.reference)] == [500, 500]
    pairs.divide_memory(5)
    assert [side.cache_bytes for side in (pairs.degraded, pairs.reference)] == [100, 100]


def test_names_with_accents_are_one_name_however_they_are_stored(noise: Noise, write: Write, tmp_path: Path) -> None:
    write(tmp_path / "noisy" / unicodedata.normalize("NFC", "été.png"), noise(20, 30))
    write(tmp_path / "clean" / unicodedata.normalize("NFD", "été.png"), noise(20, 30))
    assert len(open_pairs(tmp_path / "noisy", tmp_path / "clean")) == 1


def test_pictures_without_partner_are_listed(noise: Noise, write: Write, tmp_path: Path) -> None:
    for stem in ("a", "b"):
        write(tmp_path / "noisy" / f"{stem}.png", noise(5, 5))
    write(tmp_path / "clean" / "a.png", noise(5, 5))
    for index in range(4):
        write(tmp_path / "clean" / f"only{index}.png", noise(5, 5))
    with pytest.raises(UsageError, match=r"5 pictures have no partner.*: b, only0, only1 and 2 more"):
        open_pairs(tmp_path / "noisy", tmp_path / "clean")
    for index in (2, 3):
        (tmp_path / "clean" / f"only{index}.png").unlink()
    with pytest.raises(UsageError, match=r"3 pictures have no partner.*: b, only0, only1; add"):
        open_pairs(tmp_path / "noisy", tmp_path / "clean")


def test_two_pictures_of_one_name_make_no_pair(noise: Noise, write: Write, tmp_path: Path) -> None:
    write(tmp_path / "noisy" / "a.png", noise(5, 5))
    write(tmp_path / "noisy" / "a.tif", noise(5, 5))
    with pytest.raises(UsageError, match=r"a\.png and a\.tif"):
        open_pairs(tmp_path / "noisy", tmp_path / "noisy")


def test_pairs_of_different_size_are_named_with_their_sizes(noise: Noise, write: Write, tmp_path: Path) -> None:
    for stem in "abcd":
        write(tmp_path / "noisy" / f"{stem}.png", noise(5, 6))
        write(tmp_path / "clean" / f"{stem}.png", noise(5, 7))
    told = ", ".join(rf"{stem}\.png has 6×5 pixels and its reference {stem}\.png 7×5" for stem in "abc")
    with pytest.raises(UsageError, match=f"clean: {told}; both"):
        open_pairs(tmp_path / "noisy", tmp_path / "clean")


def test_a_damaged_picture_of_another_size_is_left_to_training(noise: Noise, write: Write, tmp_path: Path) -> None:
    write(tmp_path / "noisy" / "a.png", noise(50, 60))
    content = (tmp_path / "noisy" / "a.png").read_bytes()
    (tmp_path / "noisy" / "a.png").write_bytes(content[: len(content) // 2])
    write(tmp_path / "clean" / "a.png", noise(50, 70))
    pairs = open_pairs(tmp_path / "noisy", tmp_path / "clean")
    with pytest.raises(ImageError, match=r"a\.png"):
        pairs.read(0)


def test_sizes_count_after_turning_upright(noise: Noise, write: Write, tmp_path: Path) -> None:
    turned = bytes.fromhex("4d4d002a00000008000101120003000000010006000000000000")  # orientation 6
    for side in ("noisy", "clean"):
        (tmp_path / side).mkdir()
    Image.fromarray(noise(6, 5)).save(tmp_path / "noisy" / "a.jpg", exif=b"Exif\0\0" + turned)
    write(tmp_path / "clean" / "a.png", noise(5, 6))
    degraded, reference = open_pairs(tmp_path / "noisy", tmp_path / "clean").read(0)
    assert degraded.shape == reference.shape == (3, 5, 6)
    write(tmp_path / "clean" / "a.png", noise(6, 5))  # as the header of the other says, and not as it is
    with pytest.raises(UsageError, match="6×5"):
        open_pairs(tmp_path / "noisy", tmp_path / "clean").read(0)
