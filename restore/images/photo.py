"""The photograph in memory, and the depths of its samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Pixels = NDArray[Any]
"""(H,W,3) RGB or (H,W) grey, of uint8, uint16 or float32."""

FORMATS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "webp",
    ".bmp": "bmp",
    ".ppm": "pnm",
    ".pgm": "pnm",
    ".pbm": "pnm",
    ".pnm": "pnm",
}
"""Suffix, in lower case, to format name: all that can be read and written."""

PNG_COLOR_CHUNKS = {"cICP": 4, "mDCV": 24, "cLLI": 8, "sRGB": 1, "gAMA": 4, "cHRM": 32}
"""The chunks of a PNG that say what its colours mean, beside a profile, and their lengths in bytes."""

PHOTOSHOP = "APP13"
"""The segments of a JPEG that hold Photoshop's data, IPTC captions and keywords among them."""

JPEG_COMMENT = "COM"
"""The segments of a JPEG that hold a comment."""

PNG_TEXTS = {"tEXt", "zTXt", "iTXt"}
"""The chunks of a PNG that hold titles, authors and other texts."""

COPY_AGAIN = "copy it again from its source"
"""What to do about a picture that is damaged."""

ACCEPT_PART = f"{COPY_AGAIN}, or let denoise or deblur accept what is there (--allow-truncated)"
"""What to do about a picture part of which can be had."""

TRUNCATED = f"it is truncated; {ACCEPT_PART}"
"""What to say of a picture whose end is missing."""

_MAX_DPI = 65535  # the most that JPEG holds
_STEP_VALUES = 2**22  # values converted at a time, so that a conversion needs little more memory than its result


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph and all that must survive its restoration.

    Attributes:
        pixels: (H,W,3) RGB or (H,W) grey, upright; uint8, uint16 or float32 as the file stores them (floats unscaled).
        alpha: (H,W) opacity of the same type, not multiplied into the pixels, or None.
        icc: colour profile, or None.
        exif: TIFF-structured block without the prefix "Exif", its orientation 1 and its thumbnail unlinked, or None.
        format: "png", "jpeg", "tiff", "webp", "bmp" or "pnm": what the file was.
        warnings: what was dropped or converted in reading.
        xmp: XMP packet, or None.
        lossless: whether the file held the pixels exactly.
        compressed: whether the file was a compressed TIFF; one that is made of it will be, too.
        dpi: pixels per inch across and down, as the file (or else its EXIF) states them, or None.
        parts: name and content of what only few formats hold: `PHOTOSHOP` of a JPEG, of which a TIFF holds the IPTC
            record, and `JPEG_COMMENT`; `PNG_COLOR_CHUNKS` and `PNG_TEXTS` of a PNG.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    format: str = "png"
    warnings: tuple[str, ...] = ()
    xmp: bytes | None = None
    lossless: bool = True
    compressed: bool = False
    dpi: tuple[float, float] | None = None
    parts: tuple[tuple[str, bytes], ...] = ()


def to_float(array: Pixels) -> NDArray[np.float32]:
    """Convert samples to float32 in nominal [0,1].

    Args:
        array: uint8 is divided by 255, uint16 by 65535, float32 is returned as it is.

    Returns:
        float32 of the same shape. `from_float` brings back the very same integers.
    """
    if array.dtype == np.float32:
        return array
    result: NDArray[np.float32] = np.divide(array, np.float32(np.iinfo(array.dtype).max), dtype=np.float32)
    return result


def from_float(array: NDArray[np.float32], dtype: DTypeLike) -> Pixels:
    """Convert float32 samples in nominal [0,1] to a depth.

    Args:
        array: any shape with at least one dimension.
        dtype: uint8 and uint16 are clipped to [0,1] and rounded, NaN becoming 0; float32 is returned as it is.

    Returns:
        An array of the same shape and the given type.
    """
    if np.dtype(dtype) == np.float32:
        return array
    result = np.empty(array.shape, dtype)
    scale = np.float32(np.iinfo(result.dtype).max)
    for rows in row_slices(array):
        part = np.nan_to_num(array[rows], nan=0.0, posinf=1.0, neginf=0.0)
        np.clip(part, 0, 1, out=part)
        np.multiply(part, scale, out=part)
        result[rows] = np.rint(part, out=part)
    return result


def change_depth(array: Pixels, dtype: DTypeLike) -> Pixels:
    """Convert samples of any depth to any other, rounding to the nearest."""
    if array.dtype == dtype:
        return array
    result = np.empty(array.shape, dtype)
    for rows in row_slices(array):
        result[rows] = from_float(to_float(array[rows]), dtype)
    return result


def count_outside(array: Pixels) -> int:
    """Count the float samples that no integer depth can hold: below 0, above 1 or not a number."""
    if array.dtype != np.float32:
        return 0
    return sum(int(np.count_nonzero(~((array[rows] >= 0) & (array[rows] <= 1)))) for rows in row_slices(array))


def plausible_dpi(dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return a resolution if it may be meant: neither 0 nor more than any format holds; else None."""
    return dpi if dpi and all(1 <= value <= _MAX_DPI for value in dpi) else None


def row_slices(array: Pixels) -> list[slice]:
    """Split the rows of an array into parts that are converted one at a time, in little memory."""
    step = max(1, _STEP_VALUES * len(array) // max(1, array.size))
    return [slice(start, start + step) for start in range(0, len(array), step)]
