"""restore.losses: each against its formula, and their weighted sum."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from restore.losses import build_loss, charbonnier_loss, fft_loss, l1_loss, mse_loss, psnr_loss


def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 8, 8, generator=generator), torch.rand(2, 3, 8, 8, generator=generator)


def test_charbonnier_is_a_smooth_l1() -> None:
    zeros, ones = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    assert charbonnier_loss(zeros, zeros).item() == pytest.approx(1e-3)
    assert charbonnier_loss(zeros, ones).item() == pytest.approx(1.0, abs=1e-5)


def test_l1_mse_and_psnr() -> None:
    restored, reference = pair()
    assert l1_loss(restored, reference).item() == pytest.approx((restored - reference).abs().mean().item())
    assert mse_loss(restored, reference).item() == pytest.approx((restored - reference).pow(2).mean().item())
    expected = [
        10 * math.log10((one - other).pow(2).mean().item()) for one, other in zip(restored, reference, strict=True)
    ]
    assert psnr_loss(restored, reference).item() == pytest.approx(sum(expected) / 2, rel=1e-4)


def test_eps_decides_how_much_nearly_perfect_samples_count() -> None:
    reference = torch.zeros(2, 3, 4, 4)
    noisy, nearly_perfect = torch.full((3, 4, 4), 0.1), torch.full((3, 4, 4), 1e-4)
    restored = torch.stack([noisy, nearly_perfect]).requires_grad_()
    shares = []
    for eps in (None, 4e-3):
        (gradient,) = torch.autograd.grad(build_loss("psnr", eps=eps)(restored, reference), restored)
        shares.append((gradient[1].norm() / gradient[0].norm()).item())
    # each is proportional to error / (error² + eps²)
    assert shares[0] == pytest.approx((1e-4 / 2e-8) / (0.1 / 0.01), rel=1e-2)
    assert shares[1] == pytest.approx((1e-4 / 1.601e-5) / (0.1 / 0.010016), rel=1e-2)
    assert build_loss("charbonnier", eps=0.5)(restored[:1] * 0, reference[:1]).item() == pytest.approx(0.5)


def test_the_fourier_term_sees_a_constant_as_its_one_coefficient() -> None:
    difference = torch.full((1, 1, 4, 4), 0.5)
    # orthonormal: 0.5·16/4 = 2 in one of 4×3 complex coefficients, each of two parts
    assert fft_loss(difference, torch.zeros_like(difference)).item() == pytest.approx(2 / 24)


def test_terms_are_added_by_weight() -> None:
    restored, reference = pair()
    loss = build_loss("l1", fft=0.1, lpips=0.5, perceptual=lambda one, other: (one - other).square().sum())
    expected = l1_loss(restored, reference) + 0.1 * fft_loss(restored, reference)
    expected = expected + 0.5 * (restored - reference).square().sum()
    assert loss(restored, reference).item() == pytest.approx(expected.item())
