"""restore.images.reading: the content decides, nothing is lost in silence, and damage is an error of one line."""

from __future__ import annotations

import io
import itertools
import os
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from restore.errors import ImageError
from restore.images import MAX_PIXELS, read_photo
from restore.images.containers import png_chunk, read_jpeg_header

Array = NDArray[Any]
Encode = Callable[..., bytes]
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp", "PPM": ".ppm"}


def same(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and np.array_equal(one, other)


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def png(width: int, height: int, rows: bytes, *chunks: bytes, bits: int = 8, color_type: int = 0) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBB", width, height, bits, color_type) + bytes(3))
    data = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *chunks, data])


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_png_depths_and_channels(tmp_path: Path, make_picture: Any, encode: Encode, mode: str) -> None:
    pixels, alpha = make_picture(mode, np.uint8)
    samples = pixels if alpha is None else np.dstack([pixels, alpha])
    photo = read_photo(put(tmp_path, "a.png", encode(samples, "PNG")))
    assert np.array_equal(photo.pixels, pixels)
    assert same(photo.alpha, alpha)
    assert photo.warnings == ()
    assert (photo.format, photo.lossless) == ("png", True)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_16_bit_png(tmp_path: Path, make_picture: Any, mode: str) -> None:
    pixels, alpha = make_picture(mode, np.uint16)
    samples = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    samples = samples if alpha is None else np.dstack([samples, alpha])
    photo = read_photo(put(tmp_path, "a.png", cv2.imencode(".png", samples)[1].tobytes()))
    assert np.array_equal(photo.pixels, pixels)
    assert same(photo.alpha, alpha)


def test_grey_stays_grey_and_1_bit_becomes_8(tmp_path: Path, make_picture: Any, encode: Encode) -> None:
    bitmap = Image.fromarray(make_picture("L", np.uint8)[0]).convert("1")
    expected = np.asarray(bitmap).astype(np.uint8) * 255
    for kind, suffix in (("PNG", ".png"), ("BMP", ".bmp"), ("PPM", ".pbm"), ("TIFF", ".tif")):
        photo = read_photo(put(tmp_path, "a" + suffix, encode(bitmap, kind)))
        assert np.array_equal(photo.pixels, expected), kind
        assert photo.warnings == ()
    for kind in ("JPEG", "BMP", "PPM", "TIFF"):
        photo = read_photo(put(tmp_path, "a" + SUFFIXES[kind], encode(bitmap.convert("L"), kind)))
        assert photo.pixels.ndim == 2, kind


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(0, 256, 16))])
def test_palettes(tmp_path: Path, smooth: Array, encode: Encode, transparency: int | bytes | None) -> None:
    picture = Image.fromarray(smooth).quantize(16)
    options = {} if transparency is None else {"transparency": transparency}
    data = encode(picture, "PNG", **options)
    photo = read_photo(put(tmp_path, "a.png", data))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert np.array_equal(photo.pixels, expected[..., :3])
    assert (photo.alpha is None) if transparency is None else same(photo.alpha, expected[..., 3])
    if transparency is None:
        for kind in ("BMP", "TIFF"):
            photo = read_photo(put(tmp_path, "a" + SUFFIXES[kind], encode(picture, kind)))
            assert np.array_equal(photo.pixels, expected[..., :3]), kind


def test_a_transparent_colour_becomes_alpha(tmp_path: Path, make_picture: Any, encode: Encode) -> None:
    grey, rgb = make_picture("L", np.uint8)[0], make_picture("RGB", np.uint8)[0]
    for picture, key in ((grey, int(grey[3, 4])), (rgb, tuple(int(value) for value in rgb[3, 4]))):
        photo = read_photo(put(tmp_path, "a.png", encode(picture, "PNG", transparency=key)))
        assert np.array_equal(photo.pixels, picture)
        assert photo.alpha is not None
        assert np.array_equal(photo.alpha == 0, np.all(np.atleast_3d(picture == picture[3, 4]), axis=2))
    two_bits = png(4, 1, b"\0\x1b", png_chunk(b"tRNS", b"\0\2"), bits=2)  # 0 1 2 3, and 2 is transparent
    photo = read_photo(put(tmp_path, "b.png", two_bits))
    assert photo.pixels.tolist() == [[0, 85, 170, 255]]
    assert photo.alpha is not None
    assert photo.alpha.tolist() == [[255, 255, 0, 255]]
    deep = png(3, 1, b"\0" + struct.pack(">3H", 7, 300, 301), png_chunk(b"tRNS", struct.pack(">H", 300)), bits=16)
    photo = read_photo(put(tmp_path, "c.png", deep))
    assert photo.pixels.tolist() == [[7, 300, 301]]
    assert same(photo.alpha, np.array([[65535, 0, 65535]], np.uint16))


def test_webp_and_bmp_are_exact(tmp_path: Path, make_picture: Any, encode: Encode) -> None:
    pixels, alpha = make_picture("RGBA", np.uint8)
    data = encode(np.dstack([pixels, alpha]), "WEBP", lossless=True, exact=True)
    photo = read_photo(put(tmp_path, "a.webp", data))
    assert np.array_equal(photo.pixels, pixels)
    assert same(photo.alpha, alpha)
    assert photo.lossless
    assert not read_photo(put(tmp_path, "b.webp", encode(pixels, "WEBP"))).lossless
    assert np.array_equal(read_photo(put(tmp_path, "a.bmp", encode(pixels, "BMP"))).pixels, pixels)


@pytest.mark.parametrize("content", [b"", b"\0\1", bytes(7)])
def test_a_transparent_colour_of_a_wrong_length_is_left_out(tmp_path: Path, encode: Encode, content: bytes) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    chunk = struct.pack(">I", len(content)) + b"tRNS" + content + struct.pack(">I", zlib.crc32(b"tRNS" + content))
    data = encode(pixels, "PNG")
    photo = read_photo(put(tmp_path, "a.png", data[:33] + chunk + data[33:]))
    assert np.array_equal(photo.pixels, pixels)
    assert photo.alpha is None
    assert photo.warnings == ("the damaged part 'tRNS' was left out",)


@pytest.mark.parametrize(("kind", "orientation"), [*itertools.product(("JPEG", "PNG", "WEBP", "TIFF"), range(1, 9))])
def test_orientation(  # noqa: PLR0917  fixtures
    tmp_path: Path, smooth: Array, exif: Image.Exif, encode: Encode, kind: str, orientation: int
) -> None:
    exif[0x0112] = orientation
    picture = smooth if kind == "JPEG" else np.dstack([smooth, smooth[..., 0]])
    xmp = b'<x:xmpmeta tiff:Orientation="%d"/>' % orientation
    options: dict[str, Any] = {"xmp": xmp} if kind in ("JPEG", "WEBP") else {}
    options |= {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = encode(picture, kind, exif=exif.tobytes(), **options)
    photo = read_photo(put(tmp_path, "a" + SUFFIXES[kind], data))
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(photo.pixels, expected[..., :3])
    assert (photo.alpha is None) if kind == "JPEG" else same(photo.alpha, expected[..., 3])
    assert photo.exif is not None
    kept = Image.Exif()
    kept.load(photo.exif)
    assert kept.get(0x0112, 1) == 1
    assert kept.get_ifd(0x8769)[0x927C] == b"maker's note " * 9
    if photo.xmp is not None:
        assert photo.xmp == b'<x:xmpmeta tiff:Orientation="1"/>'


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_broken_metadata_is_dropped_with_a_warning(tmp_path: Path, smooth: Array, encode: Encode, kind: str) -> None:
    exif = b"Exif\0\0MM\0*\xff\xff\xff\xff" if kind != "TIFF" else b""
    options = {"exif": exif} if exif else {}
    photo = read_photo(
        put(tmp_path, "a" + SUFFIXES[kind], encode(smooth, kind, icc_profile=b"no profile" * 20, **options))
    )
    assert photo.icc is None
    assert photo.exif is None
    assert "profile" in photo.warnings[0]
    assert (len(photo.warnings) == 2) == bool(exif)


def test_metadata_bombs_stay_small(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(2**27), 1)
    chunks = png_chunk(b"iCCP", b"p\0\0" + bomb), png_chunk(b"zTXt", b"Comment\0\0" + bomb)
    path = put(tmp_path, "a.png", png(1, 1, b"\0\7", *chunks))
    tracemalloc.start()
    photo = read_photo(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert photo.pixels.tolist() == [[7]]
    assert photo.icc is None
    assert "profile" in photo.warnings[0]
    assert peak < 200e6


def test_xmp_in_png_plain_packed_and_damaged(tmp_path: Path) -> None:
    start, packet = b"XML:com.adobe.xmp\0", b"<x:xmpmeta/>"
    for content, expected in (
        (b"\0\0en\0word\0" + packet, packet),
        (b"\1\0\0\0" + zlib.compress(packet), packet),
        (b"\1\0\0\0" + packet, None),
        (b"\1\0\0\0" + zlib.compress(packet)[:-5], None),
        (b"\0", None),
    ):
        photo = read_photo(put(tmp_path, "a.png", png(1, 1, b"\0\7", png_chunk(b"iTXt", start + content))))
        assert photo.xmp == expected
        assert len(photo.warnings) == (expected is None and content != b"\0")


@pytest.mark.parametrize("kind", ["baseline", "progressive"])
def test_truncated_jpegs_are_found_as_pillow_finds_them(
    tmp_path: Path, smooth: Array, exif: Image.Exif, encode: Encode, kind: str
) -> None:
    thumbnail = encode(smooth[:8, :8], "JPEG")  # whole, with an end marker of its own
    exif[0x9C9B] = thumbnail
    whole = encode(smooth, "JPEG", exif=exif.tobytes(), progressive=kind == "progressive")
    for length in range(len(whole) - 400, len(whole), 7):
        data = whole[:length]
        with pytest.raises(OSError, match="truncated"):
            Image.open(io.BytesIO(data)).load()
        with pytest.raises(ImageError, match=r"truncated; .*--allow-truncated"):
            read_photo(put(tmp_path, "a.jpg", data))
        photo = read_photo(tmp_path / "a.jpg", allow_truncated=True)
        assert photo.pixels.shape == smooth.shape
        assert photo.exif is not None
        assert photo.warnings == ("it is truncated or damaged; what is missing was filled in",)
    if kind == "progressive":  # cut within a table of a later scan
        photo = read_photo(put(tmp_path, "c.jpg", whole[: whole.rindex(b"\xff\xc4") + 9]), allow_truncated=True)
        assert np.abs(photo.pixels.astype(int) - smooth).mean() < 4
    assert read_photo(put(tmp_path, "b.jpg", whole + b"junk" * 99)).warnings == ()


JPEGS: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": ("RGB", {}),
    "fine colours": ("RGB", {"subsampling": 0}),
    "colours half across": ("RGB", {"subsampling": 1}),
    "progressive": ("RGB", {"progressive": True}),
    "restarts": ("RGB", {"restart_marker_blocks": 3}),
    "RGB": ("RGB", {"keep_rgb": True}),
    "grey": ("L", {}),
}


@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_decode_as_by_opencv(tmp_path: Path, smooth: Array, encode: Encode, kind: str) -> None:
    mode, settings = JPEGS[kind]
    data = encode(np.asarray(Image.fromarray(smooth).convert(mode)), "JPEG", **settings)
    flags = cv2.IMREAD_GRAYSCALE if mode == "L" else cv2.IMREAD_COLOR_RGB
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    assert expected is not None
    assert np.array_equal(read_photo(put(tmp_path, "a.jpg", data)).pixels, expected)


def jpeg_of_narrow_colours(ycbcr: Array, exif: bytes) -> bytes:
    """A JPEG whose colours have a third of the columns, which libjpeg-turbo leaves to others, in a scan each."""
    parts = [ycbcr[..., 0].copy(), *(ycbcr[:, 1::3, channel].copy() for channel in (1, 2))]
    scans = []
    for number, part in enumerate(parts, 1):
        buffer = io.BytesIO()
        Image.fromarray(part).save(buffer, "JPEG", quality=95)
        head, scan = buffer.getvalue().split(b"\xff\xda\0\x08\1\1\0")  # of the first component, by the first tables
        scans.append(b"\xff\xda\0\x08\1" + bytes([number, 0]) + scan.removesuffix(b"\xff\xd9"))
    tables, tables_after = head[head.index(b"\xff\xdb") : head.index(b"\xff\xc0")], head[head.index(b"\xff\xc4") :]
    frame = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", *ycbcr.shape[:2]) + b"\3\1\x31\0\2\x11\0\3\x11\0"
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    return b"".join([b"\xff\xd8", segment, tables, frame, tables_after, *scans, b"\xff\xd9"])


def test_a_jpeg_of_unusual_colours_is_read_and_turned_once(tmp_path: Path, smooth: Array) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg_of_narrow_colours(np.asarray(Image.fromarray(smooth[:40, :48]).convert("YCbCr")), exif.tobytes())
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    photo = read_photo(put(tmp_path, "a.jpg", data))
    assert np.array_equal(photo.pixels, expected)
    assert np.abs(photo.pixels.astype(int) - np.rot90(smooth[:40, :48], -1)).mean() < 6
    assert photo.warnings == ()


@pytest.mark.parametrize("kind", JPEGS)
def test_a_damaged_jpeg_is_an_error_unless_it_is_accepted(
    tmp_path: Path, encode: Encode, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    mode, settings = JPEGS[kind]
    noise = np.random.default_rng(0).normal(128, 40, (203, 310, 3)).clip(0, 255).astype(np.uint8)
    whole = encode(np.asarray(Image.fromarray(noise).convert(mode)), "JPEG", **settings)
    middle = len(whole) * 2 // 3
    damaged = {"zeros": whole[:middle] + bytes(300) + whole[middle + 300 :], "end": whole[:middle] + b"\xff\xd9"}
    if kind != "progressive":  # in which a table may be lost, and all with it
        damaged["hole"] = whole[:middle] + whole[middle + 300 :]
    for name, data in damaged.items():
        path = put(tmp_path, f"{name}.jpg", data)
        with pytest.raises(ImageError, match=r"damaged \(.+\w\); copy it again .*--allow-truncated"):
            read_photo(path)
        photo = read_photo(path, allow_truncated=True)
        assert photo.pixels.shape == noise.shape[: photo.pixels.ndim]
        assert photo.warnings == ("it is truncated or damaged; what is missing was filled in",)
    assert not "".join(capfd.readouterr())  # of libraries


def test_a_padded_jpeg_is_whole(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    whole = encode(smooth, "JPEG")
    expected = read_photo(put(tmp_path, "a.jpg", whole)).pixels
    tables = whole.index(b"\xff\xdb")
    at_the_end = [whole[:-2] + padding + whole[-2:] + b"junk" for padding in (bytes(9), b"\xff" * 9)]
    for data in (*at_the_end, whole[:tables] + b"abcabcabc" + whole[tables:]):
        photo = read_photo(put(tmp_path, "b.jpg", data))
        assert np.array_equal(photo.pixels, expected)
        assert photo.warnings == ()
    for left in (b"abcabcabc", b"\0\1" * 4):
        with pytest.raises(ImageError, match="damaged"):
            read_photo(put(tmp_path, "c.jpg", whole[:-2] + left + whole[-2:]))


def test_a_jpeg_that_lacks_one_of_its_parts_is_damaged(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(128, 40, (64, 96, 3)).clip(0, 255).astype(np.uint8)
    whole = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes()
    third, fourth = whole.index(b"\xff\xd3"), whole.index(b"\xff\xd4")
    assert read_photo(put(tmp_path, "a.jpg", whole)).warnings == ()
    for data, damage in (
        (whole[:third] + whole[fourth:], "found marker 0xd4 instead of RST3"),
        (whole[:third] + whole[third + 2 :], "extraneous bytes before marker 0xd4"),
    ):
        with pytest.raises(ImageError, match=rf"b\.jpg: its pixels are damaged .*{damage}"):
            read_photo(put(tmp_path, "b.jpg", data))
        photo = read_photo(tmp_path / "b.jpg", allow_truncated=True)
        assert "truncated or damaged" in photo.warnings[0]


def test_a_first_frame_without_loss_stays_so(tmp_path: Path, smooth: Array) -> None:
    frames = [Image.fromarray(smooth), Image.fromarray(smooth[::-1].copy())]
    for is_lossless in (True, False):
        path = tmp_path / f"{is_lossless}.webp"
        frames[0].save(path, save_all=True, append_images=frames[1:], lossless=is_lossless)
        photo = read_photo(path)
        assert photo.lossless == is_lossless
        assert "2 pictures" in photo.warnings[0]
    files = {path.stem: path.read_bytes() for path in tmp_path.iterdir()}
    for first, second in (("True", "False"), ("False", "True")):  # what the second frame is makes no difference
        data = files[first][: files[first].rindex(b"ANMF")] + files[second][files[second].rindex(b"ANMF") :]
        photo = read_photo(put(tmp_path, "both.webp", data[:4] + struct.pack("<I", len(data) - 8) + data[8:]))
        assert photo.lossless == (first == "True")


def test_a_profile_that_is_cut_is_dropped(tmp_path: Path, smooth: Array, icc: bytes, encode: Encode) -> None:
    photo = read_photo(put(tmp_path, "a.jpg", encode(smooth, "JPEG", icc_profile=icc[: len(icc) // 2])))
    assert photo.icc is None
    assert photo.warnings == ("its colour profile is broken and was dropped",)


def test_bits_of_a_transparent_value_beyond_the_depth_mean_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    header = struct.pack(">IIBBBBB", 9, 8, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(range(9)) for _ in range(8)))
    chunks = ((b"IHDR", header), (b"tRNS", b"\x01\x07"), (b"IDAT", rows), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)
    photo = read_photo(put(tmp_path, "a.png", data))
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha == 0, photo.pixels == 7)
    assert not "".join(capfd.readouterr())  # of libpng


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "BMP", "PPM"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated_files_are_errors(tmp_path: Path, smooth: Array, encode: Encode, kind: str, share: float) -> None:
    data = encode(smooth, kind)
    path = put(tmp_path, "a" + SUFFIXES[kind], data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=r"^\S+: [^;]+; copy it again"):
        read_photo(path)
    if kind in ("BMP", "PPM"):
        photo = read_photo(path, allow_truncated=True)
        assert photo.pixels.shape == smooth.shape
        assert "truncated" in photo.warnings[0]
    elif kind != "TIFF":
        with pytest.raises(ImageError, match="it is truncated; copy it again"):
            read_photo(path, allow_truncated=True)


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE", b"IDAT"])
def test_a_wrong_checksum_of_what_makes_the_pixels_is_damage(
    tmp_path: Path, smooth: Array, encode: Encode, name: bytes
) -> None:
    data = bytearray(encode(Image.fromarray(smooth).quantize(16), "PNG"))
    start = data.index(name)
    data[start + 4 + int.from_bytes(data[start - 4 : start], "big")] ^= 1  # the content itself is right
    with pytest.raises(ImageError, match="wrong checksum"):
        read_photo(put(tmp_path, "a.png", bytes(data)))


def test_a_wrong_checksum_of_what_stands_beside_the_pixels_costs_that_alone(
    tmp_path: Path, smooth: Array, encode: Encode
) -> None:
    whole = encode(smooth, "PNG")
    damaged = bytearray(png_chunk(b"gAMA", bytes(4)) + png_chunk(b"tEXt", b"Author\0Me"))
    damaged[15] ^= 1  # of the first
    photo = read_photo(put(tmp_path, "a.png", whole[:33] + damaged + whole[33:]))
    assert np.array_equal(photo.pixels, smooth)
    assert photo.parts == (("tEXt", b"Author\0Me"),)
    assert photo.warnings == ("the damaged part 'gAMA' was left out",)


def test_what_follows_the_end_of_a_png_is_passed_over(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    whole = encode(smooth, "PNG")
    photo = read_photo(put(tmp_path, "a.png", whole + struct.pack(">I4s", 4, b"IDAT") + b"junk" * 9))
    assert np.array_equal(photo.pixels, smooth)
    assert photo.warnings == ()
    for num_missing in (1, 4, 5, 12):
        with pytest.raises(ImageError, match="it is truncated; copy it again"):
            read_photo(put(tmp_path, "b.png", whole[:-num_missing]))


def test_exif_of_a_png_may_have_the_prefix_of_a_jpeg(
    tmp_path: Path, smooth: Array, exif: Image.Exif, encode: Encode
) -> None:
    exif[0x0112] = 3
    whole, block = encode(smooth, "PNG"), exif.tobytes()
    assert block.startswith(b"Exif\0\0")
    png, usual = (
        read_photo(put(tmp_path, "a.png", whole[:33] + png_chunk(b"eXIf", content) + whole[33:]))
        for content in (block, block[6:])
    )
    start = encode(smooth, "WEBP", lossless=True, exif=block)
    chunk = b"EXIF" + struct.pack("<I", len(block)) + block + bytes(len(block) % 2)
    start = start[: start.index(b"EXIF")] + chunk
    webp = read_photo(put(tmp_path, "a.webp", start[:4] + struct.pack("<I", len(start) - 8) + start[8:]))
    for photo in (png, webp):
        assert np.array_equal(photo.pixels, smooth[::-1, ::-1])
        assert photo.exif is not None
        assert photo.exif == usual.exif
        assert photo.warnings == ()


def test_the_first_exif_of_a_jpeg_decides(tmp_path: Path, smooth: Array, exif: Image.Exif, encode: Encode) -> None:
    expected = read_photo(put(tmp_path, "a.jpg", encode(smooth, "JPEG", exif=exif.tobytes())))
    exif[0x0112] = 3
    second = encode(smooth, "JPEG", exif=exif.tobytes())
    exif[0x0112] = 1
    first = encode(smooth, "JPEG", exif=exif.tobytes())[2:]
    photo = read_photo(put(tmp_path, "b.jpg", second[:2] + first[: first.index(b"\xff\xdb")] + second[2:]))
    assert np.array_equal(photo.pixels, expected.pixels)
    assert photo.exif == expected.exif


def test_a_webp_that_lacks_a_byte_is_truncated(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    whole = encode(smooth, "WEBP")
    for num_missing in (1, 8):
        with pytest.raises(ImageError, match="it is truncated; copy it again"):
            read_photo(put(tmp_path, "a.webp", whole[:-num_missing]))


def test_how_large_a_webp_is_to_be_shown_means_nothing(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    whole = bytearray(encode(smooth, "WEBP"))
    expected = read_photo(put(tmp_path, "a.webp", bytes(whole))).pixels
    start = whole.index(b"\x9d\x01\x2a") + 3
    whole[start + 1] |= 0x40  # above the 14 bits of a side
    whole[start + 3] |= 0x80
    assert np.array_equal(read_photo(put(tmp_path, "b.webp", bytes(whole))).pixels, expected)


def test_chunks_of_odd_length_shift_nothing_in_a_webp(
    tmp_path: Path, smooth: Array, exif: Image.Exif, icc: bytes, encode: Encode
) -> None:
    icc += bytes(1 - len(icc) % 2)
    metadata = {"icc_profile": icc, "exif": exif.tobytes(), "xmp": b"<x:xmpmeta/> "}
    photo = read_photo(put(tmp_path, "a.webp", encode(smooth, "WEBP", lossless=True, **metadata)))
    assert np.array_equal(photo.pixels, smooth)
    assert (photo.icc, photo.xmp) == (icc, b"<x:xmpmeta/> ")
    assert photo.exif is not None
    assert photo.warnings == ()


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (3, 2, 1)])
def test_a_profile_in_parts_is_put_together_by_their_numbers(
    tmp_path: Path, smooth: Array, icc: bytes, encode: Encode, order: tuple[int, ...]
) -> None:
    jpeg, third = encode(smooth, "JPEG"), len(icc) // 3
    parts = {1: icc[:third], 2: icc[third : 2 * third], 3: icc[2 * third :]}
    contents = [b"ICC_PROFILE\0" + bytes([number, 3]) + parts[number] for number in order]
    contents.insert(1, b"ICC_PROFILE\0")  # which holds nothing
    segments = b"".join(b"\xff\xe2" + struct.pack(">H", len(content) + 2) + content for content in contents)
    photo = read_photo(put(tmp_path, "a.jpg", jpeg[:2] + segments + jpeg[2:]))
    assert photo.icc == icc
    assert photo.warnings == ()


def test_a_header_that_contradicts_the_pixels_is_damage(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    data = encode(smooth, "WEBP", lossless=True)
    data += b"VP8X" + struct.pack("<II", 10, 0) + bytes([99, 0, 0, 99, 0, 0])  # 100×100, too late for the decoder
    with pytest.raises(ImageError, match="its header contradicts its pixels; copy it again"):
        read_photo(put(tmp_path, "a.webp", data[:4] + struct.pack("<I", len(data) - 8) + data[8:]))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM"])
def test_the_pixels_are_the_callers_own(tmp_path: Path, smooth: Array, encode: Encode, kind: str) -> None:
    photo = read_photo(put(tmp_path, "a" + SUFFIXES[kind], encode(smooth, kind)))
    assert photo.pixels.flags.writeable
    assert photo.pixels.flags.c_contiguous


WRONG = {
    "empty": (b"", ".png", "empty"),
    "random bytes": (bytes(range(200, 256)) * 5, ".png", "not a picture"),
    "signature only": (b"\x89PNG\r\n\x1a\n", ".png", "truncated"),
    "header-only PNG": (png(4, 4, b"")[:33], ".png", "truncated"),
    "JPEG signature only": (b"\xff\xd8\xff", ".jpg", "truncated"),
    "TIFF header only": (b"II*\0\x08\0\0\0", ".tif", "damaged (an offset reaches beyond the end)"),
    "WebP header only": (b"RIFF\x24\0\0\0WEBPVP8 ", ".webp", "truncated"),
    "BMP header only": (b"BM" + bytes(12) + b"\x28\0\0\0", ".bmp", "truncated"),
    "another chunk first": (png(4, 4, b"").replace(b"IHDR", b"CgBI"), ".png", "within its header"),
    "a JPEG of 12 bits": (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\5\0\7\1\1\x11\0\xff\xd9", ".jpg", "a 12-bit JPEG"),
    "a JPEG whose frame is cut": (b"\xff\xd8\xff\xc0\0\x07\x08\0\5\0\7\xff\xd9", ".jpg", "within its header"),
    "SVG": (b"<?xml version='1.0'?><svg/>", ".png", "SVG"),
    "bare SVG": (b"\xef\xbb\xbf <svg xmlns='x'/>", ".jpg", "SVG"),
    "PDF": (b"%PDF-1.7\n" + bytes(99), ".tif", "PDF"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", ".tif", "PDF"),
    "text": (b"notes on a picture\n", ".jpg", "text"),
    "GIF": (b"GIF89a" + bytes(99), ".png", "GIF"),
    "archive": (b"PK\x03\x04" + bytes(99), ".png", "archive"),
    "HEIC by content": (b"\0\0\0\x18ftypheic" + bytes(99), ".jpg", "HEIC"),
    "HEIC by name": (bytes(range(1, 99)), ".heic", "HEIC"),
    "EXR": (b"\x76\x2f\x31\x01" + bytes(99), ".exr", "EXR"),
    "raw by name": (b"II*\0\x08\0\0\0" + bytes(99), ".NEF", "camera raw"),
    "raw by content": (b"\0\0\0\x18ftypcrx " + bytes(99), ".jpg", "raw"),
    "100,000 squared in 69 bytes": (png(100_000, 100_000, b"\0"), ".png", "--max-pixels 10000000000"),
    "19,200 squared": (png(19_200, 19_200, bytes(2401 * 100), bits=1), ".png", "--max-pixels 368640000"),
    "no pixels": (png(0, 4, b""), ".png", "its header is damaged"),
    "fewer pixels than stated": (png(64, 64, bytes(65 * 20)), ".png", "damaged"),
    "flipped bits": (png(1, 1, b"\0\7").replace(b"IDAT", b"IDAV"), ".png", "damaged"),
}


@pytest.mark.parametrize(("data", "suffix", "word"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_photograph_is_an_error(tmp_path: Path, data: bytes, suffix: str, word: str) -> None:
    path = put(tmp_path, "a" + suffix, data)
    tracemalloc.start()
    with pytest.raises(ImageError) as caught:
        read_photo(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert re.fullmatch(re.escape(str(path)) + r": [^;\n]+; [^\n]+", str(caught.value))
    assert word in str(caught.value)
    assert peak < 4e6


def test_the_limit_of_pixels_is_the_callers(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    num_pixels = smooth.shape[0] * smooth.shape[1]
    for kind, suffix in SUFFIXES.items():
        path = put(tmp_path, "a" + suffix, encode(smooth, kind))
        with pytest.raises(ImageError, match=f"--max-pixels {num_pixels}"):
            read_photo(path, max_pixels=num_pixels - 1)
        assert read_photo(path, max_pixels=num_pixels).pixels.shape == smooth.shape


def test_files_too_large_for_any_photograph_are_not_read(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    path = put(tmp_path, "a.png", encode(smooth, "PNG"))
    os.truncate(path, 2**40)  # a hole: it takes no space
    with pytest.raises(ImageError, match=r"1099\.5 GB"):
        read_photo(path)


def test_a_name_that_says_otherwise_is_a_warning(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    photo = read_photo(put(tmp_path, "a.png", encode(smooth, "JPEG")))
    assert photo.format == "jpeg"
    assert photo.warnings == ("it is a JPEG file, which its name does not say",)


def test_what_is_no_file_is_an_error_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, word in (
        (tmp_path, "folder"),
        (tmp_path / "pipe.png", "regular"),
        (tmp_path / "gone.png", "No such file"),
    ):
        with pytest.raises(ImageError, match=word):
            read_photo(path)


def test_files_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_arguments: object) -> io.BytesIO:
        raise PermissionError(13, "Permission denied")

    path = put(tmp_path, "a.png", b"x")
    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(ImageError, match=r"a\.png: Permission denied; "):
        read_photo(path)


def test_further_pictures_are_named(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    first, *others = (Image.fromarray(picture.copy()) for picture in (smooth, smooth[::-1], smooth[:, ::-1]))
    several: dict[str, Any] = {"save_all": True, "append_images": others}
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(smooth, photometric="rgb")
        writer.write(smooth[:9, :9], photometric="rgb", subfiletype=1)  # a thumbnail is no picture
    files = {
        "a.png": (encode(first, "PNG", **several), 3),
        "a.webp": (encode(first, "WEBP", lossless=True, **several), 3),
        "a.tif": (encode(first, "TIFF", **several), 3),
        "a.jpg": (encode(first, "MPO", **several), 3),
        "a.ppm": (encode(first, "PPM") * 2, 2),
        "b.tif": (buffer.getvalue(), 1),
    }
    for name, (data, num) in files.items():
        photo = read_photo(put(tmp_path, name, data))
        assert np.abs(photo.pixels.astype(int) - smooth).max() <= (40 if name == "a.jpg" else 0), name
        expected = (f"it holds {num} pictures or more; only the first is read",) if num > 1 else ()
        assert photo.warnings == expected, name


def cmyk_profile() -> bytes:
    """A profile by which inks make nothing but grey, lighter the fewer there are."""
    corners = itertools.product((0, 1), repeat=4)
    lab = bytes(value for inks in corners for value in (255 - sum(inks) * 255 // 4, 128, 128))
    matrix = struct.pack(">9I", *(65536 if index % 4 == 0 else 0 for index in range(9)))
    straight = bytes(range(256))
    table = struct.pack(">4s4xBBBx", b"mft1", 4, 3, 2) + matrix + straight * 4 + lab + straight * 3
    start = 128 + 4 + 12
    header = struct.pack(
        ">I4sI4s4s4s12x4s", start + len(table), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp"
    )
    header = header.ljust(68, b"\0") + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", start, len(table)) + table


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb_with_a_warning(tmp_path: Path, smooth: Array, encode: Encode, kind: str) -> None:
    picture = Image.fromarray(smooth).convert("CMYK")
    data = encode(picture, kind, quality=100)
    plain = read_photo(put(tmp_path, "a" + SUFFIXES[kind], data))
    assert np.abs(plain.pixels.astype(int) - smooth).mean() < 4
    assert "CMYK" in plain.warnings[0]
    by_profile = read_photo(put(tmp_path, "a" + SUFFIXES[kind], encode(picture, kind, icc_profile=cmyk_profile())))
    assert by_profile.icc is None
    assert "by its colour profile" in by_profile.warnings[0]
    assert np.ptp(by_profile.pixels, axis=2).max() <= 4
    assert by_profile.pixels.std() > 10
    assert np.ptp(plain.pixels, axis=2).max() > 100
    for options in ({}, {"subsampling": 2}):  # the latter is nothing for libjpeg-turbo
        broken = encode(picture, "JPEG", icc_profile=b"broken", exif=b"Exif\0\0II*\0", quality=100, **options)
        photo = read_photo(put(tmp_path, "b.jpg", broken))
        assert "were dropped" in photo.warnings[1]
        assert np.abs(photo.pixels.astype(int) - smooth).mean() < 4


@pytest.mark.parametrize("error", [MemoryError(), cv2.error("in resize"), SystemError("odd"), RecursionError()])
def test_whatever_a_decoder_raises_is_an_error_of_the_file(
    tmp_path: Path, smooth: Array, encode: Encode, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(ImageError, match=r"^[^;\n]+; [^\n]+$"):
        read_photo(put(tmp_path, "a.png", encode(smooth, "PNG")))


def test_a_picture_too_large_for_the_memory_is_not_called_damaged(
    tmp_path: Path, smooth: Array, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise cv2.error("(-4:Insufficient memory) Failed to allocate 5880000")

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(ImageError, match="there is not enough memory to decode it"):
        read_photo(put(tmp_path, "a.png", encode(smooth, "PNG")))


def test_flipped_bits_and_cut_files_give_a_photograph_or_an_error(
    tmp_path: Path, smooth: Array, exif: Image.Exif, icc: bytes, encode: Encode
) -> None:
    metadata = {"exif": exif.tobytes(), "icc_profile": icc}
    small = smooth[:20, :23].copy()
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, smooth.astype(np.float32), photometric="rgb", tile=(16, 16), compression="zlib")
    files = {
        ".png": [encode(small, "PNG", **metadata), encode(Image.fromarray(small).quantize(9), "PNG", transparency=1)],
        ".jpg": [encode(small, "JPEG", **metadata), encode(small, "JPEG", progressive=True)],
        ".jpeg": [encode(Image.fromarray(small).convert("CMYK"), "JPEG", **metadata)],
        ".webp": [encode(small, "WEBP", **metadata), encode(small, "WEBP", lossless=True)],
        ".tif": [encode(small, "TIFF", compression=name) for name in ("tiff_lzw", "jpeg", "packbits", "tiff_deflate")],
        ".tiff": [
            buffer.getvalue(),
            encode(small, "TIFF", **metadata),
            encode(Image.fromarray(small).convert("1"), "TIFF", compression="group4"),
        ],
        ".bmp": [encode(small, "BMP"), encode(Image.fromarray(small).convert("P"), "BMP")],
        ".ppm": [encode(small, "PPM"), b"P3\n2 1\n255\n1 2 3 4 5 6\n"],
    }
    generator = np.random.default_rng(0)
    num_read = num_refused = 0
    for suffix, originals in files.items():
        for original, number in itertools.product(originals, range(40)):
            damaged = bytearray(original)
            if number % 3 == 0:
                del damaged[int(generator.integers(len(damaged))) :]
            for _ in range(number % 3 * 2):
                damaged[int(generator.integers(len(damaged) if number % 2 else min(200, len(damaged))))] ^= (
                    1 << number % 8
                )
            path = put(tmp_path, "a" + suffix, bytes(damaged))
            try:
                photo = read_photo(path, max_pixels=2**20, allow_truncated=number % 4 == 0)
            except ImageError as error:
                assert re.fullmatch(r"[^\n]+: [^\n]+; [^\n]+", str(error))  # noqa: PT017  either outcome is right
                num_refused += 1
            else:
                assert photo.pixels.dtype in (np.uint8, np.uint16, np.float32)
                num_read += 1
    assert num_read > 100
    assert num_refused > 100


def test_a_jpeg_header_is_read_whatever_stands_between_its_segments() -> None:
    frame = b"\xff\xc0\x00\x0b\x08\x00\x05\x00\x07\x01\x01\x11\x00"
    header = read_jpeg_header(
        b"\xff\xd8junk\xff\xff\xff\x01\xff\xd8" + frame + b"\xff\xda\x00\x03\x00\x12\xff\x00\xff\xd0\x34\xff\xd9"
    )
    assert (header.width, header.height, header.channels, header.is_truncated) == (7, 5, 1, False)


def test_the_default_limit() -> None:
    assert MAX_PIXELS == 268_435_456
