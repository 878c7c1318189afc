"""Stopping a long task kindly: the first signal asks, the second one leaves at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import NoReturn

from restore.cli import console

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
ECHO_SECONDS = 1.0  # a terminal and the process that started us may both pass on one Ctrl-C


def signals_that_stop() -> Iterator[int]:
    """Yield the signals that ask a command to stop; not SIGHUP where nohup has it ignored."""
    for name in SIGNALS:
        number = getattr(signal, name, None)  # Windows has two of the three
        if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            yield number


def leave_at_once(signum: int) -> NoReturn:
    """End the program by a signal without unwinding, but for the terminal."""
    console.leave_bar()
    os._exit(128 + signum)


class StopRequest:
    """While it is open, a signal sets it instead of ending the program.

    Args:
        watches_parent: whether to stop too where the parent process ends.
    """

    def __init__(self, *, watches_parent: bool = False) -> None:
        self.watches_parent = watches_parent
        self.signum: int | None = None
        self._asked_at = 0.0
        self._parent = os.getppid()
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopRequest:  # noqa: PYI034  typing.Self came with Python 3.11
        self._before = {number: signal.signal(number, self._ask) for number in signals_that_stop()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def is_set(self) -> bool:
        """Return whether a stop was asked for; a process of a team also stops where the one that started it is gone."""
        if self.watches_parent and self.signum is None and os.getppid() != self._parent:
            self.signum = signal.SIGTERM
        return self.signum is not None

    @property
    def exit_code(self) -> int:
        """That of the signal; of SIGTERM where another process of the team got it."""
        return 128 + (self.signum or signal.SIGTERM)

    def _ask(self, signum: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signum is None:
            self.signum, self._asked_at = signum, now
        elif now - self._asked_at > ECHO_SECONDS:
            leave_at_once(signum)
