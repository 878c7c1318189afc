"""Reading photographs: the content decides what a file is, and nothing in it is trusted."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageCms, JpegImagePlugin

from restore.errors import ImageError
from restore.images import containers
from restore.images.bmp import decode_bmp, read_bmp_header
from restore.images.containers import Header
from restore.images.directories import (
    PHOTOSHOP_RESOURCES,
    Tag,
    descriptive_exif,
    stated_dpi,
    stated_iptc,
    upright_exif,
)
from restore.images.iptc import iptc_of_resources, iptc_segment
from restore.images.opencv import cv2
from restore.images.photo import ACCEPT_PART, COPY_AGAIN, FORMATS, PHOTOSHOP, TRUNCATED, Photo, Pixels, plausible_dpi
from restore.images.pnm import read_pnm, read_pnm_header
from restore.images.tiff import TiffPage
from restore.images.turbojpeg import decode_jpeg
from restore.images.xmp import upright_xmp, without_claims
from restore.memory import is_out_of_memory

MAX_PIXELS = 2**28
"""Default limit of a picture's size: 268 megapixels, 800 MB of 8-bit colour."""

_RAW_SUFFIXES = [
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef"),
    *(".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
]
UNSUPPORTED = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    ".avif": "AVIF",
    ".jxl": "JPEG XL",
    ".jp2": "JPEG 2000",
    ".exr": "EXR",
    ".psd": "Photoshop",
    **dict.fromkeys(_RAW_SUFFIXES, "camera raw"),
}
"""Suffixes of photographs that cannot be read yet, and what to call them."""

_MAGIC = (
    (rb"\x89PNG\r\n\x1a\n", "png"),
    (rb"\xff\xd8\xff", "jpeg"),
    (rb"II[*+]\0|MM\0[*+]", "tiff"),
    (rb"RIFF....WEBP", "webp"),
    (rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", "bmp"),
    (rb"P[1-6][\s#]", "pnm"),
)
_FOREIGN = (
    (rb"....ftyp(?:hei|hev|mif|msf)", "a HEIC picture"),
    (rb"....ftypavi", "an AVIF picture"),
    (rb"....ftypcrx|FUJIFILMCCD-RAW|II[RU]|MMOR|FOVb|\0MRM", "a camera's raw file"),
    (rb"\x76\x2f\x31\x01", "an EXR picture"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (rb"GIF8", "a GIF picture"),
    (rb"8BPS", "a Photoshop document"),
    (rb"P[7fF]\n", "a PAM or PFM picture"),
    (rb"%PDF|%!PS", "a PDF or PostScript document"),
    (rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg|!)", "an SVG or XML document"),
    (rb"PK\x03\x04|\x1f\x8b|Rar!|7z\xbc\xaf", "an archive"),
)
_HEAD_BYTES = 64
_BYTES_PER_PIXEL, _BYTES_BESIDE_PIXELS = 40, 2**26  # no photograph needs more

_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.transpose(cv2.rotate(image, cv2.ROTATE_180)),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}  # by EXIF orientation; 1 is upright

_Value = TypeVar("_Value")


class _Decoded(NamedTuple):
    """Pixels as they lie in the file, what they are ("grey", "RGB" or "CMYK"), and what else the file says."""

    pixels: Pixels
    alpha: Pixels | None
    colors: str
    header: Header
    orientation: int = 1


def read_photo(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS, allow_truncated: bool = False) -> Photo:
    """Read a photograph, upright and at the depth of its file.

    Args:
        path: PNG, JPEG, TIFF, WebP, BMP, PBM, PGM or PPM, whatever its name says.
        max_pixels: larger pictures are refused before they are decoded.
        allow_truncated: accept what is there of a truncated or damaged JPEG, TIFF, BMP or PNM, with a warning.

    Returns:
        The photograph. Palettes are resolved, CMYK is converted to sRGB, 64-bit floats are rounded to 32 bits.

    Raises:
        ImageError: it cannot be read; the message is one line: path, what is wrong, remedy.
    """
    path = Path(path)
    try:
        kind, data = _read_bytes(path, max_pixels)
        return _finish(path, kind, _consistent(_decode(kind, data, max_pixels, allow_truncated=allow_truncated)))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except Exception as error:  # decoders raise anything on damaged content
        if is_out_of_memory(error):
            raise ImageError(f"{path}: there is not enough memory to decode it; free some or scale it down") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"{path}: {error.strerror}; check the path and its permissions") from error
        raise ImageError(f"{path}: it is damaged ({_one_line(error)}); {COPY_AGAIN}") from error


def _read_bytes(path: Path, max_pixels: int) -> tuple[str, bytes]:
    """Return the format and the content of a file."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ImageError("it is a folder; name a picture")
    if not stat.S_ISREG(mode):  # opening a pipe would block
        raise ImageError("it is not a regular file; name a picture")
    with path.open("rb") as file:
        kind = _sniff(file.read(_HEAD_BYTES), path.suffix.lower())
        num_bytes = file.seek(0, os.SEEK_END)
        if num_bytes > _BYTES_PER_PIXEL * max_pixels + _BYTES_BESIDE_PIXELS:
            raise ImageError(f"it is {num_bytes / 1e9:.1f} GB; allow such pictures with a larger --max-pixels")
        file.seek(0)
        return kind, file.read()


def may_be_read(path: Path) -> bool:
    """Return whether the name of a file, or else its first bytes, promise a picture of a kind that is read."""
    suffix = path.suffix.lower()
    if suffix not in UNSUPPORTED:
        return True
    try:
        if not path.is_file():  # opening a pipe would block
            return False
        with path.open("rb") as file:
            return bool(_sniff(file.read(_HEAD_BYTES), suffix))
    except (ImageError, OSError):
        return False


def _sniff(head: bytes, suffix: str) -> str:
    """Return the format that the first bytes are of."""
    kind = next((name for pattern, name in _MAGIC if re.match(pattern, head, re.DOTALL)), None)
    if kind and not (kind == "tiff" and suffix in UNSUPPORTED):  # most raw files are TIFFs of a kind
        return kind
    if not head:
        raise ImageError(f"it is empty; {COPY_AGAIN}")
    if suffix in UNSUPPORTED:
        raise ImageError(f"{UNSUPPORTED[suffix]} files are not supported yet; convert it to TIFF or PNG first")
    foreign = next((name for pattern, name in _FOREIGN if re.match(pattern, head, re.DOTALL)), None)
    if foreign:
        raise ImageError(f"it is {foreign}, which is not supported yet; convert it to TIFF or PNG first")
    if re.fullmatch(rb"[\t\n\r -~]+", head):
        raise ImageError("it is text, not a picture; leave it out")
    raise ImageError(f"it is not a picture, or its start is damaged; {COPY_AGAIN}")


def _decode(kind: str, data: bytes, max_pixels: int, *, allow_truncated: bool) -> _Decoded:
    if kind == "tiff":
        return _decode_tiff(data, max_pixels, allow_truncated=allow_truncated)
    if kind == "pnm":
        return _decode_pnm(data, max_pixels, allow_truncated=allow_truncated)
    header = {
        "png": containers.read_png_header,
        "jpeg": containers.read_jpeg_header,
        "webp": containers.read_webp_header,
        "bmp": read_bmp_header,
    }[kind](data)
    _check_size(header, max_pixels)
    if header.is_truncated and not (allow_truncated and kind in ("jpeg", "bmp")):
        raise ImageError(TRUNCATED if kind in {"jpeg", "bmp"} else f"it is truncated; {COPY_AGAIN}")
    if header.is_truncated and kind == "jpeg":
        data = containers.with_jpeg_end(data)
    elif header.is_truncated:
        data += bytes(4 * header.width * header.height)
    if kind == "bmp":
        return _Decoded(*decode_bmp(data), "RGB", header)
    if kind == "jpeg":
        pixels = _decode_jpeg(data, header, allow_truncated=allow_truncated)
        return _Decoded(pixels, None, "CMYK" if header.channels == 4 else "RGB", header)
    pixels, alpha = _by_opencv(data, kind, header)
    if header.transparent is not None:
        differs = pixels != np.array(header.transparent if pixels.ndim == 3 else header.transparent[0], pixels.dtype)
        opaque = differs.any(axis=-1) if pixels.ndim == 3 else differs
        alpha = opaque.astype(pixels.dtype) * np.iinfo(pixels.dtype).max
    return _Decoded(pixels, alpha, "RGB", header)


def _consistent(decoded: _Decoded) -> _Decoded:
    if decoded.pixels.shape[:2] != (decoded.header.height, decoded.header.width):
        raise ImageError(f"its header contradicts its pixels; {COPY_AGAIN}")
    return decoded


def _check_size(header: Header, max_pixels: int) -> None:
    if header.width < 1 or header.height < 1:
        raise ImageError(f"its header is damaged or truncated; {COPY_AGAIN}")
    num_pixels = header.width * header.height
    if num_pixels > max_pixels:
        raise ImageError(
            f"it claims {header.width} × {header.height} pixels, more than the limit of {max_pixels}; "
            f"if that is right, allow it with --max-pixels {num_pixels}"
        )


def _decode_jpeg(data: bytes, header: Header, *, allow_truncated: bool) -> Pixels:
    """Decode grey, RGB or CMYK."""
    colors = {1: "GRAY", 4: "CMYK"}.get(header.channels, "RGB")
    pixels, damage = decode_jpeg(data, colors)
    if damage and not allow_truncated:
        raise ImageError(f"its pixels are damaged ({damage}); {ACCEPT_PART}")
    header.is_truncated |= damage is not None
    if pixels is None:
        return _cmyk_of_jpeg(data) if colors == "CMYK" else _by_opencv(data, "jpeg", header)[0]
    return 255 - pixels if colors == "CMYK" else pixels  # which Adobe stores inverted


def _by_opencv(data: bytes, kind: str, header: Header) -> tuple[Pixels, Pixels | None]:
    """Decode PNG, JPEG or WebP to grey or RGB, and alpha."""
    flags = cv2.IMREAD_UNCHANGED
    if kind in ("png", "jpeg") and header.channels in (1, 3) and not header.palette_has_alpha:
        color = cv2.IMREAD_GRAYSCALE if header.channels == 1 else cv2.IMREAD_COLOR_RGB
        flags = color | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    content = containers.png_pixels_only(data) if kind == "png" else data
    decoded: Pixels | None = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if decoded is None:
        raise ImageError(f"its pixels are damaged; {COPY_AGAIN}")
    if decoded.ndim == 2:
        return decoded, None
    if decoded.shape[2] == 3:
        if flags == cv2.IMREAD_UNCHANGED:
            cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded)
        return decoded, None
    alpha = np.ascontiguousarray(decoded[..., 3])
    if header.channels == 2:
        return np.ascontiguousarray(decoded[..., 0]), alpha
    return cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGB), alpha


def _cmyk_of_jpeg(data: bytes) -> Pixels:
    """Decode with Pillow, which leaves CMYK as it is; without EXIF, of which it would complain if broken."""
    parts, position = [data[:2]], 2
    for marker, _, end in containers.jpeg_segments(data):
        if marker != containers.JPEG_APP1:
            parts.append(data[position:end])
        position = end
    return np.asarray(JpegImagePlugin.JpegImageFile(io.BytesIO(b"".join([*parts, data[position:]]))))


def _decode_tiff(data: bytes, max_pixels: int, *, allow_truncated: bool) -> _Decoded:
    page = TiffPage(data)
    header = Header(page.width, page.height, num_pictures=page.num_pages)
    _check_size(header, max_pixels)
    header.icc = _unless_broken(header, "colour profile", lambda: page.blob(Tag.ICC))
    header.xmp = _unless_broken(header, "XMP packet", lambda: page.blob(Tag.XMP))
    orientation = _unless_broken(header, "orientation", lambda: page.orientation) or 1
    header.is_compressed = page.is_compressed
    if page.has_unnamed_channel:
        header.warnings.append("what its extra channel means is not stated; it was taken for opacity")
    header.exif = descriptive_exif(page.block, page.entries, is_first_of_many=page.num_pages > 1)
    header.parts += _iptc_of_photoshop(page) if not stated_iptc(header.exif or b"") else []
    pixels, alpha, colors, header.is_truncated = page.decode(allow_truncated=allow_truncated)
    return _Decoded(pixels, alpha, colors, header, orientation)


def _unless_broken(header: Header, name: str, read: Callable[[], _Value]) -> _Value | None:
    """Return what a tag holds; one that is broken does not cost the picture."""
    try:
        return read()
    except ValueError:
        header.warnings.append(f"its {name} is broken and was dropped")
        return None


def _iptc_of_photoshop(page: TiffPage) -> list[tuple[str, bytes]]:
    """Return the IPTC record that stands only among Photoshop's resources, as a JPEG would hold it."""
    with suppress(ValueError):  # a broken tag
        if iptc := iptc_of_resources(page.blob(PHOTOSHOP_RESOURCES) or b""):
            return [(PHOTOSHOP, iptc_segment(iptc))]
    return []


def _decode_pnm(data: bytes, max_pixels: int, *, allow_truncated: bool) -> _Decoded:
    width, height, *_ = read_pnm_header(data)
    header = Header(width, height)
    _check_size(header, max_pixels)
    pixels, header.is_truncated, rest = read_pnm(data, allow_truncated=allow_truncated)
    header.num_pictures += bool(re.match(rb"P[1-7]\s", rest))
    return _Decoded(pixels, None, "RGB", header)


def _finish(path: Path, kind: str, decoded: _Decoded) -> Photo:
    """Convert colours, turn upright and clean the metadata: all that a Photo promises."""
    pixels, alpha, colors, header, orientation = decoded
    warnings = list(header.warnings)
    if FORMATS.get(path.suffix.lower()) != kind:
        warnings.insert(0, f"it is a {kind.upper()} file, which its name does not say")
    if header.is_truncated:
        warnings.append("it is truncated or damaged; what is missing was filled in")
    if header.num_pictures > 1:
        warnings.append(f"it holds {header.num_pictures} pictures or more; only the first is read")
    icc, exif, xmp = header.icc, header.exif, header.xmp
    if colors == "CMYK":
        pixels, icc = _from_cmyk(pixels, icc, warnings), None
    if icc and not _is_sound_profile(icc):
        warnings.append("its colour profile is broken and was dropped")
        icc = None
    if exif:
        try:
            exif, orientation = upright_exif(exif, orientation)
        except ValueError:
            warnings.append("its EXIF data are broken and were dropped")
            exif = None
    if xmp:
        xmp = without_claims(xmp if orientation == 1 else upright_xmp(xmp), warnings)
    if pixels.dtype == np.float64:
        warnings.append("its 64-bit floats were rounded to 32 bits")
    return Photo(
        pixels=_upright(_as_supported(pixels), orientation),
        alpha=None if alpha is None else _upright(_as_supported(alpha), orientation),
        icc=icc,
        exif=exif or None,
        format=kind,
        warnings=tuple(warnings),
        xmp=xmp or None,
        lossless=header.is_lossless,
        compressed=header.is_compressed,
        dpi=_upright_dpi(plausible_dpi(header.dpi), orientation) or plausible_dpi(stated_dpi(exif or b"")),
        parts=tuple(header.parts),
    )


def _from_cmyk(pixels: Pixels, icc: bytes | None, warnings: list[str]) -> Pixels:
    """Convert (H,W,4) CMYK to sRGB, by its profile if it has a sound one."""
    if pixels.dtype != np.uint8:
        raise ImageError(f"it is CMYK of {8 * pixels.itemsize} bits, not supported; convert it to RGB first")
    image = Image.fromarray(pixels, "CMYK")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc or b""))
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        warnings.append("it is CMYK and was converted to sRGB by its colour profile")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        converted = image.convert("RGB")
        warnings.append("it is CMYK without a usable colour profile and was converted to RGB; colours may be off")
    return np.array(converted)


def _is_sound_profile(icc: bytes) -> bool:
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(icc))
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return False
    return int.from_bytes(icc[:4], "big") <= len(icc)  # as long as it says of itself


def _as_supported(samples: Pixels) -> Pixels:
    """Return floats as float32, in the machine's byte order."""
    return samples.astype(np.float32, copy=False) if samples.dtype.kind == "f" else samples


def _upright_dpi(dpi: tuple[float, float] | None, orientation: int) -> tuple[float, float] | None:
    return dpi[::-1] if dpi and orientation >= 5 else dpi


def _upright(image: Pixels, orientation: int) -> Pixels:
    """Turn an image by its EXIF orientation; it is the caller's own then."""
    if orientation in _TURNS:
        return _TURNS[orientation](image)
    return image if image.flags.writeable and image.flags.c_contiguous else image.copy()


def _one_line(error: BaseException) -> str:
    text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
    return " ".join(text.split())[:120]
