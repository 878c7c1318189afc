"""`restore train` as a person runs it: what it leaves, how it stops, and what it says when something is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from restore import atomic, config, data, inference, training
from restore.cli import app
from restore.cli.pack import _packed
from restore.cli.train import _completed, _config_of
from restore.cli.watching import TrainingDisplay
from restore.config import Budget, TrainConfig, load_config
from restore.data import packing
from restore.errors import UsageError
from restore.models import NAFNet
from restore.types import RECIPES
from restore.weights import load_weights, save_weights
from tests.cli.conftest import Restore, files_below, noisy_picture, save

RECIPE = """
name = "small"
patches = [{ start = 0.0, size = 16, batch_size = 2 }]
budget = { steps = 6 }
precision = "fp32"

[network]
width = 8
encoder = [{ num_blocks = 1 }]
middle = { num_blocks = 1 }
decoder = [{ num_blocks = 1 }]
stem = 2
[[degradations]]
steps = [{ kind = "gaussian-noise", sigma = [0, 50] }]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


def start(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "restore", "train", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(happened: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def weights_of(run: Path) -> dict[str, Tensor]:
    return load_weights(run / "last.safetensors")[0].state_dict()


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def is_one_line(process: subprocess.CompletedProcess[str], code: int, *words: str) -> bool:
    lines = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert process.returncode == code, process.stderr
    assert "Traceback" not in process.stderr
    assert len(lines) == 1, process.stderr
    assert all(word in lines[0] for word in words), lines[0]
    return True


def test_a_run_is_ready_for_denoise(restore: Restore, recipe: Path, photographs: Path, tmp_path: Path) -> None:
    trained = restore("train", recipe, photographs, "--out", "run")
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.strip() == "run/best.safetensors"
    assert "validation" in trained.stderr
    assert restore("denoise", photographs, "out", "--model", "run").returncode == 0
    assert len(files_below(tmp_path / "out")) == 3


def test_show_prints_a_recipe_that_trains(restore: Restore, recipe: Path, tmp_path: Path) -> None:
    shown = restore("train", recipe, "--set", "optimiser.lr=0.5", "--show")
    assert shown.returncode == 0
    assert 'kind = "muon", lr = 0.5' in shown.stdout
    (tmp_path / "shown.toml").write_text(shown.stdout)
    assert restore("train", "shown.toml", "--show").stdout == shown.stdout


def test_a_pack_trains_like_its_folder(restore: Restore, recipe: Path, photographs: Path, tmp_path: Path) -> None:
    packed = restore("train", "pack", photographs, "--out", "pack.tar", "--max-mb", "1")
    assert packed.returncode == 0, packed.stderr
    assert "3 pictures" in packed.stderr
    for source, run in ((photographs, "one"), ("pack.tar", "other")):
        assert restore("train", recipe, source, "--out", run).returncode == 0
    assert equal(weights_of(tmp_path / "one"), weights_of(tmp_path / "other"))


def test_what_is_asked_for_reaches_the_run(recipe: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(config: TrainConfig, _material: object, run_dir: Path, **options: Any) -> Path:
        assert config.budget == Budget(minutes=7)
        assert options.items() >= {"device": torch.device("meta"), "init": "denoise-fast", "resume": True}.items()
        asked.append(run_dir)
        return run_dir / "best.safetensors"

    asked: list[object] = []
    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(inference, "find_device", torch.device)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    run = recipe.parent / "run"
    words = [recipe, photographs, "--out", run, "--resume", "--init", "denoise-fast", "--device", "meta"]
    words += ["--max-minutes", 7, "--threads", 3]
    found = CliRunner().invoke(app, ["train", *map(str, words)], catch_exceptions=False)
    assert (found.exit_code, asked) == (0, [3, run])
    assert "--init counts only" not in found.output  # since the run starts


def test_a_pack_is_as_large_as_asked_for_and_quiet_if_asked(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack(folder: Path, out: Path, *, max_bytes: int, **options: Any) -> data.PackReport:
        asked.append(max_bytes)
        return packing.pack(folder, out, max_bytes=max_bytes, **options)

    asked: list[int] = []
    monkeypatch.setattr(data, "pack", pack)
    for options, said in (([], "packed 3 pictures into 0.0 MB without loss\n"), (["--max-mb", "0.7", "-q"], "")):
        out = tmp_path / f"{len(options)}.tar"
        found = CliRunner().invoke(app, ["train", "pack", str(photographs), "--out", str(out), *options])
        assert found.output == f"{said}{out}\n"
    assert asked == [60_000_000, 700_000]


def test_a_pack_says_what_became_of_the_pictures(tmp_path: Path) -> None:
    report = data.PackReport(tmp_path, 1, 2_300_000, 100, None, (), (), 0)
    assert _packed(report) == "packed 1 picture into 2.3 MB without loss"
    whole = dataclasses.replace(report, num_rounded=2)
    assert _packed(whole).endswith("without loss (2 pictures of floats rounded to 16 bits of 0 to 1)")
    cut = dataclasses.replace(whole, quality=90, crop=512, skipped=(("a.png", "empty"), ("b", "closed")))
    assert _packed(cut).endswith("at JPEG quality 90, cut to 512 pixels; left out a.png: empty; left out b: closed")


def test_a_pack_needs_a_folder_to_lie_in(restore: Restore, photographs: Path) -> None:
    refused = restore("train", "pack", photographs, "--out", "missing/pack.tar")
    assert is_one_line(refused, 5, "missing: no such folder")


def test_originals_are_safe_from_packs_and_runs(restore: Restore, recipe: Path, photographs: Path) -> None:
    before = (photographs / "a.png").read_bytes()
    assert is_one_line(restore("train", "pack", photographs, "--out", photographs / "a.png"), 2, "a.tar")
    assert restore("train", "pack", photographs, "--out", "pack.tar").returncode == 0
    assert is_one_line(restore("train", "pack", photographs, "--out", "pack.tar"), 2, "exists")
    for out in (photographs, photographs / "run"):
        assert is_one_line(restore("train", recipe, photographs, "--out", out), 2, "another folder")
        pairs = ("--degraded", photographs.parent / "other", "--reference", photographs)
        assert is_one_line(restore("train", recipe, "--out", out, *pairs), 2, "another folder")
    assert (photographs / "a.png").read_bytes() == before


def test_pairs_train_and_those_that_do_not_match_are_named(
    restore: Restore, recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    pairs = ("--degraded", photographs, "--reference", photographs)
    assert restore("train", recipe, "--out", "run", *pairs).returncode == 0
    (tmp_path / "other").mkdir()
    save(tmp_path / "other" / "a.png", noisy_picture(0))
    lonely = restore("train", recipe, "--out", "r2", "--degraded", photographs, "--reference", tmp_path / "other")
    assert is_one_line(lonely, 2, "b")
    save(photographs / "a.png", noisy_picture(0, height=20))
    for name in ("b.jpg", "deeper/c.png"):
        (photographs / name).unlink()
    differs = restore("train", recipe, "--out", "r3", "--degraded", photographs, "--reference", tmp_path / "other")
    assert is_one_line(differs, 2, "a.png")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_is_saved_and_resumes_to_the_bit(  # noqa: PLR0917  fixtures
    restore: Restore, recipe: Path, photographs: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    options = ("--max-steps", "600", "--threads", "1")
    process = start(recipe, photographs, "--out", "run", *options, cwd=tmp_path)
    wait_for((tmp_path / "run" / "log.jsonl").exists)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "--resume" in said
    steps = load_weights(tmp_path / "run")[1].document["training"]["steps"]
    assert steps < 600
    assert restore("train", recipe, photographs, "--out", "run", *options, "--resume").returncode == 0
    assert restore("train", recipe, photographs, "--out", "whole", *options).returncode == 0
    assert equal(weights_of(tmp_path / "run"), weights_of(tmp_path / "whole"))


def test_a_killed_run_loses_one_interval_and_resumes_to_the_bit(
    restore: Restore, recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    options = ("--max-steps", "400", "--threads", "1", "--set", "checkpoint.minutes=0.005")
    process = start(recipe, photographs, "--out", "run", *options, cwd=tmp_path)
    wait_for(lambda: len(list((tmp_path / "run").glob("checkpoint-*.pt"))) > 1)
    process.kill()
    process.communicate()
    newest = max((tmp_path / "run").glob("checkpoint-*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])  # as if killed by a file system that forgets
    left = tmp_path / "run" / partial_name(process.pid)  # and while saving
    left.write_bytes(b"half")
    resumed = restore("train", recipe, photographs, "--out", "run", *options, "--resume")
    assert resumed.returncode == 0
    assert f"warning: run/{newest.name}: damaged" in resumed.stderr
    assert restore("train", recipe, photographs, "--out", "whole", *options).returncode == 0
    assert equal(weights_of(tmp_path / "run"), weights_of(tmp_path / "whole"))
    assert not left.exists()


def partial_name(pid: int) -> str:
    """The name of a file that a process is writing."""
    return f".restore-{atomic._HOST}-{pid}-0123abcd.partial"


def test_a_run_is_not_overwritten_nor_changed(restore: Restore, recipe: Path, photographs: Path) -> None:
    run = ("train", recipe, photographs, "--out", "run")
    assert restore(*run).returncode == 0
    assert is_one_line(restore(*run), 2, "--resume")
    assert is_one_line(restore(*run, "--resume", "--set", "seed=4"), 2, "seed was 0 and is 4")
    assert is_one_line(restore(*run, "--resume", "--processes", "2"), 2, "1 process(es)")


def test_a_run_knows_its_recipe_and_data(restore: Restore, recipe: Path, photographs: Path, tmp_path: Path) -> None:
    stable = ("--set", "schedule={kind='stable-decay'}")
    pairs = ("--degraded", photographs.name, "--reference", photographs.name)
    assert restore("train", recipe, "--out", "run", *pairs, *stable, "--max-steps", "8").returncode == 0
    recipe.unlink()
    assert 'kind = "stable-decay"' in restore("train", "--resume", "--out", "run", "--show").stdout
    longer = restore("train", "--resume", "--out", "run", "--max-steps", "16")
    assert longer.returncode == 0, longer.stderr
    assert "training from step 6 on 3 pictures" in longer.stderr
    assert load_weights(tmp_path / "run" / "last.safetensors")[1].document["training"]["steps"] == 16
    assert is_one_line(restore("train", "--resume", "--out", "run", "--set", "seed=4"), 2, "seed was 0 and is 4")
    assert is_one_line(restore("train", "--resume", "--out", "other"), 2, "other", "RECIPE")
    for words in (("--resume",), ("run", "--resume"), (tmp_path / "run", "--resume")):
        assert is_one_line(restore("train", *words), 2, "--resume --out RUN")
    assert is_one_line(restore("train", "--out", "other"), 2, "denoise-fast")
    (photographs / "a.png").unlink()
    moved = restore("train", "--resume", "--out", "run", "--degraded", photographs, "--reference", tmp_path / "none")
    assert is_one_line(moved, 2, "none")


def test_data_that_a_resumed_run_is_not_told_again_stays_what_it_was(
    restore: Restore, recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    def sources() -> dict[str, str]:
        found: dict[str, str] = json.loads((tmp_path / "run" / "data.json").read_text())
        return {name: Path(path).name for name, path in found.items()}

    for name in ("apart", "other"):
        shutil.copytree(photographs, tmp_path / name)
    run = ("train", recipe, photographs, "--out", "run", "--set", "schedule={kind='stable-decay'}")
    both = {"clean": photographs.name, "validation": "apart"}
    assert restore(*run, "--validation", "apart", "--max-steps", "4").returncode == 0
    assert sources() == both
    assert restore(*run, "--resume", "--max-steps", "6").returncode == 0
    assert sources() == both
    told = restore("train", "--resume", "--out", "run", "--validation", "other", "--max-steps", "8")
    assert told.returncode == 0, told.stderr
    assert sources() == both | {"validation": "other"}


def test_data_that_has_moved_is_named_anew(restore: Restore, recipe: Path, photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs, tmp_path / "apart")
    run = ("--resume", "--out", "run")
    assert restore("train", recipe, photographs, *run, "--validation", "apart").returncode == 0
    moved = (
        photographs.rename(tmp_path / "moved"),
        "--validation",
        (tmp_path / "apart").rename(tmp_path / "elsewhere"),
    )
    gone = restore("train", *run)
    assert is_one_line(gone, 2, str(photographs), "restore train run/config.toml DATA --resume --out run")
    gone = restore("train", "run/config.toml", moved[0], *run)
    assert is_one_line(gone, 2, str(tmp_path / "apart"), "--validation FOLDER --resume --out run")
    assert restore("train", "run/config.toml", *moved, *run).returncode == 0


def test_numbers_that_are_not_finite_are_shown(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    display = TrainingDisplay(load_config(recipe), tmp_path, seeks_run=False, quiet=False)
    at = {"step": 3, "minutes": 0.1, "progress": 0.5}
    display.show({"event": "progress", "loss": None, "lr": 0.1, "images_per_second": 5.0, **at})
    nothing = {"validation_psnr_db": None, "validation_gain_db": None}
    display.show({"event": "checkpoint", **nothing, "bad_pictures": [], **at})
    said = capsys.readouterr().err
    assert "loss nan" in said
    assert "validation nan dB" in said


def test_resuming_says_whether_there_is_something_to_resume(restore: Restore, recipe: Path, photographs: Path) -> None:
    run = ("train", recipe, photographs, "--out", "run", "--resume")
    started = restore(*run)
    assert started.returncode == 0
    assert started.stderr.count("run holds no run yet: starting a new one") == 1
    finished = restore(*run)
    assert finished.returncode == 0
    assert finished.stdout == started.stdout
    said = finished.stderr.splitlines()
    assert len(said) == 1, said
    assert all(word in said[0] for word in ("finished (6 steps", "dB PSNR", "run/best.safetensors", "--init run"))
    assert restore(*run, "--quiet").stderr == ""
    assert "--init counts only where a run starts" in restore(*run, "--init", "run").stderr
    stable = (*run[:-2], "stable", "--set", "schedule={kind='stable-decay'}")
    assert restore(*stable).returncode == 0
    assert "a larger --max-steps goes on from 75% of it" in restore(*stable, "--resume").stderr


def test_a_run_whose_recipe_or_data_are_lost_says_how_to_go_on(
    restore: Restore, recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    assert restore("train", recipe, photographs, "--out", "run").returncode == 0
    (tmp_path / "run" / "config.toml").write_text("")
    lost = restore("train", "--resume", "--out", "run")
    assert is_one_line(lost, 2, "run/config.toml", "restore train RECIPE --resume --out run")
    assert restore("train", recipe, "--resume", "--out", "run").returncode == 0
    (tmp_path / "run" / "config.toml").write_text(recipe.read_text())
    (tmp_path / "run" / "data.json").unlink()
    lost = restore("train", "--resume", "--out", "run")
    assert is_one_line(lost, 2, "restore train run/config.toml DATA --resume --out run")


def test_the_recipe_is_asked_for_only_where_the_one_that_a_run_kept_is_damaged(tmp_path: Path) -> None:
    kept = tmp_path / "config.toml"
    kept.touch()
    for settings, is_told in (((), True), (("seed=4",), False)):  # then the setting may be wrong
        with pytest.raises(UsageError) as refused:
            _config_of(kept, settings, None, tmp_path)
        assert ("name the recipe that the run began with" in str(refused.value)) is is_told
    named = CliRunner().invoke(app, ["train", str(kept), "--out", str(tmp_path), "--show"]).exception
    assert isinstance(named, UsageError)
    assert "name the recipe" not in str(named)


def test_data_of_the_other_kind_takes_the_place_of_all_that_a_run_had(tmp_path: Path) -> None:
    photographs = {"clean": Path("photographs"), "validation": Path("apart")}
    pairs = {"degraded": Path("bad"), "reference": Path("good")}
    assert _completed(pairs, photographs, tmp_path) == pairs
    assert _completed(photographs, pairs, tmp_path) == photographs


def test_another_recipe_for_a_run_is_told_in_brief(restore: Restore, recipe: Path, photographs: Path) -> None:
    assert restore("train", recipe, photographs, "--out", "run").returncode == 0
    for given, told in (
        (["denoise-lka"], "another recipe (small, not denoise-lka)"),
        ([recipe, "--set", "network.width=9", "--set", "seed=9"], "network.width was 8 and is 9; seed was "),
        ([recipe, "--max-steps", "9"], "began with (budget.steps was 6 and is 9); leave that as it was, or go on in a"),
    ):
        refused = restore("train", *given, "--resume", "--out", "run").stderr
        assert told in refused
        assert len(refused) < 300


def test_the_help_names_every_recipe(restore: Restore) -> None:
    shown = restore("train", "run", "--help").stdout
    shipped = {path.stem for path in (Path(config.__file__).parent / "recipes").glob("*.toml")}
    assert shipped == set(RECIPES)
    assert all(f"{name}," in shown or f"{name})" in shown for name in RECIPES)


def test_a_loss_that_diverges_stops_with_its_code_and_keeps_nothing_bad(
    restore: Restore, recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    wild = ("--set", "optimiser.kind=adam", "--set", "optimiser.lr=1e30", "--set", "schedule.kind=constant")
    diverged = restore("train", recipe, photographs, "--out", "run", *wild)
    assert is_one_line(diverged, 7, "optimiser.lr")
    assert not list((tmp_path / "run").glob("*.safetensors"))
    remedy = ("--resume", "--set", "on_divergence=rewind")
    assert f"repeat the command with {' '.join(remedy)}" in diverged.stderr
    rewinds = restore("train", recipe, photographs, "--out", "run", *wild, *remedy)
    assert is_one_line(rewinds, 7)
    assert "diverged; back to step 0" in rewinds.stderr


class Malicious:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch executed",)


def test_weights_to_start_from_are_refused_unless_they_are_sound(
    restore: Restore, recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    network = NAFNet(load_config(recipe).network)
    document = {"task": "denoise", "architecture": "nafnet", "network": network.config.as_dict()}
    save_weights(tmp_path / "good.safetensors", network, document)
    good = (tmp_path / "good.safetensors").read_bytes()
    published = NAFNet(dataclasses.replace(network.config, stem=1))
    torch.save({"params": published.state_dict()}, tmp_path / "official.pth")
    (tmp_path / "folder").mkdir()
    bad = {
        "pickle.pth": pickle.dumps(Malicious()),
        "truncated.safetensors": good[: len(good) // 2],
        "empty.safetensors": b"",
        "garbage.safetensors": b"x" * 500,
        "flipped.safetensors": good[:-5] + bytes([good[-5] ^ 1]) + good[-4:],
        "lying.safetensors": (2**40).to_bytes(8, "little") + good[8:],
        "newer.safetensors": good.replace(b'\\"format_version\\": 1', b'\\"format_version\\": 9'),
    }
    assert bad["newer.safetensors"] != good
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)

    def start_from(init: str, *settings: str) -> subprocess.CompletedProcess[str]:
        return restore("train", recipe, photographs, "--out", f"run-{len(init)}", "--init", init, *settings)

    for name in (*bad, "missing.safetensors", "folder", "https://example.org/weights.pth"):
        assert is_one_line(start_from(name), 4, name)
    assert is_one_line(start_from("good.safetensors", "--set", "network.width=12"), 4, "another network")
    assert not (tmp_path / "executed").exists()
    assert start_from("good.safetensors").returncode == 0
    assert start_from("official.pth", "--set", "network.stem=1").returncode == 0


def test_corrupt_pictures_are_passed_over_and_too_many_stop(restore: Restore, recipe: Path, photographs: Path) -> None:
    (photographs / "broken.png").write_bytes((photographs / "a.png").read_bytes()[:60])
    trained = restore("train", recipe, photographs, "--out", "run", "--max-steps", "40")
    assert trained.returncode == 0
    assert trained.stderr.count("warning: left out:") == 1
    assert "broken.png" in trained.stderr
    for index in range(6):
        (photographs / f"broken{index}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    stopped = restore("train", recipe, photographs, "--out", "r2", "--max-steps", "200")
    assert is_one_line(stopped, 3, "broken")


def test_validation_may_have_its_own_folder(restore: Restore, recipe: Path, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "validation").mkdir()
    save(tmp_path / "validation" / "v.png", noisy_picture(5))
    trained = restore("train", recipe, photographs, "--out", "run", "--validation", "validation")
    assert "on 3 pictures, validating on 1, in" in trained.stderr
    assert "of held-out pictures" in (tmp_path / "run" / "card.md").read_text()
    shared = restore("train", recipe, photographs, "--out", "shared")
    assert "on 3 pictures, validating on 1 of them, since they are few, in" in shared.stderr
    assert "of pictures that were trained on, too" in (tmp_path / "shared" / "card.md").read_text()


def test_a_loss_may_have_a_perceptual_term(restore: Restore, recipe: Path, photographs: Path, shared: Path) -> None:
    terms = ("--set", "loss.lpips=0.1", "--set", "loss.lpips_net=squeeze", "--set", "loss.fft=0.05")
    larger = ("--set", "patches=[{start=0, size=32, batch_size=1}]", "--max-steps", "2")
    run = ("train", recipe, photographs, "--out", "run", *terms, *larger)
    assert is_one_line(
        restore(*run, env={"RESTORE_WEIGHTS": str(photographs)}), 4, "restore models fetch lpips-squeeze"
    )
    assert restore(*run, "--resume", env={"RESTORE_WEIGHTS": str(shared / "weights")}).returncode == 0


def test_pictures_smaller_than_the_patch_are_mirrored(restore: Restore, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    save(tmp_path / "tiny" / "a.png", noisy_picture(0, height=3, width=5))
    assert restore("train", recipe, "tiny", "--out", "run").returncode == 0


def test_nothing_to_train_on(restore: Restore, recipe: Path, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert is_one_line(restore("train", recipe, "empty", "--out", "run"), 3, "empty")
    assert is_one_line(restore("train", recipe, "missing", "--out", "run"), 2, "missing")
    assert is_one_line(restore("train", recipe, "--out", "run"), 2, "--degraded")
    assert is_one_line(restore("train", recipe, photographs), 2, "--out RUN")
    assert is_one_line(restore("train", "small", photographs, "--out", "run"), 2, "recipe")
    assert is_one_line(
        restore("train", recipe, photographs, "--out", "run", "--max-minutes", "1", "--max-steps", "1"), 2
    )


def test_a_device_that_is_missing(restore: Restore, recipe: Path, photographs: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    assert is_one_line(restore("train", recipe, photographs, "--out", "run", "--device", "cuda"), 6, "device cpu")


def test_a_folder_that_cannot_be_written(restore: Restore, recipe: Path, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert is_one_line(restore("train", recipe, photographs, "--out", "file/run"), 5, "--out")


def children_of(pid: int) -> list[int]:
    """The processes below one, by Linux's own list."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *children_of(int(child))]
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's list of processes")


@needs_proc
def test_a_killed_worker_is_named(recipe: Path, photographs: Path, tmp_path: Path) -> None:
    options = ("--max-steps", "100000", "--set", "data.workers=1")
    process = start(recipe, photographs, "--out", "run", *options, cwd=tmp_path)
    wait_for((tmp_path / "run" / "log.jsonl").exists)

    def kill_worker() -> bool:
        for child in children_of(process.pid):
            if "resource_tracker" not in Path(f"/proc/{child}/cmdline").read_text():
                os.kill(child, signal.SIGKILL)
        return process.poll() is not None

    wait_for(kill_worker)
    _, said = process.communicate(timeout=60)
    assert process.returncode not in (0, 70), said
    assert "Traceback" not in said
    assert "workers" in said


def test_two_processes_equal_one_with_twice_the_passes(
    restore: Restore, recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    two = restore("train", recipe, photographs, "--out", "two", "--processes", "2")
    assert two.returncode == 0, two.stderr
    assert two.stdout.strip() == "two/best.safetensors"
    one = restore("train", recipe, photographs, "--out", "one", "--threads", "1", "--set", "optimiser.accumulation=2")
    assert one.returncode == 0, one.stderr
    for ours, theirs in zip(weights_of(tmp_path / "one").values(), weights_of(tmp_path / "two").values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_team_ends_together(recipe: Path, photographs: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = start(recipe, photographs, "--out", "run", "--max-steps", "100000", "--processes", "2", cwd=tmp_path)
    wait_for((tmp_path / "run" / "log.jsonl").exists)
    team = children_of(process.pid)
    ranks = [pid for pid in team if b"restore" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(ranks) == 2
    os.kill(ranks[1] if number == signal.SIGKILL else process.pid, number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 if number == signal.SIGINT else process.returncode not in (0, 70), said
    assert not [pid for pid in team if Path(f"/proc/{pid}").exists()]
    assert "torch" not in said  # whose own words mean nothing to a person
    if number == signal.SIGINT:
        assert list((tmp_path / "run").glob("checkpoint-*.pt"))


def test_the_log_is_json(restore: Restore, recipe: Path, photographs: Path, tmp_path: Path) -> None:
    assert restore("train", recipe, photographs, "--out", "run").returncode == 0
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert events == ["start", "checkpoint"]
