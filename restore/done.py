"""What a folder of outputs remembers of their making, so that a rerun keeps what is done and redoes what would differ.

The folder holds one more file, hidden, with a line of JSON for each output: `output` (relative to the folder) and its
`sha256`, that of the output it `replaces`, that of its `inputs`, its `source`, `made_by` (command, checksum of the
weights, settings) and the `version` of this program. The last line for an output counts. It is there before the output
is: whenever a run is killed, what stands there is known. Times of files and the version decide nothing.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import restore
from restore.checksum import sha256_of
from restore.planning import Job

FILE_NAME = ".restore-done.jsonl"

_LONGEST_LINE = 2**20


class Kept(enum.Enum):
    """Why an output that exists is kept."""

    DONE = "done already"
    UNKNOWN = "the output exists, and how it was made is not recorded"
    CHANGED = "the output was changed since it was made"
    OTHER = (
        "it was made of another file, or by another command, and is kept; choose another folder or remove the output"
    )
    STALE = "it would be made otherwise now, but was changed since and is kept; remove the output to have it made anew"


class DoneRecords:
    """The records of one folder of outputs, which a run reads and adds to.

    Several runs may add at once. What cannot be read counts as not recorded.

    Args:
        folder: of the outputs; None to remember nothing.
        made_by: what decides how the outputs look, as JSON can hold it, and the `command`. What only concerns how that
            is computed, such as the device or the tiles, does not belong here.
        inputs: by the source of a job, all files that its output is made from, where that is not the source alone.
    """

    def __init__(
        self, folder: Path | None, made_by: Mapping[str, Any], inputs: Mapping[Path, Sequence[Path]] | None = None
    ) -> None:
        self.path = None if folder is None else folder / FILE_NAME
        self.made_by = json.loads(json.dumps(made_by, default=float))  # NumPy has numbers of its own
        self.inputs = inputs or {}
        self._places: dict[int, int] | None = None  # of the lines in the file, by hashes: outputs may be a million
        self._checksums: dict[int, str] = {}  # of the inputs, by the numbers of jobs

    def why_kept(self, job: Job) -> Kept | None:
        """Return why the output of a job, which exists, is kept; None to make it anew."""
        record = self._find(job)
        if record is None:
            return Kept.UNKNOWN
        own = self._checksum_of_output(job)
        # a job that was begun has read its inputs
        inputs = self._checksums.get(job.number) or self._checksum_of_inputs(job)
        is_same_input = record.get("inputs") == inputs
        is_of_now = is_same_input and record.get("made_by") == self.made_by
        if own is None:
            return Kept.CHANGED if is_of_now else Kept.STALE
        if is_of_now and own == record.get("sha256"):
            return Kept.DONE
        is_of_source = is_same_input or record.get("source") == _absolute(job.source)
        return None if is_of_source and self._is_by_this_command(record) else Kept.OTHER

    def begin(self, job: Job) -> None:
        """Take the checksum of the inputs, before they are read: what changes meanwhile is made anew next time."""
        if self.path is not None and (found := self._checksum_of_inputs(job)) is not None:
            self._checksums[job.number] = found

    def add(self, job: Job, content: bytes | memoryview) -> None:
        """Record what is about to be written as the output of a job, which was begun.

        Raises:
            OSError: the file of the records cannot be written.
        """
        if self.path is None:
            return
        record = {
            "output": _name(job, self.path),
            "sha256": hashlib.sha256(content).hexdigest(),
            "replaces": self._checksum_of_output(job),
            "inputs": self._checksums.pop(job.number, None),
            "source": _absolute(job.source),
            "made_by": self.made_by,
            "version": restore.__version__,
        }
        with _open(self.path, "ab") as file:
            file.write(b"\n" + json.dumps(record).encode())  # a run that was killed may have left half a line

    def _is_by_this_command(self, record: Mapping[str, Any]) -> bool:
        made_by = record.get("made_by")
        return isinstance(made_by, dict) and made_by.get("command") == self.made_by.get("command")

    def _checksum_of_inputs(self, job: Job) -> str | None:
        return _checksum(self.inputs.get(job.source, [job.source]))

    def _checksum_of_output(self, job: Job) -> str | None:
        """Return the sha256 of the output that stands there, if it is as this program wrote it."""
        found = None if job.target.is_symlink() else _checksum([job.target])
        record = None if found is None else self._find(job)
        return found if record and found in (record.get("sha256"), record.get("replaces")) else None

    def _find(self, job: Job) -> dict[str, Any] | None:
        if self.path is None:
            return None
        if self._places is None:
            self._places = _places_of_records(self.path)
        name = _name(job, self.path)
        place = self._places.get(hash(name))
        if place is None:
            return None
        record: dict[str, Any] = {}
        with contextlib.suppress(OSError), _open(self.path, "rb") as file:  # somebody may remove it meanwhile
            file.seek(place)
            record = _parse(file.readline(_LONGEST_LINE))
        return record if record.get("output") == name else None


NO_RECORDS = DoneRecords(None, {})


def _name(job: Job, records: Path) -> str:
    return job.target.relative_to(records.parent).as_posix()


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  a link has its own name


def _places_of_records(path: Path) -> dict[int, int]:
    """Return the place of the last record of each output in the file, by the hash of its name."""
    places, place = {}, 0
    with contextlib.suppress(OSError), _open(path, "rb") as file:
        while line := file.readline(_LONGEST_LINE):  # of others, lines may have any length
            places[hash(_parse(line).get("output"))] = place
            place += len(line)
    return places


def _parse(line: bytes) -> dict[str, Any]:
    """Return the record on a line; an empty one for what is none."""
    with contextlib.suppress(ValueError, RecursionError):  # JSON of others
        record = json.loads(line)
        if isinstance(record, dict) and isinstance(record.get("output"), str):
            return record
    return {}


def _open(path: Path, mode: str) -> IO[bytes]:
    """Open a file, but nothing else: links lead to files of others, and a pipe waits for who is at its other end."""
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise OSError(errno.EEXIST, "a link, a folder or a pipe is in its place")
    return path.open(mode)


def _checksum(paths: Sequence[Path]) -> str | None:
    """Return the sha256 of the contents of files, one after the other; None where one cannot be read."""
    try:
        if not all(path.is_file() for path in paths):  # to open a pipe waits for who writes to it
            return None
        return sha256_of(*paths)
    except OSError:
        return None
