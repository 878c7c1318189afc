"""Deformable depthwise convolution: every tap of the kernel samples the map where an offset says.

Shape suffixes: N batch, C channels, H height, W width, k the kernel's size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.models.layers import DepthwiseConv2d, PointwiseConv2d


def deformable_depthwise_conv2d(
    x_NCHW: Tensor,
    offsets: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    dilation: int = 1,
) -> Tensor:
    """Depthwise convolution with moved taps: bilinear sampling, zero outside, the size is kept.

    Positions are computed in float32 or wider whatever the map is, and whole offsets give whole positions: with
    offsets of zero this is the plain convolution.

    Args:
        x_NCHW: (N,C,H,W), any size from 1x1 up.
        offsets: (N,2k²,H,W) in pixels: dy and dx of the first tap, then of the next, row by row.
        weight: (C,1,k,k), k odd.
        bias: (C,) or None.
        mask: (N,k²,H,W), a factor on each tap; None for 1.
        dilation: of the taps before they are moved.

    Returns:
        (N,C,H,W), in the number format of the map.

    References:
        Dai, Qi, Xiong, Li, Zhang, Hu, Wei 2017, arXiv:1703.06211; with the mask Zhu, Hu, Lin, Dai 2019,
        arXiv:1811.11168.
    """
    n, c, height, width = x_NCHW.shape
    k = weight.shape[-1]
    wide = torch.promote_types(x_NCHW.dtype, torch.float32)
    spans = _power_of_two(height - 1), _power_of_two(width - 1)
    padded = F.pad(x_NCHW.to(wide), (0, spans[1] + 1 - width, 0, spans[0] + 1 - height)).contiguous()
    starts = dilation * (torch.arange(k, dtype=wide, device=x_NCHW.device) - k // 2)
    rows, columns = (torch.arange(size, dtype=wide, device=x_NCHW.device) for size in (height, width))
    offsets_NkkyxHW = offsets.to(wide).contiguous().view(n, k, k, 2, height, width)
    masks_NkkHW = None if mask is None else mask.to(wide).contiguous().view(n, k, 1, k, height * width)
    factors_kC1k = weight.to(wide).permute(2, 0, 1, 3)
    total = torch.zeros((), dtype=wide, device=x_NCHW.device)
    for row in range(k):  # a row of the kernel at a time: the samples are k times as large as the map
        moved_y, moved_x = offsets_NkkyxHW[:, row].unbind(2)
        y = rows[:, None] + starts[row] + moved_y
        x = columns + starts[:, None, None] + moved_x
        grid = torch.stack([x * (2 / spans[1]) - 1, y * (2 / spans[0]) - 1], dim=-1).flatten(1, 2)
        samples = F.grid_sample(padded, grid, padding_mode="zeros", align_corners=True).view(n, c, k, height * width)
        if masks_NkkHW is not None:
            samples = samples * masks_NkkHW[:, row]
        total = total + factors_kC1k[row] @ samples
    y_NCHW = total.view(n, c, height, width)
    if bias is not None:
        y_NCHW = y_NCHW + bias.to(wide).view(-1, 1, 1)
    memory = torch.channels_last if x_NCHW.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return y_NCHW.to(x_NCHW.dtype, memory_format=memory)


def _power_of_two(number: int) -> int:
    """Return the next power of two: a map of one pixel more has exact positions between -1 and 1."""
    return 1 << max(0, number - 1).bit_length()


class DeformableDepthwiseConv2d(DepthwiseConv2d):
    """A depthwise convolution that learns where its taps look; it begins as the plain one.

    Args:
        channels: C.
        kernel_size: k, odd.
        dilation: of the taps before they are moved.
        offsets: how they are predicted from the map: `dense`, a convolution C→2k² with the kernel, padding and
            dilation of this one, as published; `separable`, a 1x1 C→2k² and a depthwise 3x3, far cheaper.
        modulated: whether a factor on each tap is predicted too, between 0 and 2.

    References:
        As `deformable_depthwise_conv2d`.
    """

    def __init__(
        self, channels: int, kernel_size: int, dilation: int = 1, *, offsets: str = "dense", modulated: bool = False
    ) -> None:
        super().__init__(channels, kernel_size, dilation)
        self.num_taps = kernel_size**2
        self.predict, last = OFFSETS[offsets](self, (3 if modulated else 2) * self.num_taps)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Convolve (N,C,H,W), same size."""
        predicted = self.predict(x_NCHW)
        offsets, factors = predicted[:, : 2 * self.num_taps], predicted[:, 2 * self.num_taps :]
        mask = 2 * torch.sigmoid(factors) if factors.shape[1] else None
        return deformable_depthwise_conv2d(
            x_NCHW, offsets, self.weight, self.bias, mask=mask, dilation=self.dilation[0]
        )


def _dense(conv: DepthwiseConv2d, num_outputs: int) -> tuple[nn.Module, nn.Module]:
    kernel_size, dilation = conv.kernel_size[0], conv.dilation[0]
    predict = nn.Conv2d(conv.in_channels, num_outputs, kernel_size, padding=conv.pads, dilation=dilation)
    return predict, predict


def _separable(conv: DepthwiseConv2d, num_outputs: int) -> tuple[nn.Module, nn.Module]:
    last = DepthwiseConv2d(num_outputs, 3)
    return nn.Sequential(PointwiseConv2d(conv.in_channels, num_outputs), last), last


# each returns the layers, and the one of them that starts at zero
OFFSETS: dict[str, Callable[[DepthwiseConv2d, int], tuple[nn.Module, nn.Module]]] = {
    "dense": _dense,
    "separable": _separable,
}
