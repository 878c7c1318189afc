"""restore.optim: Muon follows its definition, the schedule reaches its end."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from restore.models import NAFNet
from restore.models.nafnet import founding_net, half_resolution_net
from restore.optim import (
    Muon,
    build_muon,
    orthogonalise,
    set_learning_rate,
    update_ema,
    warmup_cosine,
    warmup_stable_decay,
)

DTYPES = (torch.bfloat16, torch.float32)


def newton_schulz(u: Tensor) -> Tensor:
    """The iteration as published, for one matrix."""
    x: Tensor = u / torch.linalg.norm(u)
    x = x.T if u.shape[0] > u.shape[1] else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if u.shape[0] > u.shape[1] else x


@pytest.mark.parametrize("shape", [(8, 8), (8, 30), (30, 8)])
def test_orthogonalise_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalise(matrices)
    singular = torch.linalg.svdvals(result)
    assert singular.min() > 0.5
    assert singular.max() < 1.3
    for one, other in zip(matrices, result, strict=True):
        assert torch.allclose(newton_schulz(one), other, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8), (48, 96), (64, 24, 3, 3)])
def test_muon_may_iterate_in_bfloat16(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.zeros(shape)) for _ in range(2)]
    halved, full = (Muon([weight], lr=1.0, dtype=dtype) for weight, dtype in zip(weights, DTYPES, strict=True))
    for weight in weights:
        weight.grad = torch.randn(shape, generator=generator.manual_seed(1))
    halved.step()
    full.step()
    rows, columns = weights[0].flatten(1).shape
    singular = torch.linalg.svdvals(weights[0].detach().flatten(1)) / max(1, rows / columns) ** 0.5
    assert singular.min() > 0.6
    assert singular.max() < 1.25
    assert not torch.equal(*weights)
    assert (weights[0] - weights[1]).norm() < 0.1 * weights[1].norm()
    assert weights[0].dtype == torch.float32
    (state,) = halved.state.values()
    assert state["momentum"].dtype == torch.float32
    assert torch.equal(state["momentum"], next(iter(full.state.values()))["momentum"])
    assert halved.state_dict()["param_groups"] == full.state_dict()["param_groups"]


def test_two_steps_of_muon_equal_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [
        nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((16, 8, 1, 1), (8, 4, 3, 3), (8, 4, 3, 3))
    ]
    expected = [weight.detach().clone() for weight in weights]
    momenta = [torch.zeros_like(weight) for weight in expected]
    optimiser = Muon(weights, lr=0.02)
    for _ in range(2):
        for i, weight in enumerate(weights):
            gradient = torch.randn(weight.shape, generator=generator)
            weight.grad = gradient
            momenta[i] = 0.95 * momenta[i] + 0.05 * gradient
            look_ahead = (0.05 * gradient + 0.95 * momenta[i]).flatten(1)
            rows, columns = look_ahead.shape
            expected[i] -= (0.02 * max(1, rows / columns) ** 0.5 * newton_schulz(look_ahead)).view_as(weight)
        optimiser.step()
    for weight, wanted in zip(weights, expected, strict=True):
        assert torch.allclose(weight, wanted, atol=1e-5)


@pytest.mark.parametrize(
    "config", [founding_net(12), half_resolution_net(16), replace(half_resolution_net(16), scales=2, stem=4)]
)
def test_every_parameter_has_one_optimiser_and_muon_gets_dense_hidden_weights(config: object) -> None:
    network = NAFNet(config)  # type: ignore[arg-type]  # both presets are NAFNetConfigs
    muon, adamw = build_muon(network)
    hidden = [param for group in muon.param_groups for param in group["params"]]
    others = [param for group in adamw.param_groups for param in group["params"]]
    assert sorted(map(id, hidden + others)) == sorted(map(id, network.parameters()))
    between = (network.encoders, network.downs, network.middle_blks, network.ups, network.decoders)
    inner = {id(param) for stage in between for param in stage.parameters()}
    assert all(param.ndim == 4 and param.shape[1] > 1 and id(param) in inner for param in hidden)
    assert len(hidden) > 20
    assert isinstance(muon, Muon)
    assert muon.dtype == torch.float32


def test_muon_leaves_narrow_weights_to_adamw_and_can_be_copied() -> None:
    muon, adamw = build_muon(NAFNet(half_resolution_net(4)))
    narrowest, others = (
        {min(len(param), param[0].numel()) for group in each.param_groups for param in group["params"]}
        for each in (muon, adamw)
    )
    assert min(narrowest) == 8
    assert 4 in others
    weight = nn.Parameter(torch.ones(8, 8, 1, 1))
    copied = copy.deepcopy(Muon([weight]))
    (parameter,) = copied.param_groups[0]["params"]
    parameter.grad = torch.ones_like(parameter)
    copied.step()
    assert not torch.equal(parameter, weight)


def test_the_schedule_warms_up_and_ends_at_zero() -> None:
    assert warmup_cosine(0.0) == 0
    assert warmup_cosine(0.015) == pytest.approx(0.5)
    assert warmup_cosine(0.03) == pytest.approx(1.0)
    assert warmup_cosine(0.515) == pytest.approx(0.5, abs=0.01)
    assert warmup_cosine(1.0) == pytest.approx(0.0)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    for factor in (0.5, 0.25):
        set_learning_rate([optimiser], factor)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(0.2 * factor)


def test_the_moving_average_follows_the_network() -> None:
    network, average = nn.Linear(2, 2), nn.Linear(2, 2)
    start = average.weight.detach().clone()
    update_ema(average, network, step=10**6, decay=0.9)
    assert torch.allclose(average.weight, 0.9 * start + 0.1 * network.weight)
    average = copy.deepcopy(network)
    nn.init.zeros_(average.weight)
    update_ema(average, network, step=0, decay=0.9)  # a tenth of the old at once: the first weights are random
    assert torch.allclose(average.weight, 0.9 * network.weight)
    nn.init.zeros_(average.weight)
    update_ema(average, network, step=8, decay=0.9)
    assert torch.allclose(average.weight, 0.5 * network.weight)


def test_stable_decay_is_constant_and_then_falls_to_zero() -> None:
    factors = [warmup_stable_decay(progress, warmup=0.1, decay=0.2) for progress in (0.05, 0.1, 0.4, 0.8, 0.9, 1.0)]
    assert factors == pytest.approx([0.5, 1.0, 1.0, 1.0, 0.5, 0.0])


def test_a_warmup_that_reaches_into_the_decay_makes_no_jump() -> None:
    factors = [warmup_stable_decay(step / 100, warmup=0.5, decay=0.9) for step in range(101)]
    assert max(abs(one - other) for one, other in itertools.pairwise(factors)) < 0.03
    assert (factors[0], factors[20], factors[80], factors[100]) == pytest.approx((0, 0.4, 0.2 / 0.9, 0))
