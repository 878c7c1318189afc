"""Decoding JPEG by libjpeg-turbo, which tells of damage, where OpenCV and Pillow fill in grey without a word."""

from __future__ import annotations

import re

import simplejpeg

from restore.images.containers import JPEG_END, jpeg_segments
from restore.images.photo import Pixels

_DAMAGE = re.compile(
    r"premature end of (data segment|JPEG file)|bad (Huffman|arithmetic) code|found marker \w+ instead of \w+|"
    r"(\d+) extraneous bytes before marker (0x(?:d[0-79a]|c4))",  # what may follow pixels, not what stands in a header
    re.IGNORECASE,
)  # as libjpeg tells of it; what else it has to say harms nothing


def decode_jpeg(data: bytes, colors: str) -> tuple[Pixels | None, str | None]:
    """Decode a JPEG of 8 bits to the values of OpenCV and Pillow.

    Args:
        data: the file.
        colors: "GRAY", "RGB" or "CMYK", the last as it is stored.

    Returns:
        (H,W) or (H,W,C) uint8, or None if it is of a kind that libjpeg-turbo does not know, as where the colours are
        of fewer pixels in an unusual way, or no JPEG; and what of it is damaged, or None.
    """
    damage = None
    try:
        return _decode(data, colors, strict=True), None
    except ValueError as error:
        found = _DAMAGE.search(str(error))
        if found and not _is_padding(data, found):
            damage = found[0]
    try:
        return _decode(data, colors, strict=False), damage
    except ValueError:
        return None, damage


def _decode(data: bytes, colors: str, *, strict: bool) -> Pixels:
    pixels: Pixels = simplejpeg.decode_jpeg(data, colors, strict=strict)
    return pixels[..., 0] if colors == "GRAY" else pixels


def _is_padding(data: bytes, damage: re.Match[str]) -> bool:
    """Whether what is too much are the same bytes up to the end of the picture, which some cameras write."""
    *_, num, marker = damage.groups()
    if num is None or int(marker, 16) != JPEG_END:
        return False
    *_, (_, end, _) = jpeg_segments(data)
    return len(set(data[end - 2 - int(num) : end - 2])) == 1
