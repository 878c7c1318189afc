"""restore.images.bmp: whatever a BMP's header and depth, its colours are right or it is refused by name."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from restore.errors import ImageError
from restore.images import Photo, read_photo, write_photo

Array = NDArray[Any]
HEADERS = [12, 40, 64, 108, 124]
STANDARD = 0xFF0000, 0xFF00, 0xFF
MASKS = {
    "standard": (32, STANDARD, 0),
    "in the upper bytes": (32, (0xFF000000, 0xFF0000, 0xFF00), 0),
    "opacity first": (32, STANDARD, 0xFF000000),
    "opacity last": (32, (0xFF000000, 0xFF0000, 0xFF00), 0xFF),
    "555": (16, (0x7C00, 0x3E0, 0x1F), 0),
    "1555": (16, (0x7C00, 0x3E0, 0x1F), 0x8000),
    "565": (16, (0xF800, 0x7E0, 0x1F), 0),
}


def put(folder: Path, data: bytes, name: str = "a.bmp") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def same(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and np.array_equal(one, other)


def bmp(  # noqa: PLR0917  as they stand in the file
    width: int, height: int, bits: int, rows: bytes, header_bytes: int = 40, storage: int = 0, rest: bytes = b""
) -> bytes:
    """A BMP of a header, what stands behind its first 40 bytes (masks, palette), and rows."""
    sizes = struct.pack("<IiiHHIIiiII", header_bytes, width, height, 1, bits, storage, len(rows), 0, 0, 0, 0)
    if header_bytes == 12:
        sizes = struct.pack("<IHHHH", 12, width, height, 1, bits)
    masks, palette = (rest[:16], rest[16:]) if storage and header_bytes > 40 else (b"", rest)
    head = (sizes + masks)[:header_bytes].ljust(header_bytes, b"\0") + palette
    return b"BM" + struct.pack("<IHHI", 14 + len(head + rows), 0, 0, 14 + len(head)) + head + rows


def pack_rows(values: Array, bits: int) -> bytes:
    """(H,W) values, or (H,W,3) RGB, as the rows of a BMP, whose last comes first."""
    if values.ndim == 3:
        rows = [row.tobytes() for row in values[::-1, :, ::-1].astype(np.uint8)]
    elif bits > 8:
        rows = [row.tobytes() for row in values[::-1].astype(f"<u{bits // 8}")]
    else:
        each = np.unpackbits(values[::-1, :, None].astype(np.uint8), axis=2)[..., 8 - bits :]
        rows = [np.packbits(row).tobytes() for row in each.reshape(len(values), -1)]
    return b"".join(row + bytes(-len(row) % 4) for row in rows)


@pytest.mark.parametrize("header_bytes", HEADERS)
@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("is_grey", [False, True])
def test_palettes_of_all_headers(tmp_path: Path, header_bytes: int, bits: int, *, is_grey: bool) -> None:
    generator = np.random.default_rng(bits)
    indices = generator.integers(0, 2**bits, (11, 13))
    palette = generator.integers(0, 256, (2**bits, 1 if is_grey else 3), np.uint8).repeat(3 if is_grey else 1, axis=1)
    entries = palette[:, ::-1] if header_bytes == 12 else np.pad(palette[:, ::-1], ((0, 0), (0, 1)))
    data = bmp(13, 11, bits, pack_rows(indices, bits), header_bytes, rest=entries.tobytes())
    photo = read_photo(put(tmp_path, data))
    assert photo.warnings == ()
    assert np.array_equal(photo.pixels, palette[indices][..., 0] if is_grey else palette[indices])


@pytest.mark.parametrize("header_bytes", HEADERS)
@pytest.mark.parametrize("bits", [16, 24, 32])
def test_colours_of_all_headers(tmp_path: Path, smooth: Array, header_bytes: int, bits: int) -> None:
    red, green, blue = np.moveaxis(smooth.astype(int), 2, 0)
    values: Array = {
        16: red >> 3 << 10 | green >> 3 << 5 | blue >> 3,
        24: smooth,
        32: red << 16 | green << 8 | blue | 0x5A << 24,  # the fourth byte means nothing
    }[bits]
    data = bmp(67, 41, bits, pack_rows(values, bits), header_bytes)
    photo = read_photo(put(tmp_path, data))
    expected = (smooth.astype(int) >> 3) * 255 // 31 if bits == 16 else smooth
    assert np.array_equal(photo.pixels, expected)
    assert (photo.alpha, photo.warnings) == (None, ())


def test_rows_from_the_top(tmp_path: Path, smooth: Array) -> None:
    data = bmp(67, -41, 24, pack_rows(smooth[::-1], 24))
    assert np.array_equal(read_photo(put(tmp_path, data)).pixels, smooth)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("header_bytes", [40, 52, 56, 108, 124])
def test_colour_masks(tmp_path: Path, smooth: Array, header_bytes: int, name: str) -> None:
    bits, masks, opacity = MASKS[name]
    samples = np.dstack([smooth, np.random.default_rng(0).integers(0, 256, smooth.shape[:2])]).astype(int)
    words, expected = np.zeros(smooth.shape[:2], np.int64), []
    for channel, mask in zip(np.moveaxis(samples, 2, 0), (*masks, opacity), strict=True):
        lowest = max(1, mask & -mask)
        values = channel * (mask // lowest) // 255
        words |= values * lowest
        expected.append(values * 255 // max(1, mask // lowest))
    stated = struct.pack("<4I", *masks, opacity)[: 16 if header_bytes >= 56 else 12]
    photo = read_photo(put(tmp_path, bmp(67, 41, bits, pack_rows(words, bits), header_bytes, 3, stated)))
    assert np.array_equal(photo.pixels, np.dstack(expected[:3]))
    has_opacity = bool(opacity) and header_bytes >= 56 and bits == 32
    assert same(photo.alpha, expected[3].astype(np.uint8) if has_opacity else None)


UNSUPPORTED = {
    "red last": bmp(1, 1, 32, bytes(4), 40, 3, struct.pack("<3I", 0xFF, 0xFF00, 0xFF0000)),
    "10 bits": bmp(1, 1, 32, bytes(4), 40, 3, struct.pack("<3I", 0x3FF00000, 0xFFC00, 0x3FF)),
    "4444": bmp(1, 1, 16, bytes(4), 56, 3, struct.pack("<4I", 0xF00, 0xF0, 0xF, 0xF000)),
    "2 bits": bmp(1, 1, 2, bytes(4), rest=bytes(16)),
    "a JPEG within": bmp(1, 1, 24, bytes(8), 40, 4),
    "a PNG within": bmp(1, 1, 24, bytes(8), 40, 5),
    "64 bits": bmp(1, 1, 64, bytes(8)),
    "a header of 16 bytes": bmp(1, 1, 24, bytes(4), 16),
}


@pytest.mark.parametrize("data", UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_what_is_not_supported_is_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ImageError, match=r"a.bmp: its pixels cannot be read \(.*\); convert it to PNG or TIFF first"):
        read_photo(put(tmp_path, data))


@pytest.mark.parametrize("data", [bmp(0, 1, 24, bytes(4)), bmp(1, 1, 24, b"")[:33]])
def test_damaged_headers(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ImageError, match=r"header.*; copy it again"):
        read_photo(put(tmp_path, data))


def test_a_palette_may_be_short(tmp_path: Path) -> None:
    data = bmp(3, 1, 8, bytes([0, 1, 9, 0]), rest=bytes([1, 2, 3, 0, 4, 5, 6, 0]))
    assert read_photo(put(tmp_path, data)).pixels.tolist() == [[[3, 2, 1], [6, 5, 4], [0, 0, 0]]]


def test_what_is_written_is_read(tmp_path: Path, make_picture: Any) -> None:
    for mode in ("L", "RGB"):
        pixels, _ = make_picture(mode, np.uint8)
        write_photo(tmp_path / "a.bmp", Photo(pixels))
        assert np.array_equal(read_photo(tmp_path / "a.bmp").pixels, pixels)


def test_white_of_a_16_bit_bmp_is_white(tmp_path: Path) -> None:
    samples = struct.pack("<4H", 0x7FFF, 0, 0x7C00, 0x03E0)
    sizes = struct.pack("<IiiHHIIiiII", 40, 4, -1, 1, 16, 0, len(samples), 0, 0, 0, 0)
    photo = read_photo(put(tmp_path, b"BM" + struct.pack("<IHHI", 62, 0, 0, 54) + sizes + samples))
    assert photo.pixels.tolist() == [[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0]]]


@pytest.mark.parametrize("pads", [False, True])
def test_runs_of_a_bmp_may_go_on_beyond_the_width(tmp_path: Path, *, pads: bool) -> None:
    indices = np.random.default_rng(0).integers(0, 256, (20, 13), np.uint8)
    palette = np.random.default_rng(1).integers(0, 256, (256, 4), np.uint8)
    ends_of_row = (b"\3\0" if pads else b"") + b"\0\0"
    runs = b"".join(b"".join(bytes([1, index]) for index in row) + ends_of_row for row in indices[::-1]) + b"\0\1"
    sizes = struct.pack("<IiiHHIIiiII", 40, 13, 20, 1, 8, 1, len(runs), 0, 0, 256, 0)
    data = b"BM" + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078) + sizes + palette.tobytes() + runs
    photo = read_photo(put(tmp_path, data))
    assert np.array_equal(photo.pixels, palette[indices][..., 2::-1])
    with pytest.raises(ImageError, match="truncated"):
        read_photo(put(tmp_path, data[:1300]))


def test_a_fourth_byte_that_a_bmp_leaves_at_0_is_no_opacity(tmp_path: Path, make_picture: Any) -> None:
    pixels, alpha = make_picture("RGBA", np.uint8)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    for opacity in (alpha, np.zeros_like(alpha)):
        samples = np.dstack([pixels[..., ::-1], opacity]).tobytes()
        sizes = struct.pack("<IiiHHIIiiII", 108, pixels.shape[1], -len(pixels), 1, 32, 3, len(samples), 0, 0, 0, 0)
        head = b"BM" + struct.pack("<IHHI", 122 + len(samples), 0, 0, 122)
        photo = read_photo(put(tmp_path, head + sizes + masks + bytes(52) + samples))
        assert np.array_equal(photo.pixels, pixels)
        assert same(photo.alpha, opacity if opacity.any() else None)


def bmp_with_profile(pixels: Array, icc: bytes) -> bytes:
    """A BMP whose header, the fifth version, says where a colour profile lies."""
    height, width = pixels.shape[:2]
    rows = b"".join(row.tobytes() + bytes(-3 * width % 4) for row in pixels[::-1, :, ::-1])
    sizes = struct.pack("<IiiHHIIiiII", 124, width, height, 1, 24, 0, len(rows), 11811, 11811, 0, 0)
    profile = b"DEBM" + bytes(48) + struct.pack("<IIII", 4, 124 + len(rows), len(icc), 0)
    start = 14 + 124
    return b"BM" + struct.pack("<IHHI", start + len(rows + icc), 0, 0, start) + sizes + bytes(16) + profile + rows + icc


def test_the_profile_of_a_bmp_is_read(tmp_path: Path, smooth: Array, icc: bytes) -> None:
    photo = read_photo(put(tmp_path, bmp_with_profile(smooth, icc)))
    assert np.array_equal(photo.pixels, smooth)
    assert photo.icc == icc
    assert photo.warnings == ()
