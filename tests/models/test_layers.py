from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from plain_nets import PlainLayerNorm2d, randomise
from torch import Tensor, nn

from restore.models.layers import (
    ACTIVATIONS,
    SCA,
    DepthwiseConv2d,
    DropPath,
    GatedHalves,
    GroupNorm2d,
    LayerNorm2d,
    PointwiseConv2d,
    SimpleGate,
    depthwise_conv2d,
    enlarged,
    halved,
    local_mean,
    mirrored_to_multiple,
    pointwise_conv2d,
    polyphase_depthwise_conv2d,
)

MEMORY = [torch.contiguous_format, torch.channels_last]


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("memory", MEMORY)
def test_layer_norm_is_the_arithmetic_one(memory: torch.memory_format) -> None:
    norm, plain = LayerNorm2d(6), PlainLayerNorm2d(6)
    randomise(norm)
    plain.load_state_dict(norm.state_dict())
    x = (175 * rand(2, 6, 5, 7) + 30).contiguous(memory_format=memory)
    torch.testing.assert_close(norm(x), plain(x), atol=1e-5, rtol=1e-5)
    assert norm(x).is_contiguous(memory_format=torch.channels_last)


def test_layer_norm_keeps_its_statistics_in_float32() -> None:
    norm = LayerNorm2d(8).to(torch.bfloat16)
    x = (170 + rand(1, 8, 4, 4)).to(torch.bfloat16)
    torch.testing.assert_close(norm(x).float(), LayerNorm2d(8)(x.float()), atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (12, 4), (16, 8)])
@pytest.mark.parametrize("memory", MEMORY)
def test_group_norm_is_the_arithmetic_one(channels: int, groups: int, memory: torch.memory_format) -> None:
    norm = GroupNorm2d(channels)
    randomise(norm)
    x = (175 * rand(2, channels, 5, 7) + 30).contiguous(memory_format=memory)
    grouped = x.reshape(2, groups, -1)
    deviation = (grouped.var(2, unbiased=False, keepdim=True) + 1e-6).sqrt()
    plain = ((grouped - grouped.mean(2, keepdim=True)) / deviation).view_as(x)
    weight, bias = (norm.state_dict()[key].view(-1, 1, 1) for key in ("weight", "bias"))
    torch.testing.assert_close(norm(x), plain * weight + bias, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [LayerNorm2d, GroupNorm2d])
def test_a_norm_folds_into_the_convolution_that_reads_it(kind: type[LayerNorm2d | GroupNorm2d]) -> None:
    norm, conv = kind(5), nn.Conv2d(5, 3, 1)
    randomise(norm)
    x = rand(2, 5, 4, 3)
    expected = conv(norm(x))
    norm.fold_into(conv)
    torch.testing.assert_close(conv(norm(x)), expected, atol=1e-5, rtol=1e-5)
    assert not list(norm.parameters())


def test_simple_gate_multiplies_the_halves() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
    assert SimpleGate()(x).flatten().tolist() == [3.0, 8.0]


@pytest.mark.parametrize("activation", [None, nn.GELU()], ids=repr)
def test_gated_halves_are_the_gate_after_whole_convolutions(activation: nn.Module | None) -> None:
    pointwise, depthwise = nn.Conv2d(5, 12, 1), DepthwiseConv2d(12, 3)
    x = rand(2, 5, 7, 6)
    with torch.no_grad():
        whole = SimpleGate(activation)(depthwise(pointwise(x)))
        halves = GatedHalves(pointwise, depthwise, activation=activation)
        torch.testing.assert_close(halves(x), whole, atol=1e-6, rtol=1e-5)


def test_a_gate_activates_its_first_half() -> None:
    x = rand(2, 6, 3, 4)
    torch.testing.assert_close(SimpleGate(nn.GELU())(x), F.gelu(x[:, :3]) * x[:, 3:])


def test_activations_are_what_they_are_called() -> None:
    x = rand(50)
    formulas = {
        "gelu": 0.5 * x * (1 + torch.erf(x / 2**0.5)),
        "silu": x / (1 + torch.exp(-x)),
        "relu": x.clamp(min=0),
        "tanh": 1 - 2 / (torch.exp(2 * x) + 1),
        "sigmoid": 1 / (1 + torch.exp(-x)),
    }
    assert formulas.keys() == ACTIVATIONS.keys()
    for name, expected in formulas.items():
        torch.testing.assert_close(ACTIVATIONS[name]()(x), expected)


def test_drop_path_leaves_samples_out_and_keeps_the_mean() -> None:
    drop, x = DropPath(0.25), rand(4000, 1, 2, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dropped = drop(x)
        torch.manual_seed(0)
        assert torch.equal(drop(x), dropped)
    gone = (dropped == 0).flatten(1).all(1)
    assert gone.float().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(dropped[~gone], x[~gone] / 0.75)
    assert drop.eval()(x) is x


def test_sca_is_a_linear_map_of_the_channel_means() -> None:
    sca = SCA(4)
    x = rand(2, 4, 3, 5)
    weight, bias = sca.state_dict()["1.weight"], sca.state_dict()["1.bias"]
    expected = x.mean((2, 3)) @ weight[:, :, 0, 0].T + bias
    torch.testing.assert_close(sca(x)[:, :, 0, 0], expected)
    assert sorted(sca.state_dict()) == ["1.bias", "1.weight"]


def test_sca_with_a_window_is_global_on_maps_no_larger() -> None:
    local, everywhere = SCA(4, window=8), SCA(4)
    everywhere.load_state_dict(local.state_dict())
    x = rand(2, 4, 8, 5)
    assert torch.equal(local(x), everywhere(x))
    flat = rand(1, 4, 1, 1).expand(1, 4, 21, 30)
    torch.testing.assert_close(local(flat), everywhere(flat).expand(1, 4, 21, 30))


def test_sca_with_a_window_knows_only_the_surroundings() -> None:
    sca = SCA(2, window=12)
    x = torch.ones(1, 2, 64, 64, requires_grad=True)
    sca(x)[0, :, 30, 30].sum().backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    assert 12 <= rows.max() - rows.min() + 1 <= 24


@torch.no_grad()
def test_a_map_longer_than_its_surroundings_in_one_direction_has_local_averages() -> None:
    windowed, local = SCA(2, window=8), SCA(2)
    local.local_size = 8
    for sca, (height, width) in product((windowed, local), ((5, 40), (40, 5))):
        x = torch.ones(1, 2, height, width)
        x[..., height // 2 :, width // 2 :] = 9  # the far end in either direction
        factors = sca(x)
        assert factors.shape == x.shape
        torch.testing.assert_close(factors[..., 0, 0], sca(torch.ones(1, 2, 1, 1))[..., 0, 0])


def naive_local_mean(x: Tensor, size: int) -> Tensor:
    """The mean of the square around every pixel, each summed by itself, in float64."""
    height, width = x.shape[-2:]
    rows, columns = min(size, height), min(size, width)
    means = torch.empty(x.shape, dtype=torch.float64)
    for y, x_ in product(range(height), range(width)):
        top = min(max(y - (rows - 1) // 2, 0), height - rows)
        left = min(max(x_ - (columns - 1) // 2, 0), width - columns)
        means[..., y, x_] = x[..., top : top + rows, left : left + columns].double().mean((-2, -1))
    return means


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("size", [1, 2, 5, 6, 9, 40])
def test_local_means_are_those_of_the_square_around_every_pixel(size: int, memory: torch.memory_format) -> None:
    for height, width in [(1, 1), (1, 9), (13, 4), (11, 12)]:
        x = rand(2, 18, height, width).contiguous(memory_format=memory)
        torch.testing.assert_close(local_mean(x, size), naive_local_mean(x, size).float(), atol=1e-7, rtol=1e-6)
        assert local_mean(x, size).is_contiguous(memory_format=memory)


@pytest.mark.parametrize("size", [1, 7, 8])
def test_local_means_are_exact_far_from_zero(size: int) -> None:
    x = 1e4 + rand(1, 3, 40, 30)
    error = local_mean(x, size).double() - naive_local_mean(x, size)
    assert error.abs().max() <= 0.51 * 2**-10  # half of what two neighbouring float32 numbers differ by there


def test_local_means_of_bfloat16_are_rounded_once() -> None:
    x = (100 + rand(1, 2, 9, 20)).bfloat16()
    means = local_mean(x, 4)
    assert means.dtype == torch.bfloat16
    assert torch.equal(means, naive_local_mean(x, 4).bfloat16())


@torch.no_grad()
def test_sca_under_tlc_maps_exact_local_means() -> None:
    sca = SCA(4)
    x = rand(2, 4, 10, 7)
    everywhere = sca(x)
    sca.local_size = 10
    assert torch.equal(sca(x), everywhere)
    assert sca.disagreement == 0
    sca.local_size = 6
    torch.testing.assert_close(sca(x), sca[1](naive_local_mean(x, 6).float()))
    far = ((sca(x) - everywhere).norm(dim=1).amax((1, 2)) / everywhere.norm(dim=1).flatten()).max()
    assert sca.disagreement == pytest.approx(float(far), rel=1e-5)
    sca(x[..., :6, :6])
    assert sca.disagreement == 0
    assert sorted(sca.state_dict()) == ["1.bias", "1.weight"]


def test_gradients_go_through_local_means() -> None:
    sca = SCA(2).double()
    sca.local_size = 3
    x = rand(1, 2, 5, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: sca(x), (x, *sca.parameters()), fast_mode=True)


def test_the_disagreement_of_a_batch_is_the_greatest_of_its_pictures() -> None:
    sca = SCA(3)
    sca.local_size = 4
    pictures = torch.stack([1 + rand(3, 8, 9), 50 * rand(3, 8, 9, seed=1), 0.01 * rand(3, 8, 9, seed=2)])
    alone = []
    for picture in pictures:
        sca(picture[None])
        alone.append(sca.disagreement)
    sca(pictures)
    assert sca.disagreement == pytest.approx(max(alone), rel=1e-5)


def test_sca_with_a_window_keeps_it_under_tlc() -> None:
    sca = SCA(3, window=6)
    x = rand(1, 3, 16, 20)
    trained = sca(x)
    sca.local_size = 4
    assert torch.equal(sca(x), trained)
    assert sca.disagreement == 0


@pytest.mark.parametrize(("window", "local_size"), [(None, None), (6, None), (None, 6)])
@torch.no_grad()
def test_sca_with_a_limit_bends_its_factors_into_it(window: int | None, local_size: int | None) -> None:
    sca = SCA(3, window)
    sca.local_size = local_size
    x = 30 * (1 + rand(1, 3, 16, 20))
    free = sca(x)
    assert free.abs().max() > 6
    sca.limit = 4
    assert sca(x).abs().max() <= 4
    if window is None:  # with one, the factors are bent before they are interpolated
        torch.testing.assert_close(sca(x), 4 * (free / 4).tanh())
    sca.limit = 1e4
    torch.testing.assert_close(sca(x), free, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dilation", [2, 3, 4])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_polyphase_is_the_direct_convolution(
    kernel: int, dilation: int, batch: int, memory: torch.memory_format
) -> None:
    channels = 4
    weight, bias = rand(channels, 1, kernel, kernel, seed=1) / kernel, rand(channels, seed=2)
    for height, width in [(1, 1), (1, 9), (2, 3), (17, 23), (24, 12)]:
        image = rand(batch, channels, height, width, seed=3).contiguous(memory_format=memory)
        upstream = rand(batch, channels, height, width, seed=4) / (batch * height * width) ** 0.5
        padding = dilation * (kernel // 2)
        results = []
        for polyphase in (True, False):
            x, w, b = (tensor.detach().clone().requires_grad_() for tensor in (image, weight, bias))
            if polyphase:
                y = polyphase_depthwise_conv2d(x, w, b, dilation)
            else:
                y = F.conv2d(x, w, b, padding=padding, dilation=dilation, groups=channels)
            results.append([y, *torch.autograd.grad(y, (x, w, b), upstream)])
        for ours, direct in zip(*results, strict=True):
            torch.testing.assert_close(ours, direct, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (7, 1), (3, 2), (5, 2), (5, 3), (7, 3), (9, 4)])
def test_depthwise_is_a_convolution_with_the_keys_of_one(*, kernel: int, dilation: int, gradients: bool) -> None:
    layer = DepthwiseConv2d(8, kernel, dilation)
    plain = nn.Conv2d(8, 8, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=8)
    plain.load_state_dict(layer.state_dict())
    with torch.set_grad_enabled(gradients):
        for size, memory in product([(1, 1), (5, 4), (16, 33)], MEMORY):
            x = rand(2, 8, *size).contiguous(memory_format=memory)
            torch.testing.assert_close(layer(x), plain(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize(("kernel", "dilation"), [((1, 7), 1), ((7, 1), 3), ((1, 5), 2), ((3, 5), 3)])
def test_depthwise_takes_rows_and_columns(*, kernel: tuple[int, int], dilation: int, gradients: bool) -> None:
    layer = DepthwiseConv2d(8, kernel, dilation)
    dilations = [dilation if size > 1 else 1 for size in kernel]
    padding = [d * (size // 2) for d, size in zip(dilations, kernel, strict=True)]
    with torch.set_grad_enabled(gradients):
        for size, memory in product([(1, 1), (5, 4), (16, 33)], MEMORY):
            x = rand(2, 8, *size).contiguous(memory_format=memory)
            direct = F.conv2d(x, layer.weight, layer.bias, 1, padding, dilations, 8)
            torch.testing.assert_close(layer(x), direct, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("kernel", [(5, 5), (7, 7), (13, 13), (1, 7), (5, 1), (3, 9)])
def test_gradients_of_large_depthwise_kernels_are_those_of_torch(
    kernel: tuple[int, int], memory: torch.memory_format
) -> None:
    padding = (kernel[0] // 2, kernel[1] // 2)
    for height, width in [(1, 1), (9, 7), (16, 33)]:
        leaves = (
            rand(2, 5, height, width, seed=1).double().contiguous(memory_format=memory).requires_grad_(),
            rand(5, 1, *kernel, seed=2).double().requires_grad_(),
            rand(5, seed=3).double().requires_grad_(),
        )
        upstream = rand(2, 5, height, width, seed=4).double()
        ours = torch.autograd.grad(depthwise_conv2d(*leaves), leaves, upstream)
        direct = torch.autograd.grad(F.conv2d(*leaves, padding=padding, groups=5), leaves, upstream)
        torch.testing.assert_close(ours, direct, atol=1e-10, rtol=1e-10)


def test_large_depthwise_kernels_follow_autocast_and_what_needs_no_gradient() -> None:
    x, weight = rand(2, 8, 12, 12, seed=1), rand(8, 1, 5, 5, seed=2).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = depthwise_conv2d(x, weight, None)
        plain = F.conv2d(x, weight, None, padding=2, groups=8)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, plain)
    (ours,) = torch.autograd.grad(y.float().square().sum(), weight)
    (direct,) = torch.autograd.grad(plain.float().square().sum(), weight)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, direct, rtol=2e-2, atol=2e-2 * float(direct.abs().max()))
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(depthwise_conv2d(x, weight, None), F.conv2d(x, weight, None, padding=2, groups=8))


@pytest.fixture
def num_threads() -> Iterator[Callable[[int], None]]:
    """Set the threads of torch, which has its own back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("has_bias", [True, False])
def test_pointwise_is_a_convolution_with_the_keys_of_one(
    num_threads: Callable[[int], None], *, has_bias: bool, threads: int
) -> None:
    num_threads(threads)
    layer, plain = PointwiseConv2d(8, 12, bias=has_bias), nn.Conv2d(8, 12, 1, bias=has_bias)
    plain.load_state_dict(layer.state_dict())
    for size, memory in product([(1, 1), (5, 4), (48, 56)], MEMORY):
        x = rand(2, 8, *size).contiguous(memory_format=memory).requires_grad_()
        upstream = rand(2, 12, *size, seed=1)
        results = [(y := conv(x), *torch.autograd.grad(y, (x, conv.weight), upstream)) for conv in (layer, plain)]
        torch.testing.assert_close(*results, atol=1e-4, rtol=1e-5)


@pytest.mark.skipif("mkldnn" not in str(torch.__config__.show()).lower(), reason="this torch has no oneDNN")
@pytest.mark.parametrize(("side", "kernel"), [(51, "aten::mkldnn_convolution"), (50, "aten::_slow_conv2d_forward")])
def test_pointwise_goes_to_onednn_on_one_thread(num_threads: Callable[[int], None], side: int, kernel: str) -> None:
    num_threads(1)
    x, weight = rand(1, 8, side, side).contiguous(memory_format=torch.channels_last), rand(8, 8, 1, 1)
    with torch.autograd.profiler.profile() as profile:
        pointwise_conv2d(x, weight, None)
    called = {event.name for event in profile.function_events or ()}
    assert called & {"aten::mkldnn_convolution", "aten::_slow_conv2d_forward", "aten::slow_conv_dilated2d"} == {kernel}


def test_pointwise_does_not_break_up_what_is_compiled(num_threads: Callable[[int], None]) -> None:
    num_threads(1)
    compiled = torch.compile(PointwiseConv2d(8, 8), backend="eager", fullgraph=True)
    assert compiled(rand(1, 8, 64, 64)).shape == (1, 8, 64, 64)


@pytest.mark.parametrize("kernel", [4, (3, 2)])
def test_depthwise_refuses_even_kernels(kernel: int | tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be odd to keep the size, got"):
        DepthwiseConv2d(8, kernel)


@pytest.mark.parametrize(
    "layer",
    [
        LayerNorm2d(4),
        GroupNorm2d(4),
        SimpleGate(),
        SimpleGate(nn.GELU()),
        SCA(4),
        PointwiseConv2d(4, 3),
        DepthwiseConv2d(4, 3),
        DepthwiseConv2d(4, 3, 2),
        DepthwiseConv2d(4, (1, 3), 2),
    ],
    ids=repr,
)
def test_gradients_are_right(layer: nn.Module) -> None:
    layer = layer.double()
    x = rand(2, 4, 3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()), fast_mode=True)


def test_a_picture_is_mirrored_as_often_as_it_takes() -> None:
    row = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    done = mirrored_to_multiple(row, 8)
    assert done.shape == (1, 1, 8, 8)
    assert done[0, 0, 0].tolist() == [1, 2, 3, 2, 1, 2, 3, 2]
    assert done[0, 0, :, 0].tolist() == [1, 4, 1, 4, 1, 4, 1, 4]
    assert (mirrored_to_multiple(torch.full((1, 1, 1, 1), 7.0), 4) == 7).all()
    assert mirrored_to_multiple(done, 8) is done
    assert torch.equal(mirrored_to_multiple(row.mT, 8), done.mT)


def test_an_odd_border_is_halved_to_the_means_of_what_there_is() -> None:
    image = torch.tensor([[[[1.0, 3.0, 5.0], [5.0, 7.0, 9.0], [2.0, 4.0, 8.0]]]])
    assert halved(image).tolist() == [[[[4, 7], [3, 8]]]]


def test_an_enlarged_picture_goes_from_pixel_to_pixel_in_quarters() -> None:
    column, row = (enlarged(torch.tensor([[[[0.0, 4.0]]]]).reshape(1, 1, *size)) for size in ((2, 1), (1, 2)))
    assert column[0, 0, :, 0].tolist() == row[0, 0, 0].tolist() == [0, 1, 3, 4]


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(40, 48), (38, 45)])
@pytest.mark.parametrize(("window", "cell", "num_cells"), [(12, 4, 3), (6, 2, 3), (16, 4, 5), (2, 1, 3)])
def test_a_window_averages_over_cells_and_goes_smoothly_from_one_to_the_next(
    window: int, cell: int, num_cells: int, height: int, width: int
) -> None:
    attention = SCA(1, window)
    for parameter, value in zip(attention.parameters(), (1.0, 0.0), strict=True):
        parameter.fill_(value)
    x = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0))
    factors = attention(x)[0, 0].double()
    strips = [torch.split(strip, cell, 1) for strip in torch.split(x[0, 0].double(), cell)]  # smaller at a border
    cells = torch.tensor([[part.mean() for part in strip] for strip in strips], dtype=torch.float64)
    reach = num_cells // 2

    def mean_around(row: int, column: int) -> torch.Tensor:
        rows = slice(max(0, row - reach), row + reach + 1)
        return cells[rows, max(0, column - reach) : column + reach + 1].mean()

    means = torch.stack(
        [torch.stack([mean_around(i, j) for j in range(cells.shape[1])]) for i in range(cells.shape[0])]
    )
    for y, z in [(0, 0), (7, 9), (20, 21), (23, 30), (height - 1, width - 1), (cell, 2 * cell), (height - 2, 3)]:
        down, across = ((place + 0.5) / cell - 0.5 for place in (y, z))
        i, j = math.floor(down), math.floor(across)
        expected = sum(
            weight_down
            * weight_across
            * means[min(max(row, 0), len(means) - 1), min(max(column, 0), means.shape[1] - 1)]
            for row, weight_down in ((i, 1 - down + i), (i + 1, down - i))
            for column, weight_across in ((j, 1 - across + j), (j + 1, across - j))
        )
        assert float(factors[y, z]) == pytest.approx(float(expected), abs=1e-5)
