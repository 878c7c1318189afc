"""JSON and CSV, and what every report says of its own making."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import numpy as np
import PIL
import torch

import restore
from restore.errors import UsageError
from restore.images.opencv import cv2
from restore.jsonable import jsonable
from restore.scoring import Difference, ScoreReport, difference
from restore.scoring.records import common_protocol, finite, interval_document

SCHEMA_VERSION = 2

Option = str | int | float | bool | None | list[str]


@dataclass(frozen=True)
class Provenance:
    """Where and how a report was made.

    Attributes:
        date: UTC day, YYYY-MM-DD, so that the same input gives the same bytes.
        versions: of all that has a part in a score.
        options: of the command, by name.
    """

    date: str
    versions: dict[str, str]
    options: dict[str, Option]


def provenance(options: Mapping[str, Option]) -> Provenance:
    """Record date and versions beside the options; SOURCE_DATE_EPOCH in the environment sets the date.

    Raises:
        UsageError: SOURCE_DATE_EPOCH is no number of seconds.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        now = datetime.fromtimestamp(int(epoch), timezone.utc) if epoch else datetime.now(timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"SOURCE_DATE_EPOCH={epoch}: give the seconds since 1970, or unset it") from None
    libraries = {"torch": torch, "numpy": np, "opencv": cv2, "pillow": PIL}
    versions = {"restore": restore.__version__, "python": platform.python_version()}
    versions |= {name: str(module.__version__) for name, module in libraries.items()}
    versions |= {name: version(name) for name in ("torchvision", "lpips")}  # importing them takes seconds
    return Provenance(now.strftime("%Y-%m-%d"), versions, dict(options))


def as_document(reports: Sequence[ScoreReport], made: Provenance) -> dict[str, Any]:
    """Return the reports as JSON can hold them, never NaN or Infinity.

    Args:
        reports: of one set of references. The fields of the first stand at the top; the others follow in `others`,
            each with its differences from the first.
        made: date, versions and options.
    """
    first, *others = reports
    return {
        "schema_version": SCHEMA_VERSION,
        **asdict(made),
        "label": first.label,
        **first.document(),
        "others": [
            {"label": other.label, **other.document(), "differences": _differences(first, other)} for other in others
        ],
    }


def as_json(reports: Sequence[ScoreReport], made: Provenance) -> str:
    """Return `as_document` as text in ASCII."""
    return json.dumps(jsonable(as_document(reports, made)), indent=2, allow_nan=False) + "\n"


def as_csv(reports: Sequence[ScoreReport], made: Provenance) -> str:
    """Return one row for each pair, sorted by name.

    Infinite scores read `inf`; undefined ones and those of pairs that failed are empty. A name that a spreadsheet would
    take for a formula, with =, +, - or @ in front, stands as a path of the same file: ./ before it. The last cell of
    the first row holds protocol, date, versions, options and the scores over all pictures as JSON.
    """
    first = reports[0]
    described = {
        "protocol": common_protocol(reports),
        "metrics": {name: first.record(name).protocol for name in (*first.metrics, *first.sets)},
        "sets": {report.label: report.set_documents() for report in reports if report.sets},
        **asdict(made),
    }
    rows = _rows(reports) or {"": {}}
    columns = list(dict.fromkeys(["name", *(key for row in rows.values() for key in row)]))
    has_returns = any("\r" in cell for name, row in rows.items() for cell in (name, *row.values()))
    stream = io.StringIO()
    writer = csv.DictWriter(
        stream,
        [*columns, "report"],
        restval="",
        lineterminator="\n",
        quoting=csv.QUOTE_ALL if has_returns else csv.QUOTE_MINIMAL,  # the module quotes no "\r" by itself
    )
    writer.writeheader()
    for index, (name, row) in enumerate(rows.items()):
        writer.writerow(
            {"name": _as_text(name), **row} | ({} if index else {"report": json.dumps(jsonable(described))})
        )
    return stream.getvalue()


def _as_text(path: str) -> str:
    """Return a path, or what begins with one, as no spreadsheet takes it for a formula: names come from anywhere."""
    return f"./{path}" if path.startswith(("=", "+", "-", "@", "\t", "\r")) else path


def _rows(reports: Sequence[ScoreReport]) -> dict[str, dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for report in reports:
        suffix = f" ({report.label})" if len(reports) > 1 else ""
        for pair in report.pairs:
            scores = {f"{name}{suffix}": "" if score is None else repr(score) for name, score in pair.scores.items()}
            rows.setdefault(pair.name, {}).update(scores, **{f"identical{suffix}": str(pair.identical).lower()})
        for failure in report.failures:
            rows.setdefault(failure.name, {}).update({f"failure{suffix}": _as_text(failure.reason)})
    return dict(sorted(rows.items()))


def _differences(first: ScoreReport, other: ScoreReport) -> dict[str, Any]:
    return {name: _difference_document(difference(first, other, name)) for name in first.metrics}


def _difference_document(found: Difference) -> dict[str, Any]:
    return {
        "mean": finite(found.mean),
        "interval": interval_document(found.interval),
        "num_pairs": found.num_pairs,
        "reason": found.reason,
    }
