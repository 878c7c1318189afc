"""restore.images.finding: every photograph once, in order, and nothing that blocks or leads astray."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from restore.images import find_images


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root: Path, **options: Path) -> tuple[list[str], dict[str, str]]:
    skipped: dict[str, str] = {}

    def on_skip(path: Path, reason: str) -> None:
        skipped[path.relative_to(root).as_posix()] = reason

    names = [path.relative_to(root).as_posix() for path in find_images(root, on_skip=on_skip, **options)]
    return names, skipped


def test_order_is_that_of_sorted_paths(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a/z.JPG", "a/b/c.tiff", "a.webp", "c/d.PPM", "é.bmp", "e\u0301.bmp", "B.png")
    names, _ = found(tmp_path)
    assert names == [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert len(names) == 8


def test_what_is_no_photograph_is_passed_over_and_said(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "Thumbs.db", ".hidden.png", ".cache/b.png", "notes.txt", "more.zip", "no_suffix")
    touch(tmp_path, ".restore-0-1-2.partial", "raw.NEF", "phone.heic")
    names, skipped = found(tmp_path)
    assert names == ["a.png", "phone.heic", "raw.NEF"]
    assert skipped == {
        "Thumbs.db": "not a picture by its suffix",
        ".hidden.png": "hidden",
        ".cache": "hidden",
        "notes.txt": "not a picture by its suffix",
        "more.zip": "an archive; unpack it first",
        "no_suffix": "not a picture by its suffix",
        ".restore-0-1-2.partial": "hidden",
    }


def test_links_end_and_stay_inside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root, "a/x.png")
    touch(outside, "y.png")
    (root / "a/loop").symlink_to(root)
    (root / "b").symlink_to(root / "a")
    (root / "out").symlink_to(outside)
    (root / "out.png").symlink_to(outside / "y.png")
    (root / "same.png").symlink_to(root / "a/x.png")
    (root / "broken.png").symlink_to(root / "gone.png")
    (root / "broken-out.png").symlink_to(outside / "gone.png")
    (root / "itself.png").symlink_to(root / "itself.png")
    names, skipped = found(root)
    assert names == ["a/x.png", "same.png"]
    assert skipped.keys() == {"a/loop", "b", "out", "out.png", "broken.png", "broken-out.png", "itself.png"}
    assert skipped["a/loop"] == skipped["b"] == "a link to a folder that is searched itself"
    assert skipped["broken-out.png"] == skipped["broken.png"] == skipped["itself.png"] == "a broken link"
    assert skipped["out"] == skipped["out.png"] == "a link out of the folder"


def test_a_real_folder_is_searched_and_not_the_link_to_it_that_comes_first(tmp_path: Path) -> None:
    touch(tmp_path, "originals/x.png")
    (tmp_path / "best").symlink_to(tmp_path / "originals")
    names, skipped = found(tmp_path)
    assert names == ["originals/x.png"]
    assert skipped == {"best": "a link to a folder that is searched itself"}


def test_a_link_to_a_hidden_folder_is_told_as_such(tmp_path: Path) -> None:
    touch(tmp_path, ".store/x.png")
    (tmp_path / "2024").symlink_to(tmp_path / ".store")
    assert found(tmp_path) == ([], {".store": "hidden", "2024": "a link to a hidden folder"})


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path / "real", "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert list(find_images(tmp_path / "link")) == [tmp_path / "link" / "a.png"]


def test_pipes_and_sockets_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png"))
        names, skipped = found(tmp_path)
    assert names == []
    assert skipped == {"pipe.png": "not a regular file", "s.png": "not a regular file"}


def test_the_output_inside_the_input_is_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/a.png")
    names, skipped = found(tmp_path, exclude=tmp_path / "b" / ".." / "out")
    assert names == ["a.png"]
    assert "out" in skipped


def test_an_output_that_is_the_input_leaves_nothing_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b/c.png")
    assert found(tmp_path, exclude=tmp_path / "b" / "..") == (["a.png", "b/c.png"], {})


def test_an_output_made_during_the_search_is_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    names = []
    for path in find_images(tmp_path, exclude=tmp_path / "z"):
        names.append(path.name)
        touch(tmp_path, f"z/{path.name}")
    assert names == ["a.png", "b.png"]


def test_folders_that_cannot_be_listed_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/x.png", "b/y.png")
    listdir = os.listdir

    def deny(path: Path) -> list[str]:
        if path.name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", deny)
    assert found(tmp_path) == (["b/y.png"], {"a": "cannot be read: Permission denied"})


def test_a_file_stands_for_itself(tmp_path: Path) -> None:
    touch(tmp_path, "odd.name")
    assert list(find_images(tmp_path / "odd.name")) == [tmp_path / "odd.name"]


def test_odd_names(tmp_path: Path) -> None:
    touch(tmp_path, os.fsdecode(b"\xff\xfe.png"), "line\nbreak.png", "-dash.png", "\x1b[31m.png")
    assert len(found(tmp_path)[0]) == 4
