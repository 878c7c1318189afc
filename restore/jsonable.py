"""What JSON can hold."""

from __future__ import annotations

import math
from typing import Any


def jsonable(value: Any) -> Any:  # noqa: ANN401  any JSON type
    """Return a document without NaN, Infinity (they become null) and bytes of file names that are no text."""
    if isinstance(value, dict):
        return {jsonable(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):  # half a surrogate pair stands for a byte of a file name; strict parsers refuse it
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value
