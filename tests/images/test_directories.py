"""restore.images.directories: EXIF is patched in place, and never trusted."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from restore.images.directories import Tag, TagBlock, descriptive_exif, pack_directory, upright_exif


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


def test_an_impossible_orientation_is_none() -> None:
    after, stated = upright_exif(block("<", 77))
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
