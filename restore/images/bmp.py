"""BMP: palettes, RGB and colour masks as they lie in the file; runs are decoded by Pillow.

References:
    BITMAPINFOHEADER to BITMAPV5HEADER, Microsoft; OS/2 Bitmap File Format, IBM.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import BmpImagePlugin

from restore.errors import ImageError
from restore.images.containers import Header, per_inch
from restore.images.photo import Pixels, row_slices

_OS2_1, _OS2_2, _V3, _V5 = 12, 64, 56, 124  # headers, by their bytes; opacity has a mask from V3 on
_RGB, _RLE8, _RLE4, _BITFIELDS, _ALPHA_BITFIELDS = 0, 1, 2, 3, 6  # how pixels are stored
_OTHER_STORAGE = {4: "as a JPEG", 5: "as a PNG"}
_OS2_STORAGE = {3: "by Huffman's code", 4: "as runs of 24 bits"}
_BITS = {
    _RGB: (1, 2, 4, 8, 16, 24, 32),
    _RLE8: (8,),
    _RLE4: (4,),
    _BITFIELDS: (16, 32),
    _ALPHA_BITFIELDS: (16, 32),
}  # of a pixel, that are read
_DEFAULT_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
_MASKS_START = 54  # within the header, or behind one of 40 bytes
_EMBEDDED = b"DEBM"  # a profile that lies in the file
_CONVERT = "convert it to PNG or TIFF first"
_COPY_AGAIN = "copy it again from its source"


class _Layout(NamedTuple):
    header_bytes: int
    start: int
    width: int
    height: int
    bits: int
    storage: int

    @property
    def row_bytes(self) -> int:
        return (self.width * self.bits + 31) // 32 * 4

    @property
    def is_of_runs(self) -> bool:
        return self.storage in (_RLE8, _RLE4)


def read_bmp_header(data: bytes) -> Header:
    """Read the sizes, the resolution and the colour profile of a BMP.

    Raises:
        ImageError: it is not whole, or its pixels are stored in a way that is not supported.
    """
    layout = _read_layout(data)
    header = Header(layout.width, abs(layout.height))
    if layout.header_bytes >= 40 and len(data) >= 46:
        header.dpi = per_inch(*struct.unpack_from("<ii", data, 38))
    if layout.header_bytes >= _V5 and data[70:74] == _EMBEDDED:
        position, num_bytes = struct.unpack_from("<II", data, 126)
        header.icc = data[14 + position : 14 + position + num_bytes] or None
    header.is_truncated = not layout.is_of_runs and layout.start + layout.row_bytes * header.height > len(data)
    masks = _read_masks(data, layout)
    if max(mask.bit_count() for mask in masks) > 8:
        header.warnings.append("its samples of more than 8 bits were rounded to 8")
    return header


def decode_bmp(data: bytes) -> tuple[Pixels, Pixels | None]:
    """Decode a BMP whose header was read to 8 bits of grey or RGB, and opacity.

    Raises:
        ImageError: it is damaged.
    """
    layout = _read_layout(data)
    if layout.is_of_runs:
        return _decode_runs(data), None
    height, width, bits = abs(layout.height), layout.width, layout.bits
    rows = np.frombuffer(data, np.uint8, height * layout.row_bytes, layout.start).reshape(height, -1)
    rows = rows[::-1] if layout.height > 0 else rows  # the last row comes first
    if bits <= 8:
        return _read_palette(data, layout)[_unpack(rows, bits)[:, :width]], None
    if bits == 24:
        return np.ascontiguousarray(rows[:, : 3 * width].reshape(height, width, 3)[..., ::-1]), None
    words = rows.view(f"<u{bits // 8}")[:, :width]
    red, green, blue, opacity = _read_masks(data, layout)
    alpha = _masked(words, [opacity])[..., 0] if opacity else None
    is_used = alpha is not None and alpha.any()  # most programs leave it at 0
    return _masked(words, [red, green, blue]), alpha if is_used else None


def _read_layout(data: bytes) -> _Layout:
    if len(data) < 34:
        raise ImageError(f"it is truncated within its header; {_COPY_AGAIN}")
    start, header_bytes = struct.unpack_from("<II", data, 10)
    width, height, _, bits = struct.unpack_from("<HHHH" if header_bytes == _OS2_1 else "<iiHH", data, 18)
    storage = struct.unpack_from("<I", data, 30)[0] if header_bytes >= 40 else _RGB
    names = _OTHER_STORAGE | (_OS2_STORAGE if header_bytes == _OS2_2 else {})
    if storage in names:
        raise ImageError(f"its pixels are stored {names[storage]}, which is not supported; {_CONVERT}")
    if bits not in _BITS.get(storage, ()):
        raise ImageError(f"its pixels of {bits} bits (compression {storage}) are not supported; {_CONVERT}")
    if start < 14 + header_bytes + (bits <= 8):  # a palette stands between
        raise ImageError(f"its header is damaged; {_COPY_AGAIN}")
    return _Layout(header_bytes, start, width, height, bits, storage)


def _read_masks(data: bytes, layout: _Layout) -> tuple[int, int, int, int]:
    """Return the masks of red, green, blue and opacity; 0 where there is none."""
    if layout.storage not in (_BITFIELDS, _ALPHA_BITFIELDS):
        return _DEFAULT_MASKS.get(layout.bits, (0, 0, 0, 0))
    if len(data) < _MASKS_START + 16:
        raise ImageError(f"it is truncated within its header; {_COPY_AGAIN}")
    red, green, blue, opacity = struct.unpack_from("<4I", data, _MASKS_START)
    if layout.storage == _BITFIELDS and layout.header_bytes < _V3:
        opacity = 0  # what lies there are pixels
    if not (red or green or blue):
        return _DEFAULT_MASKS[layout.bits]
    masks = red, green, blue, opacity
    is_sound = all(_is_run_of_ones(mask) and mask.bit_count() <= 16 for mask in masks)
    does_overlap = sum(masks) != red | green | blue | opacity
    if not is_sound or does_overlap or not (red and green and blue) or max(masks) >= 2**layout.bits:
        told = " ".join(f"{mask:X}" for mask in masks)
        raise ImageError(f"its colour masks ({told}) are not supported; {_CONVERT}")
    return masks


def _is_run_of_ones(mask: int) -> bool:
    return mask & (mask + (mask & -mask)) == 0


def _read_palette(data: bytes, layout: _Layout) -> Pixels:
    """Return (N,) grey or (N,3) RGB for all N values of a pixel; black where the file has none."""
    entry_bytes = 3 if layout.header_bytes == _OS2_1 else 4
    stated = struct.unpack_from("<I", data, 46)[0] if layout.header_bytes >= 40 and len(data) >= 50 else 0
    num_colors = min(stated or 2**layout.bits, 2**layout.bits)
    stored = data[14 + layout.header_bytes : layout.start][: num_colors * entry_bytes]
    padded = np.frombuffer(stored.ljust(2**layout.bits * entry_bytes, b"\0"), np.uint8)
    palette: Pixels = padded.reshape(-1, entry_bytes)[:, 2::-1]
    return palette[:, 0] if (palette == palette[:, :1]).all() else palette


def _unpack(rows: Pixels, bits: int) -> Pixels:
    """Unpack bytes to values of 1, 2, 4 or 8 bits, the highest first."""
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    values: Pixels = (rows[..., None] >> shifts & (2**bits - 1)).reshape(len(rows), -1)
    return values


def _masked(words: Pixels, masks: Sequence[int]) -> Pixels:
    """Pick what masks cover of (H,W) integers, stretched to 8 bits."""
    samples = np.empty((*words.shape, len(masks)), np.uint8)
    for index, mask in enumerate(masks):
        shift = (mask & -mask).bit_length() - 1
        maximum = np.uint32(mask >> shift)
        for rows in row_slices(words):
            values = (words[rows].astype(np.uint32) & np.uint32(mask)) >> np.uint32(shift)
            samples[rows, :, index] = values if maximum == 255 else (values * np.uint32(255) + maximum // 2) // maximum
    return samples


def _decode_runs(data: bytes) -> Pixels:
    """Decode with Pillow; OpenCV garbles runs that go on beyond the width."""
    try:
        return np.asarray(BmpImagePlugin.BmpImageFile(io.BytesIO(data)).convert("RGB"))
    except ValueError as error:  # the runs end too early
        raise ImageError(f"it is truncated; {_COPY_AGAIN}") from error
