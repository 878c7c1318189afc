"""Restore photographs: remove noise from a folder of them, or from one array.

>>> import numpy, restore
>>> restorer = restore.load("denoise-fast")
>>> noisy = numpy.full((32, 32, 3), 128, dtype=numpy.uint8)
>>> restorer(noisy).shape
(32, 32, 3)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restore.errors import RestoreError
    from restore.inference import Restorer, load
    from restore.pipeline import FileResult, restore_folder

__all__ = ["FileResult", "RestoreError", "Restorer", "load", "restore_folder"]
__version__ = "0.1.0"

_HOMES = {
    "FileResult": "restore.pipeline",
    "RestoreError": "restore.errors",
    "Restorer": "restore.inference",
    "load": "restore.inference",
    "restore_folder": "restore.pipeline",
}


def __getattr__(name: str) -> object:
    """Import what is asked for only then: torch takes two seconds, and `restore --help` does not need it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'restore' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  see above

    return getattr(import_module(_HOMES[name]), name)
