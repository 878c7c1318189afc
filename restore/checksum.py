"""The checksum of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

_CHUNK = 2**20


def sha256_of(*paths: Path) -> str:
    """Return the sha256, in hexadecimal, of the contents of files, one after the other.

    Raises:
        OSError: as the system says it.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
