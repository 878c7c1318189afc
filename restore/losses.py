"""Training losses: (restored, reference) to a scalar."""

from __future__ import annotations

import torch
from torch import Tensor


def charbonnier_loss(restored: Tensor, reference: Tensor, eps: float = 1e-3) -> Tensor:
    """Return the mean of sqrt(difference² + eps²) over all values of two (N,C,H,W) tensors in [0,1].

    A differentiable L1: its gradient stays bounded on nearly clean samples, where that of the PSNR loss explodes.

    References:
        Charbonnier, Blanc-Féraud, Aubert, Barlaud 1994, doi:10.1109/ICIP.1994.413553.
    """
    return torch.sqrt((restored - reference) ** 2 + eps**2).mean()
