"""What lies beyond the edge of a picture: its mirror image."""

from __future__ import annotations

import torch
from torch import Tensor


def mirror_borders(image: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Return the image with mirrored borders; the pixels on the edge are not repeated.

    Args:
        image: (...,H,W), from 1×1 upwards.
        top: rows to add, any number: the mirror image is mirrored again where it ends.
        bottom: likewise.
        left: columns to add.
        right: likewise.

    Returns:
        (...,top+H+bottom,left+W+right).
    """
    height, width = image.shape[-2:]
    rows, columns = _mirrored(height, top, bottom), _mirrored(width, left, right)
    return image.index_select(-2, rows).index_select(-1, columns)


def _mirrored(length: int, before: int, after: int) -> Tensor:
    """Return the indices that a mirrored axis reads, such as 2 1 0 1 2 1 0 for three pixels and two on each side."""
    period = max(1, 2 * (length - 1))
    index = torch.arange(-before, length + after) % period
    return torch.minimum(index, period - index) if length > 1 else index
