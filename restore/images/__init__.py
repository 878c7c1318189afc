"""Photographs in files: find, read and write them without losing anything.

`read_photo` gives a `Photo`: the pixels at the depth of the file, upright, and what must survive beside them (alpha,
colour profile, EXIF, XMP). `write_photo` writes it whole or not at all, and says what a format cannot hold.
"""

from __future__ import annotations

from restore.images.finding import find_images
from restore.images.photo import FORMATS, Photo, from_float, to_float
from restore.images.reading import MAX_PIXELS, UNSUPPORTED, read_photo
from restore.images.writing import write_photo

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "UNSUPPORTED",
    "Photo",
    "find_images",
    "from_float",
    "read_photo",
    "to_float",
    "write_photo",
]
