"""Large kernel attention."""

from __future__ import annotations

from torch import Tensor, nn

from restore.models.layers import DepthwiseConv2d


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
        if kernel_size < 1 or dilation < 1:
            raise ValueError(f"LKA needs kernel_size and dilation of 1 or more, got {kernel_size} and {dilation}")
        self.local = DepthwiseConv2d(channels, 2 * dilation - 1)
        self.spread = DepthwiseConv2d(channels, -(-kernel_size // dilation) | 1, dilation)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Weigh (N,C,H,W) by its surroundings."""
        return x_NCHW * self.mix(self.spread(self.local(x_NCHW)))
