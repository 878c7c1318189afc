"""Stopping a long task kindly: the first signal asks, the second one leaves at once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import FrameType, TracebackType

import typer

from restore.cli import console

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
ECHO_SECONDS = 1.0  # a terminal and the process that started us may both pass on one Ctrl-C


class StopRequest:
    """While it is open, a signal sets it instead of ending the program."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._asked_at = 0.0
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopRequest:  # noqa: PYI034  typing.Self came with Python 3.11
        for name in SIGNALS:
            if hasattr(signal, name):  # Windows has two of the three
                number = getattr(signal, name)
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def is_set(self) -> bool:
        """Return whether a stop was asked for."""
        return self.signum is not None

    def leave_if_set(self, run_dir: Path) -> None:
        """Say that the run was stopped and how to go on with it, and exit with the signal's code."""
        if self.signum is not None:
            console.error(f"stopped; the state is saved, and --resume goes on with {run_dir}")
            raise typer.Exit(128 + self.signum)

    def _ask(self, signum: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signum is None:
            self.signum, self._asked_at = signum, now
        elif now - self._asked_at > ECHO_SECONDS:
            os._exit(128 + signum)
