"""`restore models` says what is shipped, and what a weight file says of itself."""

from __future__ import annotations

import json
from pathlib import Path

from restore.weights import CATALOGUE

from .conftest import Restore


def test_the_list_has_task_size_scores_and_licences(restore: Restore) -> None:
    finished = restore("models")
    assert finished.returncode == 0, finished.stderr
    for word in (*CATALOGUE, "denoise", " M", " MB", "CC0", "research use", "CBSD68".lower()):
        assert word in finished.stdout
    assert max(map(len, finished.stdout.splitlines())) <= 80


def test_the_list_and_one_entry_agree_in_json(restore: Restore) -> None:
    listed = json.loads(restore("models", "--json").stdout)["models"]
    assert [model["name"] for model in listed] == list(CATALOGUE)
    shown = json.loads(restore("models", "show", "denoise-fast", "--json").stdout)
    assert shown["scores"] == listed[0]["scores"]
    assert shown["training"]["steps"] > 0


def test_a_file_that_is_no_weights_is_refused(restore: Restore, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"x")
    finished = restore("models", "show", "a.safetensors")
    assert (finished.returncode, finished.stderr.count("\n")) == (4, 1)
    assert "a.safetensors" in finished.stderr
