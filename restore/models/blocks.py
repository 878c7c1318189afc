"""Residual blocks: (N,C,H,W) in, the same shape out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.models.attention import LKA
from restore.models.layers import SCA, DepthwiseConv2d, GatedHalves, LayerNorm2d, SimpleGate


class NAFBlock(nn.Module):
    """The block of NAFNet: no activation but two gates, channel attention without a sigmoid.

    Parameter names are those of the official checkpoints.

    Args:
        channels: C.
        window: of the channel attention's averages, in pixels of the map; None for global ones, as published.

    References:
        Chen, Chu, Zhang, Sun 2022, "Simple Baselines for Image Restoration", arXiv:2204.04676.
    """

    def __init__(self, channels: int, window: int | None = None) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = DepthwiseConv2d(2 * channels, 3)
        self.gate = SimpleGate()
        self.sca = SCA(channels, window)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.norm2 = LayerNorm2d(channels)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.beta: nn.Parameter | None = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma: nn.Parameter | None = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Mix space, then channels."""
        h = self.gate(self.conv2(self.conv1(self.norm1(x_NCHW))))
        h = self.conv3(_weighed(h, self.sca(h)))
        y = _scaled(h, self.beta).add_(x_NCHW)
        h = self.conv5(self.gate(self.conv4(self.norm2(y))))
        return _scaled(h, self.gamma).add_(y)

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


class LKABlock(nn.Module):
    """Large kernel attention followed by a convolutional feed-forward, both residual with a learnt layer scale.

    LayerNorm2d stands where the paper has BatchNorm, so that a picture's result depends on that picture alone.

    Args:
        channels: C.
        kernel_size: K of the attention.
        dilation: d of the attention.
        expansion: r, the widening of the feed-forward.

    References:
        Guo, Lu, Liu, Cheng, Hu 2022, "Visual Attention Network", arXiv:2202.09741.
    """

    def __init__(self, channels: int, kernel_size: int = 21, dilation: int = 3, expansion: int = 4) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(channels)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.lka = LKA(channels, kernel_size, dilation)
        self.proj_out = nn.Conv2d(channels, channels, 1)
        self.norm2 = LayerNorm2d(channels)
        self.expand = nn.Conv2d(channels, expansion * channels, 1)
        self.depthwise = DepthwiseConv2d(expansion * channels, 3)
        self.contract = nn.Conv2d(expansion * channels, channels, 1)
        self.scale1: nn.Parameter | None = nn.Parameter(torch.full((1, channels, 1, 1), 1e-2))
        self.scale2: nn.Parameter | None = nn.Parameter(torch.full((1, channels, 1, 1), 1e-2))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Attend, then feed forward."""
        x = x_NCHW + _scaled(self._attend(self.norm1(x_NCHW)), self.scale1)
        return x + _scaled(self._feed_forward(self.norm2(x)), self.scale2)

    def fold(self) -> None:
        """Fold the norm that has one reader and the residual scales into the convolutions, for inference."""
        assert self.scale2 is not None
        self.norm2.fold_into(self.expand)  # norm1 stays: the attention's inner skip reads it too
        _fold_scale(self.contract, self.scale2)
        self.scale2 = None

    def _attend(self, x: Tensor) -> Tensor:
        return x + self.proj_out(self.lka(F.gelu(self.proj_in(x))))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.contract(F.gelu(self.depthwise(self.expand(x))))


def _weighed(h: Tensor, factors: Tensor) -> Tensor:
    return h * factors if torch.is_grad_enabled() else h.mul_(factors)  # in place spares a pass over memory


def _scaled(h: Tensor, scale: Tensor | None) -> Tensor:
    return h if scale is None else h * scale


def _fold_scale(conv: nn.Conv2d, scale: Tensor) -> None:
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight *= scale.view(-1, 1, 1, 1)
        conv.bias *= scale.flatten()
