"""How commands stop: the first signal asks, the second one leaves at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from restore.cli import stopping

COMMAND = """
import os, signal, time
from restore import cli
signal.signal(signal.SIGINT, cli._stop)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
finally:  # what is half done is being removed
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""

SWALLOWED = """
import os, signal, sys
from restore import cli, weights
def interrupted(*args, **kwargs):  # as a signal within safetensors' own code comes out of it
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException as error:
        raise weights.SafetensorError("could not determine the shape") from error
weights.safe_open = interrupted
sys.argv = ["restore", "models", "show", "denoise-fast"]
cli.main()
"""

LOADING = """
import os, signal, sys
from restore import cli
class Interrupting:
    def find_spec(name, path=None, target=None):
        if name == "numpy.linalg":
            sys.meta_path.remove(Interrupting)
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Interrupting)
sys.argv = ["restore", "train", "denoise", "--show"]
cli.main()
"""

TRAINING = """
import os, signal, time
from restore.cli import stopping
with stopping.StopRequest() as stop:
    for _ in range(2):  # a terminal and a launcher may both pass one Ctrl-C on
        os.kill(os.getpid(), signal.SIGINT)
    assert stop.is_set()
    time.sleep(stopping.ECHO_SECONDS + 0.1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""


STARTING = """
import builtins, os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job has not
importing = builtins.__import__
def interrupted(name, *args, **kwargs):
    if name == "restore.cli":
        os.kill(os.getpid(), signal.SIGINT)
    return importing(name, *args, **kwargs)
builtins.__import__ = interrupted
import restore.__main__
"""


LEAVING = """
import atexit, os, signal, sys
atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))  # as torchrun ends the rest of a team
sys.argv = ["restore", "models", "show", "no-such-model"]
from restore import cli
cli.main()
"""

ON_A_TERMINAL = """
import os, signal
from restore.cli import console, stopping
from rich.progress import Progress
signal.signal(signal.SIGINT, lambda number, _: stopping.leave_at_once(number))
with Progress(console=console.stderr_console()):
    os.kill(os.getpid(), signal.SIGINT)
"""

CLOSED_TERMINAL = """
import os
from pathlib import Path
from restore.cli.watching import TrainingDisplay
display = TrainingDisplay(None, Path("run"), seeks_run=False, quiet=False)
with display:
    assert not display.bar.disable
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
"""


def leaves_at_once(program: str) -> bool:
    return subprocess.run([sys.executable, "-c", program], timeout=40, check=False).returncode == 130


def test_a_second_signal_does_not_wait_for_the_first() -> None:
    assert leaves_at_once(COMMAND)


def test_a_second_signal_ends_a_training_step() -> None:
    assert leaves_at_once(TRAINING)


def test_an_echo_of_a_signal_is_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(stopping, "leave_at_once", left.append)
    with stopping.StopRequest() as stop:
        assert not stop.is_set()
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
    assert (stop.is_set(), stop.exit_code, left) == (True, 130, [])


def test_signals_do_what_they_did_before_once_a_task_is_over() -> None:
    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in stopping.signals_that_stop()]

    before = handlers()
    with stopping.StopRequest():
        assert not set(handlers()) & set(before)
    assert handlers() == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs a system with SIGHUP")
def test_a_terminal_that_hangs_up_stops_a_command_unless_nohup_has_it_ignored() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        for handler, stops in ((signal.SIG_DFL, True), (signal.SIG_IGN, False)):
            signal.signal(signal.SIGHUP, handler)
            assert (signal.SIGHUP in stopping.signals_that_stop()) is stops
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("is_in_team", [True, False])
def test_a_process_of_a_team_stops_where_the_one_that_started_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, *, is_in_team: bool
) -> None:
    with stopping.StopRequest(watches_parent=is_in_team) as stop:
        assert not stop.is_set()
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert stop.is_set() is is_in_team
    assert stop.exit_code == 143


def test_a_signal_that_a_library_turns_into_an_error_of_its_own_stops() -> None:
    finished = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr.count("\n")) == (143, 1)
    assert finished.stderr.startswith("error: stopped")


def test_a_signal_while_libraries_are_loaded_is_not_lost() -> None:
    finished = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (143, "")


def test_a_signal_while_the_program_is_being_imported_leaves_no_traceback() -> None:
    finished = subprocess.run([sys.executable, "-c", STARTING], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (-signal.SIGINT, "")


def test_a_signal_at_the_very_end_changes_nothing() -> None:
    finished = subprocess.run([sys.executable, "-c", LEAVING], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr.count("\n")) == (4, 1), finished.stderr


def on_a_terminal(program: str) -> tuple[int, bytes]:
    """Run a program whose stderr is a terminal; return its exit code and what the terminal got."""
    pty = pytest.importorskip("pty", reason="needs a system with pseudoterminals")
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"TERM": "xterm"}
    finished = subprocess.run([sys.executable, "-c", program], stderr=theirs, env=environment, timeout=40, check=False)
    os.close(theirs)
    told = os.read(ours, 65536)
    os.close(ours)
    return finished.returncode, told


def test_leaving_at_once_gives_the_cursor_back() -> None:
    code, told = on_a_terminal(ON_A_TERMINAL)
    assert code == 130
    assert -1 < told.rfind(b"\x1b[?25l") < told.rfind(b"\x1b[?25h")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that takes nothing")
def test_a_terminal_that_was_closed_is_no_error() -> None:
    assert on_a_terminal(CLOSED_TERMINAL)[0] == 0
