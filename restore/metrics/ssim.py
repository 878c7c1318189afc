"""Structural similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from restore.images.opencv import cv2

Plane = npt.NDArray[Any]  # (H,W), float32 or float64

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
BAND_PIXELS = 2**16  # pixels of a plane computed at a time: the moments of a band stay in the cache


def ssim(reference: Tensor, restored: Tensor, data_range: float = 1.0) -> float:
    """Return the mean structural similarity of a restored picture, per channel, then averaged over the channels.

    The window is a Gaussian of 11 pixels, σ 1.5; covariances are those of the population; only windows that lie wholly
    inside the picture count. The maps are computed in float64 for float64 pictures, else in float32.

    Args:
        reference: (C,H,W) or (H,W), range [0, data_range], at least 11 pixels a side.
        restored: the same shape.
        data_range: the peak value.

    Returns:
        At most 1, which identical pictures reach.

    Raises:
        ValueError: the shapes differ, or a side is smaller than the window.

    References:
        Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to structural similarity
        (2004), doi:10.1109/TIP.2003.819861. Agrees with `skimage.metrics.structural_similarity(gaussian_weights=True,
        sigma=1.5, use_sample_covariance=False)`.

    >>> import torch
    >>> ramp = torch.linspace(0, 1, 16).expand(3, 16, 16)
    >>> ssim(ramp, ramp)
    1.0
    >>> round(ssim(torch.zeros(3, 16, 16), torch.full((3, 16, 16), 0.1)), 4)  # C1 / (0.1² + C1)
    0.0099
    """
    planes = paired_planes(reference, restored, name="SSIM", smallest_side=WINDOW)
    return mean_over_channels([mean_similarity(*pair, data_range)[0] for pair in planes])


def mean_over_channels(scores: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Return the mean of the channels' scores, at most 1, which rounding exceeds in the ninth digit."""
    return float(np.minimum(1.0, np.mean(scores)))  # which stays NaN, as Python's min does not


def paired_planes(reference: Tensor, restored: Tensor, *, name: str, smallest_side: int) -> list[tuple[Plane, Plane]]:
    """Return the channels as pairs of (H,W) arrays: OpenCV filters them several times faster than torch.

    Raises:
        ValueError: the shapes differ, or a side is too small for the metric of that name.
    """
    if reference.shape != restored.shape:
        raise ValueError(f"shapes differ: {tuple(reference.shape)} and {tuple(restored.shape)}")
    height, width = reference.shape[-2:]
    if min(height, width) < smallest_side:
        raise ValueError(f"{name} needs at least {smallest_side} pixels a side, and this picture has {width}×{height}")
    return list(zip(_planes(reference), _planes(restored), strict=True))


def mean_similarity(reference: Plane, restored: Plane, data_range: float) -> tuple[float, float]:
    """Return the means of SSIM and of its contrast-structure factor over all windows of two planes."""
    num_rows, num_columns = (side - WINDOW + 1 for side in reference.shape)
    band_rows = max(1, BAND_PIXELS // num_columns)
    totals = np.zeros(2)
    for top in range(0, num_rows, band_rows):
        rows = slice(top, min(top + band_rows, num_rows) + WINDOW - 1)
        maps = _similarity_maps(reference[rows], restored[rows], data_range)
        totals += [float(values.sum(dtype=np.float64)) for values in maps]
    similarity, contrast = totals / (num_rows * num_columns)
    return float(similarity), float(contrast)


def _planes(image: Tensor) -> Plane:
    planes = image.detach().cpu().to(torch.promote_types(image.dtype, torch.float32))
    return planes.reshape(-1, *image.shape[-2:]).numpy()


def _similarity_maps(x: Plane, y: Plane, data_range: float) -> tuple[Plane, Plane]:
    """Return SSIM and its contrast-structure factor at every place where the window fits."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    middle = data_range / 2  # covariances do not see it, and squares of smaller numbers lose fewer digits
    x, y = x - middle, y - middle
    mean_x, mean_y = _blur(x), _blur(y)
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance = _blur(x * y) - product
    variances = _blur(x * x + y * y) - squares
    contrast: Plane = (2 * covariance + c2) / (variances + c2)
    mean_x, mean_y = mean_x + middle, mean_y + middle
    luminance: Plane = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance * contrast, contrast


def _blur(plane: Plane) -> Plane:
    """Return the Gaussian window's weighted mean at every place where it fits."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights /= weights.sum()
    margin = WINDOW // 2
    return cv2.sepFilter2D(plane, -1, weights, weights)[margin:-margin, margin:-margin]
