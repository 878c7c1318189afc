"""restore.data.packing: what goes into a pack comes out, within the size; damaged packs are refused."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from skimage import data

from restore.data import Tolerant, describe, open_pairs, open_photos, pack, packs
from restore.errors import ImageError, NothingToDoError, OutputError, UsageError
from restore.images import Photo, read_photo, write_photo
from restore.images.opencv import cv2

Write = Callable[..., None]
photograph: Callable[[], np.ndarray[Any, Any]] = data.astronaut


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "set").mkdir(parents=True)
    picture = photograph()
    write_photo(folder / "a.png", Photo(picture[:96, :128]))
    write_photo(folder / "grey.png", Photo(picture[:50, 200:260, 0].copy()))
    write_photo(folder / "set" / "deep.tif", Photo(picture[200:260, :90].astype(np.uint16) * 256 + 3))
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    Image.fromarray(picture[100:260, 100:300]).save(folder / "set" / "b.jpg", quality=80, exif=exif)
    (folder / "set" / "LICENSE.txt").write_text("CC0", encoding="utf-8")
    return folder


def manifest(path: Path) -> dict[str, Any]:
    with tarfile.open(path) as tar:
        file = tar.extractfile("manifest.json")
        assert file
        return dict(json.load(file))


def rewrite(path: Path, **changes: Any) -> None:
    """Write a pack anew with changes in its manifest."""
    document = manifest(path) | changes
    file = io.BytesIO()
    with tarfile.open(path) as tar, tarfile.open(fileobj=file, mode="w") as changed:
        for info in tar:
            member = tar.extractfile(info)
            assert member
            content = json.dumps(document).encode() if info.name == "manifest.json" else member.read()
            info.size = len(content)
            changed.addfile(info, io.BytesIO(content))
    path.write_bytes(file.getvalue())


def test_what_fits_is_packed_without_loss(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report = pack(folder, tmp_path / "pack.tar", max_bytes=10**6, on_picture=lambda *numbers: told.append(numbers))
    assert (report.num_pictures, report.quality, report.crop, report.skipped) == (4, 100, None, ())
    assert report.num_bytes == (tmp_path / "pack.tar").stat().st_size
    assert told[-1] == (4, 4)
    photos, packed = open_photos(folder), open_photos(tmp_path / "pack.tar")
    assert list(packed.names) == list(photos.names)
    assert describe(packed) == {".": 2, "set": 2}
    for index in range(4):
        assert torch.equal(packed.read(index), photos.read(index))
        assert packed.read(index).dtype == photos.read(index).dtype


def test_floats_that_are_rounded_are_counted(folder: Path, tmp_path: Path) -> None:
    assert pack(folder, tmp_path / "pack.tar", max_bytes=10**6).num_rounded == 0
    write_photo(folder / "floats.tif", Photo(np.full((9, 9), 1.5, np.float32)))
    assert pack(folder, tmp_path / "pack.tar", max_bytes=10**6).num_rounded == 1
    packed = open_photos(tmp_path / "pack.tar")
    assert (packed.read(list(packed.names).index("floats.tif")) == 65535).all()


def test_a_jpeg_goes_in_as_it_is_but_for_its_metadata(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "pack.tar", max_bytes=10**6)
    entry = next(entry for entry in manifest(tmp_path / "pack.tar")["pictures"] if entry["name"] == "set/b.jpg")
    assert entry["bytes"] < (folder / "set" / "b.jpg").stat().st_size
    assert b"taken at home" in (folder / "set" / "b.jpg").read_bytes()
    assert b"taken at home" not in (tmp_path / "pack.tar").read_bytes()


def test_a_png_goes_in_as_it_is_but_for_its_metadata(folder: Path, tmp_path: Path) -> None:
    texts = PngInfo()
    texts.add_text("Author", "a secret address")
    Image.fromarray(photograph()[:40, :60]).save(folder / "text.png", pnginfo=texts)
    assert b"secret" in (folder / "text.png").read_bytes()
    assert pack(folder, tmp_path / "pack.tar", max_bytes=10**6).quality == 100
    assert b"secret" not in (tmp_path / "pack.tar").read_bytes()
    photos, packed = open_photos(folder), open_photos(tmp_path / "pack.tar")
    index = list(photos.names).index("text.png")
    assert torch.equal(packed.read(index), photos.read(index))


def test_nothing_but_the_picture_goes_in(folder: Path, tmp_path: Path) -> None:
    picture, exif = Image.fromarray(photograph()[:40, :60]), Image.Exif()
    exif[0x010E] = "a secret place"
    picture.save(folder / "tagged.webp", exif=exif)
    picture.save(folder / "commented.jpg", comment=b"a secret remark")
    picture.save(folder / "longer.jpg")
    with (folder / "longer.jpg").open("ab") as file:
        file.write(b"a secret film behind it")
    grey = picture.convert("LA")
    grey.putalpha(128)
    grey.save(folder / "alpha.png")
    pack(folder, tmp_path / "pack.tar", max_bytes=10**6)
    assert b"secret" not in (tmp_path / "pack.tar").read_bytes()
    photos, packed = open_photos(folder), open_photos(tmp_path / "pack.tar")
    assert all(torch.equal(packed.read(index), photos.read(index)) for index in range(len(photos)))
    with tarfile.open(tmp_path / "pack.tar") as tar:
        members = [tar.extractfile(info) for info in tar if info.name.startswith("pictures/")]
        assert "A" not in "".join(Image.open(member).mode for member in members if member)


def test_a_picture_that_a_tag_turns_is_packed_upright(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(photograph()[:40, :60]).save(tmp_path / "photos" / "a.jpg", exif=exif)
    pack(tmp_path / "photos", tmp_path / "pack.tar", max_bytes=10**6)
    assert torch.equal(open_photos(tmp_path / "pack.tar").read(0), open_photos(tmp_path / "photos").read(0))


def test_a_picture_wider_than_webp_holds_is_packed_without_loss(write: Write, tmp_path: Path) -> None:
    write(tmp_path / "photos" / "wide.png", np.zeros((1, 2**14, 3), np.uint8))
    assert pack(tmp_path / "photos", tmp_path / "pack.tar", max_bytes=10**6).num_pictures == 1
    assert open_photos(tmp_path / "pack.tar").read(0).shape == (3, 1, 2**14)


def test_grey_pictures_stay_of_one_channel(write: Write, tmp_path: Path) -> None:
    for dtype in (np.uint8, np.uint16):
        write(tmp_path / "photos" / f"{dtype.__name__}.png", np.full((9, 9), 5, dtype))
    pack(tmp_path / "photos", tmp_path / "pack.tar", max_bytes=10**6)
    packed = open_photos(tmp_path / "pack.tar")
    assert [packed.load(index).shape for index in range(2)] == [(9, 9), (9, 9)]


def test_the_notes_are_those_beside_pictures_and_in_the_folder(write: Write, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write(folder / "set" / "README.png", photograph()[:9, :9])
    for name in ("Licence", "set/readme.txt", "empty/LICENSE"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("free", encoding="utf-8")
    (folder / "COPYING").write_bytes(bytes(2**20 + 1))
    (tmp_path / "private").write_text("mine", encoding="utf-8")
    (folder / "copyright").symlink_to(tmp_path / "private")
    assert pack(folder, tmp_path / "pack.tar", max_bytes=10**7).notes == ("Licence", "set/readme.txt")


def test_the_same_folder_gives_the_same_bytes_and_licences_go_along(folder: Path, tmp_path: Path) -> None:
    reports = [pack(folder, tmp_path / f"{number}.tar", max_bytes=10**6) for number in range(2)]
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()
    assert reports[0].notes == ("set/LICENSE.txt",)
    with tarfile.open(tmp_path / "0.tar") as tar:
        file = tar.extractfile(manifest(tmp_path / "0.tar")["notes"][0]["member"])
        assert file
        assert file.read() == b"CC0"


def test_where_space_is_short_quality_falls_within_the_limit(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        write_photo(folder / f"{index}.png", Photo(photograph()[:200, 100 * index : 100 * index + 200]))
    whole = pack(folder, tmp_path / "whole.tar", max_bytes=10**6)
    limit = whole.num_bytes * 3 // 4
    report = pack(folder, tmp_path / "pack.tar", max_bytes=limit)
    assert report.num_bytes <= limit
    assert report.quality in (98, 95)
    assert pack(folder, tmp_path / "fits.tar", max_bytes=whole.num_bytes).is_lossless
    assert pack(folder, tmp_path / "short.tar", max_bytes=whole.num_bytes - 1).num_bytes < whole.num_bytes
    packed = open_photos(tmp_path / "pack.tar")
    for index in range(3):
        expected = read_photo(folder / f"{index}.png").pixels
        error = packed.read(index).permute(1, 2, 0).numpy().astype(float) - expected
        assert np.sqrt(np.mean(error**2)) < 4


def random_colours(seed: int, height: int, width: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_what_fits_stays_whole_though_large_pictures_stand_in_front(write: Write, tmp_path: Path) -> None:
    for index in range(40):
        write(tmp_path / "photos" / f"{index:02}.png", random_colours(index, 8, 450 if index < 16 else 8))
    whole = pack(tmp_path / "photos", tmp_path / "whole.tar", max_bytes=10**6)
    assert pack(tmp_path / "photos", tmp_path / "pack.tar", max_bytes=whole.num_bytes).is_lossless


def test_what_cannot_fit_is_given_up_early(write: Write, tmp_path: Path) -> None:
    for index in range(40):
        write(tmp_path / "photos" / f"{index:02}.png", random_colours(index, 32, 32))
    told: list[int] = []
    size = 40 * 32 * 32 * 3
    with pytest.raises(UsageError, match="do not fit"):
        pack(
            tmp_path / "photos",
            tmp_path / "pack.tar",
            max_bytes=size * 3 // 5,
            on_picture=lambda num, _: told.append(num),
        )
    assert told[:16] == [*range(1, 16), 1]  # 24 would exceed the size


def test_jpegs_hold_colours_at_full_resolution_and_round_what_is_deeper(write: Write, tmp_path: Path) -> None:
    colours = random_colours(0, 200, 200)
    write(tmp_path / "photos" / "colours.png", colours)
    write(tmp_path / "photos" / "deep.tif", np.full((16, 16), 6 * 257 - 7, np.uint16))
    whole = pack(tmp_path / "photos", tmp_path / "whole.tar", max_bytes=10**6)
    report = pack(tmp_path / "photos", tmp_path / "pack.tar", max_bytes=whole.num_bytes - 1)
    assert (report.is_lossless, report.crop) == (False, None)
    packed = open_photos(tmp_path / "pack.tar")
    error = packed.read(0).permute(1, 2, 0).numpy().astype(float) - colours
    assert np.sqrt(np.mean(error**2)) < 10
    assert (packed.read(1) == 6).all()


def test_a_small_jpeg_is_cut_like_the_others(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(photograph()[:300, :400]).save(tmp_path / "photos" / "a.jpg", quality=1)
    write_photo(tmp_path / "photos" / "b.png", Photo(random_colours(0, 400, 400)))
    report = pack(tmp_path / "photos", tmp_path / "pack.tar", max_bytes=60_000)
    assert report.crop is not None
    packed = open_photos(tmp_path / "pack.tar")
    assert [packed.read(index).shape for index in range(2)] == 2 * [(3, report.crop, report.crop)]


def test_what_no_jpeg_holds_is_left_out(folder: Path, tmp_path: Path) -> None:
    write_photo(folder / "wide.png", Photo(random_colours(0, 1, 66_000)))
    report = pack(folder, tmp_path / "pack.tar", max_bytes=180_000)
    ((name, reason),) = report.skipped
    assert name == "wide.png"
    assert reason.startswith("JPEG cannot hold it")


def test_pictures_are_cut_where_quality_alone_does_not_do(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = photograph()[:300, :400]
    write_photo(folder / "a.png", Photo(pixels))
    report = pack(folder, tmp_path / "pack.tar", max_bytes=40_000)
    assert report.crop in (256, 192, 128)
    assert manifest(tmp_path / "pack.tar")["crop"] == report.crop
    picture = open_photos(tmp_path / "pack.tar").read(0)
    assert picture.shape == (3, report.crop, report.crop)
    top, left = (300 - report.crop) // 2, (400 - report.crop) // 2
    error = picture.permute(1, 2, 0).numpy().astype(float) - pixels[top : top + report.crop, left : left + report.crop]
    assert np.sqrt(np.mean(error**2)) < 4


def test_pictures_that_do_not_fit_are_refused_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"do not fit into 0\.0 MB"):
        pack(folder, tmp_path / "pack.tar", max_bytes=11_000)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_folders_that_are_closed_are_reported(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = folder / "closed"
    closed.mkdir()
    listdir = os.listdir

    def deny(path: Path) -> list[str]:
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", deny)
    report = pack(folder, tmp_path / "pack.tar", max_bytes=10**6)
    assert report.num_pictures == 4
    assert report.skipped == (("closed", "cannot be read: Permission denied"),)
    for path in filter(Path.is_file, folder.rglob("*")):
        path.unlink()
    with pytest.raises(NothingToDoError, match="closed: cannot be read: Permission denied; check its permissions"):
        pack(folder, tmp_path / "pack.tar", max_bytes=10**6)


def test_bad_pictures_are_skipped_and_reported(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.png").write_bytes(b"nothing")
    report = pack(folder, tmp_path / "pack.tar", max_bytes=10**6)
    assert [name for name, _ in report.skipped] == ["bad.png"]
    assert str(tmp_path) not in json.dumps(manifest(tmp_path / "pack.tar"))
    for path in folder.rglob("*.*g"):
        path.write_bytes(b"nothing")
    with pytest.raises(NothingToDoError, match="4 of 5 pictures cannot be read"):
        pack(folder, tmp_path / "pack.tar", max_bytes=10**6)


def test_faults_of_the_paths_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingToDoError, match="no pictures"):
        pack(tmp_path / "empty", tmp_path / "pack.tar", max_bytes=10**6)
    with pytest.raises(UsageError, match="no such folder"):
        pack(tmp_path / "absent", tmp_path / "pack.tar", max_bytes=10**6)
    with pytest.raises(OutputError, match="nowhere"):
        pack(folder, tmp_path / "nowhere" / "pack.tar", max_bytes=10**6)


@pytest.mark.parametrize("kept", [0, 100, 700, 3000, 20_000, -12_000])
def test_a_truncated_pack_is_refused(folder: Path, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "pack.tar"
    pack(folder, path, max_bytes=10**6)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UsageError, match=r"pack\.tar.*truncated"):
        open_photos(path)


def test_a_pack_that_lacks_the_end_of_its_last_picture_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "pack.tar"
    pack(folder, path, max_bytes=10**6)
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    for missing in (1, last.size):
        path.write_bytes(path.read_bytes()[: last.offset_data + last.size - missing])
        with pytest.raises(UsageError, match=r"pack\.tar.*truncated"):
            open_photos(path)


def test_a_flipped_bit_spoils_one_picture(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "pack.tar"
    pack(folder, path, max_bytes=10**6)
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[-1].offset_data
    content = bytearray(path.read_bytes())
    content[offset + 50] ^= 1
    path.write_bytes(content)
    packed = open_photos(path)
    with pytest.raises(ImageError, match="sha256"):
        packed.read(len(packed) - 1)
    assert torch.equal(packed.read(0), open_photos(folder).read(0))
    assert isinstance(Tolerant(packed).read(len(packed) - 1), torch.Tensor)


def test_a_picture_too_large_for_the_memory_is_not_called_damaged(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise cv2.error("(-4:Insufficient memory) Failed to allocate 5880000")

    pack(folder, tmp_path / "pack.tar", max_bytes=10**6)
    packed = open_photos(tmp_path / "pack.tar")
    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(ImageError, match=r"pack\.tar: .*: there is not enough memory to decode it"):
        packed.read(0)


def test_foreign_files_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("nothing " * 1000, encoding="utf-8")
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.add(folder / "a.png", "../../a.png")
    for name in ("text.tar", "other.tar"):
        with pytest.raises(UsageError, match=rf"{name}: not a pack"):
            open_photos(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_named_as_photographs_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDWR)  # else a reader would wait for ever, and this test with it
    os.write(end, bytes(512))
    with pytest.raises(UsageError, match="pipe: is neither a file nor a folder"):
        open_photos(tmp_path / "pipe")
    os.close(end)


@pytest.mark.parametrize(
    "changes",
    [
        {"pictures": [{"name": "a"}]},
        {"pictures": 5},
        {"format": "other"},
        {"pictures": [{"name": "a", "member": "manifest.json", "bytes": 3, "sha256": "", "height": 1, "width": 1}]},
    ],
)
def test_a_lying_manifest_is_refused(folder: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    pack(folder, tmp_path / "pack.tar", max_bytes=10**6)
    rewrite(tmp_path / "pack.tar", **changes)
    with pytest.raises(UsageError, match="not a pack"):
        open_photos(tmp_path / "pack.tar")


@pytest.mark.parametrize("name", ["MAX_PIXELS", "_MAX_MANIFEST_BYTES"])
def test_what_would_take_too_much_memory_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pack(folder, tmp_path / "pack.tar", max_bytes=10**6)
    monkeypatch.setattr(packs, name, 100)
    with pytest.raises((ImageError, UsageError), match="make it anew"):
        open_photos(tmp_path / "pack.tar").read(0)


def test_a_picture_that_pillow_would_warn_of_is_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(folder, tmp_path / "pack.tar", max_bytes=10**6)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96 * 128 - 1)
    assert open_photos(tmp_path / "pack.tar").read(0).shape == (3, 96, 128)


def test_a_manifest_nested_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "pack.tar", "w") as tar:
        info = tarfile.TarInfo("manifest.json")
        info.size = 10**6
        tar.addfile(info, io.BytesIO(b"[" * 10**6))
    with pytest.raises(UsageError, match="not a pack"):
        open_photos(tmp_path / "pack.tar")


def test_a_newer_pack_asks_for_an_upgrade(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "pack.tar", max_bytes=10**6)
    rewrite(tmp_path / "pack.tar", version=2)
    with pytest.raises(UsageError, match=r"version 2.*upgrade"):
        open_photos(tmp_path / "pack.tar")


def test_a_picture_of_another_size_than_stated_is_refused(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "pack.tar", max_bytes=10**6)
    pictures = manifest(tmp_path / "pack.tar")["pictures"]
    rewrite(tmp_path / "pack.tar", pictures=[entry | {"height": 3} for entry in pictures])
    with pytest.raises(ImageError, match="manifest"):
        open_photos(tmp_path / "pack.tar").read(0)


def test_two_packs_make_pairs(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "pack.tar", max_bytes=10**6)
    pairs = open_pairs(tmp_path / "pack.tar", folder)
    assert all(torch.equal(*pairs.read(index)) for index in range(4))
