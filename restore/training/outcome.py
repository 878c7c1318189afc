"""What a run leaves: checkpoints, the last and the best weights, and the start of a model card."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from restore.atomic import write_atomically
from restore.checkpoint import discard_later, is_damaged, list_checkpoints, save_checkpoint, step_of
from restore.config import TrainConfig
from restore.distributed import Team
from restore.errors import DivergedError, OutputError
from restore.logbook import RESUMABLE, Logbook
from restore.training.material import INVISIBLE_DB, VALIDATION_SIZE, Material, validate
from restore.training.state import TrainState
from restore.weights import save_weights

MOST_TIME_SAVING = 0.03  # share of a run
MOST_TIMES_LATER = 10  # than is wanted: a disk that stood still for an hour once must not cost a day


class Keeper:
    """Keeps what a run has reached; only the leading process writes.

    Args:
        config: the recipe.
        material: what the run learns from.
        run_dir: where to write.
        team: the processes of the run.
        logbook: of the leading process.
    """

    def __init__(self, config: TrainConfig, material: Material, run_dir: Path, team: Team, logbook: Logbook) -> None:
        self.config = config
        self.material = material
        self.run_dir = run_dir
        self.team = team
        self.logbook = logbook
        self.losses: list[float] = []
        self.saved_at: float | None = None
        self.seconds_of_saving = 0.0  # the last time, validation included
        self.saved_step = -1
        self.was_stable = False

    def is_due(self, state: TrainState) -> bool:
        """Return whether the time between two checkpoints has passed, longer where they are slow."""
        if self.saved_at is None:
            self.saved_at = state.seconds
        wanted = 60 * self.config.checkpoint.minutes
        between = min(max(wanted, self.seconds_of_saving / MOST_TIME_SAVING), MOST_TIMES_LATER * wanted)
        return self.team.leads and state.seconds - self.saved_at >= between

    def save(self, state: TrainState, bad: Mapping[str, str]) -> None:
        """Validate, and write state, weights and card; weights that are not finite never replace good ones.

        Args:
            state: to keep.
            bad: pictures that could not be read so far, by name, and why.

        Raises:
            DivergedError: the weights are not finite; nothing was written.
            OutputError: the folder cannot be written; the last checkpoint stays.
        """
        if state.step == self.saved_step:
            return
        if not state.is_finite():
            raise DivergedError(f"{self.run_dir}: the weights are no longer finite at step {state.step}")
        self.saved_at, self.saved_step = state.seconds, state.step
        losses, self.losses = self.losses, []
        if not self.team.leads:
            return
        started = time.monotonic()
        found, gain_db, pictures, unread = validate(
            state.average, self.material.held_out, self.config, state.device, is_paired=self.material.is_paired
        )
        if not list_checkpoints(self.run_dir):  # whatever becomes of the weights, the run can be resumed
            self._write_state(state, "checkpoint")
        has_best = (self.run_dir / "best.safetensors").exists()
        is_best = found > (state.best_psnr_db if has_best else -math.inf)  # never where it is NaN
        if is_best:
            state.best_psnr_db = found
        document = self._document(state, found)
        try:
            self._write_weights(state, document, is_best=is_best)
        except OSError as error:
            raise self._not_written(error) from error
        self._write_state(state, "checkpoint")
        self.logbook.write(
            "checkpoint",
            step=state.step,
            minutes=round(state.seconds / 60, 3),
            loss=statistics.fmean(losses) if losses else None,
            validation_psnr_db=round(found, 4),
            validation_gain_db=round(gain_db, 4),
            bad_pictures=sorted({*bad.values(), *unread.values()}),
        )
        self.logbook.show(pictures, state.step)
        self.seconds_of_saving = time.monotonic() - started

    def keep_before_decay(self, state: TrainState, progress: float) -> None:
        """Save, once, the state from which a longer run can go on: the one before the learning rate falls."""
        is_stable = progress < self.config.schedule.decay_start
        if self.was_stable and not is_stable and self.team.leads:
            self._write_state(state, "stable")
        self.was_stable = is_stable

    def go_on_from(self, state: TrainState) -> None:
        """Make the state the newest of the run, where it is an earlier one that the run went back to."""
        later = [path for path in list_checkpoints(self.run_dir) if step_of(path) > state.step]
        if self.team.leads and later:
            if damaged := [path.name for path in later if is_damaged(path)]:
                self.logbook.write("damaged", step=state.step, checkpoints=damaged)
            self._write_state(state, "checkpoint")
            discard_later(self.run_dir, state.step)

    def keep_rewound(self, state: TrainState) -> None:
        """Save a state that went back, so that a stop does not undo it, and forget the losses of the way it left."""
        self.losses = []
        if self.team.leads:
            self._write_state(state, "checkpoint")

    def keep_unvalidated(self, state: TrainState) -> None:
        """Save a state whose pictures are gone: once they are back, the run goes on from there."""
        if self.team.leads and state.step and state.is_finite():
            self._write_state(state, "checkpoint")

    def _write_state(self, state: TrainState, kind: str) -> None:
        max_mb = self.config.checkpoint.max_mb
        max_bytes = None if max_mb is None else int(max_mb * 1e6)
        try:
            save_checkpoint(self.run_dir, state.as_dict(self.config), kind=kind, max_bytes=max_bytes)
        except OSError as error:
            raise self._not_written(error) from error

    def _not_written(self, error: OSError) -> OutputError:
        remedy = RESUMABLE if list_checkpoints(self.run_dir) else "choose another run folder (--out)"
        return OutputError(f"{self.run_dir}: {error.strerror or error}; {remedy}")

    def _write_weights(self, state: TrainState, document: dict[str, Any], *, is_best: bool) -> None:
        for name in ("last", "best") if is_best else ("last",):
            save_weights(self.run_dir / f"{name}.safetensors", state.average, document)
        write_atomically(self.run_dir / "card.md", card(document).encode("utf-8", "backslashreplace"))

    def _document(self, state: TrainState, found: float) -> dict[str, Any]:
        """Describe the weights for their file."""
        return {
            "name": self.config.name,
            "task": str(self.config.task),
            "architecture": "nafnet",
            "network": self.config.network.as_dict(),
            "training": {
                "config": self.config.as_dict(),
                "steps": state.step,
                "minutes": round(state.seconds / 60, 1),
                "validation_psnr_db": round(found, 3) if math.isfinite(found) else None,
                "hardware": _hardware(state),
                "threads": torch.get_num_threads(),
                "processes": self.team.size,
                "photographs": self.material.pictures,
                "paired": self.material.is_paired,
                "held_out_are_apart": self.material.is_apart,
            },
        }


def _hardware(state: TrainState) -> str:
    """Name what computes, in which number format."""
    on_cuda = state.device.type == "cuda"
    name = torch.cuda.get_device_name(state.device) if on_cuda else torch.backends.cpu.get_cpu_capability()
    return f"{name}, {str(state.dtype).removeprefix('torch.')}"


def card(document: dict[str, Any]) -> str:
    """Return the start of a model card: what the run knows of itself, and what its maker has to add."""
    training = document["training"]
    pictures = "".join(
        f"- {name}: {num} pictures, licence: (state it)\n" for name, num in training["photographs"].items()
    )
    held_out = "held-out pictures" if training["held_out_are_apart"] else "pictures that were trained on, too"
    given = "as they are" if training["paired"] else "degraded as in training"
    return (
        f"# {document['name']}\n\n"
        f"Task: {document['task']}. {training['steps']:,} steps in {training['minutes']} minutes, "
        f"{training['processes']} process(es) of {training['threads']} thread(s), "
        f"seed {training['config']['seed']}, {time.strftime('%Y-%m-%d')}.\n\n"
        f"Validation PSNR of the averaged weights: {training['validation_psnr_db']} dB (RGB, mean over "
        f"the central {VALIDATION_SIZE} pixels of {held_out}, {given}; "
        f"above {INVISIBLE_DB:g} dB count as {INVISIBLE_DB:g}).\n\n"
        f"## Data\n\n{pictures}\n"
        "## Recipe\n\nIn the weights' metadata, and in `config.toml` beside them.\n\n"
        "## Failures seen\n\n(open restored pictures and describe them)\n"
    )
