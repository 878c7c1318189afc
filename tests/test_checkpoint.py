"""restore.checkpoint: the last two states are kept, and damage to the newest falls back to the one before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from restore.checkpoint import discard_later, list_checkpoints, load_checkpoint, save_checkpoint
from restore.errors import WeightsError


def test_the_last_two_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    for step in (1, 20, 300):
        save_checkpoint(tmp_path, {"step": step})
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-00000020.pt", "checkpoint-00000300.pt"]
    assert load_checkpoint(tmp_path) == {"step": 300}


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"step": 1})
    newest = save_checkpoint(tmp_path, {"step": 2})
    newest.write_bytes(newest.read_bytes()[:100])
    assert load_checkpoint(tmp_path) == {"step": 1}
    for path in list_checkpoints(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(WeightsError, match="damaged"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_with_a_changed_byte_falls_back_too(tmp_path: Path) -> None:
    weights = torch.zeros(1000)
    save_checkpoint(tmp_path, {"step": 1, "weights": weights})
    newest = save_checkpoint(tmp_path, {"step": 2, "weights": weights + 0.5})
    content = bytearray(newest.read_bytes())
    place = content.index((weights + 0.5).numpy().tobytes())
    content[place + 43] ^= 0x40
    newest.write_bytes(content)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1


def test_a_folder_of_a_checkpoint_s_name_is_none(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-00000001.pt").mkdir()
    assert load_checkpoint(tmp_path) is None
    for step in (2, 3, 4):
        save_checkpoint(tmp_path, {"step": step})
    assert load_checkpoint(tmp_path) == {"step": 4}
    assert (tmp_path / "checkpoint-00000001.pt").is_dir()


@pytest.mark.parametrize("error", [MemoryError(), PermissionError(13, "Permission denied")])
def test_a_checkpoint_that_could_be_read_another_time_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, {"step": step})
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "checkpoint-00000002.pt":
            raise error
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(type(error)):
        load_checkpoint(tmp_path)


def test_a_save_that_fails_leaves_the_previous_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, {"step": 1})

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, {"step": 2})
    assert load_checkpoint(tmp_path) == {"step": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_large_state_is_cut_into_pieces_and_read_back(tmp_path: Path) -> None:
    values = torch.rand(5000, generator=torch.Generator().manual_seed(0))
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, {"step": step, "values": values}, max_bytes=8000)
    pieces = sorted(path.name for path in tmp_path.iterdir())
    assert pieces[0] == "checkpoint-00000002.pt.1of3"
    assert len(pieces) == 6  # two states
    assert all(path.stat().st_size <= 8000 for path in tmp_path.iterdir())
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 3
    assert torch.equal(loaded["values"], values)
    (tmp_path / "checkpoint-00000003.pt.2of3").unlink()
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 2


def test_pieces_of_two_cuts_do_not_mix_and_incomplete_ones_do_not_count(tmp_path: Path) -> None:
    values = torch.rand(5000, generator=torch.Generator().manual_seed(0))
    save_checkpoint(tmp_path, {"step": 1, "values": values}, max_bytes=8000)
    save_checkpoint(tmp_path, {"step": 1, "values": values}, max_bytes=15000)
    assert sorted(path.name[-4:] for path in tmp_path.iterdir()) == ["1of2", "2of2"]
    (tmp_path / "stable-00000001.pt.1of3").write_bytes(b"half")
    assert load_checkpoint(tmp_path, "stable") is None
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded["values"], values)


def test_what_came_later_can_be_discarded(tmp_path: Path) -> None:
    for step in (8, 9):
        save_checkpoint(tmp_path, {"step": step})
    discard_later(tmp_path, 8)
    save_checkpoint(tmp_path, {"step": 10})
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-00000008.pt", "checkpoint-00000010.pt"]


def test_pieces_that_a_killed_run_left_go_with_the_states_of_their_time(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, {"step": step})
    leftovers = [tmp_path / f"checkpoint-0000000{step}.pt.{piece}of3" for step, piece in ((3, 1), (3, 2), (9, 1))]
    for leftover in leftovers:
        leftover.write_bytes(b"a third")
    save_checkpoint(tmp_path, {"step": 4})
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-00000002.pt", "checkpoint-00000004.pt"]
    assert [leftover.exists() for leftover in leftovers] == [False, False, True]  # the last may be on its way here
    discard_later(tmp_path, 4)
    assert not leftovers[2].exists()
    assert load_checkpoint(tmp_path) == {"step": 4}


def test_an_earlier_state_is_kept_beside_later_ones(tmp_path: Path) -> None:
    for step in (8, 9, 3):
        save_checkpoint(tmp_path, {"step": step})
    discard_later(tmp_path, 3)
    assert load_checkpoint(tmp_path) == {"step": 3}


def test_kinds_do_not_mix(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"step": 7}, kind="stable")
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path, "stable") == {"step": 7}
