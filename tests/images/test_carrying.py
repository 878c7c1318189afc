"""restore.images: resolution, IPTC and the colour chunks of PNG go along, or their loss is said."""

from __future__ import annotations

import dataclasses
import io
import itertools
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, IptcImagePlugin, TiffImagePlugin, TiffTags

from restore.errors import ImageError
from restore.images import Photo, read_photo, write_photo
from restore.images.containers import png_chunk
from restore.images.directories import pack_directory, stated_dpi

Array = NDArray[Any]
Encode = Callable[..., bytes]
KINDS = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "BMP": ".bmp"}
HOLDERS = list(KINDS.values())


def read(path: Path, data: bytes) -> Photo:
    path.write_bytes(data)
    return read_photo(path)


def stated(path: Path) -> tuple[float, float]:
    with Image.open(path) as image:
        across, down = image.info["dpi"]
        return float(across), float(down)


def with_chunks(png: bytes, *chunks: tuple[str, bytes]) -> bytes:
    return png[:33] + b"".join(png_chunk(name.encode(), content) for name, content in chunks) + png[33:]


def chunks_of(path: Path) -> list[tuple[str, bytes]]:
    data, position, chunks = path.read_bytes(), 8, []
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        chunks.append((name.decode(), data[position + 8 : position + 8 + length]))
        position += length + 12
    return chunks


def with_segment(jpeg: bytes, marker: int, *contents: bytes) -> bytes:
    segments = (bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content for content in contents)
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


@pytest.mark.parametrize(("kind", "suffix"), [*itertools.product(KINDS, HOLDERS)])
def test_resolution_goes_from_format_to_format(
    tmp_path: Path, smooth: Array, encode: Encode, kind: str, suffix: str
) -> None:
    for dpi in ((300.0, 300.0), (72.0, 72.0), (600.0, 1200.0)):
        photo = read(tmp_path / f"source{KINDS[kind]}", encode(smooth, kind, dpi=dpi))
        assert photo.dpi == dpi
        notes = write_photo(tmp_path / f"a{suffix}", photo)
        assert len(notes) == ((kind, suffix) == ("TIFF", ".bmp"))  # whose other tags are EXIF, which BMP lacks
        assert stated(tmp_path / f"a{suffix}") == pytest.approx(dpi, abs=0.01)
        assert read_photo(tmp_path / f"a{suffix}").dpi == dpi
        assert write_photo(tmp_path / f"b{suffix}", photo, strip_metadata=True) == ()
        assert read_photo(tmp_path / f"b{suffix}").dpi == dpi


def test_odd_resolutions_come_back_exactly(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    png = with_chunks(encode(smooth, "PNG"), ("pHYs", struct.pack(">IIB", 12345, 777, 1)))
    for path in (tmp_path / "a.tif", tmp_path / "a.bmp", tmp_path / "a.png"):
        write_photo(path, read(tmp_path / "source.png", png))
        assert read_photo(path).dpi == pytest.approx((12345 * 0.0254, 777 * 0.0254), abs=1e-6)
        write_photo(tmp_path / "back.png", read_photo(path))
        assert ("pHYs", struct.pack(">IIB", 12345, 777, 1)) in chunks_of(tmp_path / "back.png")


def test_resolutions_that_are_no_ratio_of_small_numbers_come_near(tmp_path: Path, smooth: Array) -> None:
    dpi = 60000.123456789, 1.23456789
    for suffix in (".tif", ".png", ".bmp"):
        assert write_photo(tmp_path / f"a{suffix}", Photo(smooth, dpi=dpi)) == ()
        assert read_photo(tmp_path / f"a{suffix}").dpi == pytest.approx(dpi, abs=0.02)


def test_centimetres_are_inches(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    jfif = encode(smooth, "JPEG", dpi=(1, 1)).replace(b"JFIF\0\1\1\1\0\1\0\1", b"JFIF\0\1\1\2\0\x64\0\xc8")
    assert read(tmp_path / "a.jpg", jfif).dpi == (254.0, 508.0)
    tiff = encode(smooth, "TIFF", resolution_unit="cm", x_resolution=100.0, y_resolution=200.0)
    photo = read(tmp_path / "a.tif", tiff)
    assert photo.dpi == (254.0, 508.0)
    write_photo(tmp_path / "a.tif", photo)
    with Image.open(tmp_path / "a.tif") as image:
        assert (image.getexif()[296], float(image.getexif()[282])) == (3, 100)  # as they were


def test_a_stale_orientation_in_the_xmp_does_not_turn_a_tiff(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    exif, xmp = Image.Exif(), b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
    for is_stated in (True, False):
        if is_stated:
            exif[0x0112] = 1
        else:
            del exif[0x0112]
            exif[0x010F] = "maker"
        photo = read(tmp_path / "a.jpg", encode(smooth, "JPEG", exif=exif.tobytes(), xmp=xmp))
        write_photo(tmp_path / "b.tif", photo)
        with Image.open(tmp_path / "b.tif") as image:
            assert (274 in image.tag_v2) == is_stated  # where EXIF says nothing, the XMP decides as before
        assert photo.xmp == xmp


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_quarter_turn_swaps_the_resolution(
    tmp_path: Path, smooth: Array, encode: Encode, kind: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(smooth, kind, exif=exif.tobytes(), dpi=(600, 1200))
    photo = read(tmp_path / f"a{KINDS[kind]}", data)
    expected = (1200.0, 600.0) if orientation >= 5 else (600.0, 1200.0)
    assert photo.dpi == expected
    for suffix in HOLDERS:
        write_photo(tmp_path / f"b{suffix}", photo)
        assert stated(tmp_path / f"b{suffix}") == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_quarter_turn_swaps_the_resolution_in_the_exif_too(
    tmp_path: Path, smooth: Array, encode: Encode, kind: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[282], exif[283], exif[296], exif[0x0112] = 600.0, 1200.0, 2, orientation
    path = tmp_path / f"a.{kind.lower()}"
    photo = read(path, encode(smooth, kind, exif=exif.tobytes()))
    expected = (1200.0, 600.0) if orientation >= 5 else (600.0, 1200.0)
    assert photo.dpi == stated_dpi(photo.exif or b"") == expected
    assert write_photo(tmp_path / "b.webp", photo) == ()  # in the EXIF
    assert read_photo(tmp_path / "b.webp").dpi == expected


def test_what_is_no_resolution_is_ignored(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    jpeg, png, bmp = encode(smooth, "JPEG", dpi=(3, 4)), encode(smooth, "PNG"), encode(smooth, "BMP")
    tiff: dict[str, Any] = {"x_resolution": 3.0, "y_resolution": 4.0}
    files = {
        "ratio.jpg": jpeg.replace(b"JFIF\0\1\1\1", b"JFIF\0\1\1\0"),
        "half.jpg": encode(smooth, "JPEG", dpi=(300, 0)),
        "ratio.png": with_chunks(png, ("pHYs", struct.pack(">IIB", 3000, 4000, 0))),
        "zero.png": with_chunks(png, ("pHYs", struct.pack(">IIB", 0, 0, 1))),
        "huge.png": with_chunks(png, ("pHYs", struct.pack(">IIB", 2**32 - 1, 2**32 - 1, 1))),
        "short.png": with_chunks(png, ("pHYs", b"\0\0\0\1")),
        "ratio.tif": encode(smooth, "TIFF", resolution_unit=1, **tiff),
        "unknown.tif": encode(smooth, "TIFF", resolution_unit=9, **tiff),
        "zero.tif": encode(smooth, "TIFF", x_resolution=0.0, y_resolution=0.0),
        "zero.bmp": encode(smooth, "BMP", dpi=(0, 0)),
        "negative.bmp": bmp[:38] + struct.pack("<ii", -9999, 9999) + bmp[46:],
    }
    for name, data in files.items():
        assert read(tmp_path / name, data).dpi is None, name
    for suffix, dpi in itertools.product(HOLDERS, ((1.0, 65535.0), (65535.0, 1.0))):  # the least and the most
        write_photo(tmp_path / f"a{suffix}", Photo(smooth, dpi=dpi))
        assert read_photo(tmp_path / f"a{suffix}").dpi == dpi
    none = (0, 0), (300, float("nan")), (1e9, 1e9), (-300, 300), (0.99, 300), (300, 65536)
    for suffix, dpi in itertools.product(HOLDERS, none):
        assert write_photo(tmp_path / f"a{suffix}", Photo(smooth, dpi=dpi)) == ()
        assert read_photo(tmp_path / f"a{suffix}").dpi is None


def test_exif_states_the_resolution_where_the_file_does_not(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = 350.0, 350.0, 2
    photo = read(tmp_path / "a.jpg", encode(smooth, "JPEG", exif=exif.tobytes()))
    assert photo.dpi == (350.0, 350.0)
    assert write_photo(tmp_path / "a.webp", photo) == ()  # in the EXIF
    photo = read(tmp_path / "a.jpg", encode(smooth, "JPEG", exif=exif.tobytes(), dpi=(300, 300)))
    assert photo.dpi == (300.0, 300.0)
    for suffix in (".jpg", ".png", ".tif"):
        write_photo(tmp_path / f"b{suffix}", photo)
        with Image.open(tmp_path / f"b{suffix}") as image:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
            assert image.getexif()[282] == (300 if suffix == ".tif" else 350)  # a TIFF states one only


@pytest.mark.parametrize("suffix", [".webp", ".ppm"])
def test_a_resolution_that_is_lost_is_said_if_somebody_chose_it(tmp_path: Path, smooth: Array, suffix: str) -> None:
    name = "WEBP" if suffix == ".webp" else "PNM"
    notes = write_photo(tmp_path / f"a{suffix}", Photo(smooth, dpi=(300.0, 150.0)))
    assert notes == (f"{name} holds no resolution; 300 × 150 dpi were dropped",)
    assert write_photo(tmp_path / f"a{suffix}", Photo(smooth, dpi=(72.0, 72.0))) == ()


def photoshop(caption: bytes) -> bytes:
    """The content of an APP13 segment with an IPTC caption and a keyword."""
    iptc = b"".join(
        b"\x1c\x02" + struct.pack(">BH", number, len(text)) + text for number, text in ((120, caption), (25, b"moor"))
    )
    iptc += bytes(len(iptc) % 2)
    return b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc


def test_iptc_stays_in_a_jpeg(tmp_path: Path, smooth: Array, icc: bytes, encode: Encode) -> None:
    contents = photoshop(b"A caption"), b"Photoshop 3.0\x008BIM" + bytes(65533 - 18)  # the largest that fits
    data = with_segment(encode(smooth, "JPEG", icc_profile=icc, exif=Image.Exif(), dpi=(300, 300)), 0xED, *contents)
    photo = read(tmp_path / "a.jpg", data)
    photo = dataclasses.replace(photo, xmp=b"<x:xmpmeta/>")
    for _ in range(2):
        assert write_photo(tmp_path / "b.jpg", photo) == ()
        with Image.open(tmp_path / "b.jpg") as image:
            assert [content for name, content in image.applist if name == "APP13"] == list(contents)
            assert image.info["photoshop"][0x0404] == contents[0][26:]
            captions = IptcImagePlugin.getiptcinfo(image)
            assert captions is not None
            assert (captions[2, 120], captions[2, 25]) == (b"A caption", b"moor")
            assert image.info["icc_profile"] == icc
        photo = read_photo(tmp_path / "b.jpg")
        assert (photo.xmp, photo.dpi) == (b"<x:xmpmeta/>", (300.0, 300.0))
    assert write_photo(tmp_path / "c.jpg", photo, strip_metadata=True) == ()
    assert b"Photoshop" not in (tmp_path / "c.jpg").read_bytes()
    with pytest.raises(ImageError, match="cannot be encoded"):
        write_photo(tmp_path / "d.jpg", Photo(smooth, parts=(("APP13", bytes(65534)),)))


def resource(number: int, content: bytes) -> bytes:
    head = b"8BIM" + struct.pack(">HHI", number, 0, len(content))
    return head + content + bytes(len(content) % 2)


@pytest.mark.parametrize("number", [0x0409, 0x040C])
@pytest.mark.parametrize("order", ["first", "last", "in two segments"])
def test_thumbnails_of_photoshop_show_the_picture_as_it_was(
    tmp_path: Path, smooth: Array, encode: Encode, number: int, order: str
) -> None:
    prefix, thumbnail = b"Photoshop 3.0\0", resource(number, encode(smooth[:9, :9], "JPEG")[:301])
    iptc, path = photoshop(b"A caption")[len(prefix) :], resource(0x07D0, b"a path")
    together = iptc + path + thumbnail if order == "last" else iptc + thumbnail + path
    cut = 80 if order == "in two segments" else len(together)
    segments = [prefix + part for part in (together[:cut], together[cut:]) if part]
    other = b"Adobe_CM\0\2"
    data = with_segment(encode(smooth, "JPEG", comment=b"kept"), 0xED, *segments, other)
    photo = read(tmp_path / "a.jpg", data)
    assert photo.parts == (("COM", b"kept"), ("APP13", other), ("APP13", prefix + iptc + path))
    write_photo(tmp_path / "b.jpg", photo)
    with Image.open(tmp_path / "b.jpg") as image:
        assert set(image.info["photoshop"]) == {0x0404, 0x07D0}
    assert captions(tmp_path / "b.jpg") == captions(tmp_path / "a.jpg")
    only = read(tmp_path / "c.jpg", with_segment(encode(smooth, "JPEG"), 0xED, prefix + thumbnail[:60]))
    assert only.parts == ()


def test_resources_beyond_one_segment_stay(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    prefix, thumbnail = b"Photoshop 3.0\0", resource(0x040C, bytes(40000))
    together = thumbnail + resource(0x07D0, bytes(90000)) + photoshop(b"A caption")[len(prefix) :]
    segments = [prefix + together[start : start + 60000] for start in range(0, len(together), 60000)]
    photo = read(tmp_path / "a.jpg", with_segment(encode(smooth, "JPEG"), 0xED, *segments))
    assert b"".join(part.removeprefix(prefix) for _, part in photo.parts) == together[len(thumbnail) :]
    write_photo(tmp_path / "b.jpg", photo)
    assert read_photo(tmp_path / "b.jpg").parts == photo.parts


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".ppm"])
def test_iptc_that_is_lost_is_said(tmp_path: Path, smooth: Array, encode: Encode, suffix: str) -> None:
    photo = read(tmp_path / "a.jpg", with_segment(encode(smooth, "JPEG"), 0xED, photoshop(b"A caption")))
    (note,) = write_photo(tmp_path / f"a{suffix}", photo)
    assert "IPTC" in note
    assert write_photo(tmp_path / f"a{suffix}", photo, strip_metadata=True) == ()
    assert read_photo(tmp_path / f"a{suffix}").parts == ()


def captions(path: Path) -> dict[tuple[int, int], bytes | list[bytes]] | None:
    """What Pillow, which is not ours, finds of IPTC in a file."""
    with Image.open(path) as image:
        return IptcImagePlugin.getiptcinfo(image)


@pytest.mark.parametrize("caption", [b"A caption", b"A caption of odd length"[:-1]])
def test_iptc_goes_between_jpeg_and_tiff(tmp_path: Path, smooth: Array, encode: Encode, caption: bytes) -> None:
    segments = photoshop(caption)[:40], b"Photoshop 3.0\0" + photoshop(caption)[40:]  # one resource in two segments
    photo = read(tmp_path / "a.jpg", with_segment(encode(smooth, "JPEG"), 0xED, *segments))
    assert write_photo(tmp_path / "b.tif", photo) == ()
    found = captions(tmp_path / "b.tif")
    assert found is not None
    assert (found[2, 120], found[2, 25]) == (caption, b"moor")
    with Image.open(tmp_path / "b.tif") as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
        assert image.tag_v2.tagtype[33723] == TiffTags.UNDEFINED
    photo = read_photo(tmp_path / "b.tif")
    assert write_photo(tmp_path / "c.tif", photo) == ()
    assert captions(tmp_path / "c.tif") == found
    assert write_photo(tmp_path / "c.jpg", photo) == ()
    assert captions(tmp_path / "c.jpg") == found
    assert write_photo(tmp_path / "d.jpg", photo, strip_metadata=True) == ()
    assert captions(tmp_path / "d.jpg") is None


@pytest.mark.parametrize(
    ("tag", "kind", "is_swapped"), [(33723, 7, False), (33723, 4, True), (33723, 4, False), (34377, 1, False)]
)
def test_iptc_of_a_tiff_of_others(tmp_path: Path, smooth: Array, tag: int, kind: int, *, is_swapped: bool) -> None:
    resources = b"8BIM\x03\xed\x03odd" + struct.pack(">I", 1) + b"x\0" + photoshop(b"A caption")[14:]
    record = photoshop(b"A caption")[26:] + bytes(2)
    content = resources if tag == 34377 else record
    if kind == 4:  # as some programs write it: integers, of some in the byte order of the file
        content = record[: len(record) // 4 * 4]
        content = np.frombuffer(content, "<u4").byteswap().tobytes() if is_swapped else content
    count = len(content) // (4 if kind == 4 else 1)
    head = b"II*\0\x08\0\0\0" + pack_directory("<", {tag: (kind, count, content)}, 8)
    write_photo(tmp_path / "a.tif", Photo(smooth, exif=head))
    photo = read_photo(tmp_path / "a.tif")
    assert write_photo(tmp_path / "b.jpg", photo) == ()
    found = captions(tmp_path / "b.jpg")
    assert found is not None
    assert found[2, 120] == b"A caption"
    assert read_photo(tmp_path / "b.jpg").exif == photo.exif


def test_of_two_iptc_records_in_a_tiff_that_of_its_own_tag_goes_along(tmp_path: Path, smooth: Array) -> None:
    record, resources = photoshop(b"of the tag")[26:], photoshop(b"of Photoshop")[14:]
    tags = {33723: (7, len(record), record), 34377: (7, len(resources), resources)}
    write_photo(tmp_path / "a.tif", Photo(smooth, exif=b"II*\0\x08\0\0\0" + pack_directory("<", tags, 8)))
    for name in ("b.jpg", "b.tif"):
        write_photo(tmp_path / name, read_photo(tmp_path / "a.tif"))
        assert (captions(tmp_path / name) or {})[2, 120] == b"of the tag"


@pytest.mark.parametrize("num_more", [2462, 2500])  # one byte too many with the prefix, and without
def test_a_large_iptc_record_does_not_cost_the_exif_of_a_jpeg(tmp_path: Path, smooth: Array, num_more: int) -> None:
    record = b"\x1c\x02\x19" + struct.pack(">H", 32000) + b"k" * 32000
    record += b"\x1c\x02\x78" + struct.pack(">H", 31000) + b"c" * 31000
    tags = {270: (2, 5, b"desc\0"), 306: (2, num_more, b"x" * (num_more - 1) + b"\0"), 33723: (7, len(record), record)}
    exif = b"II*\0\x08\0\0\0" + pack_directory("<", tags, 8)
    assert write_photo(tmp_path / "a.jpg", Photo(smooth, exif=exif)) == ()
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.getexif()[270] == "desc"
        found = IptcImagePlugin.getiptcinfo(image)
        assert found is not None
        assert found[2, 120] == b"c" * 31000


def test_broken_iptc_costs_nothing_else(tmp_path: Path, smooth: Array) -> None:
    for tag, content in ((33723, b"no record"), (34377, b"8BIM\x04\x04\0\0\0\0\xff\xff\x1c"), (34377, b"8BIM\x04")):
        head = b"II*\0\x08\0\0\0" + pack_directory("<", {tag: (7, len(content), content)}, 8)
        write_photo(tmp_path / "a.tif", Photo(smooth, exif=head))
        photo = read_photo(tmp_path / "a.tif")
        assert write_photo(tmp_path / "b.jpg", photo) == ()
        assert captions(tmp_path / "b.jpg") is None


@pytest.mark.parametrize(("num_bytes", "is_kept"), [(65505, True), (65506, True), (65507, False)])
def test_the_largest_iptc_record_of_a_jpeg(tmp_path: Path, smooth: Array, num_bytes: int, *, is_kept: bool) -> None:
    record = b"\x1c" * num_bytes
    exif = b"II*\0\x08\0\0\0" + pack_directory("<", {33723: (7, num_bytes, record)}, 8)
    notes = write_photo(tmp_path / "a.jpg", Photo(smooth, exif=exif))
    assert ("JPEG holds 64 KB of IPTC; the larger record was dropped" in notes) != is_kept
    parts = read_photo(tmp_path / "a.jpg").parts
    assert [len(content) for _, content in parts] == [14 + 12 + 65506] * is_kept  # of even length


def test_what_photoshop_holds_in_a_jpeg_goes_before_the_record_of_its_exif(tmp_path: Path, smooth: Array) -> None:
    record = photoshop(b"of the EXIF")[26:]
    exif = b"II*\0\x08\0\0\0" + pack_directory("<", {33723: (7, len(record), record)}, 8)
    photo = Photo(smooth, exif=exif, parts=(("APP13", photoshop(b"of Photoshop")),))
    assert write_photo(tmp_path / "a.jpg", photo) == ()
    assert read_photo(tmp_path / "a.jpg").parts == photo.parts


TEXTS = [
    ("tEXt", b"Author\0A. Photographer"),
    ("zTXt", b"Description\0\0" + zlib.compress(b"heath " * 99)),
    ("iTXt", "Title\0\0\0de\0Titel\0Heide, früh".encode()),
]


def test_texts_stay_in_a_png(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    left_out = (
        ("tEXt", b"Raw profile type exif\0\nexif\n 4\n00000000"),
        ("iTXt", b"XML:com.adobe.xmp" + bytes(5) + b"<x/>"),
        ("tEXt", b"XML:com.adobe.xmp\0<old/>"),
    )
    photo = read(tmp_path / "a.png", with_chunks(encode(smooth, "PNG"), *TEXTS, *left_out))
    assert photo.xmp == b"<x/>"
    assert photo.parts == tuple(TEXTS)
    assert write_photo(tmp_path / "b.png", photo) == ()
    with Image.open(tmp_path / "b.png") as image:
        texts = {key: text for key, text in image.info.items() if key in ("Author", "Description", "Title")}
    assert texts == {"Author": "A. Photographer", "Description": "heath " * 99, "Title": "Heide, früh"}
    for suffix in (".jpg", ".tif", ".webp"):
        assert write_photo(tmp_path / f"c{suffix}", photo) == ()
        assert b"Photographer" not in (tmp_path / f"c{suffix}").read_bytes()
    write_photo(tmp_path / "d.png", photo, strip_metadata=True)
    assert read_photo(tmp_path / "d.png").parts == ()


def test_comments_stay_in_a_jpeg(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    photo = read(tmp_path / "a.jpg", encode(smooth, "JPEG", comment=b"from the attic"))
    assert write_photo(tmp_path / "b.jpg", photo) == ()
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.info["comment"] == b"from the attic"
    for name in ("c.png", "c.tif"):
        assert write_photo(tmp_path / name, photo) == ()
        assert b"attic" not in (tmp_path / name).read_bytes()
    write_photo(tmp_path / "d.jpg", photo, strip_metadata=True)
    assert b"attic" not in (tmp_path / "d.jpg").read_bytes()


SRGB_PRIMARIES = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
ADOBE_PRIMARIES = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
GAMMA_2_2, LINEAR = (struct.pack(">I", value) for value in (45455, 100000))
COLORS: dict[str, tuple[list[tuple[str, bytes]], str]] = {
    "none": ([], ""),
    "sRGB": ([("sRGB", b"\0"), ("gAMA", GAMMA_2_2), ("cHRM", SRGB_PRIMARIES)], ""),
    "as sRGB": ([("gAMA", struct.pack(">I", 45000)), ("cHRM", SRGB_PRIMARIES)], ""),
    "sRGB decides": ([("sRGB", b"\0"), ("gAMA", LINEAR)], ""),
    "linear": ([("gAMA", LINEAR)], "(gAMA)"),
    "wide": ([("gAMA", GAMMA_2_2), ("cHRM", ADOBE_PRIMARIES)], "(cHRM)"),
    "wide and linear": ([("gAMA", LINEAR), ("cHRM", ADOBE_PRIMARIES)], "(cHRM and gAMA)"),
    "cICP of sRGB": ([("cICP", bytes([1, 13, 0, 1])), ("gAMA", LINEAR)], ""),
    "HDR": ([("cICP", bytes([9, 16, 0, 1])), ("mDCV", bytes(range(24))), ("cLLI", bytes(8))], "(cICP)"),
}


@pytest.mark.parametrize(("chunks", "word"), COLORS.values(), ids=COLORS.keys())
@pytest.mark.parametrize("mode", ["RGB", "L", "LA"])
def test_colour_chunks_stay_in_a_png_and_are_missed_elsewhere(  # noqa: PLR0917  fixtures
    tmp_path: Path, smooth: Array, encode: Encode, chunks: list[tuple[str, bytes]], word: str, mode: str
) -> None:
    data = with_chunks(encode(Image.fromarray(smooth).convert(mode), "PNG"), *chunks)
    photo = read(tmp_path / "a.png", data)
    for strip in (False, True):
        assert write_photo(tmp_path / "b.png", photo, strip_metadata=strip) == ()
        kept = chunks_of(tmp_path / "b.png")
        assert kept[0][0] == "IHDR"
        assert kept[1 : 1 + len(chunks)] == chunks  # before the pixels
        assert {name for name, _ in kept[1 + len(chunks) :]} == {"IDAT", "IEND"}
        again = read_photo(tmp_path / "b.png")
        assert again.parts == photo.parts
        assert np.array_equal(again.pixels, photo.pixels)
    for suffix in (".jpg", ".tif", ".webp", ".bmp", ".ppm"):
        if mode != "LA":
            notes = write_photo(tmp_path / f"a{suffix}", photo)
            assert len(notes) == bool(word)
            assert word in "".join(notes)


def test_pillow_finds_the_colours_of_a_png(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    write_photo(
        tmp_path / "a.png",
        read(tmp_path / "a.png", with_chunks(encode(smooth, "PNG"), ("gAMA", LINEAR), ("cHRM", ADOBE_PRIMARIES))),
    )
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["gamma"] == 1
        assert image.info["chromaticity"][4:6] == (0.21, 0.71)


def test_a_profile_replaces_the_chunks_but_for_cicp(tmp_path: Path, smooth: Array, icc: bytes, encode: Encode) -> None:
    chunks = [("cICP", bytes([9, 16, 0, 1])), ("sRGB", b"\0"), ("gAMA", LINEAR), ("cHRM", ADOBE_PRIMARIES)]
    photo = read(tmp_path / "a.png", with_chunks(encode(smooth, "PNG", icc_profile=icc), *chunks))
    write_photo(tmp_path / "b.png", photo)
    names = [name for name, _ in chunks_of(tmp_path / "b.png")]
    assert [name for name in names if name not in ("IHDR", "IDAT", "IEND")] == ["cICP", "iCCP"]
    assert write_photo(tmp_path / "b.tif", dataclasses.replace(photo, parts=photo.parts[1:])) == ()
    broken = encode(smooth, "PNG", icc_profile=b"no profile" * 20)
    photo = read(tmp_path / "a.png", with_chunks(broken, *chunks[1:]))
    assert photo.icc is None
    write_photo(tmp_path / "b.png", photo)
    assert chunks[1:] == [chunk for chunk in chunks_of(tmp_path / "b.png") if chunk[0] in ("sRGB", "gAMA", "cHRM")]


def test_chunks_and_segments_that_are_not_whole_do_no_harm(tmp_path: Path, smooth: Array, encode: Encode) -> None:
    chunks = [("gAMA", b"\1"), ("cHRM", b""), ("cICP", b"\1\2\3\4\5"), ("pHYs", b""), ("acTL", b"\0\0")]
    photo = read(tmp_path / "a.png", with_chunks(encode(smooth, "PNG"), *chunks))
    assert (photo.parts, photo.dpi) == ((), None)
    buffer = io.BytesIO(with_segment(encode(smooth, "JPEG", dpi=(300, 300)), 0xE0, b"JFIF\0\1"))
    photo = read(tmp_path / "a.jpg", buffer.getvalue())
    assert photo.dpi == (300.0, 300.0)
