"""The training loop: samples → network → loss → optimisers → moving average, until the budget ends."""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from restore.atomic import sweep_partials, write_atomically
from restore.checkpoint import load_checkpoint
from restore.config import TrainConfig
from restore.data import Batch
from restore.distributed import Team, join_team, own_device
from restore.errors import DeviceError, DivergedError, NothingToDoError, OutputError, UsageError
from restore.logbook import Logbook, Record
from restore.losses import Loss, build_loss
from restore.memory import is_out_of_memory, keep_freed_memory
from restore.optim import set_learning_rate, update_ema, warmup_cosine, warmup_stable_decay
from restore.training.material import Material, sample_stream, training_samples, validated
from restore.training.outcome import Keeper
from restore.training.state import DTYPES, TrainState, first_state, prepare_state

LONGEST_STEP_SECONDS = 20.0  # a stopped process or a sleeping laptop does not use up the schedule
LONGEST_SAVE_SECONDS = 300.0
SECONDS_BETWEEN_RECORDS = 10.0
EXPLOSION = 1000.0  # times the usual length of the gradient
MAX_LEFT_OUT = 3  # steps in a row with such gradients
MAX_REWINDS = 5


def train(
    config: TrainConfig,
    material: Material,
    run_dir: Path,
    *,
    device: torch.device | str = "cpu",
    init: str | Path | None = None,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    on_record: Callable[[Record], None] = lambda _: None,
) -> Path | None:
    """Train until the budget ends or a stop is asked for.

    Under torchrun every process calls this alike; the first one writes.

    Args:
        config: the recipe.
        material: pictures for training and validation.
        run_dir: gets `config.toml`, `data.json`, `log.jsonl`, `curves.png`, checkpoints, `last.safetensors`,
            `best.safetensors` and `card.md`.
        device: to compute on.
        init: weights to start from.
        resume: go on from what the run folder holds; nothing is done where that is finished.
        should_stop: asked before every step; the state is saved then.
        on_record: is told every record of the log.

    Returns:
        The path of the best weights; None where it was stopped before the end of the budget.

    Raises:
        NothingToDoError: too many pictures cannot be read (any more); the state is saved.
        DivergedError: the loss is not finite or the gradients exploded; the last good checkpoint stays.
        UsageError: the folder holds a run already, or one of another recipe.
        WeightsError: the run's checkpoints or the first weights cannot be read.
        OutputError: the run folder cannot be written.
        DeviceError: out of memory; the last checkpoint stays.
        TeamError: another process of the team died; the last checkpoint stays.
    """
    place = own_device(torch.device(device))
    if place.type == "cpu":
        keep_freed_memory()
    with join_team(place) as team, _alone_in(run_dir, team):
        with _told_out_of_memory(place):
            state = prepare_state(config, run_dir, team, place, init=init, resume=resume)
        _agree(state, team)
        logbook = Logbook(run_dir, tensorboard=config.tensorboard, on_record=on_record, writes=team.leads)
        with contextlib.closing(logbook):
            best = run_dir / "best.safetensors"
            if config.budget.progress(state.step, state.seconds) >= 1 and best.exists():
                minutes = round(state.seconds / 60, 3)
                logbook.write("finished", step=state.step, minutes=minutes, best_psnr_db=state.best_psnr_db)
                return best
            if team.leads:
                _keep_recipe(config, material, run_dir)
            keeper = Keeper(config, material, run_dir, team, logbook)
            keeper.go_on_from(state)
            while True:
                try:
                    with _told_out_of_memory(place):
                        is_over = _run(config, material, state, team, logbook, keeper, should_stop)
                except NothingToDoError:  # noqa: PERF203  the loop is the retry
                    keeper.keep_unvalidated(state)
                    raise
                except DivergedError:
                    if config.on_divergence == "stop" or state.num_rewinds == MAX_REWINDS:
                        raise
                    state = _rewound(state, config, run_dir, team, init)
                    keeper.keep_rewound(state)
                    logbook.write("rewind", step=state.step, lr_scale=state.lr_scale)
                else:
                    return best if is_over else None


@contextlib.contextmanager
def _told_out_of_memory(device: torch.device) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        remedy = "close other programs and resume, or start in another folder with smaller patches or batches"
        raise DeviceError(f"out of memory on {device}; {remedy}") from error


def _run(  # noqa: PLR0917  `train` reads better so
    config: TrainConfig,
    material: Material,
    state: TrainState,
    team: Team,
    logbook: Logbook,
    keeper: Keeper,
    should_stop: Callable[[], bool],
) -> bool:
    """Take steps from where the state is; return whether the budget ended rather than a stop came."""
    network: nn.Module = torch.compile(state.network) if config.compile else state.network  # type: ignore[assignment]
    loss_of = _loss_of(config, state.device)
    numbers = {
        "pictures": sum(material.pictures.values()),
        "held_out": len(validated(material.held_out)),
        "held_out_are_apart": material.is_apart,
        "processes": team.size,
    }
    logbook.write("start", step=state.step, dtype=str(state.dtype).removeprefix("torch."), **numbers)
    samples = training_samples(config, material, state.num_rewinds)
    seconds = state.seconds
    stream = sample_stream(
        config,
        samples,
        team,
        first_step=state.step,
        progress_at=lambda step: config.budget.progress(step, seconds),  # by the leader's clock, like the rate
    )
    meter = Meter()
    with contextlib.closing(stream):
        while True:
            stop, save, seconds = team.agree(should_stop(), keeper.is_due(state), team.leads * state.seconds)
            progress = config.budget.progress(state.step, seconds)
            keeper.keep_before_decay(state, progress)
            if save:
                keeper.save(state, samples.pictures.bad)
                state.seconds += meter.seconds_of_saving()
                (stops,) = team.agree(should_stop())  # one step later it would wait for another validation
                stop = stop or stops
            if stop or progress >= 1:
                break

            lr_factor = learning_rate_factor(config, progress) * state.lr_scale
            set_learning_rate(state.optimisers, lr_factor)
            with meter.waiting():
                passes = list(itertools.islice(stream, config.optimiser.accumulation))
            loss, gradient_norm = train_step(state, passes, network, loss_of, config, team)

            state.seconds += meter.count_step(passes, loss)
            keeper.losses.append(loss)
            if meter.has_news():
                logbook.write(
                    "progress",
                    step=state.step,
                    minutes=round(state.seconds / 60, 3),
                    progress=round(config.budget.progress(state.step, state.seconds), 5),
                    loss=statistics.fmean(meter.recent_losses),
                    lr=config.optimiser.lr * lr_factor,
                    gradient_norm=gradient_norm,
                    images_per_second=round(team.size * meter.images_per_second, 2),
                    waiting_share=round(meter.waiting_share, 4),
                )
    keeper.save(state, samples.pictures.bad)
    return progress >= 1


def train_step(  # noqa: PLR0917  what one step needs
    state: TrainState,
    passes: Sequence[Batch],
    network: nn.Module,
    loss_of: Loss,
    config: TrainConfig,
    team: Team = Team(),  # noqa: B008  it is frozen
) -> tuple[float, float]:
    """Take one step: one pass or more, their mean gradient, the optimisers, the moving average.

    Args:
        state: is changed in place.
        passes: batches of degraded (N,3,H,W), told noise levels (N,) and references (N,3,H,W).
        network: that of the state, perhaps compiled.
        loss_of: what is minimised.
        config: the recipe.
        team: whose gradients are averaged.

    Returns:
        The mean loss, and the length of the gradient before any clipping.

    Raises:
        DivergedError: the loss is not finite or the gradient exploded; nothing was changed.
    """
    losses = []
    with torch.random.fork_rng(devices=[state.device] if state.device.type == "cuda" else []):
        # what drop-path draws depends on the step alone, so that a resumed run draws the same
        _seed(state.device, hash((config.seed, state.num_rewinds, state.step, team.rank)))
        for batch in passes:
            degraded, told, reference = (tensor.to(state.device) for tensor in batch)
            with torch.autocast(state.device.type, state.dtype, enabled=state.dtype != torch.float32):
                restored = network(degraded, told if config.network.sigma_input else None)
            loss = loss_of(restored.float(), reference) / len(passes)
            state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.item())
    team.average_gradients(state.network)
    for optimiser in state.optimisers:
        state.scaler.unscale_(optimiser)
    limit = config.optimiser.clip_norm or math.inf
    norm = float(nn.utils.clip_grad_norm_(state.network.parameters(), limit))
    is_sound = _is_sound(state, sum(losses), norm, config)
    for optimiser in state.optimisers:
        if is_sound:
            state.scaler.step(optimiser)
        optimiser.zero_grad(set_to_none=True)
    state.scaler.update()
    state.step += 1
    if is_sound:
        update_ema(state.average, state.network, state.step, config.ema_decay)
    return sum(losses), norm


def _seed(device: torch.device, seed: int) -> None:
    """Seed the CPU and one GPU, not all of them."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def learning_rate_factor(config: TrainConfig, progress: float) -> float:
    """Return the factor on the learning rates at a progress in [0,1]."""
    schedule = config.schedule
    if schedule.kind == "cosine":
        return warmup_cosine(progress, schedule.warmup)
    if schedule.kind == "stable-decay":
        return warmup_stable_decay(progress, schedule.warmup, schedule.decay)
    return min(1.0, progress / schedule.warmup) if schedule.warmup else 1.0


class Meter:
    """Measures steps: how long they take, how long they wait for samples, and when there is news to tell."""

    def __init__(self) -> None:
        self.last = self.told = time.monotonic()
        self.waited = 0.0
        self.worked = 0.0
        self.images = 0
        self.usual_seconds = 0.0
        self.recent_losses: deque[float] = deque(maxlen=100)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what happens inside as waiting for samples."""
        started = time.monotonic()
        yield
        self.waited += time.monotonic() - started

    def count_step(self, passes: Sequence[Batch], loss: float) -> float:
        """Count a step and return its seconds; one that took suspiciously long was a pause, and counts as short."""
        now = time.monotonic()
        longest = max(LONGEST_STEP_SECONDS, 5 * self.usual_seconds)
        seconds, self.last = min(now - self.last, longest), now
        self.usual_seconds = 0.9 * self.usual_seconds + 0.1 * seconds if self.usual_seconds else seconds
        self.worked += seconds
        self.recent_losses.append(loss)
        self.images += sum(len(degraded) for degraded, _, _ in passes)
        return seconds

    def seconds_of_saving(self) -> float:
        """Return the seconds since the last step, which were spent on a checkpoint."""
        now = time.monotonic()
        seconds, self.last = min(now - self.last, LONGEST_SAVE_SECONDS), now
        return seconds

    def has_news(self) -> bool:
        """Return whether it is time for a record."""
        if time.monotonic() - self.told < SECONDS_BETWEEN_RECORDS:
            return False
        self.told = time.monotonic()
        return True

    @property
    def images_per_second(self) -> float:
        """Patches a second, of this process."""
        return self.images / max(self.worked, 1e-9)

    @property
    def waiting_share(self) -> float:
        """Share of the time that was spent waiting for samples."""
        return self.waited / max(self.worked, 1e-9)


def perceptual_loss(net: str, device: torch.device, smallest_side: int) -> Loss:
    """Return LPIPS as a differentiable loss on (N,3,H,W) in [0,1].

    Raises:
        UsageError: it needs larger pictures than those of the smallest side.
        WeightsError: its trunk is not on this machine.
    """
    from restore.fetching import find_weights  # noqa: PLC0415  LPIPS takes seconds to import
    from restore.metrics.lpips import SMALLEST_SIDES, load_lpips  # noqa: PLC0415  see above

    if smallest_side < (needed := SMALLEST_SIDES[net]):
        raise UsageError(
            f"loss.lpips by {net} needs patches of {needed} pixels or more, and the smallest have {smallest_side}"
        )
    network = load_lpips(net, find_weights(f"lpips-{net}")).network.to(device)

    def loss(restored: Tensor, reference: Tensor) -> Tensor:
        distance: Tensor = network(2 * restored - 1, 2 * reference - 1)
        return distance.mean()

    return loss


def _loss_of(config: TrainConfig, device: torch.device) -> Loss:
    loss, smallest = config.loss, min(stage.size for stage in config.patches)
    perceptual = perceptual_loss(loss.lpips_net, device, smallest) if loss.lpips else None
    return build_loss(loss.kind, eps=loss.eps, fft=loss.fft, lpips=loss.lpips, perceptual=perceptual)


def _is_sound(state: TrainState, loss: float, norm: float, config: TrainConfig) -> bool:
    """Return whether a step would not spoil the weights; where it would, it is left out.

    Single gradients of more than a thousand times the usual length come from rare pictures that drive the gates beyond
    all bounds. The gradient is that of the whole team, so all decide alike.

    Raises:
        DivergedError: the gradient is not finite, or several in a row are too long.
    """
    if state.scaler.is_enabled() and not math.isfinite(norm):
        if state.scaler.get_scale() < 1:
            raise DivergedError(f"float16 overflows at step {state.step}; {_remedy(config)}, or precision=bf16")
        return False  # the scaler scales less; one infinite gradient has spoilt all in the clipping
    if not math.isfinite(norm):
        raise DivergedError(f"the gradient is not finite at step {state.step} (loss {loss:g}); {_remedy(config)}")
    if norm > EXPLOSION * state.usual_norm > 0:
        state.num_left_out += 1
        if state.num_left_out > MAX_LEFT_OUT:
            raise DivergedError(f"the gradients exploded at step {state.step}; {_remedy(config)}")
        return False
    state.num_left_out = 0
    state.usual_norm = 0.98 * state.usual_norm + 0.02 * norm if state.usual_norm else norm
    return True


def _remedy(config: TrainConfig) -> str:
    elsewhere = "start in another folder with a lower optimiser.lr"
    rewind = "repeat the command with --resume --set on_divergence=rewind"  # also where there is no checkpoint yet
    return elsewhere if config.on_divergence == "rewind" else f"{rewind}, or {elsewhere}"


@contextlib.contextmanager
def _alone_in(run_dir: Path, team: Team) -> Iterator[None]:
    """Keep other processes from training in the same folder, where the system and the file system can.

    Raises:
        UsageError: another one does.
        OutputError: the folder cannot be written.
    """
    if not team.leads:
        yield
        return
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = (run_dir / ".lock").open("wb")
    except OSError as error:
        raise OutputError(f"{run_dir}: {error.strerror or error}; choose another run folder (--out)") from error
    with lock:
        if not _holds(lock):
            raise UsageError(f"{run_dir}: another process trains there; wait for it, or choose another folder")
        yield


def _holds(lock: BinaryIO) -> bool:
    """Return whether a file is locked for this process, or cannot be locked at all."""
    if sys.platform == "win32":
        return True
    import fcntl  # noqa: PLC0415  Windows has none

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems lock nothing
        return True
    return True


def _agree(state: TrainState, team: Team) -> None:
    """Make sure that all start from one state, and compute in the number format that the first found faster."""
    if team.agree(state.step)[0] != team.size * state.step:
        raise UsageError("the processes see different checkpoints; the run folder must lie where all machines see it")
    formats = list(DTYPES.values())
    chosen = formats[int(team.agree(team.leads * formats.index(state.dtype))[0])]
    if chosen != state.dtype:
        state.use(chosen)


def _rewound(state: TrainState, config: TrainConfig, run_dir: Path, team: Team, init: str | Path | None) -> TrainState:
    """Return the last good state, set to go on with other samples and half the learning rate."""
    good = first_state(config, team, state.device, init=init)
    good.use(state.dtype)
    if (saved := load_checkpoint(run_dir)) is not None:
        good.load_dict(saved)
    good.num_rewinds, good.lr_scale = state.num_rewinds + 1, state.lr_scale / 2
    return good


def _keep_recipe(config: TrainConfig, material: Material, run_dir: Path) -> None:
    try:
        sweep_partials(run_dir)
        write_atomically(run_dir / "config.toml", config.as_toml().encode())
        if material.sources:
            material.record(run_dir)
    except OSError as error:
        raise OutputError(f"{run_dir}: {error.strerror or error}; choose another run folder (--out)") from error
