"""Degradations for test material: noise and compression, every draw from an explicit generator."""

from __future__ import annotations

import hashlib
import io
import math
import os
from pathlib import PurePath

import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

FULL_CHROMA_QUALITY = 90


def generator_for(seed: int, name: PurePath) -> torch.Generator:
    """Return the generator for one file, which depends on the seed and the file's name alone, not on its neighbours.

    Args:
        seed: of the run.
        name: path relative to the input folder; its suffix does not count, so that a.png and a.tif get the same noise.

    >>> from pathlib import PurePath
    >>> generator_for(7, PurePath("b/a.png")).initial_seed() == generator_for(7, PurePath("b/a.tif")).initial_seed()
    True
    """
    key = f"{seed}/".encode() + os.fsencode(name.with_suffix("").as_posix())
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
        ValueError: the peak is not a positive number, or the image holds NaN or infinite values.
    """
    if not (peak > 0 and math.isfinite(peak)):
        raise ValueError(f"the peak is a positive number of photons, not {peak}")
    if not torch.isfinite(image).all():
        raise ValueError("NaN or infinite values have no photon count")
    return torch.poisson(image.clamp(min=0) * peak, generator=generator).div_(peak)


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


def jpeg(image: Tensor, quality: int) -> Tensor:
    """Return the image after a JPEG file: clipped, rounded to 8 bits, compressed and decoded.

    Below quality 90 the colours have half the resolution (4:2:0), as cameras and `restore.images.write_photo` do it.

    Args:
        image: (C,H,W), one or three channels, nominal range [0,1].
        quality: 1 to 100, as libjpeg counts it.

    Returns:
        The same shape, float32 in [0,1].

    Raises:
        ValueError: the quality is out of range, or a side exceeds the 65,500 pixels of the format.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality goes from 1 to 100, not {quality}")
    height, width = image.shape[-2:]
    if max(height, width) > 65500:
        raise ValueError(f"a JPEG has at most 65,500 pixels a side, and this picture has {width}×{height}")
    codes = image.clamp(0, 1).mul_(255).round_().to(torch.uint8)
    subsampling = "4:4:4" if quality >= FULL_CHROMA_QUALITY else "4:2:0"
    array = (codes[0] if len(codes) == 1 else codes.permute(1, 2, 0)).contiguous().numpy()
    with io.BytesIO() as file:
        Image.fromarray(array).save(file, "JPEG", quality=quality, subsampling=subsampling)
        file.seek(0)
        # Image.open would refuse large pictures as decompression bombs, and this one we wrote ourselves
        decoded = torch.frombuffer(bytearray(JpegImageFile(file).tobytes()), dtype=torch.uint8)
    return decoded.view(height, width, len(codes)).permute(2, 0, 1).float().div_(255)


def degrade(
    image: Tensor,
    generator: torch.Generator,
    *,
    peak: float | None = None,
    sigma: float = 0.0,
    quality: int | None = None,
) -> Tensor:
    """Degrade an image in the order of a camera: shot noise, read noise, compression; what is not given is left out.

    Args:
        image: (C,H,W) float32, nominal range [0,1].
        generator: source of randomness.
        peak: photons at white, of `poisson_noise`.
        sigma: standard deviation of `gaussian_noise`, in [0,1].
        quality: of `jpeg`, 1 to 100.

    Returns:
        The same shape; clipped and quantised only by `jpeg`.

    Raises:
        ValueError: a setting is out of range.
    """
    if peak is not None:
        image = poisson_noise(image, peak, generator)
    if sigma:
        image = gaussian_noise(image, sigma, generator)
    if quality is not None:
        image = jpeg(image, quality)
    return image
