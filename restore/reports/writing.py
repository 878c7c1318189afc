"""Reports and statistics into files."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from restore.atomic import write_atomically
from restore.errors import OutputError, UsageError
from restore.reports.documents import Provenance, as_csv, as_json
from restore.reports.page import as_html
from restore.scoring import ScoreReport


def write_reports(
    reports: Sequence[ScoreReport],
    made: Provenance,
    *,
    json_file: Path | None = None,
    csv_file: Path | None = None,
    html_file: Path | None = None,
    num_shown: int = 5,
) -> None:
    """Write what is asked for, each file whole or not at all.

    Args:
        reports: of one set of references; the first is what the others are compared with.
        made: date, versions and options.
        json_file: see `as_document`.
        csv_file: see `as_csv`.
        html_file: see `as_html`.
        num_shown: pairs of the worst and of the best to show with pictures.

    Raises:
        OutputError: a file cannot be written.
    """
    if json_file:
        _write(json_file, as_json(reports, made))
    if csv_file:
        _write(csv_file, as_csv(reports, made))
    if html_file:
        _write(html_file, as_html(reports, made, num_shown=num_shown))


def save_statistics(path: Path, reports: Sequence[ScoreReport]) -> list[Path]:
    """Save the FID statistics of the references of the first report, and of the restored pictures of all.

    Those of shards gather in folders that `load_statistics` reads: stats/0.safetensors and stats/LABEL/0.safetensors.

    Args:
        path: for the references; the others go under the same name into a folder beside it, called as the report.
        reports: all with statistics.

    Returns:
        The files written.

    Raises:
        UsageError: two of them would have the same name.
        OutputError: one cannot be written.
    """
    targets = statistics_files(path, [report.label for report in reports])
    assert all(report.statistics for report in reports), "no statistics to save"
    found = [statistics for report in reports for statistics in report.statistics or ()]
    for target, statistics in zip(targets, (found[0], *found[1::2]), strict=True):
        if target != path:
            _make_folder(target.parent)
        statistics.save(target)
    return targets


def statistics_files(path: Path, labels: Sequence[str]) -> list[Path]:
    """Return where `save_statistics` puts those of the references, and of each folder by its label.

    Raises:
        UsageError: two of them would have the same name.
        OutputError: a file or a folder stands in the way of the other.
    """
    files = [path]
    for label in labels:
        target = path.parent / re.sub(r"[^\w.-]", "_", label) / path.name
        if target in files:
            raise UsageError(f"--save-statistics: {target} would hold those of two folders; rename {label}")
        files.append(target)
    for target in files:
        if target.is_dir() or (target.parent.exists() and not target.parent.is_dir()):
            raise OutputError(f"--save-statistics: {target} cannot be written, something of that name is in the way")
    return files


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror or error})") from error


def _stream_behind(path: Path) -> TextIO | None:
    """Return standard output or error where it goes to a file: that of /dev/stdout would lose what it holds."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # there is none, it has no file, or is closed
            if path.is_file() and os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                return stream
    return None


def _write(path: Path, text: str) -> None:
    content = text.encode("utf-8", "backslashreplace")  # bytes of a name that are no text
    try:
        if path.exists() and (stream := _stream_behind(path)) is not None:
            stream.flush()
            stream.buffer.write(content)
            stream.flush()
        elif path.exists() and not path.is_file():  # a terminal, a pipe
            path.write_bytes(content)
        else:
            write_atomically(path.resolve(), content)  # a link stays one
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); name another file") from error
