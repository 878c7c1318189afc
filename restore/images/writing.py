"""Writing photographs: of what a Photo holds nothing is lost in silence.

A Photo does not hold all that a file may, and the rest is not carried, without a word: comments (PNM; of JPEG and the
texts of PNG to other formats), times (PNG), Photoshop's own data (from or to TIFF), map coordinates (TIFF), content
credentials, thumbnails, videos, gain maps and depth maps of which no XMP tells, what makers store outside EXIF, and
chunks, segments and tags unknown here.

References:
    PNG, W3C, 3rd edition, 2025 (which chunk decides the colours).
"""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin, WebPImagePlugin

from restore.atomic import write_atomically
from restore.encodings import FULL_CHROMA_QUALITY, LONGEST_SIDES
from restore.errors import ImageError, OutputError
from restore.images.containers import (
    EXIF_PREFIX,
    JPEG_PARTS,
    JPEG_XMP_PREFIX,
    PNG_SIGNATURE,
    per_metre,
    png_chunk,
    with_png_metadata,
)
from restore.images.directories import stated_dpi, stated_iptc, without_iptc
from restore.images.iptc import iptc_of_segments, iptc_segment
from restore.images.opencv import cv2
from restore.images.photo import (
    FORMATS,
    JPEG_COMMENT,
    PHOTOSHOP,
    PNG_COLOR_CHUNKS,
    Photo,
    Pixels,
    change_depth,
    count_outside,
    plausible_dpi,
)
from restore.images.pnm import encode_pnm
from restore.images.tiff_writing import encode_tiff
from restore.memory import is_out_of_memory

_DEPTHS = {
    "png": (np.uint8, np.uint16),
    "jpeg": (np.uint8,),
    "tiff": (np.uint8, np.uint16, np.float32),
    "webp": (np.uint8,),
    "bmp": (np.uint8,),
    "pnm": (np.uint8, np.uint16),
}  # what a format holds, the deepest last
_WITH_ALPHA = {"png", "tiff", "webp"}
_WITH_METADATA = {"png", "jpeg", "tiff", "webp"}
_WITH_IPTC = {"jpeg", "tiff"}
_HOLDERS = {PHOTOSHOP: _WITH_IPTC, JPEG_COMMENT: {"jpeg"}}  # of parts that are not of PNGs
_WITH_RESOLUTION = {"png", "jpeg", "tiff", "bmp"}
_FILLED_IN_DPI = {(72, 72), (96, 96)}  # by programs, where nobody chose one
_REPLACED_BY_PROFILE = {"sRGB", "gAMA", "cHRM"}
_SRGB_CICP = bytes([1, 13, 0, 1])
_SRGB = {"gAMA": [45455], "cHRM": [31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000]}
_SRGB_TOLERANCE = 500  # of gAMA and cHRM; as these, in 1/100,000
_JPEG_SEGMENT_BYTES = 65533
_JPEG_PROFILE_BYTES = 255 * (_JPEG_SEGMENT_BYTES - 14)  # which one byte counts
_REMEDIES = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some space or choose another disk",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that can be written",
    errno.EPERM: "choose a folder that can be written",
    errno.ENOENT: "create the folder first",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "a folder of that name is in the way",
}


def write_photo(
    path: str | os.PathLike[str],
    photo: Photo,
    *,
    quality: int = 95,
    strip_metadata: bool = False,
    on_encoded: Callable[[bytes | memoryview], None] | None = None,
) -> tuple[str, ...]:
    """Write a photograph whole or not at all, in the format that the suffix names.

    PNG, TIFF, BMP and PNM hold the pixels exactly; so does WebP if the photograph comes from a lossless one, or at
    quality 100. TIFF is compressed (Deflate) if the photograph comes from a compressed one. JPEG keeps full colour
    resolution from quality 90 on.

    Args:
        path: where to; its folder exists.
        photo: what to write.
        quality: 1 to 100, of JPEG and lossy WebP.
        strip_metadata: leave out what tells of people and places: EXIF, XMP, IPTC, comments and texts.
            What the colours mean (profile, chunks of PNG) and the resolution stay.
        on_encoded: is told what the file will hold, before it is written.

    Returns:
        What of the photograph the format could not hold: depth, alpha, metadata, resolution or the meaning of colours.
        That float32 in [0,1] becomes 16 bits is not told.
        What its file held beyond a Photo is not told (see the head of this module).

    Raises:
        ImageError: the format cannot hold this photograph at all.
        OutputError: the file cannot be written; nothing partial is left.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    kind = _kind_of(path)
    if strip_metadata:
        parts = tuple((name, content) for name, content in photo.parts if name in PNG_COLOR_CHUNKS)
        photo = dataclasses.replace(photo, exif=None, xmp=None, parts=parts)
    warnings: list[str] = []
    try:
        content = _encode(_fit(photo, suffix, warnings), kind, quality)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except (cv2.error, MemoryError, OSError, ValueError, OverflowError) as error:
        if is_out_of_memory(error):
            raise ImageError(f"{path}: there is not enough memory to encode it; free some") from error
        reason = " ".join(str(error).split())[:120]
        raise ImageError(f"{path}: it cannot be encoded ({reason}); choose PNG or TIFF (--format)") from error
    if on_encoded is not None:
        on_encoded(content)
    try:
        write_atomically(path, content)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "check the output folder")
        raise OutputError(f"{path}: {error.strerror or error}; {remedy}") from error
    return tuple(warnings)


def assert_holds(path: Path, height: int, width: int) -> None:
    """Refuse a picture that the format of a path cannot hold, before anything slow is done to it.

    Raises:
        ImageError: a side is too long, or the suffix names no format.
    """
    kind = _kind_of(path)
    longest = LONGEST_SIDES.get(kind)
    if longest is not None and max(height, width) > longest:
        told = f"{kind.upper()} holds {longest:,} pixels a side and the picture has {width} × {height}"
        raise ImageError(f"{path}: {told}; choose PNG or TIFF (--format)")


def _kind_of(path: Path) -> str:
    """Return the format that the suffix of a path names."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise ImageError(f"{path}: {suffix or 'no suffix'} names no format to write; choose one (--format): {known}")
    return FORMATS[suffix]


def _fit(photo: Photo, suffix: str, warnings: list[str]) -> Photo:
    """Reduce a photograph to what the format of a suffix holds, and say so."""
    if suffix in (".pgm", ".pbm") and photo.pixels.ndim == 3:
        raise ImageError(f"{suffix[1:].upper()} holds no colours; choose PPM (--format)")
    kind = FORMATS[suffix]
    if kind == "jpeg":
        photo = _with_iptc_segment(photo, warnings)
    return _fit_parts(_fit_metadata(_fit_samples(photo, kind, warnings), kind, warnings), kind, warnings)


def _with_iptc_segment(photo: Photo, warnings: list[str]) -> Photo:
    """Put the IPTC record of a TIFF's tags where a JPEG holds it."""
    iptc = stated_iptc(photo.exif or b"")
    if not iptc or PHOTOSHOP in dict(photo.parts):
        return photo
    segment = iptc_segment(iptc)
    if len(segment) > _JPEG_SEGMENT_BYTES:
        warnings.append("JPEG holds 64 KB of IPTC; the larger record was dropped")
        return photo
    assert photo.exif is not None
    is_too_large = len(photo.exif) > _JPEG_SEGMENT_BYTES - len(EXIF_PREFIX)
    exif = without_iptc(photo.exif) if is_too_large else photo.exif
    return dataclasses.replace(photo, exif=exif, parts=(*photo.parts, (PHOTOSHOP, segment)))


def _fit_samples(photo: Photo, kind: str, warnings: list[str]) -> Photo:
    pixels, alpha, name = photo.pixels, photo.alpha, kind.upper()
    if alpha is not None and kind not in _WITH_ALPHA:
        if (alpha != (1 if alpha.dtype == np.float32 else np.iinfo(alpha.dtype).max)).any():
            warnings.append(f"{name} holds no transparency; it was dropped")
        alpha = None
    if pixels.dtype not in _DEPTHS[kind]:
        depth = np.dtype(_DEPTHS[kind][-1])
        num_outside = count_outside(pixels)
        if depth == np.uint8:
            warnings.append(f"{name} holds 8 bits; the {8 * pixels.itemsize}-bit samples were rounded")
        if num_outside:
            warnings.append(f"{name} holds 0 to 1 only; {num_outside} of {pixels.size} values were clipped")
        pixels, alpha = change_depth(pixels, depth), None if alpha is None else change_depth(alpha, depth)
    return dataclasses.replace(photo, pixels=pixels, alpha=alpha)


def _fit_metadata(photo: Photo, kind: str, warnings: list[str]) -> Photo:
    icc, exif, xmp, name = photo.icc, photo.exif, photo.xmp, kind.upper()
    if kind not in _WITH_METADATA and (icc or exif or xmp):
        found = {"colour profile": icc, "EXIF": exif, "XMP": xmp}
        dropped = [what for what, content in found.items() if content]
        warnings.append(f"{name} holds no metadata; {_listed(dropped)} {'were' if len(dropped) > 1 else 'was'} dropped")
        icc = exif = xmp = None
    is_grey = photo.pixels.ndim == 2 and kind != "webp"  # which stores grey as colours
    if icc and kind in ("png", "webp") and icc[16:20] != (b"GRAY" if is_grey else b"RGB "):
        warnings.append(f"its colour profile is not for {'grey' if is_grey else 'colours'}; {name} cannot hold it")
        icc = None
    if kind == "jpeg" and len(icc or b"") > _JPEG_PROFILE_BYTES:
        warnings.append("JPEG holds 16 MB of colour profile; the larger one was dropped")
        icc = None
    if kind == "jpeg" and len(exif or b"") > _JPEG_SEGMENT_BYTES - len(EXIF_PREFIX):
        warnings.append("JPEG holds 64 KB of EXIF; the larger block was dropped")
        exif = None
    if kind == "jpeg" and len(xmp or b"") > _JPEG_SEGMENT_BYTES - len(JPEG_XMP_PREFIX):
        warnings.append("JPEG holds 64 KB of XMP; the larger packet was dropped")
        xmp = None
    return dataclasses.replace(photo, icc=icc, exif=exif, xmp=xmp)


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _fit_parts(photo: Photo, kind: str, warnings: list[str]) -> Photo:
    """Keep resolution and parts where they have a place."""
    dpi = plausible_dpi(photo.dpi)
    if dpi and kind not in _WITH_RESOLUTION and dpi not in _FILLED_IN_DPI and dpi != stated_dpi(photo.exif or b""):
        warnings.append(f"{kind.upper()} holds no resolution; {dpi[0]:g} × {dpi[1]:g} dpi were dropped")
    parts = [part for part in photo.parts if not (photo.icc and part[0] in _REPLACED_BY_PROFILE)]
    if kind not in _WITH_IPTC and any(name == PHOTOSHOP for name, _ in parts):
        warnings.append(f"{kind.upper()} holds no IPTC or Photoshop data; they were dropped")
    kept = tuple(part for part in parts if kind in _HOLDERS.get(part[0], {"png"}))
    if kind != "png" and (names := _not_srgb(dict(parts))):
        warnings.append(f"{kind.upper()} does not hold what its colours mean ({names}); they will look different")
    return dataclasses.replace(photo, dpi=dpi, parts=kept)


def _not_srgb(chunks: dict[str, bytes]) -> str:
    """Name the chunks by which colours are not sRGB; cICP decides before all others, sRGB before gAMA and cHRM."""
    if "cICP" in chunks:
        return "" if chunks["cICP"] == _SRGB_CICP else "cICP"
    names = _SRGB.keys() & chunks.keys() if "sRGB" not in chunks else ()
    offsets = {name: np.abs(np.frombuffer(chunks[name], ">u4").astype(float) - _SRGB[name]) for name in names}
    return " and ".join(sorted(name for name in names if offsets[name].max() > _SRGB_TOLERANCE))


def _encode(photo: Photo, kind: str, quality: int) -> bytes | memoryview:
    if kind == "tiff":
        iptc = iptc_of_segments(content for name, content in photo.parts if name == PHOTOSHOP)
        metadata = {"icc": photo.icc, "exif": photo.exif, "xmp": photo.xmp, "iptc": iptc}
        return encode_tiff(photo.pixels, photo.alpha, **metadata, dpi=photo.dpi, compress=photo.compressed)
    if kind == "pnm":
        return encode_pnm(photo.pixels)
    if kind == "bmp":
        bmp = _by_opencv(photo.pixels, None, ".bmp")
        struct.pack_into("<ii", bmp, 38, *per_metre(photo.dpi or (0, 0)))
        return bmp
    if kind == "png":
        if photo.alpha is not None and photo.pixels.ndim == 2:
            png: bytes | memoryview = _encode_grey_alpha_png(photo.pixels, photo.alpha)
        else:
            png = _by_opencv(photo.pixels, photo.alpha, ".png")
        return with_png_metadata(png, icc=photo.icc, exif=photo.exif, xmp=photo.xmp, dpi=photo.dpi, parts=photo.parts)
    return _by_pillow(photo, kind, quality)


def _by_opencv(pixels: Pixels, alpha: Pixels | None, suffix: str) -> memoryview:
    """Encode with OpenCV's settings for PNG, the fastest that stay small (run-length matches, "sub" filter)."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if alpha is None else cv2.COLOR_RGB2BGRA)
        if alpha is not None:
            pixels[..., 3] = alpha
    is_encoded, content = cv2.imencode(suffix, pixels)
    if not is_encoded:
        raise ValueError("OpenCV refuses it")
    return content.data


def _by_pillow(photo: Photo, kind: str, quality: int) -> memoryview:
    """Encode as JPEG or WebP, with metadata."""
    samples = photo.pixels
    if photo.alpha is not None:
        colors = [samples] if samples.ndim == 3 else [samples] * 3
        samples = np.dstack([*colors, photo.alpha])
    image, buffer = Image.fromarray(samples), io.BytesIO()
    metadata = {"icc_profile": photo.icc or None, "exif": photo.exif or b"", "xmp": photo.xmp or b""}
    if kind == "webp":
        is_lossless = quality == 100 or (photo.format == "webp" and photo.lossless)
        effort = {"lossless": True, "exact": True, "quality": 20, "method": 2} if is_lossless else {"quality": quality}
        image.save(buffer, WebPImagePlugin.WebPImageFile.format, **effort, **metadata)
    else:
        segments = [_segment(name, content) for name, content in photo.parts]
        metadata["exif"] = EXIF_PREFIX + photo.exif if photo.exif else b""
        subsampling = 0 if quality >= FULL_CHROMA_QUALITY else 2
        image.save(
            buffer,
            JpegImagePlugin.JpegImageFile.format,
            quality=quality,
            subsampling=subsampling,
            dpi=photo.dpi or (0, 0),
            extra=b"".join(segments),
            **metadata,
        )
    return buffer.getbuffer()


def _segment(name: str, content: bytes) -> bytes:
    (marker,) = (marker for marker, part in JPEG_PARTS.items() if part == name)
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def _encode_grey_alpha_png(pixels: Pixels, alpha: Pixels) -> bytes:
    """Encode as PNG of colour type 4, which neither OpenCV nor, at 16 bits, Pillow writes."""
    height, width = pixels.shape
    samples = np.dstack([pixels, alpha])
    rows = samples.astype(samples.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    filtered = np.full((height, 1 + rows.shape[1]), 2, np.uint8)  # filter "up": what differs from the row above
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = b"".join(number.to_bytes(4, "big") for number in (width, height)) + bytes(
        [8 * samples.itemsize, 4, 0, 0, 0]
    )
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.data, 6)), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(png_chunk(kind, content) for kind, content in chunks)
