"""BMP: what its header says; the pixels are decoded by Pillow.

OpenCV loses the colours of OS/2's, passes over masks behind a header of 40 bytes, makes the white of 16 bits 248 and
garbles runs that go on beyond the width.

References:
    BITMAPINFOHEADER to BITMAPV5HEADER, Microsoft; OS/2 Bitmap File Format, IBM.
"""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import BmpImagePlugin

from restore.errors import ImageError
from restore.images.containers import Header, per_inch
from restore.images.photo import COPY_AGAIN, Pixels

_OS2_BYTES, _V5_BYTES = 12, 124  # of headers
_RUN_LENGTH = (1, 2)  # kinds of compression: RLE8 and RLE4
_EMBEDDED = b"DEBM"  # a profile that lies in the file


def read_bmp_header(data: bytes) -> Header:
    """Read the sizes, the resolution and the colour profile of a BMP.

    Raises:
        ImageError: the header is not whole.
    """
    if len(data) < 34:
        raise ImageError(f"it is truncated within its header; {COPY_AGAIN}")
    start, header_bytes = struct.unpack_from("<II", data, 10)
    is_old = header_bytes == _OS2_BYTES
    width, height, _, bits = struct.unpack_from("<HHHH" if is_old else "<iiHH", data, 18)
    header = Header(abs(width), abs(height))
    if header_bytes >= 40 and len(data) >= 46:
        header.dpi = per_inch(*struct.unpack_from("<ii", data, 38))
    if header_bytes >= _V5_BYTES and data[70:74] == _EMBEDDED:
        position, num_bytes = struct.unpack_from("<II", data, 126)
        header.icc = data[14 + position : 14 + position + num_bytes] or None
    has_runs = header_bytes >= 40 and struct.unpack_from("<I", data, 30)[0] in _RUN_LENGTH
    row_bytes = (header.width * bits + 31) // 32 * 4
    header.is_truncated = not has_runs and start + row_bytes * header.height > len(data)
    return header


def decode_bmp(data: bytes) -> tuple[Pixels, Pixels | None]:
    """Decode a BMP to 8 bits of grey or RGB, and opacity.

    Raises:
        ImageError: it is damaged, or its pixels are stored in a way that Pillow does not know.
    """
    try:
        image = BmpImagePlugin.BmpImageFile(io.BytesIO(data))
        image.load()
    except ValueError as error:  # the runs end too early
        raise ImageError(f"it is truncated; {COPY_AGAIN}") from error
    except (OSError, SyntaxError) as error:
        if "nsupported" not in str(error):
            raise
        raise ImageError(f"its pixels cannot be read ({error}); convert it to PNG or TIFF first") from error
    palette = np.reshape(image.getpalette() or [0, 0, 0], (-1, 3))
    if image.mode != "RGBA":
        is_grey = image.mode in ("1", "L") or (image.mode == "P" and (palette == palette[:, :1]).all())
        return np.asarray(image.convert("RGB").getchannel(0) if is_grey else image.convert("RGB")), None
    samples = np.asarray(image)
    alpha = np.ascontiguousarray(samples[..., 3])
    return np.ascontiguousarray(samples[..., :3]), alpha if alpha.any() else None  # most programs leave it at 0
