"""restore.training.loop: it learns, it resumes to the bit, it stops when it diverges."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from restore.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from restore.config import TrainConfig
from restore.data import Batch
from restore.distributed import Team
from restore.errors import DeviceError, DivergedError, NothingToDoError, OutputError, UsageError, WeightsError
from restore.fetching import find_weights
from restore.logbook import Logbook
from restore.losses import charbonnier_loss, fft_loss
from restore.metrics import load_lpips
from restore.training import Material, TrainState, loop, outcome, train
from restore.training.loop import learning_rate_factor, train_step
from restore.training.material import Validation
from restore.training.outcome import Keeper
from restore.weights import load_weights


def batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(4, 3, 1, 1, generator=generator).expand(-1, -1, 16, 16).contiguous()
    return Batch(clean + 0.1 * torch.randn(clean.shape, generator=generator), torch.full((4,), -1.0), clean)


def changed(config: TrainConfig, **values: Any) -> TrainConfig:
    return TrainConfig.model_validate(config.as_dict() | values)


def weights_of(run: Path, name: str = "last") -> dict[str, Tensor]:
    return load_weights(run / f"{name}.safetensors")[0].state_dict()


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_overfits_one_batch(config: TrainConfig) -> None:
    state = TrainState.fresh(config)
    losses = [train_step(state, [batch()], state.network, charbonnier_loss, config)[0] for _ in range(150)]
    assert losses[-1] < losses[0] / 4


def test_out_of_memory_names_the_remedy(
    config: TrainConfig, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(loop, "train_step", fails)
    with pytest.raises(DeviceError, match="out of memory on cpu; close other programs"):
        train(config, material, tmp_path / "run")


@pytest.mark.parametrize("kind", ["adamw", "adam"])
def test_other_optimisers_learn_too(config: TrainConfig, kind: str) -> None:
    other = changed(config, optimiser={"kind": kind, "lr": 2e-3, "clip_norm": 1.0})
    state = TrainState.fresh(other)
    losses = [train_step(state, [batch()], state.network, charbonnier_loss, other)[0] for _ in range(60)]
    assert losses[-1] < losses[0] / 1.5


def test_clipping_shortens_the_step_and_not_the_reported_gradient(config: TrainConfig) -> None:
    def step(clip_norm: float | None) -> tuple[float, Tensor]:
        other = changed(config, optimiser={"kind": "adam", "lr": 0.1, "clip_norm": clip_norm, "betas": [0.0, 0.0]})
        state = TrainState.fresh(other)
        for optimiser in state.optimisers:
            for group in optimiser.param_groups:
                group["eps"] = 1.0  # so that the step is as long as the gradient
        before = state.network.ending.weight.detach().clone()
        norm = train_step(state, [batch()], state.network, lambda *two: 1000 * charbonnier_loss(*two), other)[1]
        return norm, state.network.ending.weight.detach() - before

    free_norm, free = step(None)
    clipped_norm, clipped = step(1e-3)
    assert clipped_norm == free_norm > 10
    assert clipped.norm() < free.norm() / 10
    assert torch.equal(step(10 * free_norm)[1], free)


def test_accumulated_passes_are_one_step_of_their_mean_gradient(config: TrainConfig) -> None:
    whole, parts = TrainState.fresh(config), TrainState.fresh(config)
    halves = [Batch(*(tensor[half] for tensor in batch())) for half in (slice(0, 2), slice(2, 4))]
    loss_and_norm = train_step(whole, [batch()], whole.network, charbonnier_loss, config)
    # neither optimiser heeds the length of the gradient, limits of it do
    assert train_step(parts, halves, parts.network, charbonnier_loss, config) == pytest.approx(loss_and_norm, rel=1e-4)
    assert parts.step == 1
    for one, other in zip(whole.network.parameters(), parts.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)  # Newton–Schulz magnifies rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sigma_input", [True, False])
def test_the_network_is_told_the_noise_where_it_can_be_and_computes_in_its_format(
    config: TrainConfig, dtype: torch.dtype, *, sigma_input: bool
) -> None:
    network = config.network.as_dict() | {"sigma_input": sigma_input}
    chosen = changed(config, network=network, data={"told_share": 0.0})
    state = TrainState.fresh(chosen)
    state.use(dtype)
    seen: list[tuple[Tensor | None, torch.dtype]] = []

    class Watched(nn.Module):
        def forward(self, degraded: Tensor, told: Tensor | None) -> Tensor:
            restored: Tensor = state.network(degraded, told)
            seen.append((told, torch.mm(torch.ones(1, 1), torch.ones(1, 1)).dtype))
            return restored

    degraded, _, reference = batch()
    told = torch.full((4,), 0.1)

    train_step(state, [Batch(degraded, told, reference)], Watched(), charbonnier_loss, chosen)
    ((given, computed),) = seen
    assert (given is not None and torch.equal(given, told)) is sigma_input
    assert computed == dtype


def test_a_run_leaves_weights_recipe_log_and_card(config: TrainConfig, material: Material, tmp_path: Path) -> None:
    run = tmp_path / "run"
    heard: list[Any] = []
    path = train(config, material, run, on_record=heard.append)
    assert path is not None
    network, info = load_weights(path)
    assert load_weights(run)[1].path == path == run / "best.safetensors"
    assert network(torch.rand(1, 3, 8, 8)).shape == (1, 3, 8, 8)
    assert info.document["training"]["steps"] == 6
    assert info.document["training"]["photographs"] == {"photographs": 1, "deeper": 1}
    assert info.document["training"]["hardware"].endswith(", float32")
    assert TrainConfig.model_validate(info.document["training"]["config"]) == config
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["event"] for record in records] == ["start", "checkpoint"]
    assert records == heard
    assert "- photographs: 1 pictures" in (run / "card.md").read_text()
    assert (run / "config.toml").is_file()


def test_what_cannot_be_validated_on_is_named(config: TrainConfig, photographs: Path, tmp_path: Path) -> None:
    validation = tmp_path / "validation"
    shutil.copytree(photographs, validation)
    (validation / "a.png").write_bytes(b"damaged")
    heard: list[Any] = []
    material = Material.open(config, clean=photographs, validation=validation)
    train(config, material, tmp_path / "run", on_record=heard.append)
    (reason,) = heard[-1]["bad_pictures"]
    assert reason.startswith(f"{validation / 'a.png'}: ")


def test_what_was_learnt_is_kept_where_the_pictures_vanish(
    config: TrainConfig, photographs: Path, tmp_path: Path
) -> None:
    validation, away = tmp_path / "validation", tmp_path / "away"
    shutil.copytree(photographs, validation)
    material = Material.open(config, clean=photographs, validation=validation)
    validation.rename(away)
    with pytest.raises(NothingToDoError, match="cannot be read"):
        train(config, material, tmp_path / "run")
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["checkpoint-00000006.pt"]
    away.rename(validation)
    assert train(config, material, tmp_path / "run", resume=True) is not None


def test_a_stop_during_a_save_does_not_wait_for_another(
    config: TrainConfig, material: Material, tmp_path: Path
) -> None:
    saved: list[Any] = []
    chosen = changed(config, checkpoint={"minutes": 1e-6})

    def heard(record: Mapping[str, Any]) -> None:
        if record["event"] == "checkpoint":
            saved.append(record["step"])

    stopped = train(chosen, material, tmp_path / "run", should_stop=lambda: bool(saved), on_record=heard)
    assert (stopped, len(saved)) == (None, 1)
    assert saved[0] < 6


def test_a_full_disk_names_the_remedy(
    config: TrainConfig, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    def after_the_first(record: Mapping[str, Any]) -> None:
        if record["event"] == "checkpoint":
            monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OutputError, match=r"No space left on device; free some space .* --resume"):
        train(changed(config, checkpoint={"minutes": 1e-6}), material, tmp_path / "run", on_record=after_the_first)


@pytest.mark.parametrize("is_paired", [False, True])
def test_the_card_says_how_its_psnr_was_measured(
    config: TrainConfig, photographs: Path, tmp_path: Path, *, is_paired: bool
) -> None:
    sides = {"degraded": photographs, "reference": photographs} if is_paired else {"clean": photographs}
    train(config, Material.open(config, **sides), tmp_path / "run")
    told = (tmp_path / "run" / "card.md").read_text()
    assert ("degraded as in training" in told) != is_paired
    assert "central 256 pixels" in told
    assert "above 45 dB count as 45" in told


def batches_of(
    run: Callable[[], object], monkeypatch: pytest.MonkeyPatch, breaks_at: int | None = None
) -> list[list[Tensor]]:
    """Return the degraded pictures of each step's passes; one step may diverge."""
    seen: list[list[Tensor]] = []

    def watched(state: TrainState, passes: list[Batch], *others: Any) -> tuple[float, float]:
        seen.append([one.degraded for one in passes])
        if len(seen) == breaks_at:
            raise DivergedError("the loss became nan")
        return train_step(state, passes, *others)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", watched)
        run()
    return seen


def test_every_step_takes_its_passes_and_a_resumed_run_goes_on_with_the_next(
    config: TrainConfig, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = changed(config, optimiser=config.optimiser.model_dump() | {"accumulation": 2})
    whole = batches_of(lambda: train(twice, material, tmp_path / "whole"), monkeypatch)
    assert [[len(one) for one in step] for step in whole] == 3 * [[4, 4]] + 3 * [[2, 2]]  # patches grow half-way
    stops = iter([False, False, True])
    train(twice, material, tmp_path / "parts", should_stop=lambda: next(stops))
    rest = batches_of(lambda: train(twice, material, tmp_path / "parts", resume=True), monkeypatch)
    assert len(rest) == 4
    for one, other in zip(itertools.chain(*whole[2:]), itertools.chain(*rest), strict=True):
        assert torch.equal(one, other)


def test_a_rewind_trains_on_other_samples(
    config: TrainConfig, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewinding = changed(config, on_divergence="rewind")
    steps = batches_of(lambda: train(rewinding, material, tmp_path), monkeypatch, breaks_at=2)
    assert len(steps) == 2 + 6
    assert not any(torch.equal(one[0], other[0]) for one, other in zip(steps[:2], steps[2:], strict=False))


def test_a_rewind_before_the_first_checkpoint_goes_back_to_the_weights_given(
    config: TrainConfig, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(config, material, tmp_path / "first")
    still = changed(config, on_divergence="rewind", optimiser={"kind": "adam", "lr": 1e-12})
    batches_of(lambda: train(still, material, tmp_path / "run", init=first), monkeypatch, breaks_at=2)
    network = load_weights(tmp_path / "first" / "best.safetensors")[0].state_dict()
    for key, tensor in weights_of(tmp_path / "run").items():
        torch.testing.assert_close(tensor, network[key], atol=1e-6, rtol=1e-6)


def test_what_a_step_draws_depends_on_its_number_the_seed_the_process_and_the_rewinds(config: TrainConfig) -> None:
    def drawn(step: int = 0, rank: int = 0, num_rewinds: int = 0, seed: int = 0) -> float:
        chosen = changed(config, seed=seed)
        state = TrainState.fresh(chosen)
        state.step, state.num_rewinds = step, num_rewinds
        found: list[float] = []

        def loss(one: Tensor, other: Tensor) -> Tensor:
            found.append(float(torch.rand(())))
            return charbonnier_loss(one, other)

        train_step(state, [batch()], state.network, loss, chosen, Team(rank, 1))
        return found[0]

    before = torch.random.get_rng_state()
    assert drawn() == drawn()
    assert len({drawn(), drawn(step=1), drawn(rank=1), drawn(num_rewinds=1), drawn(seed=1)}) == 5
    assert torch.equal(torch.random.get_rng_state(), before)


class Clock:
    """A clock that tells what it is set to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.strftime = time.strftime
        monkeypatch.setattr(loop, "time", self)
        monkeypatch.setattr(outcome, "time", self)

    def monotonic(self) -> float:
        return self.now

    def step(self, meter: loop.Meter, seconds: float, waited: float = 0.0, loss: float = 0.1) -> float:
        with meter.waiting():
            self.now += waited
        self.now += seconds - waited
        return meter.count_step([batch(), batch()], loss)


def test_pauses_count_as_short_and_slow_steps_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    meter = loop.Meter()
    assert [clock.step(meter, seconds) for seconds in (2, 3, 20, 3600, 3)] == [2, 3, 20, 20, 3]
    slow = loop.Meter()
    assert [clock.step(slow, seconds) for seconds in (19, 60, 3600)] == pytest.approx(
        [19, 60, 5 * (0.9 * 19 + 0.1 * 60)]
    )
    clock.now += 30
    assert meter.seconds_of_saving() == 300  # the pause that the other meter saw
    clock.now += 30
    assert meter.seconds_of_saving() == 30
    assert clock.step(meter, 3) == 3


def test_the_meter_tells_images_a_second_the_share_of_waiting_and_when_there_is_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    meter = loop.Meter()
    told = []
    for number in range(6):
        clock.step(meter, 4, waited=1, loss=float(number))
        told.append(meter.has_news())
    assert told == [False, False, True, False, False, True]
    assert meter.images_per_second == pytest.approx(8 / 4)
    assert meter.waiting_share == pytest.approx(1 / 4)
    assert list(meter.recent_losses) == [0, 1, 2, 3, 4, 5]


def test_the_time_of_a_run_is_that_of_its_steps_and_checkpoints(
    config: TrainConfig, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    numbers = itertools.count(1)

    def slow(state: TrainState, *_: Any) -> tuple[float, float]:
        clock.now += 15
        state.step += 1
        return float(next(numbers)), 0.25

    def saved(*_: Any, **__: Any) -> Validation:
        clock.now += 100
        return Validation(30.0, 5.0, torch.empty(0), {})

    monkeypatch.setattr(loop, "train_step", slow)
    monkeypatch.setattr("restore.training.outcome.validate", saved)
    minutes = changed(config, budget={"minutes": 5}, checkpoint={"minutes": 0.5}, schedule={"kind": "constant"})
    heard: list[Any] = []
    train(minutes, material, tmp_path, on_record=heard.append)
    events = [(record["event"], record["step"], record.get("minutes")) for record in heard[1:]]
    assert events[:3] == [("progress", 1, 0.25), ("progress", 2, 0.5), ("checkpoint", 2, 0.5)]
    assert events[3][:2] == ("progress", 3)
    assert events[3][2] == pytest.approx((3 * 15 + 100) / 60, abs=1e-3)
    first, second = heard[1:3]
    assert (first["loss"], second["loss"], second["gradient_norm"]) == (1.0, 1.5, 0.25)
    assert first["lr"] == 0  # of the warmup
    assert second["lr"] == config.optimiser.lr
    assert second["images_per_second"] == pytest.approx(8 / 30, abs=0.01)
    assert [record["step"] for record in heard if record["event"] == "checkpoint"] == [2, 14]  # since they are slow
    assert heard[-1]["minutes"] == pytest.approx((14 * 15 + 100) / 60, abs=1e-3)
    assert heard[-1]["loss"] == pytest.approx(8.5)  # of the steps 3 to 14
    assert (heard[-1]["validation_psnr_db"], heard[-1]["validation_gain_db"]) == (30, 5)
    training = load_weights(tmp_path)[1].document["training"]
    assert (training["minutes"], training["threads"], training["processes"]) == (0.5, torch.get_num_threads(), 1)


def at_the_second_time() -> Callable[[], bool]:
    """Return what stops a run after its first step."""
    asked = itertools.count()
    return lambda: next(asked) > 0


def test_the_weights_of_a_run_are_the_moving_average_by_the_decay_of_its_recipe(
    config: TrainConfig, material: Material, tmp_path: Path
) -> None:
    run, fast = tmp_path / "run", changed(config, ema_decay=0.05)  # less than the first steps have anyway
    saved = []
    for number in range(3):
        assert train(fast, material, run, resume=number > 0, should_stop=at_the_second_time()) is None
        saved.append(load_checkpoint(run) or {})
        assert equal(weights_of(run), saved[-1]["average"])
    assert not equal(saved[-1]["average"], saved[-1]["network"])
    for before, after in itertools.pairwise(saved):
        for key, tensor in after["average"].items():
            expected = torch.lerp(before["average"][key], after["network"][key], 0.95)
            torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=1e-5)
    train(fast, material, run, resume=True)
    finished = load_checkpoint(run)
    assert finished is not None
    assert equal(weights_of(run, "best"), finished["average"])


@pytest.mark.parametrize("is_paired", [False, True])
def test_the_average_is_validated_on_what_is_held_out(
    config: TrainConfig, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_paired: bool
) -> None:
    sides = {"degraded": photographs, "reference": photographs} if is_paired else {"clean": photographs}
    material = Material.open(config, **sides)
    seen: list[tuple[dict[str, Tensor], Any, bool]] = []

    def found(network: Any, source: Any, *_: Any, is_paired: bool) -> Validation:
        seen.append(({key: tensor.clone() for key, tensor in network.state_dict().items()}, source, is_paired))
        return Validation(30.0, 5.0, torch.empty(0), {})

    monkeypatch.setattr("restore.training.outcome.validate", found)
    assert train(config, material, tmp_path / "run") is not None
    ((average, source, told),) = seen
    assert told == is_paired
    assert equal(average, weights_of(tmp_path / "run"))
    assert source is material.held_out


def test_the_average_forgets_the_first_weights_soon(config: TrainConfig) -> None:
    state = TrainState.fresh(config)
    first = state.average.intro.weight.clone()
    train_step(state, [batch()], state.network, charbonnier_loss, config)
    expected = torch.lerp(first, state.network.intro.weight.detach(), 1 - 2 / 11)
    torch.testing.assert_close(state.average.intro.weight, expected)


def test_the_rate_falls_over_the_share_that_the_recipe_says(config: TrainConfig) -> None:
    stable = changed(config, schedule={"kind": "stable-decay", "decay": 0.8})
    assert [learning_rate_factor(stable, progress) for progress in (0.1, 0.6)] == pytest.approx([1.0, 0.5])


def test_what_drop_path_draws_is_resumed_too(config: TrainConfig, material: Material, tmp_path: Path) -> None:
    network = config.network.as_dict()
    network["middle"] |= {"kind": "lka", "drop_path": 0.5}
    random = changed(config, network=network)
    asked = iter([False, False, True])
    train(random, material, tmp_path / "parts", should_stop=lambda: next(asked))
    train(random, material, tmp_path / "parts", resume=True)
    train(random, material, tmp_path / "whole")
    assert equal(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts"))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(
    config: TrainConfig, material: Material, tmp_path: Path, workers: int
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with_workers = changed(config, data=config.data.model_dump() | {"workers": workers})
    train(with_workers, material, whole)
    asked = iter([False, False, False, True])
    train(with_workers, material, parts, should_stop=lambda: next(asked))
    assert load_weights(parts)[1].document["training"]["steps"] == 3
    train(with_workers, material, parts, resume=True)
    assert equal(weights_of(whole), weights_of(parts))


def test_a_folder_with_a_run_is_not_overwritten(config: TrainConfig, material: Material, tmp_path: Path) -> None:
    train(config, material, tmp_path / "run")
    with pytest.raises(UsageError, match="--resume"):
        train(config, material, tmp_path / "run")
    with pytest.raises(UsageError, match="seed was 0 and is 1"):
        train(changed(config, seed=1), material, tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match="budget"):  # the cosine has ended
        train(changed(config, budget={"steps": 9}), material, tmp_path / "run", resume=True)


def test_a_finished_run_that_is_resumed_says_so_and_changes_nothing(
    config: TrainConfig, material: Material, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    path = train(config, material, run)
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.name != "log.jsonl"}
    heard: list[Any] = []
    assert train(config, material, run, resume=True, on_record=heard.append) == path
    assert [(record["event"], record["step"]) for record in heard] == [("finished", 6)]
    assert heard[0]["best_psnr_db"] == pytest.approx(
        load_weights(run)[1].document["training"]["validation_psnr_db"], abs=1e-3
    )
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.name != "log.jsonl"} == before


def test_a_stable_run_goes_on_from_before_its_decay(config: TrainConfig, material: Material, tmp_path: Path) -> None:
    schedule = {"kind": "stable-decay", "warmup": 0.1, "decay": 0.5}
    short = changed(config, schedule=schedule)
    long = changed(config, schedule=schedule, budget={"steps": 12}, patches=[config.patches[0].model_dump()])
    short = changed(short, patches=[config.patches[0].model_dump()])
    train(short, material, tmp_path / "continued")
    assert [path.name for path in list_checkpoints(tmp_path / "continued", "stable")] == ["stable-00000003.pt"]
    asked = iter([False, True])
    assert train(long, material, tmp_path / "continued", resume=True, should_stop=lambda: next(asked)) is None
    assert [path.name for path in list_checkpoints(tmp_path / "continued")] == [
        "checkpoint-00000003.pt",
        "checkpoint-00000004.pt",
    ]
    train(long, material, tmp_path / "continued", resume=True)
    assert [path.name for path in list_checkpoints(tmp_path / "continued", "stable")][-1] == "stable-00000006.pt"
    records = [json.loads(line) for line in (tmp_path / "continued" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record["event"] == "start"] == [0, 3, 4]
    assert records[-1]["step"] == 12


def test_where_the_state_before_the_decay_is_damaged_there_is_nothing_to_go_back_to(
    config: TrainConfig, material: Material, tmp_path: Path
) -> None:
    stable = changed(config, schedule={"kind": "stable-decay", "warmup": 0.1, "decay": 0.5})
    train(stable, material, tmp_path)
    (path,) = list_checkpoints(tmp_path, "stable")
    path.write_bytes(b"damaged")
    with pytest.raises(UsageError, match="falls over the budget that it began with"):
        train(changed(stable, budget={"steps": 12}), material, tmp_path, resume=True)


def test_checkpoints_take_a_small_share_of_the_time(config: TrainConfig, material: Material, tmp_path: Path) -> None:
    logbook = Logbook(tmp_path, tensorboard=False, on_record=lambda _: None)
    keeper = Keeper(changed(config, checkpoint={"minutes": 3}), material, tmp_path, Team(), logbook)
    state = TrainState.fresh(config)

    def is_due(seconds: float) -> bool:
        state.seconds = seconds
        return keeper.is_due(state)

    assert [is_due(seconds) for seconds in (600, 779, 780)] == [False, False, True]
    keeper.saved_at = 0
    keeper.seconds_of_saving = 15
    assert [is_due(seconds) for seconds in (180, 499, 500)] == [False, False, True]
    keeper.seconds_of_saving = 3600
    assert [is_due(seconds) for seconds in (1799, 1800)] == [False, True]


def test_every_checkpoint_tells_the_loss_since_the_one_before(
    config: TrainConfig, material: Material, tmp_path: Path
) -> None:
    heard: list[Any] = []
    logbook = Logbook(tmp_path, tensorboard=False, on_record=heard.append)
    keeper, state = Keeper(config, material, tmp_path, Team(), logbook), TrainState.fresh(config)
    for state.step, losses in ((1, [1.0, 2.0]), (2, [4.0]), (3, [])):
        state.seconds = 1000.0 * state.step
        keeper.losses += losses
        keeper.save(state, {})
        assert not keeper.is_due(state)
    assert [record["loss"] for record in heard] == [1.5, 4.0, None]


def test_only_the_first_process_of_a_team_writes(config: TrainConfig, material: Material, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    logbook = Logbook(run, tensorboard=False, on_record=lambda _: None, writes=False)
    stable = changed(config, schedule={"kind": "stable-decay"})
    keeper, state = Keeper(stable, material, run, Team(1, 2), logbook), TrainState.fresh(stable)
    assert not keeper.is_due(state)
    state.step, state.seconds = 5, 1e6
    assert not keeper.is_due(state)
    for progress in (0.5, 0.8):
        keeper.keep_before_decay(state, progress)
    keeper.save(state, {})
    keeper.keep_rewound(state)
    keeper.keep_unvalidated(state)
    assert not list(run.iterdir())


def test_no_checkpoint_is_larger_than_the_recipe_allows(
    config: TrainConfig, material: Material, tmp_path: Path
) -> None:
    train(changed(config, checkpoint={"max_mb": 0.1}), material, tmp_path)
    sizes = sorted(path.stat().st_size for path in tmp_path.glob("checkpoint-*.pt*"))
    assert len(sizes) > 1
    assert sizes[-1] == 100_000


def test_training_may_start_from_other_weights(config: TrainConfig, material: Material, tmp_path: Path) -> None:
    first = train(config, material, tmp_path / "first")
    assert first is not None
    still = changed(config, optimiser={"kind": "adam", "lr": 1e-12}, ema_decay=0.0)
    train(still, material, tmp_path / "second", init=first)
    for one, other in zip(weights_of(tmp_path / "second").values(), load_weights(first)[0].parameters(), strict=False):
        torch.testing.assert_close(one, other.detach(), atol=1e-6, rtol=1e-6)
    wider = changed(config, network=config.network.as_dict() | {"width": 12})
    with pytest.raises(WeightsError, match="another network"):
        train(wider, material, tmp_path / "third", init=first)


def test_a_longer_budget_goes_on_from_the_newest_state_that_has_not_decayed(
    config: TrainConfig, material: Material, tmp_path: Path
) -> None:
    stable = changed(config, schedule={"kind": "stable-decay", "warmup": 0.1, "decay": 0.2})
    asked = iter([False, False, False, True])
    train(stable, material, tmp_path / "run", should_stop=lambda: next(asked))
    train(changed(stable, budget={"steps": 10}), material, tmp_path / "run", resume=True)
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record["event"] == "start"] == [0, 3]


def test_a_longer_decay_goes_on_from_before_the_shorter_one(
    config: TrainConfig, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = itertools.chain([30.0], itertools.repeat(20.0))
    monkeypatch.setattr(
        "restore.training.outcome.validate", lambda *_, **__: Validation(next(found), 0.0, torch.empty(0), {})
    )
    short = changed(config, schedule={"kind": "stable-decay", "warmup": 0.1, "decay": 0.5})
    train(short, material, tmp_path / "run")
    long = changed(config, schedule={"kind": "stable-decay", "warmup": 0.1, "decay": 0.75}, budget={"steps": 16})
    train(long, material, tmp_path / "run", resume=True)
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record["event"] == "start"] == [0, 3]
    assert [path.name for path in list_checkpoints(tmp_path / "run", "stable")][-1] == "stable-00000004.pt"
    saved = load_checkpoint(tmp_path / "run")
    assert saved is not None
    assert saved["best_psnr_db"] == 30  # of the shorter run, whose weights stay
    with pytest.raises(UsageError, match=r"fall before step 4.*smaller schedule.decay"):  # from step 1.6 on
        train(
            changed(long, schedule=long.schedule.model_dump() | {"decay": 0.9}), material, tmp_path / "run", resume=True
        )


def test_an_overflow_of_float16_leaves_the_step_out(config: TrainConfig) -> None:
    state = TrainState.fresh(config)
    state.scaler = torch.amp.GradScaler("cpu", enabled=True, init_scale=1e30)
    before = {key: value.clone() for key, value in state.network.state_dict().items()}
    train_step(state, [batch()], state.network, lambda one, other: 1e15 * charbonnier_loss(one, other), config)
    assert equal(before, state.network.state_dict())
    assert state.scaler.get_scale() < 1e30


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(config: TrainConfig) -> None:
    state = TrainState.fresh(config)
    before = {key: value.clone() for key, value in state.network.state_dict().items()}
    degraded, told, reference = batch()
    with pytest.raises(DivergedError, match="step 0") as caught:
        train_step(state, [Batch(degraded * torch.nan, told, reference)], state.network, charbonnier_loss, config)
    assert caught.value.exit_code == 7
    assert equal(before, state.network.state_dict())


def test_a_single_exploding_gradient_is_left_out_and_several_stop_the_run(config: TrainConfig) -> None:
    def exploding(one: Tensor, other: Tensor) -> Tensor:
        return 1e6 * charbonnier_loss(one, other)

    state = TrainState.fresh(config)
    train_step(state, [batch()], state.network, charbonnier_loss, config)
    before, average = (
        {key: value.clone() for key, value in one.state_dict().items()} for one in (state.network, state.average)
    )
    for _ in range(3):
        train_step(state, [batch()], state.network, exploding, config)
    assert equal(before, state.network.state_dict())
    assert equal(average, state.average.state_dict())
    assert state.step == 4
    restored = TrainState.fresh(config)
    restored.load_dict(state.as_dict(config))
    with pytest.raises(DivergedError, match="exploded at step 4"):
        train_step(restored, [batch()], restored.network, exploding, config)
    train_step(state, [batch()], state.network, charbonnier_loss, config)
    assert not equal(before, state.network.state_dict())
    assert state.num_left_out == 0


def test_the_usual_gradient_is_a_slow_mean_from_the_first_on(config: TrainConfig) -> None:
    state = TrainState.fresh(config)
    first = train_step(state, [batch()], state.network, charbonnier_loss, config)[1]
    assert state.usual_norm == first
    second = train_step(state, [batch()], state.network, lambda *two: 10 * charbonnier_loss(*two), config)[1]
    assert second > 2 * first
    assert state.usual_norm == pytest.approx(0.98 * first + 0.02 * second)


def test_a_gradient_that_is_not_finite_stops_though_its_loss_is(config: TrainConfig) -> None:
    state = TrainState.fresh(config)
    with pytest.raises(DivergedError, match="gradient is not finite at step 0"):
        train_step(state, [batch()], state.network, lambda one, _: (one - one).abs().sqrt().mean(), config)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kind": "l1"}, lambda error: error.abs().mean()),
        ({"kind": "charbonnier", "eps": 0.5}, lambda error: (error**2 + 0.25).sqrt().mean()),
        ({"kind": "l1", "fft": 0.5}, lambda error: error.abs().mean() + 0.5 * fft_loss(error, 0 * error)),
    ],
)
def test_the_loss_is_that_of_the_recipe(
    config: TrainConfig, settings: dict[str, Any], expected: Callable[[Tensor], Tensor]
) -> None:
    restored, _, reference = batch()
    loss = loop._loss_of(changed(config, loss=settings), torch.device("cpu"))
    torch.testing.assert_close(loss(restored, reference), expected(restored - reference))


def test_the_perceptual_loss_is_lpips_and_learns_nothing(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTORE_WEIGHTS", str(shared / "weights"))
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.rand(3, 40, 40, generator=generator) for _ in range(2))
    found = loop.perceptual_loss("squeeze", torch.device("cpu"), 17)(one[None], other[None])
    assert not found.requires_grad
    lpips = load_lpips("squeeze", find_weights("lpips-squeeze"))
    assert float(found) == pytest.approx(lpips(other, one), rel=1e-4)


def test_only_one_process_trains_in_a_folder(config: TrainConfig, material: Material, tmp_path: Path) -> None:
    asked: list[str] = []

    def starts_another() -> bool:
        if not asked:
            with pytest.raises(UsageError, match="another process trains there; wait for it") as caught:
                train(config, material, tmp_path / "run", resume=True)
            asked.append(str(caught.value))
        return True

    assert train(config, material, tmp_path / "run", should_stop=starts_another) is None
    assert asked
    assert train(config, material, tmp_path / "run", resume=True) is not None


def test_a_run_told_to_rewind_goes_on_with_other_samples(
    config: TrainConfig, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def breaks_once(*arguments: Any, **options: Any) -> tuple[float, float]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise DivergedError("the loss became nan")
        return train_step(*arguments, **options)

    monkeypatch.setattr(loop, "train_step", breaks_once)
    train(changed(config, on_divergence="rewind"), material, tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["event"] for record in records] == ["start", "rewind", "start", "checkpoint"]
    assert records[1]["lr_scale"] == 0.5
    saved = load_checkpoint(tmp_path / "run")
    assert saved is not None
    assert saved["num_rewinds"] == 1
    for optimiser in saved["optimisers"]:
        (group,) = optimiser["param_groups"]
        assert group["lr"] == pytest.approx(
            group["base_lr"] * learning_rate_factor(config, 5 / 6) * 0.5
        )  # the last step
    calls = 0
    with pytest.raises(DivergedError):
        train(config, material, tmp_path / "other")


def test_a_stop_does_not_undo_a_rewind(
    config: TrainConfig, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count(1)

    def breaks_once(*arguments: Any, **options: Any) -> tuple[float, float]:
        number = next(numbers)
        if number == 4:
            raise DivergedError("the loss became nan")
        norm = train_step(*arguments, **options)[1]
        return (1000.0 if number == 3 else 1.0), norm

    monkeypatch.setattr(loop, "train_step", breaks_once)
    asked = iter([False, False, True])
    run = tmp_path / "run"
    assert train(changed(config, on_divergence="rewind"), material, run, should_stop=lambda: next(asked)) is None
    again = iter([False, False, True])  # takes the third step, breaks at the fourth, goes back and stops there
    rewinding = changed(config, on_divergence="rewind")
    heard: list[Any] = []
    on_disk: list[Any] = []

    def hear(record: Mapping[str, Any]) -> None:
        heard.append(record)
        if record["event"] == "rewind":
            on_disk.append((load_checkpoint(run) or {})["num_rewinds"])

    stopped = train(rewinding, material, run, resume=True, should_stop=lambda: next(again), on_record=hear)
    assert stopped is None
    assert on_disk == [1]  # not even a kill undoes it
    assert heard[-1]["loss"] is None  # the way that was left does not count
    saved = load_checkpoint(run)
    assert saved is not None
    assert (saved["step"], saved["num_rewinds"], saved["lr_scale"]) == (2, 1, 0.5)
    assert train(changed(config, on_divergence="rewind"), material, run, resume=True) is not None
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert records[-1]["loss"] == 1.0


@pytest.mark.parametrize("name", ["config.toml", "card.md", "last.safetensors", "best.safetensors"])
def test_files_that_are_no_runs_are_not_overwritten(
    config: TrainConfig, material: Material, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=f"holds {name} but no checkpoint"):
        train(config, material, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name in {name, "log.jsonl"}] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_again(
    config: TrainConfig, material: Material, tmp_path: Path
) -> None:
    train(config, material, tmp_path / "whole")
    (tmp_path / "run").mkdir()
    for name in ("config.toml", "data.json"):
        (tmp_path / "run" / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    assert train(config, material, tmp_path / "run") is not None


def test_a_run_that_is_killed_while_it_writes_its_first_weights_can_be_resumed(
    config: TrainConfig, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "_write_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, material, tmp_path / "run")
    train(config, material, tmp_path / "run", resume=True)
    train(config, material, tmp_path / "whole")
    assert equal(weights_of(tmp_path / "run"), weights_of(tmp_path / "whole"))


@pytest.mark.parametrize(
    "change", [{"config": {"new_setting": 1}}, {"average": {}}, {"config": None}, {"optimisers": [{}]}]
)
def test_a_state_of_another_version_is_named(
    config: TrainConfig, material: Material, tmp_path: Path, change: dict[str, Any]
) -> None:
    state = TrainState.fresh(config).as_dict(config)
    save_checkpoint(tmp_path, state | change)
    with pytest.raises(WeightsError, match="hold no state of this version of restore"):
        train(config, material, tmp_path, resume=True)


def test_a_finished_run_whose_best_weights_are_gone_writes_its_last_again(
    config: TrainConfig, material: Material, tmp_path: Path
) -> None:
    best = train(config, material, tmp_path)
    assert best is not None
    best.unlink()
    assert train(config, material, tmp_path, resume=True) == best
    assert equal(weights_of(tmp_path, "best"), weights_of(tmp_path, "last"))


def test_the_card_names_folders_whose_bytes_are_no_text(config: TrainConfig, photographs: Path, tmp_path: Path) -> None:
    (photographs / "deeper").rename(photographs / os.fsdecode(b"caf\xe9"))
    train(config, Material.open(config, clean=photographs), tmp_path / "run")
    assert "caf\\udce9" in (tmp_path / "run" / "card.md").read_text()


@pytest.mark.parametrize("chosen", ["stop", "rewind"])
def test_who_rewinds_already_is_not_told_to(config: TrainConfig, chosen: str) -> None:
    state, (degraded, told, reference) = TrainState.fresh(config), batch()
    spoilt = Batch(degraded * torch.nan, told, reference)
    with pytest.raises(DivergedError) as caught:
        train_step(state, [spoilt], state.network, charbonnier_loss, changed(config, on_divergence=chosen))
    assert ("on_divergence=rewind" in str(caught.value)) == (chosen == "stop")


def test_a_run_that_always_diverges_ends(
    config: TrainConfig, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any, **__: Any) -> tuple[float, float]:
        raise DivergedError("the loss became nan")

    monkeypatch.setattr(loop, "train_step", breaks)
    with pytest.raises(DivergedError):
        train(changed(config, on_divergence="rewind"), material, tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["event"] for record in records].count("rewind") == loop.MAX_REWINDS


def test_a_validation_that_is_nan_is_forgotten(
    config: TrainConfig, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([20.0, math.nan, 19.0, 20.0, 21.0])
    monkeypatch.setattr(
        "restore.training.outcome.validate", lambda *_, **__: Validation(next(found), 0.0, torch.empty(0), {})
    )
    logbook = Logbook(tmp_path, tensorboard=False, on_record=lambda _: None)
    state, bests = TrainState.fresh(config), []
    keeper = Keeper(config, material, tmp_path, Team(), logbook)
    for step in range(1, 6):
        state.step = step
        keeper.save(state, {})
        bests.append(load_weights(tmp_path / "best.safetensors")[1].document["training"]["steps"])
    assert bests == [1, 1, 1, 1, 5]
    assert state.best_psnr_db == 21


def test_lpips_needs_patches_that_its_trunk_can_pool(config: TrainConfig, material: Material, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="squeeze needs patches of 17 pixels or more, and the smallest have 16"):
        train(changed(config, loss={"lpips": 0.1, "lpips_net": "squeeze"}), material, tmp_path / "run")


def test_weights_that_are_not_finite_replace_nothing(
    config: TrainConfig, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    asked = iter([False, False, True])
    train(config, material, run, should_stop=lambda: next(asked))
    kept = (run / "best.safetensors").read_bytes()

    def spoils(state: TrainState, *_: Any) -> tuple[float, float]:
        with torch.no_grad():
            state.network.intro.weight.fill_(math.inf)
        state.step += 1
        return 0.1, 0.1

    monkeypatch.setattr(loop, "train_step", spoils)
    with pytest.raises(DivergedError):
        train(config, material, run, resume=True)
    assert (run / "best.safetensors").read_bytes() == kept


@pytest.mark.parametrize(
    ("kind", "expected"), [("cosine", [1.0, 0.0]), ("stable-decay", [1.0, 0.0]), ("constant", [1.0, 1.0])]
)
def test_schedules_reach_their_ends(config: TrainConfig, kind: str, expected: list[float]) -> None:
    other = changed(config, schedule={"kind": kind, "warmup": 0.1})
    assert learning_rate_factor(other, 0.0) == 0
    assert learning_rate_factor(changed(config, schedule={"kind": kind, "warmup": 0.0}), 0.0) == 1
    assert [learning_rate_factor(other, progress) for progress in (0.1, 1.0)] == pytest.approx(expected)
