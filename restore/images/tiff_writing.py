"""Writing TIFF: every depth exact; EXIF, XMP, colour profile and resolution kept."""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.errors import ImageError
from restore.images.directories import IPTC, Tag, TagBlock, integer_tags, pack_directory, resolution_tags, stated_dpi
from restore.images.photo import Pixels

_STRUCTURAL = set(Tag)  # of a file, not of a photograph
_STRIP_TARGET_BYTES = 2**20
_NOT_COMPRESSED, _DEFLATE = 1, 8
_DIFFERENCES = 2  # a predictor: of integers; that of floats is one that few programs read
_EFFORT = 1  # of zlib; more takes two to five times as long for a tenth less


def encode_tiff(
    pixels: Pixels,
    alpha: Pixels | None,
    *,
    icc: bytes | None,
    exif: bytes | None,
    xmp: bytes | None,
    iptc: bytes | None,
    dpi: tuple[float, float] | None,
    compress: bool = False,
) -> bytes:
    """Encode as TIFF, exact in every depth.

    An EXIF block is itself a TIFF file without pixels: it becomes the head of this one, byte for byte, so that all that
    points into it, makers' notes too, stays valid.

    Args:
        pixels: (H,W) or (H,W,3), uint8, uint16 or float32.
        alpha: (H,W) of the same type.
        icc: colour profile.
        exif: TIFF-structured block.
        xmp: XMP packet.
        iptc: IPTC record; it replaces that of the EXIF block.
        dpi: pixels per inch across and down; it replaces what the EXIF block states only if that differs.
        compress: by Deflate, integers as differences between neighbours.

    Raises:
        ImageError: it would not fit in the 4 GiB of a TIFF file.
    """
    head = bytearray(exif or b"II*\0\x08\0\0\0\0\0\0\0\0\0")
    head += bytes(-len(head) % 16)
    block = TagBlock(bytes(head))
    inherited, _ = block.directory(block.first)
    rows = {tag: bytes(head[e.row : e.row + 12]) for tag, e in inherited.items() if tag not in _STRUCTURAL}
    samples = pixels if alpha is None else np.dstack([pixels, alpha])
    samples = np.ascontiguousarray(samples, dtype=samples.dtype.newbyteorder("<" if block.order == "<" else ">"))
    num_samples = samples.shape[2] if samples.ndim == 3 else 1
    strip_rows = max(1, _STRIP_TARGET_BYTES // (samples.shape[1] * num_samples * samples.itemsize))
    strips = [samples[top : top + strip_rows] for top in range(0, len(samples), strip_rows)]
    contents = [_deflated(strip) if compress else strip.reshape(-1).view(np.uint8).data for strip in strips]
    *offsets, end = itertools.accumulate(map(len, contents), initial=len(head))
    if end + len(icc or b"") + len(xmp or b"") > 2**32 - 2**24:
        raise ImageError("it would be larger than the 4 GiB that TIFF holds; choose PNG (--format)")
    is_float = samples.dtype.kind == "f"
    tags = integer_tags(
        block.order,
        {
            Tag.WIDTH: [samples.shape[1]],
            Tag.HEIGHT: [samples.shape[0]],
            Tag.STRIP_ROWS: [strip_rows],
            Tag.STRIP_OFFSETS: offsets,
            Tag.STRIP_BYTES: list(map(len, contents)),
        },
    )
    tags |= integer_tags(
        block.order,
        {
            Tag.BITS: [8 * samples.itemsize] * num_samples,
            Tag.COMPRESSION: [_DEFLATE if compress else _NOT_COMPRESSED],
            Tag.PHOTOMETRIC: [2 if pixels.ndim == 3 else 1],
            Tag.SAMPLES: [num_samples],
            Tag.PLANAR: [1],
            Tag.SAMPLE_FORMAT: [3 if is_float else 1] * num_samples,
        }
        | ({Tag.ORIENTATION: [1]} if Tag.ORIENTATION in inherited else {})  # else a stale one in the XMP would turn it
        | ({Tag.PREDICTOR: [_DIFFERENCES]} if compress and not is_float else {})
        | ({} if alpha is None else {Tag.EXTRA_SAMPLES: [2]}),
        code="H",
    )
    tags |= {
        tag: (kind, len(content), content)
        for tag, kind, content in ((Tag.XMP, 1, xmp), (Tag.ICC, 7, icc), (IPTC, 7, iptc))
        if content
    }
    if dpi and dpi != stated_dpi(bytes(head)):
        tags |= resolution_tags(block.order, dpi)
    struct.pack_into(block.order + "I", head, 4, end + end % 2)
    directory = pack_directory(block.order, tags, end + end % 2, rows)
    return b"".join([head, *contents, bytes(end % 2), directory])


def _deflated(strip: NDArray[Any]) -> bytes:
    """Compress rows of pixels, integers as differences from the pixel before."""
    if strip.dtype.kind == "f":
        return zlib.compress(strip.data, _EFFORT)
    differences = strip.copy()
    differences[:, 1:] -= strip[:, :-1]
    return zlib.compress(differences.data, _EFFORT)
