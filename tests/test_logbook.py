"""restore.logbook: records are kept as JSON, and drawn."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restore.errors import UsageError
from restore.logbook import Logbook, read_log


def test_records_are_json_lines_and_become_curves(tmp_path: Path) -> None:
    heard: list[object] = []
    logbook = Logbook(tmp_path, tensorboard=False, on_record=heard.append)
    for step in range(3):
        logbook.write("progress", step=step, minutes=float(step), loss=1 / (step + 1), lr=0.02)
    logbook.write("progress", step=4, minutes=4.0, loss=float("nan"), lr=0.02)
    logbook.close()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert records == heard
    assert records[-1]["loss"] is None
    pixels = np.asarray(Image.open(tmp_path / "curves.png"))
    assert (pixels == (31, 95, 168)).all(-1).sum() > 100  # the lines


def test_curves_that_cannot_be_kept_leave_the_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logbook = Logbook(tmp_path, tensorboard=False, on_record=lambda _: None)
    for step in range(3):
        logbook.write("progress", step=step, minutes=float(step), loss=1.0, lr=0.02)
        logbook.close()
    drawn = (tmp_path / "curves.png").read_bytes()
    logbook.write("progress", step=3, minutes=9.0, loss=1.0, lr=0.02)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    logbook.close()
    assert (tmp_path / "curves.png").read_bytes() == drawn
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl", "curves.png"}


@pytest.mark.parametrize("left", [b'{"event": "progress", "st', b"5", b""])
def test_half_a_line_that_a_full_disk_left_spoils_no_other(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "log.jsonl").write_bytes(b'{"event": "start"}\n' + left)
    logbook = Logbook(tmp_path, tensorboard=False, on_record=lambda _: None)
    logbook.write("start", step=1)
    logbook.write("progress", step=2)
    logbook.close()
    assert [record.get("step") for record in read_log(tmp_path / "log.jsonl")] == [None, 1, 2]
    assert b"\n\n" not in (tmp_path / "log.jsonl").read_bytes()


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path, tensorboard=False, on_record=lambda _: None, writes=False)
    logbook.write("start", step=0)
    logbook.close()
    assert not list(tmp_path.iterdir())


def test_tensorboard_gets_scalars_and_pictures(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path, tensorboard=True, on_record=lambda _: None)
    logbook.write("progress", step=1, minutes=0.0, loss=0.5)
    logbook.show(torch.rand(1, 3, 8, 24), 1)
    logbook.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415  an extra

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert events.Tags()["images"]


def test_tensorboard_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"restore\[tensorboard\]"):
        Logbook(tmp_path, tensorboard=True, on_record=lambda _: None)
