"""Portable anymap: PBM, PGM and PPM, plain and raw.

References:
    Netpbm, ppm(5), pgm(5), pbm(5).
"""

from __future__ import annotations

import math
import re

import numpy as np

from restore.errors import ImageError
from restore.images.photo import COPY_AGAIN, TRUNCATED, Pixels

_NUMBER = re.compile(rb"(?:\s|#[^\n]*\n)*(\d{1,9})")
_COMMENT = re.compile(rb"#[^\n]*")
_PLAIN = re.compile(rb"[\d\s]*")


def read_pnm_header(data: bytes) -> tuple[int, int, int, int]:
    """Return width, height, the greatest sample (1 for PBM) and where the samples start.

    Raises:
        ImageError: there is no whole header.
    """
    numbers: list[int] = []
    position = 2
    while len(numbers) < (2 if data[1:2] in b"14" else 3):
        match = _NUMBER.match(data, position)
        if match is None:
            raise ImageError(f"its header is damaged; {COPY_AGAIN}")
        numbers.append(int(match[1]))
        position = match.end()
    width, height, maximum = (*numbers, 1)[:3]
    if not 1 <= maximum <= 65535:
        raise ImageError(f"its greatest sample is stated as {maximum}, not 1 to 65535; save it again with 255 or 65535")
    return width, height, maximum, position + (data[1:2] in b"456")


def read_pnm(data: bytes, *, allow_truncated: bool = False) -> tuple[Pixels, bool, bytes]:
    """Decode the first picture of a file, its samples stretched to the whole range of 8 or 16 bits.

    Returns:
        (H,W) or (H,W,3) uint8 or uint16; whether samples are missing at the end, which are then 0; what follows.

    Raises:
        ImageError: it is truncated, and that is not allowed.
    """
    width, height, maximum, start = read_pnm_header(data)
    kind = data[1:2]
    shape = (height, width, 3) if kind in b"36" else (height, width)
    if kind in b"123":
        samples = _plain_samples(data[start:], is_bitmap=kind == b"1", maximum=maximum)
        num_needed, end = math.prod(shape), len(data)
    else:
        depth = np.dtype(np.uint8 if maximum < 256 else ">u2")
        num_needed = height * ((width + 7) // 8) if kind == b"4" else math.prod(shape)
        end = start + num_needed * depth.itemsize
        num_there = max(0, len(data) - start) // depth.itemsize
        samples = np.frombuffer(data, depth, min(num_needed, num_there), start) if num_there else np.zeros(0, depth)
    is_truncated = len(samples) < num_needed
    if is_truncated and not allow_truncated:
        raise ImageError(TRUNCATED)
    samples = _exactly(samples, num_needed)
    if kind == b"4":
        samples = 1 - np.unpackbits(samples.reshape(height, -1), axis=1, count=width)  # 1 is black
    return _stretch(samples, maximum).reshape(shape), is_truncated, data[end:]


def _plain_samples(text: bytes, *, is_bitmap: bool, maximum: int) -> Pixels:
    text = _COMMENT.sub(b"", text)
    if not _PLAIN.fullmatch(text):
        raise ImageError(f"it holds something else than numbers; {COPY_AGAIN}")
    if is_bitmap:  # its digits need no space between them
        return 1 - (np.frombuffer(text.translate(None, b" \t\r\n\v\f"), np.uint8) & 1)
    return np.minimum(np.fromstring(text.decode("ascii"), np.int64, sep=" "), maximum)


def _exactly(samples: Pixels, count: int) -> Pixels:
    return samples[:count] if len(samples) >= count else np.pad(samples, (0, count - len(samples)))


def _stretch(samples: Pixels, maximum: int) -> Pixels:
    depth = np.dtype(np.uint8 if maximum < 256 else np.uint16)
    full = np.iinfo(depth).max
    if maximum == full:
        return samples.astype(depth)  # a copy, in the machine's byte order
    stretched = (np.minimum(samples, maximum).astype(np.uint32) * full + maximum // 2) // maximum
    return stretched.astype(depth)


def encode_pnm(pixels: Pixels) -> bytes:
    """Encode (H,W) as raw PGM, (H,W,3) as raw PPM, in 8 or 16 bits."""
    height, width = pixels.shape[:2]
    kind, maximum = (6 if pixels.ndim == 3 else 5), np.iinfo(pixels.dtype).max
    samples = np.ascontiguousarray(pixels, dtype=">u2" if pixels.dtype == np.uint16 else np.uint8)
    return b"".join([f"P{kind}\n{width} {height}\n{maximum}\n".encode(), samples.data.cast("B")])
