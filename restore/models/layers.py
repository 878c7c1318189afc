"""Layers that the blocks are made of.

Shape suffixes: N batch, C channels, H height, W width.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FAST_KERNEL = 3  # the largest whose gradients oneDNN is fast at
SMALL_MAP = 20480  # numbers of a single picture's map up to which PyTorch does without oneDNN


class FoldingNorm(nn.Module):
    """A normalisation whose scale and shift, one for each channel, can move into the convolution that reads it.

    Args:
        channels: size of the channel axis.
        eps: added to the (biased) variance.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight: nn.Parameter | None = nn.Parameter(torch.ones(channels))
        self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(channels))
        self.channels = channels
        self.eps = eps

    def fold_into(self, conv: nn.Conv2d) -> None:
        """Move scale and shift into the 1x1 convolution that reads this norm; the composition stays equal."""
        assert self.weight is not None
        assert self.bias is not None
        assert conv.bias is not None
        with torch.no_grad():
            conv.bias += conv.weight.flatten(1) @ self.bias
            conv.weight *= self.weight.view(1, -1, 1, 1)
        self.weight = self.bias = None


class LayerNorm2d(FoldingNorm):
    """Layer normalisation over the channels of each pixel.

    `F.layer_norm` runs on a permuted view: under channels_last memory that copies nothing, and it keeps its
    statistics in float32 whatever the input is.

    References:
        Ba, Kiros, Hinton 2016, arXiv:1607.06450.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalise (N,C,H,W) to zero mean and unit variance over C, then scale and shift."""
        x_NHWC = x_NCHW.permute(0, 2, 3, 1)
        return F.layer_norm(x_NHWC, (self.channels,), self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class GroupNorm2d(FoldingNorm):
    """Group normalisation: statistics over all pixels and the channels of a group, for each picture.

    They differ between a picture and its tiles, and between training patches and whole pictures: a network with this
    norm gives another result for another tile. Prefer `LayerNorm2d` where pictures are larger than the patches.

    There are 8 groups, or the largest power of two below that divides the channels.

    References:
        Wu, He 2018, "Group Normalization", arXiv:1803.08494.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalise (N,C,H,W) to zero mean and unit variance over each group, then scale and shift."""
        groups = math.gcd(self.channels, 8)
        # not F.group_norm, which refuses a single pixel
        return torch.group_norm(x_NCHW, groups, self.weight, self.bias, self.eps)


NORMS: dict[str, Callable[[int], FoldingNorm]] = {"layer": LayerNorm2d, "group": GroupNorm2d}

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class DropPath(nn.Module):
    """Stochastic depth: in training a residual branch is left out for some samples of the batch, drawn each time.

    The others are scaled up, so that the mean stays. Draws from torch's global generator, as dropout does; the
    identity in evaluation mode.

    Args:
        probability: of leaving a sample's branch out, in [0,1).

    References:
        Huang, Sun, Liu, Sedra, Weinberger 2016, "Deep Networks with Stochastic Depth", arXiv:1603.09382.
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch_NCHW: Tensor) -> Tensor:
        """Return the branch, zero for the samples that go without it."""
        if not self.training or self.probability == 0:
            return branch_NCHW
        keep = 1 - self.probability
        return branch_NCHW * branch_NCHW.new_empty(len(branch_NCHW), 1, 1, 1).bernoulli_(keep).div_(keep)


class SimpleGate(nn.Module):
    """Multiply the two halves of the channels: (N,2C,H,W) to (N,C,H,W).

    Args:
        activation: of the first half. With a GELU this is the gate of GEGLU; None for none.

    References:
        Chen, Chu, Zhang, Sun 2022, arXiv:2204.04676; for GEGLU Shazeer 2020, arXiv:2002.05202.
    """

    def __init__(self, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.activation = activation or nn.Identity()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return first half, activated, times second half."""
        a, b = x_NCHW.chunk(2, dim=1)
        return self.activation(a) * b


class GatedHalves(nn.Module):
    """The gate after convolutions whose two halves are computed one after the other, for inference.

    Equal to `SimpleGate` after the same 1x1 and depthwise convolutions, with smaller maps that are multiplied in place:
    `scripts/bench_layers.py` measures both.

    Args:
        convs: convolutions with 2C output channels; those after the first are depthwise.
        activation: of the first half; None for none.
    """

    def __init__(self, *convs: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Sequential(*(_half_of(conv, 0) for conv in convs), activation or nn.Identity())
        self.second = nn.Sequential(*(_half_of(conv, 1) for conv in convs))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map (N,C,H,W) to the same shape."""
        gated: Tensor = self.first(x_NCHW)
        return gated.mul_(self.second(x_NCHW))


def _half_of(conv: nn.Conv2d, index: int) -> nn.Conv2d:
    """Return the convolution that computes the first (0) or second (1) half of the output channels."""
    half = copy.deepcopy(conv)
    half.weight = nn.Parameter(conv.weight.chunk(2)[index].clone(), requires_grad=False)
    if conv.bias is not None:
        half.bias = nn.Parameter(conv.bias.chunk(2)[index].clone(), requires_grad=False)
    half.out_channels //= 2
    if conv.groups > 1:
        half.in_channels, half.groups = half.out_channels, half.out_channels
    return half


class SCA(nn.Sequential):
    """Simplified channel attention: the 1x1 convolution of an average over the surroundings, without a sigmoid.

    Returns the factors that the block multiplies by. A Sequential, so that the keys are those of the official
    checkpoints (`sca.1.weight`).

    A global average differs between a picture and its tiles, and between training patches and whole pictures. With a
    window, maps larger than it get local averages: means of cells, averaged over the window, carried back to each
    pixel by bilinear interpolation, at the cost of one more pass over memory. Networks trained with global averages of
    patches can be given local ones afterwards, TLC: exact means around every pixel.

    Args:
        channels: C.
        window: side of the surroundings in pixels of the map, about: they are made of whole cells; None for a global
            average, as published.

    Attributes:
        limit: what the factors stay within, by a tanh; None for unbounded ones, as published. The factors multiply a
            product of two maps whose average they are taken from, so strong repeated texture, whose average is as large
            as its peaks, can drive a deep network to values thousands of times too large.
        local_size: side of the surroundings under TLC, in pixels of the map; None without it.
        disagreement: of the last pass under TLC: how far the factors of a place lie from those that the global averages
            of its picture give, at most, relative to these.

    References:
        Chen, Chu, Zhang, Sun 2022, arXiv:2204.04676; for local averages at test time Chu, Chen, Chen, Lu 2022,
        arXiv:2112.04491.
    """

    def __init__(self, channels: int, window: int | None = None) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), PointwiseConv2d(channels, channels))
        self.window = window
        self.limit: float | None = None
        self.local_size: int | None = None
        self.disagreement = 0.0

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return factors that broadcast over (N,C,H,W): (N,C,1,1), or (N,C,H,W) where averages are local."""
        self.disagreement = 0.0
        height, width = x_NCHW.shape[-2:]
        if self.window is None and self.local_size is not None and max(height, width) > self.local_size:
            return self._exact_local(x_NCHW, self.local_size)
        if self.window is None or max(height, width) <= self.window:
            return self._factors(self[0](x_NCHW))
        cell = cell_of(self.window)
        reach = self.window // (2 * cell)
        means = F.avg_pool2d(x_NCHW, cell, ceil_mode=True, count_include_pad=False) if cell > 1 else x_NCHW
        means = F.avg_pool2d(means, (2 * reach + 1, 1), 1, (reach, 0), count_include_pad=False)
        means = F.avg_pool2d(means, (1, 2 * reach + 1), 1, (0, reach), count_include_pad=False)
        factors = self._factors(means)
        if cell > 1:
            factors = F.interpolate(factors, scale_factor=cell, mode="bilinear", align_corners=False)
        return factors[..., :height, :width]

    def _factors(self, means: Tensor) -> Tensor:
        factors: Tensor = self[1](means)
        return factors if self.limit is None else self.limit * torch.tanh(factors / self.limit)

    def _exact_local(self, x_NCHW: Tensor, size: int) -> Tensor:
        factors = self._factors(local_mean(x_NCHW, size))
        usual = self._factors(self[0](x_NCHW)).float()
        distance = (factors.float() - usual).norm(dim=1).amax((1, 2))
        ratios = distance / usual.norm(dim=1).amin((1, 2)).clamp_min(1e-6)  # one for each picture
        self.disagreement = float(ratios.detach().amax())
        return factors


def cell_of(window: int) -> int:
    """Return the side of the cells that `SCA` makes windows of: a power of two, so that tiles and wholes share them."""
    return 2 ** int(math.log2(max(1, window / 3)))


def local_mean(x_NCHW: Tensor, size: int) -> Tensor:
    """Return the mean over the square around every pixel, by integral images in float64.

    Args:
        x_NCHW: any size.
        size: side of the square in pixels; where the map is smaller, its side. Squares stay inside the map: near a
            border the nearest that fits is taken.

    Returns:
        The same shape and type.
    """
    height, width = x_NCHW.shape[-2:]
    rows, columns = min(size, height), min(size, width)
    top, left = (rows - 1) // 2, (columns - 1) // 2
    borders = (left, columns - 1 - left, top, rows - 1 - top)
    means = torch.empty_like(x_NCHW)
    for first in range(0, x_NCHW.shape[1], 16):  # channels at a time: a float64 copy of all would be large
        sums = F.pad(x_NCHW[:, first : first + 16].double().cumsum(-1).cumsum(-2), (1, 0, 1, 0))
        strips = sums[..., rows:, :] - sums[..., :-rows, :]
        inner = (strips[..., columns:] - strips[..., :-columns]) / (rows * columns)
        means[:, first : first + 16] = F.pad(inner, borders, mode="replicate")
    return means


def mirrored_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Continue (N,C,H,W) to the right and downwards, mirrored as often as it takes, until its sides are multiples.

    The channels stay the last in memory where they were, which `mirror_borders` does not see to.
    """
    height, width = image.shape[-2:]
    bottom, right = height + -height % multiple, width + -width % multiple
    while (height, width) != (bottom, right):
        down, across = min(bottom - height, max(height - 1, 1)), min(right - width, max(width - 1, 1))
        mode = "reflect" if height > 1 and width > 1 else "replicate"  # a single row or column has no mirror image
        image = F.pad(image, (0, across, 0, down), mode=mode)
        height, width = image.shape[-2:]
    return image


def halved(image: Tensor) -> Tensor:
    """Return (N,C,H,W) at half its size, rounded up: means of 2x2 pixels, or of those there are at an odd border."""
    return F.avg_pool2d(image, 2, ceil_mode=True)


def enlarged(image: Tensor) -> Tensor:
    """Return (N,C,H,W) at twice its size, bilinearly."""
    return F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution, see `pointwise_conv2d`.

    Args:
        in_channels: of the map that comes in.
        out_channels: of the one that goes out.
        bias: whether a number for each channel is added.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Convolve (N,C,H,W), same size."""
        return pointwise_conv2d(x_NCHW, self.weight, self.bias)


def pointwise_conv2d(x_NCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """1x1 convolution that a single thread of a CPU computes the way in which several do.

    PyTorch leaves fewer than 16 pictures, in float32 and on one thread, to a kernel that copies the map there and back.
    Dilated convolutions of all but small maps it hands to oneDNN, and a kernel of one tap has nothing to dilate.
    `scripts/bench_layers.py --threads 1` measures both.

    Args:
        x_NCHW: (N,C,H,W), fastest in channels_last memory.
        weight: (D,C,1,1).
        bias: (D,) or None.

    Returns:
        (N,D,H,W).
    """
    if torch.compiler.is_compiling() or x_NCHW.device.type != "cpu" or x_NCHW.dtype != torch.float32:
        return F.conv2d(x_NCHW, weight, bias)
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    is_large_and_alone = x_NCHW.numel() > SMALL_MAP and torch.get_num_threads() == 1
    return F.conv2d(x_NCHW, weight, bias, dilation=2 if has_onednn and is_large_and_alone else 1)


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution that keeps the size, any odd kernel and any dilation.

    PyTorch's fast CPU kernel takes a dilated depthwise convolution only where its padding is small; beyond that a loop
    of about 1 GFLOP/s runs. With the padding written out the fast kernel takes any (4 to 30 times faster), but not its
    gradient: there the phases of the image are faster. `scripts/bench_layers.py` measures all three. Gradients on a CPU
    are our own, see `depthwise_conv2d`.

    Args:
        channels: C.
        kernel_size: rows and columns, or one number for both.
        dilation: of the axes along which the kernel is longer than 1.
    """

    def __init__(self, channels: int, kernel_size: int | tuple[int, int], dilation: int = 1) -> None:
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        if height % 2 == 0 or width % 2 == 0:
            raise ValueError(f"a depthwise kernel must be odd to keep the size, got {kernel_size}")
        dilations = (dilation if height > 1 else 1, dilation if width > 1 else 1)
        self.pads = (dilations[0] * (height // 2), dilations[1] * (width // 2))
        super().__init__(channels, channels, (height, width), padding=self.pads, dilation=dilations, groups=channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Convolve (N,C,H,W), zero padding, same size."""
        dilation, (pad_y, pad_x) = (self.dilation[0], self.dilation[1]), self.pads
        if x_NCHW.device.type != "cpu":
            return F.conv2d(x_NCHW, self.weight, self.bias, padding=self.pads, dilation=dilation, groups=self.groups)
        if dilation == (1, 1):
            return depthwise_conv2d(x_NCHW, self.weight, self.bias)
        if torch.is_grad_enabled():
            return polyphase_depthwise_conv2d(x_NCHW, self.weight, self.bias, dilation)
        padded = F.pad(x_NCHW, (pad_x, pad_x, pad_y, pad_y))
        return F.conv2d(padded, self.weight, self.bias, dilation=dilation, groups=self.groups)


def polyphase_depthwise_conv2d(
    x_NCHW: Tensor, weight: Tensor, bias: Tensor | None, dilation: int | tuple[int, int]
) -> Tensor:
    """Dilated depthwise convolution as plain ones on the phases of the image; equal to rounding.

    Args:
        x_NCHW: (N,C,H,W), any size from 1x1 up; fastest in channels_last memory.
        weight: (C,1,k,l), both odd.
        bias: (C,) or None.
        dilation: of rows and columns (p, q), or one number for both; phase (i, j) holds the pixels (i + p·m, j + q·n).

    Returns:
        (N,C,H,W), zero padding.
    """
    n, c, height, width = x_NCHW.shape
    p, q = (dilation, dilation) if isinstance(dilation, int) else dilation
    rows, columns = -(-height // p), -(-width // q)
    x_NHWC = F.pad(x_NCHW, (0, columns * q - width, 0, rows * p - height)).permute(0, 2, 3, 1)
    phases = x_NHWC.reshape(n, rows, p, columns, q, c).permute(0, 2, 4, 1, 3, 5).reshape(n * p * q, rows, columns, c)
    y = depthwise_conv2d(phases.permute(0, 3, 1, 2), weight, bias)
    y = y.permute(0, 2, 3, 1).reshape(n, p, q, rows, columns, c).permute(0, 3, 1, 4, 2, 5)
    return y.reshape(n, rows * p, columns * q, c)[:, :height, :width].permute(0, 3, 1, 2)


def depthwise_conv2d(x_NCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Depthwise convolution with zero padding and the same size, whose gradients are fast on a CPU, too.

    PyTorch hands the gradients to oneDNN, which is fast for the weights of kernels of 3 at most, and takes as long
    again for the bias of larger ones. Here the input's gradient is a convolution by the turned kernel, that of a larger
    kernel's weights is put together from overlapping pieces of 3x3, and that of the bias is a sum.
    `scripts/bench_layers.py` measures both.

    Args:
        x_NCHW: (N,C,H,W), fastest in channels_last memory.
        weight: (C,1,k,l), both odd.
        bias: (C,) or None.

    Returns:
        (N,C,H,W).
    """
    if x_NCHW.device.type != "cpu" or not torch.is_grad_enabled() or max(weight.shape[-2:]) <= FAST_KERNEL:
        return F.conv2d(x_NCHW, weight, bias, padding=_halves(weight), groups=len(weight))
    if torch.is_autocast_enabled("cpu"):  # it casts for the convolution inside, but not what is kept for the gradients
        dtype = torch.get_autocast_dtype("cpu")
        x_NCHW, weight, bias = x_NCHW.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    y: Tensor = _DepthwiseConv2d.apply(x_NCHW, weight, bias)  # type: ignore[no-untyped-call]
    return y


class _DepthwiseConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401  torch's
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=_halves(weight), groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        grad = grad.contiguous(memory_format=torch.channels_last)
        turned = weight.flip(2, 3)
        return (
            F.conv2d(grad, turned, padding=_halves(weight), groups=len(weight)) if of_x else None,
            _gradient_of_weight(x, grad, weight) if of_weight else None,
            grad.sum((0, 2, 3)) if of_bias else None,
        )


def _gradient_of_weight(x: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of a depthwise kernel, in pieces of 3 taps a side that share their borders."""
    rows, columns = weight.shape[-2:]
    height, width = min(rows, FAST_KERNEL), min(columns, FAST_KERNEL)
    pad_y, pad_x = _halves(weight)
    padded = F.pad(x, (pad_x, pad_x, pad_y, pad_y))
    piece, gradient = weight[..., :height, :width], torch.empty_like(weight)
    for top, left in itertools.product(range(0, rows - height + 1, 2), range(0, columns - width + 1, 2)):
        seen = padded[..., top : top + x.shape[-2] + height - 1, left : left + x.shape[-1] + width - 1]
        gradient[..., top : top + height, left : left + width] = _gradient_of_piece(seen, grad, piece)
    return gradient


def _gradient_of_piece(x: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    x, weight = x.contiguous(memory_format=torch.channels_last), weight.contiguous()
    found: Tensor = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        bias_sizes=None,
        stride=[1, 1],
        padding=[0, 0],
        dilation=[1, 1],
        transposed=False,
        output_padding=[0, 0],
        groups=len(weight),
        output_mask=[False, True, False],
    )[1]
    return found


def _halves(weight: Tensor) -> tuple[int, int]:
    return weight.shape[-2] // 2, weight.shape[-1] // 2
