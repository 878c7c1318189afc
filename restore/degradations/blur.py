"""Blur by the lens: Gaussian, or the disc that a point out of focus becomes.

Light adds up in linear light: hand in `to_linear` values and take `to_srgb` of the result for the blur of a lens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from restore.degradations.borders import mirror_borders


def gaussian_blur(image: Tensor, sigma_px: float) -> Tensor:
    """Return the image blurred by a Gaussian; the borders are mirrored.

    The kernel is the discrete Gaussian: its variance is σ² exactly, far below one pixel too, and two blurs in sequence
    equal one of the summed variances.

    Args:
        image: (C,H,W), from 1×1 upwards, any range.
        sigma_px: standard deviation in pixels; 0 leaves the image as it is.

    Returns:
        The same shape.

    Raises:
        ValueError: sigma_px is negative or not finite.

    References:
        Lindeberg 1990, "Scale-space for discrete signals", doi:10.1109/34.49051.
    """
    if not 0 <= sigma_px < math.inf:
        raise ValueError(f"a Gaussian blur has a standard deviation from 0 pixels upwards, not {sigma_px}")
    if sigma_px == 0:
        return image.clone()
    reach = math.ceil(6 * sigma_px) + 4
    length = 2 * reach + 1
    frequency = torch.arange(reach + 1, dtype=torch.float64) * (2 * math.pi / length)
    kernel = torch.fft.irfft(torch.exp(sigma_px**2 * (frequency.cos() - 1)), length).roll(reach)
    return convolve(convolve(image, kernel[None]), kernel[:, None])


def in_camera_sharpening(image: Tensor, sigma_px: float, radius_px: float, amount: float) -> Tensor:
    """Return the image as a video camera or a phone delivers it: soft, then sharpened by an unsharp mask.

    Args:
        image: (C,H,W), nominal range [0,1].
        sigma_px: of the softness, the standard deviation of a Gaussian in pixels.
        radius_px: of the mask's Gaussian, likewise: how wide the halos of edges are.
        amount: factor of the difference from the picture that the mask blurred.

    Returns:
        The same shape, clipped to [0,1], as halos at white and black are.

    Raises:
        ValueError: a width is negative or not finite.
    """
    soft = gaussian_blur(image, sigma_px)
    return torch.lerp(gaussian_blur(soft, radius_px), soft, 1 + amount).clamp_(0, 1)


def defocus_blur(image: Tensor, radius_px: float, blades: int = 0, rotation: float = 0.0) -> Tensor:
    """Return the image out of focus: every point becomes the picture of the aperture; the borders are mirrored.

    Args:
        image: (C,H,W), from 1×1 upwards, any range.
        radius_px: of the disc, or of the circle around the polygon, in pixels; up to 0.5 the image stays as it is.
        blades: sides of a polygonal aperture, 3 or more; 0 for a round one.
        rotation: of the polygon in radians, 0 for a corner to the right.

    Returns:
        The same shape.

    Raises:
        ValueError: a setting is out of range.
    """
    return convolve(image, aperture_kernel(radius_px, blades, rotation))


def aperture_kernel(radius_px: float, blades: int = 0, rotation: float = 0.0) -> Tensor:
    """Return the share of every pixel that the picture of an aperture covers, (k,k) float64 with sum 1, k odd.

    Args:
        radius_px: as in `defocus_blur`.
        blades: likewise.
        rotation: likewise.

    Raises:
        ValueError: a setting is out of range.
    """
    if not 0 <= radius_px < math.inf:
        raise ValueError(f"a defocus blur has a radius from 0 pixels upwards, not {radius_px}")
    if blades < 0 or blades in {1, 2}:
        raise ValueError(f"an aperture has 3 blades or more, or 0 when it is round, not {blades}")
    reach = max(0, math.ceil(radius_px - 0.5))
    if reach == 0:
        return torch.ones(1, 1, dtype=torch.float64)
    size, parts = 2 * reach + 1, max(2, round(128 / (1 + radius_px)))  # each pixel is looked at in parts×parts points
    points = (torch.arange(size * parts, dtype=torch.float64) + 0.5) / parts - size / 2
    distance = torch.hypot(points[:, None], points)
    inside = distance <= radius_px
    if blades:
        half = math.pi / blades
        angle = torch.atan2(points[:, None], points) - rotation
        inside = distance * torch.cos(angle.remainder(2 * half) - half) <= radius_px * math.cos(half)
    covered = inside.double().view(size, parts, size, parts).mean((1, 3))
    return covered / covered.sum()


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """Return the image convolved with a kernel of any size, by Fourier transform; the borders are mirrored.

    Args:
        image: (C,H,W), from 1×1 upwards, any range.
        kernel: (h,w), h and w odd; its middle falls on the pixel that it makes.

    Returns:
        The same shape and type.
    """
    height, width = kernel.shape
    assert height % 2 == 1
    assert width % 2 == 1
    if kernel.numel() == 1:
        return image * kernel.item()
    padded = mirror_borders(image, height // 2, height // 2, width // 2, width // 2)
    size = padded.shape[-2:]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel.to(image), size)
    blurred: Tensor = torch.fft.irfft2(spectrum, size)
    return blurred[..., height - 1 :, width - 1 :].contiguous()
