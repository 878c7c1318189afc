from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

from restore.errors import WeightsError
from restore.fetching import find_weights
from restore.metrics import METRICS, Lpips, load_lpips
from restore.metrics.lpips import SMALLEST_SIDES, _empty_network, import_lpips, trunk_shapes


def random_trunk(net: str, prefix: str = "") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        prefix + key: torch.randn(shape, generator=generator) / (torch.Size(shape[1:]).numel() or 1) ** 0.5
        for key, shape in trunk_shapes(net).items()
    }


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    reference, restored = torch.rand(2, *shape, generator=torch.Generator().manual_seed(2))
    return reference, restored


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)


@pytest.mark.usefixtures("_no_network")
def test_the_documented_example_with_the_real_trunk(shared: Path) -> None:
    lpips = load_lpips("squeeze", find_weights("lpips-squeeze", shared / "weights"))
    generator = torch.Generator().manual_seed(42)
    first, second = (torch.rand(10, 3, 100, 100, generator=generator) for _ in range(2))
    distances = [lpips(a, b) for a, b in zip(first, second, strict=True)]
    assert sum(distances) / 10 == pytest.approx(0.1005, abs=5e-5)


@pytest.mark.usefixtures("_no_network")
def test_the_registry_loads_the_real_trunk(shared: Path) -> None:
    metric = METRICS["lpips-squeeze"]
    assert metric.weights is not None
    lpips = metric.load(find_weights(metric.weights, shared / "weights"))
    reference, restored = pair(3, 40, 40)
    assert lpips(reference, reference) == 0
    assert lpips(reference, restored) > 0.05


@pytest.mark.parametrize("net", list(SMALLEST_SIDES))
def test_agrees_with_the_package_under_the_same_trunk(net: str) -> None:
    trunk = random_trunk(net)
    lpips = Lpips(net, trunk)
    package = package_network(net, trunk)
    reference, restored = pair(3, 45, 52)
    with torch.no_grad():
        expected = float(package(reference[None] * 2 - 1, restored[None] * 2 - 1))
    assert expected > 1e-3
    assert lpips(reference, restored) == pytest.approx(expected, abs=1e-5)


def package_network(net: str, trunk: dict[str, Tensor]) -> Any:
    """The package as its users build it, downloads replaced: heads by its own code, features set one by one."""
    with pytest.warns(UserWarning, match="deprecated"), torch.random.fork_rng(devices=[]):
        network = import_lpips().LPIPS(net=net, pnet_rand=True, verbose=False)
    for name, parameter in network.net.named_parameters():
        _, index, *rest = name.split(".")
        parameter.data.copy_(trunk[".".join([index, *rest])])
    return network


def test_both_forms_of_names_and_a_classifier() -> None:
    reference, restored = pair(3, 33, 33)
    bare = Lpips("squeeze", random_trunk("squeeze"))
    whole = {**random_trunk("squeeze", "features."), "classifier.1.weight": torch.zeros(1000, 512, 1, 1)}
    assert bare(reference, restored) == Lpips("squeeze", whole)(reference, restored)


def test_grey_is_repeated() -> None:
    lpips = Lpips("squeeze", random_trunk("squeeze"))
    reference, restored = pair(1, 33, 33)
    assert lpips(reference, restored) == lpips(reference.repeat(3, 1, 1), restored.repeat(3, 1, 1))


@pytest.mark.parametrize("net", list(SMALLEST_SIDES))
def test_the_smallest_side_is_as_stated(net: str) -> None:
    lpips = Lpips(net, random_trunk(net))
    smallest = SMALLEST_SIDES[net]
    assert lpips(*pair(3, smallest, smallest + 20)) > 0
    with pytest.raises(ValueError, match=rf"LPIPS \({net}\) needs at least {smallest} pixels a side"):
        lpips(*pair(3, smallest + 20, smallest - 1))
    with pytest.raises(RuntimeError, match="too small"):  # the trunk itself could not either
        lpips.network(*(picture[None] for picture in pair(3, smallest + 20, smallest - 1)))


@pytest.mark.parametrize("shape", [(4, 40, 40), (2, 40, 40), (40, 40), (1, 3, 40, 40)])
def test_other_than_one_or_three_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="LPIPS needs"):
        Lpips("squeeze", random_trunk("squeeze"))(*pair(*shape))


def test_other_weights_are_refused() -> None:
    trunk = random_trunk("squeeze")
    trunk.pop("12.expand3x3.bias")
    with pytest.raises(WeightsError, match=r"12\.expand3x3\.bias and 0 others are missing"):
        Lpips("squeeze", trunk)
    with pytest.raises(WeightsError, match="no weights of alex"):
        Lpips("alex", random_trunk("squeeze"))
    reshaped = random_trunk("squeeze") | {"0.weight": torch.zeros(64, 3, 5, 5)}
    with pytest.raises(WeightsError, match=r"no weights of squeeze: .*size mismatch"):
        Lpips("squeeze", reshaped)


def test_a_random_file_is_no_metric(tmp_path: Path) -> None:
    path = tmp_path / "squeezenet1_1-b8a52dc0.pth"
    torch.save(random_trunk("squeeze", "features."), path)
    with pytest.raises(WeightsError, match="sha256"):
        load_lpips("squeeze", path)


def test_building_draws_no_random_numbers() -> None:
    state = torch.get_rng_state()
    _empty_network("squeeze")
    assert torch.equal(state, torch.get_rng_state())


def test_the_network_can_serve_as_a_loss() -> None:
    lpips = Lpips("squeeze", random_trunk("squeeze"))
    reference, restored = (picture[None] for picture in pair(3, 33, 33))
    restored.requires_grad_()
    lpips.network(reference * 2 - 1, restored * 2 - 1).sum().backward()
    assert restored.grad is not None
    assert restored.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in lpips.network.parameters())
