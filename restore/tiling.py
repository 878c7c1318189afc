"""Restore a large picture in overlapping tiles, blended with ramps that sum to one, a strip of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tiling:
    """How pictures are split.

    Args:
        size: side of a tile in pixels.
        overlap: pixels that neighbouring tiles share.
        multiple: tiles start at multiples of this, so that a network's strides fall on the same pixels as in the
            whole picture; size and overlap are multiples of it too.
    """

    size: int
    overlap: int
    multiple: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.size or self.size % self.multiple or self.overlap % self.multiple:
            raise ValueError(
                f"tiles of {self.size} overlapping by {self.overlap} do not fit multiples of {self.multiple}"
            )

    def spans(self, length: int) -> list[slice]:
        """Return the tiles along an axis of `length` pixels; the last one may be shorter."""
        step = self.size - self.overlap
        num_tiles = max(1, -(-(length - self.overlap) // step))
        return [slice(i * step, min(i * step + self.size, length)) for i in range(num_tiles)]


def restore_strips(
    height: int, width: int, tiling: Tiling, restore_tile: Callable[[slice, slice], Tensor]
) -> Iterator[tuple[slice, Tensor]]:
    """Restore tile by tile and yield finished rows from top to bottom.

    Args:
        height: of the picture.
        width: of the picture.
        tiling: how to split it.
        restore_tile: takes the rows and columns of a tile, returns its (N,C,rows,columns) float32 on the CPU.

    Yields:
        A range of rows and their (N,C,rows,width) pixels; at no time are more than two strips of tiles in memory.
    """
    row_spans = tiling.spans(height)
    carried: Tensor | None = None
    for index, rows in enumerate(row_spans):
        strip = _restore_strip(rows, width, tiling, restore_tile)
        if carried is not None:
            shared = carried.shape[-2]
            rising = _rising(shared).view(-1, 1)
            strip[..., :shared, :] = carried * (1 - rising) + strip[..., :shared, :] * rising
        end = row_spans[index + 1].start if index + 1 < len(row_spans) else height
        num_done = end - rows.start
        yield slice(rows.start, end), strip[..., :num_done, :]
        carried = strip[..., num_done:, :].clone()


def _restore_strip(rows: slice, width: int, tiling: Tiling, restore_tile: Callable[[slice, slice], Tensor]) -> Tensor:
    column_spans = tiling.spans(width)
    if len(column_spans) == 1:
        return restore_tile(rows, column_spans[0])
    strip: Tensor | None = None
    done = 0
    for columns in column_spans:
        tile = restore_tile(rows, columns)
        if strip is None:
            strip = tile.new_empty(*tile.shape[:-1], width)
        shared = done - columns.start
        rising = _rising(shared)
        strip[..., columns.start : done] *= 1 - rising
        strip[..., columns.start : done] += tile[..., :shared] * rising
        strip[..., done : columns.stop] = tile[..., shared:]
        done = columns.stop
    assert strip is not None
    return strip


def _rising(length: int) -> Tensor:
    """Return the weights of the later tile over an overlap: a ramp, flat in either tile's spoilt outer quarter."""
    positions = (torch.arange(length) + 0.5) / length
    return ((positions - 0.25) * 2).clamp(0, 1)
