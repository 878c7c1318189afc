"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHUNK = 2**22  # elements taken to float64 at a time, so that a large picture is not held three times


def psnr(reference: Tensor, restored: Tensor, data_range: float = 1.0) -> float:
    """Return the PSNR of a restored picture in dB, the mean squared error taken over all channels in float64.

    Args:
        reference: (C,H,W) or any equal shape, range [0, data_range].
        restored: the same shape.
        data_range: the peak value.

    Returns:
        dB; infinite for identical pictures, negative infinity where a value is infinite. It is never capped.

    Raises:
        ValueError: the shapes differ.

    References:
        Agrees with `skimage.metrics.peak_signal_noise_ratio`.

    >>> import torch
    >>> round(psnr(torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.1)), 3)
    20.0
    """
    if reference.shape != restored.shape:
        raise ValueError(f"shapes differ: {tuple(reference.shape)} and {tuple(restored.shape)}")
    chunks = zip(torch.split(reference.flatten(), CHUNK), torch.split(restored.flatten(), CHUNK), strict=True)
    error = sum(torch.sum((a.double() - b.double()) ** 2).item() for a, b in chunks) / reference.numel()
    if error in (0, math.inf):
        return math.inf if error == 0 else -math.inf
    return 10 * math.log10(data_range**2 / error)
