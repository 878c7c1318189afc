"""The benchmarks run; what they measure is not asserted, times never are."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peers
import pytest
from evaluate import main as evaluate
from evaluate import noisy_pairs

from restore.images import read_photo, write_photo

ROOT = Path(__file__).resolve().parents[1]
Script = Callable[..., str]


@pytest.fixture
def script() -> Script:
    """Run a script in a new process; return what it prints."""

    def run(name: str, *arguments: object) -> str:
        command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
        finished: subprocess.CompletedProcess[str] = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    return run


@pytest.fixture
def small(shared: Path, tmp_path: Path) -> Path:
    """A folder of two crops of benchmark pictures, one with odd sides."""
    folder = tmp_path / "clean"
    folder.mkdir()
    for name, (height, width) in {"101085": (96, 128), "102061": (81, 63)}.items():
        photo = read_photo(shared / "data" / "test" / "cbsd68" / f"{name}.jpg")
        crop = dataclasses.replace(photo, pixels=np.ascontiguousarray(photo.pixels[:height, :width]), format="png")
        write_photo(folder / f"{name}.png", crop)
    return folder


def test_peers_remove_noise_and_keep_the_shape(small: Path) -> None:
    minimum_gain = {"FFDNet": 7.0, "CDnCNN-B": 7.0, "OpenCV NLM": 2.0}  # dB
    assert set(minimum_gain) == set(peers.PEERS)
    for name, build in peers.PEERS.items():
        denoise = build()
        for _, clean, noisy in noisy_pairs(small, 25 / 255):
            restored = denoise(noisy, 25 / 255)
            assert restored.shape == clean.shape
            assert restored.dtype == np.float32
            gain = 10 * np.log10(np.mean((noisy - clean) ** 2) / np.mean((restored - clean) ** 2))
            assert gain > minimum_gain[name], name


def test_the_noise_is_the_same_each_time_and_not_clipped(small: Path) -> None:
    first, again = ([noisy for *_, noisy in noisy_pairs(small, 50 / 255)] for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert any(noisy.min() < 0 for noisy in first)
    clean = [clean for _, clean, _ in noisy_pairs(small, 50 / 255)]
    residual = np.concatenate([(noisy - picture).ravel() for noisy, picture in zip(first, clean, strict=True)])
    assert residual.std() * 255 == pytest.approx(50, rel=0.02)


def test_evaluate_scores_and_saves(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, saved = tmp_path / "scores.json", tmp_path / "saved"
    arguments = ["--peers", "--folder", str(small), "--sigma", "25", "--json", str(report), "--save", str(saved)]
    assert evaluate(arguments) == 0
    out = capsys.readouterr().out
    assert "2 pictures" in out
    assert "| FFDNet |" in out
    document = json.loads(report.read_text())
    assert document["num_pictures"] == 2
    assert {score["model"] for score in document["scores"]} == set(peers.PEERS)
    assert all(20 < score["psnr_db"] < 40 and 0 < score["ssim"] < 1 for score in document["scores"])
    assert len(list(saved.rglob("*.png"))) == 2 * len(peers.PEERS)


@pytest.mark.parametrize("told", [[], ["--told"]])
def test_evaluate_takes_our_weights(small: Path, told: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["denoise-fast", "--folder", str(small), "--sigma", "25", "--limit", "1", *told]) == 0
    assert ("told σ" if told else "blind") in capsys.readouterr().out


def test_evaluate_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["no-such-weights", "--folder", str(tmp_path)]) == 1
    assert "no-such-weights" in capsys.readouterr().err


@pytest.mark.slow
def test_bench_layers_runs(script: Script) -> None:
    assert "polyphase" in script("bench_layers.py", "--quick")


def test_bench_inference_runs(script: Script) -> None:
    out = script("bench_inference.py", "--size", "48x32", "--repeats", 1)
    difference = float(out.strip().splitlines()[-1].split("|")[-2])
    assert 0 < difference < 1e-4


def test_bench_denoise_runs(script: Script, small: Path) -> None:
    assert "| FFDNet |" in script("bench_denoise.py", "--folder", small, "--limit", 1)


def test_bench_folder_runs(script: Script, small: Path) -> None:
    assert "| png |" in script("bench_folder.py", "--folder", small, "--copies", 1, "--repeats", 1)


def test_bench_memory_runs(script: Script) -> None:
    assert "GiB resident" in script("bench_memory.py", "--megapixels", 0.02)


def test_bench_startup_runs(script: Script) -> None:
    assert "restore --help:" in script("bench_startup.py", "--repeats", 1)
