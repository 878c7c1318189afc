"""IPTC captions and keywords, which lie among Photoshop's resources in a JPEG and under a tag of their own in a TIFF.

References:
    IPTC-NAA Information Interchange Model 4.2, 2014; Photoshop File Formats Specification, Adobe (image resources).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

_SEGMENT_PREFIX = b"Photoshop 3.0\0"
_RESOURCE, _IPTC = b"8BIM", 0x0404


def iptc_of_segments(segments: Iterable[bytes]) -> bytes | None:
    """Return the IPTC record in the APP13 segments of a JPEG, which go on one in the other; None without."""
    parts = (part.removeprefix(_SEGMENT_PREFIX) for part in segments if part.startswith(_SEGMENT_PREFIX))
    return iptc_of_resources(b"".join(parts))


def iptc_of_resources(resources: bytes) -> bytes | None:
    """Return the IPTC record among Photoshop's image resources; None if there is none, or none that is whole."""
    position = 0
    while resources.startswith(_RESOURCE, position) and len(resources) >= position + 12:
        number, name_bytes = struct.unpack_from(">HB", resources, position + 4)
        start = position + 6 + _even(1 + name_bytes) + 4
        num_bytes = int.from_bytes(resources[start - 4 : start], "big")
        content = resources[start : start + num_bytes]
        if number == _IPTC and content and len(content) == num_bytes:
            return content
        position = start + _even(num_bytes)
    return None


def iptc_segment(iptc: bytes) -> bytes:
    """Return the content of the APP13 segment that holds an IPTC record."""
    head = _RESOURCE + struct.pack(">HHI", _IPTC, 0, len(iptc))  # without a name
    return _SEGMENT_PREFIX + head + iptc + bytes(len(iptc) % 2)


def _even(num_bytes: int) -> int:
    return num_bytes + num_bytes % 2
