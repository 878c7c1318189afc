"""Geometric self-ensemble: the mean of what a network makes of a picture turned and mirrored.

References:
    Timofte, Rothe, Van Gool 2016, "Seven Ways to Improve Example-Based Single Image Super Resolution",
    arXiv:1511.02228; Lim, Son, Kim, Nah, Lee 2017, EDSR+, arXiv:1707.02921.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

# by the number of passes, the views besides the picture itself: a view is its quarter turns, plus 4 where it is
# mirrored before them
ENSEMBLES: dict[int, Sequence[int]] = {1: (), 2: (2,), 4: range(1, 4), 8: range(1, 8)}


def mean_over_views(restore: Callable[[Tensor], Tensor], image_NCHW: Tensor, num_views: int) -> Tensor:
    """Restore a picture in several orientations and average.

    Args:
        restore: keeps the shape.
        image_NCHW: any size.
        num_views: a key of `ENSEMBLES`: 1; 2 (upside down too); 4 (quarter turns); 8 (those mirrored too).
    """
    total = restore(image_NCHW)
    for view in ENSEMBLES[num_views]:
        total = total + _turned_back(restore(_turned(image_NCHW, view)), view)
    return total / num_views


def _turned(image: Tensor, view: int) -> Tensor:
    return (image.flip(-1) if view >= 4 else image).rot90(view % 4, (-2, -1))


def _turned_back(image: Tensor, view: int) -> Tensor:
    upright = image.rot90(-(view % 4), (-2, -1))
    return upright.flip(-1) if view >= 4 else upright
