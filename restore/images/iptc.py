"""IPTC captions and keywords, which lie among Photoshop's resources in a JPEG and under a tag of their own in a TIFF.

References:
    IPTC-NAA Information Interchange Model 4.2, 2014; Photoshop File Formats Specification, Adobe (image resources).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

_SEGMENT_PREFIX = b"Photoshop 3.0\0"
_SEGMENT_BYTES = 65533
_RESOURCE, _IPTC, _IPTC_START = b"8BIM", 0x0404, b"\x1c"
_THUMBNAILS = {0x0409, 0x040C}


def iptc_of_segments(segments: Iterable[bytes]) -> bytes | None:
    """Return the IPTC record in the APP13 segments of a JPEG, which go on one in the other; None without."""
    return iptc_of_resources(_joined(segments))


def iptc_of_resources(resources: bytes) -> bytes | None:
    """Return the IPTC record among Photoshop's image resources; None if there is none, or none that is whole."""
    for number, _, start, num_bytes in _each(resources):
        content = resources[start : start + num_bytes]
        if number == _IPTC and content and len(content) == num_bytes:
            return content
    return None


def without_thumbnails(segments: Sequence[bytes]) -> list[bytes]:
    """Return APP13 segments without Photoshop's thumbnails, which show the picture as it was."""
    resources, kept, position = _joined(segments), [], 0
    for number, head, start, num_bytes in _each(resources):
        if number in _THUMBNAILS:
            kept.append(resources[position:head])
            position = start + _even(num_bytes)
    if not kept:
        return list(segments)
    others = [content for content in segments if not content.startswith(_SEGMENT_PREFIX)]
    return others + profile_segments(b"".join([*kept, resources[position:]]))


def profile_segments(profile: bytes) -> list[bytes]:
    """Return the contents of the APP13 segments, as many as it takes, that hold image resources or an IPTC record."""
    is_record = profile.startswith(_IPTC_START)
    resources = (iptc_segment(profile) if is_record else profile).removeprefix(_SEGMENT_PREFIX)
    step = _SEGMENT_BYTES - len(_SEGMENT_PREFIX)
    return [_SEGMENT_PREFIX + resources[start : start + step] for start in range(0, len(resources), step)]


def iptc_segment(iptc: bytes) -> bytes:
    """Return the content of the APP13 segment that holds an IPTC record."""
    head = _RESOURCE + struct.pack(">HHI", _IPTC, 0, len(iptc))  # without a name
    return _SEGMENT_PREFIX + head + iptc + bytes(len(iptc) % 2)


def _joined(segments: Iterable[bytes]) -> bytes:
    return b"".join(part.removeprefix(_SEGMENT_PREFIX) for part in segments if part.startswith(_SEGMENT_PREFIX))


def _each(resources: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield the number of each resource, where it and its content start, and the length that it states."""
    position = 0
    while resources.startswith(_RESOURCE, position) and len(resources) >= position + 12:
        number, name_bytes = struct.unpack_from(">HB", resources, position + 4)
        start = position + 6 + _even(1 + name_bytes) + 4
        num_bytes = int.from_bytes(resources[start - 4 : start], "big")
        yield number, position, start, num_bytes
        position = start + _even(num_bytes)


def _even(num_bytes: int) -> int:
    return num_bytes + num_bytes % 2
