"""A run over files on the screen: progress, one summary line, JSON, exit code."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from restore.cli import console
from restore.types import FileStatus

if TYPE_CHECKING:
    from pathlib import Path

    from restore.pipeline import FileResult
    from restore.planning import Plan

SCHEMA_VERSION = 1
SECONDS_BETWEEN_LINES = 5.0


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
        self.started = time.monotonic()
        if verbose and plan.num_skipped_files:
            console.say(f"passed over {plan.num_skipped_files} files that are no pictures")

    def conclude(self, results: Iterable[FileResult], verb: str, document: dict[str, Any]) -> None:
        """Consume the results as they come, report them, and exit with 1 where a file failed.

        Args:
            results: of the plan.
            verb: what is done to a photograph, for the summary.
            document: what the JSON document says beside the files.
        """
        self._show(results)
        for message in self.plan.unreadable:
            console.error(message)
        if not self.quiet:
            console.say(self._summary(verb))
        if self.json:
            summary = {str(status): num for status, num in self.counts.items()} | {"seconds": round(self.seconds, 3)}
            console.result_json({"schema_version": SCHEMA_VERSION, **document, "summary": summary, "files": self.files})
        if self.counts[FileStatus.FAILED] or self.plan.unreadable:
            raise typer.Exit(1)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return max(time.monotonic() - self.started, 1e-9)

    def _show(self, results: Iterable[FileResult]) -> None:
        last_line = time.monotonic()
        with _bar(show=console.is_terminal() and not self.quiet) as bar:
            task = bar.add_task("", total=self.plan.num_jobs, speed="")
            for result in results:
                self.counts[result.status] += 1
                self.pixels += result.width * result.height
                self.num_warned += bool(result.warnings)
                self._report(result)
                bar.update(task, advance=1, speed=self._speed())
                if bar.disable and not self.quiet and time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
                    last_line = time.monotonic()
                    console.say(f"{self._num_seen} of {self.plan.num_jobs} files, {self._speed()}, {self._time_left()}")
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
        if self.num_warned:
            others.append(f", {self.num_warned} with warnings")
        speed = f" in {self.seconds:.1f} s ({self._speed()})" if self.pixels else ""
        return f"{verb} {num_done} {photographs}{''.join(others)}{speed} → {self.plan.output}"

    @property
    def _num_seen(self) -> int:
        return sum(self.counts.values())

    def _speed(self) -> str:
        done = self.counts[FileStatus.DONE]
        return f"{done / self.seconds:.2f} images/s, {self.pixels / 1e6 / self.seconds:.2f} megapixels/s"

    def _time_left(self) -> str:
        num_worked = self._num_seen - self.counts[FileStatus.SKIPPED]
        seconds = round(self.seconds / max(num_worked, 1) * (self.plan.num_jobs - self._num_seen))
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
        "source": console.printable(result.source),
        "target": console.printable(result.target),
        "status": str(result.status),
        "message": None if result.message is None else console.printable(result.message),
        "warnings": [console.printable(warning) for warning in result.warnings],
        "width": result.width,
        "height": result.height,
        "seconds": round(result.seconds, 4),
    }
