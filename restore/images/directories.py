"""Directories of tags: those of TIFF files, and of the EXIF blocks that the other formats carry.

References:
    TIFF revision 6.0, Adobe, 1992; Exif 2.32, CIPA DC-008, 2019; BigTIFF, libtiff.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction

EXIF_POINTER, _GPS_POINTER, _INTEROPERABILITY_POINTER = 34665, 34853, 40965
_POINTERS = {EXIF_POINTER, _GPS_POINTER, _INTEROPERABILITY_POINTER}  # to further directories
_ACROSS, _DOWN, _RESOLUTION_UNIT = 282, 283, 296
_INCHES = {2: 1.0, 3: 2.54}  # pixels per inch of a unit
_MAX_DENOMINATOR = 10_000
_PIXEL_WIDTH, _PIXEL_HEIGHT = 40962, 40963
_DESCRIPTION = 270
IPTC, PHOTOSHOP_RESOURCES = 33723, 34377
_IPTC_START = b"\x1c"
_UNIT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}


class Tag(IntEnum):
    """Tags that describe how a file holds its pixels; they are never carried from one file to another."""

    SUBFILE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    STRIP_ROWS = 278
    STRIP_BYTES = 279
    PLANAR = 284
    T4_OPTIONS = 292
    T6_OPTIONS = 293
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    SUB_DIRECTORIES = 330
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    THUMBNAIL = 513
    THUMBNAIL_BYTES = 514
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    YCBCR_POSITIONING = 531
    REFERENCE_BLACK_WHITE = 532
    XMP = 700
    DEPTH = 32997
    TILE_DEPTH = 32998
    ICC = 34675
    DNG_VERSION = 50706


Tags = dict[int, tuple[int, int, bytes]]
"""Tag to type, number of values, and their bytes."""

_DESCRIPTIVE = {
    269,  # document name
    _DESCRIPTION,
    271,  # make
    272,  # model
    _ACROSS,
    _DOWN,
    _RESOLUTION_UNIT,
    305,  # software
    306,  # date and time
    315,  # artist
    316,  # host computer
    18246,  # rating
    18249,  # rating in percent
    33432,  # copyright
    IPTC,
    40091,  # title
    40092,  # comment
    40093,  # author
    40094,  # keywords
    40095,  # subject
    *_POINTERS,
}


@dataclass(frozen=True)
class Entry:
    """One tag of a directory: its type, the number of its values, where their bytes lie, and where its row stands."""

    kind: int
    count: int
    offset: int
    row: int

    @property
    def num_bytes(self) -> int:
        """Length of the values in bytes; 0 where the type is unknown."""
        return _UNIT_BYTES.get(self.kind, 0) * self.count


class TagBlock:
    """A TIFF file or an EXIF block, read without trusting it.

    Args:
        data: from "II" or "MM" on.

    Raises:
        ValueError: it is no such block, or (from any method) points outside itself.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        orders = {b"II": "<", b"MM": ">"}
        if data[:2] not in orders:
            raise ValueError("neither II nor MM")
        self.order = orders[data[:2]]
        magic = self._unpack("H", 2)
        if magic not in (42, 43):
            raise ValueError("no TIFF structure")
        self.is_big = magic == 43
        self.first = self._unpack("Q", 8) if self.is_big else self._unpack("I", 4)

    def directory(self, offset: int) -> tuple[dict[int, Entry], int]:
        """Return the entries of a directory by tag, and where the offset of the next directory stands.

        Of a tag that stands there twice the first counts, as in libtiff: tifffile writes a description of its own
        behind that of its user.
        """
        count, start = (
            (self._unpack("Q", offset), offset + 8) if self.is_big else (self._unpack("H", offset), offset + 2)
        )
        row = struct.Struct(self.order + ("HHQ" if self.is_big else "HHI"))
        field_bytes = 8 if self.is_big else 4
        row_bytes = row.size + field_bytes
        if start + count * row_bytes > len(self.data):
            raise ValueError("a directory reaches beyond the end")
        entries: dict[int, Entry] = {}
        for position in range(start, start + count * row_bytes, row_bytes):
            tag, kind, num = row.unpack_from(self.data, position)
            field = position + row.size
            is_inline = _UNIT_BYTES.get(kind, 0) * num <= field_bytes
            offset = field if is_inline else self._pointer(field)
            entries.setdefault(tag, Entry(kind, num, offset, position))
        return entries, start + count * row_bytes

    def next_offset(self, field: int) -> int:
        """Return the offset of the next directory, 0 after the last, from where it stands; some end before it."""
        return self._pointer(field) if field + (8 if self.is_big else 4) <= len(self.data) else 0

    def values(self, entry: Entry) -> bytes:
        """Return the bytes of an entry."""
        content = self.data[entry.offset : entry.offset + entry.num_bytes]
        if entry.kind not in _UNIT_BYTES or len(content) != entry.num_bytes:
            raise ValueError("a tag reaches beyond the end or is of an unknown type")
        return content

    def integers(self, entry: Entry) -> tuple[int, ...]:
        """Return the values of an entry of integers."""
        if entry.kind not in _INTEGERS:
            raise ValueError("a tag that should hold integers holds something else")
        return struct.unpack(f"{self.order}{entry.count}{_INTEGERS[entry.kind]}", self.values(entry))

    def integer_at(self, entry: Entry, value: int) -> bytes:
        """Return an integer packed as the entry stores its first."""
        return struct.pack(self.order + _INTEGERS[entry.kind], value)

    def _pointer(self, field: int) -> int:
        return self._unpack("Q" if self.is_big else "I", field)

    def _unpack(self, code: str, offset: int) -> int:
        if offset < 0 or offset + struct.calcsize(code) > len(self.data):
            raise ValueError("an offset reaches beyond the end")
        return int(struct.unpack_from(self.order + code, self.data, offset)[0])


def upright_exif(exif: bytes, orientation: int = 1) -> tuple[bytes, int]:
    """Prepare an EXIF block for pixels that are turned upright and restored.

    The bytes are patched where they stand, so that makers' notes, which point into the block, stay valid.

    Args:
        exif: the block.
        orientation: how the picture is turned where the block does not say, 1 to 8.

    Returns:
        The block with orientation 1, without the thumbnail (it shows the picture as it was), the stated width and
        height, and the resolution across and down, swapped where the picture is turned by a quarter; and the
        orientation that it had, 1 to 8.

    Raises:
        ValueError: the block is broken.
    """
    block = TagBlock(exif)
    if block.is_big:
        raise ValueError("EXIF in BigTIFF structure")
    entries, next_field = block.directory(block.first)
    patched = bytearray(exif)
    patched[next_field : next_field + 4] = bytes(4)
    if Tag.ORIENTATION in entries:
        entry = entries[Tag.ORIENTATION]
        (orientation, *_) = block.integers(entry) or (1,)
        _patch(patched, entry, block.integer_at(entry, 1))
    orientation = orientation if 1 <= orientation <= 8 else 1
    if orientation >= 5:
        _swap_stated_size(block, entries, patched)
        _swap_resolution(block, entries, patched)
    return bytes(patched), orientation


def stated_dpi(exif: bytes) -> tuple[float, float] | None:
    """Return the pixels per inch, across and down, that an EXIF block states; None if it does not, or without unit."""
    try:
        block = TagBlock(exif)
        entries, _ = block.directory(block.first)
        unit = block.integers(entries[_RESOLUTION_UNIT])[0] if _RESOLUTION_UNIT in entries else 2
        rationals = [struct.unpack(block.order + "II", block.values(entries[tag])) for tag in (_ACROSS, _DOWN)]
        across, down = (_INCHES[unit] * numerator / denominator for numerator, denominator in rationals)
    except (KeyError, IndexError, ValueError, ZeroDivisionError, struct.error):
        return None
    return across, down


def stated_iptc(exif: bytes) -> bytes | None:
    """Return the IPTC record that an EXIF block (or the head of a TIFF) holds; None without."""
    try:
        block = TagBlock(exif)
        entry = block.directory(block.first)[0][IPTC]
        record = block.values(entry)
        if _UNIT_BYTES[entry.kind] == 4 and not record.startswith(_IPTC_START):  # stored as integers of 32 bits
            record = struct.pack(f">{entry.count}I", *struct.unpack(f"<{entry.count}I", record))
    except (KeyError, ValueError):
        return None
    return record if record.startswith(_IPTC_START) else None


def without_iptc(exif: bytes) -> bytes | None:
    """Copy what describes the photograph but for an IPTC record; None if nothing is left."""
    block = TagBlock(exif)
    entries, _ = block.directory(block.first)
    return descriptive_exif(block, {tag: entry for tag, entry in entries.items() if tag != IPTC})


def resolution_tags(order: str, dpi: tuple[float, float]) -> Tags:
    """Pack the tags that state pixels per inch, across and down."""
    tags: Tags = {_RESOLUTION_UNIT: (3, 1, struct.pack(order + "H", 2))}
    for tag, value in zip((_ACROSS, _DOWN), dpi, strict=True):
        ratio = Fraction(value).limit_denominator(_MAX_DENOMINATOR)
        tags[tag] = (5, 1, struct.pack(order + "II", ratio.numerator, ratio.denominator))
    return tags


def descriptive_exif(block: TagBlock, entries: Mapping[int, Entry], *, is_first_of_many: bool = False) -> bytes | None:
    """Copy what describes the photograph, not the file, out of a TIFF directory, and without its orientation.

    Args:
        block: the file.
        entries: of the directory.
        is_first_of_many: whether the file holds further pictures, which will not go along.

    Returns:
        An EXIF block, or None if nothing does.
    """
    copied = bytearray(b"II*\0" if block.order == "<" else b"MM\0*") + bytes(4)
    kept = _copy_values(block, {tag: entry for tag, entry in entries.items() if tag in _DESCRIPTIVE}, copied)
    if _tells_of_arrays(kept.get(_DESCRIPTION, (0, 0, b""))[2], is_first_of_many=is_first_of_many):
        del kept[_DESCRIPTION]
    if not kept:
        return None
    copied[4:8] = struct.pack(block.order + "I", len(copied))
    return bytes(copied + pack_directory(block.order, kept, len(copied)))


def pack_directory(order: str, tags: Tags, offset: int, rows: Mapping[int, bytes] | None = None) -> bytes:
    """Lay out a directory and the values that it points to.

    Args:
        order: "<" or ">".
        tags: tag to (type, count, bytes in that order).
        offset: where the directory will stand, even.
        rows: tag to a row of 12 bytes that is taken as it is.
    """
    packed = dict(rows or {})
    values = bytearray()
    start = offset + 2 + 12 * len({*tags, *packed}) + 4
    for tag, (kind, count, content) in tags.items():
        field = content.ljust(4, b"\0")
        if len(content) > 4:
            field = struct.pack(order + "I", start + len(values))
            values += content + bytes(len(content) % 2)
        packed[tag] = struct.pack(order + "HHI", tag, kind, count) + field
    return struct.pack(order + "H", len(packed)) + b"".join(packed[tag] for tag in sorted(packed)) + bytes(4) + values


def integer_tags(order: str, values: Mapping[Tag, Sequence[int]], code: str = "I") -> Tags:
    """Pack tags of 16-bit ("H") or 32-bit ("I") integers."""
    kind = {"H": 3, "I": 4}[code]
    return {
        tag: (kind, len(numbers), struct.pack(f"{order}{len(numbers)}{code}", *numbers))
        for tag, numbers in values.items()
    }


def _tells_of_arrays(description: bytes, *, is_first_of_many: bool) -> bool:
    """Whether it is a note of tifffile, ImageJ or OME on several pictures, by which others would read the one left."""
    is_of_ome = is_first_of_many and b"<OME" in description
    is_of_imagej = description.startswith(b"ImageJ=") and b"\nimages=" in description
    return is_of_ome or is_of_imagej or description.startswith(b'{"shape"')


def _copy_values(block: TagBlock, entries: Mapping[int, Entry], copied: bytearray) -> Tags:
    """Read the entries that are sound; directories that they point to are appended to `copied`."""
    tags: Tags = {}
    for tag, entry in entries.items():
        with suppress(ValueError, IndexError):  # one unsound tag does not cost the others
            if tag in _POINTERS:
                tags[tag] = (4, 1, _copy_directory(block, tag, entry, copied))
            else:
                tags[tag] = (entry.kind, entry.count, block.values(entry))
    return tags


def _copy_directory(block: TagBlock, pointer_tag: int, pointer: Entry, copied: bytearray) -> bytes:
    """Append the directory that a tag points to to `copied`; return the packed offset of where it stands now."""
    entries, _ = block.directory(block.integers(pointer)[0])
    allowed = {_INTEROPERABILITY_POINTER} if pointer_tag == EXIF_POINTER else set()
    tags = _copy_values(block, {t: e for t, e in entries.items() if t not in _POINTERS - allowed}, copied)
    position = len(copied)
    copied += pack_directory(block.order, tags, position)
    return struct.pack(block.order + "I", position)


def _swap_stated_size(block: TagBlock, entries: Mapping[int, Entry], patched: bytearray) -> None:
    try:
        inner, _ = block.directory(block.integers(entries[EXIF_POINTER])[0])
        wide, high = inner[_PIXEL_WIDTH], inner[_PIXEL_HEIGHT]
        width, height = block.integers(wide)[0], block.integers(high)[0]
        _patch(patched, wide, block.integer_at(wide, height))
        _patch(patched, high, block.integer_at(high, width))
    except (KeyError, IndexError, ValueError, struct.error):
        return  # no size is stated, or not in a way that can be patched


def _swap_resolution(block: TagBlock, entries: Mapping[int, Entry], patched: bytearray) -> None:
    with suppress(KeyError, ValueError):  # none is stated, or not in a way that can be patched
        across, down = block.values(entries[_ACROSS]), block.values(entries[_DOWN])
        if len(across) == len(down):
            _patch(patched, entries[_ACROSS], down)
            _patch(patched, entries[_DOWN], across)


def _patch(patched: bytearray, entry: Entry, value: bytes) -> None:
    patched[entry.offset : entry.offset + len(value)] = value
