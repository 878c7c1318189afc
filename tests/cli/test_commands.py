"""The commands as a whole: their help, what they say of a missing argument, and the version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from restore import __version__
from restore.cli import app
from tests.cli.conftest import Restore

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


def test_an_empty_argument_is_not_the_current_folder(restore: Restore) -> None:
    finished = restore("denoise", "in", "")
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1)
    assert "an argument is empty" in finished.stderr
