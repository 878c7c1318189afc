"""Tiny pictures come out as they are stored: a seed keeps its degradation, weights keep their picture.

After a change that is meant to show, such as new weights, `python -m pytest tests/golden --store` stores what comes out
now. Look at the pictures before you commit them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restore.types import Task
from restore.weights import CATALOGUE, read_info
from tests.cli.conftest import run_command

HERE = Path(__file__).parent
DEGRADATIONS = {
    "noise": ["--noise", "25"],
    "camera-noise": ["--camera-noise", "3200"],
    "motion": ["--blur", "motion", "--blur-size", "8"],
    "defocus": ["--blur", "defocus", "--blur-size", "2"],
    "gaussian": ["--blur", "gaussian", "--blur-size", "1.5"],
}
INPUTS = {Task.DENOISE: "noise", Task.DEBLUR: "motion"}

Compare = Callable[..., None]


@pytest.fixture
def is_as_stored(request: pytest.FixtureRequest, tmp_path: Path) -> Compare:
    """Run `restore` with arguments, its output last, and compare the picture with the stored one of a name."""

    def compare(name: str, *arguments: str | Path) -> None:
        output, stored = tmp_path / f"{name}.png", HERE / f"{name}.png"
        done = run_command([*map(str, arguments), str(output)])
        assert done.returncode == 0, done.stderr
        if request.config.getoption("--store"):
            shutil.copy(output, stored)
        found, expected = (np.asarray(Image.open(path)).astype(int) for path in (output, stored))
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1, "of 255; see above how to store what is meant to be"

    return compare


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_seed_keeps_its_degradation(name: str, is_as_stored: Compare) -> None:
    is_as_stored(name, "degrade", *DEGRADATIONS[name], "--seed", "1", HERE / "clean.png")


@pytest.mark.parametrize("name", CATALOGUE)
def test_shipped_weights_keep_their_picture(name: str, is_as_stored: Compare) -> None:
    task = read_info(name).task
    assert task is not None
    is_as_stored(name, str(task), "--model", name, "--device", "cpu", HERE / f"{INPUTS[task]}.png")
