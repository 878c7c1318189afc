from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def score(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "restore", "score", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, encoding="utf-8")


def picture(seed: int, shape: tuple[int, ...] = (24, 31, 3)) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8) // 2


def write(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def listed(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.split()[0] for line in done.stdout.splitlines() if line.startswith("set/")]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    reference, restored = tmp_path / "ref", tmp_path / "out"
    for error in range(1, 8):
        write(reference / f"set/{error}.png", picture(error))
        write(restored / f"set/{error}.tif", picture(error) + np.uint8(error))
    return reference, restored


def test_table_protocol_and_worst(folders: tuple[Path, Path]) -> None:
    done = score(*folders)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    lines = done.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    decibels = [20 * math.log10(255 / error) for error in range(1, 8)]
    cells = next(line for line in lines if line.startswith("PSNR dB ↑")).split()[3:]
    assert cells == [
        f"{np.mean(decibels):.2f}",
        f"{np.std(decibels, ddof=1):.2f}",
        f"{np.median(decibels):.2f}",
        "7",
    ]
    assert [line.split()[0] for line in lines if line.startswith("set/")] == [
        f"set/{error}" for error in (7, 6, 5, 4, 3)
    ]
    text = " ".join(done.stdout.split())
    assert "protocol RGB, 8 bit; values as stored" in text
    assert "mean of the per-image dB" in text
    assert "Gaussian window 11 pixels σ 1.5" in text


def test_json_is_the_same_twice_and_finite(folders: tuple[Path, Path]) -> None:
    reference, restored = folders
    write(restored / "set/1.tif", picture(1))
    first = score(reference, restored, "--json")
    assert first.returncode == 0
    assert first.stdout == score(reference, restored, "--json").stdout
    assert "NaN" not in first.stdout
    assert "Infinity" not in first.stdout
    document = json.loads(first.stdout)
    assert document["schema_version"] == 1
    assert {"restore", "torch", "python"} <= document["versions"].keys()
    assert document["protocol"].startswith("RGB, 8 bit; ")
    assert document["num_identical"] == 1
    pair = document["pairs"][0]
    assert (pair["name"], pair["identical"], pair["scores"]["psnr"]) == ("set/1", True, None)
    assert document["metrics"]["psnr"]["num_pairs"] == 6
    assert document["metrics"]["psnr"]["mean"] == pytest.approx(
        np.mean([20 * math.log10(255 / error) for error in range(2, 8)]), abs=1e-4
    )


def test_broken_missing_and_mismatched_are_named_and_the_others_scored(folders: tuple[Path, Path]) -> None:
    reference, restored = folders
    (restored / "set/3.tif").write_bytes(b"II*\0 broken")
    write(restored / "set/4.tif", picture(4, (12, 12, 3)))
    write(restored / "set/5.tif", picture(5, (24, 31)))
    (restored / "set/6.tif").unlink()
    write(restored / "new.png", picture(0))
    done = score(reference, restored)
    assert done.returncode == 1
    errors = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [error.partition(":")[0] for error in errors] == [
        f"{restored}/set/3.tif",
        f"{restored}/set/4.tif",
        f"{restored}/set/5.tif",
        f"{reference}/set/6",
        f"{restored}/new",
    ]
    assert "12×12 pixels and its reference 31×24" in errors[1]
    assert "is grey and its reference RGB" in errors[2]
    assert "--allow-missing" in errors[3]
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("set/")] == [
        "set/7",
        "set/2",
        "set/1",
    ]
    document = json.loads(score(reference, restored, "--json", "--quiet").stdout)
    assert len(document["failures"]) == 3
    assert (document["only_reference"], document["only_restored"]) == (["set/6"], ["new"])


def test_allow_missing(folders: tuple[Path, Path]) -> None:
    reference, restored = folders
    (restored / "set/6.tif").unlink()
    done = score(reference, restored, "--allow-missing")
    assert done.returncode == 0
    assert done.stderr == "warning: 1 picture without a partner left out\n"


def test_a_folder_against_itself(folders: tuple[Path, Path]) -> None:
    reference, _ = folders
    done = score(reference, reference)
    assert done.returncode == 0
    assert done.stderr == f"warning: {reference}: is the reference itself, so every pair is identical\n"
    assert next(line for line in done.stdout.splitlines() if line.startswith("PSNR dB ↑")).split()[3:] == [
        "∞",
        "n/a",
        "∞",
        "0",
    ]
    assert "7 identical pairs (∞) left out of the mean" in " ".join(done.stdout.split())


def test_tiny_pictures_have_no_ssim(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(0, (1, 1, 3)))
    write(tmp_path / "b.png", picture(1, (1, 1, 3)))
    done = score(tmp_path / "a.png", tmp_path / "b.png")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    assert "SSIM ↑ n/a n/a n/a 0" in text
    assert "SSIM needs at least 11 pixels a side, and this picture has 1×1" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("ref", "missing"), 2, "missing: no such file or folder"),
        (("ref", "empty"), 3, "empty: no pictures"),
        (("ref", "ref", "--metrics", "psnr,fid"), 2, "fid: no such metric"),
        (("ref", "twice"), 2, "the same name but for the extension"),
    ],
)
def test_refusals(folders: tuple[Path, Path], arguments: tuple[str, ...], code: int, message: str) -> None:
    root = folders[0].parent
    (root / "empty").mkdir()
    write(root / "twice/x.png", picture(0))
    write(root / "twice/x.jpg", picture(0))
    done = score(*(root / word if (root / word).exists() or word == "missing" else word for word in arguments))
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_help_says_what_it_does() -> None:
    done = score("--help")
    assert done.returncode == 0
    assert "--allow-missing" in done.stdout
