"""Writing TIFF: every depth exact; EXIF, XMP, colour profile and resolution kept."""

from __future__ import annotations

import struct

import numpy as np

from restore.errors import ImageError
from restore.images.directories import Tag, TagBlock, integer_tags, pack_directory, resolution_tags, stated_dpi
from restore.images.photo import Pixels

_STRUCTURAL = set(Tag)  # of a file, not of a photograph
_STRIP_TARGET_BYTES = 2**20


def encode_tiff(
    pixels: Pixels,
    alpha: Pixels | None,
    *,
    icc: bytes | None,
    exif: bytes | None,
    xmp: bytes | None,
    dpi: tuple[float, float] | None,
) -> bytes:
    """Encode as uncompressed TIFF, exact in every depth.

    An EXIF block is itself a TIFF file without pixels: it becomes the head of this one, byte for byte, so that all that
    points into it, makers' notes too, stays valid.

    Args:
        pixels: (H,W) or (H,W,3), uint8, uint16 or float32.
        alpha: (H,W) of the same type.
        icc: colour profile.
        exif: TIFF-structured block.
        xmp: Tag.XMP packet.
        dpi: pixels per inch across and down; it replaces what the EXIF block states only if that differs.

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
    if len(head) + samples.nbytes + len(icc or b"") + len(xmp or b"") > 2**32 - 2**24:
        raise ImageError("it would be larger than the 4 GiB that TIFF holds; choose PNG (--format)")
    num_samples = samples.shape[2] if samples.ndim == 3 else 1
    row_bytes = samples.shape[1] * num_samples * samples.itemsize
    strip_rows = max(1, _STRIP_TARGET_BYTES // row_bytes)
    starts = range(0, samples.nbytes, strip_rows * row_bytes)
    tags = integer_tags(
        block.order,
        {
            Tag.WIDTH: [samples.shape[1]],
            Tag.HEIGHT: [samples.shape[0]],
            Tag.STRIP_ROWS: [strip_rows],
            Tag.STRIP_OFFSETS: [len(head) + start for start in starts],
            Tag.STRIP_BYTES: [min(strip_rows * row_bytes, samples.nbytes - start) for start in starts],
        },
    )
    tags |= integer_tags(
        block.order,
        {
            Tag.BITS: [8 * samples.itemsize] * num_samples,
            Tag.COMPRESSION: [1],
            Tag.PHOTOMETRIC: [2 if pixels.ndim == 3 else 1],
            Tag.SAMPLES: [num_samples],
            Tag.PLANAR: [1],
            Tag.SAMPLE_FORMAT: [3 if samples.dtype.kind == "f" else 1] * num_samples,
        }
        | ({} if alpha is None else {Tag.EXTRA_SAMPLES: [2]}),
        code="H",
    )
    tags |= {
        tag: (kind, len(content), content) for tag, kind, content in ((Tag.XMP, 1, xmp), (Tag.ICC, 7, icc)) if content
    }
    if dpi and dpi != stated_dpi(bytes(head)):
        tags |= resolution_tags(block.order, dpi)
    end = len(head) + samples.nbytes
    struct.pack_into(block.order + "I", head, 4, end + end % 2)
    directory = pack_directory(block.order, tags, end + end % 2, rows)
    return b"".join([head, samples.data.cast("B"), bytes(end % 2), directory])
