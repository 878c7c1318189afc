"""The resumable state of a training run on disk: whole or in pieces, atomic, the last two kept."""

from __future__ import annotations

import io
import re
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from restore.atomic import write_atomically
from restore.errors import WeightsError
from restore.memory import is_out_of_memory

NUM_KEPT = 2

_NAME = re.compile(r"(checkpoint|stable)-(\d{8,})\.pt(?:\.(\d+)of(\d+))?")


def save_checkpoint(
    run_dir: Path, state: dict[str, Any], *, kind: str = "checkpoint", max_bytes: int | None = None
) -> Path:
    """Write `KIND-STEP.pt`; of earlier ones of its kind, pieces of killed runs among them, the last whole one stays.

    Args:
        run_dir: folder of the run.
        state: tensors and plain types; state["step"] names it.
        kind: `checkpoint`, or `stable` for the one before the learning rate falls.
        max_bytes: largest file; a larger state is cut into `KIND-STEP.pt.1of3` and so on, which count once all are
            there.

    Returns:
        The path without the numbers of pieces.

    Raises:
        OSError: as the system says it; older checkpoints stay.
    """
    path = run_dir / f"{kind}-{state['step']:08d}.pt"
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    written = [path]
    if max_bytes is None or len(content) <= max_bytes:
        write_atomically(path, content)
    else:
        num = -(-len(content) // max_bytes)
        written = [path.with_name(f"{path.name}.{index + 1}of{num}") for index in range(num)]
        for index, piece in enumerate(written):
            write_atomically(piece, content[index * max_bytes : (index + 1) * max_bytes])
    kept = [old for old in list_checkpoints(run_dir, kind) if step_of(old) < state["step"]][1 - NUM_KEPT :]
    for old in _named(run_dir, kind):
        if step_of(old) < state["step"] and old not in kept:
            _remove(old)
    for stale in {path, *_all_pieces(path)}.difference(written):  # of the same step, cut in another way
        stale.unlink(missing_ok=True)
    return path


def discard_later(run_dir: Path, step: int) -> None:
    """Remove the checkpoints after a step, whole or not: the run goes on from there."""
    for path in _named(run_dir, "checkpoint"):
        if step_of(path) > step:
            _remove(path)


def load_checkpoint(run_dir: Path, kind: str = "checkpoint") -> dict[str, Any] | None:
    """Return the newest state of a kind that can be read, or None where the run has none yet.

    Raises:
        WeightsError: there are checkpoints, and all are damaged.
        PermissionError: one may not be read.
        MemoryError: or as torch says it; an older one is no answer to that.
    """
    paths = list_checkpoints(run_dir, kind)
    for path in reversed(paths):
        if (state := _read(path)) is not None:
            return state
    if paths:
        raise WeightsError(
            f"{paths[-1]}: damaged or incomplete, like every older one of the run; start afresh in another folder"
        )
    return None


def is_damaged(path: Path) -> bool:
    """Return whether `load_checkpoint` passes a checkpoint over; it raises the same."""
    return _read(path) is None


def list_checkpoints(run_dir: Path, kind: str = "checkpoint") -> list[Path]:
    """Return the checkpoints of a run, oldest first, those in pieces by the name of the whole."""
    return [path for path in _named(run_dir, kind) if path.exists() or _complete_pieces(path)]


def _named(run_dir: Path, kind: str) -> list[Path]:
    """Return the checkpoints of which there is anything, oldest first, by the name of the whole."""
    wholes = {
        path.with_name(f"{found[1]}-{found[2]}.pt")
        for path in run_dir.glob(f"{kind}-*.pt*")
        if (found := _NAME.fullmatch(path.name)) and path.is_file()
    }
    return sorted(wholes, key=step_of)


def _read(path: Path) -> dict[str, Any] | None:
    """Return the state in a checkpoint; None where it is damaged."""
    try:
        content = _open(path)
        if zipfile.ZipFile(content).testzip() is not None:  # torch does not look at the checksums
            return None
        content.seek(0)
        state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damage does to an archive, the older checkpoint is the answer
        if is_out_of_memory(error) or isinstance(error, PermissionError):
            raise
        return None
    return state


def _open(path: Path) -> io.BytesIO:
    if path.exists():
        return io.BytesIO(path.read_bytes())
    return io.BytesIO(b"".join(piece.read_bytes() for piece in _complete_pieces(path)))


def _complete_pieces(path: Path) -> list[Path]:
    """Return the pieces of a checkpoint in their order; none where one of them is missing."""
    by_total: dict[int, dict[int, Path]] = defaultdict(dict)
    for piece in _all_pieces(path):
        found = _NAME.fullmatch(piece.name)
        assert found is not None
        by_total[int(found[4])][int(found[3])] = piece
    complete = (pieces for total, pieces in by_total.items() if sorted(pieces) == list(range(1, total + 1)))
    return [piece for _, piece in sorted(next(complete, {}).items())]


def _all_pieces(path: Path) -> list[Path]:
    return [piece for piece in path.parent.glob(f"{path.name}.*of*") if _NAME.fullmatch(piece.name)]


def _remove(path: Path) -> None:
    for file in [path, *_all_pieces(path)]:
        file.unlink(missing_ok=True)


def step_of(path: Path) -> int:
    """Return the step of a checkpoint, by its name."""
    return int(path.stem.split("-")[1])
