"""The command line: one file per command, torch imported only inside the commands."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer

from restore import __version__
from restore.cli import console, deblur, degrade, denoise, models, score, train
from restore.cli.stopping import leave_at_once, signals_that_stop
from restore.errors import DeviceError, RestoreError, UsageError
from restore.memory import is_out_of_memory

INTERNAL_ERROR = 70

app = typer.Typer(
    name="restore",
    help="Restore folders of photographs, and measure the result.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        console.result(f"restore {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version  # its callback has answered


app.command()(denoise.denoise)
app.command()(deblur.deblur)
app.command()(degrade.degrade)
app.command()(score.score)
app.add_typer(train.app)
app.add_typer(models.app)


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived; unwinding removes what is half done."""


_stopped_by: list[int] = []  # signals: compiled libraries may turn `Stopped` into errors of their own


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    for number in signals_that_stop():
        signal.signal(number, _stop)
    try:
        _refuse_empty(sys.argv[1:])
        code = app(prog_name="restore", standalone_mode=False)
    except Stopped:
        code = _explain_stop()
    except RestoreError as error:
        code = _explain_stop() or _explain_refusal(error)
    except BrokenPipeError:  # whoever read our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:  # noqa: BLE001  the last resort
        code = _explain_stop() or _explain_usage(error) or _explain_system(error) or _explain_bug(error)
    for number in signals_that_stop():  # all is done, and a signal must not raise in what Python calls at the exit
        signal.signal(number, lambda *_: os._exit(code or 0))
    sys.exit(code)


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse an argument that Typer would take for the current folder."""
    if "" in arguments:
        raise UsageError("an argument is empty, as an unset variable of a shell leaves it; name what was meant")


def _explain_stop() -> int | None:
    """Say that a signal ended the command; None where none came."""
    if not _stopped_by:
        return None
    console.error("stopped; finished files are kept, nothing half done is left")
    return 128 + _stopped_by[0]


def _explain_refusal(error: RestoreError) -> int:
    _explain(error)
    return error.exit_code


def _explain_usage(error: Exception) -> int | None:
    """Say in one line what Typer refuses; None where the error is not Typer's."""
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return None
    message = format_message().rstrip(".").replace("Value error, ", "")  # which pydantic puts before its reasons
    missing = getattr(error, "param", None) if type(error).__name__ == "MissingParameter" else None
    if getattr(missing, "name", None) == "inputs":  # Typer takes a single path for the output
        message = "Missing argument 'OUTPUT': name one INPUT or more, and OUTPUT last"
    if type(error).__name__ == "NoSuchOption":
        file = next((word for word in sys.argv[1:] if word.startswith("-") and os.path.lexists(word)), None)
        message = f"{file}: was taken for options; if the file is meant, write ./{file}" if file else message
    if message:  # it is empty where the help page was printed instead
        console.error(f"{message}; --help lists what there is")
    return 2


def _explain_system(error: Exception) -> int | None:
    """Say what the system refused, where nothing below has; None where the error is another."""
    refused: RestoreError
    if is_out_of_memory(error):
        refused = DeviceError("out of memory; close other programs and try again")
    elif not isinstance(error, OSError):
        return None
    elif error.errno in {errno.ENOSPC, errno.EDQUOT}:  # a page of help
        refused = console.not_written(error)
    elif error.filename and error.errno in {errno.ENAMETOOLONG, errno.EACCES}:
        refused = UsageError(f"{error.filename}: {error.strerror}; check the path and the rights to it")
    else:
        return None
    _explain(error)
    console.error(str(refused))
    return refused.exit_code


def _explain_bug(error: Exception) -> int:
    _explain(error)
    console.error(f"this is a bug in restore: {type(error).__name__}: {error}; run again with --debug and report it")
    return INTERNAL_ERROR


def _explain(error: Exception) -> None:
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    if isinstance(error, RestoreError) and not _another_process_says_it(error):
        console.error(str(error))


def _another_process_says_it(error: RestoreError) -> bool:
    """Return whether all processes of a team meet this error, and the first one names it; shards have their own."""
    is_led = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"  # torchrun sets them all
    has_shard = any(word.partition("=")[0] == "--shard" for word in sys.argv)
    return error.exit_code in (2, 3, 4) and is_led and not has_shard


def _stop(signum: int, _frame: FrameType | None) -> None:
    signal.signal(signum, lambda again, _: leave_at_once(again))  # a second one leaves at once
    _stopped_by.append(signum)
    raise Stopped
