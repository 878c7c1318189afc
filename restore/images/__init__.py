"""Photographs in files: find, read and write them.

`read_photo` gives a `Photo`: the pixels at the depth of the file, upright, and what must survive beside them (alpha,
the meaning of colours, resolution, EXIF, XMP, IPTC). `write_photo` writes it whole or not at all, and says what of it a
format cannot hold; what a `Photo` does not hold at all is listed in `restore.images.writing`.
"""

from __future__ import annotations

from restore.images.finding import HIDDEN, KEPT_APART, UNREADABLE, find_images
from restore.images.photo import FORMATS, Photo, from_float, to_float
from restore.images.reading import MAX_PIXELS, UNSUPPORTED, may_be_read, read_photo
from restore.images.writing import write_photo

__all__ = [
    "FORMATS",
    "HIDDEN",
    "KEPT_APART",
    "MAX_PIXELS",
    "UNREADABLE",
    "UNSUPPORTED",
    "Photo",
    "find_images",
    "from_float",
    "may_be_read",
    "read_photo",
    "to_float",
    "write_photo",
]
