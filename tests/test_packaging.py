"""What is installed is what is here: every package, the weights, one version, and a start without torch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import restore
from restore.weights import CATALOGUE, shipped_folder

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
