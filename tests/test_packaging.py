"""What is installed is what is here: every package, the weights, one version, and a start without torch."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import restore
from restore.config import load_config
from restore.weights import CATALOGUE, read_info, shipped_folder

ROOT = Path(__file__).resolve().parents[1]


def test_every_package_is_listed() -> None:
    listed = re.search(r"packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), flags=re.DOTALL)
    assert listed is not None
    present = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "restore").rglob("__init__.py")}
    assert set(re.findall(r'"([a-z._]+)"', listed[1])) == present | {"restore.shipped"}


def test_shipped_files_are_the_catalogue_and_its_cards() -> None:
    names = {path.name for path in shipped_folder().iterdir() if path.suffix in {".safetensors", ".md"}}
    assert names == {name for file in CATALOGUE.values() for name in (file, str(Path(file).with_suffix(".md")))}


def test_python_m_restore_and_the_public_names_work() -> None:
    finished = subprocess.run([sys.executable, "-m", "restore", "--help"], capture_output=True, text=True, check=True)
    assert "denoise" in finished.stdout
    assert all(getattr(restore, name) for name in restore.__all__)


def test_importing_restore_does_not_import_torch() -> None:
    program = "import sys, restore, restore.cli; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def make(*arguments: str) -> list[str]:
    """Return the commands that make would run, without those of the setup."""
    command = ["make", "--dry-run", "--no-print-directory", *arguments, "DATA=photographs", "MINUTES=7"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = printed.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if "restore train" in line or "publish_weights" in line]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("name", CATALOGUE)
def test_one_command_trains_on_from_the_shipped_weights_and_publishes(name: str) -> None:
    train, publish = make(f"weights-{name}")
    assert f"restore train {name} photographs --out runs/{name} --max-minutes 7 " in train
    assert " --resume " in train
    assert train.endswith(f"--init {name}")
    assert ("--frames" in train) == name.startswith("deblur")
    assert f"publish_weights.py runs/{name} --name {name}" in publish
    num_views = read_info(name).ensemble
    assert publish.endswith(f" --ensemble {num_views}" if num_views > 1 else f" --name {name}")
    again, *_ = make(f"weights-{name}", "RUN=runs/again")
    assert " --out runs/again " in again
    settings = [
        argument for index, argument in enumerate(shlex.split(train)) if shlex.split(train)[index - 1] == "--set"
    ]
    assert load_config(name, settings).name == name
