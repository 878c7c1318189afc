"""restore.training: it learns, it resumes to the bit, it stops when it diverges."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restore.checkpoint import load_checkpoint, save_checkpoint
from restore.config import PatchStage, TrainConfig, recipe
from restore.errors import DivergedError, UsageError
from restore.losses import charbonnier_loss
from restore.models import NAFNetConfig
from restore.models.nafnet import Stage
from restore.training import TrainState, train, train_step
from restore.weights import load_weights

SMALL = TrainConfig(
    name="small",
    network=NAFNetConfig(8, (Stage(1),), Stage(1), (Stage(1),), stem=2, sigma_input=True),
    minutes=0.1,
    patches=(PatchStage(0.0, 16, 4), PatchStage(0.5, 24, 2)),
    precision="fp32",
)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    (folder / "deeper").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ("a.png", "deeper/b.png"):
        blocks = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((40, 32), Image.Resampling.BICUBIC).save(folder / name)
    return folder


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(4, 3, 1, 1, generator=generator).expand(-1, -1, 16, 16).contiguous()
    return clean + 0.1 * torch.randn(clean.shape, generator=generator), torch.full((4,), -1.0), clean


def test_overfits_one_batch() -> None:
    state = TrainState.fresh(SMALL)
    noisy, told, clean = batch()
    losses = [train_step(state, (noisy, told, clean), torch.float32, 0.9) for _ in range(150)]
    assert losses[-1] < losses[0] / 4


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path) -> None:
    def steps(state: TrainState, num: int) -> TrainState:
        for _ in range(num):
            noisy = torch.rand(2, 3, 16, 16, generator=state.generator)
            train_step(state, (noisy, torch.full((2,), 0.1), noisy.flip(3)), torch.float32, 0.9)
        return state

    whole = steps(TrainState.fresh(SMALL), 6)
    half = steps(TrainState.fresh(SMALL), 3)
    save_checkpoint(tmp_path, half.as_dict())
    resumed = TrainState.fresh(SMALL)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    resumed.load_dict(loaded)
    steps(resumed, 3)
    for one, other in (
        (whole.network.state_dict(), resumed.network.state_dict()),
        (whole.average.state_dict(), resumed.average.state_dict()),
    ):
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert torch.equal(whole.generator.get_state(), resumed.generator.get_state())


def test_the_initial_weights_depend_on_the_seed_alone_and_global_randomness_is_untouched() -> None:
    before = torch.random.get_rng_state()
    one, other = TrainState.fresh(SMALL), TrainState.fresh(SMALL)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.network.intro.weight, other.network.intro.weight)
    different = TrainState.fresh(dataclasses.replace(SMALL, seed=1))
    assert not torch.equal(one.network.intro.weight, different.network.intro.weight)


def test_a_loss_that_is_not_finite_stops_with_its_own_code() -> None:
    state = TrainState.fresh(SMALL)
    noisy, told, clean = batch()
    with pytest.raises(DivergedError, match="step 0") as caught:
        train_step(state, (noisy * torch.nan, told, clean), torch.float32, 0.9)
    assert caught.value.exit_code == 7


def test_a_run_within_a_budget_leaves_weights_and_continues(photographs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    short = dataclasses.replace(SMALL, minutes=0.03)
    path = train(short, photographs, run)
    network, info = load_weights(path)
    assert info.document["training"]["steps"] > 0
    assert network(torch.rand(1, 3, 8, 8)).shape == (1, 3, 8, 8)
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["event"] for record in records] == ["start", "checkpoint"]
    train(dataclasses.replace(short, minutes=0.06), photographs, run)
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] > records[2]["step"] == records[1]["step"]


def test_the_command_trains_and_names_what_is_wrong(photographs: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "restore.training", *arguments, "--out", str(tmp_path / "run")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    unknown = run("no-such-recipe", str(photographs), "--minutes", "1")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    (tmp_path / "empty").mkdir()
    empty = run("denoise-fast", str(tmp_path / "empty"), "--minutes", "1")
    assert (empty.returncode, empty.stderr.count("\n")) == (3, 1)


def test_recipes() -> None:
    assert recipe("denoise-fast", 5).network.stem == 2
    with pytest.raises(UsageError, match="denoise-fast"):
        recipe("nothing", 5)


def test_patches_grow_with_the_run() -> None:
    assert [SMALL.patch_stage(progress).patch_size for progress in (0.0, 0.49, 0.5, 1.0)] == [16, 16, 24, 24]


def test_charbonnier_is_a_smooth_l1() -> None:
    zeros, ones = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    assert charbonnier_loss(zeros, zeros).item() == pytest.approx(1e-3)
    assert charbonnier_loss(zeros, ones).item() == pytest.approx(1.0, abs=1e-5)
