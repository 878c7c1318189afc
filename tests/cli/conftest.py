"""The real command in a subprocess, and photographs to run it on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

Restore = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def restore(tmp_path: Path) -> Restore:
    """Run `restore` with arguments in a temporary folder; returns the finished process."""

    def run(
        *arguments: str | Path, env: dict[str, str] | None = None, text_input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "restore", *map(str, arguments)]
        return subprocess.run(
            command,
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
