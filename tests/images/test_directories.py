"""restore.images.directories: EXIF is patched in place, and never trusted."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from restore.images.directories import (
    Tag,
    TagBlock,
    Tags,
    descriptive_exif,
    pack_directory,
    stated_dpi,
    upright_exif,
)


def block(order: str, orientation: int) -> bytes:
    """EXIF with an orientation, stated size 67×41 and a thumbnail directory after the first."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    first = struct.pack(order + "HHHIHHHHII", 2, 274, 3, 1, orientation, 0, 34665, 4, 1, 8 + 30)
    details = struct.pack(order + "HHHIIHHIHHI", 2, 40962, 4, 1, 67, 40963, 3, 1, 41, 0, 0)
    thumbnail = struct.pack(order + "HHHIII", 1, 513, 4, 1, 0, 0)
    return start + struct.pack(order + "I", 8) + first + struct.pack(order + "I", 38 + 30) + details + thumbnail


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_reset_and_the_thumbnail_unlinked_in_place(order: str, orientation: int) -> None:
    before = block(order, orientation)
    after, stated = upright_exif(before)
    assert stated == orientation
    assert len(after) == len(before)
    content = Image.Exif()
    content.load(after)
    assert content[274] == 1
    size = content.get_ifd(0x8769)
    assert (size[40962], size[40963]) == ((41, 67) if orientation >= 5 else (67, 41))
    tags = TagBlock(after)
    assert tags.next_offset(tags.directory(tags.first)[1]) == 0


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_impossible_orientation_is_none(orientation: int) -> None:
    after, stated = upright_exif(block("<", orientation))
    assert stated == 1
    assert upright_exif(after) == (after, 1)


def test_a_tiff_that_is_turned_by_a_quarter_swaps_the_size_that_its_exif_states() -> None:
    tags = TagBlock(block("<", 6))
    copied = descriptive_exif(tags, tags.directory(tags.first)[0])
    assert copied is not None
    after, orientation = upright_exif(copied, 6)
    assert orientation == 6
    content = Image.Exif()
    content.load(after)
    size = content.get_ifd(0x8769)
    assert (size[40962], size[40963]) == (41, 67)


@pytest.mark.parametrize("length", [*range(8), 9, 20, 33])
def test_a_block_cut_within_its_first_directory_is_an_error(length: int) -> None:
    with pytest.raises(ValueError, match=r".+"):
        upright_exif(block("<", 6)[:length])


@pytest.mark.parametrize("num_missing", [1, 4])
def test_an_exif_block_may_end_before_the_offset_of_the_next_directory(num_missing: int) -> None:
    alone = b"II*\0\x08\0\0\0" + pack_directory("<", {274: (3, 1, b"\6\0")}, 8)
    upright, orientation = upright_exif(alone[:-num_missing])
    assert (upright, orientation) == (alone.replace(b"\6\0", b"\1\0"), 6)


def test_a_bigtiff_may_end_before_the_offset_of_the_next_directory_and_is_no_exif_block() -> None:
    data = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 0)
    for num_bytes, expected in ((8, 99), (7, 0), (4, 0), (0, 0)):
        tags = TagBlock((data + struct.pack("<Q", 99))[: len(data) + num_bytes])
        assert tags.next_offset(tags.directory(tags.first)[1]) == expected
    with pytest.raises(ValueError, match="BigTIFF"):
        upright_exif(data + bytes(8))


@pytest.mark.parametrize(
    ("unit", "per_inch"), [({}, 1.0), ({296: (3, 1, b"\2\0")}, 1.0), ({296: (3, 1, b"\3\0")}, 2.54)]
)
def test_resolution_is_per_inch_unless_it_is_said(unit: Tags, per_inch: float) -> None:
    tags = unit | {tag: (5, 1, struct.pack("<II", 2 * value, 2)) for tag, value in ((282, 300), (283, 600))}
    exif = b"II*\0\x08\0\0\0" + pack_directory("<", tags, 8)
    assert stated_dpi(exif) == (300 * per_inch, 600 * per_inch)


def test_one_unsound_tag_does_not_cost_the_others() -> None:
    tags: Tags = {271: (2, 6, b"Maker\0"), 305: (2, 7, b"editor\0")}
    data = bytearray(b"II*\0\x08\0\0\0" + pack_directory("<", tags, 8))
    start = data.index(struct.pack("<HHI", 305, 2, 7)) + 8
    data[start : start + 4] = struct.pack("<I", 2**31)  # far behind the end
    block = TagBlock(bytes(data))
    copied = TagBlock(descriptive_exif(block, block.directory(block.first)[0]) or b"")
    entries, _ = copied.directory(copied.first)
    assert {tag: copied.values(entry) for tag, entry in entries.items()} == {271: b"Maker\0"}


def test_directories_go_along_where_they_belong() -> None:
    first, second, third = 8, 8 + 18, 8 + 18 + 30  # behind one row, and two more
    details = {34853: (4, 1, struct.pack("<I", first)), 40965: (4, 1, struct.pack("<I", third))}
    data = b"II*\0\x08\0\0\0" + pack_directory("<", {34665: (4, 1, struct.pack("<I", second))}, first)
    data += pack_directory("<", details, second) + pack_directory("<", {1: (2, 4, b"R98\0")}, third)
    tags = TagBlock(data)
    copied = descriptive_exif(tags, tags.directory(tags.first)[0])
    content = Image.Exif()
    content.load(copied or b"")
    assert content.get_ifd(0x8769).keys() == {0xA005}  # map coordinates belong beside it, not into it
    assert content.get_ifd(0xA005) == {1: "R98"}


def test_a_resolution_that_cannot_be_swapped_stays_and_harms_nothing() -> None:
    tags: Tags = {
        274: (3, 1, b"\6\0"),
        282: (5, 1, struct.pack("<II", 300, 1)),
        283: (3, 1, b"\7\0"),
        305: (2, 7, b"editor\0"),
    }
    exif = b"II*\0\x08\0\0\0" + pack_directory("<", tags, 8)
    assert upright_exif(exif) == (b"II*\0\x08\0\0\0" + pack_directory("<", tags | {274: (3, 1, b"\1\0")}, 8), 6)


def test_a_directory_that_points_to_itself_ends() -> None:
    looped = bytearray(block("<", 1))
    looped[30:34] = struct.pack("<I", 8)  # the Exif pointer leads back to the first directory
    tags = TagBlock(bytes(looped))
    copied = descriptive_exif(tags, tags.directory(tags.first)[0])
    assert copied is not None
    assert upright_exif(copied)[1] == 1


def test_what_describes_a_photograph_is_copied_out_of_a_tiff(exif: Image.Exif) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4)).save(buffer, "TIFF", exif=exif.tobytes())
    tags = TagBlock(buffer.getvalue())
    copied = descriptive_exif(tags, tags.directory(tags.first)[0])
    assert copied is not None
    content = Image.Exif()
    content.load(copied)
    assert Tag.WIDTH not in content
    assert content[0x010F] == "Maker"
    assert content.get_ifd(0x8769)[0x927C] == b"maker's note " * 9
    assert content.get_ifd(0x8825)[2] == (48.0, 8.0, 7.5)
