"""restore.images.xmp: a restored picture does not claim the video, gain map or packet that its file held."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from numpy.typing import NDArray

from restore.images import read_photo, write_photo
from restore.images.xmp import without_claims

Array = NDArray[Any]
CAMERA = b'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"'
CONTAINER = b"""xmlns:Container = 'http://ns.google.com/photos/1.0/container/'
    xmlns:Item="http://ns.google.com/photos/1.0/container/item/\""""
GAIN_MAP = b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"'
NOTE = b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
ITEM = b'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="%b" Item:Length="99"/></rdf:li>'
ITEMS = b"<rdf:Seq>\n" + ITEM % b"Primary" + ITEM % b"GainMap" + b"</rdf:Seq>"
CREATOR = b"<dc:creator>GCamera &gt; MotionPhoto</dc:creator>"


def packet(declared: bytes, attributes: bytes = b"", elements: bytes = b"") -> bytes:
    return (
        b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        b'<rdf:Description rdf:about="" ' + declared + attributes + b">" + CREATOR + elements + b"</rdf:Description>"
        b"</rdf:RDF></x:xmpmeta>" + b" " * 2000 + b'<?xpacket end="w"?>'
    )


PACKETS = {
    "motion photo": (
        packet(
            CAMERA,
            b' GCamera:MotionPhoto="1"\nGCamera:MicroVideo=\'1\' GCamera:MicroVideoOffset = "12345"',
        ),
        packet(CAMERA, b""),
        "a video",
    ),
    "motion photo in elements": (
        packet(
            CAMERA, b"", b"<GCamera:MotionPhoto>1</GCamera:MotionPhoto><GCamera:MicroVideo >1</GCamera:MicroVideo >"
        ),
        packet(CAMERA),
        "a video",
    ),
    "another prefix": (
        packet(CAMERA.replace(b"GCamera", b"x.1"), b' x.1:MotionPhoto="1" x.1:MotionPhotoVersion="1"'),
        packet(CAMERA.replace(b"GCamera", b"x.1"), b' x.1:MotionPhotoVersion="1"'),
        "a video",
    ),
    "Ultra HDR": (
        packet(
            GAIN_MAP + b" " + CONTAINER,
            b' hdrgm:Version="1.0" dc:format="image/jpeg"',
            b"<Container:Directory a='>'>" + ITEMS + b"</Container:Directory>" + CREATOR,
        ),
        packet(GAIN_MAP + b" " + CONTAINER, b' dc:format="image/jpeg"', CREATOR),
        "a gain map and further items",
    ),
    "several directories": (
        packet(
            CONTAINER,
            b"",
            b"<Container:Directory/><dc:a/><Container:Directory>"
            + ITEMS
            + b"</Container:Directory>\n<Container:Directory rdf:parseType='Resource'/><Container:Directory>"
            b"</Container:Directory>",
        ),
        packet(CONTAINER, b"", b"<dc:a/>\n"),
        "further items",
    ),
    "extended": (packet(NOTE, b' xmpNote:HasExtendedXMP="00FF"'), packet(NOTE), "a further packet"),
}


@pytest.mark.parametrize(("before", "after", "told"), PACKETS.values(), ids=PACKETS.keys())
@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif"])
def test_what_is_not_read_is_no_longer_claimed(  # noqa: PLR0917  fixtures
    tmp_path: Path, smooth: Array, encode: Callable[..., bytes], before: bytes, after: bytes, told: str, suffix: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(encode(smooth, "JPEG", xmp=before) + b"\0\0\0\x18ftypmp42" + bytes(999))
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.xmp == after
    assert photo.warnings == (f"its XMP tells of {told}; only the picture is read",)
    ET.fromstring(after)  # noqa: S314  our own
    write_photo(tmp_path / f"b{suffix}", photo)
    again = read_photo(tmp_path / f"b{suffix}")
    assert (again.xmp, again.warnings) == (after, ())


HARMLESS = {
    "none": packet(CAMERA, b"", b"<dc:title>GCamera:MotionPhoto</dc:title>"),
    "no video": packet(CAMERA, b' GCamera:MotionPhoto="0"', b"<GCamera:MicroVideo> 0\n</GCamera:MicroVideo>"),
    "properties of others": packet(b'xmlns:GCamera="http://example.org/"', b' GCamera:MotionPhoto="1"'),
    "names that go on": packet(
        GAIN_MAP + CAMERA.replace(b"xmlns", b" xmlns"),
        b' hdrgm:VersionX="1"',
        b"<GCamera:MotionPhotos>1</GCamera:MotionPhotos>",
    ),
    "text": b"no XML GCamera:MotionPhoto",
}


@pytest.mark.parametrize("xmp", HARMLESS.values(), ids=HARMLESS.keys())
def test_other_packets_stay_as_they_are(xmp: bytes) -> None:
    warnings: list[str] = []
    assert without_claims(xmp, warnings) == xmp
    assert warnings == []


UNCERTAIN = {
    "a comment": packet(CAMERA, b' GCamera:MotionPhoto="1"', b"<!-- GCamera -->"),
    "an odd attribute": packet(CAMERA, b"", b'<GCamera:MotionPhoto rdf:value="1>"/>'),
    "no end": packet(CONTAINER, b"", b"<Container:Directory>" + ITEMS),
}


@pytest.mark.parametrize("xmp", UNCERTAIN.values(), ids=UNCERTAIN.keys())
def test_packets_that_cannot_be_edited_with_certainty_stay_and_are_named(xmp: bytes) -> None:
    warnings: list[str] = []
    assert without_claims(xmp, warnings) == xmp
    (warning,) = warnings
    assert "and that of the result will, too; only the picture is read" in warning


def test_nested_directories_stay_well_formed() -> None:
    inner = b"<Container:Directory>" + ITEMS + b"</Container:Directory>"
    xmp = packet(CONTAINER, b"", b"<Container:Directory>" + inner + inner + b"</Container:Directory>")
    warnings: list[str] = []
    ET.fromstring(without_claims(xmp, warnings))  # noqa: S314  our own
    assert len(warnings) == 1


@pytest.mark.parametrize("part", [b"<Container:Directory>", b" Container:Directory=", b" ", b"<Container:Directory "])
def test_large_packets_come_to_an_end(part: bytes) -> None:
    without_claims(packet(CONTAINER, b"", part * (4_000_000 // len(part))), [])  # a step per pair of parts would not
