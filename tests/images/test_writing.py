"""restore.images.writing: what is written reads back, or the caller is told why not."""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import stat
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from restore.errors import ImageError, OutputError
from restore.images import Photo, from_float, read_photo, to_float, write_photo
from restore.images.directories import TagBlock, pack_directory

Array = NDArray[Any]
LOSSLESS = {".png": (np.uint8, np.uint16), ".tif": (np.uint8, np.uint16, np.float32), ".ppm": (np.uint8, np.uint16)}
LOSSLESS |= {".bmp": (np.uint8,), ".webp": (np.uint8,)}


def is_same(photo: Photo, pixels: Array, alpha: Array | None) -> bool:
    if (photo.alpha is None) != (alpha is None) or photo.pixels.dtype != pixels.dtype:
        return False
    return np.array_equal(photo.pixels, pixels) and (alpha is None or np.array_equal(photo.alpha, alpha))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats_give_back_what_they_got(tmp_path: Path, make_picture: Any, suffix: str, mode: str) -> None:
    holds_alpha = suffix in (".png", ".tif", ".webp")
    for dtype in LOSSLESS[suffix]:
        pixels, alpha = make_picture(mode, dtype)
        notes = write_photo(tmp_path / f"a{suffix}", Photo(pixels, alpha, format="webp"))
        photo = read_photo(tmp_path / f"a{suffix}")
        expected = np.dstack([pixels] * 3) if suffix == ".webp" and mode[0] == "L" else pixels
        assert is_same(photo, expected, alpha if holds_alpha else None)
        assert len(notes) == (alpha is not None and not holds_alpha)
        assert photo.warnings == ()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 20_000), (20_000, 1)])
@pytest.mark.parametrize("suffix", [*LOSSLESS, ".jpg"])
def test_sizes(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 77, np.uint8)
    path = tmp_path / f"a{suffix}"
    if suffix == ".webp" and max(size) > 16383:
        with pytest.raises(ImageError, match="; choose PNG or TIFF"):
            write_photo(path, Photo(pixels, format="webp"))
        assert not path.exists()
        return
    write_photo(path, Photo(pixels, format="webp"))
    assert np.array_equal(read_photo(path).pixels, pixels)


def test_other_programs_read_the_same(tmp_path: Path, make_picture: Any) -> None:
    for mode in ("L", "LA", "RGB", "RGBA"):
        for dtype in (np.uint8, np.uint16, np.float32):
            pixels, alpha = make_picture(mode, dtype)
            samples = pixels if alpha is None else np.dstack([pixels, alpha])
            write_photo(tmp_path / "a.tif", Photo(pixels, alpha))
            assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), samples)
            if dtype == np.uint8:
                write_photo(tmp_path / "a.png", Photo(pixels, alpha))
                for name in ("a.png", "a.tif"):
                    with Image.open(tmp_path / name) as image:
                        assert image.mode == mode
                        assert np.array_equal(np.asarray(image), samples)
            if mode == "RGB":
                decoded = cv2.imdecode(np.fromfile(tmp_path / "a.tif", np.uint8), cv2.IMREAD_UNCHANGED)
                assert decoded is not None
                assert np.array_equal(decoded[..., ::-1], pixels)


@pytest.mark.parametrize("quality", [80, 95])
def test_jpeg_and_lossy_webp_come_close(tmp_path: Path, smooth: Array, quality: int) -> None:
    for suffix in (".jpg", ".webp"):
        for pixels in (smooth, smooth[..., 0].copy()):
            assert write_photo(tmp_path / f"a{suffix}", Photo(pixels), quality=quality) == ()
            read = read_photo(tmp_path / f"a{suffix}").pixels
            assert (
                np.abs(read.astype(int) - (np.dstack([pixels] * 3) if read.ndim > pixels.ndim else pixels)).mean() < 4
            )
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.mode == "L"


def test_jpeg_keeps_the_resolution_of_colours(tmp_path: Path) -> None:
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2] = (200, 40, 40)
    stripes[:, 1::2] = (40, 200, 40)
    write_photo(tmp_path / "a.jpg", Photo(stripes), quality=95)
    assert np.abs(read_photo(tmp_path / "a.jpg").pixels.astype(int) - stripes).max() < 30


def test_webp_is_lossless_where_its_source_was_or_at_100(tmp_path: Path, make_picture: Any) -> None:
    pixels, alpha = make_picture("RGBA", np.uint8)
    alpha[:9] = 0  # hidden colours are kept too
    for photo, quality, is_lossless in (
        (Photo(pixels, alpha, format="webp"), 80, True),
        (Photo(pixels, alpha, format="png"), 100, True),
        (Photo(pixels, alpha, format="png"), 80, False),
        (Photo(pixels, alpha, format="webp", lossless=False), 80, False),
    ):
        write_photo(tmp_path / "a.webp", photo, quality=quality)
        read = read_photo(tmp_path / "a.webp")
        assert is_same(read, pixels, alpha) == is_lossless
        assert read.lossless == is_lossless


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("dtype", LOSSLESS[".tif"])
@pytest.mark.parametrize("exif", [b"II*\0\x08\0\0\0" + bytes(6), b"MM\0*\0\0\0\x08" + bytes(6)])
def test_tiff_is_compressed_where_its_source_was(
    tmp_path: Path, make_picture: Any, mode: str, dtype: type[np.generic], exif: bytes
) -> None:
    pixels, alpha = make_picture(mode, dtype)
    pixels = np.concatenate([pixels] * 40)
    alpha = None if alpha is None else np.concatenate([alpha] * 40)
    names = {compress: tmp_path / f"{compress}.tif" for compress in (False, True)}
    for compress, path in names.items():
        write_photo(path, Photo(pixels, alpha, exif=exif, format="tiff", compressed=compress))
        photo = read_photo(path)
        assert is_same(photo, pixels, alpha)
        assert photo.compressed == compress
        samples = pixels if alpha is None else np.dstack([pixels, alpha])
        np.testing.assert_array_equal(tifffile.imread(path), samples)
    assert names[True].stat().st_size < names[False].stat().st_size
    if mode != "LA":  # which OpenCV does not read
        assert cv2.imread(str(names[True]), cv2.IMREAD_UNCHANGED) is not None


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_depth_that_is_lost_is_said(tmp_path: Path, smooth: Array, suffix: str) -> None:
    deep = smooth.astype(np.uint16) * 257
    notes = write_photo(tmp_path / f"a{suffix}", Photo(deep, format="webp"))
    assert notes == (
        f"{'JPEG' if suffix == '.jpg' else suffix[1:].upper()} holds 8 bits; the 16-bit samples were rounded",
    )
    assert np.abs(read_photo(tmp_path / f"a{suffix}").pixels.astype(int) - smooth).mean() < 2


@pytest.mark.parametrize("suffix", [".png", ".ppm"])
def test_floats_become_16_bits_and_clipping_is_said(tmp_path: Path, suffix: str) -> None:
    floats = np.array([[0, 0.25, 1]], np.float32)
    assert write_photo(tmp_path / f"a{suffix}", Photo(floats)) == ()
    assert read_photo(tmp_path / f"a{suffix}").pixels.tolist() == [[0, 16384, 65535]]
    outside = np.array([[-0.5, 0.25, 7, np.nan]], np.float32)
    notes = write_photo(tmp_path / f"a{suffix}", Photo(outside))
    assert notes == (f"{'PNM' if suffix == '.ppm' else 'PNG'} holds 0 to 1 only; 3 of 4 values were clipped",)
    assert read_photo(tmp_path / f"a{suffix}").pixels.tolist() == [[0, 16384, 65535, 0]]


@pytest.mark.parametrize(("dtype", "suffix"), [(np.float32, ".png"), (np.float32, ".webp"), (np.uint16, ".webp")])
def test_opacity_gets_the_depth_of_the_pixels(tmp_path: Path, dtype: type[np.generic], suffix: str) -> None:
    grey = np.array([[[0, 64, 255]] * 3], np.uint8).repeat(2, 0).transpose(0, 2, 1)
    alpha = np.array([[255, 128, 1], [0, 64, 254]], np.uint8)
    deep, deep_alpha = (from_float(to_float(samples), dtype) for samples in (grey, alpha))
    write_photo(tmp_path / f"a{suffix}", Photo(deep, deep_alpha), quality=100)
    photo = read_photo(tmp_path / f"a{suffix}")
    expected = np.uint16 if suffix == ".png" else np.uint8
    assert is_same(photo, from_float(to_float(grey), expected), from_float(to_float(alpha), expected))


def test_transparency_is_dropped_in_silence_only_where_there_is_none(tmp_path: Path, smooth: Array) -> None:
    note = "JPEG holds no transparency; it was dropped"
    for dtype, peak in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
        pixels, opaque = from_float(to_float(smooth), dtype), np.full(smooth.shape[:2], peak, dtype)
        others = write_photo(tmp_path / "a.jpg", Photo(pixels))  # of the depth that JPEG has not
        assert write_photo(tmp_path / "a.jpg", Photo(pixels, opaque)) == others
        opaque[3, 3] = peak - peak / 255
        assert sorted(write_photo(tmp_path / "a.jpg", Photo(pixels, opaque))) == sorted((*others, note))


@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_metadata_survive(  # noqa: PLR0917  fixtures
    tmp_path: Path, smooth: Array, exif: Image.Exif, icc: bytes, suffix: str, endian: str
) -> None:
    exif.endian = endian
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    assert block.startswith(b"II" if endian == "<" else b"MM")
    xmp = b"<x:xmpmeta>rating</x:xmpmeta>"
    photo = Photo(smooth, icc=icc, exif=block, xmp=xmp)
    path = tmp_path / f"a{suffix}"
    for _ in range(2):  # what was read is written again
        assert write_photo(path, photo) == ()
        with Image.open(path) as image:
            kept = image.getexif()
            assert kept[0x010F] == "Maker"
            assert kept[0x8298] == "Copyright holder"
            assert kept.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
            assert kept.get_ifd(0x8769)[0x927C] == b"maker's note " * 9
            assert kept.get_ifd(0x8825)[2] == (48.0, 8.0, 7.5)
            assert image.info["icc_profile"] == icc
            assert image.info["xmp"] == xmp
        photo = read_photo(path)
        assert photo.warnings == ()
        assert (photo.icc, photo.xmp) == (icc, xmp)
        assert photo.exif is not None
        assert suffix == ".tif" or photo.exif == block
    assert write_photo(path, photo, strip_metadata=True) == ()
    bare = read_photo(path)
    assert (bare.icc, bare.exif, bare.xmp) == (icc, None, None)


def test_the_directory_of_a_tiff_is_in_order_and_its_values_at_even_places(
    tmp_path: Path, smooth: Array, icc: bytes
) -> None:
    tags = {305: (2, 7, b"editor\0"), 271: (2, 5, b"Make\0"), 33432: (2, 9, b"somebody\0"), 315: (2, 3, b"Me\0")}
    exif = b"II*\0\x08\0\0\0" + pack_directory("<", tags, 8)
    for number, content in enumerate((icc, icc + b"\0")):
        write_photo(tmp_path / f"{number}.tif", Photo(smooth, icc=content, exif=exif, xmp=b"<x/>", dpi=(300, 300)))
        block = TagBlock((tmp_path / f"{number}.tif").read_bytes())
        entries, _ = block.directory(block.first)
        assert list(entries) == sorted(entries)
        assert block.first % 2 == 0
        assert not [tag for tag, entry in entries.items() if entry.num_bytes > 4 and entry.offset % 2]
        assert {tag: block.values(entries[tag]) for tag in tags} == {tag: value for tag, (_, _, value) in tags.items()}


def test_makers_notes_stay_where_they_are_in_a_tiff(tmp_path: Path, smooth: Array, exif: Image.Exif) -> None:
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    write_photo(tmp_path / "a.tif", Photo(smooth, exif=block))
    data = (tmp_path / "a.tif").read_bytes()
    assert data[8 : len(block)] == block[8:]
    assert data[:4] == block[:4]
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        assert len(tiff.pages) == 1
        assert np.array_equal(tiff.pages[0].asarray(), smooth)


def test_what_exif_says_of_how_its_own_file_holds_pixels_stays_out_of_a_tiff(tmp_path: Path, smooth: Array) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    stale = {256: 9, 258: 1, 259: 5, 322: 16, 323: 16, 324: 8, 513: 8, 514: 9, 529: 1, 530: 2, 531: 1, 700: 1, 34675: 1}
    for tag, value in stale.items():
        exif[tag] = value
    write_photo(tmp_path / "a.tif", Photo(smooth, exif=exif.tobytes().removeprefix(b"Exif\0\0")))
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), smooth)
    with Image.open(tmp_path / "a.tif") as image:
        assert image.getexif()[0x010F] == "Maker"
        assert not image.getexif().keys() & (stale.keys() - {256, 258, 259})


@pytest.mark.parametrize("num_bytes", range(14, 20))
def test_the_pixels_of_a_tiff_can_be_mapped_into_memory(tmp_path: Path, make_picture: Any, num_bytes: int) -> None:
    pixels, _ = make_picture("RGB", np.float32)
    write_photo(tmp_path / "a.tif", Photo(pixels, exif=(b"II*\0\x08\0\0\0" + bytes(99))[:num_bytes]))
    mapped = tifffile.memmap(tmp_path / "a.tif")
    assert mapped.flags.aligned
    assert np.array_equal(mapped, pixels)


def test_a_row_of_a_tiff_may_be_of_any_length(tmp_path: Path) -> None:
    pixels = np.arange(2 * 400_000 * 3, dtype=np.uint8).reshape(2, 400_000, 3)
    write_photo(tmp_path / "a.tif", Photo(pixels))
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, pixels)


def test_what_a_tiff_cannot_hold_is_refused(tmp_path: Path, smooth: Array) -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 2**32 - 2**24

    with pytest.raises(ImageError, match="larger than the 4 GiB that TIFF holds; choose PNG"):
        write_photo(tmp_path / "a.tif", Photo(smooth, xmp=Huge()))


@pytest.mark.parametrize("suffix", [".bmp", ".ppm"])
def test_metadata_that_are_lost_are_said(tmp_path: Path, smooth: Array, icc: bytes, suffix: str) -> None:
    (note,) = write_photo(tmp_path / f"a{suffix}", Photo(smooth, icc=icc))
    assert note.endswith("holds no metadata; colour profile was dropped")
    (note,) = write_photo(tmp_path / f"a{suffix}", Photo(smooth, icc=icc, xmp=b"<x/>"))
    assert note.endswith("holds no metadata; colour profile and XMP were dropped")


def test_exif_and_xmp_too_large_for_jpeg_are_dropped_with_a_warning(tmp_path: Path, smooth: Array) -> None:
    empty = b"II*\0" + struct.pack("<IHI", 8, 0, 0)
    photo = Photo(smooth, exif=empty + bytes(65533 - 5 - len(empty)), xmp=bytes(65533 - 28))  # one byte too many
    notes = write_photo(tmp_path / "a.jpg", photo)
    assert ["EXIF" in note for note in notes] == [True, False]
    assert len(notes) == 2
    largest = Photo(smooth, exif=empty + bytes(65533 - 6 - len(empty)), xmp=b"x" * (65533 - 29))
    assert write_photo(tmp_path / "a.jpg", largest) == ()
    read = read_photo(tmp_path / "a.jpg")
    assert (read.exif, read.xmp) == (largest.exif, largest.xmp)
    assert write_photo(tmp_path / "a.png", photo) == ()
    assert read_photo(tmp_path / "a.png").exif == photo.exif


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".tif"])
def test_a_profile_for_other_colours_does_not_stop_the_photograph(
    tmp_path: Path, smooth: Array, icc: bytes, suffix: str
) -> None:
    notes = write_photo(tmp_path / f"a{suffix}", Photo(smooth[..., 0].copy(), icc=icc))
    read = read_photo(tmp_path / f"a{suffix}")
    assert read.icc == (None if suffix == ".png" else icc)
    assert len(notes) == (suffix == ".png")
    assert read.warnings == ()


@pytest.mark.parametrize("space", [b"CMYK", b"Lab "])
def test_a_profile_for_neither_grey_nor_rgb_is_not_put_where_no_program_takes_it(
    tmp_path: Path, smooth: Array, icc: bytes, space: bytes
) -> None:
    photo = Photo(smooth, icc=icc[:16] + space + icc[20:])
    for suffix, is_kept in ((".png", False), (".webp", False), (".jpg", True), (".tif", True)):
        notes = write_photo(tmp_path / f"a{suffix}", photo)
        assert read_photo(tmp_path / f"a{suffix}").icc == (photo.icc if is_kept else None)
        assert [note.split(";")[0] for note in notes] == ["its colour profile is not for colours"] * (not is_kept)


def test_a_profile_too_large_for_jpeg_is_dropped_with_a_warning(tmp_path: Path, smooth: Array, icc: bytes) -> None:
    largest = icc + bytes(255 * 65519 - len(icc))
    assert write_photo(tmp_path / "a.jpg", Photo(smooth, icc=largest)) == ()
    assert read_photo(tmp_path / "a.jpg").icc == largest
    (note,) = write_photo(tmp_path / "a.jpg", Photo(smooth, icc=largest + b"\0"))
    assert "16 MB" in note
    assert read_photo(tmp_path / "a.jpg").icc is None


NAMES = [
    "two words.png",
    "📷 été.png",
    "写真.png",
    "-dash.png",
    "line\nbreak\x1b[31m.png",
    "n" * 240 + ".png",
    "N" * 251 + ".png",
]
NAMES += [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")] + [os.fsdecode(b"\xff\xfe caf\xe9.png")]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names(tmp_path: Path, smooth: Array, name: str) -> None:
    write_photo(tmp_path / name, Photo(smooth))
    assert np.array_equal(read_photo(tmp_path / name).pixels, smooth)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_permissions_are_those_of_any_new_file(tmp_path: Path, smooth: Array) -> None:
    before = os.umask(0o027)
    try:
        write_photo(tmp_path / "a.png", Photo(smooth))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_failing_disk_leaves_the_old_file_and_no_litter(
    tmp_path: Path, smooth: Array, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=rf"a\.png: {os.strerror(number)}; \w+") as caught:
        write_photo(path, Photo(smooth))
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == number
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_no_litter(tmp_path: Path, smooth: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_photo(tmp_path / "a.tif", Photo(smooth))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_a_folder_in_the_way(tmp_path: Path, smooth: Array) -> None:
    (tmp_path / "b.png").mkdir()
    with pytest.raises(OutputError, match="create the folder"):
        write_photo(tmp_path / "gone" / "a.png", Photo(smooth))
    with pytest.raises(OutputError, match="in the way"):
        write_photo(tmp_path / "b.png", Photo(smooth))
    assert [path.name for path in tmp_path.iterdir()] == ["b.png"]


def test_what_no_format_holds_is_an_error_of_the_picture(tmp_path: Path, smooth: Array) -> None:
    cases: list[tuple[str, Callable[[Photo], Photo], str]] = [
        ("a.gif", lambda photo: photo, "names no format to write"),
        ("a", lambda photo: photo, "no suffix names no format to write"),
        ("a.pgm", lambda photo: photo, "PGM holds no colours; choose PPM"),
        (
            "a.jpg",
            lambda photo: dataclasses.replace(photo, pixels=np.zeros((1, 70_000, 3), np.uint8)),
            "choose PNG or TIFF",
        ),
    ]
    for name, change, word in cases:
        with pytest.raises(ImageError, match=word):
            write_photo(tmp_path / name, change(Photo(smooth)))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_read_is_written_the_same(tmp_path: Path, shared: Path) -> None:
    for source in sorted((shared / "data" / "test" / "sidd" / "noisy").iterdir())[:2]:
        photo = read_photo(source)
        for suffix in (".png", ".webp", ".tif"):
            write_photo(tmp_path / f"a{suffix}", photo)
            assert is_same(read_photo(tmp_path / f"a{suffix}"), photo.pixels, photo.alpha)
