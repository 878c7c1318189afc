"""How far a count has come: a bar on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.progress import Progress

from restore.cli import console

SECONDS_BETWEEN_LINES = 5.0


@contextlib.contextmanager
def counting(verb: str, noun: str, *, show: bool) -> Iterator[Callable[[int, int], None]]:
    """Give what to call with (done, all).

    Args:
        verb: what is done, before the bar.
        noun: what is counted, in the lines.
        show: whether to show anything.
    """
    last_line = time.monotonic()
    hidden = not (show and console.is_terminal())
    with Progress(console=console.stderr_console(), disable=hidden, transient=True) as bar:
        task = bar.add_task(console.printable(verb))

        def update(done: int, total: int) -> None:
            nonlocal last_line
            bar.update(task, completed=done, total=total)
            if show and hidden and time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
                last_line = time.monotonic()
                console.say(f"{verb}: {done} of {total} {noun}")

        yield update
