"""A run over files on the screen: progress, one summary line, JSON, exit code."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from restore.cli import console
from restore.cli.meanings import counted
from restore.cli.progress import SECONDS_BETWEEN_LINES
from restore.sharding import WHOLE
from restore.types import FileStatus

if TYPE_CHECKING:
    from pathlib import Path

    from restore.pipeline import FileResult
    from restore.planning import Plan

SCHEMA_VERSION = 1


class Run:
    """Follows the results of a plan.

    Args:
        plan: what is done.
        json: print a JSON document of the run on stdout.
        quiet: print errors only.
        verbose: name every file.
    """

    def __init__(self, plan: Plan, *, json: bool, quiet: bool, verbose: bool) -> None:
        self.plan = plan
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        self.counts = dict.fromkeys(FileStatus, 0)
        self.pixels = 0
        self.num_warned = 0
        self.files: list[dict[str, Any]] = []
        self.started = self.last_line = time.monotonic()
        self.num_done = 0.0  # files, the one at work by its share
        self.num_free: int | None = None  # that came before the first one at work and took no time
        # shards mostly run side by side, often on one terminal, where bars would overwrite each other
        self.bar = _bar(show=console.is_terminal() and not quiet and plan.shard == WHOLE)

    def conclude(self, results: Iterable[FileResult], verb: str, document: dict[str, Any]) -> None:
        """Consume the results as they come, report them, and exit with 1 where a file failed.

        Args:
            results: of the plan.
            verb: what is done to a photograph, for the summary.
            document: what the JSON document says beside the files.

        Raises:
            RestoreError: the run cannot go on, or was stopped; what was done is reported before, if anything was, as
                it is when a bug ends the run.
        """
        try:
            self._show(results)
        except BaseException:
            if self._num_seen:
                self._tell(verb, document)
            raise
        self._tell(verb, document)
        if self.counts[FileStatus.FAILED] or self.plan.unreadable:
            raise typer.Exit(1)

    def _tell(self, verb: str, document: dict[str, Any]) -> None:
        """Report what was done."""
        for message in self.plan.unreadable:
            console.error(message)
        if not self.quiet:
            console.say(self._summary(verb))
        if self.json:
            summary = {str(status): num for status, num in self.counts.items()} | {"seconds": round(self.seconds, 3)}
            found = {
                "summary": summary,
                "files": self.files,
                "shard": str(self.plan.shard),
                "unreadable": list(self.plan.unreadable),
            }
            console.result_json({"schema_version": SCHEMA_VERSION, **document, **found})

    @property
    def seconds(self) -> float:
        """Since the start."""
        return max(time.monotonic() - self.started, 1e-9)

    def show_progress(self, num_done: float) -> None:
        """Show how many files are done, the one at work counting by its share."""
        self.num_done = max(self.num_done, num_done)
        if num_done % 1 and self.num_free is None:
            self.num_free = int(num_done)
        for task in self.bar.task_ids:
            self.bar.update(task, completed=self.num_done, speed=self._pace())
        if self.bar.disable and not self.quiet and time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            whole, share = divmod(self.num_done, 1)
            next_one = f" and {100 * share:.0f} % of the next" if share else ""
            speed = f", {self._pace()}" if self.pixels else ""
            files = f"{whole:.0f} of {self.plan.num_jobs} files{self._of_shard}"
            console.say(f"{files}{next_one}{speed}, {self._time_left()}")

    def _show(self, results: Iterable[FileResult]) -> None:
        self.bar.add_task("", total=self.plan.num_jobs, speed="")
        with self.bar:
            for result in results:
                self.counts[result.status] += 1
                if result.status is FileStatus.DONE and self.counts[FileStatus.DONE] == 1:
                    self.num_free = self._num_seen - 1
                self.pixels += result.width * result.height
                self.num_warned += bool(result.warnings)
                self._report(result)
                self.show_progress(self._num_seen)
                if self.json:
                    self.files.append(_as_json(result))

    def _report(self, result: FileResult) -> None:
        if result.status is FileStatus.FAILED:
            console.error(str(result.message))
        elif not self.quiet:
            for warning in result.warnings:
                console.warn(f"{result.source}: {warning}")
            if self.verbose:
                note = f" ({result.message})" if result.message else ""
                console.say(f"{result.status} {result.source} → {result.target}{note}")

    def _summary(self, verb: str) -> str:
        num_done = self.counts[FileStatus.DONE] + self.counts[FileStatus.PLANNED]
        photographs = "photograph" if num_done == 1 else "photographs"
        others = [
            f", {self.counts[status]} {status}"
            for status in (FileStatus.SKIPPED, FileStatus.FAILED)
            if self.counts[status]
        ]
        if num := self.plan.num_skipped_files:
            others.append(f", {counted(num, 'other')} passed over" + ("" if self.verbose else " (-v names them)"))
        if self.num_warned:
            others.append(f", {self.num_warned} with warnings")
        speed = f" in {self.seconds:.1f} s ({self._speed()})" if self.pixels else ""
        return f"{verb} {num_done} {photographs}{self._of_shard}{speed}{''.join(others)} → {self.plan.output}"

    @property
    def _of_shard(self) -> str:
        return "" if self.plan.shard == WHOLE else f" of shard {self.plan.shard}"

    @property
    def _num_seen(self) -> int:
        return sum(self.counts.values())

    def _speed(self) -> str:
        done = self.counts[FileStatus.DONE]
        if not done:
            return ""
        return f"{done / self.seconds:.2f} images/s, {self.pixels / 1e6 / self.seconds:.2f} megapixels/s"

    @property
    def _num_worked(self) -> float:
        """Files that took time, the one at work by its share; results come later than the work."""
        return max(self.num_done - max(self.counts[FileStatus.SKIPPED], self.num_free or 0), 1e-3)

    def _pace(self) -> str:
        return f"{self._num_worked / self.seconds:.2f} images/s" if self.pixels else ""

    def _time_left(self) -> str:
        seconds = round(self.seconds / self._num_worked * (self.plan.num_jobs - self.num_done))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"


def say_skipped(path: Path, reason: str) -> None:
    """Say why a path is passed over."""
    console.say(f"passed over {path}: {reason}")


def _bar(*, show: bool) -> Progress:
    return Progress(
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=console.stderr_console(),
        disable=not show,
        transient=True,
    )


def _as_json(result: FileResult) -> dict[str, Any]:
    return {
        "source": str(result.source),
        "target": str(result.target),
        "status": str(result.status),
        "message": result.message,
        "warnings": list(result.warnings),
        "width": result.width,
        "height": result.height,
        "seconds": round(result.seconds, 4),
    }
