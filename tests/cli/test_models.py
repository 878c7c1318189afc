"""`restore models` says what is shipped and what a weight file says of itself, and fetches the weights of metrics."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from restore import fetching
from restore.cli import console, models
from restore.weights import CATALOGUE, load_weights, save_weights

from .conftest import Restore, one_line_error


def test_the_list_has_task_size_scores_and_licences(restore: Restore) -> None:
    finished = restore("models")
    assert finished.returncode == 0, finished.stderr
    for word in (*CATALOGUE, "denoise", " M", " MB", "CC0", "research use", "CBSD68".lower()):
        assert word in finished.stdout
    assert max(map(len, finished.stdout.splitlines())) <= 80


def test_a_narrow_terminal_cuts_nothing_off_the_list(restore: Restore) -> None:
    assert "…" not in restore("models", env={"COLUMNS": "40"}).stdout


def test_the_list_names_what_averages_over_orientations_and_equal_data_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, info = load_weights("denoise-fast")
    for name in ("denoise", "denoise-best"):
        save_weights(tmp_path / f"{name}.safetensors", network, {**info.document, "name": name, "ensemble": 2})
    monkeypatch.setattr("restore.weights.shipped_folder", lambda: tmp_path)
    monkeypatch.setattr(
        "restore.weights.CATALOGUE", {"denoise": "denoise.safetensors", "b": "denoise-best.safetensors"}
    )
    listed = CliRunner().invoke(models.app, [])
    assert listed.exit_code == 0
    assert "denoise-best restores a picture in 2 orientations" in listed.stdout
    assert listed.stdout.count("training data of") == 1
    assert "training data of denoise, denoise-best:" in listed.stdout


def test_the_list_and_one_entry_agree_in_json(restore: Restore) -> None:
    listed = json.loads(restore("models", "--json").stdout)["models"]
    assert [model["name"] for model in listed] == list(CATALOGUE)
    shown = json.loads(restore("models", "show", "denoise-fast", "--json").stdout)
    assert shown["scores"] == next(model["scores"] for model in listed if model["name"] == "denoise-fast")
    assert shown["training"]["steps"] > 0


def test_a_file_that_is_no_weights_is_refused(restore: Restore, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"x")
    finished = restore("models", "show", "a.safetensors")
    assert (finished.returncode, finished.stderr.count("\n")) == (4, 1)
    assert "a.safetensors" in finished.stderr


def test_an_unknown_name_to_fetch_gets_the_nearest_and_nothing_is_fetched(restore: Restore, tmp_path: Path) -> None:
    finished = restore("models", "fetch", "lpips-squeeze", "lpips-alx", "--weights-dir", "w")
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1)
    assert "did you mean lpips-alex?" in finished.stderr
    assert not (tmp_path / "w").exists()


def test_fetch_says_in_one_line_that_the_address_does_not_answer(restore: Restore) -> None:
    closed = {"https_proxy": "http://127.0.0.1:9", "no_proxy": ""}  # nobody listens there, and nothing leaves this host
    finished = restore("models", "fetch", "lpips-squeeze", "--weights-dir", "w", env=closed)
    assert (finished.returncode, finished.stderr.count("\n")) == (4, 1)
    assert "squeezenet1_1-b8a52dc0.pth" in finished.stderr
    assert "by hand" in finished.stderr


class TestFetchingInProcess:
    """The command with a download that is not one."""

    @pytest.fixture(autouse=True)
    def _no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fetch(name: str, folder: Path, on_progress: fetching.OnProgress) -> Path:
            for done in (0, 2_000_000, 4_958_839):
                on_progress(done, None)
            return folder / fetching.entry(name).file_name

        monkeypatch.setattr(fetching, "fetch", fetch)
        monkeypatch.setattr(models, "SECONDS_BETWEEN_LINES", 0.0)

    def test_plain_lines_off_a_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        models.fetch(["lpips-squeeze", "lpips-squeeze"], Path("here"))
        out, err = capsys.readouterr()
        assert out.split() == [str(Path("here/squeezenet1_1-b8a52dc0.pth"))]
        assert "downloading https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth (5.0 MB)\n" in err
        assert "squeezenet1_1-b8a52dc0.pth: 2.0 MB\n" in err

    def test_a_bar_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        screen = Console(file=io.StringIO(), force_terminal=True, width=120)
        monkeypatch.setattr(console, "_err", screen)
        monkeypatch.setattr(console, "is_terminal", lambda: True)
        models.fetch(["lpips-squeeze"], Path("here"))
        drawn = screen.file.getvalue()  # type: ignore[attr-defined]
        assert "━━━━━━━━━━━━━━━━" in drawn
        assert "2.0 MB\n" not in drawn


def test_json_before_a_command_is_refused(restore: Restore) -> None:
    one_line_error(restore("models", "--json", "show", "denoise"), 2, "restore models show … --json")
