"""Structural similarity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from restore.images.opencv import cv2

Plane = npt.NDArray[np.float64]

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
BAND_PIXELS = 2**16  # pixels of a plane computed at a time: the moments of a band stay in the cache


def ssim(reference: Tensor, restored: Tensor, data_range: float = 1.0) -> float:
    """Return the mean structural similarity of a restored picture, per channel, then averaged over the channels.

    The window is a Gaussian of 11 pixels, σ 1.5; covariances are those of the population; only windows that lie wholly
    inside the picture count. All is computed in float64.

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
    if reference.shape != restored.shape:
        raise ValueError(f"shapes differ: {tuple(reference.shape)} and {tuple(restored.shape)}")
    height, width = reference.shape[-2:]
    if min(height, width) < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW} pixels a side, and this picture has {width}×{height}")
    planes = zip(_planes(reference), _planes(restored), strict=True)
    return float(np.mean([_ssim_of_planes(*pair, data_range) for pair in planes]))


def _planes(image: Tensor) -> npt.NDArray[np.float32 | np.float64]:
    """Return (H,W) planes as arrays: OpenCV filters them several times faster than torch, and in one thread."""
    return image.detach().cpu().numpy().reshape(-1, *image.shape[-2:])


def _ssim_of_planes(
    reference: npt.NDArray[np.float32 | np.float64], restored: npt.NDArray[np.float32 | np.float64], data_range: float
) -> float:
    num_rows, num_columns = (side - WINDOW + 1 for side in reference.shape)
    band_rows = max(1, BAND_PIXELS // num_columns)
    total = 0.0
    for top in range(0, num_rows, band_rows):
        rows = slice(top, min(top + band_rows, num_rows) + WINDOW - 1)
        x, y = reference[rows].astype(np.float64), restored[rows].astype(np.float64)
        total += float(_ssim_map(x, y, data_range).sum())
    return total / float(num_rows * num_columns)


def _ssim_map(x: Plane, y: Plane, data_range: float) -> Plane:
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_x, mean_y = _blur(x), _blur(y)
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance = _blur(x * y) - product
    variances = _blur(x * x + y * y) - squares
    similarity: Plane = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return similarity


def _blur(plane: Plane) -> Plane:
    """Return the Gaussian window's weighted mean at every place where it fits."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights /= weights.sum()
    margin = WINDOW // 2
    return cv2.sepFilter2D(plane, -1, weights, weights)[margin:-margin, margin:-margin]  # type: ignore[return-value]
