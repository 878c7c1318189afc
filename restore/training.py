"""Train a blind denoiser within a time budget: `python -m restore.training RECIPE DATA --out RUN --minutes M`."""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from restore.checkpoint import load_checkpoint, save_checkpoint
from restore.config import PatchStage, TrainConfig, recipe
from restore.data import Batch, CleanPatches, degrade, load_photos
from restore.errors import DivergedError, RestoreError
from restore.images import find_images
from restore.losses import charbonnier_loss
from restore.metrics.psnr import psnr
from restore.models import NAFNet
from restore.optim import build_optimisers, set_learning_rate, update_ema, warmup_cosine
from restore.weights import save_weights

LONGEST_STEP_SECONDS = 20.0  # a stopped process or a sleeping laptop does not use up the schedule
VALIDATION_SHARE = 40  # every 40th photograph is held out
VALIDATION_SIGMA = 25 / 255


@dataclass
class TrainState:
    """All that a step changes."""

    network: NAFNet
    average: NAFNet
    optimisers: list[Optimizer]
    generator: torch.Generator
    step: int = 0
    seconds: float = 0.0

    @classmethod
    def fresh(cls, config: TrainConfig) -> TrainState:
        """Return the state before the first step."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = NAFNet(config.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(
            network=network,
            average=copy.deepcopy(network).requires_grad_(requires_grad=False),
            optimisers=build_optimisers(network, muon_lr=config.muon_lr, adamw_lr=config.adamw_lr),
            generator=torch.Generator().manual_seed(config.seed),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
        }

    def load_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.generator.set_state(state["generator"])
        self.step, self.seconds = state["step"], state["seconds"]


def train(config: TrainConfig, data: Path, run_dir: Path) -> Path:
    """Train on the photographs below a folder until the time budget ends, resuming what the run folder holds.

    Args:
        config: the recipe.
        data: folder of clean photographs, searched recursively.
        run_dir: gets `log.jsonl`, checkpoints, and the averaged weights `NAME.safetensors` with every checkpoint.

    Returns:
        The path of the weights.

    Raises:
        DivergedError: the loss is no longer finite; the last checkpoint stays.
        NothingToDoError: no photographs.
        WeightsError: the run's checkpoints are damaged.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    state = TrainState.fresh(config)
    if checkpoint := load_checkpoint(run_dir):
        state.load_dict(checkpoint)
    photos = load_photos(data)
    training, held_out = split(photos)
    patches = CleanPatches(training, state.generator)
    dtype = fastest_dtype(config)
    log(run_dir, {"event": "start", "photos": len(photos), "dtype": str(dtype), "step": state.step})

    budget, last_saved, started = config.minutes * 60, state.seconds, time.monotonic()
    losses: list[float] = []
    while state.seconds < budget:
        progress = state.seconds / budget
        stage = config.patch_stage(progress)
        clean = patches.draw(stage.batch_size, stage.patch_size)
        batch = degrade(
            clean,
            state.generator,
            sigma_max=config.sigma_max,
            told_share=config.told_share,
            grey_share=config.grey_share,
        )
        set_learning_rate(state.optimisers, warmup_cosine(progress))
        losses.append(train_step(state, batch, dtype, config.ema_decay))

        now = time.monotonic()
        state.seconds += min(now - started, LONGEST_STEP_SECONDS)
        started = now
        if state.seconds - last_saved >= config.checkpoint_minutes * 60 or state.seconds >= budget:
            last_saved = state.seconds
            record = {"event": "checkpoint", "step": state.step, "minutes": round(state.seconds / 60, 2)}
            record |= {"loss": statistics.fmean(losses), "validation_psnr_db": validate(state.average, held_out)}
            log(run_dir, record)
            save_weights(run_dir / f"{config.name}.safetensors", state.average, metadata(config, state, data, record))
            save_checkpoint(run_dir, state.as_dict())
            losses.clear()
    return run_dir / f"{config.name}.safetensors"


def train_step(state: TrainState, batch: Batch, dtype: torch.dtype, ema_decay: float) -> float:
    """Take one step and return its loss."""
    noisy, told, clean = batch
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = charbonnier_loss(state.network(noisy, told).float(), clean)
    if not torch.isfinite(loss):
        raise DivergedError(f"the loss became {loss.item()} at step {state.step}; resume with a lower learning rate")
    loss.backward()  # type: ignore[no-untyped-call]
    for optimiser in state.optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    state.step += 1
    update_ema(state.average, state.network, state.step, ema_decay)
    return loss.item()


def fastest_dtype(config: TrainConfig) -> torch.dtype:
    """Return bfloat16 where a few timed steps show that autocast is faster on this processor, else float32."""
    if config.precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[config.precision]
    trial = TrainState.fresh(config)
    stage: PatchStage = config.patches[0]
    clean = torch.rand(stage.batch_size, 3, stage.patch_size, stage.patch_size, generator=trial.generator)
    clean = clean.contiguous(memory_format=torch.channels_last)
    told = torch.zeros(stage.batch_size)
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(4):
        for dtype, times in seconds.items():
            started = time.perf_counter()
            train_step(trial, (clean, told, clean), dtype, config.ema_decay)
            times.append(time.perf_counter() - started)
    return min(seconds, key=lambda dtype: min(seconds[dtype]))


def split(photos: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Hold every 40th photograph out for validation; with fewer than 40, validate on the first one as well."""
    if len(photos) < VALIDATION_SHARE:
        return list(photos), list(photos[:1])
    held_out = list(photos[::VALIDATION_SHARE])
    return [photo for index, photo in enumerate(photos) if index % VALIDATION_SHARE], held_out


@torch.no_grad()
def validate(network: NAFNet, photos: Sequence[Tensor], size: int = 256) -> float:
    """Return the mean PSNR in dB over the central patches of some photographs with noise of σ 25 on 0–255."""
    generator = torch.Generator().manual_seed(0)
    scores = []
    for photo in photos:
        height, width = photo.shape[-2:]
        top, left = max(0, height - size) // 2, max(0, width - size) // 2
        clean = photo[:, top : top + size, left : left + size].float().div(255)[None]
        noisy = clean + VALIDATION_SIGMA * torch.randn(clean.shape, generator=generator)
        restored = network(noisy.contiguous(memory_format=torch.channels_last)).clamp(0, 1)
        scores.append(psnr(clean[0], restored[0]))
    return statistics.fmean(scores)


def metadata(config: TrainConfig, state: TrainState, data: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Describe the weights for their file."""
    return {
        "name": config.name,
        "task": "denoise",
        "architecture": "nafnet",
        "network": config.network.as_dict(),
        "training": {
            "config": config.as_dict(),
            "steps": state.step,
            "minutes": round(state.seconds / 60, 1),
            "validation_psnr_db": round(record["validation_psnr_db"], 3),
            "threads": torch.get_num_threads(),
            "photographs": count_photographs(data),
        },
    }


def count_photographs(data: Path) -> dict[str, int]:
    """Count the photographs in each folder right below the data folder, `.` for those in itself."""
    places = (path.relative_to(data).parts for path in find_images(data))
    return dict(Counter(parts[0] if len(parts) > 1 else "." for parts in places))


def log(run_dir: Path, record: dict[str, Any]) -> None:
    """Append a line to `log.jsonl` and say it."""
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S")} | record)
    with (run_dir / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Run the command of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m restore.training", description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="run folder; resumed where it holds checkpoints")
    parser.add_argument("--minutes", type=float, required=True, help="time budget, reached by the schedule's end")
    parser.add_argument("--threads", type=int, help="CPU threads; all where absent")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        print(train(recipe(args.recipe, args.minutes), args.data, args.out))
    except RestoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
