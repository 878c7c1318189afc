"""The only place that prints: results to stdout, messages and progress to stderr."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from restore.errors import OutputError
from restore.jsonable import jsonable

for _stream in (sys.stdout, sys.stderr):
    if isinstance(_stream, io.TextIOWrapper):
        _stream.reconfigure(errors="backslashreplace")  # a terminal that knows no σ is no reason to stop

_out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


def printable(text: object) -> str:
    """Escape control characters and undecodable bytes, so that a file name cannot steer the terminal."""
    return "".join(_escape(character) for character in str(text))


def say(message: str) -> None:
    """Print a message for the person, on stderr."""
    _tell(printable(message))


def warn(message: str) -> None:
    """Print a warning, on stderr."""
    _tell(f"warning: {printable(message)}", style="yellow")


def error(message: str) -> None:
    """Print an error, on stderr."""
    _tell(f"error: {printable(message)}", style="red")


def result(text: str) -> None:
    """Print a result, on stdout."""
    with _writing_results():
        _out.print(printable(text))


def table(content: Table) -> None:
    """Print a table of results, on stdout."""
    with _writing_results():
        _out.print(content, soft_wrap=False)


def result_json(document: dict[str, Any]) -> None:
    """Print a JSON document on stdout; it never holds NaN, Infinity or bytes that are no text."""
    if sys.stdout is None:  # closed by who started it: nobody wants results
        return
    with _writing_results():
        json.dump(jsonable(document), sys.stdout, indent=2, ensure_ascii=True, allow_nan=False)
        sys.stdout.write("\n")


def _tell(message: str, style: str | None = None) -> None:
    with contextlib.suppress(OSError):  # a log on a full disk is no reason to stop
        _err.print(message, style=style)


@contextlib.contextmanager
def _writing_results() -> Iterator[None]:
    """Write out at once what is printed, so that a full disk is seen here."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has left: main knows what that means
        raise
    except OSError as error:
        raise not_written(error) from error


def not_written(error: OSError) -> OutputError:
    """Return what to say where standard output takes no more."""
    return OutputError(f"standard output: {error.strerror or error}; free some space, or write the results elsewhere")


def stderr_console() -> Console:
    """Return the console that progress is drawn on."""
    return _err


def leave_bar() -> None:
    """Show the cursor, which a bar hides, and begin a new line: for a signal handler that leaves without unwinding."""
    if is_terminal():
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # not by rich, whose lock another thread may hold


def is_terminal() -> bool:
    """Return whether progress bars make sense: a terminal that can move its cursor, and no CI."""
    return _err.is_terminal and not _err.is_dumb_terminal and not os.environ.get("CI")


def _escape(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cs" or (category == "Cc" and character != "\t"):
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character
