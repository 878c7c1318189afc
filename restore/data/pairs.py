"""Degraded pictures and their references, matched by name and compared in size."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from restore.data.photos import CACHE_BYTES, Photos, open_photos
from restore.data.sources import NUM_NAMED, some_names
from restore.errors import ImageError, UsageError

_SAME_SIZE = "both pictures of a pair must have the same size"


class Pairs:
    """Degraded pictures with their references, matched by name.

    Args:
        degraded: the one side.
        reference: the other, in the same order.
    """

    def __init__(self, degraded: Photos, reference: Photos) -> None:
        self.degraded = degraded
        self.reference = reference

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.reference)

    def name(self, index: int) -> str:
        """Return the path of a reference below its folder."""
        return self.reference.name(index)

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        """Return degraded and reference, each (3,H,W) of uint8 or uint16.

        Raises:
            ImageError: one of them cannot be read.
            UsageError: they differ in size.
        """
        degraded, reference = self.degraded.read(index), self.reference.read(index)
        if degraded.shape != reference.shape:
            raise UsageError(f"{_sizes(self, index, degraded.shape[1:], reference.shape[1:])}; {_SAME_SIZE}")
        return degraded, reference

    def divide_memory(self, num_parts: int) -> None:
        """Keep a part of the decoded pictures in memory that could be kept so far, as one of several processes."""
        self.degraded.divide_memory(num_parts)
        self.reference.divide_memory(num_parts)


def open_pairs(degraded: Path, reference: Path, *, cache_bytes: int = CACHE_BYTES) -> Pairs:
    """Open two folders (or packs) whose pictures have the same relative paths, extensions aside.

    Args:
        degraded: what a network is given.
        reference: what it should make of it.
        cache_bytes: most that is kept of decoded pictures in memory.

    Raises:
        UsageError: a path is missing, a picture has no partner, two have the same name, or partners differ in size.
        NothingToDoError: no pictures are there.
    """
    inputs, targets = (open_photos(path, cache_bytes=cache_bytes // 2) for path in (degraded, reference))
    input_stems, target_stems = _stems(inputs, degraded), _stems(targets, reference)
    lonely = sorted(input_stems.keys() ^ target_stems.keys())
    if lonely:
        raise UsageError(
            f"{degraded} and {reference}: {len(lonely)} pictures have no partner of the same name, extension aside: "
            f"{some_names(lonely)}; add the partners or remove these"
        )
    order = [input_stems[stem] for stem in target_stems]
    pairs = Pairs(_reordered(inputs, order), targets)
    _check_sizes(pairs, f"{degraded} and {reference}")
    return pairs


@dataclass(frozen=True)
class _Reordered:
    inner: Callable[[int], Any]
    order: Sequence[int]

    def __call__(self, index: int) -> Any:  # noqa: ANN401  whatever the inner one returns
        return self.inner(self.order[index])


def _reordered(photos: Photos, order: Sequence[int]) -> Photos:
    names = [photos.name(index) for index in order]
    return Photos(names, _Reordered(photos.load, order), _Reordered(photos.size, order), photos.cache_bytes)


def _stems(photos: Photos, path: Path) -> dict[str, int]:
    """Return the indices of the pictures by path without extension."""
    stems: dict[str, int] = {}
    for index, name in enumerate(photos.names):
        stem = unicodedata.normalize("NFC", PurePosixPath(name).with_suffix("").as_posix())
        if stem in stems:
            other = photos.names[stems[stem]]
            raise UsageError(f"{path}: {other} and {name} have the same name but for the extension; keep one of them")
        stems[stem] = index
    return stems


def _check_sizes(pairs: Pairs, where: str) -> None:
    """Compare the sizes that headers state; where they differ, decoding decides, since a header may be turned."""
    differing = []
    for index in range(len(pairs)):
        sizes = pairs.degraded.size(index), pairs.reference.size(index)
        if None in sizes or sizes[0] == sizes[1]:
            continue
        try:
            pairs.read(index)
        except ImageError:
            continue  # a damaged picture is skipped in training
        except UsageError as error:
            differing.append(str(error).partition(";")[0])
        if len(differing) == NUM_NAMED:
            break
    if differing:
        raise UsageError(f"{where}: {', '.join(differing)}; {_SAME_SIZE}")


def _sizes(pairs: Pairs, index: int, degraded: Sequence[int], reference: Sequence[int]) -> str:
    (height, width), (other_height, other_width) = degraded, reference
    return (
        f"{pairs.degraded.name(index)} has {width}×{height} pixels and "
        f"its reference {pairs.reference.name(index)} {other_width}×{other_height}"
    )
