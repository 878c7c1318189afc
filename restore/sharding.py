"""One folder shared out among processes or machines: each does the files that fall to it, without a word between them.

Which process a file falls to depends on its name and on nothing else, so that files which come, go or fail in one shard
move nothing in another. Names that some disk takes for one name fall to one process, which sees that the second output
would replace the first: those that differ in case or accents alone, and in extensions, which --format may make alike.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from restore.errors import UsageError

# What the starters of processes call the number of a process and how many there are, the inner one first. SLURM_NTASKS
# will not do: in a batch script and in the shell of an allocation it counts tasks that srun has yet to start, beside a
# SLURM_PROCID of 0, and one process would do the first part and leave the others undone.
_STARTERS = {"torchrun": ("RANK", "WORLD_SIZE"), "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")}


@dataclass(frozen=True)
class Shard:
    """A part of a folder.

    Args:
        index: which part, counted from 0.
        count: of how many parts.
    """

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str | None, environment: Mapping[str, str] = os.environ) -> Shard:
        """Read `I/N`, or `auto` for what torchrun or srun say about this process; None is the whole.

        Raises:
            UsageError: it is neither, there are no such parts, or nothing started this process among others.
        """
        if text is None:
            return WHOLE
        if text == "auto":
            return cls._of_starter(environment)
        match = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
        if match is None:
            raise UsageError(f"shard {text}: choose auto, or the number of a part from 0 and how many, such as 0/4")
        index, count = map(int, match.groups())
        if index >= count:
            known = f"0/{count} to {count - 1}/{count}" if count else "0/1"
            raise UsageError(f"shard {text}: there is no such part; parts count from 0: choose {known}")
        return cls(index, count)

    @classmethod
    def _of_starter(cls, environment: Mapping[str, str]) -> Shard:
        for starter, (index, count) in _STARTERS.items():
            if environment.get(index) and environment.get(count):
                try:
                    return cls.parse(f"{environment[index]}/{environment[count]}")
                except UsageError as error:
                    values = f"{index}={environment[index]} and {count}={environment[count]}"
                    raise UsageError(f"shard auto: {values} are not what {starter} sets; give I/N") from error
        sought = " nor ".join(f"{' and '.join(names)} ({starter})" for starter, names in _STARTERS.items())
        raise UsageError(f"shard auto: neither {sought} are set; give I/N, such as 0/4")

    def holds(self, name: str) -> bool:
        """Return whether the file of that name falls to this part."""
        if self.count == 1:
            return True
        stem = os.path.splitext(name)[0].replace(os.sep, "/")  # noqa: PTH122  names may be any text
        key = unicodedata.normalize("NFC", stem).casefold()
        digest = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index


WHOLE = Shard()
