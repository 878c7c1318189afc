"""The resumable state of a training run: network, moving average, optimisers, random state, time spent."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import torch

from restore.atomic import write_atomically
from restore.errors import WeightsError

NUM_KEPT = 2


def save_checkpoint(run_dir: Path, state: dict[str, Any]) -> Path:
    """Write `checkpoint-STEP.pt` atomically and keep the last two; state["step"] names it."""
    path = run_dir / f"checkpoint-{state['step']:08d}.pt"
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getbuffer())
    for old in list_checkpoints(run_dir)[:-NUM_KEPT]:
        old.unlink()
    return path


def load_checkpoint(run_dir: Path) -> dict[str, Any] | None:
    """Return the newest state that can be read, or None where the run has none yet.

    Raises:
        WeightsError: there are checkpoints and none can be read.
    """
    paths = list_checkpoints(run_dir)
    for path in reversed(paths):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # noqa: BLE001, S112  whatever damage does to an archive, the older checkpoint is the answer
            continue
        return state
    if paths:
        raise WeightsError(
            f"{paths[-1]}: damaged, like every older checkpoint of the run; start afresh in another folder"
        )
    return None


def list_checkpoints(run_dir: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted(path for path in run_dir.glob("checkpoint-*.pt") if re.fullmatch(r"checkpoint-\d{8,}\.pt", path.name))
