"""Structural similarity over five scales."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from restore.images.opencv import cv2
from restore.metrics.ssim import WINDOW, Plane, mean_over_channels, mean_similarity, paired_planes

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST_SIDE = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1  # halved four times, the window still fits


class Clamped(float):
    """A score of which a term was negative and counted as 0: the pictures anticorrelate in some channel and scale."""


def ms_ssim(reference: Tensor, restored: Tensor, data_range: float = 1.0) -> float:
    """Return the structural similarity over five scales, per channel, then averaged over the channels.

    The product over the scales of the mean contrast-structure factor to the power of the scale's weight, and at the
    coarsest scale of the mean SSIM. The window is that of `ssim`; between scales stand means of 2×2 pixels, an odd
    side completed by its last row or column.

    Args:
        reference: (C,H,W) or (H,W), range [0, data_range], at least 161 pixels a side.
        restored: the same shape.
        data_range: the peak value.

    Returns:
        Between 0 and 1, which identical pictures reach; a `Clamped` number where a negative mean was taken as 0.

    Raises:
        ValueError: the shapes differ, or a side is too small for the coarsest window.

    References:
        Wang, Simoncelli, Bovik: Multi-scale structural similarity for image quality assessment (2003),
        doi:10.1109/ACSSC.2003.1292216. Agrees with pytorch-msssim where the sides stay even through four halvings.

    >>> import torch
    >>> ramp = torch.linspace(0, 1, 176).expand(3, 176, 176)
    >>> ms_ssim(ramp, ramp)
    1.0
    >>> black, grey = torch.zeros(3, 176, 176), torch.full((3, 176, 176), 0.1)
    >>> round(ms_ssim(black, grey), 4)  # they differ in luminance alone: (C1 / (0.1² + C1))^0.1333
    0.5405
    """
    return ssim_and_ms_ssim(reference, restored, data_range)[1]


def ssim_and_ms_ssim(reference: Tensor, restored: Tensor, data_range: float = 1.0) -> tuple[float, float]:
    """Return both scores for the price of the second: SSIM is what its finest scale computes anyway.

    Args:
        reference: (C,H,W) or (H,W), range [0, data_range], at least 161 pixels a side.
        restored: the same shape.
        data_range: the peak value.

    Returns:
        What `ssim` and `ms_ssim` return.

    Raises:
        ValueError: the shapes differ, or a side is too small for the coarsest window.
    """
    planes = paired_planes(reference, restored, name="MS-SSIM", smallest_side=SMALLEST_SIDE)
    scales = np.array([_over_scales(*pair, data_range) for pair in planes])  # (C, scales, SSIM and contrast)
    terms = np.concatenate([scales[:, :-1, 1], scales[:, -1:, 0]], axis=1)
    products = np.prod(np.maximum(terms, 0) ** SCALE_WEIGHTS, axis=1)
    score = mean_over_channels(products)
    return mean_over_channels(scales[:, 0, 0]), Clamped(score) if (terms < 0).any() else score


def _over_scales(reference: Plane, restored: Plane, data_range: float) -> list[tuple[float, float]]:
    similarities = [mean_similarity(reference, restored, data_range)]
    for _ in SCALE_WEIGHTS[1:]:
        reference, restored = _halved(reference), _halved(restored)
        similarities.append(mean_similarity(reference, restored, data_range))
    return similarities


def _halved(plane: Plane) -> Plane:
    """Return the means of 2×2 pixels, an odd side completed by its last row or column."""
    odd_rows, odd_columns = (side % 2 for side in plane.shape)
    if odd_rows or odd_columns:
        plane = cv2.copyMakeBorder(plane, 0, odd_rows, 0, odd_columns, cv2.BORDER_REPLICATE)
    return cv2.resize(plane, (plane.shape[1] // 2, plane.shape[0] // 2), interpolation=cv2.INTER_AREA)
