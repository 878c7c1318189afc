"""Training losses: (restored, reference) to a scalar."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def charbonnier_loss(restored: Tensor, reference: Tensor, eps: float = 1e-3) -> Tensor:
    """Return the mean of sqrt(difference² + eps²) over all values of two (N,C,H,W) tensors in [0,1].

    A differentiable L1: its gradient stays bounded on nearly clean samples, where that of the PSNR loss explodes.

    References:
        Charbonnier, Blanc-Féraud, Aubert, Barlaud 1994, doi:10.1109/ICIP.1994.413553.
    """
    return torch.sqrt((restored - reference) ** 2 + eps**2).mean()


def l1_loss(restored: Tensor, reference: Tensor) -> Tensor:
    """Return the mean absolute difference of two tensors of one shape."""
    return (restored - reference).abs().mean()


def mse_loss(restored: Tensor, reference: Tensor) -> Tensor:
    """Return the mean squared difference of two tensors of one shape."""
    return ((restored - reference) ** 2).mean()


def psnr_loss(restored: Tensor, reference: Tensor, eps: float = 1e-4) -> Tensor:
    """Return (10/ln 10)·ln(MSE + eps²), the negative PSNR, averaged over the samples of two (N,C,H,W) tensors.

    Samples with errors far below eps hardly count; with the published 1e-4 (80 dB), nearly clean ones drown the others.

    References:
        Chen, Chu, Zhang, Sun 2022, arXiv:2204.04676.
    """
    mse_N = ((restored - reference) ** 2).mean(dim=(1, 2, 3))
    return 10 / math.log(10) * torch.log(mse_N + eps**2).mean()


def fft_loss(restored: Tensor, reference: Tensor) -> Tensor:
    """Return the mean absolute difference of the orthonormal Fourier transforms of two (N,C,H,W) tensors, in float32.

    Real and imaginary parts count by themselves, over the half-plane of frequencies that a real transform has.

    References:
        Cho, Ji, Hong, Jung, Ko 2021, "Rethinking Coarse-to-Fine Approach in Single Image Deblurring",
        arXiv:2108.05054.
    """
    difference = torch.fft.rfft2((restored - reference).float(), norm="ortho")
    return torch.view_as_real(difference).abs().mean()


_DISTANCES: dict[str, Callable[..., Tensor]] = {
    "charbonnier": charbonnier_loss,
    "l1": l1_loss,
    "mse": mse_loss,
    "psnr": psnr_loss,
}


def build_loss(
    kind: str, *, eps: float | None = None, fft: float = 0.0, lpips: float = 0.0, perceptual: Loss | None = None
) -> Loss:
    """Return the loss of a recipe: a distance of the pixels, plus weighted terms.

    Args:
        kind: `charbonnier`, `l1`, `mse` or `psnr`.
        eps: of Charbonnier or PSNR, if not 1e-3 or 1e-4.
        fft: weight of `fft_loss`.
        lpips: weight of the perceptual term.
        perceptual: that term, where its weight is not zero.
    """
    distance = _DISTANCES[kind]
    terms = [(1.0, distance if eps is None else partial(distance, eps=eps))]
    if fft:
        terms.append((fft, fft_loss))
    if lpips:
        assert perceptual is not None
        terms.append((lpips, perceptual))

    def loss(restored: Tensor, reference: Tensor) -> Tensor:
        return torch.stack([weight * term(restored, reference) for weight, term in terms]).sum()

    return loss
