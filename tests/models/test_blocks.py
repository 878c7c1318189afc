from __future__ import annotations

import pytest
import torch
from plain_nets import PlainLKABlock, PlainNAFBlock, randomise
from torch import Tensor, nn

from restore.models.blocks import LKABlock, NAFBlock

Pair = tuple["NAFBlock | LKABlock", nn.Module]


def pair(kind: str, channels: int = 6) -> Pair:
    block: NAFBlock | LKABlock
    plain: nn.Module
    if kind == "naf":
        block, plain = NAFBlock(channels), PlainNAFBlock(channels)
    else:
        block, plain = LKABlock(channels, 13, 3, expansion=2), PlainLKABlock(channels, 13, 3, expansion=2)
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
