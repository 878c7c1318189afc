"""Frames of a video as pairs: the mean of several in linear light is what a slow camera sees, the middle one sharp."""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path, PurePath
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from restore.data.photos import CACHE_BYTES, Photos, open_photos
from restore.degradations import to_linear, to_srgb
from restore.errors import ImageError, NothingToDoError, UsageError

Item = TypeVar("Item")

_GOLDEN = 0.6180339887498949  # its multiples fall evenly into [0,1), whatever the stride of the indices


def natural_order(name: str | PurePath) -> tuple[tuple[int, str], ...]:
    """Return what to sort names by so that numbers count as numbers.

    >>> sorted(["f10.png", "f9.png", "e11.png"], key=natural_order)
    ['e11.png', 'f9.png', 'f10.png']
    """
    parts = re.split(r"([0-9]+)", str(name))
    return (*((int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)), (-1, str(name)))


def frames_spanned(num_frames: int, skip: int) -> int:
    """Return how many consecutive frames a run of some of them reaches over, from its first to its last."""
    return (num_frames - 1) * skip + 1


def windows(frames: Sequence[Item], num_frames: int, step: int, skip: int = 1) -> list[tuple[Item, list[Item]]]:
    """Return runs of frames, each with its middle one; frames left over at the end are not used.

    Args:
        frames: in order.
        num_frames: in each run; of an even number the later one of the two in the middle is taken.
        step: from the start of one run to that of the next.
        skip: from one frame of a run to the next; 1 for consecutive ones.

    >>> windows("abcdefg", 3, 3)
    [('b', ['a', 'b', 'c']), ('e', ['d', 'e', 'f'])]
    >>> windows("abcdefg", 3, 3, skip=2)
    [('c', ['a', 'c', 'e'])]
    """
    length = frames_spanned(num_frames, skip)
    runs = (list(frames[start : start + length : skip]) for start in range(0, len(frames) - length + 1, step))
    return [(run[num_frames // 2], run) for run in runs]


class Frames:
    """Pairs made from the frames of videos: the mean of an odd number of them, and the one in the middle.

    Every number of frames, every distance between them, every place in a video and every tile of it is a pair of its
    own. Only the tile is averaged; the frames themselves should fit into memory, or each pair decodes all of its.

    Args:
        photos: the frames.
        videos: indices of the frames of each video, in order.
        num_frames: fewest and most in a mean; odd numbers in this range are used.
        skip: least and greatest distance between two of them, 1 for neighbours.
        tile_px: longest side of a pair.
        display_share: of the pairs whose values are averaged as they stand, not in linear light.

    Raises:
        NothingToDoError: no video is long enough, or none can be read.
    """

    def __init__(
        self,
        photos: Photos,
        videos: Sequence[Sequence[int]],
        num_frames: tuple[int, int],
        skip: tuple[int, int],
        *,
        tile_px: int,
        display_share: float = 0.0,
    ) -> None:
        self.photos = photos
        self.display_share = display_share
        self.videos = [
            _Video(frames, size, _runs(len(frames), num_frames, skip), _tiles(*size, tile_px))
            for frames in videos
            if len(frames) >= frames_spanned(_odd(num_frames[0]), skip[0]) and (size := _size(photos, frames))
        ]
        self.ends = list(accumulate(len(video.runs) * len(video.tiles) for video in self.videos))
        if not self.ends:
            raise NothingToDoError("no video has enough frames that can be read; name folders of consecutive frames")

    def __len__(self) -> int:
        """Return the number of pairs."""
        return self.ends[-1]

    @property
    def num_frames(self) -> int:
        """The number of frames that means are made of."""
        return sum(len(video.frames) for video in self.videos)

    def name(self, index: int) -> str:
        """Return the path of the middle frame, and what was averaged around it where."""
        video, run, tile = self._find(index)
        middle = self.photos.name(video.frames[run.middle])
        return f"{middle} (mean of {run.num}, every {run.skip}., at {tile[1].start},{tile[0].start})"

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the blurred and the sharp tile, each (3,h,w) uint8, or uint16 where the frames are.

        Raises:
            ImageError: a frame cannot be read, or differs from the others in size or depth.
        """
        video, run, tile = self._find(index)
        sharp = self.photos.read(video.frames[run.middle])
        as_they_stand = index * _GOLDEN % 1 < self.display_share
        total = np.zeros((3, tile[0].stop - tile[0].start, tile[1].stop - tile[1].start), np.float32)
        for number in run.frames:
            frame = self.photos.read(video.frames[number])
            if frame.shape[1:] != video.size or frame.dtype != sharp.dtype:
                name = self.photos.name(video.frames[number])
                raise ImageError(f"{name}: its size or depth is not that of the other frames; leave it out")
            values = frame[:, tile[0], tile[1]].numpy()
            total += values if as_they_stand else _LIGHT[frame.dtype].take(values)
        mean = torch.from_numpy(total).div_(run.num)
        mean = mean if as_they_stand else to_srgb(mean).mul_(torch.iinfo(sharp.dtype).max)
        return mean.round_().to(sharp.dtype), sharp[:, tile[0], tile[1]]

    def divide_memory(self, num_parts: int) -> None:
        """Keep a part of the decoded frames in memory that could be kept so far, as one of several processes."""
        self.photos.divide_memory(num_parts)

    def _find(self, index: int) -> tuple[_Video, _Run, tuple[slice, slice]]:
        place = bisect_right(self.ends, index)
        video = self.videos[place]
        run, tile = divmod(index - (self.ends[place - 1] if place else 0), len(video.tiles))
        return video, video.runs[run], video.tiles[tile]


def open_frames(
    folder: Path,
    *,
    num_frames: tuple[int, int] = (5, 17),
    skip: tuple[int, int] = (1, 1),
    part: tuple[float, float] = (0.0, 1.0),
    tile_px: int = 256,
    display_share: float = 0.0,
    cache_bytes: int = CACHE_BYTES,
) -> Frames:
    """Open the frames of one or more videos, each in a folder of its own, in the natural order of their names.

    Args:
        folder: with frames, or with folders of them; or a pack.
        num_frames: fewest and most in a mean; odd numbers in this range are used.
        skip: least and greatest distance between two of them, 1 for neighbours; above, what moves fast shows as many
            separate edges, as no open shutter leaves them.
        part: of every video, from 0 to 1: what training and validation take must not overlap.
        tile_px: longest side of a pair in pixels, at least that of the patches.
        display_share: of the pairs whose values are averaged as they stand, as the pairs of GoPro were.
        cache_bytes: most that is kept of decoded frames in memory; 1280×720 takes 2.8 MB a frame.

    Raises:
        UsageError: there is no such path, or a range is empty.
        NothingToDoError: no pictures are there, or no video is long enough, or none can be read.
    """
    if not 1 <= num_frames[0] <= num_frames[1] or _odd(num_frames[0]) > num_frames[1]:
        raise UsageError(
            f"num_frames {list(num_frames)}: give the fewest and the most frames, an odd number among them"
        )
    if not 1 <= skip[0] <= skip[1]:
        raise UsageError(f"skip {list(skip)}: give the least and the greatest distance, from 1 upwards")
    if not 0 <= part[0] < part[1] <= 1 or tile_px < 1:
        raise UsageError(f"part {list(part)}, tile {tile_px}: give a range within 0 and 1, and a positive size")
    photos = open_photos(folder, cache_bytes=cache_bytes)
    videos: dict[PurePath, list[int]] = {}
    for index in sorted(range(len(photos)), key=lambda index: natural_order(photos.name(index))):
        videos.setdefault(PurePath(photos.name(index)).parent, []).append(index)
    kept = [frames[round(part[0] * len(frames)) : round(part[1] * len(frames))] for frames in videos.values()]
    needed, longest = frames_spanned(_odd(num_frames[0]), skip[0]), max(map(len, kept))
    if longest < needed:
        share = "has" if part == (0, 1) else f"has, from {part[0]:.0%} to {part[1]:.0%} of it,"
        told = f"a mean takes {needed} frames, and the longest video {share} {longest}"
        raise NothingToDoError(f"{folder}: {told}; name a folder of longer ones")
    return Frames(photos, kept, num_frames, skip, tile_px=tile_px, display_share=display_share)


class _Run(NamedTuple):
    first: int
    num: int
    skip: int

    @property
    def middle(self) -> int:
        return self.first + self.num // 2 * self.skip

    @property
    def frames(self) -> range:
        return range(self.first, self.first + self.num * self.skip, self.skip)


class _Video(NamedTuple):
    frames: Sequence[int]
    size: tuple[int, int]
    runs: Sequence[_Run]
    tiles: Sequence[tuple[slice, slice]]


def _runs(length: int, num_frames: tuple[int, int], skip: tuple[int, int]) -> list[_Run]:
    """Return every run that fits into a video."""
    return [
        _Run(first, num, distance)
        for num in range(_odd(num_frames[0]), num_frames[1] + 1, 2)
        for distance in range(skip[0], (skip[0] if num == 1 else skip[1]) + 1)
        for first in range(length - (num - 1) * distance)
    ]


def _odd(number: int) -> int:
    return number + 1 - number % 2


def _size(photos: Photos, frames: Sequence[int]) -> tuple[int, int] | None:
    """Return height and width of a video as its first readable frame has them, upright; None where there is none."""
    for frame in frames:
        with contextlib.suppress(ImageError):
            height, width = photos.read(frame).shape[1:]
            return height, width
    return None


def _tiles(height: int, width: int, tile_px: int) -> list[tuple[slice, slice]]:
    """Return tiles of one size that cover a frame and overlap evenly."""
    rows, columns = (_spread(side, min(side, tile_px)) for side in (height, width))
    return [(row, column) for row in rows for column in columns]


def _spread(side: int, tile: int) -> list[slice]:
    num = -(-side // tile)
    starts = [0] if num == 1 else [round(index * (side - tile) / (num - 1)) for index in range(num)]
    return [slice(start, start + tile) for start in starts]


def _light(dtype: torch.dtype) -> np.ndarray[Any, Any]:
    """Return the linear light of every value that a pixel can have."""
    white = torch.iinfo(dtype).max
    return to_linear(torch.arange(white + 1) / white).numpy()


_LIGHT = {dtype: _light(dtype) for dtype in (torch.uint8, torch.uint16)}
