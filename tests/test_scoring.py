from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from restore.errors import ImageError, NothingToDoError, UsageError
from restore.scoring import Failure, Pair, ScoreReport, pair_files, score_folders, score_pair


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


def test_metrics_are_chosen_and_ordered(folders: tuple[Path, Path]) -> None:
    report = score_folders(*folders, ("ssim",))
    assert list(report.document()["metrics"]) == ["ssim"]
    assert all(set(pair.scores) == {"ssim"} for pair in report.pairs)
    with pytest.raises(UsageError, match="niqe: no such metric; choose from psnr, ssim"):
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
    document = report.document()
    assert document["num_identical"] == 1
    assert document["pairs"][0]["scores"]["psnr"] is None
    assert document["pairs"][0]["identical"] is True


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


def test_floats_are_clipped_and_that_is_recorded(tmp_path: Path) -> None:
    reference = write(tmp_path / "r.png", np.full((12, 12, 3), 255, np.uint8))
    restored = write(tmp_path / "s.tif", np.full((12, 12, 3), 1.5, np.float32))
    scored = score_pair(Pair("x", reference, restored), ("psnr",))
    assert scored.clipped
    assert scored.identical


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
    report = score_folders(*folders, max_pixels=24 * 31 - 1)
    assert not report.pairs
    assert all(isinstance(failure, Failure) for failure in report.failures)
    assert report.summary("psnr").mean is None


def test_unmatched_files_are_listed(folders: tuple[Path, Path]) -> None:
    reference, restored = folders
    (restored / "a.tif").rename(restored / "aa.tif")
    pairing = pair_files(reference, restored)
    assert [pair.name for pair in pairing.pairs] == ["b/c", "b/d.small"]
    assert (pairing.only_reference, pairing.only_restored) == (("a",), ("aa",))


def test_two_files_of_one_name(folders: tuple[Path, Path]) -> None:
    reference, restored = folders
    write(restored / "a.png", picture(0))
    with pytest.raises(UsageError, match=r"out/a\.png and .*out/a\.tif: the same name"):
        pair_files(reference, restored)


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
    (warning,) = score_pair(Pair("x", reference, restored), ("psnr",)).warnings
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
