from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage import metrics as skimage_metrics

from restore.errors import ImageError, NothingToDoError, UsageError, WeightsError
from restore.images import reading
from restore.metrics import FidStatistics, psnr
from restore.scoring import (
    Combination,
    Failure,
    Measures,
    Pair,
    Preparation,
    ScoreReport,
    assert_scorable,
    difference,
    is_statistics,
    load_measures,
    load_statistics,
    pair_files,
    score_folders,
    score_pair,
)
from restore.scoring import folders as restore_folders
from restore.scoring.gathering import Gathered, distance
from restore.scoring.preparation import AS_STORED
from restore.scoring.resampling import BOOTSTRAP, mean_interval
from restore.scoring.workers import as_image_errors

oracle: Callable[..., float] = skimage_metrics.peak_signal_noise_ratio


def picture(seed: int, shape: tuple[int, ...] = (24, 31, 3)) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path: Path, pixels: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="rgb")
    else:
        Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three pairs with errors of 1, 2 and 4 in 255, in a tree, with different extensions."""
    reference, restored = tmp_path / "ref", tmp_path / "out"
    for name, error in (("a", 1), ("b/c", 2), ("b/d.small", 4)):
        pixels = picture(error) // 2
        write(reference / f"{name}.png", pixels)
        write(restored / f"{name}.tif", pixels + np.uint8(error))
    return reference, restored


def decibels(error: float) -> float:
    return 20 * math.log10(255 / error)


def test_scores_of_a_tree(folders: tuple[Path, Path]) -> None:
    seen: list[tuple[int, int]] = []
    report = score_folders(*folders, on_pair=lambda done, total: seen.append((done, total)))
    assert [pair.name for pair in report.pairs] == ["a", "b/c", "b/d.small"]
    assert [pair.scores["psnr"] for pair in report.pairs] == pytest.approx([decibels(e) for e in (1, 2, 4)], abs=1e-4)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert not report.failures
    assert report.num_missing == 0
    assert report.protocol.startswith("RGB, 8 bit; values as stored")
    summary = report.summary("psnr")
    assert summary.mean == pytest.approx(decibels(2), abs=1e-4)  # of the dB, not of the squared errors
    assert summary.median == pytest.approx(decibels(2), abs=1e-4)
    assert summary.deviation == pytest.approx(20 * math.log10(2), abs=1e-4)  # N-1
    assert [pair.name for pair in report.worst("psnr", 2)] == ["b/d.small", "b/c"]
    scores = zip(report.pairs, (0.875, 0.25, 0.0), strict=True)
    distances = tuple(replace(pair, scores={"lpips": score}) for pair, score in scores)
    report = ScoreReport(("lpips",), distances)
    assert report.worst("lpips", 1) == distances[:1]  # lower is better
    assert report.best("lpips", 2) == distances[:0:-1]
    assert (report.value("lpips"), report.summary("lpips").median) == (0.375, 0.25)


def test_metrics_are_chosen_and_ordered(folders: tuple[Path, Path]) -> None:
    report = score_folders(*folders, ("ssim",))
    assert list(report.document()["metrics"]) == ["ssim"]
    assert all(set(pair.scores) == {"ssim"} for pair in report.pairs)
    with pytest.raises(UsageError, match="unknown metric 'niqe'; there are psnr, ssim"):
        score_folders(*folders, ("psnr", "niqe"))


def test_identical_pairs_are_left_out_of_the_mean(folders: tuple[Path, Path]) -> None:
    reference, restored = folders
    write(restored / "a.tif", picture(1) // 2)
    report = score_folders(reference, restored)
    assert [pair.identical for pair in report.pairs] == [True, False, False]
    assert report.pairs[0].scores == {"psnr": math.inf, "ssim": 1.0}
    summary = report.summary("psnr")
    assert (summary.num_pairs, summary.num_infinite) == (2, 1)
    assert summary.mean == pytest.approx((decibels(2) + decibels(4)) / 2, abs=1e-4)
    assert report.summary("ssim").num_pairs == 3
    assert report.value("psnr") == summary.mean
    for formula, infinite in (("psnr", math.inf), ("lpips - psnr", -math.inf)):
        alone = replace(report.pairs[0], scores={"combined": infinite})
        combination = Combination.parse(formula)
        assert ScoreReport(("combined",), (alone,), combination=combination).value("combined") == infinite
    document = report.document()
    assert document["num_identical"] == 1
    assert document["pairs"][0]["scores"]["psnr"] is None
    assert document["pairs"][0]["identical"] is True


def test_what_is_infinite_or_undefined_enters_no_number_of_a_summary(folders: tuple[Path, Path]) -> None:
    pair = score_folders(*folders).pairs[0]
    scores = (30.0, math.inf, None, 32.0, math.inf, math.inf)
    report = ScoreReport(("psnr",), tuple(replace(pair, scores={"psnr": score}) for score in scores))
    summary = report.summary("psnr")
    assert (summary.mean, summary.median) == (31.0, 31.0)
    assert summary.deviation == pytest.approx(math.sqrt(2))
    assert (summary.num_pairs, summary.num_infinite, summary.num_undefined) == (2, 3, 1)


def test_the_protocol_explains_intervals_where_there_are_any(folders: tuple[Path, Path]) -> None:
    report = score_folders(*folders)
    for num, has_interval in ((1, False), (2, True)):
        part = replace(report, pairs=report.pairs[:num])
        assert (part.summary("psnr").interval is not None) == has_interval == (BOOTSTRAP in part.protocol)


def test_small_pictures_have_no_ssim_and_a_reason(tmp_path: Path) -> None:
    pair = Pair(
        "x", write(tmp_path / "x.png", picture(0, (10, 20, 3))), write(tmp_path / "y.png", picture(1, (10, 20, 3)))
    )
    scored = score_pair(pair, ("psnr", "ssim"))
    assert scored.scores["ssim"] is None
    assert scored.scores["psnr"] is not None
    assert scored.reasons == {"ssim": "SSIM needs at least 11 pixels a side, and this picture has 20×10"}
    report = ScoreReport(("psnr", "ssim"), (scored,), (), (), ())
    summary = report.summary("ssim")
    assert (summary.mean, summary.deviation, summary.num_undefined) == (None, None, 1)


def test_depths_are_compared_in_unit_range(tmp_path: Path) -> None:
    pixels = picture(0)
    eight = write(tmp_path / "8.png", pixels)
    sixteen = write(tmp_path / "16.tif", pixels.astype(np.uint16) * 257)
    single = write(tmp_path / "f.tif", pixels.astype(np.float32) / 255)
    for other, kind in ((sixteen, "RGB, 8 bit against 16 bit"), (single, "RGB, 8 bit against float")):
        scored = score_pair(Pair("x", eight, other), ("psnr",))
        assert scored.identical
        assert scored.scores["psnr"] == math.inf
        assert scored.kind == kind
        assert not scored.clipped


@pytest.mark.parametrize(("value", "beyond"), [(255, 1.5), (0, -0.5)])
def test_floats_are_clipped_and_that_is_recorded(tmp_path: Path, value: int, beyond: float) -> None:
    reference = write(tmp_path / "r.png", np.full((12, 12, 3), value, np.uint8))
    restored = write(tmp_path / "s.tif", np.full((12, 12, 3), beyond, np.float32))
    for pair in (Pair("x", reference, restored), Pair("x", restored, reference)):
        scored = score_pair(pair, ("psnr",))
        assert scored.clipped
        assert scored.identical


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_floats_that_are_no_numbers_have_no_score(tmp_path: Path, value: float) -> None:
    sound = np.full((12, 12, 3), 0.5, np.float32)
    spoilt = sound.copy()
    spoilt[3, 4, 1] = value
    paths = write(tmp_path / "r.tif", sound), write(tmp_path / "s.tif", spoilt)
    for reference, restored in (paths, paths[::-1]):
        with pytest.raises(ImageError, match=r"s\.tif: holds NaN or infinite values and has no score; write it anew"):
            score_pair(Pair("x", reference, restored), ("psnr",))


def test_alpha_is_ignored(tmp_path: Path) -> None:
    pixels = picture(0)
    opaque = write(tmp_path / "a.png", pixels)
    alpha = np.random.default_rng(0).integers(0, 256, (*pixels.shape[:2], 1), dtype=np.uint8)
    assert score_pair(Pair("x", opaque, write(tmp_path / "b.png", np.dstack([pixels, alpha]))), ("psnr",)).identical


def test_what_cannot_be_compared_is_a_failure_of_that_pair(folders: tuple[Path, Path]) -> None:
    reference, restored = folders
    write(reference / "e.png", picture(5))
    write(restored / "e.png", picture(5, (24, 30, 3)))
    write(reference / "f.png", picture(6))
    write(restored / "f.png", picture(6, (24, 31)))
    write(reference / "g.png", picture(7))
    (restored / "g.png").write_bytes(b"no picture")
    write(reference / "h.png", picture(8))
    write(restored / "h.tif", np.full((24, 31, 3), np.nan, np.float32))
    report = score_folders(reference, restored)
    assert len(report.pairs) == 3
    assert [failure.name for failure in report.failures] == ["e", "f", "g", "h"]
    size, channels, broken, nan = report.failures
    assert size.reason.startswith(f"{restored / 'e.png'}: has 30×24 pixels and its reference 31×24; ")
    assert channels.reason.startswith(f"{restored / 'f.png'}: is grey and its reference RGB; ")
    assert broken.reason.startswith(f"{restored / 'g.png'}: ")
    assert nan.reason.startswith(f"{restored / 'h.tif'}: holds NaN")
    assert report.document()["failures"][0] == {"name": "e", "reason": size.reason}


def test_max_pixels(folders: tuple[Path, Path]) -> None:
    report = score_folders(*folders, preparation=Preparation(max_pixels=24 * 31 - 1))
    assert not report.pairs
    assert all(isinstance(failure, Failure) for failure in report.failures)
    assert report.summary("psnr").mean is None


def test_unmatched_files_are_listed(folders: tuple[Path, Path]) -> None:
    reference, restored = folders
    (restored / "a.tif").rename(restored / "aa.tif")
    pairing = pair_files(reference, restored)
    assert [pair.name for pair in pairing.pairs] == ["b/c", "b/d.small"]
    assert (pairing.only_reference, pairing.only_restored) == (("a",), ("aa",))
    assert score_folders(reference, restored).num_missing == 2


def test_two_files_of_one_name(folders: tuple[Path, Path]) -> None:
    reference, restored = folders
    write(restored / "a.png", picture(0))
    with pytest.raises(UsageError, match=r"out/a\.png and .*out/a\.tif: the same name"):
        pair_files(reference, restored)


def test_files_that_differ_in_their_extensions_alone_are_matched_by_their_whole_names(
    folders: tuple[Path, Path],
) -> None:
    for folder in folders:
        for suffix in ("png", "jpg"):
            write(folder / f"twin.{suffix}", picture(0))
    pairs = {pair.name: pair for pair in pair_files(*folders).pairs}
    for suffix in ("png", "jpg"):
        pair = pairs[f"twin.{suffix}"]
        assert [path.name for path in (pair.reference, pair.restored)] == [f"twin.{suffix}"] * 2


def test_a_stem_that_is_the_whole_name_of_a_twin_stays_apart(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        for name in ("x.png", "x.tif", "x.png.jpg"):
            write(folder / name, picture(0))
    (folders[0] / "x.png.jpg").unlink()
    pairing = pair_files(*folders)
    assert pairing.only_restored == ("x.png.jpg",)
    twins = [(pair.reference.name, pair.restored.name) for pair in pairing.pairs if pair.name.startswith("x")]
    assert twins == [("x.png", "x.png"), ("x.tif", "x.tif")]


def test_names_with_accents_are_one_name_however_they_are_stored(tmp_path: Path) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "été"), unicodedata.normalize("NFD", "été")
    for folder, name in (("reference", composed), ("restored", decomposed)):
        write(tmp_path / folder / f"{name}.png", picture(0))
    pairing = pair_files(tmp_path / "reference", tmp_path / "restored")
    ((name, reference, restored),) = ((pair.name, pair.reference, pair.restored) for pair in pairing.pairs)
    assert name == composed
    assert reference.name == f"{composed}.png"
    assert restored.name == f"{decomposed}.png"
    for folder, name in (("reference", composed), ("restored", decomposed)):
        write(tmp_path / folder / f"{name}.tif", picture(0))  # names with the same stem keep their extensions
    pairs = pair_files(tmp_path / "reference", tmp_path / "restored").pairs
    assert [pair.name for pair in pairs] == [f"{composed}.png", f"{composed}.tif"]
    assert all(pair.reference.suffix == pair.restored.suffix for pair in pairs)


def test_two_files_make_a_pair_whatever_their_names(tmp_path: Path) -> None:
    pairing = pair_files(write(tmp_path / "x.png", picture(0)), write(tmp_path / "y.tif", picture(0)))
    assert [pair.name for pair in pairing.pairs] == ["x"]


def test_folder_inside_the_other_is_not_its_picture(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(0))
    write(tmp_path / "out/a.png", picture(0))
    pairing = pair_files(tmp_path, tmp_path / "out")
    assert [pair.name for pair in pairing.pairs] == ["a"]
    assert not pairing.only_reference
    pairing = pair_files(tmp_path / "out", tmp_path)
    assert not pairing.only_restored


def test_paths_that_make_no_sense(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    file = write(tmp_path / "full/a.png", picture(0))
    other = write(tmp_path / "other/b.png", picture(0))
    with pytest.raises(UsageError, match="missing: no such file or folder"):
        pair_files(tmp_path / "missing", file.parent)
    with pytest.raises(UsageError, match="is a file, and"):
        pair_files(file.parent, file)
    with pytest.raises(UsageError, match="is a file, and"):
        pair_files(file, file.parent)
    with pytest.raises(NothingToDoError, match="empty: no pictures"):
        pair_files(file.parent, tmp_path / "empty")
    with pytest.raises(NothingToDoError, match=r"no picture has the same name in both.*such as a and b"):
        pair_files(file.parent, other.parent)


def test_any_file_name_can_be_scored(tmp_path: Path) -> None:
    names = [os.fsdecode(b"caf\xe9 1.png"), "漢字 🙂.png", "new\nline.png", "-dash.png"]
    for name in names:
        write(tmp_path / "ref" / name, picture(0))
        write(tmp_path / "out" / name, picture(1))
    report = score_folders(tmp_path / "ref", tmp_path / "out", ("psnr",))
    assert sorted(pair.name for pair in report.pairs) == sorted(name.removesuffix(".png") for name in names)
    assert not report.failures


def test_warnings_of_the_reader_name_the_file(tmp_path: Path) -> None:
    reference = write(tmp_path / "x.png", picture(0))
    restored = tmp_path / "y.jpg"
    restored.write_bytes(reference.read_bytes())
    for pair in (Pair("x", reference, restored), Pair("x", restored, reference)):
        (warning,) = score_pair(pair, ("psnr",)).warnings
        assert warning.startswith(f"{restored}: ")
        assert "PNG" in warning


def test_a_file_that_goes_while_scoring_is_a_failure(folders: tuple[Path, Path]) -> None:
    pair = pair_files(*folders).pairs[0]
    pair.restored.unlink()
    with pytest.raises(ImageError, match=r"a\.tif"):
        score_pair(pair, ("psnr",))


def test_many_pairs_stay_in_order(tmp_path: Path) -> None:
    for index in range(40):
        write(tmp_path / f"ref/{index:02}.png", picture(index, (12, 12)))
        write(tmp_path / f"out/{index:02}.png", picture(index + 1, (12, 12)))
    report = score_folders(tmp_path / "ref", tmp_path / "out")
    assert [pair.name for pair in report.pairs] == [f"{index:02}" for index in range(40)]
    assert report.protocol.startswith("grey, 8 bit; ")
    assert report == score_folders(tmp_path / "ref", tmp_path / "out")


def test_luma_is_that_of_bt_601_in_its_limited_range(tmp_path: Path) -> None:
    first, second = picture(0), picture(1)
    pair = Pair("x", write(tmp_path / "x.png", first), write(tmp_path / "y.png", second))
    scored = score_pair(pair, ("psnr",), Preparation(channel="y"))
    luma = [16 + (pixels / 255) @ np.array([65.481, 128.553, 24.966]) for pixels in (first, second)]
    assert scored.scores["psnr"] == pytest.approx(oracle(*luma, data_range=255), abs=1e-4)
    assert "Y, BT.601 limited" in Preparation(channel="y").protocol
    colours = (write(tmp_path / f"{c[0]}.png", np.full((4, 4, 3), c, np.uint8)) for c in ([20, 20, 20], [5, 29, 13]))
    of_one_luma = Pair("x", *colours)
    assert not score_pair(of_one_luma, ("psnr",)).identical
    assert score_pair(of_one_luma, ("psnr",), Preparation(channel="y")).identical
    grey = Preparation(channel="y").compared(torch.tensor([[[0.0, 1.0]]]))
    assert torch.allclose(grey * 255, torch.tensor([[[16.0, 235.0]]]), atol=1e-4)


def test_a_border_is_cropped(tmp_path: Path) -> None:
    reference = picture(0)
    restored = reference.copy()
    restored[:2], restored[:, -2:] = 0, 0
    pair = Pair("x", write(tmp_path / "x.png", reference), write(tmp_path / "y.png", restored))
    assert not score_pair(pair, ("psnr",), Preparation(crop_border=1)).identical
    assert score_pair(pair, ("psnr",), Preparation(crop_border=2)).identical
    with pytest.raises(ImageError, match=r"x\.png: has 31×24 pixels, and --crop-border 12 leaves nothing"):
        score_pair(pair, ("psnr",), Preparation(crop_border=12))


def test_alpha_over_a_background(tmp_path: Path) -> None:
    pixels = picture(0)
    alpha = np.random.default_rng(0).integers(0, 256, (*pixels.shape[:2], 1), dtype=np.uint8)
    pair = Pair("x", write(tmp_path / "a.png", pixels), write(tmp_path / "b.png", np.dstack([pixels, alpha])))
    opacity = alpha / 255
    for background, colour in (("white", (255, 255, 255)), ("#0010ff", (0, 16, 255))):
        laid = opacity * pixels / 255 + (1 - opacity) * np.array(colour) / 255
        expected = psnr(torch.from_numpy(pixels / 255), torch.from_numpy(laid))
        scored = score_pair(pair, ("psnr",), Preparation(alpha=background))
        assert scored.scores["psnr"] == pytest.approx(expected, abs=1e-4)
        assert f"laid over {background}" in Preparation(alpha=background).protocol


def test_grey_with_alpha_takes_grey_backgrounds_only(tmp_path: Path) -> None:
    plain = Image.fromarray(picture(0, (24, 31)))
    plain.save(tmp_path / "a.png")
    plain.putalpha(Image.fromarray(picture(1, (24, 31))))
    plain.save(tmp_path / "b.png")
    pair = Pair("x", tmp_path / "a.png", tmp_path / "b.png")
    assert score_pair(pair, ("psnr",)).identical
    assert not score_pair(pair, ("psnr",), Preparation(alpha="black")).identical
    with pytest.raises(ImageError, match="grey and has no place on #ff0000"):
        score_pair(pair, ("psnr",), Preparation(alpha="#ff0000"))


@pytest.mark.parametrize("wrong", [{"channel": "u"}, {"crop_border": -1}, {"alpha": "mauve"}, {"alpha": "#12345"}])
def test_preparations_that_do_not_exist(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Preparation(**wrong)


def test_a_combined_score_is_the_weighted_sum(folders: tuple[Path, Path]) -> None:
    write(folders[1] / "a.tif", picture(1) // 2)  # identical
    report = score_folders(*folders, load_measures(("psnr",), combine="0.5*psnr/100 + 0.5*ssim - 1"))
    assert report.metrics == ("psnr", "ssim", "combined")
    identical, *others = report.pairs
    assert identical.scores["combined"] == math.inf
    for pair in others:
        terms = [pair.scores[name] for name in ("psnr", "ssim")]
        assert pair.scores["combined"] == pytest.approx(0.005 * (terms[0] or 0) + 0.5 * (terms[1] or 0) - 1)
    assert report.summary("combined").num_infinite == 1
    assert "0.5*psnr/100 + 0.5*ssim - 1" in report.record("combined").protocol
    assert report.document()["metrics"]["combined"]["mean"] is not None


def test_a_small_score_is_not_rounded_to_zero(folders: tuple[Path, Path]) -> None:
    report = score_folders(*folders, load_measures(("psnr",), combine="1e-9*psnr"))
    for pair, entry in zip(report.pairs, report.document()["pairs"], strict=True):
        small, psnr = (pair.scores[name] for name in ("combined", "psnr"))
        if psnr is not None and math.isfinite(psnr):
            assert entry["scores"]["combined"] == pytest.approx(small, rel=1e-7)


def test_a_combined_score_needs_all_its_terms(tmp_path: Path) -> None:
    pair = Pair("x", write(tmp_path / "x.png", picture(0)), write(tmp_path / "y.png", picture(1)))
    scored = score_pair(pair, load_measures((), combine="psnr/100+ms-ssim"))
    assert scored.scores["combined"] is None
    assert scored.reasons["combined"] == "MS-SSIM has no score"
    assert "161" in scored.reasons["ms-ssim"]


@pytest.mark.parametrize(
    ("formula", "weights", "constant"),
    [
        ("psnr", {"psnr": 1}, 0),
        ("0.5*PSNR/100+0.5*ms-ssim", {"psnr": 0.005, "ms-ssim": 0.5}, 0),
        ("psnr-lpips", {"psnr": 1, "lpips": -1}, 0),
        ("1-lpips-squeeze*2", {"lpips-squeeze": -2}, 1),
        ("-2e-1*lpips + .1*ssim + ssim/10", {"lpips": -0.2, "ssim": 0.2}, 0),
    ],
)
def test_formulas(formula: str, weights: dict[str, float], constant: float) -> None:
    combination = Combination.parse(formula)
    assert combination.weights == pytest.approx(weights)
    assert combination.constant == constant


REFUSED = """
3|psnr psnr|psnr*ssim|1/psnr|psnr/0|0*psnr|psnr+lpips|niqe|fid|psnr+|+|(psnr)|psnr**2|__import__('os')|psnr-psnr|
""".strip()


@pytest.mark.parametrize("formula", REFUSED.split("|"))
def test_formulas_that_are_refused(formula: str) -> None:
    with pytest.raises(UsageError, match="--combine"):
        Combination.parse(formula)


def test_the_direction_of_a_combined_score_is_that_of_its_terms() -> None:
    assert Combination.parse("psnr - lpips").record.higher_is_better
    assert not Combination.parse("lpips - psnr/100").record.higher_is_better
    assert Combination.parse("ssim - 2*lpips + 3").record.range == (-math.inf, 4.0)
    assert Combination.parse("3 - ssim").record.range[0] == 2


def test_metrics_without_their_weights_are_left_out_and_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    measures = load_measures(("psnr", "lpips", "fid"), combine="psnr - lpips", weights_dir=tmp_path / "none")
    assert measures.names == ("psnr",)
    assert set(measures.left_out) == {"lpips", "fid", "combined"}
    assert "restore models fetch lpips-alex" in measures.left_out["lpips"]
    report = score_folders(*folders, measures)
    assert report.metrics == ("psnr",)
    assert report.document()["left_out"] == measures.left_out
    with pytest.raises(WeightsError, match="none: no such file"):
        load_measures(("fid",), fid_weights=tmp_path / "none")
    (tmp_path / "damaged.pth").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match=r"damaged\.pth"):
        load_measures(("fid",), fid_weights=tmp_path / "damaged.pth", weights_dir=tmp_path)


def test_lpips_sees_all_channels_whatever_is_compared(shared: Path, tmp_path: Path) -> None:
    pair = Pair(
        "x", write(tmp_path / "x.png", picture(0, (64, 64, 3))), write(tmp_path / "y.png", picture(1, (64, 64, 3)))
    )
    measures = load_measures(("psnr", "lpips-squeeze"), weights_dir=shared / "weights")
    rgb, luma = (score_pair(pair, measures, Preparation(channel=channel)).scores for channel in ("rgb", "y"))
    assert rgb["psnr"] != luma["psnr"]
    assert rgb["lpips-squeeze"] == luma["lpips-squeeze"]
    assert 0 < (rgb["lpips-squeeze"] or 0) < 2


def test_intervals_come_from_resampling() -> None:
    values = np.random.default_rng(1).normal(30, 2, 400).tolist()
    interval = mean_interval(values)
    assert interval is not None
    half = 1.96 * np.std(values) / 20
    assert interval == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=0.015)  # of 0.196
    assert interval == mean_interval(values)
    assert mean_interval(values[:1]) is None


@pytest.mark.parametrize(("num", "percent"), [(2, 50), (5, 83), (10, 89), (40, 94)])
def test_intervals_hold_the_true_mean_as_often_as_the_protocol_says(num: int, percent: int) -> None:
    generator = np.random.default_rng(3)
    found = [mean_interval(generator.normal(30, 2, num).tolist()) for _ in range(400)]
    share = np.mean([interval is not None and interval[0] <= 30 <= interval[1] for interval in found])
    assert 100 * share == pytest.approx(percent, abs=3)
    assert num > 20 or re.search(rf"{percent} %[a-z ]* for {num}\b", BOOTSTRAP)


def test_resampling_in_pieces_bounds_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).normal(30, 2, 50).tolist()
    whole = mean_interval(values)
    monkeypatch.setattr("restore.scoring.resampling._CHUNK", 70)
    pieces = mean_interval(values)
    assert whole is not None
    assert pieces is not None
    assert pieces == pytest.approx(whole, abs=0.1)


def test_paired_differences_are_tighter_than_the_means(folders: tuple[Path, Path], tmp_path: Path) -> None:
    reference, first = folders
    second = tmp_path / "second"
    for name, error in (("a", 1), ("b/c", 2)):
        write(second / f"{name}.png", picture(error) // 2 + np.uint8(2 * error))
    ours, theirs = (score_folders(reference, path) for path in (first, second))
    found = difference(ours, theirs, "psnr")
    assert found.num_pairs == 2
    assert found.mean == pytest.approx(-20 * math.log10(2), abs=1e-6)
    assert found.interval == pytest.approx((found.mean, found.mean), abs=1e-6)  # 6 dB in every pair
    write(second / "a.png", picture(1) // 2)
    identical = score_folders(reference, second)
    for pair in ((ours, identical), (identical, ours)):
        assert difference(*pair, "psnr").num_pairs == 1  # ∞ has no difference
    assert difference(ours, identical, "psnr").reason == "a single pair has no interval"
    assert difference(ours, ScoreReport(ours.metrics, ()), "psnr").mean is None


class FewFeatures:
    """Stands in for Inception: the mean and the spread of each channel."""

    def features(self, picture: torch.Tensor) -> torch.Tensor:
        return torch.cat([picture.mean((1, 2)), picture.std((1, 2))]).double()


@pytest.mark.parametrize(("num", "is_enough"), [(2048, False), (2049, True)])
def test_a_distance_of_too_few_pictures_is_biased(num: int, *, is_enough: bool) -> None:
    features = torch.randn(num, 2, generator=torch.Generator().manual_seed(0))
    found = distance(*(Gathered(FidStatistics.empty(2).update(features)) for _ in range(2)))
    assert (found.warning is None) == is_enough
    with pytest.raises(ValueError, match="expected 3 features of a picture, got 2"):
        FidStatistics.empty(3).update(features)


def test_fid_of_pairs_of_statistics_and_of_shards(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, restored = folders
    for name in "efgh":
        write(reference / f"{name}.png", picture(ord(name)))
        write(restored / f"{name}.png", picture(ord(name) + 10) // 2)
    measures: Any = Measures((), inception=FewFeatures())  # type: ignore[arg-type]
    report = score_folders(reference, restored, measures)
    found = report.sets["fid"]
    assert (found.num_reference, found.num_restored) == (7, 7)
    assert found.warning == "N = 7 is below 2,049, so the value is biased upward"
    assert found.value is not None
    assert found.value > 0
    assert report.document()["metrics"]["fid"]["value"] == pytest.approx(found.value, abs=1e-6)
    assert score_folders(reference, reference, measures).sets["fid"].value == pytest.approx(0, abs=1e-9)

    monkeypatch.setattr("restore.scoring.gathering.ENOUGH", 3)  # now the sums alone are kept
    monkeypatch.setattr("restore.scoring.gathering._BATCH", 2)
    streamed = score_folders(reference, restored, measures)
    assert streamed.sets["fid"].value == pytest.approx(found.value, rel=1e-6)
    assert streamed.sets["fid"].warning is None

    assert streamed.statistics is not None
    whole = tmp_path / "stats.safetensors"
    streamed.statistics[0].save(whole)
    assert score_folders(whole, restored, measures).sets["fid"].value == pytest.approx(found.value, rel=1e-6)

    shards = tmp_path / "shards"
    shards.mkdir()
    for index in range(2):
        part = FidStatistics.empty(6)
        for path in sorted(reference.rglob("*.png"))[index::2]:
            seen = AS_STORED.prepare_one(path, AS_STORED.read_one(path))
            part = part.update(FewFeatures().features(seen.picture))
        part.save(shards / f"{index}.safetensors")
    assert is_statistics(shards)
    assert not is_statistics(reference)
    write(tmp_path / "mixed" / "a.png", picture(0))
    streamed.statistics[0].save(tmp_path / "mixed" / "stats.safetensors")
    assert not is_statistics(tmp_path / "mixed")
    (tmp_path / "empty").mkdir()
    assert not is_statistics(tmp_path / "empty")
    assert torch.allclose(load_statistics(shards).covariance, load_statistics(whole).covariance)
    (restored / "h.png").write_bytes(b"broken")
    with_failure = score_folders(shards, restored, measures)
    assert [failure.name for failure in with_failure.failures] == ["h"]
    assert with_failure.sets["fid"].num_restored == 6
    assert score_folders(shards, whole, measures).sets["fid"].value == pytest.approx(0, abs=1e-9)


def test_fid_of_a_single_pair_is_undefined(tmp_path: Path) -> None:
    write(tmp_path / "x.png", picture(0))
    measures: Any = Measures((), inception=FewFeatures())  # type: ignore[arg-type]
    found = score_folders(tmp_path / "x.png", tmp_path / "x.png", measures).sets["fid"]
    assert found.value is None
    assert "at least 2 pictures" in (found.warning or "")


def test_statistics_need_the_network_for_pictures(folders: tuple[Path, Path], tmp_path: Path) -> None:
    FidStatistics.empty(6).save(tmp_path / "s.safetensors")
    with pytest.raises(WeightsError, match="restore models fetch inception-fid"):
        score_folders(tmp_path / "s.safetensors", folders[1], load_measures(("fid",), weights_dir=tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="is no folder"):
        score_folders(tmp_path / "s.safetensors", tmp_path / "missing", load_measures(()))


OUT_OF_MEMORY = "there is not enough memory to score it; close other programs, or use --workers 1"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), OUT_OF_MEMORY),
        (cv2.error("no such\n  depth"), "OpenCV cannot work with it (no such depth); write it anew, or leave it out"),
    ],
)
def test_what_exhausts_one_pair_leaves_the_others(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fails_once(measures: Measures, *pictures: Any) -> Any:
        if not failed:
            failed.append(True)
            raise error
        return score(measures, *pictures)

    failed: list[bool] = []
    score = Measures.score
    monkeypatch.setattr(Measures, "score", fails_once)
    report = score_folders(*folders, num_workers=1)
    assert report.failures == (Failure("a", f"{folders[1] / 'a.tif'}: {reason}"),)
    assert len(report.pairs) == 2

    FidStatistics.empty(6).update(torch.rand(3, 6)).save(tmp_path / "s.safetensors")
    features = FewFeatures.features
    failed.clear()

    def no_features_once(network: FewFeatures, pixels: torch.Tensor) -> torch.Tensor:
        if not failed:
            failed.append(True)
            raise error
        return features(network, pixels)

    monkeypatch.setattr(FewFeatures, "features", no_features_once)
    report = score_folders(tmp_path / "s.safetensors", folders[1], few_features(), num_workers=1)
    assert report.failures == (Failure("a", f"{folders[1] / 'a.tif'}: {reason}"),)


def test_other_errors_are_not_taken_for_a_full_memory(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Measures, "score", fails)
    with pytest.raises(RuntimeError, match="of ours"):
        score_folders(*folders)


def few_features() -> Any:
    return Measures((), inception=FewFeatures())  # type: ignore[arg-type]


def test_the_allocators_of_torch_and_opencv_are_understood() -> None:
    with pytest.raises(ImageError, match="not enough memory"), as_image_errors(Path("x.png")):
        torch.empty(2**60)
    with pytest.raises(ImageError, match="not enough memory"), as_image_errors(Path("x.png")):
        cv2.resize(np.zeros((4, 4), np.float32), (2**15, 2**31 - 1))


def test_links_that_are_not_followed_are_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    reference, restored = folders
    for folder in folders:
        (folder / "z.png").symlink_to(write(tmp_path / "elsewhere.png", picture(0)))
        (folder / ".hidden.png").write_bytes(b"")
    (restored / "notes.txt").write_text("")
    report = score_folders(*folders)
    assert [found.message for found in report.skipped] == [
        f"{reference}: 1 file left out, a link out of the folder (such as z.png)",
        f"{restored}: 1 file left out, a link out of the folder (such as z.png)",
        f"{restored}: 1 file left out, not a picture by its suffix (such as notes.txt)",
    ]
    assert report.document()["skipped"][0] == {
        "folder": str(reference),
        "reason": "a link out of the folder",
        "names": ["z.png"],
    }
    links = tmp_path / "links"
    links.mkdir()
    (links / "a.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(NothingToDoError, match=r"no pictures in it \(1 file left out, a link out of the folder"):
        pair_files(reference, links)


def test_results_inside_the_references_are_none_of_them(tmp_path: Path) -> None:
    for name in ("a.png", "one/a.png", "two/a.png", "two/deeper/a.png"):
        write(tmp_path / name, picture(0))
    others = (tmp_path / "one", tmp_path / "two", tmp_path / "two/deeper")
    for path in others:
        pairing = pair_files(tmp_path, path, others)
        assert [pair.name for pair in pairing.pairs] == ["a"]
        assert (pairing.only_reference, pairing.only_restored) == ((), ())
        report = score_folders(tmp_path, path, ("psnr",), others=others)
        assert report.num_missing == 0
    assert pair_files(tmp_path, tmp_path / "one").only_reference == ("two/a", "two/deeper/a")


def test_a_wrong_folder_is_found_before_the_first_is_scored(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_scorable(folders[0], [folders[1]])
    with pytest.raises(NothingToDoError, match="empty: no pictures"):
        assert_scorable(folders[0], [folders[1], tmp_path / "empty"])


def test_alpha_on_one_side_is_said(tmp_path: Path) -> None:
    pixels, alpha = picture(0), np.full((24, 31, 1), 100, np.uint8)
    plain, with_alpha = write(tmp_path / "a.png", pixels), write(tmp_path / "b.png", np.dstack([pixels, alpha]))
    for pair in (Pair("x", plain, with_alpha), Pair("x", with_alpha, plain)):
        scored = score_pair(pair, ("psnr",), Preparation(alpha="white"))
        assert scored.alpha_on_one_side
        assert scored.kind == "RGB, 8 bit, alpha on one side only"
        assert not score_pair(pair, ("psnr",)).alpha_on_one_side  # nothing is laid over anything
    both = score_pair(Pair("x", with_alpha, with_alpha), ("psnr",), Preparation(alpha="white"))
    assert (both.alpha_on_one_side, both.kind) == (False, "RGB, 8 bit")


def test_statistics_prepared_in_another_way_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    path, cropped = tmp_path / "s.safetensors", Preparation(crop_border=2, alpha="#ffffff")
    report = score_folders(*folders, few_features(), preparation=cropped)
    assert report.statistics is not None
    report.statistics[0].save(path)
    assert "over the matched pairs" in report.document()["metrics"]["fid"]["protocol"]
    for restored in (folders[1], path):
        with pytest.raises(WeightsError, match="prepared in another way; give --alpha white --crop-border 2, or"):
            score_folders(path, restored, few_features())
    again = score_folders(path, folders[1], few_features(), preparation=cropped)
    assert again.sets["fid"].value == pytest.approx(report.sets["fid"].value or 0, rel=1e-6)
    assert again.protocol.startswith(
        "saved FID statistics of 3 references (alpha white, channel rgb, crop_border 2); values as stored"
    )
    assert "matched pairs" not in again.document()["metrics"]["fid"]["protocol"]
    luma = Preparation(channel="y", crop_border=2, alpha="white")  # networks see all channels
    assert score_folders(path, folders[1], few_features(), preparation=luma).sets == again.sets
    assert score_folders(*folders, few_features(), preparation=luma).sets == report.sets


def test_statistics_mode_tells_what_the_reader_said(folders: tuple[Path, Path], tmp_path: Path) -> None:
    FidStatistics.empty(6).update(torch.rand(3, 6)).save(tmp_path / "s.safetensors")
    write(folders[1] / "bright.tif", np.full((12, 12, 3), 1.5, np.float32))
    (folders[1] / "x.jpg").write_bytes(write(tmp_path / "x.png", picture(0)).read_bytes())
    report = score_folders(tmp_path / "s.safetensors", folders[1], few_features())
    assert (report.num_clipped, report.document()["num_clipped"]) == (1, 1)
    (warning,) = report.warnings
    assert "PNG" in warning
    assert "how they were prepared was not recorded" in report.protocol


def test_large_pictures_are_decoded_one_at_a_time(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By pixels and not by samples, in both modes, and with the lock before the decoding."""
    held: list[bool] = []
    decode = reading._by_opencv

    def decoding(*arguments: Any) -> Any:
        held.append(restore_folders._one_at_a_time.locked())
        return decode(*arguments)

    monkeypatch.setattr(reading, "_by_opencv", decoding)
    FidStatistics.empty(6).update(torch.rand(3, 6)).save(tmp_path / "s.safetensors")
    reference = folders[0]
    for limit, locked in ((24 * 31, False), (24 * 31 - 1, True)):
        monkeypatch.setattr(restore_folders, "LARGE", limit)
        for path in (reference, tmp_path / "s.safetensors"):
            held.clear()
            report = score_folders(path, reference, few_features())
            assert not report.failures
            assert held
            assert set(held) == {locked}
