from __future__ import annotations

import importlib
import pickle

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim as oracle  # type: ignore[import-untyped]
from torch import Tensor

from restore.metrics import Clamped, ms_ssim, score_all, ssim, ssim_and_ms_ssim
from restore.metrics.ms_ssim import SCALE_WEIGHTS


def pair(shape: tuple[int, ...], error: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A smooth picture with a little texture, and the same with noise."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(1, shape[0], 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(small, size=shape[1:], mode="bicubic")[0]
    clean = (smooth + 0.03 * torch.randn(shape, generator=generator)).clamp(0, 1)
    return clean, (clean + error * torch.randn(shape, generator=generator)).clamp(0, 1)


def plainly(reference: Tensor, restored: Tensor) -> float:
    """The definition written out once more: direct windows in float64, sides completed by hand."""
    x, y = reference.double().numpy(), restored.double().numpy()
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2

    def mean(plane: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(plane, (11, 11))
        return np.asarray(np.einsum("hwij,ij->hw", windows, window))

    scores = []
    for a, b in zip(x, y, strict=True):
        product = 1.0
        for scale, weight in enumerate(SCALE_WEIGHTS):
            mean_a, mean_b = mean(a), mean(b)
            covariance = mean(a * b) - mean_a * mean_b
            variances = mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2
            term = (2 * covariance + 9e-4) / (variances + 9e-4)
            if scale == 4:
                term = term * (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            product *= max(float(term.mean()), 0) ** weight
            a, b = (np.pad(p, [(0, side % 2) for side in p.shape], mode="edge") for p in (a, b))  # noqa: PLW2901
            a, b = ((p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2]) / 4 for p in (a, b))  # noqa: PLW2901
        scores.append(product)
    return float(np.mean(scores))


@pytest.mark.parametrize("shape", [(3, 176, 192), (1, 208, 176)])
@pytest.mark.parametrize("error", [0.01, 0.1, 0.5])
def test_agrees_with_pytorch_msssim_where_sides_stay_even(shape: tuple[int, ...], error: float) -> None:
    reference, restored = pair(shape, error)
    expected = float(oracle(reference[None].double(), restored[None].double(), data_range=1.0))
    assert ms_ssim(reference, restored) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 161, 161), (2, 163, 190), (1, 176, 176)])
def test_is_the_definition_where_odd_sides_repeat_their_last_row_or_column(shape: tuple[int, ...]) -> None:
    reference, restored = pair(shape, 0.1)
    expected = plainly(reference, restored)
    assert ms_ssim(reference, restored) == pytest.approx(expected, abs=1e-5)
    assert ms_ssim(reference.double(), restored.double()) == pytest.approx(expected, abs=1e-12)


def test_flat_bright_pictures_lose_no_digits() -> None:
    reference = torch.full((1, 176, 176), 0.97)
    restored = reference + 0.001 * torch.randn(1, 176, 176, generator=torch.Generator().manual_seed(0))
    in_float32, in_float64 = ms_ssim(reference, restored), ms_ssim(reference.double(), restored.double())
    assert in_float32 == pytest.approx(in_float64, abs=1e-5)


def test_half_precision_is_computed_in_float32() -> None:
    reference, restored = (picture.half() for picture in pair((1, 176, 176), 0.1))
    assert ms_ssim(reference, restored) == ms_ssim(reference.float(), restored.float())


def test_identical_pictures_reach_one() -> None:
    picture = pair((3, 170, 165), 0)[0]
    assert ms_ssim(picture, picture) == 1.0
    assert type(ms_ssim(picture, picture)) is float


def test_other_peak_values() -> None:
    reference, restored = (picture.double() for picture in pair((1, 176, 176), 0.1))
    assert ms_ssim(reference * 255, restored * 255, 255) == pytest.approx(ms_ssim(reference, restored), abs=1e-12)


def test_a_negative_term_counts_as_zero_and_is_flagged() -> None:
    reference = torch.rand(3, 176, 176, generator=torch.Generator().manual_seed(0))
    inverted = reference.clone()
    inverted[0] = 1 - inverted[0]
    score = ms_ssim(reference, inverted)
    assert score == pytest.approx(2 / 3, abs=1e-9)
    assert isinstance(score, Clamped)
    assert isinstance(pickle.loads(pickle.dumps(score)), Clamped)  # noqa: S301  scores cross process borders


@pytest.mark.parametrize("shape", [(160, 300), (300, 160)])
def test_smaller_than_five_scales_is_undefined(shape: tuple[int, int]) -> None:
    words = f"MS-SSIM needs at least 161 pixels a side, and this picture has {shape[1]}×{shape[0]}"
    with pytest.raises(ValueError, match=words):
        ms_ssim(torch.zeros(3, *shape), torch.zeros(3, *shape))


def test_both_at_once_are_the_same_numbers() -> None:
    reference, restored = pair((3, 180, 175), 0.1)
    assert ssim_and_ms_ssim(reference, restored) == (ssim(reference, restored), ms_ssim(reference, restored))
    scores = score_all(["psnr", "ms-ssim", "ssim"], reference, restored)
    assert list(scores) == ["psnr", "ms-ssim", "ssim"]
    assert (scores["ssim"], scores["ms-ssim"]) == ssim_and_ms_ssim(reference, restored)


def test_one_undefined_score_leaves_the_others() -> None:
    reference, restored = pair((3, 100, 175), 0.1)
    scores = score_all(["ms-ssim", "ssim"], reference, restored)
    assert isinstance(scores["ms-ssim"], ValueError)
    assert scores["ssim"] == ssim(reference, restored)


def test_loaded_metrics_are_called() -> None:
    reference, restored = pair((3, 20, 20), 0.1)
    scores = score_all(["lpips"], reference, restored, {"lpips": lambda a, b: float((a - b).abs().sum())})
    assert scores["lpips"] == float((reference - restored).abs().sum())


def test_rounding_exceeds_no_range(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("restore.metrics.ms_ssim")  # the package has a function of that name
    monkeypatch.setattr(module, "mean_similarity", lambda *_: (1 + 5e-9, 1 + 5e-9))
    picture = torch.zeros(1, 176, 176)
    assert ssim_and_ms_ssim(picture, picture) == (1.0, 1.0)
