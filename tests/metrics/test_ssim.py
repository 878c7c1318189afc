from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import skimage.metrics
import torch
from PIL import Image

from restore.metrics import ms_ssim, ssim
from restore.metrics.ssim import BAND_PIXELS

structural_similarity: Callable[..., float] = skimage.metrics.structural_similarity
data: Any = skimage.data


def oracle(reference: np.ndarray, restored: np.ndarray, data_range: float) -> float:
    return structural_similarity(
        reference,
        restored,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=data_range,
        channel_axis=-1 if reference.ndim == 3 else None,
    )


def channels_first(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1)))


def noisy(clean: np.ndarray, sigma: float, dtype: type) -> Any:
    peak = np.iinfo(dtype).max
    noise = np.random.default_rng(2).standard_normal(clean.shape) * sigma
    return np.clip(clean + noise * peak, 0, peak).round().astype(dtype)


@pytest.mark.parametrize("shape", [(11, 11), (11, 40), (53, 12), (64, 64), (31, 17, 3), (97, 64, 3), (64, 97, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("sigma", [0.02, 0.3])
def test_agrees_with_skimage(shape: tuple[int, ...], dtype: type, sigma: float) -> None:
    peak = np.iinfo(dtype).max
    picture = data.astronaut()[: shape[0], 200 : 200 + shape[1]] if len(shape) == 3 else data.camera()[: shape[0]]
    clean = (picture[: shape[0], : shape[1]] / 255 * peak).round().astype(dtype)
    restored = noisy(clean, sigma, dtype)
    expected = oracle(clean, restored, peak)
    assert ssim(channels_first(clean / peak).float(), channels_first(restored / peak).float()) == pytest.approx(
        expected, abs=1e-4
    )
    as_stored = ssim(channels_first(clean.astype(float)), channels_first(restored.astype(float)), peak)
    assert as_stored == pytest.approx(expected, abs=1e-9)


def test_agrees_with_skimage_over_many_bands() -> None:
    clean = data.astronaut()
    assert clean.shape[0] * clean.shape[1] > 3 * BAND_PIXELS
    restored = noisy(clean, 0.1, np.uint8)
    in_unit = ssim(channels_first(clean).float() / 255, channels_first(restored).float() / 255)
    assert in_unit == pytest.approx(oracle(clean, restored, 255), abs=1e-5)


def test_a_row_wider_than_a_band() -> None:
    rng = np.random.default_rng(0)
    clean, restored = rng.random((2, 13, BAND_PIXELS + 100))
    assert ssim(torch.from_numpy(clean), torch.from_numpy(restored)) == pytest.approx(
        oracle(clean, restored, 1.0), abs=1e-9
    )


def test_agrees_with_skimage_on_a_photograph(shared: Path) -> None:
    clean = np.asarray(Image.open(min((shared / "data/test/cbsd68").iterdir())))
    restored = noisy(clean, 25 / 255, np.uint8)
    in_unit = ssim(channels_first(clean).float() / 255, channels_first(restored).float() / 255)
    assert in_unit == pytest.approx(oracle(clean, restored, 255), abs=1e-5)


def test_identical_pictures_reach_one_exactly() -> None:
    image = torch.rand(3, 40, 23, generator=torch.Generator().manual_seed(0))
    assert ssim(image, image) == 1.0
    assert ssim(torch.zeros(3, 20, 20), torch.zeros(3, 20, 20)) == 1.0


def test_constant_pictures_differ_in_luminance_alone() -> None:
    c1 = 0.01**2
    expected = (2 * 0.5 * 0.25 + c1) / (0.5**2 + 0.25**2 + c1)
    half, quarter = torch.full((1, 20, 20), 0.5), torch.full((1, 20, 20), 0.25)
    assert ssim(half, quarter) == pytest.approx(expected, abs=1e-7)
    assert ssim(half.double(), quarter.double()) == pytest.approx(expected, abs=1e-12)


def test_channels_are_averaged() -> None:
    a, b = torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert ssim(a, b) == pytest.approx(sum(ssim(a[i], b[i]) for i in range(3)) / 3, abs=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (10, 50), (50, 10)])
def test_smaller_than_the_window_is_undefined(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"at least 11 pixels a side, and this picture has {shape[1]}×{shape[0]}"):
        ssim(torch.zeros(3, *shape), torch.zeros(3, *shape))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        ssim(torch.zeros(3, 20, 20), torch.zeros(3, 20, 21))


def test_rounding_exceeds_no_range() -> None:
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        nearly_flat = 0.5 + 0.01 * torch.rand(1, 16, 16, generator=generator)
        assert ssim(nearly_flat, nearly_flat + 1e-6) <= 1  # unclamped, some of them exceed it in the ninth digit


def test_a_picture_with_a_nan_has_no_score() -> None:
    picture = torch.rand(3, 200, 200)
    broken = picture.clone()
    broken[0, 5, 5] = float("nan")
    assert np.isnan(ssim(picture, broken))
    assert np.isnan(ms_ssim(picture, broken))
