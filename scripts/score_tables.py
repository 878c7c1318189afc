"""The scores of `evaluate.py`, as records, as a Markdown table and as JSON."""

from __future__ import annotations

import itertools
import math
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from benchmarking import markdown_table
from protocols import GAUSSIAN, Protocol

from restore.types import Task

SCHEMA_VERSION = 1
INPUT = "input"
OUTPUT = (
    "output clamped and rounded to 8 bits; mean over pictures of RGB PSNR (float64) and SSIM (Gaussian window 11, "
    "σ 1.5)"
)
PROTOCOL = f"{GAUSSIAN}; {OUTPUT}"
NONE = "–"  # in tables


@dataclass(frozen=True)
class PictureScore:
    """What one method made of one picture.

    Args:
        name: of the picture.
        psnr_db: infinite where it equals the reference.
        ssim: None where the picture is too small for it.
        lpips: likewise, or where it was not wanted.
        seconds_per_megapixel: that it took; None for the input.
    """

    name: str
    psnr_db: float
    ssim: float | None
    lpips: float | None
    seconds_per_megapixel: float | None


@dataclass(frozen=True)
class Score:
    """What one method made of a set of pictures.

    Args:
        model: name or path of the method.
        pictures: one or more.
    """

    model: str
    pictures: tuple[PictureScore, ...]

    @property
    def psnr_db(self) -> float:
        """Mean over the pictures that differ from their references; infinite where none does."""
        finite = [picture.psnr_db for picture in self.pictures if math.isfinite(picture.psnr_db)]
        return statistics.fmean(finite) if finite else math.inf

    @property
    def num_identical(self) -> int:
        """Number of pictures that equal their references, left out of the mean PSNR."""
        return sum(math.isinf(picture.psnr_db) for picture in self.pictures)

    @property
    def ssim(self) -> float | None:
        """Mean over the pictures that have one."""
        return _mean(picture.ssim for picture in self.pictures)

    @property
    def lpips(self) -> float | None:
        """Mean over the pictures that have one."""
        return _mean(picture.lpips for picture in self.pictures)

    @property
    def seconds_per_megapixel(self) -> float | None:
        """Median over the pictures."""
        seconds = [picture.seconds_per_megapixel for picture in self.pictures]
        return None if None in seconds else statistics.median(s for s in seconds if s is not None)

    def gains_db(self, before: Score) -> list[float]:
        """Return by how much each picture's PSNR is above that of the input; where either is infinite, nothing."""
        both = zip(self.pictures, before.pictures, strict=True)
        gains = [after.psnr_db - given.psnr_db for after, given in both]
        return [gain for gain in gains if math.isfinite(gain)]


def where_input_differs(scores: Mapping[str, Score]) -> dict[str, Score]:
    """Return the scores of those pictures that have anything to restore, so that means are over the same ones.

    Args:
        scores: by method, of the same pictures, those of the input as `INPUT`.

    Returns:
        Likewise; as given where no input differs from its reference.
    """
    differs = [math.isfinite(picture.psnr_db) for picture in scores[INPUT].pictures]
    if not any(differs):
        return dict(scores)
    return {
        name: Score(score.model, tuple(itertools.compress(score.pictures, differs))) for name, score in scores.items()
    }


@dataclass(frozen=True)
class Report:
    """Everything that is printed.

    Args:
        protocols: one or several noise levels, one set of pairs, or one folder degraded by one or several chains.
        scores: of each protocol, by method, those of the input first.
        memory: peak in MiB, by method.
        left_out: methods and metrics by name, and why.
        lpips: how it is computed; None where it is not.
        ours: which of the methods are networks of ours.
        told: whether those are told σ.
        ensemble: how many orientations those average over; None for what their weights say.
        clock: what the time is.
        hardware: what it was measured on.
    """

    protocols: list[Protocol]
    scores: list[dict[str, Score]]
    memory: dict[str, float]
    left_out: dict[str, str]
    lpips: str | None
    ours: list[str]
    told: bool
    ensemble: int | None
    clock: str
    hardware: str


def markdown(report: Report) -> str:
    """Return the lines that say how, and the table."""
    first, scores = report.protocols[0], report.scores[0]
    num = len(scores[INPUT].pictures)
    lines = [
        f"{first.folder}, {num} pictures: {first.text}; {OUTPUT}; {_versions()}",
        f"Time: median over the pictures, {report.clock}, after one call that does not count; {report.hardware}",
    ]
    if report.lpips:
        lines.append(f"LPIPS: {report.lpips}")
    if report.memory:
        height, width = next(first.samples()).reference.shape[:2]
        lines.append(
            f"Peak memory: resident, of a process of its own for a picture of {width}×{height}, torch included"
        )
    if first.task is Task.DENOISE and first.sigma is None:
        lines.append("Methods that must be told σ get the true one of each picture, which no user knows")
    lines += [f"left out: {name}: {reason}" for name, reason in report.left_out.items()]
    for protocol, of_protocol in zip(report.protocols, report.scores, strict=True):
        lines += [
            f"left out of the mean PSNR: {score.num_identical} of {num} pictures of {name}, {protocol.condition}, "
            "equal to their references"
            for name, score in of_protocol.items()
            if 0 < score.num_identical < num
        ]
    if first.sigma is not None:
        return "\n".join([*lines, "", _table_by_condition(report)])
    for protocol, of_protocol in zip(report.protocols, report.scores, strict=True):
        lines += [] if protocol is first else ["", f"{protocol.text}:"]
        lines += ["", _table_before_after(report, protocol, of_protocol)]
    return "\n".join(lines)


def _table_by_condition(report: Report) -> str:
    header = ["PSNR dB / SSIM" + (" / LPIPS" if report.lpips else ""), *(p.condition for p in report.protocols)]
    rows = []
    for name in report.scores[0]:
        cells = []
        for scores in report.scores:
            parts = [_text(scores[name].psnr_db, 2), _text(scores[name].ssim, 4)]
            cells.append(" / ".join([*parts, _text(scores[name].lpips, 4)] if report.lpips else parts))
        rows.append([_label(report, name), *cells, *_costs(report, name, report.scores)])
    return markdown_table([*header, *_cost_heads(report)], rows)


def _table_before_after(report: Report, protocol: Protocol, scores: Mapping[str, Score]) -> str:
    header = [protocol.condition, "PSNR dB", "gain dB", "worst picture", "SSIM"]
    rows = []
    counted = where_input_differs(scores)
    for name, score in counted.items():
        gains = [] if name == INPUT else score.gains_db(counted[INPUT])
        mean, worst = (f"{statistics.fmean(gains):+.2f}", f"{min(gains):+.2f}") if gains else (NONE, NONE)
        cells = [_text(score.psnr_db, 2), mean, worst, _text(score.ssim, 4)]
        cells += [_text(score.lpips, 4)] if report.lpips else []
        rows.append([_label(report, name), *cells, *_costs(report, name, [scores])])
    return markdown_table([*header, *(["LPIPS"] if report.lpips else []), *_cost_heads(report)], rows)


def _label(report: Report, name: str) -> str:
    if name not in report.ours:
        return name
    ensemble = f", {report.ensemble} orientations" if report.ensemble else ""
    if report.protocols[0].task is not Task.DENOISE:
        return name + ensemble
    return name + (", told σ" if report.told else ", blind") + ensemble


def _cost_heads(report: Report) -> list[str]:
    return ["s per megapixel", *(["peak MiB"] if report.memory else [])]


def _costs(report: Report, name: str, scores: Sequence[Mapping[str, Score]]) -> list[str]:
    seconds = [of_protocol[name].seconds_per_megapixel for of_protocol in scores]
    cells = [_text(_mean(seconds), 3)]
    return [*cells, _text(report.memory.get(name), 0)] if report.memory else cells


def document(report: Report) -> dict[str, Any]:
    """Return everything in JSON types, without NaN or infinite numbers."""
    first = report.protocols[0]
    entries = [
        entry
        for protocol, scores in zip(report.protocols, report.scores, strict=True)
        for entry in _entries(report, protocol, scores)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "protocol": f"{first.text}; {OUTPUT}",
        "folder": first.folder,
        "task": str(first.task),
        "num_pictures": len(report.scores[0][INPUT].pictures),
        "versions": _versions(),
        "hardware": report.hardware,
        "clock": report.clock,
        "lpips": report.lpips,
        "told": report.told,
        "ensemble": report.ensemble,
        "left_out": report.left_out,
        INPUT: [entry for entry in entries if entry["model"] == INPUT],
        "scores": [entry for entry in entries if entry["model"] != INPUT],
    }


def _entries(report: Report, protocol: Protocol, scores: Mapping[str, Score]) -> Iterator[dict[str, Any]]:
    counted = where_input_differs(scores)
    for name, score in scores.items():
        yield _entry(report, protocol, score, counted[name], score.gains_db(scores[INPUT]))


def _entry(report: Report, protocol: Protocol, score: Score, counted: Score, gains: Sequence[float]) -> dict[str, Any]:
    return {
        "model": score.model,
        "condition": protocol.condition,
        "protocol": protocol.text,
        "sigma": protocol.sigma,
        "psnr_db": _finite(counted.psnr_db),
        "num_identical": score.num_identical,
        "ssim": counted.ssim,
        "lpips": counted.lpips,
        "gain_db": statistics.fmean(gains) if gains else None,
        "worst_gain_db": min(gains, default=None),
        "seconds_per_megapixel": score.seconds_per_megapixel,
        "peak_mib": report.memory.get(score.model),
        "pictures": [vars(picture) | {"psnr_db": _finite(picture.psnr_db)} for picture in score.pictures],
    }


def _mean(values: Any) -> float | None:  # noqa: ANN401  an iterable of numbers and None
    present = [value for value in values if value is not None]
    return statistics.fmean(present) if present else None


def _text(value: float | None, decimals: int) -> str:
    if value is None:
        return NONE
    return f"{value:.{decimals}f}" if math.isfinite(value) else "∞"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _versions() -> str:
    return f"torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
