from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage import metrics as skimage_metrics

from restore.metrics import psnr
from restore.metrics.psnr import CHUNK

oracle: Callable[..., float] = skimage_metrics.peak_signal_noise_ratio


def pair(seed: int, shape: tuple[int, ...], dtype: type, error: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    peak = np.iinfo(dtype).max
    clean = rng.random(shape)
    noisy = np.clip(clean + error * rng.standard_normal(shape), 0, 1)
    return (clean * peak).round().astype(dtype), (noisy * peak).round().astype(dtype)


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (33, 64), (31, 17, 3), (64, 64, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_agrees_with_skimage(shape: tuple[int, ...], dtype: type) -> None:
    reference, restored = pair(1, shape, dtype, 0.1)
    peak = np.iinfo(dtype).max
    expected = oracle(reference, restored, data_range=peak)
    in_unit = psnr(torch.from_numpy(reference / peak).float(), torch.from_numpy(restored / peak).float())
    as_stored = psnr(torch.from_numpy(reference.astype(float)), torch.from_numpy(restored.astype(float)), peak)
    assert in_unit == pytest.approx(expected, abs=1e-4)
    assert as_stored == pytest.approx(expected, abs=1e-9)


def test_a_large_picture_is_summed_in_chunks() -> None:
    reference = torch.zeros(CHUNK + 5)
    restored = torch.zeros(CHUNK + 5)
    restored[-1] = 1.0
    assert psnr(reference, restored) == pytest.approx(10 * math.log10(CHUNK + 5), abs=1e-9)


def test_identical_is_infinite_and_nothing_is_capped() -> None:
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert psnr(image, image) == math.inf
    nearly = image.double()
    nearly[0, 0, 0] += 1e-6
    assert psnr(image.double(), nearly) > 130


def test_batch_of_one_axis_more_gives_the_same() -> None:
    image, other = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    assert psnr(image, other) == psnr(image[None], other[None]) == psnr(other, image)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(3, 4, 4\) and \(1, 4, 4\)"):
        psnr(torch.zeros(3, 4, 4), torch.zeros(1, 4, 4))


def test_an_infinite_value_is_infinitely_wrong() -> None:
    picture = torch.rand(3, 9, 9)
    broken = picture.clone()
    broken[1, 2, 3] = math.inf
    assert psnr(picture, broken) == -math.inf
