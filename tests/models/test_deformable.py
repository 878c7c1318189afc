from __future__ import annotations

import importlib
import math
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from plain_nets import randomise
from torch import Tensor

from restore.metrics.torchvision_shim import import_torchvision
from restore.models.deformable import DeformableDepthwiseConv2d, deformable_depthwise_conv2d

CASES = [
    pytest.param(3, 1, (5, 4), False, id="3x3"),
    pytest.param(3, 2, (4, 7), True, id="3x3 dilated with mask"),
    pytest.param(5, 1, (1, 1), True, id="one pixel with mask"),
    pytest.param(1, 1, (3, 2), False, id="1x1"),
]


def rand(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def inputs(
    kernel: int, size: tuple[int, int], *, masked: bool, batch: int = 2, channels: int = 3, dtype: torch.dtype
) -> tuple[list[Tensor], Tensor | None]:
    """Return map, offsets that reach far outside, weight and bias; and the mask."""
    tensors = [
        rand(batch, channels, *size, seed=1, dtype=dtype),
        2 * rand(batch, 2 * kernel**2, *size, seed=2, dtype=dtype),
        rand(channels, 1, kernel, kernel, seed=3, dtype=dtype),
        rand(channels, seed=4, dtype=dtype),
    ]
    return tensors, rand(batch, kernel**2, *size, seed=5, dtype=dtype).sigmoid() if masked else None


def sampled(plane: list[list[float]], y: float, x: float) -> float:
    """Bilinear interpolation, zero outside."""
    total, top, left = 0.0, math.floor(y), math.floor(x)
    for row, column in product((top, top + 1), (left, left + 1)):
        if 0 <= row < len(plane) and 0 <= column < len(plane[0]):
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * plane[row][column]
    return total


def by_loops(tensors: list[Tensor], mask: Tensor | None, dilation: int) -> Tensor:
    """The definition, one number at a time."""
    x, offsets, weight, bias = tensors
    kernel, y = weight.shape[-1], torch.zeros_like(x)
    for n, c, row, column in product(*map(range, x.shape)):
        total, plane = float(bias[c]), x[n, c].tolist()
        for tap, (i, j) in enumerate(product(range(kernel), repeat=2)):
            dy, dx = (float(offsets[n, 2 * tap + axis, row, column]) for axis in (0, 1))
            at_y, at_x = row + (i - kernel // 2) * dilation + dy, column + (j - kernel // 2) * dilation + dx
            factor = 1.0 if mask is None else float(mask[n, tap, row, column])
            total += factor * float(weight[c, 0, i, j]) * sampled(plane, at_y, at_x)
        y[n, c, row, column] = total
    return y


@pytest.mark.parametrize(("kernel", "dilation", "size", "masked"), CASES)
def test_it_is_the_definition_written_as_loops(
    kernel: int, dilation: int, size: tuple[int, int], *, masked: bool
) -> None:
    tensors, mask = inputs(kernel, size, masked=masked, dtype=torch.float64)
    expected = by_loops(tensors, mask, dilation)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            y = deformable_depthwise_conv2d(*tensors, mask=mask, dilation=dilation)
        torch.testing.assert_close(y, expected, atol=1e-12, rtol=1e-12)
    single = [tensor.float() for tensor in tensors]
    y = deformable_depthwise_conv2d(*single, mask=mask if mask is None else mask.float(), dilation=dilation)
    torch.testing.assert_close(y, expected.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("kernel", "dilation", "size", "masked"), [*CASES, pytest.param(7, 3, (33, 18), True, id="7x7")]
)
def test_it_is_torchvisions_operator(
    kernel: int, dilation: int, size: tuple[int, int], memory: torch.memory_format, *, masked: bool
) -> None:
    import_torchvision()
    deform_conv2d = importlib.import_module("torchvision.ops").deform_conv2d
    tensors, mask = inputs(kernel, size, masked=masked, channels=8, dtype=torch.float32)
    tensors[0] = tensors[0].contiguous(memory_format=memory)
    tensors[2] /= kernel
    leaves = [tensor.requires_grad_() for tensor in (*tensors, *([] if mask is None else [mask]))]
    x, offsets, weight, bias = tensors
    padding = dilation * (kernel // 2)
    try:
        expected = deform_conv2d(x, offsets, weight, bias, padding=padding, dilation=dilation, mask=mask)
    except (AttributeError, NotImplementedError, RuntimeError) as error:  # what torch raises for an absent kernel
        pytest.skip(f"torchvision's compiled operators do not fit this torch: {str(error).partition('.')[0]}")
    ours = deformable_depthwise_conv2d(x, offsets, weight, bias, mask=mask, dilation=dilation)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    upstream = rand(*x.shape, seed=6) / x.numel() ** 0.5
    for one, other in zip(
        torch.autograd.grad(ours, leaves, upstream), torch.autograd.grad(expected, leaves, upstream), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("masked", [True, False])
def test_gradients_are_right(*, masked: bool) -> None:
    tensors, mask = inputs(3, (3, 4), masked=masked, batch=1, channels=2, dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (*tensors, *([] if mask is None else [mask]))]

    def run(*leaves: Tensor) -> Tensor:
        return deformable_depthwise_conv2d(*leaves[:4], mask=leaves[4] if masked else None, dilation=2)

    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_the_channels_lie_in_memory_where_they_lay(memory: torch.memory_format) -> None:
    (x, *others), _ = inputs(3, (5, 4), masked=False, dtype=torch.float32)
    y = deformable_depthwise_conv2d(x.contiguous(memory_format=memory), *others)
    assert y.is_contiguous(memory_format=memory)


def test_dense_offsets_see_what_the_taps_see_and_separable_ones_three_pixels() -> None:
    dense: Any = DeformableDepthwiseConv2d(4, 5, 3).predict
    assert (dense.kernel_size, dense.dilation, dense.padding) == ((5, 5), (3, 3), (6, 6))
    separable: Any = DeformableDepthwiseConv2d(4, 5, 3, offsets="separable").predict
    first, last = separable
    assert (first.kernel_size, last.kernel_size, last.dilation) == ((1, 1), (3, 3), (1, 1))


def test_whole_offsets_shift_the_picture_exactly() -> None:
    x = rand(2, 3, 6, 7, seed=1)
    offsets = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(2, 2, 6, 7)
    y = deformable_depthwise_conv2d(x, offsets, torch.ones(3, 1, 1, 1))
    assert torch.equal(y, F.pad(x, (1, 0, 0, 2))[:, :, 2:, :7])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_positions_are_exact_in_half_precision(dtype: torch.dtype) -> None:
    x = rand(1, 2, 3, 700, seed=1).to(dtype)  # bfloat16 alone cannot count beyond 256
    y = deformable_depthwise_conv2d(x, torch.zeros(1, 2, 3, 700, dtype=dtype), torch.ones(2, 1, 1, 1, dtype=dtype))
    assert torch.equal(y, x)


def test_senseless_offsets_read_zero_or_give_no_number() -> None:
    offsets = torch.full((1, 2, 2, 2), math.nan)
    offsets[..., 0] = 1e30
    y = deformable_depthwise_conv2d(torch.ones(1, 1, 2, 2), offsets, torch.ones(1, 1, 1, 1))
    assert (y[0, 0, :, 0] == 0).all()
    assert y[0, 0, :, 1].isnan().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("kernel", "dilation", "size", "masked"), CASES)
def test_cuda_agrees_with_the_cpu(kernel: int, dilation: int, size: tuple[int, int], *, masked: bool) -> None:
    tensors, mask = inputs(kernel, size, masked=masked, dtype=torch.float32)
    results = []
    for device in ("cpu", "cuda"):
        leaves = [
            tensor.detach().to(device).requires_grad_() for tensor in (*tensors, *([] if mask is None else [mask]))
        ]
        y = deformable_depthwise_conv2d(*leaves[:4], mask=leaves[4] if masked else None, dilation=dilation)
        results.append([y, *torch.autograd.grad(y.square().mean(), leaves)])
    for ours, other in zip(*results, strict=True):
        torch.testing.assert_close(other.cpu(), ours, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("modulated", [True, False])
@pytest.mark.parametrize("offsets", ["dense", "separable"])
@pytest.mark.parametrize(("kernel", "dilation"), [(5, 1), (3, 3)])
def test_a_new_layer_is_the_plain_convolution_and_learns_to_move(
    kernel: int, dilation: int, offsets: str, *, modulated: bool
) -> None:
    layer = DeformableDepthwiseConv2d(4, kernel, dilation, offsets=offsets, modulated=modulated)
    x = rand(2, 4, 9, 8, seed=1)
    plain = F.conv2d(x, layer.weight, layer.bias, padding=layer.pads, dilation=dilation, groups=4)
    y = layer(x)
    torch.testing.assert_close(y, plain, atol=1e-6, rtol=1e-5)
    y.square().sum().backward()
    last = [parameter for parameter in layer.predict.parameters() if parameter.dim() > 1][-1]
    assert last.grad is not None
    assert last.grad.flatten(1).any(1).sum() > kernel**2
    randomise(layer)
    assert not torch.allclose(layer(x), F.conv2d(x, layer.weight, layer.bias, 1, layer.pads, dilation, 4), atol=1e-3)
