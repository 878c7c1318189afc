from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from plain_nets import PlainLKABlock, PlainNAFBlock, randomise
from torch import Tensor, nn

from restore.models.attention import LKA, ChannelAttention
from restore.models.blocks import FEED_FORWARDS, LKABlock, NAFBlock
from restore.models.layers import ACTIVATIONS, NORMS

Pair = tuple["NAFBlock | LKABlock", nn.Module]


def pair(kind: str, channels: int = 6) -> Pair:
    block: NAFBlock | LKABlock
    plain: nn.Module
    if kind == "naf":
        block, plain = NAFBlock(channels), PlainNAFBlock(channels)
    else:
        attention = partial(LKA, kernel_size=13, dilation=3)
        block, plain = LKABlock(channels, attention, expansion=2), PlainLKABlock(channels, 13, 3, expansion=2)
    randomise(block)
    plain.load_state_dict(block.state_dict())
    return block, plain


def rand(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", ["naf", "lka"])
def test_a_block_is_its_written_definition(kind: str, memory: torch.memory_format) -> None:
    block, plain = pair(kind)
    x = rand(2, 6, 13, 10).contiguous(memory_format=memory)
    torch.testing.assert_close(block(x), plain(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["naf", "lka"])
def test_folding_keeps_the_output_and_leaves_fewer_parameters(kind: str) -> None:
    block, plain = pair(kind)
    before = sum(parameter.numel() for parameter in block.parameters())
    block.fold()
    x = rand(2, 6, 13, 10)
    torch.testing.assert_close(block(x), plain(x), atol=1e-5, rtol=1e-5)
    assert sum(parameter.numel() for parameter in block.parameters()) < before


def test_a_new_naf_block_is_the_identity() -> None:
    x = rand(1, 6, 5, 5)
    assert torch.equal(NAFBlock(6)(x), x)


def test_a_naf_block_has_the_keys_of_the_official_checkpoints() -> None:
    convolutions = [
        f"{name}.{part}" for name in ("conv1", "conv2", "conv3", "conv4", "conv5") for part in ("weight", "bias")
    ]
    others = ["beta", "gamma", "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "sca.1.weight", "sca.1.bias"]
    assert sorted(NAFBlock(4).state_dict()) == sorted(convolutions + others)


@pytest.mark.parametrize("kind", ["naf", "lka"])
def test_gradients_are_right(kind: str) -> None:
    block, _ = pair(kind, channels=2)
    block = block.double()
    x = rand(1, 2, 3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: block(x), (x, *block.parameters()), fast_mode=True)


def test_a_new_lka_block_is_the_published_one_of_the_same_seed() -> None:
    states = []
    for build in (LKABlock, PlainLKABlock):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            states.append(build(6).state_dict())
    ours, plain = states
    assert list(ours) == list(plain)
    assert all(torch.equal(ours[key], plain[key]) for key in plain)


def test_the_gated_block_is_its_written_definition() -> None:
    block = LKABlock(6, partial(LKA, kernel_size=7), "gated", expansion=1, inner_skip=False)
    randomise(block)
    x = rand(2, 6, 9, 7)
    y = x + block.scale1 * block.proj_out(block.lka(F.gelu(block.proj_in(block.norm1(x)))))
    first, second = block.depthwise(block.expand(block.norm2(y))).chunk(2, dim=1)
    expected = y + block.scale2 * block.contract(F.gelu(first) * second)
    torch.testing.assert_close(block(x), expected, atol=1e-6, rtol=1e-5)
    assert block.expand.weight.shape == (12, 6, 1, 1)


@pytest.mark.parametrize(
    ("feed_forward", "activation", "expected"),
    [
        ("mlp", "relu", lambda d, e: F.relu(d(e))),
        ("geglu", "gelu", lambda _, e: F.gelu(e.chunk(2, 1)[0]) * e.chunk(2, 1)[1]),
        ("gated", "silu", lambda d, e: F.silu(d(e).chunk(2, 1)[0]) * d(e).chunk(2, 1)[1]),
        ("simple_gate", "tanh", lambda _, e: e.chunk(2, 1)[0] * e.chunk(2, 1)[1]),
    ],
)
def test_a_feed_forward_is_its_formula(feed_forward: str, activation: str, expected: Callable[..., Tensor]) -> None:
    block = LKABlock(4, ChannelAttention, feed_forward, expansion=2, activation=activation)
    randomise(block)
    seen: list[Tensor] = []
    block.expand.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    block.gate.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    block(rand(2, 4, 5, 6))
    expanded, gated = seen
    torch.testing.assert_close(gated, expected(block.depthwise, expanded), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("inner_skip", [True, False])
@pytest.mark.parametrize(("feed_forward", "norm"), list(product(FEED_FORWARDS, NORMS)))
@torch.no_grad()
def test_every_block_folds(feed_forward: str, norm: str, *, inner_skip: bool) -> None:
    block = LKABlock(6, LKA, feed_forward, expansion=2, norm=norm, inner_skip=inner_skip).eval()
    randomise(block)
    x = rand(2, 6, 13, 10)
    expected = block(x)
    block.fold()
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activation_stands_before_the_attention_and_in_the_feed_forward(activation: str) -> None:
    block = LKABlock(4, activation=activation)
    kinds = [type(module) for module in block.modules() if type(module) is type(ACTIVATIONS[activation]())]
    assert len(kinds) == 2


@pytest.mark.parametrize("build", [NAFBlock, LKABlock])
def test_drop_path_leaves_branches_out_in_training_alone(build: type[NAFBlock | LKABlock]) -> None:
    dropping, whole = build(4, drop_path=0.5), build(4)
    randomise(whole)
    dropping.load_state_dict(whole.state_dict())
    x = rand(64, 4, 3, 3)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        untouched = (dropping(x) == x).flatten(1).all(1)
        assert 4 <= untouched.sum() <= 28  # both branches left out: a quarter of 64 in the mean
        torch.testing.assert_close(dropping.eval()(x), whole(x))
