"""The real command in a process of its own, and photographs to run it on."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from restore.done import FILE_NAME

Restore = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def restore(tmp_path: Path) -> Restore:
    """Run `restore` with arguments in a temporary folder; returns the finished process."""

    def run(
        *arguments: str | Path, env: dict[str, str] | None = None, text_input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        words = list(map(str, arguments))
        if env is None and text_input is None:
            return run_command(words, tmp_path)
        return subprocess.run(
            [sys.executable, "-m", "restore", *words],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            input=text_input,
            timeout=300,
            check=False,
        )

    return run


def run_command(words: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `restore` in a folder, where possible in a fork of a process that has torch imported already."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        command = [sys.executable, "-m", "restore", *words]
        return subprocess.run(
            command, capture_output=True, text=True, errors="surrogateescape", cwd=folder, check=False
        )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["restore.cli", "restore.pipeline", "restore.scoring", "restore.training"])
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = context.Process(target=become_the_command, args=(words, folder, _Passed(out), _Passed(err)))
        process.start()
        process.join(timeout=300)
        if process.exitcode is None:
            process.kill()
            pytest.fail(f"restore {' '.join(words)} did not end")
        texts = [_text_of(file) for file in (out, err)]
    return subprocess.CompletedProcess(words, process.exitcode, *texts)


class _Passed:
    """A file that a process hands to the one that it starts."""

    def __init__(self, file: IO[bytes]) -> None:
        self.duplicate = DupFd(file.fileno())

    def descriptor(self) -> int:
        """Return the file's number in this process."""
        return int(self.duplicate.detach())


def _text_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="surrogateescape")


def become_the_command(words: Sequence[str], folder: Path | None, out: _Passed, err: _Passed) -> None:
    """Run `restore` as if this process were nothing else."""
    if folder is not None:
        os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out.descriptor(), 1)
    os.dup2(err.descriptor(), 2)
    sys.argv = ["restore", *words]
    from restore.cli import main  # noqa: PLC0415  the process that forks has imported it

    main()


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder `in` with three small noisy pictures, one of them in a subfolder."""
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.jpg", "deeper/c.png")):
        save(folder / name, noisy_picture(index))
    return folder


def noisy_picture(seed: int, height: int = 40, width: int = 56) -> NDArray[np.uint8]:
    """A smooth colour picture with noise of σ 20, (height,width,3) uint8."""
    generator = np.random.default_rng(seed)
    small = generator.integers(40, 215, (3, 4, 3)).astype(np.float32)
    smooth = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    noisy = smooth + 20 * generator.standard_normal(smooth.shape)
    return np.asarray(np.rint(noisy).clip(0, 255), np.uint8)


def load_pixels(path: Path) -> NDArray[Any]:
    """Read what a file holds, at its depth, channels as OpenCV orders them."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write RGB pixels in the format of the suffix, whatever bytes the name is made of."""
    encoded = cv2.imencode(path.suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1]
    path.write_bytes(encoded.tobytes())


def one_line_error(finished: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Demand an exit code and a single line that begins as errors do and says all these words."""
    assert finished.returncode == code, finished.stderr
    lines = finished.stderr.strip().splitlines()
    assert len(lines) == 1, finished.stderr
    assert lines[0].startswith("error: ")
    assert all(word in lines[0] for word in words), lines[0]


def files_below(folder: Path) -> set[str]:
    """Return the files in a folder and its subfolders, relative to it, but for the records of what is done."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != FILE_NAME)
    return {path.relative_to(folder).as_posix() for path in files}
