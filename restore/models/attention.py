"""Attention over large kernels: (N,C,H,W) weighed by its surroundings."""

from __future__ import annotations

from torch import Tensor, nn

from restore.models.deformable import DeformableDepthwiseConv2d
from restore.models.layers import SCA, DepthwiseConv2d, PointwiseConv2d

# of an LSKA that stands for k x k: the local kernel, the dilated one, its dilation
LSKA_KERNELS = {7: (3, 3, 2), 11: (3, 5, 2), 23: (5, 7, 3), 35: (5, 11, 3), 41: (5, 13, 3), 53: (5, 17, 3)}


class LKA(nn.Module):
    """Large kernel attention: x times a K x K depthwise convolution of x, decomposed into three cheap ones.

    A K x K kernel becomes a depthwise (2d-1)x(2d-1), a depthwise ⌈K/d⌉x⌈K/d⌉ with dilation d and a 1x1. K 21, d 3
    gives 5x5, 7x7 dilated by 3 and a reach of 23 pixels. No sigmoid; the input keeps its size.

    Args:
        channels: C.
        kernel_size: K, the kernel to approximate. ⌈K/d⌉ is raised to the next odd number where it is even.
        dilation: d, 1 or more.

    References:
        Guo, Lu, Liu, Cheng, Hu 2022, "Visual Attention Network", arXiv:2202.09741.
    """

    def __init__(self, channels: int, kernel_size: int = 21, dilation: int = 3) -> None:
        super().__init__()
        local, spread = _decomposed(kernel_size, dilation)
        self.local = DepthwiseConv2d(channels, local)
        self.spread = DepthwiseConv2d(channels, spread, dilation)
        self.mix = PointwiseConv2d(channels, channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Weigh (N,C,H,W) by its surroundings."""
        return x_NCHW * self.mix(self.spread(self.local(x_NCHW)))


class LSKA(nn.Module):
    """Large separable kernel attention: LKA whose depthwise kernels are each a row and a column.

    Args:
        channels: C.
        kernel_size: K, one of 7, 11, 23, 35, 41, 53.

    References:
        Lau, Po, Rehman 2023, "Large Separable Kernel Attention", arXiv:2309.01439.
    """

    def __init__(self, channels: int, kernel_size: int = 23) -> None:
        super().__init__()
        if kernel_size not in LSKA_KERNELS:
            raise ValueError(f"LSKA has kernels of {', '.join(map(str, LSKA_KERNELS))}, not {kernel_size}")
        local, spread, dilation = LSKA_KERNELS[kernel_size]
        self.local = nn.Sequential(DepthwiseConv2d(channels, (1, local)), DepthwiseConv2d(channels, (local, 1)))
        self.spread = nn.Sequential(
            DepthwiseConv2d(channels, (1, spread), dilation), DepthwiseConv2d(channels, (spread, 1), dilation)
        )
        self.mix = PointwiseConv2d(channels, channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Weigh (N,C,H,W) by its surroundings."""
        return x_NCHW * self.mix(self.spread(self.local(x_NCHW)))


class DeformableLKA(nn.Module):
    """LKA whose two depthwise convolutions learn where to look; it begins as plain LKA.

    Args:
        channels: C.
        kernel_size: K, as in `LKA`.
        dilation: d, as in `LKA`.
        offsets: `dense` or `separable`, see `DeformableDepthwiseConv2d`.
        modulated: whether each tap has a predicted factor.

    References:
        Azad, Niggemeier, Hüttemann, Kazerouni, Aghdam, Velichko, Bagci, Merhof 2023, "Beyond Self-Attention:
        Deformable Large Kernel Attention for Medical Image Segmentation", arXiv:2309.00121.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 21,
        dilation: int = 3,
        *,
        offsets: str = "dense",
        modulated: bool = False,
    ) -> None:
        super().__init__()
        local, spread = _decomposed(kernel_size, dilation)
        self.local = DeformableDepthwiseConv2d(channels, local, offsets=offsets, modulated=modulated)
        self.spread = DeformableDepthwiseConv2d(channels, spread, dilation, offsets=offsets, modulated=modulated)
        self.mix = PointwiseConv2d(channels, channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Weigh (N,C,H,W) by its surroundings."""
        return x_NCHW * self.mix(self.spread(self.local(x_NCHW)))


class ChannelAttention(SCA):
    """The channel attention of NAFNet as an attention by itself: x times the factors of `SCA`."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Weigh the channels of (N,C,H,W)."""
        return x_NCHW * super().forward(x_NCHW)


def _decomposed(kernel_size: int, dilation: int) -> tuple[int, int]:
    """Return the sizes of the local and of the dilated kernel."""
    if kernel_size < 1 or dilation < 1:
        raise ValueError(f"LKA needs kernel_size and dilation of 1 or more, got {kernel_size} and {dilation}")
    return 2 * dilation - 1, -(-kernel_size // dilation) | 1
