"""Time the layers that decide the speed on a CPU: `python scripts/bench_layers.py [--quick]`.

The dilated depthwise convolution in three ways that agree to rounding, forward and forward + backward:
direct (what PyTorch does by itself), padded (zeros written out first), polyphase (plain convolutions on the phases).
The gradients of plain depthwise convolutions of 5x5 and 7x7, PyTorch's and ours, in float32 and bfloat16.
Layer normalisation over the channels by `F.layer_norm` on a view, and by mean and variance.
1x1 convolutions, PyTorch's and ours, which differ with one thread alone (`--threads 1`).
The first half of a NAFBlock, for inference: its two convolutions whole and then gated, or each half by itself.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from benchmarking import Clock, hardware, interleaved, markdown_table, use_threads
from plain_nets import PlainLayerNorm2d
from torch import Tensor, nn

from restore.models.layers import (
    DepthwiseConv2d,
    GatedHalves,
    LayerNorm2d,
    PointwiseConv2d,
    SimpleGate,
    depthwise_conv2d,
    pointwise_conv2d,
    polyphase_depthwise_conv2d,
)

Layer = Callable[[Tensor, Tensor, Tensor], Tensor]

PICTURE = [(1, 12, 320, 480), (1, 24, 160, 240), (1, 48, 80, 120), (1, 96, 40, 60), (1, 192, 20, 30)]
PATCHES = [(16, 12, 64, 64), (16, 24, 32, 32), (16, 48, 16, 16), (16, 96, 8, 8), (16, 192, 4, 4)]
MEMORY = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
DILATION = 3


def convolutions(kernel: int) -> dict[str, Layer]:
    """Return the three ways to convolve."""
    padding = DILATION * (kernel // 2)

    def direct(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, padding=padding, dilation=DILATION, groups=len(weight))

    def padded(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (padding,) * 4), weight, bias, dilation=DILATION, groups=len(weight))

    def polyphase(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return polyphase_depthwise_conv2d(x, weight, bias, DILATION)

    return {"direct": direct, "padded": padded, "polyphase": polyphase}


def time_layers(
    layers: dict[str, Layer], leaves: Sequence[Tensor], *, backward: bool, repeats: int, clock: Clock
) -> dict[str, float]:
    """Return the median seconds of each layer on (x, weight, bias), with the gradients of all three if asked."""
    x, weight, bias = (leaf.clone().requires_grad_(backward) for leaf in leaves)
    upstream = torch.randn_like(leaves[0])

    def run(layer: Layer) -> None:
        with torch.set_grad_enabled(backward):
            y = layer(x, weight, bias)
        if backward:
            torch.autograd.grad(y, (x, weight, bias), upstream)

    return interleaved({name: partial(run, layer) for name, layer in layers.items()}, repeats, clock=clock)


def row(label: str, shape: Sequence[int], memory: str, seconds: dict[str, float]) -> list[str]:
    """Lay out milliseconds, and how many times faster than the first the others are."""
    first, *others = seconds.values()
    ratios = [f"{first / other:.1f}×" for other in others]
    return [label, "×".join(map(str, shape)), memory, *(f"{1000 * value:.2f}" for value in seconds.values()), *ratios]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small shapes, once")
    parser.add_argument("--threads", type=int, help="CPU threads; with 1 the processor's time is measured")
    args = parser.parse_args()
    clock = use_threads(args.threads)
    shapes, repeats = (PATCHES[2:], 1) if args.quick else (PICTURE + PATCHES, 5)
    print(hardware())
    for backward in (False, True):
        what = "forward + backward" if backward else "forward"
        convolution_rows, norm_rows = [], []
        for shape in shapes:
            for name, memory in MEMORY.items():
                x = torch.randn(shape).contiguous(memory_format=memory)
                for kernel in (7, 5):
                    leaves = (x, torch.randn(shape[1], 1, kernel, kernel) / kernel, torch.randn(shape[1]))
                    seconds = time_layers(convolutions(kernel), leaves, backward=backward, repeats=repeats, clock=clock)
                    convolution_rows.append(row(f"{kernel}×{kernel}", shape, name, seconds))
                leaves = (x, torch.ones(shape[1]), torch.zeros(shape[1]))
                seconds = time_layers(norms(shape[1]), leaves, backward=backward, repeats=repeats, clock=clock)
                norm_rows.append(row("norm", shape, name, seconds))
        print(f"\nDepthwise convolution, dilation {DILATION}, {what}, ms (medians, interleaved)\n")
        names = ["direct", "padded", "polyphase"]
        print(markdown_table(["kernel", "shape", "memory", *names, *names[1:]], convolution_rows))
        print(f"\nLayer normalisation over channels, {what}, ms\n")
        print(markdown_table(["layer", "shape", "memory", "arithmetic", "F.layer_norm", "F.layer_norm"], norm_rows))
    gradient_rows = []
    patches = [shape for shape in shapes if shape in PATCHES]
    for dtype, kernel, shape in itertools.product((torch.float32, torch.bfloat16), (7, 5), patches):
        x = torch.randn(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
        leaves = (x, torch.randn(shape[1], 1, kernel, kernel, dtype=dtype), torch.randn(shape[1], dtype=dtype))
        ways: dict[str, Layer] = {
            "PyTorch's": partial(F.conv2d, padding=kernel // 2, groups=shape[1]),
            "ours": depthwise_conv2d,
        }
        seconds = time_layers(ways, leaves, backward=True, repeats=repeats, clock=clock)
        gradient_rows.append(row(f"{kernel}×{kernel}", shape, str(dtype).removeprefix("torch."), seconds))
    print("\nDepthwise convolution, forward + backward, channels_last, ms\n")
    print(markdown_table(["kernel", "shape", "type", "PyTorch's", "ours", "ours"], gradient_rows))
    pointwise_rows = []
    for backward, shape in itertools.product((False, True), shapes):
        channels = shape[1]
        x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        leaves = (x, torch.randn(channels, channels, 1, 1), torch.randn(channels))
        ways = {"PyTorch's": F.conv2d, "ours": pointwise_conv2d}
        seconds = time_layers(ways, leaves, backward=backward, repeats=repeats, clock=clock)
        pointwise_rows.append(row("forward + backward" if backward else "forward", shape, "channels_last", seconds))
    print("\n1x1 convolution, ms\n")
    print(markdown_table(["", "shape", "memory", "PyTorch's", "ours", "ours"], pointwise_rows))
    gate_rows = [row("gate", shape, "channels_last", time_gates(shape, repeats, clock)) for shape in shapes]
    print("\nConvolutions and gate of a NAFBlock, forward without gradients, ms\n")
    print(markdown_table(["layer", "shape", "memory", "whole", "by halves", "by halves"], gate_rows))


@torch.inference_mode()
def time_gates(shape: Sequence[int], repeats: int, clock: Clock) -> dict[str, float]:
    """Return the median seconds of 1x1, depthwise 3x3 and gate, whole and by halves."""
    channels = shape[1]
    x = torch.randn(*shape).contiguous(memory_format=torch.channels_last)
    convs = PointwiseConv2d(channels, 2 * channels), DepthwiseConv2d(2 * channels, 3)
    whole = nn.Sequential(*convs, SimpleGate()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return interleaved({"whole": partial(whole, x), "by halves": partial(GatedHalves(*convs), x)}, repeats, clock=clock)


def norms(channels: int) -> dict[str, Layer]:
    """Return the two ways to normalise."""
    modules = {"arithmetic": PlainLayerNorm2d(channels), "F.layer_norm": LayerNorm2d(channels)}

    def layer(module: nn.Module) -> Layer:
        def normalise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            result: Tensor = torch.func.functional_call(module, {"weight": weight, "bias": bias}, (x,))
            return result

        return normalise

    return {name: layer(module) for name, module in modules.items()}


if __name__ == "__main__":
    main()
