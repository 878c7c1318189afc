"""Muon for dense convolutions, AdamW for the rest, one schedule for both, and the moving average of the weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

ENDS = ("intro", "coarse_intro", "blend", "ending")  # the first convolutions and the last ones


class Muon(Optimizer):
    """Momentum whose update of each matrix is orthogonalised by Newton–Schulz iteration.

    Takes convolution weights (out,in,kh,kw) and sees them as (out, in·kh·kw) matrices. Matrices of one shape are
    orthogonalised as one batch.

    Args:
        params: dense convolution weights.
        lr: learning rate; the step is lr·max(1, rows/columns)^½ times an orthogonal matrix.
        momentum: of the exponential average, with Nesterov's look-ahead.
        num_iterations: of Newton–Schulz.
        dtype: of Newton–Schulz; bfloat16, as published, takes half the time on a processor that has it.

    References:
        Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """

    dtype = torch.float32  # which a copy starts from, too

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        num_iterations: int = 5,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "num_iterations": num_iterations})
        self.dtype = dtype  # of this machine, not of the run: no part of the state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # there is nothing to evaluate again
        """Update every parameter that has a gradient; a closure is not supported."""
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is not None:
                    by_shape[(param.shape[0], param[0].numel())].append(param)
            for (rows, columns), params in by_shape.items():
                updates = torch.stack([self._look_ahead(p, group["momentum"]).reshape(rows, columns) for p in params])
                updates = orthogonalise(updates.to(self.dtype), group["num_iterations"]).float()
                step_size = group["lr"] * max(1.0, rows / columns) ** 0.5
                for param, update in zip(params, updates, strict=True):
                    param.sub_(update.view_as(param), alpha=step_size)

    def _look_ahead(self, param: Tensor, momentum: float) -> Tensor:
        assert param.grad is not None
        state = self.state[param]
        if not state:
            state["momentum"] = torch.zeros_like(param)
        buffer: Tensor = state["momentum"]
        buffer.lerp_(param.grad, 1 - momentum)
        return param.grad.lerp(buffer, momentum)


def orthogonalise(matrices: Tensor, num_iterations: int = 5) -> Tensor:
    """Bring the singular values of (B,rows,columns) matrices near 1, keeping the singular vectors.

    Five iterations of Jordan's quintic bring those above 0.002 of the Frobenius norm between about 0.7 and 1.2, in
    float32 and bfloat16 alike; smaller ones, of which momenta have many, grow 485 times at most.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    tall = x.shape[-2] > x.shape[-1]
    for _ in range(num_iterations):
        gram = x.mT @ x if tall else x @ x.mT  # the smaller of both
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, x, factor, beta=a) if tall else torch.baddbmm(x, factor, x, beta=a)
    return x


def build_muon(
    network: nn.Module, *, lr: float = 0.02, adamw_lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.9)
) -> list[Optimizer]:
    """Muon for the dense convolutions between the first and the last one, AdamW for everything else.

    Those that predict the offsets of deformable convolutions are among the former; it made no difference.

    Args:
        network: its first and last convolutions have the names in `ENDS`.
        lr: of Muon.
        adamw_lr: of AdamW.
        betas: of AdamW, which decays nothing here.
    """
    hidden = [
        module.weight
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups == 1 and name not in ENDS and _is_matrix(module.weight)
    ]
    chosen = {id(weight) for weight in hidden}
    others = [param for param in network.parameters() if id(param) not in chosen]
    adamw = AdamW(others, lr=adamw_lr, betas=betas, weight_decay=0.0, fused=True)  # four times faster
    return [Muon(hidden, lr=lr), adamw] if hidden else [adamw]


def _is_matrix(weight: Tensor) -> bool:
    return min(weight.shape[0], weight[0].numel()) >= 8


def warmup_cosine(progress: float, warmup: float = 0.03) -> float:
    """Return the factor on the learning rate at a progress in [0,1]: linear up to 1, then a cosine down to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / max(1 - warmup, 1e-9))))


def warmup_stable_decay(progress: float, warmup: float = 0.03, decay: float = 0.25) -> float:
    """Return the factor on the learning rate: linear up to 1, constant, and linear down to 0 over the last share.

    Where both shares exceed the whole, the rise ends where it meets the fall.

    References:
        Hägele, Bakouch, Kosson, Ben Allal, von Werra, Jaggi 2024, "Scaling Laws and Compute-Optimal Training Beyond
        Fixed Training Durations", arXiv:2405.18392.
    """
    rising = progress / warmup if progress < warmup else 1.0
    return min(rising, max(0.0, (1 - progress) / decay))


def set_learning_rate(optimisers: Iterable[Optimizer], factor: float) -> None:
    """Set each group's learning rate to factor times the one it was built with."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group.setdefault("base_lr", group["lr"])
            group["lr"] = group["base_lr"] * factor


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, step: int, decay: float = 0.999) -> None:
    """Move the exponential moving average of the weights towards the network, faster in the first steps."""
    weight = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), weight)
