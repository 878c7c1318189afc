"""A training run on the screen: a bar on a terminal, plain lines off one."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn

from restore.cli import console
from restore.cli.meanings import counted

if TYPE_CHECKING:
    from restore.config import TrainConfig

SECONDS_BETWEEN_LINES = 30.0


class TrainingDisplay:
    """Shows the records of a training run.

    Args:
        config: of the run.
        run_dir: where it is kept.
        seeks_run: whether it was to be resumed, and there is none.
        quiet: show errors only.
    """

    def __init__(self, config: TrainConfig, run_dir: Path, *, seeks_run: bool, quiet: bool) -> None:
        self.config = config
        self.run_dir = run_dir
        self.seeks_run = seeks_run
        self.quiet = quiet
        self.last_line = 0.0
        self.named: set[str] = set()
        columns = (BarColumn(bar_width=14), TextColumn("{task.percentage:>3.0f}% {task.description}"))
        self.bar = Progress(
            *columns, console=console.stderr_console(), disable=quiet or not console.is_terminal(), transient=True
        )
        self.task = self.bar.add_task("starting", total=1.0)

    def __enter__(self) -> TrainingDisplay:  # noqa: PYI034  typing.Self came with Python 3.11
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # the terminal is closed, and what ended the run is still to be told
            self.bar.stop()

    def show(self, record: Mapping[str, Any]) -> None:
        """Show one record of the log."""
        if self.quiet:
            return
        event = record["event"]
        if event == "start":
            self._say_started(record)
        elif event == "finished":
            console.say(self._finished(record))
        elif event == "progress":
            text = self._progress(record)
            self.bar.update(self.task, completed=record["progress"], description=text)
            if self.bar.disable and time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
                self.last_line = time.monotonic()
                console.say(f"{record['progress']:.0%} {text}")
        elif event == "checkpoint":
            self._say_saved(record)
        elif event == "damaged":
            for name in record["checkpoints"]:
                console.warn(f"{self.run_dir / name}: damaged; going on from step {record['step']:,}, before it")
        elif event == "rewind":
            console.say(
                f"diverged; back to step {record['step']:,} with {record['lr_scale']:g} times the learning rate"
            )

    def _say_started(self, record: Mapping[str, Any]) -> None:
        if self.seeks_run:
            console.say(f"{self.run_dir} holds no run yet: starting a new one")
            self.seeks_run = False
        processes = f", {record['processes']} processes" if record["processes"] > 1 else ""
        shared = "" if record["held_out_are_apart"] else " of them, since they are few"
        where = f"from step {record['step']:,}" if record["step"] else "from the start"
        console.say(
            f"training {where} on {counted(record['pictures'], 'picture')}, "
            f"validating on {record['held_out']}{shared}, in {record['dtype']}{processes}"
        )

    def _say_saved(self, record: Mapping[str, Any]) -> None:
        for reason in record["bad_pictures"]:
            if reason not in self.named:
                self.named.add(reason)
                console.warn(f"left out: {reason}")
        psnr_db, gain_db = (_number(record[f"validation_{name}_db"]) for name in ("psnr", "gain"))
        validation = f"validation {psnr_db:.2f} dB PSNR, {gain_db:+.2f} dB over the input"
        console.say(f"step {record['step']:,}, {record['minutes']:.1f} min: saved, {validation}")

    def _progress(self, record: Mapping[str, Any]) -> str:
        speed = record["images_per_second"]
        parts = [
            f"step {record['step']:,}",
            f"loss {_number(record['loss']):.4f}",
            f"lr {record['lr']:.1e}",
            f"{speed:.0f} images/s" if speed >= 10 else f"{speed:.1f} images/s",
        ]
        if record["progress"] > 0:
            parts.append(f"{record['minutes'] * (1 / record['progress'] - 1):.0f} min left")
        return ", ".join(parts)

    def _finished(self, record: Mapping[str, Any]) -> str:
        option = "--max-steps" if self.config.budget.steps else "--max-minutes"
        share = self.config.schedule.decay_start
        found = record["best_psnr_db"]
        best = "unknown" if found is None else f"{found:.2f} dB PSNR"
        more = f"--init {self.run_dir} starts another run from it"
        if share > 0:
            more += f"; a larger {option} goes on from {share:.0%} of it, where its learning rate began to fall"
        return (
            f"{self.run_dir} is finished ({record['step']:,} steps, {record['minutes']:.1f} min): "
            f"best validation {best}, weights in {self.run_dir / 'best.safetensors'}; {more}"
        )


def _number(value: float | None) -> float:
    """Return what a record holds; it holds none for what is not finite."""
    return math.nan if value is None else value
