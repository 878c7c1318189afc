"""What `restore denoise` and `restore deblur` have in common, as a person runs them."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from restore import inference, pipeline
from restore.cli import app, console, run
from restore.cli.restoring import Request
from restore.inference import Restorer
from restore.models import NAFNet, NAFNetConfig
from restore.models.nafnet import Stage
from restore.pipeline import FileOptions, FileResult
from restore.planning import Plan
from restore.sharding import Shard
from restore.types import Existing, FileStatus, Precision, Task
from restore.weights import save_weights

from .conftest import Restore, files_below, load_pixels, noisy_picture, one_line_error, save

SMALL = NAFNetConfig(4, (Stage(1),), Stage(1), (Stage(1),), stem=2)
OWN_OPTIONS = {Task.DENOISE: ["--sigma", "10"], Task.DEBLUR: ["--tlc", "off"]}


@pytest.fixture(params=list(Task), ids=str)
def task(request: pytest.FixtureRequest) -> Task:
    """Each of the commands that restore."""
    chosen: Task = request.param
    return chosen


@pytest.fixture
def weights(tmp_path: Path) -> dict[Task, Path]:
    """Weights for each task, which add 0.1 to a picture."""
    network = NAFNet(SMALL)
    with torch.no_grad():
        network.ending.weight.zero_()
        assert network.ending.bias is not None
        network.ending.bias.fill_(0.1)
    paths = {}
    for task in Task:
        paths[task] = tmp_path / f"brighten-{task}.safetensors"
        document = {"name": "brighten", "task": str(task), "architecture": "nafnet", "network": SMALL.as_dict()}
        save_weights(paths[task], network, document)
    return paths


def test_a_folder_is_mirrored_and_the_document_says_how(
    restore: Restore, photographs: Path, tmp_path: Path, weights: dict[Task, Path], task: Task
) -> None:
    finished = restore(task, "in", "out", "--model", weights[task], "--device", "cpu", "--json")
    assert finished.returncode == 0, finished.stderr
    assert files_below(tmp_path / "out") == {"a.png", "b.jpg", "deeper/c.png"}
    before, after = (load_pixels(folder / "a.png").astype(float) for folder in (photographs, tmp_path / "out"))
    np.testing.assert_allclose(after, (before + 25.5).clip(0, 255), atol=0.51)
    document = json.loads(finished.stdout)
    assert document["command"] == task
    assert document["model"]["name"] == "brighten"
    assert document["summary"]["done"] == 3
    name, value = {Task.DENOISE: ("sigma", None), Task.DEBLUR: ("tlc", False)}[task]
    settings = {"strength": 1.0, "precision": "fp32", "device": "cpu", "ensemble": 1}
    assert document["settings"] == settings | {name: value}
    assert "restored 3 photographs" in finished.stderr


def test_weights_for_another_task_are_named(
    restore: Restore, photographs: Path, tmp_path: Path, weights: dict[Task, Path], task: Task
) -> None:
    (other,) = set(Task) - {task}
    finished = restore(task, photographs, "out", "--model", weights[other])
    one_line_error(finished, 4, weights[other].name, f"expected weights to {task}, found weights to {other}")
    assert not list((tmp_path / "out").glob("**/*.*"))


def test_the_help_page_names_every_option(restore: Restore, task: Task) -> None:
    finished = restore(task, "--help", env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert finished.returncode == 0, finished.stderr
    arguments = {"inputs": "INPUT", "output": "OUTPUT"}
    for field in dataclasses.fields(Request):
        assert arguments.get(field.name, f"--{field.name.rstrip('_').replace('_', '-')}") in finished.stdout
    assert OWN_OPTIONS[task][0] in finished.stdout
    assert "originals are never replaced" in finished.stdout


def test_each_command_has_options_that_the_other_lacks(restore: Restore, photographs: Path, task: Task) -> None:
    (other,) = set(Task) - {task}
    one_line_error(restore(task, photographs, "out", *OWN_OPTIONS[other]), 2, OWN_OPTIONS[other][0])


def test_strength_blends_with_the_input(
    restore: Restore, photographs: Path, tmp_path: Path, weights: dict[Task, Path], task: Task
) -> None:
    before = load_pixels(photographs / "a.png").astype(float)
    for strength, added in ((0, 0.0), (0.5, 12.75)):
        options = ["--model", weights[task], "--strength", strength, "--overwrite", "-q"]
        assert restore(task, photographs / "a.png", "a.png", *options).returncode == 0
        np.testing.assert_allclose(load_pixels(tmp_path / "a.png"), (before + added).clip(0, 255), atol=0.51)


def test_a_dry_run_writes_nothing(restore: Restore, photographs: Path, tmp_path: Path, task: Task) -> None:
    finished = restore(task, photographs, "out", "--dry-run")
    assert (finished.returncode, finished.stderr.startswith("would restore 3 photographs")) == (0, True)
    assert not (tmp_path / "out").exists()
    blocked = restore(task, photographs, photographs / "a.png" / "out", "--dry-run")
    one_line_error(blocked, 5, "a.png: a file stands where the output folder should be")


def test_what_is_not_said_is_as_the_help_says(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[Task, Path], task: Task
) -> None:
    def restore_files(_plan: Plan, _restorer: object, **options: object) -> Iterator[FileResult]:
        asked.append(options)
        return iter(())

    asked: list[dict[str, object]] = []
    monkeypatch.setattr(pipeline, "restore_files", restore_files)
    found = CliRunner().invoke(app, [task, str(photographs), str(tmp_path / "out"), "--model", str(weights[task])])
    assert found.exit_code == 0, found.output
    assert asked[0].items() >= {"sigma": None, "strength": 1.0, "options": FileOptions(quality=95)}.items()
    if task is Task.DENOISE:  # --sigma is on 0–255, as papers state it, and the network's on 0–1
        words = ["denoise", str(photographs), str(tmp_path / "out"), "--model", "denoise-fast", "--sigma", "51"]
        assert CliRunner().invoke(app, words).exit_code == 0
        assert asked[1]["sigma"] == 0.2


def test_what_is_asked_for_reaches_the_run(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[Task, Path], task: Task
) -> None:
    def load(model: str, *, device: str, **options: Any) -> Restorer:
        assert device == "cpu"
        return load_as_asked(model, device=device, **options)

    def restore_files(_plan: Plan, restorer: Restorer, **options: object) -> Iterator[FileResult]:
        assert (restorer.precision, restorer.tile, restorer.ensemble) == (Precision.BF16, 512, 4)
        asked.append(options["options"])
        return iter(())

    asked: list[object] = []
    load_as_asked = inference.load
    monkeypatch.setattr(inference, "load", load)
    monkeypatch.setattr(pipeline, "restore_files", restore_files)
    words = [task, photographs, tmp_path / "out", "--model", weights[task], "--device", "cpu"]
    words += ["--precision", "bf16", "--tile", 512, "--ensemble", 4, "--quality", 80, "--max-pixels", 9000]
    words += ["--allow-truncated", "--strip-metadata"]
    found = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    assert asked == [FileOptions(quality=80, max_pixels=9000, allow_truncated=True, strip_metadata=True)]


def test_a_robot_gets_lines_and_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_err", Console(file=io.StringIO(), force_terminal=True))
    monkeypatch.setenv("TERM", "xterm")
    for stated, bars in (("", True), ("true", False)):
        monkeypatch.setenv("CI", stated)
        assert console.is_terminal() is bars


def test_originals_and_earlier_results_stay(
    restore: Restore, photographs: Path, tmp_path: Path, weights: dict[Task, Path], task: Task
) -> None:
    before = (photographs / "a.png").read_bytes()
    one_line_error(restore(task, "in/a.png", "in/a.png", "--overwrite"), 2, "originals are never replaced")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"precious")
    one_line_error(restore(task, "in", "out"), 2, "a.png exists already", "--skip-existing", "--overwrite")
    assert restore(task, "in", "out", "--model", weights[task], "--skip-existing", "-q").returncode == 0
    assert (tmp_path / "out" / "a.png").read_bytes() == b"precious"
    assert (photographs / "a.png").read_bytes() == before


def test_mistakes_have_their_code(restore: Restore, photographs: Path, weights: dict[Task, Path], task: Task) -> None:
    for option, value, code in (
        ("--strength", "2", 2),
        ("--tile", "12", 2),
        ("--tile", "big", 2),
        ("--ensemble", "3", 2),
        ("--precision", "int4", 2),
        ("--quality", "0", 2),
        ("--device", "tpu", 2),
        ("--model", "unheard-of", 4),
    ):
        one_line_error(restore(task, photographs, "out", "--model", weights[task], option, value), code)


def test_settings_are_refused_before_anything_is_made(
    restore: Restore, photographs: Path, tmp_path: Path, task: Task
) -> None:
    for option, value in (("--ensemble", "3"), ("--tile", "12")):
        one_line_error(restore(task, photographs, "out", "--dry-run", option, value), 2, value)
        one_line_error(restore(task, photographs, "out", option, value), 2, value)
    for option, value, code in (("--model", "unheard-of", 4), ("--device", "meta", 2)):
        one_line_error(restore(task, photographs, "out", "--dry-run", option, value), code, value)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_tells_of_the_same_run(restore: Restore, photographs: Path, task: Task) -> None:
    planned, done = (
        json.loads(restore(task, photographs, "out", "--json", *options).stdout) for options in (["--dry-run"], [])
    )
    assert planned["model"] == done["model"]
    assert planned["settings"] == done["settings"]
    assert [file["source"] for file in planned["files"]] == [file["source"] for file in done["files"]]


def test_what_is_named_twice_is_restored_once(
    restore: Restore, photographs: Path, tmp_path: Path, weights: dict[Task, Path], task: Task
) -> None:
    finished = restore(task, photographs, f"{photographs}/", "out", "--model", weights[task])
    assert "restored 3 photographs" in finished.stderr
    assert (tmp_path / "out" / "a.png").exists()
    (tmp_path / "link.png").symlink_to(photographs / "a.png")
    finished = restore(task, photographs / "a.png", "link.png", "both", "--model", weights[task])
    assert "restored 2 photographs" in finished.stderr  # a link has a name of its own


def test_a_model_that_is_refused_leaves_no_folder(
    restore: Restore, photographs: Path, tmp_path: Path, task: Task
) -> None:
    (tmp_path / "there").mkdir()
    for output in ("new/deeper", "there"):
        assert restore(task, "in", output, "--model", "no-such-model").returncode == 4
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["in", "there"]
    (tmp_path / "file").touch()
    refused = restore(task, photographs, "file/out", "--dry-run").stderr
    assert "file: a file stands where the output folder should be" in refused


def test_a_bad_file_costs_only_itself(
    restore: Restore, photographs: Path, tmp_path: Path, weights: dict[Task, Path], task: Task
) -> None:
    (photographs / "bad.png").write_bytes(b"")
    finished = restore(task, "in", "out", "--model", weights[task])
    assert finished.returncode == 1
    assert sum(line.startswith("error: ") and "bad.png" in line for line in finished.stderr.splitlines()) == 1
    assert (tmp_path / "out" / "a.png").exists()
    assert not (tmp_path / "out" / "bad.png").exists()


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], run.Run]:
    """Follow a run over so many pictures, with a line whenever there is progress."""
    monkeypatch.setattr(run, "SECONDS_BETWEEN_LINES", 0.0)

    def start(num_pictures: int) -> run.Run:
        plan = Plan((tmp_path,), (num_pictures * ["a.png"],), tmp_path / "out", None, Existing.REFUSE)
        return run.Run(plan, json=False, quiet=False, verbose=False)

    return start


def test_progress_within_a_picture_is_told_in_lines_off_a_terminal(
    follow: Callable[[int], run.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    following = follow(2)
    for num_done in (0.25, 1.0, 1.5, 1.2):  # the last one where a tile was too large for the memory
        following.show_progress(num_done)
    assert re.sub(r"[0-9]+:[0-9]+:[0-9]+", "TIME", capsys.readouterr().err).splitlines() == [
        "0 of 2 files and 25 % of the next, TIME left",
        "1 of 2 files, TIME left",
        "1 of 2 files and 50 % of the next, TIME left",
        "1 of 2 files and 50 % of the next, TIME left",
    ]


def test_shards_tell_their_progress_in_lines_even_on_a_terminal_that_they_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(console, "is_terminal", lambda: True)
    whole = Plan((tmp_path,), (["a.png"],), tmp_path / "out", None, Existing.REFUSE)
    for plan in (whole, dataclasses.replace(whole, shard=Shard(1, 4))):
        run.Run(plan, json=False, quiet=False, verbose=False).show_progress(0.5)
    (line,) = capsys.readouterr().err.splitlines()  # the whole has a bar
    assert line.startswith("0 of 1 files of shard 1/4 and 50 % of the next, ")


def test_skipped_pictures_do_not_shorten_the_time_left(
    follow: Callable[[int], run.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    following = follow(1000)
    following.counts[FileStatus.SKIPPED] = 499  # the 500th is reported after the work on the next has begun
    following.started -= 10
    following.show_progress(500.1)  # a tenth of a picture in ten seconds
    assert "13:53:" in capsys.readouterr().err


def test_pictures_of_one_tile_count_as_work(
    follow: Callable[[int], run.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    following = follow(8)
    following.started -= 40

    def results() -> Iterator[FileResult]:
        for number in range(5):
            status = FileStatus.SKIPPED if number == 0 else FileStatus.DONE
            yield FileResult(tmp_path / "a.png", tmp_path / "out", status, width=1000, height=1000)
        following.show_progress(5.5)  # the sixth has several tiles
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        following.conclude(results(), "restored", {})
    lines = [line for line in capsys.readouterr().err.splitlines() if "of the next" in line]
    assert lines == ["5 of 8 files and 50 % of the next, 0.11 images/s, 0:00:22 left"]


def test_results_that_come_late_do_not_slow_the_pace(
    follow: Callable[[int], run.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    following = follow(5)
    following.show_progress(0.5)
    following.started -= 30
    for num_done in (1.5, 3.0):  # the first result is reported when the work on the third picture has begun
        following.show_progress(num_done)
    following.pixels = 10**6
    following.show_progress(3.0)
    assert capsys.readouterr().err.splitlines()[-1] == "3 of 5 files, 0.10 images/s, 0:00:20 left"


def test_shards_make_a_folder_together_and_each_counts_its_own(
    restore: Restore, photographs: Path, tmp_path: Path, weights: dict[Task, Path], task: Task
) -> None:
    done = []
    for index in range(3):
        finished = restore(task, "in", "out", "--model", weights[task], "--shard", f"{index}/3", "--json")
        assert finished.returncode == 0, finished.stderr
        document = json.loads(finished.stdout)
        assert document["shard"] == f"{index}/3"
        names = [Path(file["source"]).relative_to("in").as_posix() for file in document["files"]]
        assert re.match(rf"restored {len(names)} photographs? of shard {index}/3", finished.stderr)
        assert document["summary"]["done"] == len(names)
        done += names
    assert set(done) == files_below(tmp_path / "out") == files_below(photographs)
    assert len(done) == 3
    finished = restore(task, "in", "out", "--model", weights[task], "--skip-existing", "--json")
    assert json.loads(finished.stdout)["summary"]["skipped"] == 3  # records of all shards are found
    assert json.loads(finished.stdout)["shard"] == "0/1"


def test_a_shard_meets_what_concerns_its_own_files_alone(
    restore: Restore, photographs: Path, tmp_path: Path, weights: dict[Task, Path], task: Task
) -> None:
    shard = [("--model", weights[task], "--shard", f"{index}/2") for index in range(2)]
    (own,) = [index for index in range(2) if Shard(index, 2).holds("a.png")]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"precious")
    one_line_error(restore(task, "in", "out", *shard[own]), 2, "a.png exists already")
    assert restore(task, "in", "out", *shard[1 - own]).returncode == 0
    assert (tmp_path / "out" / "a.png").read_bytes() == b"precious"
    save(photographs / "a.jpg", noisy_picture(4))  # whichever shard it falls to, both see that there are two for one
    for options in shard:
        finished = restore(task, "in", "png", "--format", "png", *options)
        one_line_error(finished, 2, "a.jpg", "a.png", "would both become")


def test_a_shard_without_files_is_done(
    restore: Restore, photographs: Path, tmp_path: Path, weights: dict[Task, Path], task: Task
) -> None:
    (other,) = [index for index in range(2) if not Shard(index, 2).holds("a.png")]
    options = ["--model", weights[task], "--shard", f"{other}/2"]
    finished = restore(task, photographs / "a.png", "out", *options)
    assert (finished.returncode, finished.stderr[: finished.stderr.find("→")]) == (
        0,
        f"restored 0 photographs of shard {other}/2 ",
    )
    (tmp_path / "empty").mkdir()
    one_line_error(restore(task, "empty", "out", *options), 3, "no pictures here")


def test_the_starter_of_processes_says_which_shard(
    restore: Restore, photographs: Path, weights: dict[Task, Path], task: Task
) -> None:
    options = [photographs, "out", "--model", weights[task], "--shard", "auto", "--dry-run"]
    finished = restore(task, *options, env={"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"})
    assert re.match(r"would restore \d photographs? of shard 1/2", finished.stderr), finished.stderr
    nobody = dict.fromkeys(("RANK", "SLURM_PROCID"), "")
    one_line_error(restore(task, *options, env=nobody), 2, "shard auto: neither RANK and WORLD_SIZE")
