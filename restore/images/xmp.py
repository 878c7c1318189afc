"""XMP packets, edited where they stand: what is no longer true of a restored picture goes, all else stays as it was.

References:
    XMP part 3, Adobe, 2020 (extended packets); Motion Photo format 1.0 and Ultra HDR 1.1, Android.
"""

from __future__ import annotations

import re

_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))[2-8]")
_CLAIMS = (
    (rb"http://ns\.google\.com/photos/1\.0/camera/", rb"MotionPhoto|MicroVideo(?:Offset)?", "a video"),
    (rb"http://ns\.adobe\.com/hdr-gain-map/1\.0/", rb"Version", "a gain map"),
    (rb"http://ns\.google\.com/photos/(?:dd/)?1\.0/container/", rb"Directory", "further items"),
    (rb"http://ns\.adobe\.com/xmp/note/", rb"HasExtendedXMP", "a further packet"),
)  # namespace and properties by which a file holds more than its picture
_MAX_PREFIXES = 8  # of one namespace; no program declares more than one

# A property of a name is an attribute or an element, and one that is 0 claims nothing.
_DECLARED = rb"xmlns:([\w.-]+)\s*=\s*[\"']%b[\"']"
_CLAIM = rb"\s%b\s*=(?!\s*[\"']0[\"'])|<%b(?:\s[^<>]*)?>(?!\s*0\s*<)"
_ATTRIBUTE = rb"\s%b\s*=\s*(?![\"']0[\"'])(?:\"[^\"<]*\"|'[^'<]*')"
_ELEMENT = rb"<(%b)(?:\s[^<>]*)?(?:/>|(?<!/)>(?!\s*0\s*<)(?:(?!<\1[\s/>]).)*?</\1\s*>)"


def upright_xmp(xmp: bytes) -> bytes:
    """Return a packet that states orientation 1, if it states any."""
    return _ORIENTATION.sub(rb"\g<1>1", xmp)


def without_claims(xmp: bytes, warnings: list[str]) -> bytes:
    """Take out of a packet what it says of videos, gain maps and the like beside the picture, which are not read.

    It stays well-formed; where that is not certain, it stays as it is. `warnings` gets a line on either.
    """
    told, stays = [], False
    for namespace, properties, what in _CLAIMS:
        prefixes = sorted(set(re.findall(_DECLARED % namespace, xmp)))[:_MAX_PREFIXES]
        name = rb"(?:%b):(?:%b)" % (b"|".join(map(re.escape, prefixes)), properties)
        claim = re.compile(_CLAIM % (name, name))
        if not prefixes or not claim.search(xmp):
            continue
        told.append(what)
        if b"<!" not in xmp:  # in comments and the like, tags are none
            xmp = re.sub(_ATTRIBUTE % name, b"", xmp)
            xmp = re.sub(_ELEMENT % name, b"", xmp, flags=re.DOTALL)
        stays |= claim.search(xmp) is not None
    if told:
        remark = ", and that of the result will, too" if stays else ""
        warnings.append(f"its XMP tells of {' and '.join(told)}{remark}; only the picture is read")
    return xmp
