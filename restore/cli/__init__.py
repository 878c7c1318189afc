"""The command line: one file per command, torch imported only inside the commands."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType

import typer

from restore.cli import console, degrade, denoise, models, score
from restore.errors import RestoreError

INTERNAL_ERROR = 70

app = typer.Typer(
    name="restore",
    help="Restore folders of photographs, and measure the result.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(denoise.denoise)
app.command()(degrade.degrade)
app.command()(score.score)
app.add_typer(models.app)


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived; unwinding removes what is half done."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has two of the three
            signal.signal(getattr(signal, name), _stop)
    try:
        app()
    except RestoreError as error:
        _explain(error)
        sys.exit(error.exit_code)
    except Stopped as stopped:
        console.error("stopped; finished files are kept, nothing half done is left")
        sys.exit(stopped.exit_code)
    except Exception as error:  # noqa: BLE001  the last resort
        _explain(error)
        console.error(
            f"this is a bug in restore: {type(error).__name__}: {error}; run again with --debug and report it"
        )
        sys.exit(INTERNAL_ERROR)


def _explain(error: Exception) -> None:
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    if isinstance(error, RestoreError):
        console.error(str(error))


def _stop(signum: int, _frame: FrameType | None) -> None:
    signal.signal(signum, lambda again, _: os._exit(128 + again))  # a second one leaves at once
    raise Stopped(signum)
