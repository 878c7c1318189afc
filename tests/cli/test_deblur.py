"""`restore deblur` as a person runs it; what it shares with `restore denoise` stands in test_restoring.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from restore.models import NAFNet, NAFNetConfig
from restore.models.nafnet import half_resolution_net, nafnet_gopro, nafnet_sidd
from restore.weights import save_weights

from .conftest import Restore, load_pixels, save


def without_biases(config: NAFNetConfig) -> NAFNet:
    """A network that changes pictures, whose features are 0 where the picture is black."""
    generator = torch.Generator().manual_seed(2)
    network = NAFNet(config)
    with torch.no_grad():
        for name, param in network.named_parameters():
            noise = 0.4 * torch.randn(param.shape, generator=generator) / param[0].numel() ** 0.5
            param.copy_(torch.zeros_like(param) if name.endswith("bias") else noise + (param == 1))
    return network


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints as they are published for GoPro and for SIDD, but narrow; and our own, trained with a window."""
    folder = tmp_path_factory.mktemp("weights")
    for name, config in {"gopro": nafnet_gopro(4), "sidd": nafnet_sidd(4)}.items():
        torch.save({"params": without_biases(config).state_dict()}, folder / f"{name}.pth")
    windowed = NAFNetConfig.from_dict(half_resolution_net(4).as_dict() | {"sca_window": 32})
    document = {"name": "own", "task": "deblur", "architecture": "nafnet", "network": windowed.as_dict()}
    save_weights(folder / "own.safetensors", without_biases(windowed), document)
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def even(tmp_path: Path) -> Path:
    """A picture larger than 384 pixels, much the same everywhere."""
    save(tmp_path / "even.png", np.random.default_rng(0).integers(0, 256, (64, 640, 3), np.uint8))
    return tmp_path / "even.png"


@pytest.fixture
def lamp(tmp_path: Path) -> Path:
    """A black picture with a bright corner: there, local averages are far above global ones."""
    pixels = np.zeros((64, 1600, 3), np.uint8)
    pixels[:32, :32] = np.random.default_rng(0).integers(128, 256, (32, 32, 3))
    save(tmp_path / "lamp.png", pixels)
    return tmp_path / "lamp.png"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gopro", {"auto": True, "on": True, "off": False}),
        ("sidd", {"auto": False, "on": True, "off": False}),
    ],
)
def test_tlc_is_on_where_checkpoints_were_published_with_it(
    restore: Restore, checkpoints: dict[str, Path], even: Path, name: str, expected: dict[str, bool]
) -> None:
    results: dict[bool, list[npt.NDArray[Any]]] = {True: [], False: []}
    for tlc, is_used in expected.items():
        finished = restore("deblur", even, f"{tlc}.png", "--model", checkpoints[name], "--tlc", tlc, "--json")
        assert finished.returncode == 0, finished.stderr
        assert "warning" not in finished.stderr
        document = json.loads(finished.stdout)
        assert document["command"] == "deblur"
        assert document["settings"]["tlc"] is is_used
        results[is_used].append(load_pixels(even.parent / f"{tlc}.png"))
    for same in results.values():
        assert all(np.array_equal(same[0], other) for other in same)
    assert not np.array_equal(results[True][0], results[False][0])
    assert not np.array_equal(results[False][0], load_pixels(even))


def test_a_picture_that_tlc_would_spoil_is_restored_without_it(
    restore: Restore, checkpoints: dict[str, Path], lamp: Path, even: Path, tmp_path: Path
) -> None:
    finished = restore("deblur", lamp, even, "auto", "--model", checkpoints["gopro"], "--json")
    assert finished.returncode == 0, finished.stderr
    (warning,) = [line for line in finished.stderr.splitlines() if line.startswith("warning")]
    assert "lamp.png: restored without TLC" in warning
    assert "restored 2 photographs in " in finished.stderr
    assert ", 1 with warnings → auto" in finished.stderr
    notes = {Path(file["source"]).name: file["warnings"] for file in json.loads(finished.stdout)["files"]}
    assert len(notes["lamp.png"]) == 1
    assert notes["even.png"] == []
    off = restore("deblur", lamp, even, "off", "--model", checkpoints["gopro"], "--tlc", "off")
    assert (off.returncode, "warning" in off.stderr) == (0, False)
    for name, is_same in (("lamp.png", True), ("even.png", False)):
        auto, without = (load_pixels(tmp_path / folder / name) for folder in ("auto", "off"))
        assert np.array_equal(auto, without) is is_same


def test_tlc_is_refused_where_it_could_change_nothing(
    restore: Restore, checkpoints: dict[str, Path], even: Path, tmp_path: Path
) -> None:
    finished = restore("deblur", even, "out.png", "--model", checkpoints["own"], "--tlc", "on")
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert line.startswith("error: tlc on: ")
    assert "leave it out" in line
    assert not (tmp_path / "out.png").exists()
    finished = restore("deblur", even, "out.png", "--model", checkpoints["own"], "--json")
    assert json.loads(finished.stdout)["settings"]["tlc"] is False
    assert restore("deblur", even, "out2.png", "--model", checkpoints["own"], "--tlc", "maybe").returncode == 2
