"""What training draws from: sequences of pictures, parts of them, and a reader that a bad picture does not stop."""

from __future__ import annotations

import contextlib
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import PurePosixPath
from typing import Protocol

from torch import Tensor

from restore.errors import ImageError, NothingToDoError, UsageError

HELD_OUT_FRACTION = 1 / 40
NUM_NAMED = 3  # files named in a message

_BAD_FRACTION, _NUM_BAD = 0.05, 3  # of pictures that cannot be read


Picture = Tensor | tuple[Tensor, Tensor]
"""(3,H,W) of uint8 or uint16, or two of them: degraded and reference."""


class Source(Protocol):
    """A sequence of named pictures, or of pairs."""

    def __len__(self) -> int:
        """Return the number of pictures."""

    def name(self, index: int) -> str:
        """Return the name of a picture: its path below the source."""

    def read(self, index: int) -> Picture:
        """Return a picture, or degraded and reference; ImageError if it cannot be read."""

    def divide_memory(self, num_parts: int) -> None:
        """Keep a part of the decoded pictures in memory that could be kept so far, as one of several processes."""


@dataclass(frozen=True)
class Subset:
    """Some of the pictures of a source.

    Attributes:
        source: shared with the other subsets, its memory included.
        indices: in the source.
    """

    source: Source
    indices: Sequence[int]

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.indices)

    def name(self, index: int) -> str:
        """Return the name of a picture."""
        return self.source.name(self.indices[index])

    def read(self, index: int) -> Picture:
        """Return a picture as the source does."""
        return self.source.read(self.indices[index])

    def divide_memory(self, num_parts: int) -> None:
        """Keep a part of the decoded pictures in memory that could be kept so far, as one of several processes."""
        self.source.divide_memory(num_parts)


class Mixture:
    """Several sources, each drawn from with its own probability.

    A source of few pictures is repeated, so that a picture drawn uniformly comes from each with its share.

    Args:
        sources: each with its weight beside those of the others.

    Raises:
        UsageError: there are no sources, an empty one, or a weight that is not positive.
    """

    def __init__(self, sources: Sequence[tuple[Source, float]]) -> None:
        if not sources or not all(len(source) and 0 < weight < math.inf for source, weight in sources):
            raise UsageError("a mixture needs sources with pictures and positive weights; leave out the others")
        self.sources = [source for source, _ in sources]
        total = sum(weight for _, weight in sources)
        length = max(len(source) * total / weight for source, weight in sources)
        self.ends = list(accumulate(round(length * weight / total) for _, weight in sources))

    def __len__(self) -> int:
        """Return the number of pictures, repeated ones counted each time."""
        return self.ends[-1]

    def name(self, index: int) -> str:
        """Return the name of a picture."""
        source, inner = self._find(index)
        return source.name(inner)

    def read(self, index: int) -> Picture:
        """Return a picture as its source does."""
        source, inner = self._find(index)
        return source.read(inner)

    def divide_memory(self, num_parts: int) -> None:
        """Keep a part of the decoded pictures in memory that could be kept so far, as one of several processes."""
        for source in self.sources:
            source.divide_memory(num_parts)

    def _find(self, index: int) -> tuple[Source, int]:
        """Return the source that an index falls into, and which of its pictures is meant."""
        place = bisect_right(self.ends, index)
        start = self.ends[place - 1] if place else 0
        source = self.sources[place]
        return source, (index - start) * len(source) // (self.ends[place] - start)


class Tolerant:
    """Reads a source, and in place of a picture that cannot be read the next one that can.

    Attributes:
        source: the pictures.
        bad: by name, why a picture cannot be read, as far as it was tried.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.bad: dict[str, str] = {}

    def read(self, index: int) -> Picture:
        """Return a picture, or the next good one.

        Raises:
            NothingToDoError: more than 3 pictures and more than 5 % cannot be read, or none can.
        """
        for candidate in chain(range(index, len(self.source)), range(index)):
            if (name := self.source.name(candidate)) not in self.bad:
                try:
                    return self.source.read(candidate)
                except ImageError as error:
                    self.note({name: str(error)})
        raise NothingToDoError("there are no pictures to read; name a folder of photographs")

    def note(self, bad: Mapping[str, str]) -> None:
        """Take note of pictures that cannot be read.

        Raises:
            NothingToDoError: they are too many.
        """
        self.bad |= bad
        reasons = set(self.bad.values())  # one bad frame spoils many means of frames, for one reason
        num_all, num_bad = _num_distinct(self.source), len(reasons)
        if are_too_many(num_bad, num_all):
            names = some_names(sorted({reason.partition(": ")[0] for reason in reasons}))  # frames, not their means
            reason = next(iter(self.bad.values()))
            raise NothingToDoError(
                f"{num_bad} of {num_all} pictures cannot be read: {names} ({reason}); repair or remove them"
            )


def _num_distinct(source: Source) -> int:
    """Count pictures, repeated ones and frames of several means once."""
    if isinstance(source, Mixture):
        return sum(map(_num_distinct, source.sources))
    num: int = getattr(source, "num_frames", len(source))
    return num


def are_too_many(num_bad: int, num_all: int) -> bool:
    """Tell whether so many pictures cannot be read that it is no accident: all, or more than 3 and more than 5 %."""
    return num_bad == num_all or num_bad > max(_NUM_BAD, _BAD_FRACTION * num_all)


def split(source: Source, fraction: float = HELD_OUT_FRACTION) -> tuple[Source, Source]:
    """Hold every k-th picture, k = 1/fraction, out for validation; with fewer than k, the first serves both.

    Args:
        source: of photographs or pairs.
        fraction: in (0,0.5].

    Returns:
        What to train on and what to validate on.

    Raises:
        UsageError: the fraction is out of range.
    """
    if not 0 < fraction <= 0.5:
        raise UsageError(f"the fraction held out for validation is {fraction}; choose one above 0 and up to 0.5")
    step = round(1 / fraction)
    if len(source) < step:
        first = _first_readable(source)
        return source, Subset(source, range(first, first + 1))
    kept = [index for index in range(len(source)) if index % step]
    return Subset(source, kept), Subset(source, range(0, len(source), step))


def _first_readable(source: Source) -> int:
    for index in range(len(source)):
        with contextlib.suppress(ImageError):
            source.read(index)
            return index
    return 0  # whoever reads it next says what is wrong


def describe(source: Source) -> dict[str, int]:
    """Count the pictures of each first folder, `.` for those in none."""
    parts = (PurePosixPath(source.name(index)).parts for index in range(len(source)))
    return dict(Counter(part[0] if len(part) > 1 else "." for part in parts))


def some_names(names: Iterable[str]) -> str:
    """List the first few names, and say how many more there are."""
    every = list(names)
    more = len(every) - NUM_NAMED
    return ", ".join(every[:NUM_NAMED]) + (f" and {more} more" if more > 0 else "")
