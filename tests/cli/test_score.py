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
import tifffile
import torch
from PIL import Image

from restore import reports
from restore.cli import score_options
from restore.cli.score import score as score_command
from restore.errors import OutputError
from restore.metrics import FidStatistics
from restore.scoring import Measures
from tests.cli.conftest import Restore, run_command


def score(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_command(["score", *map(str, arguments)])


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
    cells = next(line for line in lines if line.startswith("PSNR dB ↑")).split()[3:7]
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
    assert "metrics psnr ssim; channel rgb; crop_border 0; alpha ignore" in text
    assert "(UTC), restore " in text
    assert "opencv" in text


def test_quiet_prints_errors_and_the_json_that_is_asked_for(folders: tuple[Path, Path]) -> None:
    done = score(*folders, "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads(score(*folders, "-q", "--json").stdout)["metrics"]
    failed = score(*folders, "-q", "--fail-under", "psnr=90")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert " dB, below the limit" in failed.stderr


def test_json_is_the_same_twice_and_finite(folders: tuple[Path, Path]) -> None:
    reference, restored = folders
    write(restored / "set/1.tif", picture(1))
    first = score(reference, restored, "--json")
    assert first.returncode == 0
    assert first.stdout == score(reference, restored, "--json").stdout
    assert "NaN" not in first.stdout
    assert "Infinity" not in first.stdout
    document = json.loads(first.stdout)
    assert document["schema_version"] == 2
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
        "n/a",
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
        (("ref", "ref", "--metrics", "psnr,niqe"), 2, "unknown metric 'niqe'; there are psnr, ssim"),
        (("ref", "ref", "--metrics", "sism"), 2, "did you mean ssim?"),
        (("ref", "out", "missing"), 2, "missing: no such file or folder"),
        (("ref", "out", "out"), 2, "stands there twice"),
        (("ref", "out", "--combine", "psnr*ssim"), 2, "no number times one metric"),
        (("ref", "out", "--fail-under", "psnr"), 2, "write NAME=NUMBER"),
        (("ref", "out", "--fail-under", "psnr=nan"), 2, "is compared with a number"),
        (("ref", "out", "--fail-under", "lpips=0.1"), 2, "is not measured; choose from psnr, ssim"),
        (("ref", "out", "--alpha", "mauve"), 2, "choose ignore, white, black, grey or #rrggbb"),
        (("ref", "out", "--save-statistics", "s.npz"), 2, "call it s.safetensors"),
        (("ref", "out", "--html", "no-such-folder/r.html"), 5, "its folder is missing"),
        (("ref", "out", "--fid-weights", "no-such-file", "--metrics", "fid"), 4, "no-such-file: no such file"),
        (("ref", "out", "--fid-weights", "no-such-file"), 2, "the FID is not asked for; add fid to --metrics"),
        (("ref", "out", "--metrics", "psnr,"), 2, "--metrics psnr,: a name is empty"),
        (("ref", "out", "--combine", " "), 2, "it names no metric"),
        (("ref", "out", "--fail-under", "psnr=9", "--fail-under", "PSNR=3"), 2, "has the limit 9 already"),
        (("ref", "out", "empty"), 3, "empty: no pictures"),
        (("ref", "out", "--csv", "ref"), 5, "is a folder"),
        (("ref", "out", "--csv", "new.heic"), 2, "a report under the name of a picture"),
        (("ref", "out", "--csv", "new.txt", "--html", "./new.txt"), 2, "two reports in one file"),
        (("stats", "out", "--csv", "new.safetensors"), 2, "the name of statistics"),
        (("stats", "stats", "--save-statistics", "stats/0.safetensors"), 2, "is an input"),
        (("stats", "out", "--combine", "psnr"), 2, "saved statistics serve fid alone"),
        (("stats", "out", "--metrics", "psnr,fid"), 2, "saved statistics serve fid alone"),
        (("stats", "out", "--fail-under", "psnr=30"), 2, "is not measured; choose from fid"),
        (("ref", "out", "--save-statistics", "new.safetensors", "--weights-dir", "none"), 2, "there will be none"),
        (("ref", "twice"), 2, "the same name but for the extension"),
        (("ref", "out", "same"), 2, "stands there twice"),
        (("ref", "out", "--combine", "psnr+1e999"), 2, "it adds inf"),
        (("ref", "a" * 300), 2, "a" * 300),
    ],
)
def test_refusals(folders: tuple[Path, Path], arguments: tuple[str, ...], code: int, message: str) -> None:
    root = folders[0].parent
    (root / "empty").mkdir()
    write(root / "twice/x.png", picture(0))
    write(root / "twice/x.jpg", picture(0))
    (root / "stats").mkdir()
    FidStatistics.empty(4).save(root / "stats/0.safetensors")
    (root / "same").symlink_to(root / "out")
    there = {"ref", "out", "empty", "twice", "missing", "stats", "same"}
    done = score(*(root / word if word.split("/")[0] in there else word for word in arguments))
    assert done.returncode == code
    assert not Path("new.safetensors").exists()
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_help_says_what_it_does() -> None:
    done = score("--help")
    assert done.returncode == 0
    assert "--allow-missing" in done.stdout


def scored(folder: Path, name: str, *pixels: Any) -> None:
    for side, values in zip(("ref", "out"), pixels, strict=True):
        write(folder / side / f"{name}.png", values)


@pytest.fixture
def no_weights(tmp_path: Path) -> tuple[object, ...]:
    return ("--weights-dir", tmp_path / "no-weights")


def test_depths_and_channels_are_converted_as_documented_or_refused(tmp_path: Path) -> None:  # fault 82
    pixels = picture(0)
    scored(tmp_path, "depth", pixels, pixels)
    (tmp_path / "out/depth.png").unlink()
    tifffile.imwrite(tmp_path / "out/depth.tif", pixels.astype(np.uint16) * 257, photometric="rgb")
    scored(tmp_path, "grey", pixels, picture(1, (24, 31)))
    done = score(tmp_path / "ref", tmp_path / "out", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert [(pair["name"], pair["identical"], pair["kind"]) for pair in document["pairs"]] == [
        ("depth", True, "RGB, 8 bit against 16 bit")
    ]
    assert [failure["name"] for failure in document["failures"]] == ["grey"]


def test_constant_and_tiny_pictures_are_defined(tmp_path: Path) -> None:  # fault 84
    scored(tmp_path, "constant", np.full((170, 170, 3), 9, np.uint8), np.full((170, 170, 3), 12, np.uint8))
    scored(tmp_path, "same", np.zeros((170, 170), np.uint8), np.zeros((170, 170), np.uint8))
    scored(tmp_path, "tiny", picture(0, (1, 1, 3)), picture(1, (1, 1, 3)))
    done = score(tmp_path / "ref", tmp_path / "out", "--metrics", "psnr,ssim,ms-ssim", "--json")
    assert done.returncode == 0, done.stderr
    constant, same, tiny = json.loads(done.stdout)["pairs"]
    assert constant["scores"]["psnr"] == pytest.approx(20 * math.log10(255 / 3), abs=1e-4)
    assert all(0 < constant["scores"][name] <= 1 for name in ("ssim", "ms-ssim"))
    assert (same["identical"], same["scores"]) == (True, {"psnr": None, "ssim": 1.0, "ms-ssim": 1.0})
    assert tiny["scores"]["ssim"] is None
    assert "161 pixels a side, and this picture has 1×1" in tiny["reasons"]["ms-ssim"]


def test_metrics_without_weights(folders: tuple[Path, Path], no_weights: tuple[object, ...]) -> None:  # fault 85
    done = score(*folders, "--metrics", "psnr,lpips,fid", *no_weights, "--json")
    assert done.returncode == 1
    errors = done.stderr.splitlines()
    assert [error.split()[1] for error in errors] == ["lpips", "fid"]
    assert "restore models fetch lpips-alex" in errors[0]
    assert "--allow-missing-metrics" in errors[0]
    document = json.loads(done.stdout)
    assert set(document["metrics"]) == {"psnr"}
    assert set(document["left_out"]) == {"lpips", "fid"}
    allowed = score(*folders, "--metrics", "psnr,lpips", *no_weights, "--allow-missing-metrics")
    assert allowed.returncode == 0
    assert allowed.stderr.startswith("warning: lpips left out: ")
    assert "lpips left out" in " ".join(allowed.stdout.split())
    none_left = score(*folders, "--metrics", "lpips", *no_weights, "--allow-missing-metrics")
    assert none_left.returncode == 0, none_left.stderr


def test_a_report_never_replaces_a_picture(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(0))
    before = (tmp_path / "a.png").read_bytes()
    for option in ("--csv", "--html", "--json-file"):
        done = score(tmp_path / "a.png", tmp_path / "a.png", option, tmp_path / "a.png")
        assert done.returncode == 2
        assert "name of a picture" in done.stderr
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_report_replaces_no_picture_under_another_name(folders: tuple[Path, Path], tmp_path: Path) -> None:
    original = (folders[0] / "set/1.png").read_bytes()
    for name in ("scan", "raw.dng"):
        (tmp_path / name).write_bytes(original)
    (tmp_path / "link.csv").symlink_to(folders[0] / "set/1.png")
    for name, message in (("raw.dng", "the name of a picture"), ("link.csv", "the name of a picture")):
        done = score(*folders, "--csv", tmp_path / name)
        assert (done.returncode, message in done.stderr) == (2, True)
        assert (tmp_path / name).read_bytes() == original
    done = score(tmp_path / "scan", folders[0] / "set/1.png", "--csv", tmp_path / "scan")
    assert (done.returncode, "this report is an input" in done.stderr) == (2, True)
    assert (tmp_path / "scan").read_bytes() == original


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs /dev/stdout")
def test_a_report_to_standard_output_keeps_what_its_file_holds(folders: tuple[Path, Path], tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("precious\n")
    command = [sys.executable, "-m", "restore", "score", *map(str, folders), "--csv", "/dev/stdout"]
    with log.open("a") as stream:
        subprocess.run(command, stdout=stream, check=True)
    text = log.read_text()
    assert text.startswith("precious\nname,")
    assert "PSNR dB ↑" in text


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes that close")
def test_reports_are_written_though_nobody_reads_the_output(folders: tuple[Path, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "restore", "score", *map(str, folders), "--html", str(tmp_path / "scores.html")]
    subprocess.run(["sh", "-c", '"$@" | true', "sh", *command], check=False)
    assert "</html>" in (tmp_path / "scores.html").read_text()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_picture(folders: tuple[Path, Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = score(tmp_path / "pipe", folders[0] / "set/1.png")
    assert (done.returncode, "neither a file nor a folder" in done.stderr) == (2, True)


def test_lpips_with_its_weights(tmp_path: Path, shared: Path) -> None:
    scored(tmp_path, "a", picture(0, (64, 64, 3)), picture(1, (64, 64, 3)))
    folders = tmp_path / "ref", tmp_path / "out"
    done = score(*folders, "--metrics", "lpips-squeeze", "--weights-dir", shared / "weights", "--json")
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["metrics"]["lpips-squeeze"]["mean"] < 2


def test_json_with_warnings_parses_and_repeats(tmp_path: Path) -> None:  # faults 83, 86
    scored(tmp_path, "same", picture(0), picture(0))
    scored(tmp_path, "other", picture(1), picture(2))
    (tmp_path / "out/other.png").rename(tmp_path / "out/other.jpg")  # by content, with a warning
    tifffile.imwrite(tmp_path / "ref/float.tif", np.full((24, 31, 3), 1.5, np.float32), photometric="rgb")
    tifffile.imwrite(tmp_path / "out/float.tif", np.full((24, 31, 3), 0.5, np.float32), photometric="rgb")
    arguments = (tmp_path / "ref", tmp_path / "out", "--json", "--json-file", tmp_path / "report.json")
    done = score(*arguments)
    assert done.returncode == 0
    assert done.stderr.count("warning: ") == 2
    document = json.loads(done.stdout, parse_constant=pytest.fail)
    pair = next(pair for pair in document["pairs"] if pair["name"] == "same")
    assert (pair["scores"]["psnr"], pair["identical"]) == (None, True)
    assert document["num_clipped"] == 1
    assert (tmp_path / "report.json").read_text() == done.stdout
    assert score(*arguments).stdout == done.stdout


def test_nan_and_broken_files_stop_only_their_pair(folders: tuple[Path, Path]) -> None:
    reference, restored = folders
    tifffile.imwrite(restored / "set/2.tif", np.full((24, 31, 3), np.nan, np.float32), photometric="rgb")
    (restored / "set/4.tif").write_bytes((restored / "set/4.tif").read_bytes()[:500])
    done = score(reference, restored, "--workers", "1")
    assert done.returncode == 1
    assert "set/2.tif: holds NaN" in done.stderr
    assert "set/4.tif: " in done.stderr
    assert "PSNR dB ↑" in done.stdout


def test_fail_under_knows_the_direction(folders: tuple[Path, Path]) -> None:
    done = score(*folders, "--fail-under", "psnr=30", "--fail-under", "ssim=0.5", "--quiet")
    assert done.returncode == 0, done.stderr
    refused = score(*folders, "--fail-under", "psnr=60", "--fail-under", "ssim=0.5")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: --fail-under psnr=60: PSNR of out is ")
    lower = ("--combine", "-1*psnr", "--fail-under")
    assert score(*folders, *lower, "combined=-30").returncode == 0
    above = score(*folders, *lower, "combined=-60")
    assert above.returncode == 1
    assert "above the limit" in above.stderr
    assert score(folders[0], folders[0], "--fail-under", "psnr=99", "--fail-under", "ssim=1").returncode == 0  # ∞ and 1


def test_several_folders_stand_side_by_side(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for error in range(1, 8):
        write(tmp_path / f"better/set/{error}.png", picture(error) + np.uint8(error > 3))
    done = score(*folders, tmp_path / "better", "--json", "--combine", "psnr/100")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["label"] == "out"
    (other,) = document["others"]
    assert other["label"] == "better"
    assert other["differences"]["psnr"]["num_pairs"] == 4  # three are identical
    low, high = other["differences"]["psnr"]["interval"]
    assert 0 < low < other["differences"]["psnr"]["mean"] < high
    table = score(*folders, tmp_path / "better").stdout
    assert all(len(line) <= 80 for line in table.splitlines())
    assert table.splitlines()[0].split() == ["metric", "out", "better"]
    assert "− out" in table
    assert "over 4 pairs" in table
    assert len(listed(score(*folders, tmp_path / "better", "--worst", "2"))) == 2


def test_folders_of_one_name_are_told_apart(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write(tmp_path / "second/out/set/1.png", picture(1))
    document = json.loads(score(*folders, tmp_path / "second/out", "--allow-missing", "--json").stdout)
    assert [document["label"], document["others"][0]["label"]] == [str(folders[1]), str(tmp_path / "second/out")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_reports_go_through_pipes_and_links(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pipe, link, real = tmp_path / "pipe.csv", tmp_path / "link.json", tmp_path / "real.json"
    os.mkfifo(pipe)
    real.touch()
    link.symlink_to(real)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        assert score(*folders, "-q", "--csv", pipe, "--json-file", link).returncode == 0
        assert reader.communicate(timeout=60)[0].startswith("name,")
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert json.loads(real.read_text())


def test_options_change_the_protocol(folders: tuple[Path, Path]) -> None:
    options = ("--channel", "y", "--crop-border", "2", "--alpha", "white")
    text = " ".join(score(*folders, *options).stdout.split())
    for words in ("Y, BT.601 limited", "2 pixels cropped along each edge", "laid over white"):
        assert words in text


def test_statistics_are_compared_without_pictures(tmp_path: Path, no_weights: tuple[object, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, offset in (("ref", 0.0), ("out", 2.0)):
        (tmp_path / name).mkdir()
        for shard in range(2):
            features = torch.randn(8, 4, generator=generator).double() + offset
            FidStatistics.empty(4).update(features).save(tmp_path / name / f"{shard}.safetensors")
    done = score(tmp_path / "ref", tmp_path / "out", *no_weights, "--json", "--fail-under", "fid=100")
    assert done.returncode == 0, done.stderr
    fid = json.loads(done.stdout)["metrics"]["fid"]
    assert (fid["num_reference"], fid["num_restored"]) == (16, 16)
    assert 8 < fid["value"] < 30  # 4 · 2² and the covariances
    assert done.stderr.startswith("warning: rFID of out: N = 16 is below 2,049")
    above = score(tmp_path / "ref", tmp_path / "out", *no_weights, "--fail-under", "fid=1")
    assert above.returncode == 1
    assert "above the limit" in above.stderr
    assert "rFID ↓" in above.stdout


def test_statistics_saved_beside_the_pictures_may_be_saved_anew(folders: tuple[Path, Path]) -> None:
    reference, restored = (folder / "set" for folder in folders)
    kept = restored / "kept.safetensors"
    FidStatistics.empty(4).save(kept)
    measures = Measures((), inception=object())  # type: ignore[arg-type]
    score_options.assert_saved(kept, reference, [restored], ["out"], measures)


def test_pictures_with_more_pixels_than_asked_for_are_refused(folders: tuple[Path, Path]) -> None:
    done = score(*folders, "--max-pixels", 24 * 31 - 1)
    assert (done.returncode, "--max-pixels" in done.stderr) == (1, True)
    assert score(*folders, "--max-pixels", 24 * 31).returncode == 0


def test_list_metrics() -> None:
    done = score("--list-metrics")
    assert done.returncode == 0
    for words in ("ms-ssim", "lpips-squeeze", "inception-fid", "higher", "lower", "arXiv:1801.03924", "∞ dB", "0 … 1"):
        assert words in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_all_reports_of_any_names(tmp_path: Path) -> None:
    names = ["a", "<script>alert(1)</script>", "=1+1", os.fsdecode(b"caf\xe9"), "new\nline"]
    for name in names:
        scored(tmp_path, name.replace("/", "∕"), picture(0), picture(1))
    outputs = [tmp_path / f"report.{kind}" for kind in ("json", "csv", "html")]
    options = [
        word for kind, path in zip(("json-file", "csv", "html"), outputs, strict=True) for word in (f"--{kind}", path)
    ]
    done = score(tmp_path / "ref", tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr
    first = [path.read_bytes() for path in outputs]
    assert score(tmp_path / "ref", tmp_path / "out", *options).returncode == 0
    assert [path.read_bytes() for path in outputs] == first
    for text in first:
        assert b"2000 resamples" in text
        assert b"opencv" in text
    json.dumps(json.loads(first[0]), ensure_ascii=False).encode()  # half a surrogate pair could not be
    assert b"<script>alert" not in first[2]
    assert b"caf\\udce9" in first[2]


def test_linked_pictures_are_warned_of(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write(tmp_path / "elsewhere.png", picture(9))
    for folder in folders:
        (folder / "z.png").symlink_to(tmp_path / "elsewhere.png")
    done = score(*folders, folders[0])
    assert done.returncode == 0
    assert done.stderr.splitlines()[:2] == [
        f"warning: {folder}: 1 file left out, a link out of the folder (such as z.png)" for folder in folders
    ]


def test_results_inside_the_references(folders: tuple[Path, Path]) -> None:
    reference, restored = folders
    inside = reference / "one", reference / "two"
    restored.rename(inside[0])
    for error in range(1, 8):
        write(inside[1] / f"set/{error}.png", picture(error))
    done = score(reference, *inside)
    assert (done.returncode, done.stderr) == (0, "")
    assert "n/a for" not in done.stdout
    assert "two − one: no pair has a finite score on both sides" in " ".join(done.stdout.split())


def test_alpha_on_one_side_is_warned_of(tmp_path: Path) -> None:
    scored(tmp_path, "a", picture(0), np.dstack([picture(0), picture(1, (24, 31, 1))]))
    done = score(tmp_path / "ref", tmp_path / "out", "--alpha", "white")
    assert done.stderr.startswith("warning: 1 pair of out with alpha on one side only, which alone is laid over white;")
    assert "RGB, 8 bit, alpha on one side only; " in " ".join(done.stdout.split())
    assert not score(tmp_path / "ref", tmp_path / "out").stderr


def test_scores_are_printed_before_a_report_fails(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(reports, "write_reports", fails)
    with pytest.raises(OutputError, match="full"):
        score_command(folders[0], [folders[1]], csv=tmp_path / "scores.csv")
    assert "PSNR dB ↑" in capsys.readouterr().out


def test_a_wrong_date_is_found_before_anything_is_scored(folders: tuple[Path, Path], restore: Restore) -> None:
    done = restore("score", *folders, env={"SOURCE_DATE_EPOCH": "yesterday"})
    assert (done.returncode, done.stdout) == (2, "")


def test_identical_pairs_pass_a_limit_in_either_direction(folders: tuple[Path, Path]) -> None:
    reference, _ = folders
    limits = ("--fail-under", "psnr=99", "--fail-under", "combined=-99")
    assert score(reference, reference, "--combine", "-1*psnr", *limits).returncode == 0
