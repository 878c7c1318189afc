"""Strips and tiles of a TIFF file: decompressed and put in their places.

Deflate is left to zlib, JPEG to libjpeg-turbo, the rest to Pillow (its libtiff), which is handed the compressed strips
as if they were 8-bit grey, or 1-bit where they are of CCITT. Of damaged CCITT libtiff tells only on stderr and goes on:
that is not noticed here, but where the end of the file is missing.

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
from restore.images.containers import jpeg_of_tables, read_jpeg_header
from restore.images.directories import Tag, Tags, integer_tags, pack_directory
from restore.images.photo import ACCEPT_PART, COPY_AGAIN, Pixels
from restore.images.turbojpeg import decode_jpeg

NOT_COMPRESSED, JPEG = 1, 7
DEFLATE = (8, 32946)
CCITT = (2, 3, 4)
BLACK_IS_ZERO = 1
_LOWEST_BIT_FIRST = 2
_BITS_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_JPEG_COLORS = {1: "GRAY", 3: "RGB", 4: "CMYK"}
_OPACITY = 2  # of an extra channel
_MAX_JPEG_BLOCK_ROWS = 32  # which some writers fill up
_ZLIB_HEADER_BYTES = 2
_BAND_BYTES = 2**24  # decompressed at a time
_STEP_BYTES = 2**16  # likewise, of what comes after the pixels
_DECODED_IN_PART = {NOT_COMPRESSED, JPEG, *DEFLATE, *CCITT}
_TRUNCATED, _DAMAGED = "it is truncated", "its compressed data are damaged"


@dataclass(frozen=True)
class Layout:
    """Where the samples lie: planes of strips or tiles, each of segment_rows × segment_width pixels.

    `is_ycbcr` says that their JPEG is to be turned from YCbCr into RGB.
    """

    data: bytes
    dtype: np.dtype[Any]
    num_bits: int
    compression: int
    predictor: int
    fill_order: int
    t4_options: int
    jpeg_tables: bytes
    is_ycbcr: bool
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
    num_segments, num_failures = layout.num_planes * per_plane, 0
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
                num_failures += 1
                if allow_truncated and num_failures < num_segments:
                    continue
                can_be_accepted = not allow_truncated and (num_segments > 1 or layout.compression in _DECODED_IN_PART)
                raise ImageError(f"{error}; {ACCEPT_PART if can_be_accepted else COPY_AGAIN}") from error
            values = _undo_predictor(raw, layout) if layout.num_bits >= 8 else _unpack(raw, layout)
            block = values.reshape(num_rows, layout.segment_width, layout.num_samples)
            _place(block, planes[plane], first, layout)
    is_truncated |= num_failures > 0
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
    """Return (num_rows,row_bytes) uint8 of consecutive segments, and whether some are damaged, or missing and 0."""
    parts = [layout.data[layout.offsets[n] : layout.offsets[n] + layout.lengths[n]] for n in numbers]
    is_short = any(len(part) < layout.lengths[n] for part, n in zip(parts, numbers, strict=True))
    if is_short and not allow_truncated:
        raise ImageError(_TRUNCATED)
    heights = [min(layout.segment_rows, num_rows - top) for top in range(0, num_rows, layout.segment_rows)]
    if layout.fill_order == _LOWEST_BIT_FIRST and layout.compression != JPEG:
        parts = [part.translate(_BITS_REVERSED) for part in parts]
    if layout.compression == JPEG and layout.num_samples in _JPEG_COLORS:
        decoded = [_decode_jpeg(layout, part, height) for part, height in zip(parts, heights, strict=True)]
        rows, is_damaged = np.concatenate([pixels for pixels, _ in decoded]), any(is_wrong for _, is_wrong in decoded)
    elif layout.compression in {NOT_COMPRESSED, *DEFLATE}:
        sizes = [height * row_bytes for height in heights]
        joined, is_damaged = _join_bytes(layout, parts, sizes, allow_truncated=allow_truncated)
        rows = joined.reshape(num_rows, row_bytes)
    elif is_short and layout.compression not in CCITT:  # of which libtiff decodes nothing
        raise ImageError(_TRUNCATED)
    else:
        rows, is_damaged = _by_libtiff(layout, parts, num_rows, row_bytes), is_short
    if is_damaged and not allow_truncated:
        raise ImageError(_DAMAGED)
    return rows, is_damaged


def _join_bytes(
    layout: Layout, parts: list[bytes], sizes: Sequence[int], *, allow_truncated: bool
) -> tuple[NDArray[np.uint8], bool]:
    """Return as many bytes as the segments should have, and whether some are damaged, or missing and 0."""
    is_damaged = False
    if layout.compression in DEFLATE:
        inflated = list(map(_inflated, parts, sizes))
        parts, is_damaged = [part for part, _ in inflated], any(is_wrong for _, is_wrong in inflated)
    else:
        parts = [part[:size] for part, size in zip(parts, sizes, strict=True)]  # which may be padded
    if any(len(part) < size for part, size in zip(parts[:-1], sizes, strict=False)):
        raise ImageError(_DAMAGED)
    joined = parts[0] if len(parts) == 1 else b"".join(parts)
    num_missing = sum(sizes) - len(joined)
    if num_missing and not (allow_truncated and joined):
        raise ImageError(_TRUNCATED)
    joined = joined + bytes(num_missing) if num_missing else joined
    return np.frombuffer(joined, np.uint8), is_damaged or num_missing > 0


def _by_libtiff(layout: Layout, parts: Sequence[bytes], num_rows: int, row_bytes: int) -> NDArray[np.uint8]:
    """Return (num_rows,row_bytes) uint8 of consecutive segments."""
    num_bits, num_samples, width = 8, 1, row_bytes
    if layout.compression in CCITT:
        num_bits, width = 1, layout.segment_width
    elif layout.compression == JPEG:  # grey with alpha, which libjpeg-turbo does not know
        num_samples, width = 2, layout.segment_width
    tags = {
        Tag.WIDTH: [width],
        Tag.HEIGHT: [num_rows],
        Tag.BITS: [num_bits] * num_samples,
        Tag.COMPRESSION: [layout.compression],
        Tag.PHOTOMETRIC: [BLACK_IS_ZERO],
        Tag.SAMPLES: [num_samples],
        Tag.STRIP_ROWS: [layout.segment_rows],
    }
    tags |= {Tag.T4_OPTIONS: [layout.t4_options]} if layout.compression in CCITT else {}
    tags |= {Tag.EXTRA_SAMPLES: [_OPACITY]} if num_samples > 1 else {}
    packed = integer_tags("<", tags)
    if layout.jpeg_tables:
        packed[Tag.JPEG_TABLES] = 7, len(layout.jpeg_tables), layout.jpeg_tables
    image = _open_by_pillow(parts, packed)
    return np.frombuffer(image.tobytes(), np.uint8).reshape(num_rows, row_bytes)


def _decode_jpeg(layout: Layout, part: bytes, num_rows: int) -> tuple[NDArray[np.uint8], bool]:
    """Return (num_rows,row_bytes) uint8 of a strip or tile, and whether some are damaged."""
    data = jpeg_of_tables(layout.jpeg_tables, part, int(layout.is_ycbcr))
    try:
        header = read_jpeg_header(data)
    except ImageError as error:
        raise ImageError(_DAMAGED) from error
    height_limit = layout.segment_rows + _MAX_JPEG_BLOCK_ROWS
    is_fitting = header.width == layout.segment_width and num_rows <= header.height < height_limit
    pixels, damage = decode_jpeg(data, _JPEG_COLORS[layout.num_samples]) if is_fitting else (None, None)
    if pixels is None:
        raise ImageError(_DAMAGED)
    return pixels[:num_rows].reshape(num_rows, -1), damage is not None


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
    if num_more > num_bytes:  # a last strip may be padded to the height of the others: its checksum is too far off
        return content, False
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


def _open_by_pillow(parts: Sequence[bytes], tags: Tags) -> Image.Image:
    """Let Pillow decode strips, or tiles as strips, from a TIFF file that is made around them."""
    lengths = [len(part) for part in parts]
    offsets = list(itertools.accumulate(lengths, initial=8))
    end = offsets.pop()
    padding = bytes(end % 2)
    header = b"II*\0" + struct.pack("<I", end + len(padding))
    places = integer_tags("<", {Tag.STRIP_OFFSETS: offsets, Tag.STRIP_BYTES: lengths})
    content = b"".join([header, *parts, padding, pack_directory("<", {**tags, **places}, end + len(padding))])
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
