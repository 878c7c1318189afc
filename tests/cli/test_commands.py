"""The commands as a whole: their help, what they say of a missing argument, and the version."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from restore import __version__, cli
from restore.cli import app, console
from tests.cli.conftest import Restore

FULL = Path("/dev/full")
MEANT = {"INPUT…", "RESTORED…", "NAME…", "NAME,…", "png|jpg|tif|…"}  # by the help itself


def every_command(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from every_command(command, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(every_command(typer.main.get_command(app))))
def test_help_cuts_nothing_off_at_80_columns(path: tuple[str, ...], command: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, [*path, "--help"]).output
    assert max(map(len, shown.splitlines())) <= 80
    words = shown.split()
    for parameter in command.params:
        for name in parameter.opts:
            assert not name.startswith("-") or name in words, (path, name)
    assert not [word for word in words if word.endswith("…") and word not in MEANT]


@pytest.mark.parametrize("words", [["denoise"], ["deblur"], ["degrade", "--noise", "1"]])
def test_paths_that_may_not_be_read_are_left_to_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    (tmp_path / "in.png").touch()
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.R_OK)  # root may read all
    found = CliRunner().invoke(app, [*words, "--dry-run", str(tmp_path / "in.png"), str(tmp_path / "out")])
    assert found.exit_code == 0, found.output


def test_the_version(restore: Restore) -> None:
    finished = restore("--version")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == f"restore {__version__}\n"
    assert "Restore folders of photographs" in restore("--help").stdout


@pytest.mark.parametrize("command", ["denoise", "deblur", "degrade"])
def test_a_missing_output_is_named(restore: Restore, command: str) -> None:
    finished = restore(command, "only-one")
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1)
    assert "Missing argument 'OUTPUT'" in finished.stderr


def test_an_unknown_word_is_answered_with_those_that_are_known(restore: Restore) -> None:
    finished = restore("denoise", "in", "out", "--precision", "fp8")
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1)
    assert "'--precision': 'fp8' is not one of 'auto', 'fp32'" in finished.stderr


def exit_code_of(error: Exception, monkeypatch: pytest.MonkeyPatch) -> object:
    """Return the code that a command ends with where this error gets out of it."""

    def fails(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fails)
    monkeypatch.setattr(cli, "signals_that_stop", list)
    monkeypatch.setattr(sys, "argv", ["restore"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("std::bad_alloc"), OSError(12, "Cannot allocate memory")]
)
def test_a_full_memory_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert exit_code_of(error, monkeypatch) == 6
    assert capsys.readouterr().err == "error: out of memory; close other programs and try again\n"


@pytest.mark.parametrize(
    ("team", "options", "num_lines"),
    [
        ({}, [], 1),
        ({"TORCHELASTIC_RUN_ID": "x"}, [], 0),
        ({"TORCHELASTIC_RUN_ID": "x"}, ["--shard", "auto"], 1),  # what exists already concerns its own part
        ({"TORCHELASTIC_RUN_ID": "x"}, ["--shard=1/2"], 1),
    ],
)
def test_only_a_process_of_torchrun_leaves_an_error_to_the_first(
    restore: Restore, team: dict[str, str], options: list[str], num_lines: int
) -> None:
    finished = restore("denoise", "in", "", *options, env={"RANK": "1", **team})
    assert (finished.returncode, finished.stderr.count("\n")) == (2, num_lines)


def test_the_first_process_says_an_error_and_each_its_own_broken_output(restore: Restore) -> None:
    team = {"TORCHELASTIC_RUN_ID": "x"}
    assert restore("denoise", "in", "", env={"RANK": "0", **team}).stderr.count("\n") == 1
    finished = restore("degrade", sys.executable, "/proc/out", "--noise", "1", env={"RANK": "1", **team})
    assert (finished.returncode, finished.stderr.count("\n")) == (5, 1)


def test_an_error_shows_where_it_came_from_if_asked(restore: Restore) -> None:
    finished = restore("denoise", "in", "out", "--debug")
    assert finished.returncode == 2
    first, *_, last = finished.stderr.splitlines()
    assert first == "Traceback (most recent call last):"
    assert last.startswith("error: in: no such file or folder")


def test_a_bug_is_called_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(KeyError("width"), monkeypatch) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: this is a bug in restore: KeyError: 'width'; run again with --debug and report it"


def test_an_empty_argument_is_not_the_current_folder(restore: Restore) -> None:
    finished = restore("denoise", "in", "")
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1)
    assert "an argument is empty" in finished.stderr


@pytest.mark.parametrize("name", ["-dash.jpg", "--modelled.jpg"])
def test_a_file_with_a_leading_dash_is_named_with_a_remedy(tmp_path: Path, restore: Restore, name: str) -> None:
    (tmp_path / name).touch()
    finished = restore("denoise", "a.jpg", name, "out")
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1)
    assert f"{name}: was taken for options; if the file is meant, write ./{name}" in finished.stderr


@pytest.mark.skipif(not FULL.exists(), reason="no device that is full")
@pytest.mark.parametrize("words", [("--version",), ("models", "--json"), ("--help",), ("denoise", "--help")])
def test_results_that_cannot_be_written_are_named(words: tuple[str, ...]) -> None:
    with FULL.open("w", encoding="utf-8") as full:
        finished = subprocess.run(
            [sys.executable, "-m", "restore", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert finished.returncode == 5
    (line,) = finished.stderr.splitlines()
    assert line.startswith("error: standard output: No space left on device; free some space")


@pytest.mark.skipif(sys.platform == "win32", reason="no shell that closes it")
def test_results_that_nobody_wants_are_not_missed() -> None:
    command = [sys.executable, "-m", "restore", "models", "--json"]
    finished = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_messages_that_cannot_be_written_stop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(console, "_err", Console(file=Full()))
    for tell in (console.say, console.warn, console.error):
        tell("a message")


def test_json_holds_names_as_they_are_but_for_bytes_that_are_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    console.result_json({"caf\udce9": ["a\x1b.png", "b\udce9.png", float("nan"), 0.5, None]})
    assert json.loads(capsys.readouterr().out) == {"caf\\udce9": ["a\x1b.png", "b\\udce9.png", None, 0.5, None]}


@pytest.mark.parametrize(
    ("words", "option"), [("restore train --pro", "--processes"), ("restore train --he", "--help")]
)
def test_completion_offers_what_the_default_command_takes(words: str, option: str) -> None:
    env = {**os.environ, "_RESTORE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "2"}
    offered = subprocess.run([sys.executable, "-m", "restore"], capture_output=True, text=True, env=env, check=False)
    assert offered.stdout.split().count(option) == 1, offered.stderr


def test_a_module_is_called_by_the_name_of_the_program(restore: Restore) -> None:
    assert "Usage: restore denoise" in restore("denoise", "--help").stdout
