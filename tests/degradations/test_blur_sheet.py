"""scripts/blur_sheet.py: the sheet is written, and the numbers tell blur from none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from blur_sheet import main

from restore.images import read_photo, write_photo

NONE = '{"steps": [{"kind": "motion-blur", "length": [0, 0]}]}'


def test_the_sheet_and_its_numbers(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("sharp", "blur"):
        photo = read_photo(shared / "data" / "test" / "gopro" / side / "GOPR0374_11_00_000058.webp")
        crop = dataclasses.replace(photo, pixels=np.ascontiguousarray(photo.pixels[200:400, 300:560]), format="png")
        (tmp_path / side).mkdir()
        write_photo(tmp_path / side / "a.png", crop)
    arguments = ["--clean", str(tmp_path / "sharp"), "--pairs", str(tmp_path), "--out", str(tmp_path / "sheet.png")]
    arguments += ["--samples", "3", "--crop", "48", "--measured", "4", "--measured-crop", "64", "--chain", NONE]
    assert main(arguments) == 0
    assert read_photo(tmp_path / "sheet.png").pixels.shape[0] == 2 * 48 + 12
    rows = [row.split("|")[2:4] for row in capsys.readouterr().out.splitlines() if row.startswith("| PSNR")]
    (real, synthetic), *_ = [[[float(number) for number in cell.split("/")] for cell in row] for row in rows]
    assert max(real) < 45
    assert min(synthetic) == 60  # what stands for equal


def test_missing_pictures_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sharp").mkdir()
    arguments = ["--clean", str(tmp_path / "sharp"), "--pairs", str(tmp_path), "--out", str(tmp_path / "sheet.png")]
    assert main(arguments) == 1
    assert "pictures are needed in both" in capsys.readouterr().err
