"""Noise of one formula: Gaussian and Poisson, and the generator that a file's noise is drawn from."""

from __future__ import annotations

import hashlib
import math
import os
import unicodedata
from pathlib import PurePath

import torch
from torch import Tensor

MIN_PHOTONS, MAX_PHOTONS = 1e-6, 1e9
"""At white; no sensor's pixel counts a thousandth of it, and what is drawn above 2^24 is no longer exact in float32."""

_MAX_COUNT = 2.0**62  # that torch.poisson draws


def generator_for(seed: int, name: PurePath) -> torch.Generator:
    """Return the generator for one file, which depends on the seed and the file's name alone, not on its neighbours.

    Args:
        seed: of the run.
        name: path relative to the input folder; its suffix does not count, so that a.png and a.tif get the same noise.

    >>> from pathlib import PurePath
    >>> generator_for(7, PurePath("b/a.png")).initial_seed() == generator_for(7, PurePath("b/a.tif")).initial_seed()
    True
    """
    key = f"{seed}/".encode() + os.fsencode(unicodedata.normalize("NFC", name.with_suffix("").as_posix()))
    digest = hashlib.blake2b(key, digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def poisson_noise(image: Tensor, peak: float, generator: torch.Generator) -> Tensor:
    """Return the image as a sensor counts it: every value a Poisson number of photons.

    Args:
        image: (C,H,W) float32, nominal range [0,1]; below 0 no photon arrives.
        peak: the mean number of photons at 1.0 (white); the standard deviation at value v is √(v/peak).
        generator: source of randomness.

    Returns:
        The same shape, in steps of 1/peak, unclipped.

    Raises:
        ValueError: the peak is not a number of photons from `MIN_PHOTONS` to `MAX_PHOTONS`, or the image holds NaN,
            infinite values, or such as are beyond counting.
    """
    if not MIN_PHOTONS <= peak <= MAX_PHOTONS:
        raise ValueError(f"the peak is a number of photons from {MIN_PHOTONS:g} to {MAX_PHOTONS:g}, not {peak}")
    if not torch.isfinite(image).all():
        raise ValueError("NaN or infinite values have no photon count")
    photons = image.clamp(min=0) * peak
    if (photons > _MAX_COUNT).any():
        raise ValueError(f"values up to {image.max():g} times white have no photon count")
    return torch.poisson(photons, generator=generator).div_(peak)


def gaussian_noise(image: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Return the image plus white Gaussian noise, independent in every pixel and channel.

    Args:
        image: (C,H,W) float32, nominal range [0,1].
        sigma: standard deviation, in the same range (25/255 for what papers call 25).
        generator: source of randomness.

    Returns:
        The same shape, neither clipped nor quantised.

    Raises:
        ValueError: sigma is negative or not finite.
    """
    if not (sigma >= 0 and math.isfinite(sigma)):
        raise ValueError(f"sigma is a number from 0 upwards, not {sigma}")
    return torch.randn(image.shape, generator=generator).mul_(sigma).add_(image)
