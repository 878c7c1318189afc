"""The form of a pack, and reading one: a plain tar whose first member lists the others; nothing is ever extracted.

`manifest.json` holds `format`, `version`, `pictures` (name, member, bytes, sha256, width, height) and `notes`, the
licences and descriptions found beside the pictures. Pictures are PNG, JPEG or WebP without metadata, found by offset.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from restore.errors import ImageError, UsageError
from restore.images import MAX_PIXELS
from restore.images.opencv import cv2
from restore.memory import is_out_of_memory

FORMAT, VERSION = "restore-pack", 1
MANIFEST = "manifest.json"

_MAX_MANIFEST_BYTES = 2**28
_PACK_AGAIN = "copy it again, or make it anew with `restore train pack`"


@dataclass(frozen=True)
class Member:
    """A picture in a pack.

    Attributes:
        name: path of the picture below the folder that was packed.
        offset: of its bytes in the file.
        num_bytes: of the picture as it is stored.
        sha256: of these bytes, in hexadecimal.
        height: in pixels.
        width: in pixels.
    """

    name: str
    offset: int
    num_bytes: int
    sha256: str
    height: int
    width: int


def read_index(path: Path) -> list[Member]:
    """List the pictures of a pack; they are not read, so that a large pack opens at once.

    Raises:
        UsageError: the file is no pack, is truncated, or was made by a newer version.
    """
    try:
        _check_kind(path)
        with tarfile.open(path, "r:") as tar:
            places = {entry.name: (entry.offset_data, entry.size) for entry in tar}
        manifest = _read_manifest(path, places)
        return [_member(entry, places) for entry in manifest["pictures"]]
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}; check the path and its permissions") from error
    except (tarfile.TarError, KeyError, TypeError, ValueError, RecursionError, AttributeError) as error:
        raise UsageError(f"{path}: not a pack, or a damaged or truncated one; {_PACK_AGAIN}") from error


def read_member(path: Path, member: Member) -> np.ndarray[Any, Any]:
    """Decode one picture of a pack, after comparing its checksum.

    Returns:
        (H,W,3) RGB or (H,W) grey, uint8 or uint16.

    Raises:
        ImageError: its bytes are damaged, or memory is short.
    """
    try:
        with path.open("rb") as file:  # opened each time, so that any number of processes may read
            file.seek(member.offset)
            content = file.read(member.num_bytes)
    except OSError as error:
        raise ImageError(f"{path}: {member.name}: {error.strerror}; check the path and its permissions") from error
    if hashlib.sha256(content).hexdigest() != member.sha256:
        raise ImageError(f"{path}: {member.name}: the checksum (sha256) does not match; {_PACK_AGAIN}")
    try:
        pixels = decode(content)
    except ImageError as error:
        raise ImageError(f"{path}: {member.name}: {error}") from error
    if pixels is None or pixels.shape[:2] != (member.height, member.width):
        raise ImageError(f"{path}: {member.name}: not the picture that the manifest describes; {_PACK_AGAIN}")
    return pixels


def decode(content: bytes) -> np.ndarray[Any, Any] | None:
    """Decode a stored picture to (H,W,3) RGB or (H,W) grey, uint8 or uint16; None if it is none, or too large.

    Raises:
        ImageError: there is not enough memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as image:
                if image.width * image.height > MAX_PIXELS:
                    return None
                is_grey = image.mode in ("L", "1") or image.mode.startswith("I")
        color = cv2.IMREAD_GRAYSCALE if is_grey else cv2.IMREAD_COLOR_RGB
        flags = color | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except Exception as error:  # decoders raise anything on damaged content
        if is_out_of_memory(error):
            raise ImageError("there is not enough memory to decode it; free some") from error
        return None


def _check_kind(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block
        raise UsageError(f"{path}: is neither a file nor a folder; save what comes out of it first")


def _read_manifest(path: Path, places: dict[str, tuple[int, int]]) -> dict[str, Any]:
    offset, num_bytes = places[MANIFEST]
    if num_bytes > _MAX_MANIFEST_BYTES:
        raise ValueError("a manifest of that size is none of ours")
    with path.open("rb") as file:
        file.seek(offset)
        manifest = json.loads(file.read(num_bytes))
    if manifest["format"] != FORMAT:
        raise ValueError("another format")
    if manifest["version"] != VERSION:
        raise UsageError(f"{path}: a pack of version {manifest['version']!r}, this program knows {VERSION}; upgrade it")
    return dict(manifest)


def _member(entry: dict[str, Any], places: dict[str, tuple[int, int]]) -> Member:
    offset, num_bytes = places[entry["member"]]
    if num_bytes != entry["bytes"]:
        raise ValueError("a member has another size than the manifest says")
    height, width = int(entry["height"]), int(entry["width"])
    return Member(str(entry["name"]), offset, num_bytes, str(entry["sha256"]), height, width)
