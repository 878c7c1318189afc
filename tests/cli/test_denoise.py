"""`restore denoise` as a person runs it, on good files, bad files and odd places."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pickle
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from restore.models import NAFNet, NAFNetConfig
from restore.models.nafnet import Stage
from restore.weights import save_weights

from .conftest import Restore, files_below, load_pixels, noisy_picture, one_line_error, save

SMALL = NAFNetConfig(4, (Stage(1),), Stage(1), (Stage(1),), stem=2, sigma_input=True)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that change nothing, so that every other change is the program's."""
    path = tmp_path_factory.mktemp("weights") / "identity.safetensors"
    network = NAFNet(SMALL)
    with torch.no_grad():
        network.ending.weight.zero_()
        assert network.ending.bias is not None
        network.ending.bias.zero_()
    document = {"name": "identity", "task": "denoise", "architecture": "nafnet", "network": SMALL.as_dict()}
    save_weights(path, network, document)
    return path


# ---------------------------------------------------------------- the main job


def test_a_folder_is_mirrored_and_comes_out_with_less_noise(
    restore: Restore, photographs: Path, tmp_path: Path
) -> None:
    finished = restore("denoise", "in", "out", "--json")
    assert finished.returncode == 0, finished.stderr
    assert files_below(tmp_path / "out") == files_below(photographs)
    document = json.loads(finished.stdout)
    assert document["schema_version"] == 1
    assert document["summary"]["done"] == 3
    assert document["model"]["name"] == "denoise"
    for name in ("a.png", "deeper/c.png"):
        before, after = load_pixels(photographs / name), load_pixels(tmp_path / "out" / name)
        assert before.shape == after.shape
        assert roughness(after) < roughness(before) / 3
    assert "restored 3 photographs" in finished.stderr
    assert "images/s" in finished.stderr
    assert "megapixels/s" in finished.stderr


def roughness(picture: npt.NDArray[Any]) -> float:
    return float(np.abs(cv2.Laplacian(picture.astype(np.float32), cv2.CV_32F)).mean())


def test_one_file_goes_to_a_named_file_in_another_format(restore: Restore, photographs: Path, tmp_path: Path) -> None:
    assert restore("denoise", "in/a.png", "restored.webp", "--quiet").returncode == 0
    with Image.open(tmp_path / "restored.webp") as picture:
        assert (picture.format, picture.size) == ("WEBP", (56, 40))
    finished = restore("denoise", photographs / "a.png", photographs / "b.jpg", "new/folder", "--format", "tif")
    assert finished.returncode == 0, finished.stderr
    assert files_below(tmp_path / "new") == {"folder/a.tif", "folder/b.tif"}


def test_strength_and_sigma_change_the_result(restore: Restore, photographs: Path, tmp_path: Path) -> None:
    save(photographs / "a.png", noisy_picture(0, height=240, width=320))
    roughnesses = {}
    for name, options in {
        "none": ["--strength", "0"],
        "half": ["--strength", "0.5"],
        "blind": [],
        "low": ["--sigma", "4"],
        "high": ["--sigma", "45"],
    }.items():
        assert restore("denoise", photographs / "a.png", f"{name}.png", *options, "-q").returncode == 0
        roughnesses[name] = roughness(load_pixels(tmp_path / f"{name}.png"))
    assert roughnesses["none"] == roughness(load_pixels(photographs / "a.png"))
    assert roughnesses["none"] > roughnesses["half"] > roughnesses["blind"]
    assert roughnesses["low"] > roughnesses["high"]


def test_a_dry_run_writes_nothing_and_names_everything(restore: Restore, photographs: Path, tmp_path: Path) -> None:
    finished = restore("denoise", "in", "out", "--dry-run", "--verbose")
    assert finished.returncode == 0
    assert not (tmp_path / "out").exists()
    assert all(name in finished.stderr for name in files_below(photographs))
    assert "would restore 3 photographs" in finished.stderr


def test_what_exists_is_kept_skipped_or_replaced_as_told(restore: Restore, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.jpg").write_bytes(b"precious")
    one_line_error(restore("denoise", "in", "out"), 2, "b.jpg exists already", "--skip-existing", "--overwrite")
    assert files_below(out) == {"b.jpg"}
    one_line_error(restore("denoise", "in", "out", "--skip-existing", "--overwrite"), 2, "exclude each other")
    finished = restore("denoise", "in", "out", "--skip-existing")
    assert finished.returncode == 0
    assert "1 skipped" in finished.stderr
    assert (out / "b.jpg").read_bytes() == b"precious"
    assert restore("denoise", "in", "out", "--overwrite", "--quiet").returncode == 0
    assert load_pixels(out / "b.jpg").shape == load_pixels(photographs / "b.jpg").shape


@pytest.mark.usefixtures("photographs")
def test_a_rerun_redoes_what_other_weights_or_options_made(restore: Restore, identity: Path) -> None:
    def again(*options: object) -> str:
        finished = restore("denoise", "in", "out", "--skip-existing", *options)
        assert finished.returncode == 0
        return finished.stderr

    restore("denoise", "in", "out")
    assert "restored 0 photographs, 3 skipped" in again("--tile", 256)
    assert "would restore 3 photographs" in again("--strength", 0.5, "--dry-run")
    assert "restored 3 photographs" in again("--strength", 0.5)
    assert "restored 0 photographs, 3 skipped" in again("--strength", 0.5)
    assert "restored 3 photographs" in again("--model", identity)


def test_quiet_says_nothing_and_help_needs_no_torch(restore: Restore, photographs: Path) -> None:
    finished = restore("denoise", photographs, "out", "--quiet")
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    program = "import sys, restore.cli; sys.exit(any(m in sys.modules for m in ('torch', 'cv2', 'numpy', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_tiles_change_nothing_that_can_be_seen(restore: Restore, tmp_path: Path) -> None:
    save(tmp_path / "large.png", noisy_picture(1, 300, 420))
    for name, tile in (("whole", "off"), ("tiled", "256")):
        assert restore("denoise", "large.png", f"{name}.png", "--tile", tile, "-q").returncode == 0
    whole, tiled = (load_pixels(tmp_path / f"{name}.png").astype(int) for name in ("whole", "tiled"))
    assert np.abs(whole - tiled).max() <= 1


# ------------------------------------------------- bad files among good ones: 1-4, 10-13, 36, 39


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    end = b"IEND"
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
        + struct.pack(">I", 0) + end + struct.pack(">I", zlib.crc32(end))
    )  # fmt: skip


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "1-empty.png": (lambda path: path.write_bytes(b""), "empty"),
    "2-random.png": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(500)), ""),
    "3-header-only.png": (lambda path: truncate_to(path, ".png", 33), ""),
    "4-truncated.jpg": (lambda path: truncate_to(path, ".jpg", 700), "--allow-truncated"),
    "5-truncated.tif": (lambda path: truncate_to(path, ".tif", 4000), ""),
    "5-truncated.webp": (lambda path: truncate_to(path, ".webp", 900), ""),
    "10-drawing.png": (lambda path: path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"), ""),
    "10-document.jpg": (lambda path: path.write_bytes(b"%PDF-1.7\n1 0 obj\n"), ""),
    "12-claims.png": (lambda path: path.write_bytes(png_claiming(100_000, 100_000)), "--max-pixels"),
    "13-bomb.png": (lambda path: path.write_bytes(png_bomb(19_200)), "--max-pixels"),
    "36-new\nline\x1b[31m.png": (lambda path: path.write_bytes(b""), "empty"),
}
GOOD_FILES = ("good-first.png", "zz-last.png", "-leading-dash.png")


def truncate_to(path: Path, suffix: str, num_bytes: int) -> None:
    whole = cv2.imencode(suffix, noisy_picture(0))[1].tobytes()
    assert len(whole) > num_bytes
    path.write_bytes(whole[:num_bytes])


def png_bomb(side: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(side * 3 + 1) * 8, 9)  # the first rows are enough for a header check
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, data, b"IEND")
    )


@pytest.fixture(scope="module")
def mixed_run(identity: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str, int]:
    """One run over all the bad files and three good ones: (folder, JSON, stderr, exit code)."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "in").mkdir()
    for name, (make, _) in BAD_FILES.items():
        make(folder / "in" / name)
    for name in GOOD_FILES:
        save(folder / "in" / name, noisy_picture(0))
    for name in ("notes.txt", ".hidden.png", "Thumbs.db", "clip.mp4", "archive.zip"):
        (folder / "in" / name).write_bytes(b"not to be looked at")
    os.mkfifo(folder / "in" / "39-fifo.png")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(folder / "in")
        server.bind("39-socket.png")
    command = [sys.executable, "-m", "restore", "denoise", "in", "out", "--model", str(identity), "--json", "-v"]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120, check=False)
    return folder, json.loads(finished.stdout), finished.stderr, finished.returncode


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_with_a_reason_and_nothing_is_written_for_it(
    mixed_run: tuple[Path, dict[str, Any], str, int], name: str
) -> None:
    folder, document, stderr, _ = mixed_run
    shown = name.replace("\n", "\\n").replace("\x1b", "\\x1b")
    (record,) = [file for file in document["files"] if file["source"] == f"in/{name}"]
    assert record["status"] == "failed"
    (line,) = [line for line in stderr.splitlines() if shown in line]
    assert line.startswith("error: ")
    assert BAD_FILES[name][1] in line
    assert not (folder / "out" / name).exists()


def test_the_good_files_among_them_finish(mixed_run: tuple[Path, dict[str, Any], str, int]) -> None:
    folder, document, stderr, code = mixed_run
    assert code == 1
    assert files_below(folder / "out") == set(GOOD_FILES)
    assert document["summary"]["done"] == len(GOOD_FILES)
    assert document["summary"]["failed"] == len(BAD_FILES)
    assert "Traceback" not in stderr


def test_what_is_no_picture_is_passed_over_and_counted(mixed_run: tuple[Path, dict[str, Any], str, int]) -> None:
    _, document, stderr, _ = mixed_run
    assert len(document["files"]) == len(GOOD_FILES) + len(BAD_FILES)
    assert "11 failed, 6 others passed over → out" in stderr


def test_truncated_pictures_and_large_ones_are_accepted_on_demand(
    restore: Restore, identity: Path, tmp_path: Path
) -> None:
    whole = cv2.imencode(".jpg", noisy_picture(0, 400, 600))[1].tobytes()
    (tmp_path / "part.jpg").write_bytes(whole[: len(whole) // 2])
    save(tmp_path / "large.png", noisy_picture(0, 60, 50))
    finished = restore("denoise", "part.jpg", "whole.png", "--model", identity, "--allow-truncated")
    assert finished.returncode == 0
    assert "truncated" in finished.stderr
    one_line = restore("denoise", "large.png", "out.png", "--model", identity, "--max-pixels", "1000", "-q")
    one_line_error(one_line, 1, "large.png", "--max-pixels")
    assert restore("denoise", "large.png", "out.png", "--model", identity, "--max-pixels", "3000").returncode == 0


# --------------------------------------- what a picture is made of survives: 16-23, 29, 30 (and 24, 25, 31)


@functools.cache  # a profile holds the second in which it was made
def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def kinds_run(identity: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One run over pictures of every kind: (folder, stderr)."""
    folder = tmp_path_factory.mktemp("kinds")
    source = folder / "in"
    source.mkdir()
    colour = noisy_picture(0, 24, 30)
    deep = colour.astype(np.uint16) * 257 - 3 * np.arange(30, dtype=np.uint16)[None, :, None].clip(0, 10)
    alpha = np.zeros((24, 30), np.uint8)
    alpha[5:, 7:] = np.arange(23, dtype=np.uint8) * 11
    Image.fromarray(colour[:1, :1]).save(source / "16-1x1.png")
    Image.fromarray(colour[:3, :2]).save(source / "16-2x3.png")
    Image.fromarray(np.tile(colour[:1], (1, 667, 1))[:, :20_000]).save(source / "17-wide.png")
    Image.fromarray(np.tile(colour[:, :1], (834, 1, 1))[:20_000]).save(source / "17-tall.png")
    Image.fromarray(colour).convert("CMYK").save(source / "18-cmyk.jpg", quality=95)
    Image.fromarray(colour).quantize(16).save(source / "19-palette.png")
    Image.fromarray(colour).quantize(16).save(source / "19-transparent.png", transparency=3)
    Image.fromarray(colour[..., 0] > 128).save(source / "20-1bit.png")
    Image.fromarray(colour[..., 0]).save(source / "20-grey.png")
    Image.fromarray(colour[..., 0]).save(source / "20-grey.jpg")
    Image.fromarray(np.dstack([colour[..., 0], alpha])).save(source / "21-grey-alpha.png")
    Image.fromarray(np.dstack([colour, alpha])).save(source / "22-alpha.png")
    cv2.imwrite(str(source / "23-deep.png"), deep)
    tifffile.imwrite(source / "23-deep.tif", deep, photometric="rgb")
    cv2.imwrite(str(source / "23-deep-grey.png"), deep[..., 0])
    tifffile.imwrite(source / "25-float.tif", colour.astype(np.float32) / 128 - 0.3, photometric="rgb")
    Image.fromarray(colour).save(source / "30-profile.png", icc_profile=srgb_profile())
    Image.fromarray(colour).save(source / "30-broken.png", icc_profile=b"not a profile at all")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = orientation, "Maker"
        for suffix, options in ((".jpg", {"quality": 95}), (".png", {}), (".webp", {"lossless": True}), (".tif", {})):
            Image.fromarray(colour).save(source / f"29-{orientation}{suffix}", exif=exif, **options)
    command = [sys.executable, "-m", "restore", "denoise", "in", "out", "--model", str(identity)]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    return folder, finished.stderr


LOSSLESS = (
    *("16-1x1.png", "16-2x3.png", "17-wide.png", "17-tall.png", "20-1bit.png", "20-grey.png", "21-grey-alpha.png"),
    *("22-alpha.png", "23-deep.png", "23-deep.tif", "23-deep-grey.png", "30-profile.png", "30-broken.png"),
)


@pytest.mark.parametrize("name", LOSSLESS)
def test_an_identity_model_gives_every_value_back(kinds_run: tuple[Path, str], name: str) -> None:
    before, after = (read_all(kinds_run[0] / side / name) for side in ("in", "out"))
    assert before.dtype == after.dtype
    np.testing.assert_array_equal(after, before)


def read_all(path: Path) -> npt.NDArray[Any]:
    if path.suffix == ".tif":
        return np.asarray(tifffile.imread(path))
    if path.name.startswith("23"):
        return load_pixels(path)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L") if picture.mode == "1" else picture)


def test_palettes_become_colours_and_cmyk_becomes_rgb_with_a_warning(kinds_run: tuple[Path, str]) -> None:
    folder, stderr = kinds_run
    for name, mode in (("19-palette.png", "RGB"), ("19-transparent.png", "RGBA")):
        with Image.open(folder / "in" / name) as before, Image.open(folder / "out" / name) as after:
            assert after.mode == mode
            visible = np.asarray(before.convert("RGBA"))[..., 3] > 0
            np.testing.assert_array_equal(
                np.asarray(after.convert("RGB"))[visible], np.asarray(before.convert("RGB"))[visible]
            )
    with Image.open(folder / "out" / "18-cmyk.jpg") as picture:
        assert picture.mode == "RGB"
    assert any("18-cmyk.jpg" in line and line.startswith("warning") for line in stderr.splitlines())


def test_grey_stays_grey(kinds_run: tuple[Path, str]) -> None:
    for name in ("20-1bit.png", "20-grey.png", "20-grey.jpg"):
        with Image.open(kinds_run[0] / "out" / name) as picture:
            assert picture.mode == "L"


def test_floats_keep_their_depth_and_range(kinds_run: tuple[Path, str]) -> None:
    before, after = (tifffile.imread(kinds_run[0] / side / "25-float.tif") for side in ("in", "out"))
    assert after.dtype == np.float32
    assert after.min() < 0
    assert after.max() > 1
    np.testing.assert_allclose(after, before, atol=1e-6)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_looks_upright_and_is_turned_once(kinds_run: tuple[Path, str], orientation: int, suffix: str) -> None:
    from PIL import ImageOps  # noqa: PLC0415  only here

    name = f"29-{orientation}{suffix}"
    with Image.open(kinds_run[0] / "in" / name) as before, Image.open(kinds_run[0] / "out" / name) as after:
        upright, seen = ImageOps.exif_transpose(before), ImageOps.exif_transpose(after)
        assert seen.size == upright.size
        difference = np.asarray(seen).astype(int) - np.asarray(upright).astype(int)
        assert np.abs(difference).mean() < (3 if suffix == ".jpg" else 1e-9)
        assert after.getexif().get(0x010F) == "Maker"


def test_profiles_are_kept_and_broken_ones_dropped_with_a_warning(kinds_run: tuple[Path, str]) -> None:
    folder, stderr = kinds_run
    with Image.open(folder / "out" / "30-profile.png") as picture:
        assert picture.info["icc_profile"] == srgb_profile()
    with Image.open(folder / "out" / "30-broken.png") as picture:
        assert "icc_profile" not in picture.info
    assert any("30-broken.png" in line and line.startswith("warning") for line in stderr.splitlines())


def test_hidden_pixels_leave_no_halo(restore: Restore, tmp_path: Path) -> None:
    colour = np.full((64, 64, 3), 60, np.uint8)
    colour[:, 32:] = (255, 0, 255)  # what editors leave under transparent pixels
    alpha = np.where(np.arange(64) < 32, 255, 0).astype(np.uint8)[None].repeat(64, 0)
    Image.fromarray(np.dstack([colour, alpha])).save(tmp_path / "cut-out.png")
    assert restore("denoise", "cut-out.png", "restored.png", "-q").returncode == 0
    with Image.open(tmp_path / "restored.png") as picture:
        restored = np.asarray(picture).astype(int)
    np.testing.assert_array_equal(restored[..., 3], alpha)
    np.testing.assert_array_equal(restored[:, 32:, :3], colour[:, 32:])
    assert np.abs(restored[:, :32, :3] - 60).max() <= 8


def test_hidden_rows_leave_no_halo_where_a_band_of_them_ends(restore: Restore, tmp_path: Path) -> None:
    for hidden in (0, 255):
        colour = np.full((1100, 32, 3), hidden, np.uint8)
        colour[1024:] = 60
        alpha = np.where(np.arange(1100) < 1024, 0, 255).astype(np.uint8)[:, None].repeat(32, 1)
        Image.fromarray(np.dstack([colour, alpha])).save(tmp_path / f"{hidden}.png")
        assert restore("denoise", f"{hidden}.png", f"restored-{hidden}.png", "-q").returncode == 0
    dark, bright = (np.asarray(Image.open(tmp_path / f"restored-{hidden}.png")) for hidden in (0, 255))
    np.testing.assert_array_equal(dark[1024:], bright[1024:])


def test_metadata_goes_when_asked(restore: Restore, identity: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    Image.fromarray(noisy_picture(0)).save(tmp_path / "a.jpg", exif=exif, icc_profile=srgb_profile())
    assert restore("denoise", "a.jpg", "b.jpg", "--model", identity, "--strip-metadata", "-q").returncode == 0
    with Image.open(tmp_path / "b.jpg") as picture:
        assert 0x010F not in picture.getexif()
        assert picture.info["icc_profile"] == srgb_profile()


# ----------------------------------------------------------- names and folders: 33-36, 40, 41, 44, 45, 42, 37, 38


def test_every_name_that_a_disk_allows_goes_through(restore: Restore, identity: Path, tmp_path: Path) -> None:
    names = [b"with space.png", "🌄 山.png".encode(), "é-nfc.png".encode(), "é-nfd.png".encode()]
    names += [b"latin-\xe9.png", b"n" * 240 + b".png", b"-dash.png", b"quote'\".png"]
    (tmp_path / "in").mkdir()
    for name in names:
        save(tmp_path / "in" / os.fsdecode(name), noisy_picture(0, 8, 8))
    finished = restore("denoise", "in", "out", "--model", identity, "-v")
    assert finished.returncode == 0, finished.stderr
    assert set(map(os.fsencode, files_below(tmp_path / "out"))) == set(names)
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    finished = restore("denoise", "in", "again", "--model", identity, "-v", env=ascii_only)
    assert finished.returncode == 0, finished.stderr


def test_an_output_inside_the_input_is_not_read_again(restore: Restore, photographs: Path, identity: Path) -> None:
    for _ in range(2):
        assert restore("denoise", "in", "in/out", "--model", identity, "--overwrite", "-q").returncode == 0
    assert {name for name in files_below(photographs) if "out" in name} == {
        "out/a.png",
        "out/b.jpg",
        "out/deeper/c.png",
    }


def test_originals_are_never_replaced(restore: Restore, photographs: Path, tmp_path: Path) -> None:
    before = {name: (photographs / name).read_bytes() for name in files_below(photographs)}
    (tmp_path / "link").symlink_to(photographs)
    for arguments in (
        ("in", "in"),
        ("in", "link"),
        ("in/a.png", "in/a.png"),
        ("in/a.png", "in"),
        ("in/deeper", "in/a.png", "in"),
    ):
        finished = restore("denoise", *arguments, "--overwrite")
        one_line_error(finished, 2)
    assert {name: (photographs / name).read_bytes() for name in files_below(photographs)} == before


def test_originals_are_not_replaced_where_a_disk_takes_two_names_for_one(
    restore: Restore, photographs: Path, tmp_path: Path
) -> None:
    original = (photographs / "a.png").rename(photographs / "C.PNG")
    (photographs / "C.png").hardlink_to(original)  # as a disk that folds names looks
    asked = restore("denoise", "in/C.PNG", "in", "--format", "png", "--overwrite")
    one_line_error(asked, 2, "originals are never replaced")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "C.PNG").hardlink_to(original)  # which a new file takes the place of
    assert restore("denoise", "in/C.PNG", "out", "--overwrite", "--dry-run").returncode == 0


def test_empty_and_missing_inputs(restore: Restore, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    one_line_error(restore("denoise", "empty", "out"), 3, "empty", "no pictures")
    one_line_error(restore("denoise", "nowhere", "out"), 2, "nowhere", "no such file")
    one_line_error(restore("denoise", "in", "in/a.png"), 2, "must be a folder")
    one_line_error(restore("denoise", "in", "out", "--format", "xyz"), 2, "xyz", "choose")
    (tmp_path / "x.txt").write_text("a file")
    one_line_error(restore("denoise", "in", "x.txt"), 2, "x.txt", "folder")
    assert not (tmp_path / "out").exists()
    assert photographs.exists()


def test_two_files_for_one_output_are_noticed_before_anything_is_written(
    restore: Restore, photographs: Path, tmp_path: Path
) -> None:
    save(photographs / "a.jpg", noisy_picture(0))
    one_line_error(restore("denoise", "in", "out", "--format", "png"), 2, "a.jpg", "a.png")
    assert not (tmp_path / "out").exists()


def test_links_that_loop_or_leave_the_folder_are_not_followed(
    restore: Restore, photographs: Path, identity: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    save(tmp_path / "elsewhere" / "secret.png", noisy_picture(0))
    (photographs / "loop").symlink_to(photographs)
    (photographs / "outside").symlink_to(tmp_path / "elsewhere")
    assert restore("denoise", "in", "out", "--model", identity, "-q").returncode == 0
    assert files_below(tmp_path / "out") == {"a.png", "b.jpg", "deeper/c.png"}
    original = (photographs / "deeper" / "c.png").read_bytes()
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap" / "deeper").symlink_to(photographs / "deeper")
    one_line_error(restore("denoise", "in", "trap", "--overwrite"), 2, "originals are never replaced")
    assert (photographs / "deeper" / "c.png").read_bytes() == original


def test_a_blocked_folder_or_a_name_that_grows_too_long_costs_only_its_files(
    restore: Restore, photographs: Path, identity: Path, tmp_path: Path
) -> None:
    save(photographs / ("n" * 251 + ".png"), noisy_picture(0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deeper").write_text("a file where a folder is needed")
    finished = restore("denoise", "in", "out", "--model", identity, "--format", "webp")
    assert finished.returncode == 1, finished.stderr
    assert {"a.webp", "b.webp"} <= files_below(tmp_path / "out")
    assert sum(line.startswith("error: ") for line in finished.stderr.splitlines()) == 2


def test_outputs_that_cannot_be_meant_are_refused(restore: Restore, photographs: Path, tmp_path: Path) -> None:
    one_line_error(restore("denoise", photographs / "a.png", "better.gif"), 2, "better.gif")
    one_line_error(restore("denoise", photographs / "a.png", "better.jgp"), 2, "better.jgp")
    one_line_error(restore("denoise", photographs / "a.png", "better.jpg", "--format", "png"), 2, "contradict")
    assert not list(tmp_path.glob("better*"))


# ------------------------------------------------------------------ output and process: 49-51, 52, 54, 59


def test_an_output_that_cannot_be_made_is_said_before_the_model_loads(restore: Restore, photographs: Path) -> None:
    finished = restore("denoise", photographs, "/proc/restored", "--model", "no-such-model")
    one_line_error(finished, 5, "/proc/restored")


def test_a_full_disk_stops_the_run_and_leaves_whole_files_only(
    restore: Restore, identity: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        (tmp_path / "in").mkdir()
        for index in range(6):
            save(tmp_path / "in" / f"{index}.png", noisy_picture(index, 100, 150))
        finished = restore("denoise", "in", disk / "out", "--model", identity, "--json")
        assert finished.returncode == 5
        summary, message = finished.stderr.splitlines()
        assert re.match(r"restored \d photographs? in .*disk", summary)
        assert re.match(r"error: .*No space left", message)
        written = sorted((disk / "out").glob("*.png"))
        assert 0 < len(written) < 6
        told = [Path(file["target"]).name for file in json.loads(finished.stdout)["files"]]
        assert told == [path.name for path in written][: len(told)]
        assert all(load_pixels(path).shape == (100, 150, 3) for path in written)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(60):
        save(folder / f"{index:02d}.png", noisy_picture(index, 400, 400))
    return folder


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_stopped_run_leaves_whole_files_only(many: Path, tmp_path: Path, signum: int, code: int) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "restore", "denoise", str(many), str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while len(list(out.glob("*.png"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signum)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in stderr
    finished = sorted(out.glob("*.png"))
    assert 2 <= len(finished) < 60
    assert all(load_pixels(path).shape == (400, 400, 3) for path in finished)
    if signum != signal.SIGKILL:
        assert files_below(out) == {path.name for path in finished}
        assert stderr.strip().splitlines()[-1].startswith("error: stopped")


def test_what_a_killed_run_left_goes_with_the_next(
    restore: Restore, photographs: Path, identity: Path, tmp_path: Path
) -> None:
    from restore.atomic import write_atomically  # noqa: PLC0415  only here

    killed = f"""
import os, pathlib
from restore import atomic
os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
atomic.{write_atomically.__name__}(pathlib.Path({str(tmp_path / "out" / "a.png")!r}), b"half")
"""
    (tmp_path / "out").mkdir()
    subprocess.run([sys.executable, "-c", killed], check=False)
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert restore("denoise", photographs, "out", "--model", identity, "-q").returncode == 0
    assert files_below(tmp_path / "out") == files_below(photographs)


def test_a_closed_stdout_is_no_crash(photographs: Path, identity: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m restore denoise in out --model {identity} --json | head -c 1"
    finished = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in finished.stderr
    assert files_below(tmp_path / "out") == files_below(photographs)


# --------------------------------------------------------------------------- models: 60-64, 66, 76


class Malicious:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Any, ...]]:
        return (Path.touch, (self.victim,))


def test_bad_weights_are_refused_before_anything_is_written(
    restore: Restore, photographs: Path, identity: Path, tmp_path: Path
) -> None:
    whole = identity.read_bytes()
    victim = tmp_path / "victim"
    flipped = bytearray(whole)
    flipped[-100] ^= 4
    cases = {
        "60-malicious.pth": pickle.dumps({"params": Malicious(victim)}, protocol=2),
        "61-empty.safetensors": b"",
        "61-truncated.safetensors": whole[: len(whole) // 2],
        "61-garbage.pth": b"garbage",
        "62-flipped.safetensors": bytes(flipped),
        "63-lying.safetensors": struct.pack("<Q", 2**50) + whole[8:],
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        one_line_error(restore("denoise", photographs, "out", "--model", name), 4, name)
    assert not victim.exists()
    one_line_error(restore("denoise", photographs, "out", "--model", "https://example.org/a.pth"), 4, "download it")
    one_line_error(restore("denoise", photographs, "out", "--model", "unheard-of"), 4, "unheard-of", "denoise-fast")
    assert not files_below(tmp_path / "out")


def test_weights_of_another_network_are_named_with_what_was_expected(
    restore: Restore, photographs: Path, tmp_path: Path
) -> None:
    document = {"name": "other", "task": "denoise", "architecture": "nafnet", "network": SMALL.as_dict()}
    save_weights(tmp_path / "kind.safetensors", NAFNet(SMALL), document | {"architecture": "unet"})
    wider = dataclasses.replace(SMALL, width=2 * SMALL.width)
    save_weights(tmp_path / "shape.safetensors", NAFNet(SMALL), document | {"network": wider.as_dict()})
    for name, found in (("kind", "found 'unet'"), ("shape", "found (")):
        finished = restore("denoise", photographs, "out", "--model", f"{name}.safetensors")
        one_line_error(finished, 4, f"{name}.safetensors", "expected", found)
    assert not files_below(tmp_path / "out")


def test_official_checkpoints_work(restore: Restore, photographs: Path, tmp_path: Path) -> None:
    config = NAFNetConfig(4, (Stage(1),), Stage(1), (Stage(1),), padding="constant")
    torch.save({"params": NAFNet(config).state_dict()}, tmp_path / "official.pth")
    assert restore("denoise", photographs, "out", "--model", "official.pth", "-q").returncode == 0
    for extra in ([], ["--dry-run"]):
        finished = restore("denoise", photographs, "out2", "--model", "official.pth", "--sigma", "10", *extra)
        one_line_error(finished, 2, "cannot be told")
    assert not (tmp_path / "out2").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_missing_device_has_its_code(restore: Restore, photographs: Path) -> None:
    one_line_error(restore("denoise", photographs, "out", "--device", "cuda"), 6, "CUDA", "device cpu")
    one_line_error(restore("denoise", photographs, "out", "--device", "tpu"), 2, "tpu")
