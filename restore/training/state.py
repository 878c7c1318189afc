"""All that a step of training changes, and where it comes from: a seed, a checkpoint, or other weights."""

from __future__ import annotations

import copy
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Adam, AdamW, Optimizer

from restore.checkpoint import list_checkpoints, load_checkpoint
from restore.config import TrainConfig, differences
from restore.distributed import Team
from restore.errors import UsageError, WeightsError, brief
from restore.inference import has_bfloat16
from restore.memory import is_out_of_memory
from restore.models import NAFNet
from restore.models.nafnet import ADDITIONS
from restore.optim import Muon, build_muon
from restore.training.material import SOURCES_FILE
from restore.weights import load_weights

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PLAIN = (
    "step",
    "seconds",
    "num_processes",
    "best_psnr_db",
    "usual_norm",
    "num_left_out",
    "lr_scale",
    "num_rewinds",
)  # saved as they are


@dataclass
class TrainState:
    """All that a step changes.

    Attributes:
        network: what is trained.
        average: the moving average of its weights, which is kept.
        optimisers: of its parameters.
        scaler: of the loss, under float16.
        dtype: of the computation.
        step: number of steps taken; with the seed it is the position in the data, too.
        seconds: of training, pauses left out.
        num_processes: that train together.
        best_psnr_db: highest validation PSNR so far.
        usual_norm: running mean of the gradient's length.
        num_left_out: steps in a row that were left out, since their gradients were far longer.
        lr_scale: halved by every rewind.
        num_rewinds: so far; each goes on with other samples.
    """

    network: NAFNet
    average: NAFNet
    optimisers: list[Optimizer]
    scaler: torch.amp.GradScaler
    dtype: torch.dtype = torch.float32
    step: int = 0
    seconds: float = 0.0
    num_processes: int = 1
    best_psnr_db: float = -math.inf
    usual_norm: float = 0.0
    num_left_out: int = 0
    lr_scale: float = 1.0
    num_rewinds: int = 0

    @classmethod
    def fresh(cls, config: TrainConfig, device: torch.device | str = "cpu") -> TrainState:
        """Return the state before the first step; it depends on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)  # not those of all GPUs
            network = NAFNet(config.network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        return cls(network, average, build_optimisers(network, config), _scaler(device, torch.float32))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def use(self, dtype: torch.dtype) -> None:
        """Compute in a number format; float16 needs its loss scaled."""
        self.dtype = dtype
        self.scaler = _scaler(self.device, dtype)
        for optimiser in self.optimisers:
            if isinstance(optimiser, Muon):
                optimiser.dtype = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32

    def start_from(self, name_or_path: str | Path) -> None:
        """Take the weights of a file instead of random ones; blocks that the file lacks stay new ones.

        A new block adds nothing, or next to nothing, at first; a new scale counts as much as the next larger one.

        Raises:
            WeightsError: they cannot be read, or are of another network.
        """
        network, info = load_weights(name_or_path)
        theirs, ours = network.state_dict(), self.network.state_dict()
        if "noise_level.weight" not in ours:  # whoever was told the noise level restores without it, too
            theirs.pop("noise_level.weight", None)
        # a network that was told nothing so far can learn to be, and one of one scale to work on several
        new = {key for key in ours if key.startswith(ADDITIONS)} - theirs.keys()
        known = {_block_of(key) for key in theirs}
        new |= {key for key in ours if _block_of(key) not in known}
        for key in sorted(ours.keys() | theirs.keys()):
            if key not in new and (key not in ours or key not in theirs or ours[key].shape != theirs[key].shape):
                raise WeightsError(f"{info.path}: of another network than the recipe's, as {key} shows; change either")
        for module in (self.network, self.average):
            module.load_state_dict(ours | theirs)

    def as_dict(self, config: TrainConfig) -> dict[str, Any]:
        """Return what a checkpoint holds: the recipe, tensors and plain numbers."""
        return {
            "config": config.as_dict(),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "scaler": self.scaler.state_dict(),
            "dtype": next(name for name, dtype in DTYPES.items() if dtype == self.dtype),
            **{name: getattr(self, name) for name in PLAIN},
        }

    def load_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["average"])
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.use(DTYPES[saved["dtype"]])
        if saved["scaler"]:
            self.scaler.load_state_dict(saved["scaler"])
        for name in PLAIN:
            setattr(self, name, saved.get(name, getattr(self, name)))  # older runs lack some
        if self.dtype == torch.float16 and self.device.type == "cpu":
            self.use(torch.float32)

    def is_finite(self) -> bool:
        """Return whether every weight is."""
        return all(bool(weight.isfinite().all()) for weight in self.network.parameters())


def prepare_state(
    config: TrainConfig, run_dir: Path, team: Team, device: torch.device, *, init: str | Path | None, resume: bool
) -> TrainState:
    """Return the state that a run starts or goes on from.

    A finished or running `stable-decay` run may be resumed with another budget or another share of decay: it goes on
    from the state before its learning rate fell.

    Raises:
        UsageError: the folder holds a run and `resume` is not set, or one of another recipe or number of processes.
        WeightsError: the checkpoints or the first weights cannot be read.
    """
    found = list_checkpoints(run_dir)
    if found and not resume:
        raise UsageError(f"{run_dir}: holds a run already; resume it (--resume), or choose another folder")
    if not found and (stranger := _file_that_would_go(run_dir)):
        raise UsageError(f"{run_dir}: holds {stranger} but no checkpoint to go on from; choose another folder")
    if not found:
        state = first_state(config, team, device, init=init)
        state.use(choose_dtype(config, device))
        return state
    state = TrainState.fresh(config, device)
    try:
        state.load_dict(_saved_for(config, run_dir))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error) or "CUDA" in str(error):
            raise
        told = f"its checkpoints hold no state of this version of restore ({brief(error)})"
        raise WeightsError(f"{run_dir}: {told}; go on with the one that wrote them, or in another folder") from error
    num = state.num_processes
    if num != team.size:
        raise UsageError(f"{run_dir}: {num} process(es) trained this run; resume with as many (--processes {num})")
    return state


def _file_that_would_go(run_dir: Path) -> str | None:
    """Return a file that a new run would replace, if there is one that no run without a checkpoint has left."""
    names = ["best.safetensors", "last.safetensors", "card.md"]
    if not (run_dir / "log.jsonl").exists() and not (run_dir / SOURCES_FILE).exists():
        names.append("config.toml")
    return next((name for name in names if (run_dir / name).exists()), None)


def first_state(config: TrainConfig, team: Team, device: torch.device, *, init: str | Path | None) -> TrainState:
    """Return the state before the first step, from the seed or from other weights.

    Raises:
        WeightsError: the weights cannot be read, or are of another network.
    """
    state = TrainState.fresh(config, device)
    state.num_processes = team.size
    if init is not None:
        state.start_from(init)
    return state


def _saved_for(config: TrainConfig, run_dir: Path) -> dict[str, Any]:
    saved = load_checkpoint(run_dir)
    assert saved is not None
    before = TrainConfig.model_validate(saved["config"])  # older runs lack settings that came later
    changed = differences(before.as_dict(), config.as_dict())
    if not changed:
        return saved
    if set(changed) <= {"budget.steps", "budget.minutes", "schedule.decay"}:
        candidate = saved if _is_stable(before, saved) else _load_stable(run_dir)
        if candidate is not None and _is_stable(config, candidate):
            return candidate | {"best_psnr_db": max(saved["best_psnr_db"], candidate["best_psnr_db"])}
        if candidate is not None:
            told = f"budget or learning rate would end or fall before step {candidate['step']:,}, where the run goes on"
            raise UsageError(f"{run_dir}: {told}; choose a larger budget or a smaller schedule.decay")
    if set(changed) <= {"budget.steps", "budget.minutes"}:
        told = f"its learning rate falls over the budget that it began with ({_in_brief(changed)})"
        raise UsageError(f"{run_dir}: {told}; leave that as it was, or go on in a new run with --init {run_dir}")
    remedy = "leave recipe and settings out to go on with its own, or choose another folder"
    raise UsageError(f"{run_dir}: the run has another recipe ({_in_brief(changed)}); {remedy}")


def _in_brief(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """Say in a few words what differs between two recipes: their names, or else some settings."""
    if "name" in changed:
        return "{}, not {}".format(*changed["name"])
    told = [
        f"{name} was {one!r} and is {other!r}" if max(len(repr(one)), len(repr(other))) < 40 else f"{name} differs"
        for name, (one, other) in changed.items()
    ]
    return "; ".join(told[:3]) + (f"; and {len(told) - 3} more" if len(told) > 3 else "")


def _is_stable(config: TrainConfig, saved: dict[str, Any]) -> bool:
    """Return whether the learning rate has not begun to fall under a recipe."""
    return config.budget.progress(saved["step"], saved["seconds"]) < config.schedule.decay_start


def _load_stable(run_dir: Path) -> dict[str, Any] | None:
    try:
        return load_checkpoint(run_dir, "stable")
    except WeightsError:  # damaged: there is nothing to go back to
        return None


def _block_of(key: str) -> str | None:
    """Return the block that a parameter belongs to."""
    block = re.match(r"(encoders\.\d+|middle_blks|decoders\.\d+)\.\d+\.", key)
    return block[0] if block else None


def build_optimisers(network: NAFNet, config: TrainConfig) -> list[Optimizer]:
    """Return the optimisers of a recipe: Muon with AdamW, or one for everything."""
    chosen = config.optimiser
    if chosen.kind == "muon":
        return build_muon(network, lr=chosen.lr, adamw_lr=chosen.adamw_lr, betas=chosen.betas)
    parameters = list(network.parameters())
    if chosen.kind == "adamw":
        return [AdamW(parameters, lr=chosen.lr, betas=chosen.betas, weight_decay=chosen.weight_decay, fused=True)]
    return [Adam(parameters, lr=chosen.lr, betas=chosen.betas)]


def choose_dtype(config: TrainConfig, device: torch.device) -> torch.dtype:
    """Return the number format of a recipe.

    `auto` is bfloat16 on a CPU where a few timed steps show that it is faster, and on CUDA where the device has it,
    float16 where it has not.

    Raises:
        UsageError: float16 on a CPU.
    """
    if config.precision == "fp16" and device.type == "cpu":
        raise UsageError("precision fp16 needs CUDA; choose auto, fp32 or bf16")
    if config.precision != "auto":
        return DTYPES[config.precision]
    if device.type == "cuda":
        return torch.bfloat16 if has_bfloat16(device) else torch.float16
    stage = config.patches[0]
    patches = torch.rand(stage.batch_size, 3, stage.size, stage.size, generator=torch.Generator().manual_seed(0))
    patches = patches.contiguous(memory_format=torch.channels_last)
    trial = TrainState.fresh(config, device)
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    with torch.random.fork_rng(devices=[]):  # drop-path draws
        for dtype, times in [*seconds.items()] * 4:
            started = time.perf_counter()
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                loss = trial.network(patches).float().square().mean()
            loss.backward()
            times.append(time.perf_counter() - started)
    return min(seconds, key=lambda dtype: min(seconds[dtype]))


def _scaler(device: torch.device | str, dtype: torch.dtype) -> torch.amp.GradScaler:
    return torch.amp.GradScaler(torch.device(device).type, enabled=dtype == torch.float16)
