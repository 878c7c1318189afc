"""restore.pipeline: what becomes of a run when the disk changes under it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from restore.errors import OutputError
from restore.images import Photo, write_photo
from restore.pipeline import FileOptions, process_files
from restore.planning import Job, Plan, make_plan
from restore.types import FileStatus

NAMES = [f"{index}.png" for index in range(5)]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "in").mkdir()
    for name in NAMES:
        write_photo(tmp_path / "in" / name, Photo(np.zeros((4, 5, 3), np.uint8), None, format="png"))
    return make_plan([tmp_path / "in"], tmp_path / "out")


def unchanged(_job: Job, photo: Photo) -> Photo:
    return photo


def test_pictures_that_are_gone_when_their_turn_comes_are_named(plan: Plan, tmp_path: Path) -> None:
    results = process_files(plan, unchanged, FileOptions())
    first = next(results)
    shutil.rmtree(tmp_path / "in")
    others = list(results)
    assert [result.source.name for result in (first, *others)] == NAMES
    failed = [result for result in others if result.status is FileStatus.FAILED]
    assert len(failed) >= 2  # some were read ahead
    assert all("No such file or directory" in str(result.message) for result in failed)
    assert all(str(result.source) in str(result.message) for result in failed)


@pytest.mark.parametrize(("suffix", "side"), [(".jpg", 65501), (".webp", 16384)])
def test_a_picture_that_is_too_long_for_its_format_is_refused_before_it_is_changed(
    tmp_path: Path, suffix: str, side: int
) -> None:
    write_photo(tmp_path / "a.png", Photo(np.zeros((1, side), np.uint8)))
    plan = make_plan([tmp_path / "a.png"], tmp_path / "out", suffix=suffix)
    changed: list[Job] = []

    def change(job: Job, photo: Photo) -> Photo:
        changed.append(job)
        return photo

    (result,) = process_files(plan, change, FileOptions())
    assert result.status is FileStatus.FAILED
    assert f"{side - 1:,} pixels a side and the picture has {side} × 1; choose PNG or TIFF" in str(result.message)
    assert not changed


def test_an_output_folder_that_goes_away_stops_the_run(plan: Plan, tmp_path: Path) -> None:
    num_changed = 0

    def change(_job: Job, photo: Photo) -> Photo:
        nonlocal num_changed
        num_changed += 1
        return photo

    results = process_files(plan, change, FileOptions())
    assert next(results).status is FileStatus.DONE
    (tmp_path / "out").rename(tmp_path / "elsewhere")  # at once, whatever is being written
    with pytest.raises(OutputError, match="No such file or directory"):
        list(results)
    assert num_changed < len(NAMES)
