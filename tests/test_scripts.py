"""The benchmarks run; what they measure is not asserted, times never are."""

from __future__ import annotations

import doctest
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import compare_recipes
import cv2
import demo
import evaluate as evaluating
import numpy as np
import peers
import plot_hours
import protocols
import publish_weights
import pytest
import score_tables
import torch
import train_demo
import weight_cards
from before_after import main as before_after
from bench_denoise import main as bench_denoise
from blur_kernels import kernel_between
from blur_kernels import main as blur_kernels
from blur_light import mean_shift
from blur_paths import drawn_paths, statistics_of
from blur_paths import main as blur_paths
from contact_sheet import most_detailed
from evaluate import evaluate as evaluate_methods
from evaluate import main as evaluate
from PIL import Image
from safetensors.torch import load_file

from restore import weights
from restore.config import load_config
from restore.degradations import Chain, convolve, gaussian_blur, gaussian_noise, generator_for
from restore.errors import ImageError, UsageError
from restore.images import read_photo, write_photo
from restore.models.nafnet import NAFNet, NAFNetConfig, Stage, half_resolution_net
from restore.types import Task

ROOT = Path(__file__).resolve().parents[1]
Script = Callable[..., str]
RICHARDSON = "Richardson–Lucy, gaussian:1.5, 10 iterations"
JPEG = {"kind": "jpeg", "quality": [90, 90]}


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
        crop = replace(photo, pixels=np.ascontiguousarray(photo.pixels[:height, :width]), format="png")
        write_photo(folder / f"{name}.png", crop)
    return folder


@pytest.fixture
def pairs(small: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """Make a folder of pairs: the pictures, and the same blurred."""

    def make(better: str, worse: str) -> Path:
        folder = tmp_path / f"{better}-{worse}"
        for path in sorted(small.iterdir()):
            photo = read_photo(path)
            planes = torch.from_numpy(photo.pixels).permute(2, 0, 1).double()
            blurred = gaussian_blur(planes, 1.5).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
            for name, pixels in ((better, photo.pixels), (worse, blurred)):
                (folder / name).mkdir(parents=True, exist_ok=True)
                write_photo(folder / name / path.name, replace(photo, pixels=pixels))
        return folder

    return make


def gain(method: peers.Method, sample: protocols.Sample) -> float:
    restored = method(sample.degraded, sample.sigma)
    assert restored.shape == sample.reference.shape
    assert restored.dtype == np.float32
    before, after = (np.mean((picture - sample.reference) ** 2) for picture in (sample.degraded, restored))
    return float(10 * np.log10(before / after))


def test_peers_remove_noise_and_keep_the_shape(small: Path) -> None:
    minimum_gain = {
        "FFDNet": 9.0,
        "CDnCNN-B": 9.0,
        "OpenCV NLM": 2.3,
        "BM3D": 6.5,
    }  # dB; with its cells turned FFDNet has 8.0
    assert set(minimum_gain) == set(peers.PEERS)
    assert set(peers.ALWAYS_HERE) == set(peers.PEERS) - {"BM3D"}
    for name, build in peers.PEERS.items():
        if name == "BM3D" and importlib.util.find_spec("bm3d") is None:
            with pytest.raises(peers.MissingPeerError, match="pip install bm3d"):
                build()
            continue
        for sample in protocols.gaussian(small, 25).samples():
            assert gain(build(), sample) > minimum_gain[name], name


def test_non_local_means_take_the_lightness_of_the_right_channels(small: Path) -> None:
    for sample in protocols.gaussian(small, 25).samples():
        bgr = cv2.cvtColor(np.rint(255 * sample.degraded.clip(0, 1)).astype(np.uint8), cv2.COLOR_RGB2BGR)
        expected = cv2.cvtColor(cv2.fastNlMeansDenoisingColored(bgr, None, 17.5, 25, 7, 21), cv2.COLOR_BGR2RGB)
        assert np.abs(255 * peers.non_local_means()(sample.degraded, 25 / 255) - expected).max() < 1e-3


def test_peers_without_their_weights_say_so(tmp_path: Path) -> None:
    with pytest.raises(peers.MissingPeerError, match=r"gone\.npz"):
        peers.ffdnet(tmp_path / "gone.npz")


def test_deblurring_peers_undo_the_blur_that_they_are_told(pairs: Callable[[str, str], Path]) -> None:
    for sample in protocols.pairs(pairs("sharp", "blur")).samples():
        assert gain(peers.richardson_lucy("gaussian:1.5"), sample) > 0.5
        assert gain(peers.richardson_lucy("gaussian:1.5"), sample) > gain(peers.richardson_lucy("disc:5"), sample)
        wiener = peers.unsupervised_wiener("gaussian:1")
        first, again = (wiener(sample.degraded, 0.0) for _ in range(2))
        assert np.array_equal(first, again)
        assert first.shape == sample.reference.shape


@pytest.mark.parametrize("psf", ["gaussian:1.5", "disc:3"])
def test_point_spreads_keep_the_light(psf: str) -> None:
    kernel = peers.point_spread(psf)
    assert kernel.sum() == pytest.approx(1)
    assert np.allclose(kernel, kernel[::-1, ::-1])
    assert kernel.shape[0] % 2 == 1


@pytest.mark.parametrize("psf", ["motion:3", "disc", "disc:0", "gaussian:x"])
def test_other_point_spreads_are_refused(psf: str) -> None:
    with pytest.raises(UsageError, match="--psf"):
        peers.point_spread(psf)


def test_the_noise_is_the_same_each_time_and_not_clipped(small: Path) -> None:
    first, again = (list(protocols.gaussian(small, 50).samples()) for _ in range(2))
    assert all(np.array_equal(one.degraded, other.degraded) for one, other in zip(first, again, strict=True))
    assert any(sample.degraded.min() < 0 for sample in first)
    residual = np.concatenate([(sample.degraded - sample.reference).ravel() for sample in first])
    assert residual.std() * 255 == pytest.approx(50, rel=0.02)


def test_what_is_drawn_is_of_seed_0(small: Path) -> None:
    blur = protocols.CHAINS["shake"]
    noisy, shaken = protocols.gaussian(small, 25).samples(), protocols.chained(small, blur).samples()
    for with_noise, with_blur in zip(noisy, shaken, strict=True):
        clean = torch.from_numpy(with_noise.reference).permute(2, 0, 1)
        name = Path(with_noise.name).with_suffix(".png")
        expected = gaussian_noise(clean, 25 / 255, generator_for(0, name))
        assert np.array_equal(with_noise.degraded, expected.permute(1, 2, 0))
        expected = blur.degrade_pair(clean, generator_for(0, name)).image
        assert np.array_equal(with_blur.degraded, expected.permute(1, 2, 0))


def test_chains_have_names(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--peer",
        "unsupervised Wiener, gaussian:1.5",
        "--folder",
        str(small),
        "--limit",
        "1",
        "--lpips",
        "none",
    ]
    assert evaluate([*arguments, "--chain", *protocols.CHAINS]) == 0
    out = capsys.readouterr().out
    for told in ("motion-blur", "defocus-blur", "gaussian-blur", "gaussian-noise"):
        assert told.replace("-", " ") in out.replace("-", " ").lower(), told
    assert evaluate([*arguments, "--chain", "shaken"]) == 1
    assert "there are shake, defocus, gaussian, noisy-shake" in capsys.readouterr().err
    assert evaluate([*arguments, "--chain", "shake", "gaussian", "--save", str(small.parent / "saved")]) == 0
    assert sorted(path.name for path in (small.parent / "saved").iterdir()) == ["gaussian", "shake"]


def test_the_named_chains_are_those_of_the_published_tables() -> None:
    ranges = {
        name: [
            getattr(step, what) for step in chain.steps for what in ("length", "radius", "sigma") if hasattr(step, what)
        ]
        for name, chain in protocols.CHAINS.items()
    }
    shake = (3, 20)
    assert ranges == {"shake": [shake], "defocus": [(1, 4)], "gaussian": [(1, 2)], "noisy-shake": [shake, (8, 8)]}


def test_the_times_are_medians_per_megapixel_and_gains_those_over_the_input(small: Path) -> None:
    ticks = itertools.count()
    protocol = protocols.gaussian(small, 25)
    found = evaluate_methods(
        {"doing nothing": lambda degraded, _: degraded}, protocol, clock=lambda: float(next(ticks))
    )
    score = found["doing nothing"]
    sizes = [sample.reference[..., 0].size for sample in protocol.samples()]
    assert [picture.seconds_per_megapixel for picture in score.pictures] == [1e6 / size for size in sizes]
    pictures = [
        replace(score.pictures[0], psnr_db=psnr_db, seconds_per_megapixel=s)
        for psnr_db, s in zip((30, 27, 20), (1, 2, 9), strict=True)
    ]
    better = replace(score, pictures=tuple(pictures))
    assert better.seconds_per_megapixel == 2
    assert better.gains_db(replace(better, pictures=(pictures[2],) * 3)) == [10, 7, 0]


def pictures_of(*pixels: tuple[float, float], sigma: float | None = None) -> protocols.Protocol:
    """A set of flat pictures, each of one value before it was degraded and after."""

    def samples() -> Iterator[protocols.Sample]:
        for index, values in enumerate(pixels):
            reference, degraded = (np.full((12, 16, 3), value, np.float32) for value in values)
            yield protocols.Sample(str(index), reference, degraded, 0.1)

    condition, task = ("blur → sharp", Task.DEBLUR) if sigma is None else (f"σ {sigma:g}", Task.DENOISE)
    return protocols.Protocol("flat", condition, "made flat", task, sigma, samples)


def test_what_comes_back_is_scored_as_a_file_of_8_bits_holds_it() -> None:
    calls: list[tuple[float, float]] = []

    def nearly(degraded: protocols.Pixels, sigma: float) -> protocols.Pixels:
        calls.append((round(float(degraded[0, 0, 0]), 3), sigma))
        restored: protocols.Pixels = np.where(degraded < 0.5, np.float32(-0.3), np.float32(200.4 / 255))
        return restored

    found = evaluate_methods({"nearly": nearly}, pictures_of((0.0, 0.1), (200 / 255, 0.9), (201 / 255, 0.9)))
    assert [score.psnr_db for score in found["nearly"].pictures] == pytest.approx([np.inf, np.inf, 48.13], abs=0.01)
    assert found["input"].pictures[0].psnr_db == pytest.approx(-20 * np.log10(26 / 255), abs=0.01)
    assert calls == [(0.1, 0.1), (0.1, 0.1), (0.9, 0.1), (0.9, 0.1)]  # the first call does not count


@pytest.mark.parametrize(("threads", "clock"), [(["--threads", "1"], "process_time"), ([], "perf_counter")])
def test_one_thread_is_timed_by_the_processor_and_several_by_the_clock(
    threads: list[str], clock: str, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    clocks = {"process_time": int, "perf_counter": int, clock: lambda: next(ticks)}  # the other one stands still
    monkeypatch.setattr(evaluating, "time", SimpleNamespace(**clocks))
    monkeypatch.setattr(evaluating, "document", lambda report: vars(report.scores[0]["OpenCV NLM"].pictures[0]))
    report = small / "scores.json"
    arguments = ["--peer", "OpenCV NLM", "--folder", str(small), "--limit", "1", "--sigma", "25", "--lpips", "none"]
    assert evaluate([*arguments, *threads, "--json", str(report)]) == 0
    assert json.loads(report.read_text())["seconds_per_megapixel"] == 1e6 / (96 * 128)


def scored(model: str, *pictures: tuple[float, float, float, float | None]) -> score_tables.Score:
    """PSNR, SSIM, LPIPS and seconds of each picture."""
    return score_tables.Score(
        model, tuple(score_tables.PictureScore(str(index), *values) for index, values in enumerate(pictures))
    )


def report_of(
    sets: list[protocols.Protocol], scores: list[list[score_tables.Score]], **changes: Any
) -> score_tables.Report:
    report = score_tables.Report(
        protocols=sets,
        scores=[{score.model: score for score in of_set} for of_set in scores],
        memory={},
        left_out={},
        lpips=None,
        ours=["net"],
        told=False,
        ensemble=None,
        clock="by the sun",
        hardware="abacus",
    )
    return replace(report, **changes)


def test_the_table_of_pairs_has_means_gains_and_the_worst_of_those_that_differ() -> None:
    before = scored("input", (20, 0.5, 0.4, None), (30, 0.7, 0.3, None), (np.inf, 1.0, 0.0, None))
    after = scored("net", (25, 0.6, 0.2, 1), (29, 0.9, 0.1, 2), (40, 0.99, 0.01, 9))
    slower = scored("net", (26, 0.6, 0.2, 3), (34, 0.9, 0.1, 3), (40, 0.99, 0.01, 3))
    report = report_of([pictures_of((0.5, 0.4))] * 2, [[before, after], [before, slower]])
    report = replace(report, memory={"net": 123.4}, lpips="with a ruler", ensemble=4)
    lines = score_tables.markdown(report).splitlines()
    assert [line for line in lines if line.startswith("| net")] == [
        "| net, 4 orientations | 27.00 | +2.00 | -1.00 | 0.7500 | 0.1500 | 2.000 | 123 |",
        "| net, 4 orientations | 30.00 | +5.00 | +4.00 | 0.7500 | 0.1500 | 3.000 | 123 |",
    ]
    assert lines.count("| input | 25.00 | – | – | 0.6000 | 0.3500 | – | – |") == 2
    assert any("1 of 3 pictures of input" in line for line in lines)
    assert any("a picture of 16×12" in line for line in lines)
    first, _ = (entry for entry in score_tables.document(report)["scores"])
    figures = {"psnr_db": 27, "gain_db": 2, "worst_gain_db": -1, "ssim": 0.75, "lpips": 0.15, "peak_mib": 123.4}
    assert {key: first[key] for key in figures} == pytest.approx(figures)
    assert (first["seconds_per_megapixel"], first["num_identical"]) == (2, 0)


def test_the_table_of_noise_levels_has_one_time_for_all() -> None:
    levels = [pictures_of((0.5, 0.4), sigma=sigma) for sigma in (15, 50)]
    scores = [[scored("net", (psnr_db, 0.9, 0.1, seconds))] for psnr_db, seconds in ((32, 1), (28, 2))]
    inputs = scored("input", (20, 0.5, 0.4, None))
    report = report_of(levels, [[inputs, *of_level] for of_level in scores])
    assert "| net, blind | 32.00 / 0.9000 | 28.00 / 0.9000 | 1.500 |" in score_tables.markdown(report).splitlines()
    told = score_tables.markdown(replace(report, told=True, lpips="with a ruler")).splitlines()
    assert "| net, told σ | 32.00 / 0.9000 / 0.1000 | 28.00 / 0.9000 / 0.1000 | 1.500 |" in told


def test_chains_degrade_a_folder_and_say_how(small: Path) -> None:
    chain = Chain.model_validate({"steps": [{"kind": "gaussian-blur", "sigma": [1, 2]}, JPEG]})
    protocol = protocols.chained(small, chain, limit=1)
    assert protocol.task is Task.DEBLUR
    assert "Gaussian blur (sigma 1–2), then JPEG (quality 90)" in protocol.text
    (first,), (again,) = (list(protocol.samples()) for _ in range(2))
    assert np.array_equal(first.degraded, again.degraded)
    assert 0 < first.sigma < 0.3


@pytest.mark.parametrize("exponent", [1.0, 2.2])
def test_the_light_that_a_blur_was_averaged_in_keeps_its_local_means(exponent: float) -> None:
    rows = np.random.default_rng(0).integers(0, 2, (40, 40)) * 0.8 + 0.1
    sharp = np.kron(rows, np.ones((8, 8)))[..., None].repeat(3, axis=-1).astype(np.float32)
    light = torch.from_numpy(sharp**exponent).permute(2, 0, 1)
    blurred = (gaussian_blur(light, 3) ** (1 / exponent)).permute(1, 2, 0).numpy()
    found = {e: mean_shift(sharp, blurred, e) for e in (1.0, 2.2)}
    assert abs(found[exponent]) < 0.2 < abs(found[3.2 - exponent])


def test_the_paths_of_frames_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = gaussian_blur(torch.rand(3, 96, 160, generator=torch.Generator().manual_seed(0)), 1.5)
    scene = (scene - scene.min()) / (scene.max() - scene.min())
    for number, left in enumerate((0, 2, 4, 6, 10, 14, 18)):  # twice as fast from the middle on
        frame = (scene[:, :, left : left + 128] * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    assert blur_paths([str(tmp_path), "--frames", "7"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| 7 frames"))
    way, straight, speed, middle = ([float(value) for value in cell.split()] for cell in row.strip("|").split("|")[2:])
    assert way == pytest.approx([18] * 3, abs=0.3)
    assert straight == pytest.approx([1] * 3, abs=0.01)
    assert speed == pytest.approx([1 / 3] * 3, abs=0.02)
    assert middle == pytest.approx([(54 / 7 - 6) / 18] * 3, abs=0.01)


def test_the_kernel_between_two_windows_is_found() -> None:
    sharp = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0))
    kernel = torch.zeros(7, 11)
    kernel[1, 2], kernel[3, 5], kernel[6, 9] = 0.5, 0.3, 0.2
    blurred = convolve(sharp, kernel)
    found = kernel_between(sharp.permute(1, 2, 0).numpy(), blurred.permute(1, 2, 0).numpy(), 15)
    np.testing.assert_allclose(found, np.pad(kernel.numpy(), ((4, 4), (2, 2))), atol=0.06)


def test_the_kernels_of_pairs_are_drawn(
    pairs: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert blur_kernels([str(pairs("sharp", "blur")), "--out", str(tmp_path / "kernels.png")]) == 0
    names = capsys.readouterr().out.splitlines()
    assert read_photo(tmp_path / "kernels.png").pixels.shape[:2] == (149 * len(names), 149 * 6)
    assert blur_kernels([str(tmp_path / "none"), "--out", str(tmp_path / "kernels.png")]) == 2
    assert blur_kernels([str(pairs("sharp", "blur")), "--out", str(tmp_path / "kernels.what")]) != 0
    assert "names no format" in capsys.readouterr().err


def test_drawn_paths_are_as_straight_as_they_are_told() -> None:
    straight, tangled = (statistics_of(drawn_paths((n, n), 20)) for n in (0.003, 0.3))
    assert np.median(straight["end to end over way"]) > 0.99
    assert np.median(tangled["end to end over way"]) < 0.5


def test_blur_paths_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert blur_paths([str(tmp_path)]) == 3
    assert str(tmp_path) in capsys.readouterr().err


def test_pairs_tell_the_strength_of_what_was_done_to_each(pairs: Callable[[str, str], Path]) -> None:
    (sample,) = protocols.pairs(pairs("clean", "noisy"), limit=1).samples()
    assert sample.name == "101085"
    assert sample.sigma == pytest.approx(np.sqrt(np.mean((sample.degraded - sample.reference) ** 2)), rel=1e-4)


def test_unequal_pairs_are_refused(pairs: Callable[[str, str], Path], small: Path) -> None:
    folder = pairs("clean", "noisy")
    shutil.copy(folder / "clean" / "101085.png", folder / "noisy" / "102061.png")
    with pytest.raises(ImageError, match=r"102061\.png: has another size"):
        list(protocols.pairs(folder).samples())
    (folder / "noisy" / "102061.png").unlink()
    with pytest.raises(UsageError, match="102061"):
        list(protocols.pairs(folder).samples())
    with pytest.raises(UsageError, match="clean/ and noisy/"):
        protocols.pairs(small)


def test_evaluate_scores_and_saves(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, saved = tmp_path / "scores.json", tmp_path / "saved"
    arguments = ["--peer", "FFDNet", "--peer", "OpenCV NLM", "--folder", str(small), "--sigma", "25", "2.5"]
    assert evaluate([*arguments, "--lpips", "none", "--json", str(report), "--save", str(saved)]) == 0
    out = capsys.readouterr().out
    assert "2 pictures" in out
    assert "| FFDNet |" in out
    document = json.loads(report.read_text())
    assert document["schema_version"] == 1
    assert document["num_pictures"] == 2
    strong, weak = ([score for score in document["scores"] if score["sigma"] == sigma] for sigma in (25, 2.5))
    assert [score["model"] for score in strong] == [score["model"] for score in weak] == ["FFDNet", "OpenCV NLM"]
    assert all(20 < score["psnr_db"] < 40 and 0 < score["ssim"] < 1 for score in strong)
    assert all(0 < score["seconds_per_megapixel"] < 1e4 and len(score["pictures"]) == 2 for score in strong)
    assert document["input"][0]["psnr_db"] == pytest.approx(20.4, abs=0.6)  # noise of 25, and what clamping takes of it
    assert strong[0]["gain_db"] == pytest.approx(strong[0]["psnr_db"] - document["input"][0]["psnr_db"])
    assert {path.name for path in (saved / "2.5").iterdir()} == {"FFDNet", "OpenCV NLM", "input", "reference"}
    assert len(list(saved.rglob("*.png"))) == 2 * 2 * 4


@pytest.mark.parametrize("told", [[], ["--told"]])
def test_evaluate_takes_our_weights(small: Path, told: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["denoise-fast", "--folder", str(small), "--sigma", "25", "--limit", "1", *told]) == 0
    out = capsys.readouterr().out
    assert ("told σ" if told else "blind") in out
    assert "LPIPS: package lpips" in out


def test_evaluate_scores_pairs_before_and_after(
    pairs: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "scores.json"
    arguments = [
        "--pairs",
        str(pairs("sharp", "blur")),
        "--limit",
        "1",
        "--memory",
        "--threads",
        "1",
        "--peer",
        RICHARDSON,
    ]
    assert evaluate([*arguments, "--json", str(report)]) == 0
    out = capsys.readouterr().out
    assert "| input |" in out
    assert f"| {RICHARDSON} |" in out
    (sharpened,) = json.loads(report.read_text())["scores"]
    assert sharpened["worst_gain_db"] == pytest.approx(sharpened["gain_db"])
    assert sharpened["gain_db"] > 0.5
    assert 100 < sharpened["peak_mib"] < 3000


def test_a_clean_picture_has_an_infinite_psnr_and_null_in_json(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "scores.json"
    arguments = ["denoise-fast", "--folder", str(small), "--sigma", "0", "--limit", "1", "--lpips", "none"]
    assert evaluate([*arguments, "--json", str(report)]) == 0
    assert "| input | ∞ / 1.0000 |" in capsys.readouterr().out
    document = json.loads(report.read_text())
    assert document["input"][0]["psnr_db"] is None
    assert document["input"][0]["num_identical"] == 1
    assert document["scores"][0]["psnr_db"] > 40


def test_evaluate_names_what_is_missing(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluate(["no-such-weights", "--folder", str(tmp_path)]) == 1
    assert "no-such-weights" in capsys.readouterr().err
    assert evaluate(["--peer", "Nobody", "--folder", str(small)]) == 1
    assert "--peer Nobody" in capsys.readouterr().err
    assert evaluate(["--peers", "--chain", '{"steps": [{"kind": "magic"}]}', "--folder", str(small)]) == 1
    assert "--chain: steps.0" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "bm3d", None)
    assert evaluate(["--peer", "BM3D", "--folder", str(small)]) == 1
    assert "pip install bm3d" in capsys.readouterr().err
    for path in ("x/run", "y/run"):
        (tmp_path / path).parent.mkdir()
        shutil.copy(ROOT / "weights" / "denoise-fast.safetensors", tmp_path / f"{path}.safetensors")
    twice = [str(tmp_path / f"{name}/run.safetensors") for name in "xy"]
    assert evaluate([*twice, "--folder", str(small), "--save", str(tmp_path / "saved")]) == 1
    assert "two methods would both write to run/" in capsys.readouterr().err
    assert evaluate([twice[0], "--folder", str(small), "--json", str(tmp_path / "absent" / "x.json")]) == 1
    assert "absent" in capsys.readouterr().err
    for sigma in ("-5", "x", "nan"):
        with pytest.raises(SystemExit):
            evaluate([twice[0], "--folder", str(small), "--sigma", sigma])
    capsys.readouterr()
    weightless = ["--peer", "OpenCV NLM", "--folder", str(small), "--sigma", "25", "--weights-dir", str(tmp_path)]
    assert evaluate(weightless) == 0
    assert "left out: LPIPS (squeeze): lpips-squeeze" in capsys.readouterr().out


def test_the_examples_of_the_scripts_are_true() -> None:
    for module in (protocols, weight_cards):
        found = doctest.testmod(module)
        assert found.attempted > found.failed == 0


CONFIG = {
    "seed": 0,
    "degradations": [
        {"weight": 3, "steps": [{"kind": "gaussian-noise", "sigma": [0, 55]}]},
        {"weight": 1, "steps": [{"kind": "camera-noise"}, JPEG]},
    ],
    "data": {"told_share": 0.25, "grey_share": 0.1},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder of a training run: the shipped network, and a record of how it might have been trained."""
    network, info = weights.load_weights("denoise-fast")
    record = {"config": CONFIG, "steps": 1000, "minutes": 300.0, "threads": 1, "processes": 2}
    record |= {"hardware": "AVX2, float32", "validation_psnr_db": 31.5, "photographs": {"gb82": 3, "mine": 1}}
    document = {key: info.document[key] for key in ("name", "task", "architecture", "network")} | {"training": record}
    folder = tmp_path / "run"
    folder.mkdir()
    weights.save_weights(folder / "best.safetensors", network, document)
    return folder


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the shipped weights."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(publish_weights, "WEIGHTS", folder)
    monkeypatch.setattr(protocols, "NUM_PATTERNS", 2)
    return folder


def test_publish_ships_once_and_keeps_what_a_card_says(
    run: Path, shipped: Path, small: Path, pairs: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(run), "--folder", str(small), "--pairs", str(pairs("clean", "noisy"))]
    assert publish_weights.main([*arguments, "--dry-run", "--limit", "1"]) == 0
    assert "would write" in capsys.readouterr().out
    assert not list(shipped.iterdir())
    marks = f"{weight_cards.CARD_START}\nold figures\n{weight_cards.CARD_END}"
    card = shipped / "denoise-fast.md"
    card.write_text(f"# denoise-fast\n\nWritten by hand.\n\n{marks}\n\nAnd below.\n", encoding="utf-8")
    assert publish_weights.main(arguments) == 0
    text = card.read_text(encoding="utf-8")
    assert text.startswith("# denoise-fast\n\nWritten by hand.\n")
    assert text.endswith("\n\nAnd below.\n")
    assert "old figures" not in text
    for part in (
        "1,000 steps in 5.0 hours on 2 processes of 1 thread(s) (AVX2, float32), seed 0; 31.50 dB",
        "Degradations: 75 %: Gaussian noise (sigma 0–55 on 0–255); 25 %: camera noise (shot 0.0001–0.02, ",
        "then JPEG (quality 90); σ told to 25 % of the samples; 10 % of the samples grey.",
        "gb82 (3, CC0); mine (1, not stated)",
        "| clean-noisy, 2 real pairs | PSNR dB | SSIM | LPIPS |",
        "The worst picture changes by ",
        "| patterns, 2 drawn patterns | PSNR dB | SSIM | LPIPS |",
    ):
        assert part in text
    document = weights.read_info(shipped / "denoise-fast.safetensors").document
    assert [result["sigma"] for result in document["scores"]["results"]] == [15, 25, 50]
    assert all(result["told_psnr_db"] != result["psnr_db"] for result in document["scores"]["results"])
    assert document["scores"]["real"]["num_pictures"] == 2
    assert document["scores"]["clean"]["num_identical"] == 0
    assert document["degradation"].startswith("75 %: Gaussian noise")
    capsys.readouterr()
    assert publish_weights.main(arguments) == 0
    assert "the shipped weights are better and stay" in capsys.readouterr().out


def test_publish_renews_what_a_card_says_of_shipped_weights(
    run: Path, shipped: Path, small: Path, pairs: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    scored_on = ["--folder", str(small), "--pairs", str(pairs("clean", "noisy"))]
    assert publish_weights.main([str(run), *scored_on]) == 0
    path, card = shipped / "denoise-fast.safetensors", shipped / "denoise-fast.md"
    before, text = load_file(path), card.read_text(encoding="utf-8")
    network, info = weights.load_weights(path)
    weights.save_weights(path, network.half(), {**info.document, "scores": {}})
    card.write_text(text.replace("dB", "old"), encoding="utf-8")
    assert publish_weights.main(["denoise-fast", "--renew", *scored_on]) == 0
    assert card.read_text(encoding="utf-8") == text
    after = load_file(path)
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    assert weights.read_info(path).document["scores"] == info.document["scores"]
    weights.save_weights(path, network.half(), {**info.document, "scores": {**info.document["scores"], "other": {}}})
    assert publish_weights.main(["denoise-fast", "--renew", *scored_on]) == 2
    assert "scores would be lost: other" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        publish_weights.main(["denoise-fast", "--renew", "--ensemble", "4"])
    assert publish_weights.main(["no-such", "--renew", *scored_on]) == 2
    assert "--renew no-such" in capsys.readouterr().err


@pytest.mark.parametrize("lpips", [None, 0.125])
def test_publish_scores_lpips_where_its_trunk_is_found(
    run: Path,
    shipped: Path,
    small: Path,
    pairs: Callable[[str, str], Path],
    *,
    monkeypatch: pytest.MonkeyPatch,
    lpips: float | None,
) -> None:
    monkeypatch.setattr(publish_weights, "_lpips", lambda: None if lpips is None else lambda *_: lpips)
    assert publish_weights.main([str(run), "--folder", str(small), "--pairs", str(pairs("clean", "noisy"))]) == 0
    scores = weights.read_info(shipped / "denoise-fast.safetensors").document["scores"]
    assert [result.get("lpips") for result in scores["results"]] == [lpips] * 3
    row = next(line for line in (shipped / "denoise-fast.md").read_text().splitlines() if line.startswith("| 25 |"))
    assert row.endswith("| – |" if lpips is None else "| 0.1250 |")


def test_drawn_patterns_are_the_same_every_time_and_differ_from_their_noise() -> None:
    noise = Chain.model_validate({"steps": [{"kind": "gaussian-noise", "sigma": [15, 15]}]})
    protocol = protocols.patterns(noise, limit=3)
    assert (protocol.folder, protocol.task) == ("patterns", Task.DENOISE)
    first, second = list(protocol.samples()), list(protocol.samples())
    assert [sample.name for sample in first] == ["pattern-0", "pattern-1", "pattern-2"]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.degraded, other.degraded)
        added = one.degraded - one.reference
        assert added.std() * 255 == pytest.approx(15, rel=0.02)
        assert abs(np.corrcoef(added.ravel(), one.reference.ravel())[0, 1]) < 0.02
    assert np.abs(first[0].reference - first[1].reference).max() > 0.1


def test_evaluate_scores_patterns_and_self_ensembles(tmp_path: Path) -> None:
    noise = json.dumps({"steps": [{"kind": "gaussian-noise", "sigma": [15, 15]}]})
    with pytest.raises(SystemExit):
        evaluate(["denoise-fast", "--patterns"])
    found = {}
    for num in (1, 2):
        report = tmp_path / f"{num}.json"
        limits = ["--limit", "1", "--lpips", "none", "--ensemble", str(num), "--json", str(report)]
        assert evaluate(["denoise-fast", "--patterns", "--chain", noise, *limits]) == 0
        document = json.loads(report.read_text())
        assert (document["folder"], document["ensemble"]) == ("patterns", num)
        (found[num],) = (entry["psnr_db"] for entry in document["scores"])
    assert found[2] != found[1]
    assert abs(found[2] - found[1]) < 1


def test_publish_shrinks_what_the_network_adds(
    run: Path, shipped: Path, small: Path, pairs: Callable[[str, str], Path]
) -> None:
    arguments = [str(run), "--folder", str(small), "--pairs", str(pairs("clean", "noisy")), "--residual", "0.5"]
    assert publish_weights.main(arguments) == 0
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = weights.load_weights(run)[0](image) - image
    network, info = weights.load_weights(shipped / "denoise-fast.safetensors")
    torch.testing.assert_close(network(image) - image, 0.5 * whole, atol=1e-3, rtol=0)
    assert whole.abs().max() > 1e-2
    assert info.document["residual"] == 0.5
    assert "is multiplied by 0.5." in (shipped / "denoise-fast.md").read_text(encoding="utf-8")


def test_publish_lets_weights_average_over_orientations(
    run: Path, shipped: Path, small: Path, pairs: Callable[[str, str], Path]
) -> None:
    arguments = [str(run), "--folder", str(small), "--pairs", str(pairs("clean", "noisy"))]
    assert publish_weights.main(arguments) == 0
    alone = weights.read_info(shipped / "denoise-fast.safetensors").document["scores"]
    (shipped / "denoise-fast.safetensors").unlink()
    assert publish_weights.main([*arguments, "--ensemble", "2"]) == 0
    info = weights.read_info(shipped / "denoise-fast.safetensors")
    assert info.ensemble == 2
    assert info.document["scores"]["clean"]["psnr_db"] != alone["clean"]["psnr_db"]
    assert "The mean over 2 orientations" in (shipped / "denoise-fast.md").read_text(encoding="utf-8")


def test_publish_restores_at_more_sizes_than_were_trained(  # noqa: PLR0917  fixtures
    tmp_path: Path,
    run: Path,
    shipped: Path,
    small: Path,
    pairs: Callable[[str, str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--folder", str(small), "--pairs", str(pairs("clean", "noisy")), "--scales", "3"]
    assert publish_weights.main([str(run), *arguments]) == 2
    assert "--scales 3: for weights of several sizes" in capsys.readouterr().err
    network, info = weights.load_weights(run)
    two = NAFNet(NAFNetConfig.from_dict({**info.document["network"], "scales": 2}))
    two.load_state_dict(network.state_dict(), strict=False)
    document = {**info.document, "network": two.config.as_dict()}
    weights.save_weights(tmp_path / "two.safetensors", two, document)
    assert publish_weights.main([str(tmp_path / "two.safetensors"), *arguments]) == 0
    assert weights.read_info(shipped / "denoise-fast.safetensors").document["network"]["scales"] == 3
    card = (shipped / "denoise-fast.md").read_text(encoding="utf-8")
    assert "It was trained for 2 sizes of a picture and restores it at 3." in card
    network, info = weights.load_weights(shipped / "denoise-fast.safetensors")
    changes = publish_weights.adapt(network, info.document, publish_weights.Options(scales=4))
    assert (changes["network"]["scales"], changes["trained_scales"]) == (4, 2)


def test_publish_ships_under_another_name(
    run: Path, shipped: Path, small: Path, pairs: Callable[[str, str], Path]
) -> None:
    arguments = [str(run), "--folder", str(small), "--pairs", str(pairs("clean", "noisy"))]
    assert publish_weights.main([*arguments, "--name", "other"]) == 0
    assert weights.read_info(shipped / "other.safetensors").name == "other"
    assert (shipped / "other.md").read_text(encoding="utf-8").startswith("# other\n")
    assert not (shipped / "denoise-fast.safetensors").exists()


def test_halfway_a_new_block_adds_half_as_much() -> None:
    old, new = (NAFNet(half_resolution_net(8, (0, 0), middle, (0, 0))) for middle in (1, 2))
    with torch.no_grad():
        new.middle_blks[1].beta.fill_(1.0)  # type: ignore[operator]
    between = publish_weights.halfway(new, old)
    ours, theirs = new.state_dict(), old.state_dict()
    assert between.keys() == ours.keys()
    key = "middle_blks.0.conv1.weight"
    torch.testing.assert_close(between[key], (ours[key] + theirs[key]) / 2)
    torch.testing.assert_close(between["middle_blks.1.conv1.weight"], ours["middle_blks.1.conv1.weight"])
    assert (between["middle_blks.1.beta"] == 0.5).all()


def test_halfway_a_new_block_of_large_kernels_adds_half_as_much() -> None:
    stages = [Stage(blocks, "lka") for blocks in (1, 2)]
    old, new = (NAFNet(replace(half_resolution_net(8, (0, 0), 1, (0, 0)), middle=stage)) for stage in stages)
    with torch.no_grad():
        for name, scale in new.named_parameters():
            if name.endswith(("scale1", "scale2")):
                scale.fill_(1.0)
    between = publish_weights.halfway(new, old)
    for key in ("scale1", "scale2"):
        assert (between[f"middle_blks.1.{key}"] == 0.5).all()
        torch.testing.assert_close(between[f"middle_blks.0.{key}"], torch.full((1, 32, 1, 1), (1 + 1e-2) / 2))


def test_halfway_a_new_scale_adds_half_as_much() -> None:
    one = half_resolution_net(8, (0, 0), 1, (0, 0))
    old, new = NAFNet(one), NAFNet(replace(one, scales=2, sigma_input=True))
    with torch.no_grad():
        for param in new.parameters():
            param.fill_(1.0)
    between = publish_weights.halfway(new, old)
    for key in ("noise_level.weight", "coarse_intro.weight", "blend.weight"):
        assert (between[key] == 0.5).all(), key


def test_publish_decides_weights_to_deblur_by_real_pairs_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = half_resolution_net(8, (0, 0), 1, (0, 0))
    document = {"name": "small", "task": "deblur", "architecture": "nafnet", "network": config.as_dict()}
    weights.save_weights(tmp_path / "small.safetensors", NAFNet(config), document)
    assert publish_weights.main([str(tmp_path / "small.safetensors"), "--decide-by", "gaussian"]) == 2
    assert "are decided by real pairs; leave it out" in capsys.readouterr().err


def test_the_shares_of_degradations_count_the_frames_of_videos() -> None:
    chains: list[dict[str, Any]] = [{"weight": weight, "steps": []} for weight in (3, 1)]
    data = {
        "patterns_share": 0.1,
        "frames_share": 0.5,
        "frames_num": [1, 9],
        "frames_skip": [1, 2],
        "frames_display": 0.8,
    }
    config = {"degradations": chains, "data": data}
    told = weight_cards.describe_degradations(config, has_frames=True)
    assert [int(share) for share in re.findall(r"([0-9]+) %: ", told)] == [45, 41, 14]
    assert "45 %: the mean of 1–9 frames of a video, 1 to 2 apart (80 % not in linear light)" in told
    assert weight_cards.describe_degradations(config).startswith("75 %: nothing; 25 %: nothing; 10 % of the samples")
    training = {"training": {"config": config, "photographs": {"gb82": 3}}}
    shipped = weight_cards.describe(training, {}, {"clean": Path("photographs"), "frames": Path("videos")})
    assert shipped["degradation"] == told
    assert weight_cards.describe(training, {}, {"clean": Path("photographs")})["degradation"] != told


@pytest.mark.parametrize(
    "start", [half_resolution_net(8, (1, 0), 2, (0, 0)), half_resolution_net(16, (0, 0), 2, (0, 0))]
)
def test_halfway_from_another_network_is_refused(start: NAFNetConfig) -> None:
    network = NAFNet(half_resolution_net(8, (0, 0), 2, (0, 0)))
    with pytest.raises(UsageError, match="those of another network"):
        publish_weights.halfway(network, NAFNet(start))


def test_publish_decides_by_real_pairs_only_where_asked(
    run: Path, shipped: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = tmp_path / "nearly" / "clean"
    shutil.copytree(small, clean)
    shutil.copytree(small, tmp_path / "nearly" / "noisy")
    arguments = [str(run), "--folder", str(small), "--pairs", str(clean.parent), "--decide-by", "real"]
    assert publish_weights.main(arguments) == 2
    assert "nothing to restore" in capsys.readouterr().err
    for path in clean.iterdir():
        photo = read_photo(path)
        pixels = photo.pixels.copy()
        pixels[0, 0, 0] ^= 1  # nothing that a network could improve
        write_photo(path, replace(photo, pixels=pixels))
    assert publish_weights.main(arguments) == 0
    assert "doing nothing is better" in capsys.readouterr().out
    assert not list(shipped.iterdir())


def test_publish_leaves_the_weights_of_another_task_alone(
    run: Path, shipped: Path, small: Path, pairs: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    network, info = weights.load_weights(run)
    weights.save_weights(shipped / "deblur-fast.safetensors", network, {**info.document, "task": "deblur"})
    arguments = [str(run), "--folder", str(small), "--pairs", str(pairs("clean", "noisy")), "--name", "deblur-fast"]
    assert publish_weights.main(arguments) == 2
    assert "--name deblur-fast: under it weights to deblur ship" in capsys.readouterr().err
    assert weights.read_info(shipped / "deblur-fast.safetensors").task is Task.DEBLUR


@pytest.mark.parametrize("text", ["no marks", f"{weight_cards.CARD_END} {weight_cards.CARD_START}"])
def test_publish_writes_nothing_where_the_card_has_no_place_for_figures(
    run: Path, shipped: Path, small: Path, pairs: Callable[[str, str], Path], text: str
) -> None:
    card = shipped / "denoise-fast.md"
    card.write_text(text, encoding="utf-8")
    arguments = [str(run), "--folder", str(small), "--pairs", str(pairs("clean", "noisy"))]
    for more in ([], ["--dry-run"]):
        assert publish_weights.main([*arguments, *more]) == 2
    assert card.read_text(encoding="utf-8") == text
    assert list(shipped.iterdir()) == [card]


def test_publish_needs_sharp_pictures_to_judge_weights_to_deblur(
    run: Path, shipped: Path, pairs: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    network, info = weights.load_weights(run)
    weights.save_weights(run / "best.safetensors", network, {**info.document, "task": "deblur"})
    arguments = [str(run), "--folder", str(tmp_path / "absent"), "--pairs", str(pairs("sharp", "blur"))]
    assert publish_weights.main(arguments) == 3
    assert "absent: no pictures to score on" in capsys.readouterr().err
    assert not list(shipped.iterdir())


@pytest.fixture
def nearly(small: Path, tmp_path: Path) -> Path:
    """A folder of two pairs, one of which does not differ."""
    folder = tmp_path / "nearly"
    for name in ("clean", "noisy"):
        shutil.copytree(small, folder / name)
    path = folder / "noisy" / "101085.png"
    photo = read_photo(path)
    pixels = photo.pixels.copy()
    pixels[::7, ::7] ^= 3
    write_photo(path, replace(photo, pixels=pixels))
    return folder


def test_pictures_that_equal_their_references_are_told_and_left_out_for_all(
    nearly: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = nearly / "scores.json"
    assert evaluate(["--pairs", str(nearly), "--peer", "OpenCV NLM", "--lpips", "none", "--json", str(report)]) == 0
    told = capsys.readouterr().out
    assert "left out of the mean PSNR: 1 of 2 pictures of input, noisy → clean, equal to their references" in told
    document = json.loads(report.read_text())
    for entry in (*document["input"], *document["scores"]):
        assert f"| {entry['model']} | {entry['psnr_db']:.2f} |" in told
        assert len(entry["pictures"]) == 2


def test_a_card_shows_every_score_in_its_place() -> None:
    before = {"folder": "gopro", "num_pictures": 4, "input_psnr_db": 26.851, "input_ssim": 0.85, "input_lpips": 0.25}
    scores = {
        "benchmark": "of the card",
        "results": [{"sigma": 25, "psnr_db": 31.25, "told_psnr_db": 31.374, "ssim": 0.875, "lpips": 0.125}],
        "real": before | {"psnr_db": 28.126, "ssim": 0.875, "worst_gain_db": -0.125, "protocol": "as they are"},
        "patterns": before | {"psnr_db": 30, "worst_gain_db": 1, "num_unchanged": 2, "protocol": "as drawn"},
    }
    text = "\n".join(weight_cards._figures(scores)).splitlines()
    assert "| 25 | 31.25 | 31.37 | 0.8750 | 0.1250 |" in text
    assert "Protocol: of the card." in text
    assert text.count("| before | 26.85 | 0.8500 | 0.2500 |") == 2
    assert "| after | 28.13 | 0.8750 | – |" in text
    assert "The worst picture changes by -0.12 dB. Protocol: as they are." in text
    untouched = "2 are left as they were, since the network fails on them"
    assert f"The worst picture changes by +1.00 dB; {untouched}. Protocol: as drawn." in text
    assert text[-1].startswith("LPIPS: ")


def test_a_card_tells_short_and_long_trainings_by_one_process() -> None:
    training = {"steps": 12345, "minutes": 100, "threads": 1, "config": {"seed": 7}}
    assert weight_cards._effort(training) == "12,345 steps in 100 minutes on 1 thread(s), seed 7"
    longer = weight_cards._effort({**training, "minutes": 186, "processes": 1, "validation_psnr_db": 31.006})
    assert longer.startswith("12,345 steps in 3.1 hours on 1 thread(s), seed 7; 31.01 dB on held-out patches")


def test_a_card_says_how_many_clean_pictures_come_out_as_they_were() -> None:
    scores = {"clean": {"folder": "cbsd68", "psnr_db": 70.0, "num_identical": 3}}
    assert weight_cards._figures(scores) == [
        "Pictures of cbsd68 that need nothing come out at 70.00 dB of themselves, 3 of them as they were."
    ]


def test_the_worst_and_the_untouched_pictures_are_recorded() -> None:
    undone = {0.375: 0.5, 0.625: 0.75, 0.25: 0.25, 0.125: 0.0}  # two restored, one left as it was, one harmed

    def method(degraded: protocols.Pixels, _: float) -> protocols.Pixels:
        return np.full_like(degraded, undone[float(degraded[0, 0, 0])])

    pixels = [(0.52, 0.375), (0.73, 0.625), (0.3, 0.25), (0.25, 0.125)]
    found = publish_weights.before_and_after(method, pictures_of(*pixels))
    assert found["worst_gain_db"] == pytest.approx(20 * np.log10(32 / 64), abs=0.2)
    assert found["num_unchanged"] == 1


def test_renewing_asks_for_every_score_that_there_was() -> None:
    had = {"results": [{"psnr_db": 1, "lpips": 1}], "clean": {"psnr_db": 1, "ssim": 1}}
    has = {"results": [{"psnr_db": 1}], "clean": {"psnr_db": 1}}
    lost = publish_weights._names_of(had) - publish_weights._names_of(has)
    assert lost == {"results lpips", "clean ssim"}


def test_before_and_after_are_means_over_the_same_pictures(nearly: Path) -> None:
    found = publish_weights.before_and_after(
        lambda degraded, _: np.clip(degraded + 0.02, 0, 1), protocols.pairs(nearly)
    )
    assert found["num_pictures"] == 1
    assert found["psnr_db"] < found["input_psnr_db"]
    assert found["psnr_db"] - found["input_psnr_db"] == pytest.approx(found["worst_gain_db"], abs=1e-5)


def test_publish_multiplies_what_was_multiplied_and_keeps_what_a_card_says_of_degradations(run: Path) -> None:
    network, info = weights.load_weights(run)
    first = publish_weights.adapt(network, info.document, publish_weights.Options(residual=0.5))
    document = {**info.document, **first, "degradation": "that of the first run"}
    assert publish_weights.adapt(network, document, publish_weights.Options(residual=0.5))["residual"] == 0.25
    assert weight_cards.describe(document, {}, {})["degradation"] == "that of the first run"


def test_publish_stores_float32_where_half_precision_costs_something(
    run: Path,
    shipped: Path,
    small: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not list(shipped.iterdir())
    stored: set[torch.dtype] = set()

    def score(path: Path, *_: object, **__: object) -> dict[str, Any]:
        stored.update(tensor.dtype for tensor in load_file(path).values())
        return {"results": [{"psnr_db": 31.0}]}

    monkeypatch.setattr(publish_weights, "score", score)
    arguments = [str(run), "--folder", str(small), "--limit", "1"]
    for half_db, precision, dtype in ((30.995, "half", torch.float16), (30.9, "full", torch.float32)):
        found = {"full": SimpleNamespace(psnr_db=31.0), "half": SimpleNamespace(psnr_db=half_db)}
        monkeypatch.setattr(publish_weights, "evaluate", lambda *_, found=found: found)
        stored.clear()
        assert publish_weights.main([*arguments, "--dry-run"]) == 0
        assert f"denoise-fast.safetensors in {precision} precision, and its card" in capsys.readouterr().out
        assert stored == {dtype}  # what ships is scored
    with pytest.raises(SystemExit):
        publish_weights.main(arguments)  # a limit decides nothing


def test_weights_that_harm_a_real_picture_do_not_deblur() -> None:
    scores = {"real": {"psnr_db": 30.0, "input_psnr_db": 28.0, "worst_gain_db": -0.3}, "clean": {"psnr_db": 38.1}}
    assert "gets worse by 0.30 dB" in str(publish_weights.refuse(scores, None, "real", Task.DEBLUR))
    scores["real"]["worst_gain_db"] = -0.1
    assert publish_weights.refuse(scores, None, "real", Task.DEBLUR) is None
    assert "stay" in str(publish_weights.refuse(scores, {"real": {"psnr_db": 30.0}}, "real", Task.DEBLUR))
    harmful = {"real": {**scores["real"], "worst_gain_db": -0.3}}
    assert publish_weights.refuse(harmful, None, "real", Task.DENOISE) is None
    scores["clean"]["psnr_db"] = 37.9
    assert "sharp pictures come out at 37.90 dB" in str(publish_weights.refuse(scores, None, "real", Task.DEBLUR))


@pytest.mark.parametrize(
    ("psnr_db", "num_failures", "ships"),
    [(31.01, 5, True), (31.0, 5, False), (30.96, 4, True), (30.96, 6, False), (30.96, 5, False), (30.94, 0, False)],
)
def test_weights_that_fail_less_often_may_score_a_little_less(
    psnr_db: float, num_failures: int, *, ships: bool
) -> None:
    def scores(psnr_db: float, num_unchanged: int, *more: float) -> dict[str, Any]:
        results = [{"psnr_db": psnr_db + each} for each in more]  # their mean decides
        return {"results": results, "patterns": {"num_unchanged": num_unchanged}}

    ours, theirs = scores(psnr_db, num_failures, 3, 1, -4), scores(31.0, 5, 5, 0, -5)
    verdict = publish_weights.refuse(ours, theirs, "gaussian", Task.DENOISE)
    assert (verdict is None) is ships


def test_before_after_lays_the_chosen_crops_side_by_side(small: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.jpg"
    arguments = ["--folder", str(small), "--places", "102061:10:12", "101085", "--crop", "48", "--peers", "FFDNet"]
    assert before_after([*arguments, "--out", str(sheet), "--max-kb", "200"]) == 0
    assert sheet.stat().st_size <= 200_000
    with Image.open(sheet) as picture:
        columns, rows = 4, 2  # input, FFDNet, ours, reference
        assert picture.size == (columns * 160 + (columns + 1) * 10, rows * (48 + 2 * 24) + (rows + 1) * 10)


def test_before_after_shows_pairs_and_names_what_is_missing(
    pairs: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--pairs", str(pairs("sharp", "blur")), "--crop", "48", "--out", str(tmp_path / "sheet.png")]
    references = {
        name: read_photo(tmp_path / "sharp-blur" / "sharp" / f"{name}.png").pixels for name in ("101085", "102061")
    }
    top, left = most_detailed(references["101085"] / np.float32(255), 48)
    places = {  # as asked for, and where it lies: the last is moved into the picture
        "102061:10:12": ("102061", 12, 10),
        "101085": ("101085", top, left),
        "101085:100:90": ("101085", 48, 80),
    }
    assert before_after([*arguments, "--places", *places]) == 0
    shown = np.asarray(Image.open(tmp_path / "sheet.png"))
    for row, (name, top, left) in enumerate(places.values()):
        y, x = 10 + 24 + row * (10 + 48 + 2 * 24), 10 + 3 * 170
        np.testing.assert_array_equal(shown[y : y + 48, x : x + 48], references[name][top : top + 48, left : left + 48])
    assert before_after([*arguments, "--places", "nobody"]) == 1
    assert "--places nobody" in capsys.readouterr().err


def test_plot_hours_reads_logs_in_pieces_and_joins_runs(tmp_path: Path) -> None:
    minutes = {"one": [30, 60, 90, 45, 75], "two": [60]}  # one was taken back to the state of minute 30 or so
    for name, numbers in minutes.items():
        (tmp_path / name).mkdir()
        records: list[dict[str, Any]] = [{"event": "start"}, {"event": "progress", "minutes": 1, "loss": 0.1}]
        records += [
            {"event": "checkpoint", "minutes": m, "validation_psnr_db": 30 + m / 60, "validation_gain_db": m / 60}
            for m in numbers
        ]
        half = '{"event": "checkpoint", "minutes": 9, "validation_psn'  # as a power cut leaves it
        lines = [half, *(json.dumps(record) for record in records)]
        (tmp_path / name / "log.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    runs = [tmp_path / "one", tmp_path / "two"]
    apart = plot_hours.read_lines(runs)
    assert apart["one"] == [[(0.5, 30.5), (1.0, 31.0), (1.5, 31.5)], [(0.75, 30.75), (1.25, 31.25)]]
    assert plot_hours.read_lines(runs, joined=True)["two"] == [[(2.25, 31.0)]]
    assert plot_hours.read_lines(runs, "gain")["two"] == [[(1.0, 1.0)]]
    assert plot_hours.read_lines(runs, from_db=31.0) == {
        "one": [[(1.0, 31.0), (1.5, 31.5)], [(1.25, 31.25)]],
        "two": [[(1.0, 31.0)]],
    }
    (tmp_path / "again" / "one").mkdir(parents=True)
    shutil.copy(tmp_path / "two" / "log.jsonl", tmp_path / "again" / "one")
    namesakes = plot_hours.read_lines([tmp_path / "one", tmp_path / "again" / "one"])
    assert list(namesakes.values()) == [apart["one"], apart["two"]]
    older = tmp_path / "one" / "log.jsonl"
    older.write_text(older.read_text().replace("gain", "old"), encoding="utf-8")
    assert plot_hours.read_lines(runs, "gain", joined=True)["two"] == [[(2.25, 1.0)]]
    assert plot_hours.main([*map(str, runs), "--out", str(tmp_path / "hours.png")]) == 0
    assert len(set(Image.open(tmp_path / "hours.png").convert("RGB").get_flattened_data())) > 10


def test_plot_hours_says_that_there_is_nothing_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.jsonl").write_text('{"event": "start"}\n')
    assert plot_hours.main([str(tmp_path), "--out", str(tmp_path / "hours.png")]) == 1
    assert "first checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("has_data", [True, False])
def test_train_demo_scores_on_what_it_does_not_train_on_and_leaves_the_data_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_data: bool
) -> None:
    names = [*train_demo.HELD_OUT, "camera.png"]
    monkeypatch.setattr(
        demo, "PHOTOGRAPHS", {name.removesuffix(".png"): lambda: np.zeros((4, 4), np.uint8) for name in names}
    )
    monkeypatch.setattr(train_demo, "CBSD68", tmp_path / "absent")
    ran: list[tuple[Any, ...]] = []
    monkeypatch.setattr(train_demo, "run", lambda *words: ran.append(words))
    data = tmp_path / "data"
    if has_data:
        demo.save_photographs(data)
    assert train_demo.main(["--out", str(tmp_path / "run"), "--data", str(data)]) == 0
    (_, _, _, training, *_), (*_, benchmark) = ran
    assert (training == data) is has_data
    assert sorted(path.name for path in training.iterdir()) == sorted(names if has_data else ["camera.png"])
    assert sorted(path.name for path in benchmark.iterdir()) == sorted(train_demo.HELD_OUT)


@pytest.mark.slow
def test_bench_layers_runs(script: Script) -> None:
    assert "polyphase" in script("bench_layers.py", "--quick")


def test_bench_inference_runs(script: Script) -> None:
    out = script("bench_inference.py", "--size", "48x32", "--repeats", 1)
    difference = float(out.strip().splitlines()[-1].split("|")[-2])
    assert 0 < difference < 1e-4


def test_bench_denoise_runs(script: Script, small: Path) -> None:
    printed = script("bench_denoise.py", "--folder", small, "--limit", 1)
    for name in ("denoise", "denoise-best", "denoise-fast", "denoise-lka", "FFDNet"):
        assert f"| {name} |" in printed


def test_bench_denoise_names_what_is_missing(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bm3d", None)
    assert bench_denoise(["--folder", str(small), "--models", "denoise-fast", "--peers", "BM3D"]) == 1
    assert capsys.readouterr().err.startswith("error: BM3D: ")


def test_bench_deblur_runs(script: Script, small: Path) -> None:
    printed = script("bench_deblur.py", "--frame", next(small.iterdir()), "--models", "denoise-fast", "--repeats", 1)
    assert "| FFDNet |" in printed
    assert "| denoise-fast |" in printed


def test_bench_folder_runs(script: Script, small: Path) -> None:
    assert "| png |" in script("bench_folder.py", "--folder", small, "--copies", 1, "--repeats", 1)


def test_bench_memory_runs(script: Script) -> None:
    assert "GiB resident" in script("bench_memory.py", "--megapixels", 0.02)


def test_bench_startup_runs(script: Script) -> None:
    assert "restore --help:" in script("bench_startup.py", "--repeats", 1)


def test_bench_blocks_runs(script: Script) -> None:
    out = script(
        "bench_blocks.py", "--width", 8, "--size", "90x60", "--repeats", 1, "--blocks", "naf", "gated-deformable"
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    columns = ["10³ parameters", "GMAC", "forward ms", "with backward ms", "forward MB", "with backward MB"]
    assert rows[0] == ["block", *columns]
    naf, deformable = (dict(zip(columns, map(float, row[1:]), strict=True)) for row in rows[2:])
    assert naf["10³ parameters"] == pytest.approx(num_naf_parameters(8) / 1e3, abs=0.05)
    assert deformable["GMAC"] > naf["GMAC"] > 0
    for row in (naf, deformable):
        assert min(row["forward ms"], row["with backward ms"], row["with backward MB"]) > 0


def num_naf_parameters(c: int) -> int:
    """Two norms, 1x1 c→2c, depthwise 3x3, 1x1 of the attention, 1x1 c→c, 1x1 c→2c, 1x1 c→c, two scales."""
    convolutions = (2 * c * c + 2 * c) + (9 * 2 * c + 2 * c) + 2 * (c * c + c) + (2 * c * c + 2 * c) + (c * c + c)
    return 2 * 2 * c + convolutions + 2 * c


def test_bench_blocks_trains_a_network_of_each_block(script: Script, shared: Path) -> None:
    arguments = ["--width", 8, "--size", "9x6", "--repeats", 1, "--blocks", "naf", "--train-seconds", 2]
    out = script("bench_blocks.py", *arguments, "--data", shared / "data" / "test" / "cbsd68")
    row = next(line for line in out.splitlines() if line.startswith("| naf "))
    assert 10 < float(row.strip("| ").split("|")[-1]) < 40


def test_compare_recipes_knows_what_it_changes(script: Script) -> None:
    listed = script("compare_recipes.py", "denoise", "--list").splitlines()
    assert listed[0].startswith("base: the recipe denoise-fast")
    assert "muon-0.01: optimiser.lr=0.01 optimiser.adamw_lr=1e-3" in listed
    assert any(line.startswith("stem-4:") for line in script("compare_recipes.py", "deblur", "--list").splitlines())


@pytest.mark.parametrize(("task", "comparison"), compare_recipes.COMPARISONS.items())
def test_every_variant_of_a_comparison_is_a_recipe_and_another_one(
    task: Task, comparison: compare_recipes.Comparison
) -> None:
    recipes = [load_config(comparison.recipe, [*comparison.common, *each]) for each in comparison.variants.values()]
    assert {recipe.task for recipe in recipes} == {task}
    assert len({recipe.as_toml() for recipe in recipes}) == len(recipes)


def test_compare_recipes_times_the_steps_of_every_patch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    patches = [{"start": 0, "size": 48, "batch_size": 4}, {"start": 0.25, "size": 96, "batch_size": 8}]
    recipe = compare_recipes.with_changes(load_config("denoise-fast"), patches=patches)
    seconds = {48: 0.2, 96: 0.6}
    monkeypatch.setattr(compare_recipes, "_seconds_a_step", lambda _, stage, __: seconds[stage.size])
    material: Any = None
    assert compare_recipes.num_steps(recipe, material, 50) == 100  # a quarter of them at 0.2 s, the others at 0.6 s


def test_compare_recipes_takes_the_median_of_the_steps_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_config("denoise-fast")
    seconds = [100, 50, *([2] * 5), *([30] * 4)]  # 2 that do not count, 9 that do

    def train(trial: Any, *_: object, should_stop: Callable[[], bool]) -> None:
        assert [stage.size for stage in trial.patches] == [recipe.patches[-1].size]
        while not should_stop():
            clock.append(clock[-1] + seconds[len(clock) - 1])

    clock = [0.0]
    monkeypatch.setattr(compare_recipes, "train", train)
    monkeypatch.setattr(compare_recipes, "time", SimpleNamespace(process_time=lambda: clock[-1]))
    material: Any = None
    assert compare_recipes._seconds_a_step(recipe, recipe.patches[-1], material) == 2
    assert len(clock) == 1 + len(seconds)


def test_compare_recipes_shows_means_and_the_worst(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = scored("input", (20, 0.5, 0.4, None), (30, 0.7, 0.3, None))
    after = scored("restored", (25, 0.6, 0.2, 1), (29, 0.9, 0.1, 2))
    monkeypatch.setattr(compare_recipes, "our_method", lambda _: None)
    monkeypatch.setattr(compare_recipes, "pairs", lambda *_: "pairs")
    found = {"pairs": {"input": before, "restored": before}}
    monkeypatch.setattr(
        compare_recipes, "evaluate", lambda _, made: found.get(made, {"input": before, "restored": after})
    )
    assert compare_recipes._scores(Task.DEBLUR, tmp_path, 1) == ["+2.000", "-1.000", "+0.000", "+0.000"]
    levels = {f"σ {sigma}": psnr_db for sigma, psnr_db in ((15, 32.0), (25, 30.0), (50, 25.0))}
    monkeypatch.setattr(
        compare_recipes, "evaluate", lambda _, made: {"restored": SimpleNamespace(psnr_db=levels[made.condition])}
    )
    assert compare_recipes._scores(Task.DENOISE, tmp_path, 1) == ["32.00", "30.00", "25.00", "29.000"]


def test_compare_recipes_trains_and_scores(
    monkeypatch: pytest.MonkeyPatch, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare_recipes, "CBSD68", small)
    monkeypatch.setattr(compare_recipes, "STEPS_BEFORE", 0)
    monkeypatch.setattr(compare_recipes, "STEPS_TIMED", 1)
    arguments = ["denoise", "--only", "patches-64", "--minutes", "0.005", "--limit", "1"]
    arguments += ["--data", str(small), "--out", str(tmp_path)]
    threads = torch.get_num_threads(), cv2.getNumThreads()
    try:
        assert compare_recipes.main(arguments) == 0
        table = capsys.readouterr().out
        assert compare_recipes.main(arguments) == 0  # the runs are finished: they are scored again
        again = capsys.readouterr().out
        shutil.copytree(small, tmp_path / "other")
        elsewhere = [str(tmp_path / "other") if word == str(small) else word for word in arguments]
        assert compare_recipes.main(elsewhere) == 2
        assert "this run is of other photographs" in capsys.readouterr().err
        monkeypatch.setattr(compare_recipes, "CBSD68", tmp_path / "absent")
        assert compare_recipes.main(arguments) == 3
        assert "absent: no pictures to score on" in capsys.readouterr().err
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    assert again == table
    assert "| patches-64 | 1.00 |" in table
    with pytest.raises(SystemExit):
        compare_recipes.main(["denoise", "--only", "basis"])
    assert "--only basis: to denoise there are base, " in capsys.readouterr().err
