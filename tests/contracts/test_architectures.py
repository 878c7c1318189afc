"""What every network promises: any size and batch, two number formats, gradients, both memory layouts, export."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from plain_nets import randomise
from torch import Tensor

from restore.models import ARCHITECTURES, NAFNet
from restore.models.nafnet import Stage, founding_net, half_resolution_net, nafnet_gopro

CONFIGS = {
    "founding": founding_net(4),
    "half-naf": half_resolution_net(4),
    "quarter": replace(half_resolution_net(4), stem=4),
    "gopro": replace(nafnet_gopro(2), encoder=(Stage(1), Stage(1), Stage(1), Stage(2))),
    "local averages": replace(half_resolution_net(4), sca_window=16),
    "mixed": replace(half_resolution_net(4), middle=Stage(1, "lka", 13, 2, 2), sigma_input=True),
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


@pytest.mark.parametrize("name", ["founding", "half-naf"])
@torch.no_grad()
def test_a_network_exports(name: str) -> None:
    network, image = build(name), picture(1, 32, 48)
    exported = torch.export.export(network, (image,)).module()
    torch.testing.assert_close(exported(image), network(image), atol=1e-6, rtol=1e-5)
