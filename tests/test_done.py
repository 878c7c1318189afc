"""restore.done: a rerun keeps what is done, redoes what would differ, and loses nothing that it did not make."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from restore.atomic import write_atomically
from restore.done import FILE_NAME, NO_RECORDS, DoneRecords, Kept
from restore.images import Photo, read_photo, write_photo
from restore.pipeline import FileOptions, FileResult, dry_run, process_files
from restore.planning import Job, Plan, make_plan
from restore.types import Existing, FileStatus

NAMES = ["a.png", "sub/b.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for value, name in enumerate(NAMES):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True, parents=True)
        paint(tmp_path / "in" / name, value)
    return tmp_path / "in"


def paint(path: Path, value: int) -> None:
    write_photo(path, Photo(np.full((4, 5, 3), value, np.uint8), None, format="png"))


def brightened(_job: Job, photo: Photo) -> Photo:
    return Photo(photo.pixels + np.uint8(100), None, format="png")


def planned(folder: Path, existing: Existing) -> Plan:
    return make_plan([folder], folder.parent / "out", existing=existing)


def run(
    folder: Path,
    *,
    change: Callable[[Job, Photo], Photo] = brightened,
    existing: Existing = Existing.SKIP,
    **made_by: object,
) -> list[FileResult]:
    plan = planned(folder, existing)
    return list(process_files(plan, change, FileOptions(), DoneRecords(plan.output_folder, made_by)))


def unchanged(_job: Job, photo: Photo) -> Photo:
    return photo


def statuses(results: list[FileResult]) -> list[FileStatus]:
    return [result.status for result in results]


DONE, SKIPPED, PLANNED = FileStatus.DONE, FileStatus.SKIPPED, FileStatus.PLANNED


def test_what_is_done_is_skipped(folder: Path) -> None:
    assert statuses(run(folder, strength=1.0)) == [DONE, DONE]
    again = run(folder, strength=1.0)
    assert statuses(again) == [SKIPPED, SKIPPED]
    assert {result.message for result in again} == {Kept.DONE.value}


def test_other_settings_redo_all(folder: Path) -> None:
    run(folder, model="one")
    assert statuses(run(folder, model="two")) == [DONE, DONE]
    assert statuses(run(folder, model="two")) == [SKIPPED, SKIPPED]
    assert statuses(run(folder, model="one")) == [DONE, DONE]  # the last record counts


def test_another_content_is_redone_and_another_time_is_not(folder: Path) -> None:
    run(folder)
    paint(folder / NAMES[0], 7)
    os.utime(folder / NAMES[1], (1, 1))
    assert statuses(run(folder)) == [DONE, SKIPPED]
    assert read_photo(folder.parent / "out" / NAMES[0]).pixels.flat[0] == 107


def test_an_output_that_is_gone_is_made(folder: Path) -> None:
    run(folder)
    (folder.parent / "out" / NAMES[1]).unlink()
    assert statuses(run(folder)) == [SKIPPED, DONE]


def test_an_output_that_a_person_changed_is_kept_with_a_warning(folder: Path) -> None:
    run(folder, strength=1.0)
    touched_up = folder.parent / "out" / NAMES[0]
    paint(touched_up, 200)
    first, second = run(folder, strength=0.5)
    assert (first.status, second.status) == (SKIPPED, DONE)
    assert first.warnings == (Kept.STALE.value,)
    assert read_photo(touched_up).pixels.flat[0] == 200
    as_made = run(folder, strength=1.0)[0]
    assert (as_made.message, as_made.warnings) == (Kept.CHANGED.value, ())  # no redoing would differ
    assert statuses(run(folder, existing=Existing.OVERWRITE, strength=0.5)) == [DONE, DONE]
    assert statuses(run(folder, strength=0.5)) == [SKIPPED, SKIPPED]


def test_an_output_of_another_file_or_command_is_kept_with_a_warning(folder: Path) -> None:
    run(folder, command="denoise")
    day_2 = folder.parent / "day 2"
    shutil.copytree(folder, day_2)  # the same content in another place is the same
    paint(day_2 / NAMES[0], 9)
    before = (folder.parent / "out" / NAMES[0]).read_bytes()
    first, second = run(day_2, command="denoise")
    assert (first.status, first.warnings) == (SKIPPED, (Kept.OTHER.value,))
    assert second.message == Kept.DONE.value
    assert {result.message for result in run(folder, command="deblur")} == {Kept.OTHER.value}
    assert (folder.parent / "out" / NAMES[0]).read_bytes() == before


def test_outputs_of_others_are_kept(folder: Path) -> None:
    run(folder)
    (folder.parent / "out" / FILE_NAME).unlink()
    assert {result.message for result in run(folder, model="other")} == {Kept.UNKNOWN.value}


def test_a_dry_run_tells_the_same_and_writes_nothing(folder: Path) -> None:
    run(folder, strength=1.0)
    paint(folder / NAMES[0], 7)
    plan = planned(folder, Existing.SKIP)
    before = {path: path.read_bytes() for path in plan.output.rglob("*") if path.is_file()}
    records = DoneRecords(plan.output_folder, {"strength": 1.0})
    assert statuses(list(dry_run(plan, records))) == [PLANNED, SKIPPED]
    assert {path: path.read_bytes() for path in plan.output.rglob("*") if path.is_file()} == before


def test_without_records_whatever_exists_is_kept(folder: Path) -> None:
    plan = planned(folder, Existing.SKIP)
    assert statuses(list(process_files(plan, brightened, FileOptions()))) == [DONE, DONE]
    assert not (plan.output / FILE_NAME).exists()
    assert {result.message for result in process_files(plan, brightened, FileOptions())} == {Kept.UNKNOWN.value}
    assert NO_RECORDS.path is None


def test_a_single_file_that_is_named_leaves_nothing_beside_it(folder: Path) -> None:
    plan = make_plan([folder / NAMES[0]], folder.parent / "better.png")
    assert plan.output_folder is None
    list(process_files(plan, brightened, FileOptions(), DoneRecords(plan.output_folder, {})))
    assert sorted(path.name for path in folder.parent.iterdir()) == ["better.png", "in"]


def half_a_line(records: bytes) -> bytes:
    return records.rstrip(b"\n")[:-9]


def garbage(_records: bytes) -> bytes:
    return b"\xff\n[1]\n{}\n" + b"[" * 100_000 + b'\n{"output": 3}\n{"output": "a.png"}\n'


@pytest.mark.parametrize(("damage", "kept"), [(half_a_line, 2), (garbage, 1)])
def test_damaged_records_lose_nothing_and_stop_nothing(
    folder: Path, damage: Callable[[bytes], bytes], kept: int
) -> None:
    run(folder)
    path = folder.parent / "out" / FILE_NAME
    path.write_bytes(damage(path.read_bytes()))
    results = run(folder)
    assert [result.status for result in results].count(SKIPPED) == 2
    assert sum(result.message in {Kept.UNKNOWN.value, Kept.DONE.value} for result in results) == kept
    run(folder, existing=Existing.OVERWRITE)  # what follows half a line can be read
    assert {result.message for result in run(folder)} == {Kept.DONE.value}


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_records_that_cannot_be_written_are_told_and_the_pictures_are_there(folder: Path, kind: str) -> None:
    path, mine = folder.parent / "out" / FILE_NAME, folder.parent / "mine.txt"
    path.parent.mkdir()
    mine.write_text("mine")
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(mine)
    else:
        os.mkfifo(path)
    results = run(folder)
    assert mine.read_text() == "mine"
    assert statuses(results) == [DONE, DONE]
    told, *others = [result.warnings for result in results]
    assert "--skip-existing will not know" in told[0]
    assert others == [()]
    assert (folder.parent / "out" / NAMES[1]).exists()


def test_all_inputs_of_an_output_count(folder: Path) -> None:
    plan = make_plan([folder / NAMES[0]], folder.parent / "out", existing=Existing.SKIP)
    (job,) = plan
    records = DoneRecords(plan.output_folder, {}, {job.source: [folder / name for name in NAMES]})
    list(process_files(plan, brightened, FileOptions(), records))
    assert records.why_kept(job) is Kept.DONE
    paint(folder / NAMES[1], 9)
    assert records.why_kept(job) is None


def test_a_name_that_is_no_text_is_recorded(folder: Path) -> None:
    try:
        (folder / NAMES[0]).rename(folder / os.fsdecode(b"\xff.png"))
    except OSError:
        pytest.skip("this disk takes names in UTF-8 only")
    assert statuses(run(folder)) == [DONE, DONE]
    assert {result.message for result in run(folder)} == {Kept.DONE.value}


def test_the_record_says_what_an_output_was_made_of(folder: Path) -> None:
    run(folder, model="one", sigma=None)
    record = json.loads((folder.parent / "out" / FILE_NAME).read_text().splitlines()[-1])
    assert record["output"] == "sub/b.png"
    assert record["made_by"] == {"model": "one", "sigma": None}
    assert record["source"] == str(folder / "sub/b.png")
    assert record.keys() == {"output", "sha256", "replaces", "inputs", "made_by", "version", "source"}


class KilledError(BaseException):
    """Stands for the end of a process."""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("existing", Existing)
def test_a_run_that_is_killed_leaves_nothing_that_is_kept_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str, existing: Existing
) -> None:
    if existing is not Existing.REFUSE:
        run(folder, strength=1.0)

    def write(path: Path, content: bytes) -> None:
        if moment == "after":
            write_atomically(path, content)
        raise KilledError

    for strength in (0.4, 0.5) if moment == "before" else (0.5,):  # twice at the same picture
        with monkeypatch.context() as patch:
            patch.setattr("restore.images.writing.write_atomically", write)
            with pytest.raises(KilledError):
                run(folder, change=unchanged, existing=existing, strength=strength)
    assert statuses(run(folder, change=unchanged, strength=0.5))[0] is (SKIPPED if moment == "after" else DONE)
    assert statuses(run(folder, strength=0.2)) == [DONE, DONE]


def test_an_output_made_elsewhere_since_is_not_called_done(folder: Path) -> None:
    run(folder, strength=1.0)
    list(process_files(planned(folder, Existing.OVERWRITE), unchanged, FileOptions()))  # recorded nowhere
    assert {result.message for result in run(folder, strength=1.0)} == {Kept.CHANGED.value}


def test_what_a_person_changes_while_it_is_made_anew_is_kept(folder: Path) -> None:
    run(folder, strength=1.0)
    touched_up = folder.parent / "out" / NAMES[0]

    def meanwhile(job: Job, photo: Photo) -> Photo:
        paint(touched_up, 200)
        return brightened(job, photo)

    results = run(folder, change=meanwhile, strength=0.5)
    assert statuses(results) == [SKIPPED, DONE]
    assert results[0].warnings == (Kept.STALE.value,)
    assert read_photo(touched_up).pixels.flat[0] == 200


def test_a_link_that_a_person_put_in_place_of_an_output_is_kept(folder: Path) -> None:
    run(folder, strength=1.0)
    link, moved = folder.parent / "out" / NAMES[0], folder.parent / "mine.png"
    link.rename(moved)
    link.symlink_to(moved)
    assert statuses(run(folder, strength=0.5)) == [SKIPPED, DONE]
    assert link.is_symlink()


def test_records_that_vanish_during_a_run_stop_nothing(folder: Path) -> None:
    run(folder)
    plan = planned(folder, Existing.SKIP)
    records = DoneRecords(plan.output_folder, {})
    first, second = plan
    assert records.why_kept(first) is Kept.DONE
    (plan.output / FILE_NAME).unlink()
    assert records.why_kept(second) is Kept.UNKNOWN


def test_half_a_record_of_another_run_spoils_no_other(folder: Path) -> None:
    def fill(job: Job, photo: Photo) -> Photo:
        if job.number == 2:  # the first is recorded by then
            with (folder.parent / "out" / FILE_NAME).open("ab") as file:
                file.write(b'\n{"output": "half')
        return brightened(job, photo)

    paint(folder / "sub/c.png", 3)
    run(folder, change=fill)
    assert {result.message for result in run(folder)} == {Kept.DONE.value}


def test_hostile_records_replace_nothing(folder: Path) -> None:
    target = folder.parent / "out" / NAMES[0]
    target.parent.mkdir()
    paint(target, 200)
    for hostile in ({"output": "a.png"}, {"output": "a.png", "sha256": [1], "replaces": {}}):
        (target.parent / FILE_NAME).write_text(json.dumps(hostile))
        assert run(folder)[0].warnings == (Kept.STALE.value,)


def test_numbers_of_numpy_are_numbers(folder: Path) -> None:
    run(folder, sigma=0.5, ensemble=4)
    assert statuses(run(folder, sigma=np.float32(0.5), ensemble=np.int64(4))) == [SKIPPED, SKIPPED]
