from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from restore.degradations import aperture_kernel, convolve, defocus_blur, gaussian_blur

Blur = Callable[[Tensor, float], Tensor]
both = pytest.mark.parametrize("blur", [gaussian_blur, defocus_blur])


def point(side: int = 41) -> Tensor:
    image = torch.zeros(1, side, side)
    image[0, side // 2, side // 2] = 1
    return image


def variances(spread: Tensor) -> tuple[float, float]:
    """Return the variances of a point's picture downwards and across, in square pixels."""
    place = torch.arange(spread.shape[-1]) - spread.shape[-1] // 2
    return float(spread[0].sum(1) @ place.square().to(spread)), float(spread[0].sum(0) @ place.square().to(spread))


@both
@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 2, 3), (1, 65, 64), (3, 1, 9)])
def test_any_size_keeps_its_shape_and_its_light(blur: Blur, shape: tuple[int, int, int]) -> None:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    blurred = blur(image, 2.3)
    assert torch.equal(image, before)
    assert blurred.shape == image.shape
    assert blurred.dtype == torch.float32
    assert blurred.is_contiguous()
    assert blurred.min() >= image.min() - 1e-6
    assert blurred.max() <= image.max() + 1e-6
    assert torch.allclose(blur(torch.full(shape, 0.3), 2.3), torch.full(shape, 0.3), atol=1e-6)


@both
def test_no_blur_leaves_the_image(blur: Blur) -> None:
    image = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(blur(image, 0), image)


@both
@pytest.mark.parametrize("size", [-1.0, math.nan, math.inf])
def test_bad_sizes(blur: Blur, size: float) -> None:
    with pytest.raises(ValueError, match="from 0 pixels upwards"):
        blur(torch.zeros(1, 4, 4), size)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0, 2.7])
def test_gaussian_has_its_variance_below_a_pixel_too(sigma: float) -> None:
    spread = gaussian_blur(point(61).double(), sigma)  # in float32 the transform's rounding, far out, adds up to 1e-3
    assert variances(spread) == pytest.approx((sigma**2, sigma**2), rel=1e-9)
    assert spread.sum().item() == pytest.approx(1, abs=1e-12)
    assert torch.allclose(spread, spread.flip(2), atol=1e-12)


def test_two_gaussians_equal_one_of_the_summed_variances() -> None:
    assert torch.allclose(gaussian_blur(gaussian_blur(point(), 0.6), 0.8), gaussian_blur(point(), 1.0), atol=1e-6)


@pytest.mark.parametrize("radius", [0.8, 1.5, 4.2, 9.0])
def test_disc_has_the_area_and_the_variance_of_a_circle(radius: float) -> None:
    kernel = aperture_kernel(radius)
    assert 1 / kernel.max().item() == pytest.approx(math.pi * radius**2, rel=0.02)  # pixels inside are whole
    pixel = 1 / 12  # the variance of a pixel itself
    coarseness = 0.02 if radius > 4 else 0.12  # few pixels cannot tell the variance better
    assert variances(kernel[None].float()) == pytest.approx((radius**2 / 4 + pixel,) * 2, rel=coarseness)


def test_disc_grows_smoothly() -> None:
    widths = [variances(aperture_kernel(radius)[None].float())[0] for radius in (1.4, 1.45, 1.5, 1.55, 1.6)]
    assert widths == sorted(widths)
    assert max(b - a for a, b in itertools.pairwise(widths)) < 0.06


@pytest.mark.parametrize("blades", [3, 5, 6])
def test_polygon_has_its_area_and_turns(blades: int) -> None:
    radius = 8.0
    area = blades / 2 * radius**2 * math.sin(2 * math.pi / blades)
    kernel = aperture_kernel(radius, blades)
    assert 1 / kernel.max().item() == pytest.approx(area, rel=0.02)
    assert torch.allclose(aperture_kernel(radius, blades, 2 * math.pi / blades), kernel, atol=5e-4)
    assert not torch.allclose(aperture_kernel(radius, blades, math.pi / blades), kernel, atol=1e-3)


def test_polygon_points_to_the_right() -> None:
    kernel = aperture_kernel(6.0, 3)
    columns = kernel.sum(0) > 0
    assert columns[-1]
    assert not columns[:3].any()


@pytest.mark.parametrize("blades", [-1, 1, 2])
def test_bad_blades(blades: int) -> None:
    with pytest.raises(ValueError, match="3 blades or more"):
        aperture_kernel(3.0, blades)


def test_convolution_equals_the_sum_written_out() -> None:
    generator = torch.Generator().manual_seed(1)
    image, kernel = torch.rand(1, 6, 7, generator=generator), torch.rand(3, 5, generator=generator)
    rows, columns = [1, *range(6), 4], [2, 1, *range(7), 5, 4]  # mirrored
    expected = torch.zeros(1, 6, 7)
    for y in range(6):
        for x in range(7):
            window = image[0][rows][:, columns][y : y + 3, x : x + 5]
            expected[0, y, x] = (window * kernel.flip(0, 1)).sum()
    assert torch.allclose(convolve(image, kernel), expected, atol=1e-5)
