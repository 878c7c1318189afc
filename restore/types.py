"""Words that several floors share."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from restore.errors import UsageError

RECIPES = ("deblur", "deblur-fast", "denoise", "denoise-best", "denoise-fast", "denoise-lka")  # that are shipped


class Word(str, Enum):
    """A string with a fixed set of values (Python 3.10 has no StrEnum)."""

    __str__ = str.__str__


AnyWord = TypeVar("AnyWord", bound=Word)


def as_word(kind: type[AnyWord], text: str, option: str) -> AnyWord:
    """Return the word that a text is.

    Raises:
        UsageError: it is none that the option has.
    """
    if text not in list(kind):
        raise UsageError(f"{option} {text}: choose {', '.join(kind)}")
    return kind(text)


class Precision(Word):
    """The number format that a network computes in."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class FileStatus(Word):
    """What became of one input file."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    PLANNED = "planned"


class Task(Word):
    """What a network was trained to undo."""

    DENOISE = "denoise"
    DEBLUR = "deblur"


class LocalStatistics(Word):
    """Whether channel attention averages around each pixel: TLC."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Existing(Word):
    """What to do where an output file exists already."""

    REFUSE = "refuse"
    SKIP = "skip"
    OVERWRITE = "overwrite"
