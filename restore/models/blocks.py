"""Residual blocks: (N,C,H,W) in, the same shape out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from restore.models.attention import LKA
from restore.models.layers import (
    ACTIVATIONS,
    NORMS,
    SCA,
    DepthwiseConv2d,
    DropPath,
    GatedHalves,
    PointwiseConv2d,
    SimpleGate,
    pointwise_conv2d,
)


class NAFBlock(nn.Module):
    """The block of NAFNet: no activation but two gates, channel attention without a sigmoid.

    Parameter names are those of the official checkpoints.

    Args:
        channels: C.
        window: of the channel attention's averages, in pixels of the map; None for global ones, as published.
        norm: a key of `NORMS`.
        drop_path: probability that a residual branch is left out in training.

    References:
        Chen, Chu, Zhang, Sun 2022, "Simple Baselines for Image Restoration", arXiv:2204.04676.
    """

    def __init__(
        self, channels: int, window: int | None = None, *, norm: str = "layer", drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.drop_path = DropPath(drop_path)
        self.norm1 = NORMS[norm](channels)
        self.conv1 = PointwiseConv2d(channels, 2 * channels)
        self.conv2 = DepthwiseConv2d(2 * channels, 3)
        self.gate = SimpleGate()
        self.sca = SCA(channels, window)
        self.conv3 = PointwiseConv2d(channels, channels)
        self.norm2 = NORMS[norm](channels)
        self.conv4 = PointwiseConv2d(channels, 2 * channels)
        self.conv5 = PointwiseConv2d(channels, channels)
        self.beta: nn.Parameter | None = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma: nn.Parameter | None = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Mix space, then channels."""
        h = self.gate(self.conv2(self.conv1(self.norm1(x_NCHW))))
        h = _scaled(self.conv3, self.beta, _weighed(h, self.sca(h)))
        y = self.drop_path(h).add_(x_NCHW)
        h = _scaled(self.conv5, self.gamma, self.gate(self.conv4(self.norm2(y))))
        return self.drop_path(h).add_(y)

    def fold(self) -> None:
        """Fold the norms' affine parts and the residual scales into the convolutions beside them, for inference."""
        assert self.beta is not None
        assert self.gamma is not None
        self.norm1.fold_into(self.conv1)
        self.norm2.fold_into(self.conv4)
        _fold_scale(self.conv3, self.beta)
        _fold_scale(self.conv5, self.gamma)
        self.beta = self.gamma = None
        # forward alone reads them from here on
        self.conv1, self.conv2 = GatedHalves(self.conv1, self.conv2), nn.Identity()  # type: ignore[assignment]
        self.conv4, self.gate = GatedHalves(self.conv4), nn.Identity()  # type: ignore[assignment]


@dataclass(frozen=True)
class FeedForward:
    """The middle of a feed-forward: 1x1 C→r·C for each half, the gate, 1x1 r·C→C.

    Args:
        num_halves: 1, or 2 where the gate multiplies two halves.
        has_depthwise: whether a depthwise 3x3 stands before the gate.
        gate: builds what follows from the activation.
    """

    num_halves: int
    has_depthwise: bool
    gate: Callable[[nn.Module], nn.Module]


FEED_FORWARDS: dict[str, FeedForward] = {
    "mlp": FeedForward(1, has_depthwise=True, gate=lambda activation: activation),
    "geglu": FeedForward(2, has_depthwise=False, gate=SimpleGate),
    "gated": FeedForward(2, has_depthwise=True, gate=SimpleGate),
    "simple_gate": FeedForward(2, has_depthwise=False, gate=lambda _: SimpleGate()),
}


class LKABlock(nn.Module):
    """An attention followed by a feed-forward, both residual with a learnt layer scale.

    With its defaults the block of the paper, but LayerNorm2d stands where that has BatchNorm, so that a picture's
    result depends on that picture alone. The gated LKABlock has `feed_forward="gated", expansion=1, inner_skip=False`.

    Args:
        channels: C.
        attention: builds, for C channels, a module that keeps the shape.
        feed_forward: a key of `FEED_FORWARDS`: `mlp` (1x1, depthwise 3x3, activation, 1x1); `geglu` (1x1, one half
            activated times the other, 1x1: GEGLU with a GELU); `gated` (geglu with a depthwise 3x3); `simple_gate`
            (as geglu without activation, as in NAFNet).
        expansion: r, the widening of the feed-forward.
        norm: a key of `NORMS`.
        activation: a key of `ACTIVATIONS`, before the attention and in the feed-forward.
        inner_skip: whether the attention's branch adds its own input, as published.
        drop_path: probability that a residual branch is left out in training.

    References:
        Guo, Lu, Liu, Cheng, Hu 2022, "Visual Attention Network", arXiv:2202.09741; for GEGLU Shazeer 2020,
        arXiv:2002.05202.
    """

    def __init__(
        self,
        channels: int,
        attention: Callable[[int], nn.Module] = LKA,
        feed_forward: str = "mlp",
        expansion: int = 4,
        *,
        norm: str = "layer",
        activation: str = "gelu",
        inner_skip: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        middle, hidden = FEED_FORWARDS[feed_forward], expansion * channels
        self.inner_skip = inner_skip
        self.drop_path = DropPath(drop_path)
        self.norm1 = NORMS[norm](channels)
        self.proj_in = PointwiseConv2d(channels, channels)
        self.activation = ACTIVATIONS[activation]()
        self.lka = attention(channels)  # whatever it is: the name is that of the first weights
        self.proj_out = PointwiseConv2d(channels, channels)
        self.norm2 = NORMS[norm](channels)
        self.expand: nn.Module = PointwiseConv2d(channels, middle.num_halves * hidden)
        self.depthwise = DepthwiseConv2d(middle.num_halves * hidden, 3) if middle.has_depthwise else nn.Identity()
        self.gate = middle.gate(ACTIVATIONS[activation]())
        self.contract = PointwiseConv2d(hidden, channels)
        self.scale1: nn.Parameter | None = nn.Parameter(torch.full((1, channels, 1, 1), 1e-2))
        self.scale2: nn.Parameter | None = nn.Parameter(torch.full((1, channels, 1, 1), 1e-2))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Attend, then feed forward."""
        x = x_NCHW + self.drop_path(self._attend(self.norm1(x_NCHW)))
        return x + self.drop_path(self._feed_forward(self.norm2(x)))

    def fold(self) -> None:
        """Fold norms with one reader and residual scales into the convolutions beside them, for inference."""
        assert self.scale1 is not None
        assert self.scale2 is not None
        assert isinstance(self.expand, nn.Conv2d)
        if not self.inner_skip:  # else the skip reads the norm too, and is scaled
            self.norm1.fold_into(self.proj_in)
            _fold_scale(self.proj_out, self.scale1)
            self.scale1 = None
        self.norm2.fold_into(self.expand)
        _fold_scale(self.contract, self.scale2)
        self.scale2 = None
        if isinstance(self.gate, SimpleGate):
            convs = [conv for conv in (self.expand, self.depthwise) if isinstance(conv, nn.Conv2d)]
            self.expand = GatedHalves(*convs, activation=self.gate.activation)
            self.depthwise = self.gate = nn.Identity()

    def _attend(self, x: Tensor) -> Tensor:
        h = self.lka(self.activation(self.proj_in(x)))
        if not self.inner_skip:
            return _scaled(self.proj_out, self.scale1, h)
        assert self.scale1 is not None  # the skip is scaled too, so that nothing folds
        return (x + self.proj_out(h)) * self.scale1

    def _feed_forward(self, x: Tensor) -> Tensor:
        return _scaled(self.contract, self.scale2, self.gate(self.depthwise(self.expand(x))))


def _weighed(h: Tensor, factors: Tensor) -> Tensor:
    return h * factors if torch.is_grad_enabled() else h.mul_(factors)  # in place spares a pass over memory


def _scaled(conv: nn.Conv2d, scale: Tensor | None, h: Tensor) -> Tensor:
    """Return a 1x1 convolution times a scale for each channel: its few weights are scaled, not the map."""
    if scale is None:
        return conv(h)
    assert conv.bias is not None
    return pointwise_conv2d(h, conv.weight * scale.view(-1, 1, 1, 1), conv.bias * scale.flatten())


def _fold_scale(conv: nn.Conv2d, scale: Tensor) -> None:
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight *= scale.view(-1, 1, 1, 1)
        conv.bias *= scale.flatten()
