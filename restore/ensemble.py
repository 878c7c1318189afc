"""Geometric self-ensemble: the mean of what a network makes of a picture turned and mirrored.

References:
    Timofte, Rothe, Van Gool 2016, "Seven Ways to Improve Example-Based Single Image Super Resolution",
    arXiv:1511.02228; Lim, Son, Kim, Nah, Lee 2017, EDSR+, arXiv:1707.02921.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# by the number of passes, the views: quarter turns, plus 4 where the picture is mirrored before them
ENSEMBLES: dict[int, Sequence[int]] = {1: (0,), 2: (0, 1), 4: range(4), 8: range(8)}


def mean_over_views(
    restore: Callable[[Tensor], Tensor],
    image_NCHW: Tensor,
    num_views: int,
    complete: Callable[[Tensor], Tensor],
) -> Tensor:
    """Restore pictures in several orientations and average.

    Every second view is shifted by one pixel in both directions, too: strides pair its pixels differently, so that the
    errors of two views have less in common.

    Args:
        restore: keeps height and width; a picture that it fails on comes back as NaN, all of it.
        image_NCHW: any size, and any channels.
        num_views: a key of `ENSEMBLES`: 1; 2 (a quarter turn too); 4 (all quarter turns); 8 (those mirrored too).
        complete: continues a picture to the right and downwards to sides that strides divide: those of a turned view
            would start at its far border.

    Returns:
        The mean over the views that did not fail; NaN for a picture on which all did.
    """
    if num_views == 1:
        return restore(image_NCHW)
    height, width = image_NCHW.shape[-2:]
    total, num_sound = torch.zeros(()), torch.zeros(())
    for view in ENSEMBLES[num_views]:
        shift = view % 2
        restored = _turned_back(restore(_turned(complete(_shifted(image_NCHW, shift)), view)), view)
        is_sound = restored[:, :1, :1, :1].isfinite()
        total = total + torch.where(is_sound, restored[..., shift : shift + height, shift : shift + width], 0)
        num_sound = num_sound + is_sound.to(image_NCHW.dtype)
    return total / num_sound


def _shifted(image: Tensor, shift: int) -> Tensor:
    """Continue a picture to the left and upwards, mirrored."""
    mode = "reflect" if min(image.shape[-2:]) > shift else "replicate"  # a single row has no mirror image
    return F.pad(image, (shift, 0, shift, 0), mode=mode)


def _turned(image: Tensor, view: int) -> Tensor:
    return (image.flip(-1) if view >= 4 else image).rot90(view % 4, (-2, -1))


def _turned_back(image: Tensor, view: int) -> Tensor:
    upright = image.rot90(-(view % 4), (-2, -1))
    return upright.flip(-1) if view >= 4 else upright
