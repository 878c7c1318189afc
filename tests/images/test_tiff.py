"""restore.images.tiff: every layout that tifffile, OpenCV and Pillow write is read exactly."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from restore.errors import ImageError
from restore.images import Photo, read_photo, write_photo
from restore.images.directories import TagBlock, pack_directory

Array = NDArray[Any]
Encode = Callable[..., bytes]


def written(samples: Array, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def check(path: Path, data: bytes, pixels: Array, alpha: Array | None) -> None:
    path.write_bytes(data)
    photo = read_photo(path)
    assert photo.pixels.dtype == pixels.dtype
    assert np.array_equal(photo.pixels, pixels)
    assert (photo.alpha is None) == (alpha is None)
    assert photo.alpha is None or np.array_equal(photo.alpha, alpha if alpha is not None else photo.pixels)
    assert photo.warnings == ()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
def test_layouts(tmp_path: Path, make_picture: Any, mode: str, dtype: type[np.generic]) -> None:
    pixels, alpha = make_picture(mode, dtype)
    samples = pixels if alpha is None else np.dstack([pixels, alpha])
    options: dict[str, Any] = {"photometric": "rgb" if mode.startswith("RGB") else "minisblack"}
    options |= {} if alpha is None else {"extrasamples": ["unassalpha"]}
    if dtype == np.float16:
        pixels, alpha = pixels.astype(np.float32), None if alpha is None else alpha.astype(np.float32)
    planar_configs = [None] if samples.ndim == 2 else ["contig", "separate"]
    for tile, planar, order in itertools.product((None, (16, 32)), planar_configs, "<>"):
        content = np.moveaxis(samples, 2, 0) if planar == "separate" else samples
        layout = {
            **options,
            "tile": tile,
            "planarconfig": planar,
            "byteorder": order,
            "rowsperstrip": None if tile else 7,
        }
        check(tmp_path / "a.tif", written(content, **layout), pixels, alpha)
        predictor = dtype in (np.uint8, np.uint16)
        check(tmp_path / "a.tif", written(content, compression="zlib", predictor=predictor, **layout), pixels, alpha)
    check(tmp_path / "a.tif", written(samples, bigtiff=True, planarconfig=planar_configs[0], **options), pixels, alpha)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 32946])
def test_compressions(tmp_path: Path, make_picture: Any, mode: str, dtype: type[np.generic], compression: int) -> None:
    pixels, alpha = make_picture(mode, dtype)
    samples = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    samples = samples if alpha is None else np.dstack([samples, alpha])
    for predictor in (1,) if compression in (1, 32773) else (1, 2, 3) if dtype == np.float32 else (1, 2):
        settings = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
        data = cv2.imencode(".tiff", samples, [*settings, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 5])[1].tobytes()
        check(tmp_path / "a.tif", data, pixels, alpha)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits", "zstd", "lzma"])
def test_what_pillow_writes(tmp_path: Path, make_picture: Any, encode: Encode, mode: str, compression: str) -> None:
    pixels, alpha = make_picture(mode, np.uint8)
    samples = pixels if alpha is None else np.dstack([pixels, alpha])
    check(tmp_path / "a.tif", encode(samples, "TIFF", compression=compression), pixels, alpha)


def test_scans_and_jpegs_inside(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    bitmap = Image.fromarray(smooth).convert("1")
    for compression in ("raw", "group3", "group4", "tiff_lzw"):
        expected = np.asarray(bitmap).astype(np.uint8) * 255
        check(tmp_path / "a.tif", encode(bitmap, "TIFF", compression=compression), expected, None)
    for options in (1, 4, 5):  # of lines coded by the one before, of ends of lines at whole bytes, both
        data = encode(bitmap, "TIFF", compression="group3", tiffinfo={292: options})
        check(tmp_path / "a.tif", data, np.asarray(bitmap).astype(np.uint8) * 255, None)
    for picture in (smooth, smooth[..., 0].copy()):
        data = encode(picture, "TIFF", compression="jpeg")
        check(tmp_path / "a.tif", data, np.asarray(Image.open(io.BytesIO(data))), None)


def test_white_as_zero_is_turned_over(tmp_path: Path, make_picture: Any) -> None:
    for dtype in (np.uint8, np.uint16):
        pixels, _ = make_picture("L", dtype)
        check(tmp_path / "a.tif", written(np.bitwise_not(pixels), photometric="miniswhite"), pixels, None)


def test_alpha_multiplied_in_is_divided_out(tmp_path: Path) -> None:
    pixels = np.full((4, 5, 3), 0.75, np.float32)
    alpha = np.linspace(0.2, 1, 20, dtype=np.float32).reshape(4, 5)
    multiplied = np.dstack([pixels * alpha[..., None], alpha])
    floats = [(np.float16, 1, 1e-3), (np.float32, 1, 1e-6), (np.float64, 1, 1e-6)]
    for dtype, scale, tolerance in (*floats, (np.uint16, 65535, 4 / 65535), (np.uint8, 255, 4 / 255)):
        samples = (multiplied * scale + (0.5 if scale > 1 else 0)).astype(dtype)
        path = tmp_path / "a.tif"
        path.write_bytes(written(samples, photometric="rgb", extrasamples=["assocalpha"]))
        photo = read_photo(path)
        assert photo.pixels.dtype == (dtype if scale > 1 else np.float32)
        assert np.abs(photo.pixels / scale - 0.75).max() <= tolerance
    hidden = np.array([[[9, 9, 9, 0]]], np.uint8)
    path.write_bytes(written(hidden, photometric="rgb", extrasamples=["assocalpha"]))
    assert read_photo(path).pixels.tolist() == [[[9, 9, 9]]]


def test_a_channel_of_unspecified_meaning_is_named(tmp_path: Path, make_picture: Any) -> None:
    pixels, alpha = make_picture("RGBA", np.uint16)
    path = tmp_path / "a.tif"
    path.write_bytes(written(np.dstack([pixels, alpha]), photometric="rgb", extrasamples=["unspecified"]))
    photo = read_photo(path)
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha, alpha)
    assert photo.warnings == ("what its extra channel means is not stated; it was taken for opacity",)


def test_nan_and_infinity_stay(tmp_path: Path) -> None:
    pixels = np.array([[np.nan, np.inf, -np.inf, -2.5, 1e9]], np.float32)
    path = tmp_path / "a.tif"
    path.write_bytes(written(pixels, photometric="minisblack"))
    assert np.array_equal(read_photo(path).pixels, pixels, equal_nan=True)


def test_64_bit_floats_are_rounded_with_a_warning(tmp_path: Path, make_picture: Any) -> None:
    pixels, _ = make_picture("RGB", np.float64)
    path = tmp_path / "a.tif"
    path.write_bytes(written(pixels, photometric="rgb"))
    photo = read_photo(path)
    assert np.array_equal(photo.pixels, pixels.astype(np.float32))
    assert "64-bit" in photo.warnings[0]


UNSUPPORTED: dict[str, tuple[Array, dict[str, Any], str]] = {
    "32-bit integers": (np.zeros((4, 5), np.uint32), {}, "32-bit unsigned"),
    "signed": (np.zeros((4, 5), np.int16), {}, "16-bit signed"),
    "complex": (np.zeros((4, 5), np.complex64), {}, "complex"),
    "many channels": (
        np.zeros((4, 5, 7), np.uint8),
        {"photometric": "minisblack", "planarconfig": "contig"},
        "channels",
    ),
    "Lab": (np.zeros((4, 5, 3), np.uint8), {"photometric": "cielab"}, "photometric 8"),
    "16-bit CMYK": (np.zeros((4, 5, 4), np.uint16), {"photometric": "separated"}, "CMYK of 16 bits"),
    "raw": (np.zeros((4, 5), np.uint16), {"photometric": "cfa", "extratags": [(33421, 3, 2, (2, 2), True)]}, "raw"),
    "DNG": (np.zeros((4, 5), np.uint16), {"extratags": [(50706, 1, 4, (1, 4, 0, 0), True)]}, "raw"),
}


@pytest.mark.parametrize(("samples", "options", "word"), UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_what_is_not_supported_is_named(tmp_path: Path, samples: Array, options: dict[str, Any], word: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(written(samples, **{"photometric": "minisblack", **options}))
    with pytest.raises(ImageError, match=f"{word}.*; convert|{word}.*; grey"):
        read_photo(path)


def test_an_unknown_compression_is_named(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    data = bytearray(encode(smooth, "TIFF", compression="tiff_lzw"))
    position = data.index(b"\x03\x01\x03\x00\x01\x00\x00\x00\x05\x00")  # tag 259, one SHORT, 5
    for number, name in ((34712, "JPEG 2000"), (50001, "WebP"), (777, "number 777")):
        data[position + 8 : position + 10] = number.to_bytes(2, "little")
        path = tmp_path / "a.tif"
        path.write_bytes(data)
        with pytest.raises(ImageError, match=rf"compression \({name}\) is not supported; save it again"):
            read_photo(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_missing_strips_are_filled_in_when_allowed(tmp_path: Path, make_picture: Any, compression: str | None) -> None:
    pixels, _ = make_picture("RGB", np.uint16)
    data = written(pixels, photometric="rgb", rowsperstrip=8, compression=compression)  # the pixels stand last
    path = tmp_path / "a.tif"
    path.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(ImageError, match="--allow-truncated"):
        read_photo(path)
    photo = read_photo(path, allow_truncated=True)
    assert np.array_equal(photo.pixels[:24], pixels[:24])
    assert not photo.pixels[-8:].any()
    assert "truncated" in photo.warnings[0]


def test_the_rows_that_are_there_of_a_single_strip_are_kept(tmp_path: Path, make_picture: Any) -> None:
    pixels, _ = make_picture("RGB", np.uint16)
    data = written(pixels, photometric="rgb", rowsperstrip=len(pixels))
    path = tmp_path / "a.tif"
    path.write_bytes(data[: -pixels[0].nbytes * 2])
    photo = read_photo(path, allow_truncated=True)
    assert np.array_equal(photo.pixels[:-2], pixels[:-2])
    assert not photo.pixels[-2:].any()
    assert "truncated" in photo.warnings[0]


def test_the_rows_that_are_there_of_a_compressed_strip_are_kept(tmp_path: Path, make_picture: Any) -> None:
    pixels, _ = make_picture("RGB", np.uint16)
    data = written(pixels, photometric="rgb", rowsperstrip=len(pixels), compression="zlib")
    path = tmp_path / "a.tif"
    path.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(ImageError, match="--allow-truncated"):
        read_photo(path)
    photo = read_photo(path, allow_truncated=True)
    num_kept = len(pixels) // 2
    assert np.array_equal(photo.pixels[:num_kept], pixels[:num_kept])
    assert not photo.pixels[-2:].any()
    assert "truncated" in photo.warnings[0]


def test_strips_that_are_damaged_are_filled_in_when_allowed_but_not_all(tmp_path: Path, make_picture: Any) -> None:
    pixels, _ = make_picture("RGB", np.uint8)
    data = written(pixels, photometric="rgb", rowsperstrip=16, compression="zlib")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        strips = list(zip(file.pages[0].dataoffsets, file.pages[0].databytecounts, strict=True))
    path = tmp_path / "a.tif"
    for num_damaged in (1, len(strips)):
        damaged = bytearray(data)
        for start, length in strips[:num_damaged]:
            damaged[start : start + length] = bytes(length)
        path.write_bytes(damaged)
        with pytest.raises(ImageError, match="its compressed data are damaged"):
            read_photo(path, allow_truncated=num_damaged == len(strips))
        if num_damaged == 1:
            photo = read_photo(path, allow_truncated=True)
            assert photo.warnings == ("it is truncated or damaged; what is missing was filled in",)
            assert not photo.pixels[:16].any()
            assert np.array_equal(photo.pixels[16:], pixels[16:])


def test_a_single_strip_may_be_of_unstated_length(tmp_path: Path, make_picture: Any) -> None:
    pixels, _ = make_picture("RGB", np.uint8)
    for compression in ("zlib", None):
        data = written(pixels, photometric="rgb", rowsperstrip=999, compression=compression, byteorder="<")
        entry = struct.pack("<H", 279)  # StripByteCounts becomes a tag that nobody knows
        position = data.rindex(entry + b"\x04\x00\x01\x00\x00\x00")
        check(tmp_path / "a.tif", data[:position] + struct.pack("<H", 280) + data[position + 2 :], pixels, None)


@pytest.mark.parametrize("compression", ["tiff_deflate", "tiff_lzw", "packbits", "group4"])
def test_a_strip_may_be_larger_than_pillow_allows(
    tmp_path: Path, make_picture: Any, monkeypatch: pytest.MonkeyPatch, encode: Encode, compression: str
) -> None:
    pixels, _ = make_picture("RGB", np.uint8)
    picture = Image.fromarray(pixels)
    if compression == "group4":
        picture = picture.convert("1")
        pixels = np.asarray(picture).astype(np.uint8) * 255
    data = encode(picture, "TIFF", compression=compression, strip_size=2**20)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels.size // 4)
    check(tmp_path / "a.tif", data, pixels, None)


def test_a_tile_much_larger_than_the_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    layout = {256: [4], 257: [4], 258: [8], 259: [5], 262: [1], 322: [2**15], 323: [2**15], 325: [9]}
    path.write_bytes(built((layout, [bytes(9)])))
    with pytest.raises(ImageError, match="of an impossible size"):
        read_photo(path)


def with_tag_2(data: bytes, code: int) -> bytes:
    """Return a little-endian file that has a tag of the value 2 in place of its unit of resolution."""
    entry = struct.Struct("<HHIHH")
    assert data.count(entry.pack(296, 3, 1, 1, 0)) == 1
    return data.replace(entry.pack(296, 3, 1, 1, 0), entry.pack(code, 3, 1, 2, 0))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_bits_may_come_from_the_lowest_on(tmp_path: Path, make_picture: Any, compression: str | None) -> None:
    pixels, _ = make_picture("RGB", np.uint8)
    data = written(pixels, photometric="rgb", rowsperstrip=len(pixels), compression=compression, byteorder="<")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        (start,), (length,) = file.pages[0].dataoffsets, file.pages[0].databytecounts
    strip = np.frombuffer(data[start : start + length], np.uint8)
    turned = np.packbits(np.unpackbits(strip), bitorder="little").tobytes()
    data = with_tag_2(data[:start] + turned + data[start + length :], 266)
    check(tmp_path / "a.tif", data, pixels, None)


def test_a_predictor_means_nothing_without_compression(tmp_path: Path, make_picture: Any) -> None:
    pixels, _ = make_picture("RGB", np.uint8)
    check(tmp_path / "a.tif", with_tag_2(written(pixels, photometric="rgb", byteorder="<"), 317), pixels, None)


def test_notes_on_pictures_that_do_not_go_along_are_left_out(tmp_path: Path) -> None:
    stack = np.arange(2 * 20 * 30, dtype=np.uint8).reshape(2, 20, 30)
    tifffile.imwrite(tmp_path / "ome.tif", stack, ome=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "imagej.tif", stack, imagej=True)
    tifffile.imwrite(tmp_path / "one.ome.tif", stack[0], ome=True)
    tifffile.imwrite(tmp_path / "note.tif", stack[0], description="ImageJ=1.54\nunit=um\n", metadata=None)
    tifffile.imwrite(tmp_path / "shaped.tif", stack)
    kept, left_out = ("one.ome.tif", "note.tif"), ("ome.tif", "imagej.tif", "shaped.tif")
    for name, is_kept in (*((name, True) for name in kept), *((name, False) for name in left_out)):
        write_photo(tmp_path / "out.tif", read_photo(tmp_path / name))
        assert np.array_equal(tifffile.imread(tmp_path / "out.tif"), stack[0])
        with Image.open(tmp_path / "out.tif") as image:
            assert (270 in image.getexif()) == is_kept


def test_what_describes_a_photograph_goes_along(tmp_path: Path) -> None:
    texts = [269, 271, 272, 305, 306, 315, 316, 33432, 40091, 40092, 40093, 40094, 40095]
    tags = {tag: (2, 7, b"text %d\0" % (tag % 10)) for tag in (270, *texts)} | {18246: (3, 1, b"\5\0")}
    tags |= {18249: (3, 1, b"\x63\0")}
    exif = b"II*\0\x08\0\0\0" + pack_directory("<", tags, 8)
    write_photo(tmp_path / "a.tif", Photo(np.zeros((4, 5), np.uint8), exif=exif))
    photo = read_photo(tmp_path / "a.tif")
    block = TagBlock(photo.exif or b"")
    entries, _ = block.directory(block.first)
    assert {tag: block.values(entry) for tag, entry in entries.items()} == {tag: v for tag, (_, _, v) in tags.items()}


def test_of_two_descriptions_the_first_is_kept(tmp_path: Path) -> None:
    samples = np.zeros((20, 30, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", description="heath")  # and '{"shape": …' behind it
    write_photo(tmp_path / "out.tif", read_photo(tmp_path / "a.tif"))
    with Image.open(tmp_path / "out.tif") as image:
        assert image.getexif()[270] == "heath"


def built(*pages: tuple[dict[int, list[int]], list[bytes]], order: str = "<") -> bytes:
    """Return a TIFF of pages, each with its tags (all of type LONG) and its strips (or tiles, where tags say so)."""
    data, link = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4)), 4
    for tags, strips in pages:
        offsets = []
        for strip in strips:
            offsets.append(len(data))
            data += strip
        fields = {}
        for tag, values in sorted((tags | {324 if 322 in tags else 273: offsets}).items()):
            packed = struct.pack(f"{order}{len(values)}I", *values)
            fields[tag] = (len(values), packed if len(values) == 1 else struct.pack(order + "I", len(data)))
            data += packed if len(values) > 1 else b""
        data[link : link + 4] = struct.pack(order + "I", len(data))
        data += struct.pack(order + "H", len(fields))
        data += b"".join(struct.pack(order + "HHI", tag, 4, num) + field for tag, (num, field) in fields.items())
        link = len(data)
        data += bytes(4)
    return bytes(data)


def grey_page(
    pixels: Array, *, num_rows: int, padding: int = 0, more: dict[int, list[int]] | None = None
) -> tuple[dict[int, list[int]], list[bytes]]:
    """Return a page of 8 bits in strips of so many rows, each with bytes that mean nothing behind it."""
    height, width = pixels.shape
    strips = [pixels[top : top + num_rows].tobytes() + bytes(range(padding)) for top in range(0, height, num_rows)]
    lengths = {279: [len(strip) for strip in strips]}
    layout = {256: [width], 257: [height], 258: [8], 262: [1], 277: [1], 278: [num_rows]}
    return layout | lengths | (more or {}), strips


@pytest.mark.parametrize("allow_truncated", [False, True])
def test_what_stands_behind_the_pixels_of_a_strip_is_passed_over(tmp_path: Path, *, allow_truncated: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 10), np.uint8)
    path = tmp_path / "a.tif"
    path.write_bytes(built(grey_page(pixels, num_rows=8, padding=6)))
    photo = read_photo(path, allow_truncated=allow_truncated)
    assert np.array_equal(photo.pixels, pixels)
    assert not photo.warnings


@pytest.mark.parametrize("lengths", [None, [0, 0, 0]])
def test_lengths_of_strips_that_are_not_stated_reach_to_the_next(tmp_path: Path, lengths: list[int] | None) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 10), np.uint8)
    tags, strips = grey_page(pixels, num_rows=8)
    del tags[279]
    path = tmp_path / "a.tif"
    path.write_bytes(built((tags | ({} if lengths is None else {279: lengths}), strips)))
    assert np.array_equal(read_photo(path).pixels, pixels)


def test_a_strip_that_is_too_short_shifts_nothing(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 10), np.uint8)
    tags, strips = grey_page(pixels, num_rows=8)
    strips[0] = strips[0][:-3]
    path = tmp_path / "a.tif"
    path.write_bytes(built((tags | {279: [len(strip) for strip in strips]}, strips)))
    with pytest.raises(ImageError, match="damaged"):
        read_photo(path)


def deflated_page(pixels: Array, stream: bytes) -> bytes:
    """Return a file of 8-bit grey whose one strip is that stream."""
    tags, _ = grey_page(pixels, num_rows=len(pixels), more={259: [8]})
    return built((tags | {279: [len(stream)]}, [stream]))


def test_a_deflated_strip_may_be_padded_to_the_height_of_the_others(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 300), np.uint8)
    path = tmp_path / "a.tif"
    for num_rows in (3, 9, 500):
        path.write_bytes(deflated_page(pixels, zlib.compress(pixels.tobytes() + bytes(num_rows * 300))))
        photo = read_photo(path)
        assert np.array_equal(photo.pixels, pixels)
        assert photo.warnings == ()


def test_the_checksum_of_a_deflated_strip_is_checked(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 10), np.uint8)
    stream = zlib.compress(pixels.tobytes(), 0)  # 7 bytes, the pixels, the checksum
    damaged = stream[:9] + bytes([stream[9] ^ 1]) + stream[10:]
    path = tmp_path / "a.tif"
    for content, padding in ((damaged, b""), (stream[:-1] + bytes([stream[-1] ^ 1]), bytes(2))):
        path.write_bytes(deflated_page(pixels, content + padding))
        with pytest.raises(ImageError, match=r"its compressed data are damaged.*--allow-truncated"):
            read_photo(path)
        photo = read_photo(path, allow_truncated=True)
        assert (photo.pixels != pixels).sum() == (content == damaged)
        assert photo.warnings == ("it is truncated or damaged; what is missing was filled in",)


def test_what_is_wrong_behind_the_pixels_of_a_deflated_strip_is_damage(tmp_path: Path) -> None:
    pixels = np.arange(210, dtype=np.uint8).reshape(21, 10) // 9
    stream = zlib.compress(pixels.tobytes())
    path = tmp_path / "a.tif"
    for damaged in (stream[:-1] + bytes([stream[-1] ^ 1]), zlib.compress(pixels.tobytes() + bytes(9))[:-3]):
        path.write_bytes(deflated_page(pixels, damaged))
        with pytest.raises(ImageError, match="its compressed data are damaged"):
            read_photo(path)
        assert np.array_equal(read_photo(path, allow_truncated=True).pixels, pixels)


@pytest.mark.parametrize(("bits", "predictor"), [(1, 2), (8, 3), (8, 4)])
def test_a_predictor_that_is_not_known_is_named(tmp_path: Path, bits: int, predictor: int) -> None:
    stream = zlib.compress(bytes(21 * 10))
    tags, _ = grey_page(np.zeros((21, 10), np.uint8), num_rows=21, more={258: [bits], 259: [8], 317: [predictor]})
    path = tmp_path / "a.tif"
    path.write_bytes(built((tags | {279: [len(stream)]}, [stream])))
    with pytest.raises(ImageError, match=f"its predictor {predictor} is not supported; save it again"):
        read_photo(path)


def test_what_follows_the_pixels_of_a_deflated_strip_is_passed_over(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 10), np.uint8)
    content = pixels.tobytes()
    unfinished = zlib.compressobj()
    flushed = unfinished.compress(content) + unfinished.flush(zlib.Z_SYNC_FLUSH)
    for stream in (zlib.compress(content) + bytes(6), zlib.compress(content + bytes(9)), flushed):
        check(tmp_path / "a.tif", deflated_page(pixels, stream), pixels, None)


def packed(values: Array, bits: int) -> bytes:
    """Return rows (H,N) of values of so many bits, each row filled up to whole bytes."""
    digits = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
    return np.packbits(digits.reshape(len(values), -1), axis=1).tobytes()


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("fill_order", [1, 2])
def test_samples_of_few_bits(tmp_path: Path, bits: int, order: str, compression: int, fill_order: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**bits, (21, 35, 3), np.uint8)
    values[0, :2, 0] = 0, 2**bits - 1
    palette = np.random.default_rng(1).integers(0, 256, (3, 2**bits))
    palette[0, 0] = 255
    full = values * (255 // (2**bits - 1))
    tags = {256: [35], 257: [21], 258: [bits], 259: [compression], 266: [fill_order]}
    padded = np.pad(values[..., 0], ((0, 11), (0, 13)))
    rows, tiles = [slice(0, 8), slice(8, 16), slice(16, 21)], itertools.product((0, 16), (0, 16, 32))
    strips = [packed(values[part, :, 0], bits) for part in rows]
    one_strip = {277: [3], 278: [21], 262: [2]}
    cases = {
        "black is zero": ({262: [1], 278: [8]}, strips, full[..., 0]),
        "white is zero": ({262: [0], 278: [8]}, strips, 255 - full[..., 0]),
        "palette": ({262: [3], 278: [8], 320: (257 * palette).ravel().tolist()}, strips, palette.T[values[..., 0]]),
        "palette of 8 bits": ({262: [3], 278: [8], 320: palette.ravel().tolist()}, strips, palette.T[values[..., 0]]),
        "tiles": (
            {262: [1], 322: [16], 323: [16]},
            [packed(padded[top : top + 16, left : left + 16], bits) for top, left in tiles],
            full[..., 0],
        ),
        "colour": (one_strip, [packed(values.reshape(21, -1), bits)], full),
        "planes": (one_strip | {284: [2]}, [packed(values[..., channel], bits) for channel in range(3)], full),
    }
    for more, parts, expected in cases.values():
        stored = [zlib.compress(part) if compression == 8 else part for part in parts]
        if fill_order == 2:
            stored = [
                np.packbits(np.unpackbits(np.frombuffer(s, np.uint8)), bitorder="little").tobytes() for s in stored
            ]
        layout = tags | more | {325 if 322 in more else 279: [len(part) for part in stored]}
        check(tmp_path / "a.tif", built((layout, stored), order=order), expected.astype(np.uint8), None)


def test_the_rows_that_are_there_of_a_scan_are_kept(tmp_path: Path) -> None:
    half = packed(np.ones((10, 35), np.uint8), 1)
    path = tmp_path / "a.tif"
    path.write_bytes(built(({256: [35], 257: [20], 262: [1], 279: [len(half)]}, [half])))
    with pytest.raises(ImageError, match="it is truncated"):
        read_photo(path)
    photo = read_photo(path, allow_truncated=True)
    assert (photo.pixels[:10] == 255).all()
    assert not photo.pixels[10:].any()
    assert photo.warnings == ("it is truncated or damaged; what is missing was filled in",)


def places(data: bytes) -> list[slice]:
    """Return where the strips of a file lie."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        return [slice(a, a + n) for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]


def test_a_truncated_fax_is_named_or_filled_in(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    bitmap = Image.fromarray(smooth).convert("1")
    file = encode(bitmap, "TIFF", compression="group4")
    (place,) = places(file)
    strip = file[place]
    data = built(({256: [67], 257: [41], 259: [4], 262: [1], 279: [len(strip)]}, [b""]))
    row = struct.Struct("<HHII")  # the strip is to stand last
    data = data.replace(row.pack(273, 4, 1, 8), row.pack(273, 4, 1, len(data)))
    path = tmp_path / "a.tif"
    check(path, data + strip, np.asarray(bitmap).astype(np.uint8) * 255, None)
    path.write_bytes(data + strip[: len(strip) // 2])
    with pytest.raises(ImageError, match=r"it is truncated.*--allow-truncated"):
        read_photo(path)
    photo = read_photo(path, allow_truncated=True)
    assert photo.warnings == ("it is truncated or damaged; what is missing was filled in",)
    assert np.array_equal(photo.pixels[:10], np.asarray(bitmap)[:10] * 255)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "zstd"])
def test_of_a_truncated_strip_that_others_decompress_nothing_is_accepted(
    tmp_path: Path, smooth: Array, encode: Encode, compression: str
) -> None:
    file = encode(smooth, "TIFF", compression=compression, strip_size=2**20)
    (place,) = places(file)
    data = file[: place.start] + file[place.stop :]
    row = struct.Struct("<HHII")  # the strip is to stand last
    with tifffile.TiffFile(io.BytesIO(file)) as opened:
        number = opened.pages[0].tags[259].value
    tags = {256: [67], 257: [41], 258: [8] * 3, 259: [int(number)], 262: [2], 277: [3], 279: [place.stop - place.start]}
    data = built((tags, [b""]))
    data = data.replace(row.pack(273, 4, 1, 8), row.pack(273, 4, 1, len(data)))
    path = tmp_path / "a.tif"
    check(path, data + file[place], smooth, None)
    path.write_bytes(data + file[place][:-400])
    with pytest.raises(ImageError, match=r"it is truncated; copy it again from its source$"):
        read_photo(path, allow_truncated=True)


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr", "CMYK"])
def test_a_damaged_jpeg_inside_is_named_or_accepted(tmp_path: Path, smooth: Array, encode: Encode, mode: str) -> None:
    picture = Image.fromarray(smooth).convert(mode).resize((256, 96))
    data = encode(picture, "TIFF", compression="jpeg", quality=90, strip_size=256 * 32)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    sound = read_photo(path)
    assert np.array_equal(sound.pixels, np.asarray(Image.open(path).convert(mode if mode == "L" else "RGB")))
    first, *_ = places(data)
    middle = (first.start + first.stop) // 2
    lengths = (first.stop - first.start).to_bytes(4, "little")
    damaged = {
        "markers": data[:middle] + b"\xff\xd9" * 4 + data[middle + 8 :],
        "zeros": data[:middle] + bytes(first.stop - middle) + data[first.stop :],
        "too short": data.replace(lengths, (middle - first.start).to_bytes(4, "little")),
    }
    for content in damaged.values():
        path.write_bytes(content)
        with pytest.raises(ImageError, match=r"its compressed data are damaged.*--allow-truncated"):
            read_photo(path)
        photo = read_photo(path, allow_truncated=True)
        assert photo.warnings[0] == "it is truncated or damaged; what is missing was filled in"
        assert np.array_equal(photo.pixels[32:], sound.pixels[32:])
        assert not np.array_equal(photo.pixels, sound.pixels)


def test_whole_jpegs_as_tiles_are_of_the_colours_that_the_file_states(
    tmp_path: Path, smooth: Array, encode: Encode
) -> None:
    padded = np.pad(smooth, ((0, 7), (0, 13), (0, 0)))
    corners = itertools.product((0, 16, 32), (0, 16, 32, 48, 64))
    tiles = [Image.fromarray(padded[top : top + 16, left : left + 16]) for top, left in corners]
    tags = {256: [67], 257: [41], 258: [8] * 3, 259: [7], 277: [3], 322: [16], 323: [16]}
    tags |= {266: [2]}  # bits from the lowest on, which those of a JPEG never are
    for photometric, options in ((6, {"subsampling": 2}), (6, {"subsampling": 0}), (2, {"keep_rgb": True})):
        parts = [encode(tile, "JPEG", quality=95, **options) for tile in tiles]
        data = built((tags | {262: [photometric], 325: [len(part) for part in parts]}, parts))
        path = tmp_path / "a.tif"
        path.write_bytes(data)
        photo = read_photo(path)
        decoded = np.vstack(
            [np.hstack([np.asarray(Image.open(io.BytesIO(p))) for p in parts[k : k + 5]]) for k in (0, 5, 10)]
        )
        assert np.array_equal(photo.pixels, decoded[:41, :67])


def test_a_jpeg_inside_is_of_the_colours_that_the_file_states_whatever_it_says_of_itself(
    tmp_path: Path, smooth: Array, encode: Encode
) -> None:
    ycbcr = np.asarray(Image.fromarray(smooth).convert("YCbCr"))
    strip = encode(ycbcr, "JPEG", quality=95, keep_rgb=True)
    assert b"Adobe" in strip
    tags = {256: [67], 257: [41], 258: [8] * 3, 259: [7], 262: [6], 277: [3], 279: [len(strip)]}
    path = tmp_path / "a.tif"
    path.write_bytes(built((tags, [strip])))
    assert np.abs(read_photo(path).pixels.astype(int) - smooth).mean() < 3


@pytest.mark.parametrize(
    ("size", "is_sound"),
    [((8, 67), False), ((9, 67), True), ((16, 67), True), ((47, 67), True), ((48, 67), False), ((9, 68), False)],
)
def test_the_last_jpeg_may_be_as_high_as_the_others_or_a_little_more(
    tmp_path: Path, smooth: Array, encode: Encode, size: tuple[int, int], *, is_sound: bool
) -> None:
    grey = np.pad(smooth[..., 0], ((0, 99), (0, 9)), "edge")
    parts = [encode(grey[top : top + 16, :67], "JPEG") for top in (0, 16)]
    parts.append(encode(grey[32 : 32 + size[0], : size[1]], "JPEG"))
    path, lengths = tmp_path / "a.tif", [len(part) for part in parts]
    path.write_bytes(built(({256: [67], 257: [41], 258: [8], 259: [7], 262: [1], 278: [16], 279: lengths}, parts)))
    if is_sound:
        decoded = np.vstack([np.asarray(Image.open(io.BytesIO(part))) for part in parts])
        assert np.array_equal(read_photo(path).pixels, decoded[:41])
    else:
        with pytest.raises(ImageError, match="its compressed data are damaged; copy it again"):
            read_photo(path)


@pytest.mark.parametrize("compression", [1, 8])
def test_a_picture_of_which_nothing_is_there_is_no_picture(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "a.tif"
    tags, _ = grey_page(np.zeros((21, 10), np.uint8), num_rows=8, more={259: [compression], 279: [80] * 3})
    data = built((tags, [b""] * 3))
    row, values = struct.pack("<HHI", 273, 4, 3), struct.pack("<3I", 8, 8, 8)
    assert (data.count(row), data.count(values)) == (1, 1)
    path.write_bytes(data.replace(values, struct.pack("<3I", *[len(data)] * 3)))
    with pytest.raises(ImageError, match="it is truncated; copy it again"):
        read_photo(path, allow_truncated=True)


@pytest.mark.parametrize("has_tables", [False, True])
def test_a_jpeg_inside_may_be_of_grey_and_opacity(
    tmp_path: Path, smooth: Array, encode: Encode, *, has_tables: bool
) -> None:
    pictures = [encode(smooth[..., channel].copy(), "JPEG", quality=95) for channel in (0, 1)]
    heads, scans = zip(*(data.split(b"\xff\xda\0\x08\1\1\0") for data in pictures), strict=True)
    head = heads[0]  # of both, whose tables are the same
    middle, behind = head.index(b"\xff\xc0"), head.index(b"\xff\xc4")
    tables = head[head.index(b"\xff\xdb") : middle] + head[behind:]
    frame = b"\xff\xc0\0\x0e\x08" + struct.pack(">HH", 41, 67) + b"\2\1\x11\0\2\x11\0"
    coded = [b"\xff\xda\0\x08\1" + bytes([k + 1, 0]) + scan.removesuffix(b"\xff\xd9") for k, scan in enumerate(scans)]
    strip = b"".join([b"\xff\xd8", b"" if has_tables else tables, frame, *coded, b"\xff\xd9"])
    tags = {256: [67], 257: [41], 258: [8] * 2, 259: [7], 262: [1], 277: [2], 279: [len(strip)], 338: [2]}
    if has_tables:
        apart = b"\xff\xd8" + tables + b"\xff\xd9"
        tags[347] = np.frombuffer(apart + bytes(-len(apart) % 4), "<u4").tolist()
    expected = [np.asarray(Image.open(io.BytesIO(data))) for data in pictures]
    check(tmp_path / "a.tif", built((tags, [strip])), *expected)


def test_advice_that_cannot_help_is_not_given(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    path = tmp_path / "a.tif"
    for compression, strip_size, can_help in (("tiff_lzw", 2**20, False), ("tiff_lzw", 67 * 3 * 8, True)):
        data = encode(smooth, "TIFF", compression=compression, strip_size=strip_size)
        last = places(data)[-1]
        path.write_bytes(data[: last.start] + bytes(last.stop - last.start) + data[last.stop :])
        with pytest.raises(ImageError, match="its compressed data are damaged; copy it again") as caught:
            read_photo(path)
        assert ("--allow-truncated" in str(caught.value)) == can_help
        if can_help:
            assert read_photo(path, allow_truncated=True).warnings


def ycbcr_units(ycbcr: Array, across: int, down: int) -> bytes:
    """Return YCbCr of fewer colours: for so many pixels across and down their Y, and Cb and Cr of the first."""
    height, width, _ = ycbcr.shape
    padded = np.pad(ycbcr, ((0, -height % down), (0, -width % across), (0, 0)), "edge")
    units = []
    for top, left in itertools.product(range(0, height, down), range(0, width, across)):
        unit = padded[top : top + down, left : left + across]
        units.append(unit[..., 0].tobytes() + unit[0, 0, 1:].tobytes())
    return b"".join(units)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (4, 2), (1, 2)])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("order", ["<", ">"])
def test_ycbcr_of_fewer_colours(
    tmp_path: Path, smooth: Array, subsampling: tuple[int, int], compression: int, order: str
) -> None:
    across, down = subsampling
    ycbcr = np.array(Image.fromarray(smooth).convert("YCbCr"))
    for channel in (1, 2):  # alike where they share
        first = ycbcr[::down, ::across, channel]
        ycbcr[..., channel] = first.repeat(down, axis=0).repeat(across, axis=1)[:41, :67]
    expected = np.asarray(Image.fromarray(ycbcr, "YCbCr").convert("RGB"))
    padded = np.pad(ycbcr, ((0, 7), (0, 13), (0, 0)), "edge")
    corners = itertools.product((0, 16, 32), (0, 16, 32, 48, 64))
    strips = [ycbcr[top : top + 16] for top in (0, 16, 32)]
    tiles = [padded[top : top + 16, left : left + 16] for top, left in corners]
    for parts, layout in ((strips, {278: [16]}), (tiles, {322: [16], 323: [16]})):
        stored = [ycbcr_units(part, across, down) for part in parts]
        stored = [zlib.compress(part) for part in stored] if compression == 8 else stored
        tags = {256: [67], 257: [41], 258: [8] * 3, 259: [compression], 262: [6], 277: [3]}
        tags |= {} if subsampling == (2, 2) else {530: [across, down]}  # which is how it is where nothing is stated
        tags |= layout | {325 if 322 in layout else 279: [len(part) for part in stored]}
        check(tmp_path / "a.tif", built((tags, stored), order=order), expected, None)


@pytest.mark.parametrize("order", ["<", ">"])
def test_ycbcr_of_a_narrow_range_is_widened(tmp_path: Path, order: str) -> None:
    samples = np.array([[[16, 128, 128], [235, 128, 128], [16, 128, 128], [235, 128, 128]]], np.uint8)
    extra = [(532, 5, 6, (1600, 100, 23500, 100, *(12800, 100, 24000, 100) * 2), True), (530, 3, 2, (1, 1), True)]
    path = tmp_path / "a.tif"
    path.write_bytes(written(samples, photometric="ycbcr", byteorder=order, extratags=extra))
    assert read_photo(path).pixels.tolist() == [[[0] * 3, [255] * 3] * 2]


@pytest.mark.parametrize("range_", [(0, 0) * 6, (0, 1, 255, 1, 128, 1, 255, 0, 128, 1, 128, 1)])
def test_ycbcr_of_no_range_stays_as_it_is(tmp_path: Path, range_: tuple[int, ...]) -> None:
    samples = np.full((1, 4, 3), (200, 128, 128), np.uint8)
    path = tmp_path / "a.tif"
    extra = [(532, 5, 6, range_, True), (530, 3, 2, (1, 1), True)]
    path.write_bytes(written(samples, photometric="ycbcr", extratags=extra))
    assert (read_photo(path).pixels == 200).all()


def test_what_is_missing_of_ycbcr_is_black(tmp_path: Path) -> None:
    strip = bytes([200, 128, 128]) * 16 * 4
    tags = {256: [16], 257: [8], 258: [8] * 3, 262: [6], 277: [3], 530: [1, 1], 279: [len(strip)]}
    path = tmp_path / "a.tif"
    path.write_bytes(built((tags, [strip])))
    photo = read_photo(path, allow_truncated=True)
    assert (photo.pixels[:4] == 200).all()
    assert not photo.pixels[4:].any()


@pytest.mark.parametrize(
    "more",
    [
        {258: [16] * 3, 530: [1, 1]},
        {284: [2], 530: [2, 2]},
        {530: [3, 1]},
        {530: [2, 2], 259: [8], 317: [2]},
        {530: [4, 1], 322: [10], 323: [16], 325: [999] * 2},
        {530: [1, 2], 278: [3]},
        {277: [4], 258: [8] * 4, 530: [1, 1]},
        {259: [7], 277: [5], 258: [8] * 5, 262: [2]},
        {259: [4], 258: [1] * 3, 262: [2]},
    ],
)
def test_a_layout_that_is_not_supported_is_not_called_damaged(tmp_path: Path, more: dict[int, list[int]]) -> None:
    tags = {256: [16], 257: [8], 258: [8] * 3, 262: [6], 277: [3], 279: [999] * 3}
    path = tmp_path / "a.tif"
    path.write_bytes(built((tags | more, [bytes(999)] * 3)))
    with pytest.raises(ImageError, match=r"its layout \(. channels of .* is not supported; convert it"):
        read_photo(path)


@pytest.mark.parametrize("kind", [1, 4, 5, 7])
def test_a_thumbnail_or_mask_that_comes_first_is_not_the_picture(tmp_path: Path, kind: int) -> None:
    large, small = np.full((12, 16), 200, np.uint8), np.full((3, 4), 10, np.uint8)
    thumbnail = grey_page(small, num_rows=3, more={254: [kind]})
    path = tmp_path / "a.tif"
    path.write_bytes(built(thumbnail, grey_page(large, num_rows=12)))
    photo = read_photo(path)
    assert np.array_equal(photo.pixels, large)
    assert not photo.warnings
    path.write_bytes(built(thumbnail))
    assert np.array_equal(read_photo(path).pixels, small)


def test_pages_are_pictures_each(tmp_path: Path) -> None:
    first, second = (grey_page(np.full((3, 4), value, np.uint8), num_rows=3, more={254: [2]}) for value in (1, 2))
    path = tmp_path / "a.tif"
    path.write_bytes(built(first, second))
    photo = read_photo(path)
    assert (photo.pixels == 1).all()
    assert photo.warnings == ("it holds 2 pictures or more; only the first is read",)


def test_of_very_many_pages_not_all_are_counted(tmp_path: Path) -> None:
    data = bytearray(built(grey_page(np.ones((3, 4), np.uint8), num_rows=3)))
    for _ in range(10_050):
        data[-4:] = struct.pack("<I", len(data))
        data += bytes(2 + 4)  # a directory without entries
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    assert read_photo(path).warnings == ("it holds 10000 pictures or more; only the first is read",)


def test_directories_that_go_round_come_to_an_end(tmp_path: Path) -> None:
    pages = [grey_page(np.full((3, 4), value, np.uint8), num_rows=3) for value in (1, 2)]
    data = bytearray(built(*pages))
    data[-4:] = data[4:8]  # behind the last one the first
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    photo = read_photo(path)
    assert (photo.pixels == 1).all()
    assert photo.warnings == ("it holds 2 pictures or more; only the first is read",)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({258: [5, 6, 5]}, r"channels differ in depth; convert"),
        ({339: [1, 1, 3]}, r"channels differ in depth; convert"),
        ({277: [5], 258: [8] * 5}, r"its colours \(photometric 2, 5 channels\) are not supported; convert"),
        ({277: [0]}, r"it has 0 channels; grey, RGB"),
        ({259: [4], 262: [1], 277: [1], 258: [8]}, r"its compression \(CCITT G4\) is not supported; save"),
        ({258: []}, r"it is damaged \(tag 258 is missing\); copy"),
        ({278: [3]}, r"it is damaged \(fewer strips or tiles than the picture needs\); copy"),
    ],
)
def test_what_is_wrong_with_a_picture_is_named(tmp_path: Path, more: dict[int, list[int]], word: str) -> None:
    tags = {256: [16], 257: [8], 258: [8] * 3, 262: [2], 277: [3], 279: [999] * 2} | more
    path = tmp_path / "a.tif"
    path.write_bytes(built(({tag: values for tag, values in tags.items() if values}, [bytes(999)] * 2)))
    with pytest.raises(ImageError, match=word):
        read_photo(path)


def test_one_strip_may_be_stated_as_endless(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 10), np.uint8)
    tags, strips = grey_page(pixels, num_rows=21)
    check(tmp_path / "a.tif", built((tags | {278: [2**32 - 1]}, strips)), pixels, None)


@pytest.mark.parametrize("tag", [32997, 32998])
def test_a_volume_is_refused(tmp_path: Path, tag: int) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(built(grey_page(np.zeros((4, 4), np.uint8), num_rows=4, more={tag: [16]})))
    with pytest.raises(ImageError, match="a volume of 16 slices or more; save each"):
        read_photo(path)


def test_a_palette_of_8_bit_values_in_16_bits_is_read_as_8_bits(tmp_path: Path) -> None:
    palette = np.random.default_rng(0).integers(0, 256, (3, 256))
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = tmp_path / "a.tif"
    path.write_bytes(built(grey_page(pixels, num_rows=16, more={262: [3], 320: palette.ravel().tolist()})))
    photo = read_photo(path)
    assert photo.pixels.dtype == np.uint8
    assert np.array_equal(photo.pixels, palette.T[pixels])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("scale", [257, 256, 251])
def test_opacity_beside_a_palette_is_of_the_depth_of_its_colours(tmp_path: Path, bits: int, scale: int) -> None:
    generator = np.random.default_rng(0)
    indices, opacity = generator.integers(0, 2**bits, (2, 8, 6))
    palette = scale * generator.integers(0, 256, (3, 2**bits))
    palette[0, 0], indices[0, 0] = scale * 255, 0
    strip = packed(np.dstack([indices, opacity]).reshape(8, -1), bits)
    tags = {256: [6], 257: [8], 258: [bits] * 2, 262: [3], 277: [2], 279: [len(strip)], 338: [2]}
    is_deep = scale == 251
    alpha = opacity * (65535 if is_deep else 255) // (2**bits - 1)
    pixels = (palette if is_deep else palette // scale).T[indices]
    dtype = np.uint16 if is_deep else np.uint8
    data = built((tags | {320: palette.ravel().tolist()}, [strip]))
    check(tmp_path / "a.tif", data, pixels.astype(dtype), alpha.astype(dtype))


@pytest.mark.parametrize(
    ("entry", "broken", "name"),
    [
        ((34675, 7, 400), (34675, 7, 2**30), "colour profile"),
        ((700, 1, 90), (700, 1, 2**30), "XMP packet"),
        ((274, 3, 1), (274, 2, 1), "orientation"),
    ],
)
def test_a_broken_tag_of_metadata_is_dropped(
    tmp_path: Path, make_picture: Any, entry: tuple[int, int, int], broken: tuple[int, int, int], name: str
) -> None:
    pixels, _ = make_picture("RGB", np.uint8)
    more = [(34675, 7, 400, bytes(400), True), (700, 1, 90, bytes(90), True), (274, 3, 1, 6, True)]
    code, _, _ = entry
    data = written(pixels, photometric="rgb", byteorder="<", extratags=[tag for tag in more if tag[0] == code])
    row = struct.Struct("<HHI")
    assert data.count(row.pack(*entry)) == 1
    path = tmp_path / "a.tif"
    path.write_bytes(data.replace(row.pack(*entry), row.pack(*broken)))
    photo = read_photo(path)
    assert np.array_equal(photo.pixels, pixels)
    assert photo.warnings == (f"its {name} is broken and was dropped",)
