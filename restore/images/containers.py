"""What stands around the pixels of PNG, JPEG and WebP: sizes, metadata, and whether the file is whole.

References:
    PNG, W3C, 3rd edition, 2025; JPEG, ITU-T T.81, 1992; WebP container, RFC 9649, 2024; ICC.1:2022, annex B.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from restore.errors import ImageError
from restore.images.directories import TagBlock
from restore.images.iptc import profile_segments, without_thumbnails
from restore.images.photo import COPY_AGAIN, JPEG_COMMENT, PHOTOSHOP, PNG_COLOR_CHUNKS, PNG_TEXTS

EXIF_PREFIX = b"Exif\0\0"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_PALETTE = 3  # a colour type
PNG_XMP_KEYWORD = b"XML:com.adobe.xmp"
_PNG_RAW_PROFILE = b"Raw profile type "  # EXIF and its like in hexadecimal, as older programs write it
JPEG_APP1 = 0xE1
JPEG_PARTS = {0xED: PHOTOSHOP, 0xFE: JPEG_COMMENT}
JPEG_END = 0xD9
JPEG_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_SCAN, _JPEG_APPLICATIONS = 0xDA, range(0xE0, 0xF0)
_JPEG_ICC_PREFIX = b"ICC_PROFILE\0"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # 00 and D0 to D7 belong to the coded pixels
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_MPF_NUM_IMAGES = 0xB001
_MAX_METADATA_BYTES = 2**26
_METRES_PER_INCH = 0.0254
_JFIF_INCHES = {1: 1.0, 2: 2.54}  # pixels per inch of a unit; without one, only their ratio is known


@dataclass
class Header:
    """What a file says about itself before its pixels are decoded.

    Attributes:
        width: in pixels.
        height: in pixels.
        channels: as coded: 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha (or CMYK in JPEG).
        icc: colour profile.
        exif: TIFF-structured block.
        xmp: XMP packet.
        num_pictures: in the file.
        is_lossless: whether it holds the pixels exactly.
        is_compressed: of a TIFF, whether its pixels are.
        is_truncated: whether its end is missing.
        warnings: what was found damaged and left out.
        transparent: the grey or RGB value that is transparent in a PNG without alpha.
        palette_has_alpha: whether the palette of a PNG does.
        dpi: pixels per inch across and down, as stated, even if it cannot be meant.
        parts: name and content of what is kept as it is.
    """

    width: int = 0
    height: int = 0
    channels: int = 3
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    num_pictures: int = 1
    is_lossless: bool = True
    is_compressed: bool = False
    is_truncated: bool = False
    warnings: list[str] = field(default_factory=list)
    transparent: tuple[int, ...] | None = None
    palette_has_alpha: bool = False
    dpi: tuple[float, float] | None = None
    parts: list[tuple[str, bytes]] = field(default_factory=list)


_TRANSPARENT_BYTES = {0: 2, 2: 6}  # of a PNG's transparent colour, by colour type


def read_png_header(data: bytes) -> Header:
    """Read the header of a PNG and check the checksums of all its chunks.

    Raises:
        ImageError: there is no whole header, or a chunk that matters is damaged.
    """
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ImageError(f"it is truncated within its header; {COPY_AGAIN}")
    width, height, bits, color_type = struct.unpack_from(">IIBB", data, 16)
    header = Header(width, height, channels={0: 1, 4: 2, 6: 4}.get(color_type, 3))
    header.is_truncated = True
    raw_profiles: dict[bytes, tuple[bytes, bytes]] = {}
    for kind, content, is_sound in _png_chunks(data):
        if not is_sound and not kind[0] & 0x20:  # a critical chunk
            raise ImageError(f"its data are damaged (wrong checksum); {COPY_AGAIN}")
        is_whole = kind != b"tRNS" or len(content) == _TRANSPARENT_BYTES.get(color_type, len(content))
        if not (is_sound and is_whole):
            header.warnings.append(f"the damaged part {kind.decode('latin-1')!r} was left out")
        elif kind == b"IEND":
            header.is_truncated = False
        elif kind == b"tRNS" and color_type == _PALETTE:
            header.palette_has_alpha = True
        elif kind == b"tRNS" and color_type in (0, 2):
            scale = 255 // (2**bits - 1) if bits < 8 else 1
            values = struct.unpack(">H" if color_type == 0 else ">3H", content)
            header.transparent = tuple(value % 2**bits * scale for value in values)  # the other bits mean nothing
        elif kind.decode("latin-1") in PNG_TEXTS and bytes(content[: len(_PNG_RAW_PROFILE)]) == _PNG_RAW_PROFILE:
            keyword, _, text = bytes(content).partition(b"\0")
            raw_profiles.setdefault(keyword, (kind, text))
        else:
            _note_png_metadata(header, kind, content)
    for keyword, (kind, text) in sorted(raw_profiles.items()):  # last: chunks of their own decide, wherever they stand
        _note_raw_profile(header, keyword, kind, text)
    return header


def png_pixels_only(data: bytes) -> bytes:
    """Return a PNG without its further frames and its metadata, which libpng would comment on."""
    kept, position = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    wanted = _PNG_PIXEL_CHUNKS if data[25] == _PALETTE else _PNG_PIXEL_CHUNKS - {b"tRNS"}  # which `Header` holds
    for kind, content, _ in _png_chunks(data):
        end = position + len(content) + 12
        if kind in wanted:
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Yield name, content and whether the checksum is right, up to the end or the first chunk that is not whole."""
    view, position, kind = memoryview(data), len(PNG_SIGNATURE), b""
    while kind != b"IEND" and position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            return
        checksum = struct.unpack_from(">I", data, end)[0]
        yield kind, view[position + 8 : end], zlib.crc32(view[position + 4 : end]) == checksum
        position = end + 4


def _note_png_metadata(header: Header, kind: bytes, content: memoryview) -> None:
    if kind == b"acTL" and len(content) >= 4:
        header.num_pictures = struct.unpack_from(">I", content)[0]
    elif kind == b"pHYs" and len(content) == 9 and content[8] == 1:
        header.dpi = per_inch(*struct.unpack_from(">II", content))
    elif len(content) == PNG_COLOR_CHUNKS.get(name := kind.decode("latin-1")):
        header.parts.append((name, bytes(content)))
    elif kind == b"eXIf":
        header.exif = bytes(content).removeprefix(EXIF_PREFIX)
    elif kind == b"iCCP":
        _, _, packed = bytes(content).partition(b"\0")
        header.icc = _inflate(packed[1:], header, "colour profile")
    elif kind == b"iTXt" and bytes(content[: len(PNG_XMP_KEYWORD) + 1]) == PNG_XMP_KEYWORD + b"\0":
        rest = bytes(content[len(PNG_XMP_KEYWORD) + 1 :])
        text = rest[2:].split(b"\0", 2)[-1]  # after language and translated keyword
        header.xmp = _inflate(text, header, "XMP packet") if rest[:1] == b"\1" else text
    elif name in PNG_TEXTS and not content.tobytes().startswith(PNG_XMP_KEYWORD):
        header.parts.append((name, content.tobytes()))


def _note_raw_profile(header: Header, keyword: bytes, kind: bytes, text: bytes) -> None:
    name = keyword[len(_PNG_RAW_PROFILE) :].lower()
    part = f"part {keyword[:79].decode('latin-1')!r}"  # as long as a keyword may be
    if kind == b"iTXt" or name not in (b"8bim", b"app1", b"exif", b"iptc", b"xmp"):
        header.warnings.append(f"the {part} was left out")
        return
    plain = _inflate(text[1:], header, part) if kind == b"zTXt" else text
    if plain is None:
        return
    content = _of_hexadecimal(plain)
    if not content:
        header.warnings.append(f"the damaged {part} was left out")
    elif name == b"xmp" or content.startswith(JPEG_XMP_PREFIX):
        header.xmp = header.xmp or content.removeprefix(JPEG_XMP_PREFIX)
    elif name in (b"app1", b"exif"):
        header.exif = header.exif or content.removeprefix(EXIF_PREFIX)
    elif PHOTOSHOP not in dict(header.parts):
        header.parts += [(PHOTOSHOP, segment) for segment in without_thumbnails(profile_segments(content))]


def _of_hexadecimal(text: bytes) -> bytes:
    """Return the content of a raw profile, whose text holds a name, a length and that many bytes; b"" if damaged."""
    with suppress(ValueError):
        _, length, digits = text.split(None, 2)
        content = bytes.fromhex(digits.decode("ascii"))
        return content[: int(length)] if 0 <= int(length) <= len(content) else b""
    return b""


def _inflate(packed: bytes, header: Header, name: str) -> bytes | None:
    """Decompress metadata, but never more than a sane amount."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(packed, _MAX_METADATA_BYTES)
    except zlib.error:
        content = b""
    if content and inflater.eof:
        return content
    header.warnings.append(f"the damaged {name} was left out")
    return None


def read_jpeg_header(data: bytes) -> Header:
    """Read the segments of a JPEG up to the end of its first picture; what follows is of no interest.

    Raises:
        ImageError: there is no frame, or one of 12 bits.
    """
    header = Header(is_lossless=False, is_truncated=True)
    profile: dict[int, bytes] = {}
    for marker, start, end in jpeg_segments(data):
        content = data[start:end]
        if marker == JPEG_END:
            header.is_truncated = False
        elif marker in _JPEG_FRAMES:
            bits, header.height, header.width, header.channels = struct.unpack_from(">BHHB", content.ljust(6, b"\0"))
            if bits > 8:
                raise ImageError(f"it is a {bits}-bit JPEG, not supported yet; convert it to TIFF or PNG first")
        elif marker == 0xE2 and content.startswith(_JPEG_ICC_PREFIX) and len(content) > 14:
            profile[content[12]] = content[14:]
        else:
            _note_jpeg_metadata(header, marker, content)
    header.icc = b"".join(profile[number] for number in sorted(profile)) or None
    segments = without_thumbnails([content for name, content in header.parts if name == PHOTOSHOP])
    header.parts = [part for part in header.parts if part[0] != PHOTOSHOP] + [(PHOTOSHOP, part) for part in segments]
    if not header.channels:
        raise ImageError(f"it is truncated within its header; {COPY_AGAIN}")
    return header


def _note_jpeg_metadata(header: Header, marker: int, content: bytes) -> None:
    if marker == 0xE0 and content.startswith(b"JFIF\0") and len(content) >= 12:
        unit, across, down = struct.unpack_from(">BHH", content, 7)
        inches = _JFIF_INCHES.get(unit, 0.0)
        header.dpi = across * inches, down * inches
    elif marker == JPEG_APP1 and content.startswith(EXIF_PREFIX):
        header.exif = header.exif or content[len(EXIF_PREFIX) :]
    elif marker == JPEG_APP1 and content.startswith(JPEG_XMP_PREFIX):
        header.xmp = content[len(JPEG_XMP_PREFIX) :]
    elif marker in JPEG_PARTS:
        header.parts.append((JPEG_PARTS[marker], content))
    elif marker == 0xE2 and content.startswith(b"MPF\0"):
        header.num_pictures = _num_pictures(content[4:])


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker of each segment and where its content starts and ends, up to and with the end of the picture.

    The last segment of a truncated file may end beyond the file.
    """
    position = 2
    while match := _JPEG_MARKER.search(data, position):
        marker, start = match[0][1], match.end()
        position = start
        if marker == JPEG_END:
            yield marker, start, start
            return
        if marker not in (0x01, 0xD8):
            length = int.from_bytes(data[start : start + 2], "big") if start + 2 <= len(data) else 2
            position = start + max(2, length)
            yield marker, start + 2, position


def with_jpeg_end(data: bytes) -> bytes:
    """Give a truncated JPEG an end; a segment that is not whole goes."""
    end = len(data)
    for _, start, stop in jpeg_segments(data):
        if stop > len(data):
            end = start - 4
    return data[:end] + b"\xff\xd9"


def jpeg_of_tables(tables: bytes, jpeg: bytes, color_transform: int) -> bytes:
    """Complete a JPEG as it lies in a strip or tile of a TIFF file.

    Args:
        tables: a JPEG that holds nothing but tables, or nothing.
        jpeg: the strip or tile.
        color_transform: as Adobe's segment states it, 0 for RGB and CMYK, 1 for YCbCr: that of the TIFF file counts.
    """
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([color_transform])
    return b"".join([b"\xff\xd8", adobe, _jpeg_inside(tables), _jpeg_inside(jpeg)])


def _jpeg_inside(jpeg: bytes) -> bytes:
    """Return what follows the start but segments of applications, up to the end if it holds no pixels."""
    kept, position = b"", 2
    for marker, start, end in jpeg_segments(jpeg):
        if marker == _JPEG_SCAN:
            break
        if marker == JPEG_END:
            return kept + jpeg[position : start - 2]
        kept += b"" if marker in _JPEG_APPLICATIONS else jpeg[position:end]
        position = end
    return kept + jpeg[position:]


def _num_pictures(multi_picture: bytes) -> int:
    try:
        block = TagBlock(multi_picture)
        return block.integers(block.directory(block.first)[0][_MPF_NUM_IMAGES])[0]
    except (KeyError, IndexError, ValueError):
        return 1


def read_webp_header(data: bytes) -> Header:
    """Read the chunks of a WebP file."""
    header = Header(is_lossless=False)
    header.is_truncated = struct.unpack_from("<I", data, 4)[0] + 8 > len(data)
    num_frames, position = 0, 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        content = memoryview(data)[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
        if kind == b"VP8X" and len(content) >= 10:
            header.width = 1 + int.from_bytes(content[4:7], "little")
            header.height = 1 + int.from_bytes(content[7:10], "little")
        elif kind == b"VP8L" and len(content) >= 5:
            size = int.from_bytes(content[1:5], "little")
            header.width, header.height = header.width or 1 + size % 2**14, header.height or 1 + (size >> 14) % 2**14
            header.is_lossless = True
        elif kind == b"VP8 " and len(content) >= 10:
            width, height = struct.unpack_from("<HH", content, 6)
            header.width, header.height = header.width or width % 2**14, header.height or height % 2**14
        elif kind == b"ANMF":
            header.is_lossless |= not num_frames and bytes(content[16:20]) == b"VP8L"  # behind its place
            num_frames += 1
        elif kind == b"ICCP":
            header.icc = bytes(content)
        elif kind == b"EXIF":
            header.exif = bytes(content).removeprefix(EXIF_PREFIX)
        elif kind == b"XMP ":
            header.xmp = bytes(content)
    header.num_pictures = max(1, num_frames)
    return header


def per_inch(across: int, down: int) -> tuple[float, float]:
    """Return pixels per inch of pixels per metre; whole numbers where those were rounded to these."""
    exact = across * _METRES_PER_INCH, down * _METRES_PER_INCH
    whole = float(round(exact[0])), float(round(exact[1]))
    return whole if per_metre(whole) == (across, down) else exact


def per_metre(dpi: tuple[float, float]) -> tuple[int, int]:
    """Return whole pixels per metre, across and down, of pixels per inch."""
    return round(dpi[0] / _METRES_PER_INCH), round(dpi[1] / _METRES_PER_INCH)


def with_png_metadata(
    png: bytes | memoryview,
    *,
    icc: bytes | None,
    exif: bytes | None,
    xmp: bytes | None,
    dpi: tuple[float, float] | None,
    parts: Sequence[tuple[str, bytes]],
) -> bytes:
    """Insert metadata into a PNG, right after its header as the standard asks for colours."""
    chunks = b"".join(png_chunk(name.encode("latin-1"), content) for name, content in parts)
    if dpi:
        chunks += png_chunk(b"pHYs", struct.pack(">IIB", *per_metre(dpi), 1))
    if icc:
        chunks += png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    if exif:
        chunks += png_chunk(b"eXIf", exif)
    if xmp:
        chunks += png_chunk(b"iTXt", PNG_XMP_KEYWORD + bytes(5) + xmp)
    return b"".join([png[:33], chunks, png[33:]])


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a PNG chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
