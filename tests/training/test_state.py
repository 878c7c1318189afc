"""restore.training.state: where a run starts from."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from plain_nets import randomise
from torch import Tensor

from restore.checkpoint import save_checkpoint
from restore.config import TrainConfig
from restore.distributed import Team
from restore.errors import UsageError, WeightsError
from restore.models import NAFNet, NAFNetConfig
from restore.optim import Muon
from restore.training import TrainState, state
from restore.training.state import choose_dtype, prepare_state
from restore.weights import save_weights


def stages(*num_blocks: int, **settings: Any) -> dict[str, Any]:
    """The encoders, the middle and the decoders of a network, from first to last."""
    made = [{"num_blocks": num, **settings} for num in num_blocks]
    depth = len(made) // 2
    return {"encoder": made[:depth], "middle": made[depth], "decoder": made[depth + 1 :]}


def with_network(config: TrainConfig, **changes: Any) -> TrainConfig:
    values = config.as_dict()
    values["data"] |= {"told_share": 0.0}
    return TrainConfig.model_validate(values | {"network": values["network"] | changes})


def saved(folder: Path, config: TrainConfig, **changes: Any) -> tuple[Path, NAFNet]:
    """Weights of a trained network, in a file."""
    settings = NAFNetConfig.from_dict(with_network(config, **changes).network.as_dict())
    network = NAFNet(settings).eval()
    randomise(network)
    path = folder / "start.safetensors"
    save_weights(path, network, {"task": "denoise", "architecture": "nafnet", "network": settings.as_dict()})
    return path, network


def picture() -> Tensor:
    return torch.rand(2, 3, 20, 33, generator=torch.Generator().manual_seed(5))


def test_the_initial_weights_depend_on_the_seed_alone_and_global_randomness_is_untouched(config: TrainConfig) -> None:
    before = torch.random.get_rng_state()
    one, other = TrainState.fresh(config), TrainState.fresh(config)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.network.intro.weight, other.network.intro.weight)
    different = TrainState.fresh(config.model_copy(update={"seed": 1}))
    assert not torch.equal(one.network.intro.weight, different.network.intro.weight)


def test_number_formats(config: TrainConfig) -> None:
    cpu = torch.device("cpu")
    assert choose_dtype(config, cpu) == torch.float32
    assert choose_dtype(config.model_copy(update={"precision": "bf16"}), cpu) == torch.bfloat16
    assert choose_dtype(config.model_copy(update={"precision": "auto"}), cpu) in (torch.float32, torch.bfloat16)
    before = torch.random.get_rng_state()
    choose_dtype(
        with_network(config, middle={"num_blocks": 1, "drop_path": 0.5}).model_copy(update={"precision": "auto"}), cpu
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(UsageError, match="CUDA"):
        choose_dtype(config.model_copy(update={"precision": "fp16"}), cpu)


@pytest.mark.parametrize(("seconds", "chosen"), [((1, 2), torch.float32), ((2, 1), torch.bfloat16)])
def test_the_faster_number_format_is_chosen(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, seconds: tuple[int, int], chosen: torch.dtype
) -> None:
    clock = itertools.accumulate(itertools.cycle([0, seconds[0], 0, seconds[1]]))
    monkeypatch.setattr(state, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert choose_dtype(config.model_copy(update={"precision": "auto"}), torch.device("cpu")) == chosen


def test_float16_scales_its_loss_and_goes_on_in_float32_where_there_is_no_gpu(config: TrainConfig) -> None:
    on_gpu = TrainState.fresh(config)
    assert not on_gpu.scaler.is_enabled()
    on_gpu.use(torch.float16)
    assert on_gpu.scaler.is_enabled()
    here = TrainState.fresh(config)
    here.load_dict(on_gpu.as_dict(config))
    assert here.dtype == torch.float32
    assert not here.scaler.is_enabled()


def test_a_run_has_the_number_format_of_its_recipe_and_goes_on_with_as_many_processes(
    config: TrainConfig, tmp_path: Path
) -> None:
    halved, cpu = config.model_copy(update={"precision": "bf16"}), torch.device("cpu")
    begun = prepare_state(halved, tmp_path, Team(0, 2), cpu, init=None, resume=False)
    assert (begun.dtype, begun.num_processes) == (torch.bfloat16, 2)
    save_checkpoint(tmp_path, begun.as_dict(halved))
    assert prepare_state(halved, tmp_path, Team(1, 2), cpu, init=None, resume=True).num_processes == 2
    with pytest.raises(UsageError, match=r"2 process\(es\) trained this run"):
        prepare_state(halved, tmp_path, Team(), cpu, init=None, resume=True)


def test_a_checkpoint_of_an_older_version_may_lack_numbers(config: TrainConfig) -> None:
    older = TrainState.fresh(config).as_dict(config)
    del older["lr_scale"], older["num_rewinds"]
    again = TrainState.fresh(config)
    again.load_dict(older)
    assert (again.lr_scale, again.num_rewinds) == (1.0, 0)


def test_the_average_drops_no_paths_and_learns_nothing_by_itself(config: TrainConfig) -> None:
    average = TrainState.fresh(with_network(config, middle={"num_blocks": 1, "drop_path": 0.5})).average
    randomise(average)
    assert torch.equal(average(picture()), average(picture()))
    assert not average(picture()).requires_grad


@torch.no_grad()
def test_blocks_that_the_weights_lack_change_nothing_at_first(config: TrainConfig, tmp_path: Path) -> None:
    path, smaller = saved(tmp_path, config, **stages(1, 2, 0, 1, 1))
    grown = with_network(config, **stages(2, 2, 3, 1, 4))
    state = TrainState.fresh(grown)
    state.start_from(path)
    for network in (state.network, state.average):
        assert [len(stage) for stage in (*network.encoders, network.middle_blks, *network.decoders)] == [2, 2, 3, 1, 4]
        assert torch.equal(network(picture()), smaller(picture()))
        assert torch.equal(network(picture(), torch.full((2,), 0.1)), smaller(picture(), torch.full((2,), 0.1)))
    fresh, key = TrainState.fresh(grown).network.state_dict(), "middle_blks.1.conv1.weight"
    assert torch.equal(state.network.state_dict()[key], fresh[key])


def test_new_blocks_of_another_kind_add_next_to_nothing(config: TrainConfig, tmp_path: Path) -> None:
    lka = {"kind": "lka", "kernel_size": 7, "dilation": 2, "expansion": 2}
    path, smaller = saved(tmp_path, config, **stages(1, 0, 1))
    layers = stages(1, 0, 1) | {"middle": {"num_blocks": 2, **lka}}
    state = TrainState.fresh(with_network(config, **layers))
    state.start_from(path)
    with torch.no_grad():
        added = state.network(picture()) - smaller(picture())
    assert 0 < added.abs().max() < 0.05


@torch.no_grad()
def test_a_network_that_is_told_nothing_may_start_from_one_that_was(config: TrainConfig, tmp_path: Path) -> None:
    path, told = saved(tmp_path, config, sigma_input=True)
    state = TrainState.fresh(with_network(config, sigma_input=False))
    state.start_from(path)
    assert "noise_level.weight" in told.state_dict().keys() - state.network.state_dict().keys()
    for network in (state.network, state.average):
        assert torch.equal(network(picture()), told(picture()))


@torch.no_grad()
def test_a_network_that_is_told_the_noise_may_start_from_one_that_was_not(config: TrainConfig, tmp_path: Path) -> None:
    path, blind = saved(tmp_path, config, sigma_input=False)
    state = TrainState.fresh(with_network(config, sigma_input=True))
    state.start_from(path)
    assert torch.equal(state.network(picture(), torch.full((2,), 0.1)), blind(picture()))


@torch.no_grad()
def test_a_network_of_several_scales_may_start_from_one_of_the_whole_size(config: TrainConfig, tmp_path: Path) -> None:
    path, whole = saved(tmp_path, config)
    state = TrainState.fresh(with_network(config, scales=3))
    state.start_from(path)
    for network in (state.network, state.average):
        assert torch.equal(network.refine(picture()), whole(picture()))
        assert not torch.equal(network(picture()), whole(picture()))


@pytest.mark.parametrize(
    ("theirs", "ours", "shown"),
    [
        ({"scales": 2}, {}, r"blend\.bias"),
        ({}, {"width": 12}, r"decoders\.0\.0\.beta"),
        ({}, {"stem": 1}, r"ending\.bias"),
        (stages(1, 2, 1), stages(1, 1, 1), r"middle_blks\.1\."),
        (stages(1, 1, 1), stages(1, 1, 1, 1, 1), r"decoders\.0\.0\."),
        (stages(1, 1, 1), stages(1, 1, 1) | {"middle": {"num_blocks": 2, "kind": "lka"}}, r"middle_blks\.0\."),
    ],
    ids=["fewer scales", "width", "stem", "fewer blocks", "more levels", "another kind"],
)
def test_other_networks_are_refused_and_nothing_is_taken(
    config: TrainConfig, tmp_path: Path, theirs: dict[str, Any], ours: dict[str, Any], shown: str
) -> None:
    path, _ = saved(tmp_path, config, **theirs)
    state = TrainState.fresh(with_network(config, **ours))
    before = {key: tensor.clone() for key, tensor in state.network.state_dict().items()}
    with pytest.raises(WeightsError, match=rf"start\.safetensors: of another network .* as {shown}.* shows"):
        state.start_from(path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in state.network.state_dict().items())


def test_the_optimisers_have_the_settings_of_the_recipe(config: TrainConfig) -> None:
    def settings(**optimiser: Any) -> list[dict[str, Any]]:
        state = TrainState.fresh(TrainConfig.model_validate(config.as_dict() | {"optimiser": optimiser}))
        groups = [group for each in state.optimisers for group in each.param_groups]
        return [{key: group[key] for key in ("lr", "betas", "weight_decay") if key in group} for group in groups]

    betas = (0.5, 0.6)
    adam = {"lr": 0.2, "betas": betas, "weight_decay": 0.0}
    assert settings(kind="muon", lr=0.3, adamw_lr=0.2, betas=betas) == [{"lr": 0.3}, adam]
    assert settings(kind="adamw", lr=0.2, betas=betas, weight_decay=0.1) == [adam | {"weight_decay": 0.1}]
    assert settings(kind="adam", lr=0.2, betas=betas) == [adam]


def test_muon_iterates_in_the_number_format_of_the_run(config: TrainConfig) -> None:
    state = TrainState.fresh(config)

    def formats() -> set[torch.dtype]:
        return {optimiser.dtype for optimiser in state.optimisers if isinstance(optimiser, Muon)}

    assert formats() == {torch.float32}
    state.use(torch.bfloat16)
    assert formats() == {torch.bfloat16}
    again = TrainState.fresh(config)
    again.load_dict(state.as_dict(config))
    assert {muon.dtype for muon in again.optimisers if isinstance(muon, Muon)} == {torch.bfloat16}
    for dtype in (torch.float16, torch.float32):
        state.use(dtype)
        assert formats() == {torch.float32}
