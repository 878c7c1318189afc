"""Inception-v3 as the Fréchet distance uses it: TensorFlow's graph of 2015-12-05.

It differs from the network of the paper in its poolings: averages leave the padding out of the count, and the last
block takes a maximum where the others average. Names follow the weight file, which follows torchvision.

References:
    Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception architecture for computer vision (2016),
    arXiv:1512.00567. The same features as `pytorch_fid.inception.InceptionV3`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUT_SIDE = 299
NUM_FEATURES = 2048
NUM_CLASSES = 1008  # of the classifier in the weight file, which features do not need


class Inception(nn.Module):
    """From a picture of any size to its 2048 pool3 features."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3)
        self.Mixed_5b = Mixed5(192, pool_features=32)
        self.Mixed_5c = Mixed5(256, pool_features=64)
        self.Mixed_5d = Mixed5(288, pool_features=64)
        self.Mixed_6a = Reduction6(288)
        self.Mixed_6b = Mixed6(768, width=128)
        self.Mixed_6c = Mixed6(768, width=160)
        self.Mixed_6d = Mixed6(768, width=160)
        self.Mixed_6e = Mixed6(768, width=192)
        self.Mixed_7a = Reduction7(768)
        self.Mixed_7b = Mixed7(1280, pool=_mean_pool)
        self.Mixed_7c = Mixed7(2048, pool=_max_pool)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return (N,2048) features of (N,3,H,W) pictures in [0,1]."""
        x = F.interpolate(x_NCHW, size=(INPUT_SIDE, INPUT_SIDE), mode="bilinear", align_corners=False)
        x = 2 * x - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        features: Tensor = x.mean(dim=(2, 3))
        return features


class ConvNorm(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Keep N; C, H and W as the convolution says."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed5(nn.Module):
    """Four branches at 35×35: 1x1, 5x5, two 3x3, pooled."""

    def __init__(self, in_channels: int, *, pool_features: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(in_channels, 64, 1)
        self.branch5x5_1 = ConvNorm(in_channels, 48, 1)
        self.branch5x5_2 = ConvNorm(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvNorm(in_channels, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, padding=1)
        self.branch_pool = ConvNorm(in_channels, pool_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Keep N, H and W."""
        branches = [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(_mean_pool(x)),
        ]
        return torch.cat(branches, dim=1)


class Reduction6(nn.Module):
    """From 35×35 to 17×17."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNorm(in_channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvNorm(in_channels, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Halve H and W."""
        branches = [
            self.branch3x3(x),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            F.max_pool2d(x, 3, stride=2),
        ]
        return torch.cat(branches, dim=1)


class Mixed6(nn.Module):
    """Four branches at 17×17: 1x1, 7x7 and two 7x7 as rows and columns, pooled."""

    def __init__(self, in_channels: int, *, width: int) -> None:
        super().__init__()
        row, column = ((1, 7), (0, 3)), ((7, 1), (3, 0))
        self.branch1x1 = ConvNorm(in_channels, 192, 1)
        self.branch7x7_1 = ConvNorm(in_channels, width, 1)
        self.branch7x7_2 = ConvNorm(width, width, row[0], padding=row[1])
        self.branch7x7_3 = ConvNorm(width, 192, column[0], padding=column[1])
        self.branch7x7dbl_1 = ConvNorm(in_channels, width, 1)
        self.branch7x7dbl_2 = ConvNorm(width, width, column[0], padding=column[1])
        self.branch7x7dbl_3 = ConvNorm(width, width, row[0], padding=row[1])
        self.branch7x7dbl_4 = ConvNorm(width, width, column[0], padding=column[1])
        self.branch7x7dbl_5 = ConvNorm(width, 192, row[0], padding=row[1])
        self.branch_pool = ConvNorm(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Keep N, H and W."""
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        branches = [
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(double)),
            self.branch_pool(_mean_pool(x)),
        ]
        return torch.cat(branches, dim=1)


class Reduction7(nn.Module):
    """From 17×17 to 8×8."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvNorm(in_channels, 192, 1)
        self.branch3x3_2 = ConvNorm(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvNorm(in_channels, 192, 1)
        self.branch7x7x3_2 = ConvNorm(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = ConvNorm(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = ConvNorm(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Halve H and W."""
        branches = [
            self.branch3x3_2(self.branch3x3_1(x)),
            self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))),
            F.max_pool2d(x, 3, stride=2),
        ]
        return torch.cat(branches, dim=1)


class Mixed7(nn.Module):
    """Branches at 8×8 that end in a row and a column side by side, and the pooling that the graph has at this place."""

    def __init__(self, in_channels: int, *, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = ConvNorm(in_channels, 320, 1)
        self.branch3x3_1 = ConvNorm(in_channels, 384, 1)
        self.branch3x3_2a = ConvNorm(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = ConvNorm(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = ConvNorm(in_channels, 448, 1)
        self.branch3x3dbl_2 = ConvNorm(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvNorm(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = ConvNorm(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = ConvNorm(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Keep N, H and W; C becomes 2048."""
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        ]
        return torch.cat(branches, dim=1)


def _mean_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)
