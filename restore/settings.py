"""Tables of settings, as recipes have them: typed, frozen, and clear about what they do not know."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """A frozen table of settings; an unknown one is refused, with the nearest that exists."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _name_the_nearest(cls, values: Any) -> Any:  # noqa: ANN401  whatever the file holds
        if isinstance(values, Mapping):
            for key in values:
                if key not in cls.model_fields:
                    raise ValueError(unknown(key, cls.model_fields))
        return values


def unknown(word: object, known: Iterable[str], kind: str = "setting") -> str:
    """Say that there is no such word, and name the nearest or all there are.

    >>> unknown("optimizer", ["loss", "optimiser"])
    "unknown setting 'optimizer'; did you mean optimiser?"
    """
    names = list(known)
    near = difflib.get_close_matches(str(word), names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
    return f"unknown {kind} {word!r}; {hint}"
