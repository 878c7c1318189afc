"""The README's example and commands are true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from restore.config import load_config

from .cli.conftest import load_pixels, noisy_picture, save

README = Path(__file__).resolve().parents[1] / "README.md"


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_python_example_runs_as_printed(tmp_path: Path) -> None:
    (example,) = python_blocks()
    save(_made(tmp_path / "photographs") / "a.png", noisy_picture(0))
    finished = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "['done']"
    assert load_pixels(tmp_path / "restored" / "a.png").shape == (40, 56, 3)


@pytest.mark.parametrize(
    "command", ["denoise", "deblur", "degrade", "score", "models", "models fetch", "train run", "train pack"]
)
def test_every_option_that_the_readme_names_exists(command: str) -> None:
    words = "train(?! pack)" if command == "train run" else command  # `run` may be left out
    commands = " ".join(re.findall(rf"restore {words}[^`#\n]*", README.read_text(encoding="utf-8")))
    assert commands
    named = set(re.findall(r"--[a-z-]+", commands))
    help_page = subprocess.run(
        [sys.executable, "-m", "restore", *command.split(), "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(option in help_page for option in named), named


def test_the_recipe_is_one(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "recipe.toml").write_text(recipe, encoding="utf-8")
    assert load_config(tmp_path / "recipe.toml").name == "my-denoiser"


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
