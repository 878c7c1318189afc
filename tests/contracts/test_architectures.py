"""What every network promises: any size and batch, two number formats, gradients, both memory layouts, export."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_nets import randomise
from torch import Tensor

from restore.models import ARCHITECTURES, NAFNet, NAFNetConfig
from restore.models.attention import LSKA_KERNELS
from restore.models.layers import ACTIVATIONS
from restore.models.nafnet import Stage, founding_net, half_resolution_net, nafnet_gopro
from restore.weights import load_weights, save_weights

SMALL: dict[str, Any] = {"kind": "lka", "kernel_size": 7, "dilation": 2, "expansion": 2}
DEFORMABLE = SMALL | {"attention": "deformable_lka"}
BLOCKS: dict[str, dict[str, Any]] = {
    "lka": SMALL,
    "lka 21, d 3": SMALL | {"kernel_size": 21, "dilation": 3},
    "lka 13, d 4": SMALL | {"kernel_size": 13, "dilation": 4},
    **{f"lska {k}": SMALL | {"attention": "lska", "kernel_size": k} for k in LSKA_KERNELS},
    "deformable": DEFORMABLE,
    "deformable, modulated": DEFORMABLE | {"modulated": True},
    "deformable, separable": DEFORMABLE | {"offsets": "separable", "modulated": True, "inner_skip": False},
    "channel attention": SMALL | {"attention": "sca"},
    "geglu": SMALL | {"feed_forward": "geglu"},
    "gated": SMALL | {"feed_forward": "gated", "expansion": 1, "inner_skip": False},
    "simple gate": SMALL | {"feed_forward": "simple_gate"},
    **{name: SMALL | {"activation": name} for name in ACTIVATIONS},
    "group norm": SMALL | {"norm": "group"},
    "naf": {},
    "naf, group norm": {"norm": "group"},
    "drop-path": {"drop_path": 0.2},
    "lka, drop-path": SMALL | {"drop_path": 0.2},
}


def block_net(settings: dict[str, Any]) -> NAFNetConfig:
    """A network with blocks of these settings at two widths, 4 and 8."""
    stage = Stage(1, **settings)
    return NAFNetConfig(4, (replace(stage, num_blocks=2),), stage, (Stage(0),), stem=2, sca_window=8)


CONFIGS = {
    "founding": founding_net(4),
    "half-naf": half_resolution_net(4),
    "quarter": replace(half_resolution_net(4), stem=4),
    "gopro": replace(nafnet_gopro(2), encoder=(Stage(1), Stage(1), Stage(1), Stage(2))),
    "local averages": replace(half_resolution_net(4), sca_window=16),
    "bounded attention": replace(half_resolution_net(4), sca_limit=2.0),
    "several scales": replace(half_resolution_net(4), scales=3, sca_window=16),
    "mixed": replace(half_resolution_net(4), middle=Stage(1, "lka", 13, 2, 2), sigma_input=True),
    **{f"block {name}": block_net(settings) for name, settings in BLOCKS.items()},
}
SIZES = [(1, 1), (2, 3), (17, 5), (33, 64)]


def build(name: str) -> NAFNet:
    network = ARCHITECTURES["nafnet"](CONFIGS[name].as_dict()).eval()
    randomise(network)
    return network


def picture(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_any_size_and_batch_gives_the_same_shape(name: str, dtype: torch.dtype) -> None:
    network = build(name).to(dtype)
    for batch, (height, width) in zip([1, 2, 3, 1], SIZES, strict=True):
        image = picture(batch, height, width).to(dtype)
        restored = network(image)
        assert restored.shape == image.shape
        assert restored.dtype == dtype
        assert restored.isfinite().all()


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_a_batch_equals_its_pictures_alone(name: str) -> None:
    network, images = build(name), picture(3, 17, 5)
    for index, restored in enumerate(network(images)):
        torch.testing.assert_close(restored[None], network(images[index : index + 1]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_the_memory_layout_does_not_change_the_result(name: str) -> None:
    network, image = build(name), picture(2, 33, 64)
    expected = network(image)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    restored = network(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(restored, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_reach_every_parameter(name: str) -> None:
    network = build(name)
    sigma = torch.tensor([0.1]) if network.config.sigma_input else None
    network(picture(1, 33, 40), sigma).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_bfloat16_is_close(name: str) -> None:
    network, image = build(name), picture(1, 33, 40)
    expected = network(image) - image
    added = (copy.deepcopy(network).bfloat16()(image.bfloat16()) - image.bfloat16()).float()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = (network(image) - image).float()
    assert (added - expected).norm() < 0.1 * expected.norm()
    assert (mixed - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("name", CONFIGS)
def test_saved_and_loaded_it_is_equal(name: str, tmp_path: Path) -> None:
    network, image = build(name), picture(1, 17, 5)
    path = tmp_path / "weights.safetensors"
    save_weights(path, network, {"task": "denoise", "architecture": "nafnet", "network": network.config.as_dict()})
    loaded, info = load_weights(path)
    assert ARCHITECTURES["nafnet"](json.loads(json.dumps(info.document["network"]))).config == network.config
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in loaded.state_dict().items())
    with torch.no_grad():  # where tensors lie in memory decides on the last bit
        torch.testing.assert_close(loaded(image), network(image), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_folding_does_not_change_the_result(name: str) -> None:
    network, image = build(name), picture(2, 33, 40)
    expected = network(image)
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    network.fold()
    torch.testing.assert_close(network(image), expected, atol=1e-5, rtol=1e-4)
    assert sum(parameter.numel() for parameter in network.parameters()) < num_parameters


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_local_statistics_change_nothing_where_they_cover_the_map_or_a_window_was_learnt(name: str) -> None:
    network, image = build(name), picture(2, 48, 64)
    keys, expected = list(network.state_dict()), network(image)
    network.use_local_statistics(64)
    assert torch.equal(network(image), expected)
    network.use_local_statistics(16)
    assert torch.equal(network(image), expected) != network.config.averages_globally
    assert (network.statistics_disagreement() > 0) == network.config.averages_globally
    assert list(network.state_dict()) == keys


@pytest.mark.parametrize("name", BLOCKS)
def test_the_gradients_of_a_block_are_right(name: str) -> None:
    block = Stage(1, **BLOCKS[name]).build(2, window=4).double()
    randomise(block)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)

    def trained(x: Tensor, *_: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # drop-path draws
            return torch.as_tensor(block(x))

    assert torch.autograd.gradcheck(trained, (x, *block.parameters()), fast_mode=True)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_gradients_of_a_block_in_bfloat16_are_close(name: str) -> None:
    block = Stage(1, **BLOCKS[name]).build(4, window=4).eval()
    randomise(block)
    x = torch.randn(1, 4, 17, 13, generator=torch.Generator().manual_seed(0))
    gradients = []
    for enabled in (False, True):
        block.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = block(x)
        y.float().square().mean().backward()
        found = [parameter.grad for parameter in block.parameters()]
        gradients.append(torch.cat([gradient.flatten() for gradient in found if gradient is not None]))
    assert (gradients[1] - gradients[0]).norm() < 0.1 * gradients[0].norm()


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_trains_on_maps_of_any_size(name: str) -> None:
    block = Stage(1, **BLOCKS[name]).build(4, window=4)
    randomise(block)
    for batch, (height, width) in zip([1, 2, 3, 1], SIZES, strict=True):
        image = picture(batch, height, width)
        x = torch.cat([image, image[:, :1]], dim=1).requires_grad_()
        y = block(x)
        assert y.shape == x.shape
        y.square().sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
    assert all(parameter.grad is not None for parameter in block.parameters())


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "founding",
        "half-naf",
        "several scales",
        *(f"block {name}" for name in ("lska 11", "deformable, separable", "gated", "naf, group norm")),
    ],
)
@torch.no_grad()
def test_a_network_exports(name: str, *, folded: bool) -> None:
    network, image = build(name), picture(1, 32, 48)
    if folded:
        network.fold()
    exported = torch.export.export(network, (image,)).module()
    torch.testing.assert_close(exported(image), network(image), atol=1e-6, rtol=1e-5)
