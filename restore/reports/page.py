"""One self-contained HTML page: summary, histograms, pictures to compare, a sortable table, the protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from restore.errors import ImageError
from restore.reports.documents import Provenance
from restore.reports.pictures import Viewing, colour_scale, view
from restore.reports.wording import (
    heading,
    identical_pairs,
    interval,
    mean,
    median,
    number,
    options,
    over,
    unlike_sets,
    versions,
)
from restore.scoring import PairScore, ScoreReport, difference
from restore.scoring.records import common_protocol
from restore.scoring.workers import as_image_errors

MOST_ROWS = 5000  # of the table: a page with more of them no longer opens on a phone
BINS = 20
SMALL_WIDTH = 520  # pixels up to which two viewers stand side by side
TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram; x and width in percent of the axis, height in percent of the tallest bar."""

    x: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Histogram:
    """The scores of one metric and one folder.

    Attributes:
        label: of the folder.
        description: what the drawing shows, in words.
        bars: from left to right; those of no picture are left out.
        mean: its place, in percent of the axis.
    """

    label: str
    description: str
    bars: tuple[Bar, ...]
    mean: float


@dataclass(frozen=True)
class Shown:
    """A pair whose pictures stand on the page.

    Attributes:
        name: of the pair.
        title: its place, such as "worst 1".
        scores: label of the folder, and its scores in words.
        viewing: the pictures; None where they could not be read again.
        problem: why not.
    """

    name: str
    title: str
    scores: tuple[tuple[str, str], ...]
    viewing: Viewing | None
    problem: str


def as_html(reports: Sequence[ScoreReport], made: Provenance, *, num_shown: int = 5) -> str:
    """Return the page; it needs no other file and no network.

    Args:
        reports: of one set of references; the first is what the others are compared with.
        made: date, versions and options.
        num_shown: pairs to show with pictures, the worst and as many of the best by the first metric.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    first = reports[0]
    rows, shown = _rows(reports), _shown(reports, num_shown)
    page = environment.get_template("report.html.jinja").render(
        reports=reports,
        first=first,
        made=made,
        reference=made.options.get("reference", "the references"),
        metrics=[(name, first.record(name)) for name in first.metrics],
        sets=[(name, first.record(name)) for name in first.sets],
        unlike={name: unlike_sets(reports, name) for name in first.sets},
        protocol=common_protocol(reports),
        options=options(made),
        versions=versions(made),
        summaries=[_summary_rows(reports, name) for name in first.metrics],
        histograms=[(first.record(name), *_histograms(reports, name)) for name in first.metrics],
        shown=shown,
        small=all(item.viewing is None or item.viewing.width <= SMALL_WIDTH for item in shown),
        rows=rows[:MOST_ROWS],
        num_rows=len(rows),
        colours=colour_scale(),
        number=number,
        interval=interval,
        heading=heading,
        mean=mean,
        median=median,
        over=over,
        identical_pairs=identical_pairs,
    )
    return page.encode("utf-8", "backslashreplace").decode("utf-8")  # a name may hold bytes that are no text


def _summary_rows(reports: Sequence[ScoreReport], name: str) -> dict[str, Any]:
    first = reports[0]
    return {
        "metric": first.record(name),
        "summaries": [report.summary(name) for report in reports],
        "differences": [None, *(difference(first, other, name) for other in reports[1:])],
    }


def _rows(reports: Sequence[ScoreReport]) -> list[tuple[str, list[PairScore | None]]]:
    """Return name and scores of each folder, the worst by the first metric of the first folder on top."""
    by_label = [{pair.name: pair for pair in report.pairs} for report in reports]
    first = reports[0]
    ranked = [pair.name for pair in first.worst(first.metrics[0], len(first.pairs))] if first.metrics else []
    names = dict.fromkeys([*ranked, *sorted({name for pairs in by_label for name in pairs})])
    return [(name, [pairs.get(name) for pairs in by_label]) for name in names]


def _histograms(reports: Sequence[ScoreReport], name: str) -> tuple[list[Histogram], float, float]:
    """Return a histogram for each folder on a common axis, and the ends of that axis."""
    metric = reports[0].record(name)
    scores = [
        [score for pair in report.pairs if (score := pair.scores[name]) is not None and math.isfinite(score)]
        for report in reports
    ]
    everything = np.array([score for found in scores for score in found], np.float64)
    if not everything.size:
        return [], 0.0, 0.0
    low, high = float(everything.min()), float(everything.max())
    if high - low < 10.0**-metric.decimals:
        low, high = low - 10.0**-metric.decimals, high + 10.0**-metric.decimals
    counts = [np.histogram(found, BINS, (low, high))[0] for found in scores]
    tallest = max(int(count.max()) for count in counts)
    edges = np.linspace(low, high, BINS + 1)
    histograms = [
        Histogram(
            label=report.label,
            description=f"{metric.name} of {len(found)} pictures: {number(metric, min(found))} to "
            f"{number(metric, max(found))}, mean {number(metric, report.summary(name).mean)}",
            bars=tuple(
                Bar(
                    x=100 * index / BINS,
                    width=100 / BINS,
                    height=100 * int(count) / tallest,
                    title=f"{number(metric, edges[index])} … {number(metric, edges[index + 1])}: {count}",
                )
                for index, count in enumerate(counted)
                if count
            ),
            mean=100 * (float(np.mean(found)) - low) / (high - low),
        )
        for report, found, counted in zip(reports, scores, counts, strict=True)
        if found
    ]
    return histograms, low, high


def _shown(reports: Sequence[ScoreReport], count: int) -> list[Shown]:
    """Read again the pictures of the worst and the best pairs by the first metric of the first folder."""
    first = reports[0]
    if not first.metrics or not count:
        return []
    worst = first.worst(first.metrics[0], count)
    names = {pair.name for pair in worst}
    best = [pair for pair in first.best(first.metrics[0], count) if pair.name not in names]
    places = [(f"worst {place}", pair) for place, pair in enumerate(worst, start=1)]
    places += [(f"best {place}", pair) for place, pair in enumerate(best, start=1)]
    wanted = {pair.name for _, pair in places}
    found = [{pair.name: pair for pair in report.pairs if pair.name in wanted} for report in reports]
    return [_show(title, pair.name, reports, found) for title, pair in places]


def _show(title: str, name: str, reports: Sequence[ScoreReport], found: Sequence[dict[str, PairScore]]) -> Shown:
    present = [(report, pairs[name]) for report, pairs in zip(reports, found, strict=True) if name in pairs]
    scores = tuple((report.label, ", ".join(_scores(report, pair))) for report, pair in present)
    try:
        with as_image_errors(present[0][1].pair.restored):
            viewing = view([(report.label, pair.pair) for report, pair in present], reports[0].preparation)
    except ImageError as error:  # it changed since it was scored, or the memory is full
        return Shown(name, title, scores, None, str(error))
    return Shown(name, title, scores, viewing, "")


def _scores(report: ScoreReport, pair: PairScore) -> Iterable[str]:
    for name, score in pair.scores.items():
        metric = report.record(name)
        unit = f" {metric.unit}" if metric.unit and score is not None else ""
        yield f"{metric.name} {number(metric, score)}{unit}"
