"""restore.atomic: whole files or none, and no litter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from restore import atomic
from restore.atomic import sweep_partials, write_atomically


def test_replaces_a_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]  # noqa: PTH208


def test_all_of_a_file_goes_to_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "a.bin", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append((os.fstat(descriptor).st_size, path.exists())))
    write_atomically(path, b"new")
    assert seen == [(3, False)]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(_descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_names_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".png")
    write_atomically(path, b"x")
    assert path.read_bytes() == b"x"


def test_only_what_dead_processes_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
import os, sys
from pathlib import Path
from restore.atomic import write_atomically
os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
write_atomically(Path(sys.argv[1]) / "a.bin", b"half")
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".partial"
    alive = left.with_name(left.name.replace(left.name.split("-")[2], str(os.getpid())))
    alive.write_bytes(b"mine")
    (tmp_path / ".restore-note").write_bytes(b"the person's own")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", Mock(side_effect=PermissionError(1, "Operation not permitted")))
        sweep_partials(tmp_path)  # as where another person left it in /tmp
    sweep_partials(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {alive.name, ".restore-note"}


def test_what_lives_in_another_container_of_the_host_is_left(tmp_path: Path) -> None:
    contained = ["unshare", "--map-root-user", "--pid", "--fork"]
    if shutil.which("unshare") is None or subprocess.run([*contained, "true"], check=False).returncode:
        pytest.skip("no namespaces here")
    partial = tmp_path / f".restore-{atomic._HOST}-{os.getpid()}-0123abcd.partial"
    partial.write_bytes(b"half")
    program = "import sys, pathlib, restore.atomic as atomic; atomic.sweep_partials(pathlib.Path(sys.argv[1]))"
    subprocess.run([*contained, sys.executable, "-c", program, str(tmp_path)], check=True)
    assert partial.exists()
