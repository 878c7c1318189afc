"""restore.images: metadata that a PNG holds as hexadecimal text, as ImageMagick wrote it, go along."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps, IptcImagePlugin

from restore.images import Photo, read_photo, write_photo
from restore.images.containers import png_chunk

Array = NDArray[Any]
Encode = Callable[..., bytes]
RECORD = b"\x1c\x02\x78\0\5moor\n"  # a caption
RESOURCES = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(RECORD)) + RECORD
THUMBNAIL = b"8BIM\x04\x0c\0\0\0\0\0\2\1\2"
XMP = b"<x:xmpmeta/>"


def raw_profile(name: str, content: bytes, kind: str = "zTXt") -> bytes:
    digits = content.hex()
    lines = "\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    return as_text(name, f"\n{name}\n{len(content):8d}\n{lines}\n".encode(), kind)


def as_text(name: str, text: bytes, kind: str = "zTXt") -> bytes:
    content = {"tEXt": text, "zTXt": b"\0" + zlib.compress(text), "iTXt": bytes(4) + text}[kind]
    return png_chunk(kind.encode(), f"Raw profile type {name}".encode() + b"\0" + content)


def read(folder: Path, png: bytes, *chunks: bytes, at_the_end: bool = False) -> Photo:
    position = len(png) - 12 if at_the_end else 33
    (folder / "a.png").write_bytes(png[:position] + b"".join(chunks) + png[position:])
    return read_photo(folder / "a.png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["tEXt", "zTXt"])
@pytest.mark.parametrize("name", ["exif", "APP1"])
def test_exif_turns_the_picture(  # noqa: PLR0917  fixtures
    tmp_path: Path, smooth: Array, exif: Image.Exif, encode: Encode, orientation: int, kind: str, name: str
) -> None:
    exif[0x0112] = orientation
    chunk = raw_profile(name, exif.tobytes(), kind)
    photo = read(tmp_path, encode(smooth, "PNG"), chunk, at_the_end=orientation % 2 == 0)
    assert (photo.warnings, photo.parts) == ((), ())
    assert photo.exif is not None
    kept = Image.Exif()
    kept.load(photo.exif)
    assert (kept[0x0112], kept[0x8298]) == (1, "Copyright holder")
    by_chunk = read(tmp_path, encode(smooth, "PNG", exif=exif.tobytes()))
    assert np.array_equal(photo.pixels, by_chunk.pixels)
    assert photo.exif == by_chunk.exif
    if name == "exif":
        text = io.BytesIO(encode(smooth, "PNG")[:33] + chunk + encode(smooth, "PNG")[33:])
        assert np.array_equal(photo.pixels, np.asarray(ImageOps.exif_transpose(Image.open(text))))


@pytest.mark.parametrize("at_the_end", [False, True])
def test_chunks_of_their_own_decide(
    tmp_path: Path, smooth: Array, exif: Image.Exif, encode: Encode, *, at_the_end: bool
) -> None:
    other = Image.Exif()
    other[0x0112], other[0x010F] = 6, "Other"
    profiles = raw_profile("exif", other.tobytes()), raw_profile("xmp", b"<other/>")
    png = encode(smooth, "PNG", exif=exif.tobytes())
    xmp = png_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + XMP)
    photo = read(tmp_path, png[:33] + xmp + png[33:], *profiles, at_the_end=at_the_end)
    assert np.array_equal(photo.pixels, smooth)
    assert photo.exif is not None
    assert b"Maker\0" in photo.exif
    assert photo.xmp == XMP


@pytest.mark.parametrize(("name", "prefix"), [("xmp", b""), ("APP1", b"http://ns.adobe.com/xap/1.0/\0")])
def test_xmp(tmp_path: Path, smooth: Array, encode: Encode, name: str, prefix: bytes) -> None:
    assert read(tmp_path, encode(smooth, "PNG"), raw_profile(name, prefix + XMP)).xmp == XMP


def test_the_first_decides_and_bytes_beyond_its_length_mean_nothing(
    tmp_path: Path, smooth: Array, encode: Encode
) -> None:
    text = b"\nxmp\n%8d\n%b\n" % (len(XMP), (XMP + b"more").hex().encode())
    assert read(tmp_path, encode(smooth, "PNG"), as_text("xmp", text), raw_profile("xmp", b"<x/>")).xmp == XMP


@pytest.mark.parametrize(
    "chunks",
    [
        [raw_profile("iptc", RECORD)],
        [raw_profile("iptc", b"Photoshop 3.0\0" + RESOURCES)],
        [raw_profile("8bim", THUMBNAIL + RESOURCES)],
        [raw_profile("iptc", b"\x1c\x02\x78\0\5heath"), raw_profile("8bim", RESOURCES)],
    ],
)
def test_iptc_goes_to_jpeg_and_tiff(tmp_path: Path, smooth: Array, encode: Encode, chunks: list[bytes]) -> None:
    photo = read(tmp_path, encode(smooth, "PNG"), *chunks)
    assert photo.parts == (("APP13", b"Photoshop 3.0\0" + RESOURCES),)
    assert photo.warnings == ()
    for suffix in (".jpg", ".tif"):
        assert write_photo(tmp_path / f"b{suffix}", photo) == ()
        with Image.open(tmp_path / f"b{suffix}") as image:
            assert (IptcImagePlugin.getiptcinfo(image) or {})[2, 120] == RECORD[5:]
    (note,) = write_photo(tmp_path / "b.png", photo)
    assert "IPTC" in note


def test_resources_of_any_size(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    path = b"8BIM\x07\xd0\0\0" + struct.pack(">I", 100_000) + bytes(100_000)
    photo = read(tmp_path, encode(smooth, "PNG"), raw_profile("8bim", path + RESOURCES))
    assert write_photo(tmp_path / "b.jpg", photo) == ()
    with Image.open(tmp_path / "b.jpg") as image:
        segments = [content for name, content in image.applist if name == "APP13"]
    assert b"".join(content.removeprefix(b"Photoshop 3.0\0") for content in segments) == path + RESOURCES


DAMAGED = {
    "no hexadecimal": as_text("exif", b"\nexif\n 4\nabcdefgh\n"),
    "half a byte": as_text("exif", b"\nexif\n 2\n00000\n"),
    "too short": as_text("exif", b"\nexif\n 5\n00000000\n"),
    "no length": as_text("exif", b"\nexif\n x\n00000000\n"),
    "a negative length": as_text("exif", b"\nexif\n -1\n00000000\n"),
    "empty": as_text("exif", b""),
    "not compressed": png_chunk(b"zTXt", b"Raw profile type exif\0\0\nexif\n 4\n00000000\n"),
    "a bomb": as_text("exif", b"0" * (2**26 + 1)),
}


@pytest.mark.parametrize("chunk", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_ones_are_named(tmp_path: Path, smooth: Array, encode: Encode, chunk: bytes) -> None:
    photo = read(tmp_path, encode(smooth, "PNG"), chunk)
    assert np.array_equal(photo.pixels, smooth)
    assert photo.exif is None
    assert photo.warnings == ("the damaged part 'Raw profile type exif' was left out",)


def test_what_is_not_carried_is_named(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    photo = read(tmp_path, encode(smooth, "PNG"), raw_profile("icm", bytes(9)), raw_profile("exif", bytes(9), "iTXt"))
    assert photo.warnings == tuple(f"the part 'Raw profile type {name}' was left out" for name in ("exif", "icm"))
    assert photo.parts == ()
    photo = read(tmp_path, encode(smooth, "PNG"), raw_profile("exif", b"no EXIF"))
    assert photo.warnings == ("its EXIF data are broken and were dropped",)
