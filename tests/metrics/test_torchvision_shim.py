"""In fresh interpreters: an import happens once."""

from __future__ import annotations

import subprocess
import sys

import pytest

BUILD = "from torchvision.models import squeezenet1_1; print(type(squeezenet1_1()).__name__)"


def run(code: str) -> str:
    finished = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_torchvision_and_lpips_are_importable_beside_this_torch() -> None:
    code = "from restore.metrics.lpips import import_lpips; print(import_lpips().LPIPS.__name__);" + BUILD
    assert run(code).split() == ["LPIPS", "SqueezeNet"]


def test_where_the_operators_cannot_be_loaded_their_signatures_are_declared() -> None:
    code = f"""
import torch
from restore.metrics import torchvision_shim
def refuse(path):
    raise OSError(f"{{path}} links what is not here")
torch.ops.load_library = refuse
torchvision_shim.import_torchvision()
print(torch.ops.torchvision.nms)
{BUILD}
"""
    assert run(code).split() == ["torchvision.nms", "SqueezeNet"]


def test_where_torchvision_is_imported_already_nothing_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    from restore.metrics import torchvision_shim  # noqa: PLC0415  beside the fresh interpreters

    def declare() -> None:
        raise AssertionError("declared twice")

    torchvision = torchvision_shim.import_torchvision()
    torchvision_shim.import_torchvision.cache_clear()
    monkeypatch.setattr(torchvision_shim, "declare_operators", declare)
    assert torchvision_shim.import_torchvision() is torchvision
