"""Strips and tiles of a TIFF file: decompressed and put in their places.

Deflate is left to zlib, the rest to Pillow (its libtiff), which is handed the compressed strips as if they were 8-bit
grey, or 1-bit where they are of CCITT.

References:
    TIFF revision 6.0, Adobe, 1992; Adobe Photoshop TIFF Technical Notes 1 and 3, 2002 and 2005 (floats, predictor 3).
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from restore.errors import ImageError
from restore.images.directories import Tag, Tags, integer_tags, pack_directory
from restore.images.photo import ACCEPT_PART, TRUNCATED, Pixels

NOT_COMPRESSED, JPEG = 1, 7
DEFLATE = (8, 32946)
CCITT = (2, 3, 4)
BLACK_IS_ZERO = 1
_LOWEST_BIT_FIRST = 2
_BITS_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_BAND_BYTES = 2**24  # decompressed at a time
_ZLIB_HEADER_BYTES = 2
_STEP_BYTES = 2**16  # likewise, of what comes after the pixels
_DAMAGED = f"its compressed data are damaged; {ACCEPT_PART}"


@dataclass(frozen=True)
class Layout:
    """Where the samples lie: planes of strips or tiles, each of segment_rows × segment_width pixels."""

    data: bytes
    dtype: np.dtype[Any]
    num_bits: int
    compression: int
    predictor: int
    fill_order: int
    t4_options: int
    height: int
    width: int
    num_planes: int
    num_samples: int
    is_tiled: bool
    segment_width: int
    segment_rows: int
    across: int
    down: int
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]


def decode_segments(layout: Layout, *, allow_truncated: bool) -> tuple[Pixels, bool]:
    """Return the samples (H,W,C) in the machine's byte order, and whether some are missing."""
    native = layout.dtype.newbyteorder("=")
    planes = np.zeros((layout.num_planes, layout.height, layout.width, layout.num_samples), native)
    row_bytes = (layout.segment_width * layout.num_samples * layout.num_bits + 7) // 8
    per_plane = layout.across * layout.down
    per_band = 1 if allow_truncated else max(1, _BAND_BYTES // (row_bytes * layout.segment_rows))
    failures: list[ImageError] = []
    is_truncated = False
    for plane in range(layout.num_planes):
        for first in range(0, per_plane, per_band):
            last = min(first + per_band, per_plane)
            num_rows = (last - first) * layout.segment_rows
            if not layout.is_tiled:
                num_rows = min(num_rows, layout.height - first * layout.segment_rows)
            numbers = range(plane * per_plane + first, plane * per_plane + last)
            try:
                raw, is_part = _decompress(layout, numbers, num_rows, row_bytes, allow_truncated=allow_truncated)
                is_truncated |= is_part
            except ImageError as error:
                failures.append(error)
                if not allow_truncated or len(failures) == layout.num_planes * per_plane:
                    raise
                continue
            values = _undo_predictor(raw, layout) if layout.num_bits >= 8 else _unpack(raw, layout)
            block = values.reshape(num_rows, layout.segment_width, layout.num_samples)
            _place(block, planes[plane], first, layout)
    is_truncated |= bool(failures)
    if layout.num_planes == 1:
        return planes[0], is_truncated
    return np.ascontiguousarray(np.moveaxis(planes[..., 0], 0, 2)), is_truncated


def _place(block: Pixels, plane: Pixels, first: int, layout: Layout) -> None:
    if not layout.is_tiled:
        top = first * layout.segment_rows
        plane[top : top + len(block)] = block
        return
    for number, tile in enumerate(np.split(block, len(block) // layout.segment_rows), first):
        top, left = number // layout.across * layout.segment_rows, number % layout.across * layout.segment_width
        target = plane[top : top + layout.segment_rows, left : left + layout.segment_width]
        target[...] = tile[: target.shape[0], : target.shape[1]]


def _decompress(
    layout: Layout, numbers: range, num_rows: int, row_bytes: int, *, allow_truncated: bool
) -> tuple[NDArray[np.uint8], bool]:
    """Return (num_rows,row_bytes) uint8 of consecutive segments, and whether the end is missing and made of zeros."""
    parts = [layout.data[layout.offsets[n] : layout.offsets[n] + layout.lengths[n]] for n in numbers]
    if layout.fill_order == _LOWEST_BIT_FIRST:
        parts = [part.translate(_BITS_REVERSED) for part in parts]
    is_short = any(len(part) < layout.lengths[n] for part, n in zip(parts, numbers, strict=True))
    if layout.compression in {NOT_COMPRESSED, *DEFLATE}:
        if is_short and not allow_truncated:
            raise ImageError(TRUNCATED)
        tops = range(0, num_rows, layout.segment_rows)
        sizes = [min(layout.segment_rows, num_rows - top) * row_bytes for top in tops]
        is_damaged = False
        if layout.compression in DEFLATE:
            inflated = list(map(_inflated, parts, sizes))
            parts, is_damaged = [part for part, _ in inflated], any(is_wrong for _, is_wrong in inflated)
        else:
            parts = [part[:size] for part, size in zip(parts, sizes, strict=True)]  # which may be padded
        if any(len(part) < size for part, size in zip(parts[:-1], sizes, strict=False)):
            raise ImageError(_DAMAGED)
        if is_damaged and not allow_truncated:
            raise ImageError(_DAMAGED)
        joined = parts[0] if len(parts) == 1 else b"".join(parts)
        num_missing = max(0, num_rows * row_bytes - len(joined))
        if num_missing and not (allow_truncated and joined):
            raise ImageError(TRUNCATED)
        joined = joined + bytes(num_missing) if num_missing else joined
        rows = np.frombuffer(joined, np.uint8, num_rows * row_bytes).reshape(num_rows, row_bytes)
        return rows, is_damaged or num_missing > 0
    if is_short:
        raise ImageError(TRUNCATED)
    return _by_libtiff(layout, parts, num_rows, row_bytes), False


def _by_libtiff(layout: Layout, parts: Sequence[bytes], num_rows: int, row_bytes: int) -> NDArray[np.uint8]:
    is_fax = layout.compression in CCITT
    tags = {
        Tag.WIDTH: [layout.segment_width if is_fax else row_bytes],
        Tag.HEIGHT: [num_rows],
        Tag.BITS: [1 if is_fax else 8],
        Tag.COMPRESSION: [layout.compression],
        Tag.PHOTOMETRIC: [BLACK_IS_ZERO],
        Tag.SAMPLES: [1],
        Tag.STRIP_ROWS: [layout.segment_rows],
    }
    tags |= {Tag.T4_OPTIONS: [layout.t4_options]} if is_fax else {}
    image = open_by_pillow("<", parts, integer_tags("<", tags))
    return np.frombuffer(image.tobytes(), np.uint8).reshape(num_rows, row_bytes)


def _inflated(part: bytes, num_bytes: int) -> tuple[bytes, bool]:
    """Return that many bytes of a Deflate stream, fewer where its end is missing, and whether some are wrong."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(part, num_bytes)
    except zlib.error:
        return _inflated_unchecked(part, num_bytes), True
    num_more = 0
    try:  # the checksum comes after the end, which may be a little further on
        while not inflater.eof and num_more <= num_bytes:
            more = inflater.decompress(inflater.unconsumed_tail, _STEP_BYTES)
            if not more:
                break
            num_more += len(more)
    except zlib.error:
        return content, True
    # one that just ends after its pixels, as where a writer flushed it but did not finish it, tells of no damage
    return content, num_more > 0 and not inflater.eof


def _inflated_unchecked(part: bytes, num_bytes: int) -> bytes:
    """Return that many bytes of a Deflate stream of which only the checksum is wrong."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(memoryview(part)[_ZLIB_HEADER_BYTES:], num_bytes)
    except zlib.error as error:
        raise ImageError(_DAMAGED) from error


class _CheckedTiff(TiffImagePlugin.TiffImageFile):
    """A TIFF whose size was found right already: that which Pillow warns of and refuses is smaller."""

    def load_prepare(self) -> None:
        """Make the room for the pixels, which Pillow does only after its check."""
        self.im = Image.new(self.mode, self.size).im
        super().load_prepare()


def open_by_pillow(order: str, parts: Sequence[bytes], tags: Tags, *, is_tiled: bool = False) -> Image.Image:
    """Let Pillow decode strips or tiles from a TIFF file that is made around them."""
    lengths = [len(part) for part in parts]
    offsets = list(itertools.accumulate(lengths, initial=8))
    end = offsets.pop()
    offsets_tag, lengths_tag = (Tag.TILE_OFFSETS, Tag.TILE_BYTES) if is_tiled else (Tag.STRIP_OFFSETS, Tag.STRIP_BYTES)
    padding = bytes(end % 2)
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", end + len(padding))
    layout = integer_tags(order, {offsets_tag: offsets, lengths_tag: lengths})
    content = b"".join([header, *parts, padding, pack_directory(order, {**tags, **layout}, end + len(padding))])
    try:
        image = _CheckedTiff(io.BytesIO(content))
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(_DAMAGED) from error
    return image


def _unpack(raw: NDArray[np.uint8], layout: Layout) -> Pixels:
    """Return samples of 1, 2 or 4 bits (rows, values) out of rows of bytes, the highest bits of which come first."""
    if layout.predictor != 1:
        raise _unsupported_predictor(layout)
    shifts = np.arange(8 - layout.num_bits, -1, -layout.num_bits, dtype=np.uint8)
    values: Pixels = raw[..., None] >> shifts
    values &= np.uint8(2**layout.num_bits - 1)
    return values.reshape(len(raw), -1)[:, : layout.segment_width * layout.num_samples]


def _undo_predictor(raw: NDArray[np.uint8], layout: Layout) -> Pixels:
    """Turn differences between neighbours back into samples (rows, values)."""
    if layout.predictor == 2:
        integers = raw.view(f"{layout.dtype.byteorder}u{layout.dtype.itemsize}".replace("|", ""))
        differences = integers.reshape(len(raw), layout.segment_width, layout.num_samples)
        native = layout.dtype.newbyteorder("=")
        sums: Pixels = np.cumsum(differences, axis=1, dtype=f"u{layout.dtype.itemsize}").view(native)
        return sums.reshape(len(raw), -1)
    if layout.predictor == 3 and layout.dtype.kind == "f":
        differences = raw.reshape(len(raw), -1, layout.num_samples)
        planes = np.cumsum(differences, axis=1, dtype=np.uint8).reshape(len(raw), layout.dtype.itemsize, -1)
        samples: Pixels = np.ascontiguousarray(planes.swapaxes(1, 2)).view(layout.dtype.newbyteorder(">"))
        return samples[..., 0]
    if layout.predictor != 1:
        raise _unsupported_predictor(layout)
    return raw.view(layout.dtype)


def _unsupported_predictor(layout: Layout) -> ImageError:
    return ImageError(f"its predictor {layout.predictor} is not supported; save it again without compression")
