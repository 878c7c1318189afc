"""restore.pipeline: what becomes of a run when the disk changes under it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import typer
from torch import Tensor, nn

from restore import pipeline
from restore.cli.run import Run
from restore.done import DoneRecords
from restore.errors import DeviceError, NothingToDoError, OutputError, UsageError, WeightsError
from restore.images import Photo, write_photo
from restore.images.opencv import cv2
from restore.inference import Restorer
from restore.models import NAFNet, NAFNetConfig
from restore.models.nafnet import Stage
from restore.pipeline import FileOptions, FileResult, process_files, restore_files, restore_folder
from restore.planning import Job, Plan, check_output, make_plan, output_ready, prepare_output
from restore.sharding import Shard
from restore.types import Existing, FileStatus
from restore.weights import WeightsInfo

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


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_picture_that_may_not_be_looked_at_leaves_the_others(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    stat = Path.stat

    def refuse(path: Path, **options: Any) -> os.stat_result:
        if path.name == "1.png":
            raise OSError(code, os.strerror(code), str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    results = list(process_files(plan, unchanged, FileOptions(), DoneRecords(tmp_path / "out", {})))
    assert [result.source.name for result in results if result.status is FileStatus.FAILED] == ["1.png"]
    assert os.strerror(code) in str(results[1].message)


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


@pytest.mark.parametrize(("suffix", "side"), [(".jpg", 65500), (".webp", 16383)])
def test_the_longest_picture_that_a_format_holds_is_written(tmp_path: Path, suffix: str, side: int) -> None:
    write_photo(tmp_path / "a.png", Photo(np.zeros((1, side), np.uint8)))
    plan = make_plan([tmp_path / "a.png"], tmp_path / "out", suffix=suffix)
    (result,) = process_files(plan, unchanged, FileOptions())
    assert (result.status, result.width, result.height) == (FileStatus.DONE, side, 1)


@pytest.mark.usefixtures("plan")
def test_what_a_model_refuses_is_said_before_anything_is_made(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "new" / "out"
    with pytest.raises(WeightsError, match="no-such-model"):
        restore_folder(folder, out, model="no-such-model")
    with pytest.raises(UsageError, match="cannot be told"):
        restore_folder(folder, out, model=Restorer(nn.Identity()), sigma=0.1)
    with pytest.raises(ValueError, match="divide by 255"):
        restore_folder(folder, out, model=Restorer(nn.Identity()), sigma=25)
    with pytest.raises(ValueError, match="strength"):
        restore_folder(folder, out, model=Restorer(nn.Identity()), strength=2)
    with pytest.raises(UsageError, match="existing replace: choose refuse, skip, overwrite"):
        restore_folder(folder, out, existing="replace")
    with pytest.raises(UsageError, match="shard 2/2: there is no such part"):
        restore_folder(folder, out, shard="2/2")
    with pytest.raises(NothingToDoError, match=r"^no inputs were named; name files or folders$"):
        restore_folder([], out)
    assert not out.parent.exists()


@pytest.mark.usefixtures("plan")
def test_shards_of_several_inputs_share_out_all_of_them(tmp_path: Path) -> None:
    write_photo(tmp_path / "alone.png", Photo(np.zeros((4, 6, 3), np.uint8)))
    inputs, model = [tmp_path / "in", tmp_path / "alone.png"], Restorer(nn.Identity())
    parts = [restore_folder(inputs, tmp_path / "out", model=model, shard=f"{index}/3") for index in range(3)]
    done = sorted(result.source.name for part in parts for result in part if result.status is FileStatus.DONE)
    assert done == sorted(["alone.png", *NAMES])
    assert all(len(part) < len(done) for part in parts)


@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize(("shard", "device"), [("auto", "cuda:1"), ("1/2", "cuda")])
def test_each_process_of_torchrun_restores_its_part_on_its_own_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: str, device: str
) -> None:
    def load(_name: str, *, device: str) -> Restorer:
        asked.append(device)
        return Restorer(nn.Identity())

    asked: list[str] = []
    monkeypatch.setattr(pipeline, "load", load)
    for name, value in (("RANK", "1"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    for name, told in (("is_available", True), ("device_count", 2), ("set_device", None)):
        monkeypatch.setattr(torch.cuda, name, lambda *_, told=told: told)
    restore_folder(tmp_path / "in", tmp_path / "out", shard=shard)
    assert asked == [device]


@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize(
    "other",
    [
        {"sigma": 0.1},
        {"strength": 0.5},
        {"options": FileOptions(quality=80)},
        {"options": FileOptions(strip_metadata=True)},
        {"ensemble": 2},
        {"tlc": "on"},
        {"sha256": "2"},
    ],
    ids=str,
)
def test_what_was_restored_in_another_way_is_made_anew(tmp_path: Path, other: dict[str, Any]) -> None:
    network = NAFNet(NAFNetConfig(4, (Stage(1),), Stage(1), (Stage(1),), sigma_input=True))

    def run(ensemble: int = 1, tlc: str = "off", sha256: str = "1", **options: Any) -> set[FileStatus]:
        info = WeightsInfo(Path("net"), {"sha256": sha256}, 0, 0)
        restorer = Restorer(network, info, ensemble=ensemble, tlc=tlc)
        results = restore_folder(tmp_path / "in", tmp_path / "out", model=restorer, existing="skip", **options)
        return {result.status for result in results}

    assert run() == {FileStatus.DONE}
    assert run() == {FileStatus.SKIPPED}
    assert run(**other) == {FileStatus.DONE}
    assert run(**other) == {FileStatus.SKIPPED}


@pytest.mark.usefixtures("plan")
def test_what_a_person_should_know_of_a_picture_is_told_with_its_size(tmp_path: Path) -> None:
    source = tmp_path / "in" / "float.tif"
    pixels = np.full((6, 7), 2, np.float32)
    pixels[0, :2] = np.nan, np.inf
    tifffile.imwrite(source, pixels.astype(np.float64), photometric="minisblack")
    (result,) = restore_folder(source, tmp_path / "out.png", model=Restorer(ExplodesAlways()))
    assert (result.status, result.width, result.height) == (FileStatus.DONE, 7, 6)
    assert [warning.split(";")[0] for warning in result.warnings] == [
        "its 64-bit floats were rounded to 32 bits",
        "left as it was: the network fails on what is there",
        "2 values are NaN or infinite",
        "most of its values lie above 1, which is white",
        "PNG holds 0 to 1 only",
    ]


class ExplodesAlways(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 99


def test_how_far_a_run_has_come_is_told_in_pictures(plan: Plan) -> None:
    told: list[float] = []
    results = list(restore_files(plan, Restorer(nn.Identity()), on_progress=told.append))
    assert len(results) == len(NAMES)
    assert told == [1, 2, 3, 4, 5]


def test_an_error_that_is_not_of_a_picture_stops_the_run(plan: Plan) -> None:
    def fail(_job: Job, _photo: Photo) -> Photo:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        list(process_files(plan, fail, FileOptions()))


def test_a_closed_output_folder_is_said_in_dry_runs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda _path, mode: not mode & os.R_OK)  # root may read all
    with pytest.raises(OutputError, match="Permission denied"):
        check_output(tmp_path)
    check_output(tmp_path / "new")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc"), cv2.error("Insufficient memory")])
def test_a_picture_that_takes_too_much_memory_leaves_the_others(plan: Plan, error: Exception) -> None:
    def change(job: Job, photo: Photo) -> Photo:
        if not job.number:
            raise error
        return photo

    first, *others = process_files(plan, change, FileOptions())
    assert "not enough memory for this picture" in str(first.message)
    assert all(result.status is FileStatus.DONE for result in others)


@pytest.mark.usefixtures("plan")
def test_a_picture_for_whose_result_there_is_no_memory_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photo(tmp_path / "in" / "3.png", Photo(np.zeros((4, 600, 3), np.uint8)))
    empty = torch.empty

    def refuse(size: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if 600 in size:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
        return empty(size, *args, **kwargs)

    monkeypatch.setattr(torch, "empty", refuse)
    results = restore_folder(tmp_path / "in", tmp_path / "out", model=Restorer(nn.Identity()))
    assert [result.source.name for result in results if result.status is FileStatus.DONE] == [*NAMES[:3], "4.png"]
    assert f"{tmp_path / 'in' / '3.png'}: not enough memory for this picture" in str(results[3].message)


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


def write_grey(path: Path, kind: str = "png") -> None:
    """Write a grey picture in a format, whatever the name says."""
    path.parent.mkdir(exist_ok=True)
    right = path.with_name(f"any.{kind}")
    write_photo(right, Photo(np.zeros((4, 5, 3), np.uint8)))
    right.rename(path)


def test_a_picture_whose_name_says_raw_but_that_is_read_takes_no_others_output(tmp_path: Path) -> None:
    write_grey(tmp_path / "in" / "1.HEIC", kind="jpg")
    write_grey(tmp_path / "in" / "1.jpg", kind="jpg")
    with pytest.raises(UsageError, match=r"1\.jpg and .*1\.HEIC would both become .*1\.png"):
        make_plan([tmp_path / "in"], tmp_path / "out", suffix=".png")


@pytest.mark.parametrize("existing", Existing)
def test_a_picture_that_cannot_be_read_fails_however_often_beside_one_that_can(
    tmp_path: Path, existing: Existing
) -> None:
    write_grey(tmp_path / "in" / "1.jpg", kind="jpg")
    (tmp_path / "in" / "1.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    if existing is not Existing.REFUSE:
        write_grey(tmp_path / "out" / "1.png")
    plan = make_plan([tmp_path / "in"], tmp_path / "out", suffix=".png", existing=existing)
    found = {result.source.name: result.status for result in process_files(plan, unchanged, FileOptions())}
    is_skipped = existing is Existing.SKIP
    assert found == {"1.heic": FileStatus.FAILED, "1.jpg": FileStatus.SKIPPED if is_skipped else FileStatus.DONE}


def test_a_name_without_a_format_to_write_is_refused_before_the_picture_is_changed(tmp_path: Path) -> None:
    write_grey(tmp_path / "in" / "picture")
    changed: list[Job] = []

    def change(job: Job, photo: Photo) -> Photo:
        changed.append(job)
        return photo

    plan = make_plan([tmp_path / "in" / "picture"], tmp_path / "out")
    (result,) = process_files(plan, change, FileOptions())
    assert result.status is FileStatus.FAILED
    assert "no suffix names no format to write; choose one (--format)" in str(result.message)
    assert not changed


@pytest.mark.parametrize(
    "names", [("X.png", "x.png"), ("caf\u00e9.png", "cafe\u0301.png"), ("Stra\u00dfe.png", "stra\u00dfe.png")]
)
@pytest.mark.parametrize("folds", [True, False])
def test_names_that_are_one_on_the_disk_of_the_output_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str], *, folds: bool
) -> None:
    for name in names:
        write_grey(tmp_path / "in" / name)
        write_grey(tmp_path / "out" / name)
    written: list[Path] = []

    def write(path: Path, photo: Photo, **options: Any) -> tuple[str, ...]:
        notes = write_photo(path, photo, **options)
        written.append(path)
        for other in {path.with_name(name) for name in names} - {path} if folds else ():
            other.unlink(missing_ok=True)  # such a disk shows the same file under both
            other.hardlink_to(path)
        return notes

    monkeypatch.setattr(pipeline, "write_photo", write)
    plan = make_plan([tmp_path / "in"], tmp_path / "out", existing=Existing.OVERWRITE)
    first, second = process_files(plan, unchanged, FileOptions())
    assert first.status is FileStatus.DONE
    assert second.status is (FileStatus.FAILED if folds else FileStatus.DONE)
    assert ("whose name differs in case or accents alone" in str(second.message)) == folds
    assert written == [first.target] if folds else [first.target, second.target]


@pytest.mark.parametrize("existing", [Existing.REFUSE, Existing.OVERWRITE])
def test_an_output_that_somebody_makes_during_a_run_is_replaced_only_where_that_is_asked_for(
    tmp_path: Path, existing: Existing
) -> None:
    write_grey(tmp_path / "in" / "a.png")
    theirs = tmp_path / "out" / "a.png"

    def meanwhile(_job: Job, photo: Photo) -> Photo:
        theirs.write_bytes(b"theirs")
        return photo

    (tmp_path / "out").mkdir()
    plan = make_plan([tmp_path / "in"], tmp_path / "out", existing=existing)
    (result,) = process_files(plan, meanwhile, FileOptions())
    is_kept = existing is Existing.REFUSE
    assert result.status is (FileStatus.FAILED if is_kept else FileStatus.DONE)
    assert (theirs.read_bytes() == b"theirs") == is_kept
    assert str(result.message).startswith(f"{theirs}: somebody else made it") == is_kept


def test_a_run_that_ends_early_reports_what_is_done(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def results() -> Iterator[FileResult]:
        yield FileResult(tmp_path / "in" / "0.png", tmp_path / "out" / "0.png", FileStatus.DONE)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run(plan, json=True, quiet=False, verbose=False).conclude(results(), "restored", {})
    said = capsys.readouterr()
    assert [file["status"] for file in json.loads(said.out)["files"]] == ["done"]
    assert "restored 1 photograph" in said.err


def test_what_is_written_when_a_run_stops_is_told(plan: Plan, tmp_path: Path) -> None:
    def change(job: Job, photo: Photo) -> Photo:
        if job.number == 3:
            raise DeviceError("out of memory")
        return photo

    results = process_files(plan, change, FileOptions())
    assert [next(results).status for _ in range(3)] == [FileStatus.DONE] * 3
    with pytest.raises(DeviceError):
        next(results)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == NAMES[:3]


def test_a_run_that_nobody_follows_any_more_ends(plan: Plan) -> None:
    results = process_files(plan, unchanged, FileOptions())
    next(results)
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_that_there_is_not_is_refused(quality: int) -> None:
    with pytest.raises(UsageError, match="between 1 and 100"):
        FileOptions(quality=quality)


def test_an_original_in_the_current_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        write_grey(Path(name))
    for inputs in ([Path("a.png")], [tmp_path / "a.png"], [Path("a.png"), Path("b.png")]):
        with pytest.raises(UsageError, match="originals are never replaced"):
            make_plan(inputs, Path(), existing=Existing.OVERWRITE)


def test_a_pipe_named_as_a_raw_file_does_not_hold_up_the_plan(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.heic")
    write_grey(tmp_path / "y.png")
    plan = make_plan([tmp_path / "x.heic", tmp_path / "y.png"], tmp_path / "out")
    first, second = process_files(plan, unchanged, FileOptions())
    assert "is not a regular file" in str(first.message)
    assert second.status is FileStatus.DONE


def test_two_folders_of_one_name_would_write_over_each_other(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        write_grey(tmp_path / place / "in" / "1.png")
    with pytest.raises(UsageError, match=r"there/in/1\.png and .*here/in/1\.png would both become .*out/in/1\.png"):
        make_plan([tmp_path / "here/in", tmp_path / "there/in"], tmp_path / "out")


@pytest.mark.usefixtures("plan")
def test_a_folder_by_two_paths_is_one_input(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    plan = make_plan([folder, folder / ".." / "in"], tmp_path / "out")
    assert plan.inputs == (folder,)
    assert [job.target for job in plan] == [tmp_path / "out" / name for name in NAMES]


@pytest.mark.usefixtures("plan")
def test_files_that_are_named_one_by_one_are_shared_out_too(tmp_path: Path) -> None:
    files = [tmp_path / "in" / name for name in NAMES]
    parts = [{job.name for job in make_plan(files, tmp_path / "out", shard=Shard(index, 2))} for index in range(2)]
    assert all(parts)
    assert sorted([*parts[0], *parts[1]]) == NAMES


@pytest.mark.usefixtures("plan")
def test_a_folder_in_the_place_of_an_output_is_nothing_to_skip_or_overwrite(tmp_path: Path) -> None:
    (tmp_path / "out" / "0.png").mkdir(parents=True)
    plan = make_plan([tmp_path / "in"], tmp_path / "out")  # no option would help, and the others can be restored
    assert [result.status for result in process_files(plan, unchanged, FileOptions())] == [
        FileStatus.FAILED,
        *[FileStatus.DONE] * (len(NAMES) - 1),
    ]


@pytest.mark.usefixtures("plan")
def test_an_output_that_names_another_format_is_no_folder_unless_it_is_one(tmp_path: Path) -> None:
    for name in ("better.gif", "better.heic"):
        with pytest.raises(UsageError, match=rf"{name}: not a format that can be written"):
            make_plan([tmp_path / "in"], tmp_path / name)
    (tmp_path / "better.gif").mkdir()
    assert make_plan([tmp_path / "in"], tmp_path / "better.gif").num_jobs == len(NAMES)
    assert make_plan([tmp_path / "in" / NAMES[0]], tmp_path / "version.a").num_jobs == 1  # one letter is no format


@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize("name", ["better.copy", "better.jgp", "trip.2024", "holiday.summer"])
def test_what_could_be_meant_as_a_folder_is_one(tmp_path: Path, name: str) -> None:
    output, source = tmp_path / name, tmp_path / "in" / NAMES[0]
    assert make_plan([tmp_path / "in"], output).num_jobs == len(NAMES)  # a folder can go nowhere else
    if name in {"better.copy", "better.jgp"}:
        with pytest.raises(UsageError, match=rf"{name}: not a format that can be written; .* make the folder first"):
            make_plan([source], output)
        output.mkdir()
    assert [job.target for job in make_plan([source], output)] == [output / NAMES[0]]


@pytest.mark.usefixtures("plan")
def test_a_folder_may_have_the_name_of_a_picture(tmp_path: Path) -> None:
    (tmp_path / "out.png").mkdir()
    plan = make_plan([tmp_path / "in"], tmp_path / "out.png")
    assert plan.output_folder == tmp_path / "out.png"
    assert [job.target for job in plan] == [tmp_path / "out.png" / name for name in NAMES]


@pytest.mark.usefixtures("plan")
def test_a_format_has_several_names_but_one_file_takes_one_picture(tmp_path: Path) -> None:
    first, second = (tmp_path / "in" / name for name in NAMES[:2])
    (job,) = make_plan([first], tmp_path / "better.jpeg", suffix=".jpg")
    assert job.target == tmp_path / "better.jpeg"
    with pytest.raises(UsageError, match=r"better\.jpeg: several inputs need a folder as output"):
        make_plan([first, second], tmp_path / "better.jpeg")


@pytest.mark.usefixtures("plan")
def test_the_current_folder_among_others_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_grey(tmp_path / "alone.png")
    monkeypatch.chdir(tmp_path / "in")
    *jobs, _ = make_plan([Path(), tmp_path / "alone.png"], tmp_path / "out")
    assert [job.target for job in jobs] == [tmp_path / "out" / "in" / name for name in NAMES]


def test_two_pictures_for_one_output_are_noticed_behind_one_that_cannot_be_read(tmp_path: Path) -> None:
    for suffix in ("jpg", "png"):
        write_grey(tmp_path / "in" / f"1.{suffix}", kind=suffix)
    (tmp_path / "in" / "1.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    with pytest.raises(UsageError, match=r"1\.png and .*1\.jpg would both become .*1\.webp"):
        make_plan([tmp_path / "in"], tmp_path / "out", suffix=".webp")


@pytest.mark.usefixtures("plan")
def test_a_link_in_an_output_inside_the_input_leads_to_no_original(tmp_path: Path) -> None:
    write_grey(tmp_path / "in" / "deeper" / "a.png")
    (tmp_path / "in" / "out").mkdir()
    (tmp_path / "in" / "out" / "deeper").symlink_to(tmp_path / "in" / "deeper")
    with pytest.raises(UsageError, match=r"out/deeper/a\.png: this output is an input; .* never replaced"):
        make_plan([tmp_path / "in"], tmp_path / "in" / "out", existing=Existing.OVERWRITE)


@pytest.mark.usefixtures("plan")
def test_a_picture_beside_the_original_is_none(tmp_path: Path) -> None:
    write_grey(tmp_path / "in" / "A.PNG")
    write_grey(tmp_path / "in" / "A.png")  # another picture, where a disk tells capitals apart
    plan = make_plan([tmp_path / "in" / "A.PNG"], tmp_path / "in", suffix=".png", existing=Existing.OVERWRITE)
    assert [job.target for job in plan] == [tmp_path / "in" / "A.png"]


def test_an_output_below_a_file_is_said_in_dry_runs_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file" / "out", tmp_path / "file" / "out" / "a.png"):
        with pytest.raises(OutputError, match=r"/file: a file stands where the output folder should be"):
            check_output(output)


def test_a_folder_that_takes_no_file_is_said_before_anything_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OutputError, match=r"/out: Read-only file system; choose a folder that can be written"):
        prepare_output(tmp_path / "out" / "a.png")


def test_a_stop_while_a_model_loads_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), output_ready(tmp_path / "new" / "out"):
        raise KeyboardInterrupt
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("plan")
def test_a_plan_without_pictures_says_what_it_passed_over(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for name in ("a.txt", "b.zip", ".hidden.png"):
        (tmp_path / "none" / name).touch()
    with pytest.raises(NothingToDoError, match=r"/none: no pictures here \(2 passed over, such as a\.txt: not a"):
        make_plan([tmp_path / "none"], tmp_path / "out")


def test_a_folder_that_the_system_keeps_back_is_named_and_the_others_are_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> list[str]:
        if path.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listdir(path)

    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", refuse)
    (tmp_path / "in" / "closed").mkdir(parents=True)
    why = f"{tmp_path / 'in' / 'closed'}: cannot be read: Permission denied; check its permissions"
    with pytest.raises(NothingToDoError) as caught:
        make_plan([tmp_path / "in"], tmp_path / "out")
    assert str(caught.value).startswith(f"{why}; ")
    write_grey(tmp_path / "in" / "a.png")
    plan = make_plan([tmp_path / "in"], tmp_path / "out")
    assert (plan.num_jobs, plan.num_skipped_files, plan.unreadable) == (1, 0, (why,))


@pytest.mark.parametrize("quiet", [False, True])
def test_what_the_system_keeps_back_fails_the_run(
    plan: Plan, capsys: pytest.CaptureFixture[str], *, quiet: bool
) -> None:
    kept_back = dataclasses.replace(plan, unreadable=("in/closed: cannot be read",))
    with pytest.raises(typer.Exit) as left:
        Run(kept_back, json=True, quiet=quiet, verbose=False).conclude(iter(()), "restored", {})
    said = capsys.readouterr()
    assert left.value.exit_code == 1
    assert said.err.startswith("error: in/closed: cannot be read\n")
    assert json.loads(said.out)["unreadable"] == ["in/closed: cannot be read"]


def test_a_run_that_does_nothing_reports_nothing_but_why(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    def results() -> Iterator[FileResult]:
        if plan.num_jobs:
            raise OutputError("out: gone")
        yield from ()

    with pytest.raises(OutputError):
        Run(plan, json=True, quiet=False, verbose=False).conclude(results(), "restored", {})
    assert capsys.readouterr() == ("", "")
