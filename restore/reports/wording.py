"""Scores in words, the same on the screen and on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from restore.metrics import Metric
from restore.reports.documents import Option, Provenance
from restore.scoring import Difference, ScoreReport, Summary
from restore.scoring.records import Interval, infinity


def heading(metric: Metric) -> str:
    """Return name, unit and direction of a metric."""
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{metric.name}{unit} {'↑' if metric.higher_is_better else '↓'}"


def number(metric: Metric, value: float | None, *, signed: bool = False) -> str:
    """Return a score as printed: ∞ where it is infinite, n/a where there is none."""
    if value is None:
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:{'+' if signed else ''}.{metric.decimals}f}"


def interval(metric: Metric, bounds: Interval | None, *, signed: bool = False) -> str:
    """Return both ends of an interval as printed, n/a where there is none."""
    return " … ".join(number(metric, bound, signed=signed) for bound in bounds) if bounds else "n/a"


def mean(metric: Metric, summary: Summary) -> str:
    """Return a mean as printed: infinite where only identical pairs were met."""
    return _or_infinity(metric, summary.mean, summary)


def median(metric: Metric, summary: Summary) -> str:
    """Return a median as printed: infinite where only identical pairs were met."""
    return _or_infinity(metric, summary.median, summary)


def identical_pairs(metric: Metric, summary: Summary) -> str:
    """Return how many identical pairs a mean leaves out, and the score that they have."""
    noun = "pair" if summary.num_infinite == 1 else "pairs"
    return f"{summary.num_infinite} identical {noun} ({number(metric, infinity(metric))})"


def over(paired: Difference) -> str:
    """Return how many pairs a difference rests on."""
    return f"over {paired.num_pairs} pair{'' if paired.num_pairs == 1 else 's'}"


def unlike_sets(reports: Sequence[ScoreReport], name: str) -> str | None:
    """Return what to know where a score over all pictures is of different numbers of them, folder by folder."""
    numbers = [min(report.sets[name].num_reference, report.sets[name].num_restored) for report in reports]
    if len(set(numbers)) == 1:
        return None
    words = ", ".join(f"{number} of {report.label}" for number, report in zip(numbers, reports, strict=True))
    return f"of different numbers of pictures ({words}), so the values are no comparison: fewer give a higher one"


def options(made: Provenance) -> str:
    """Return the options of the command in one line, those that were not given left out."""
    given = {
        name: value for name, value in made.options.items() if value is not None and value is not False and value != []
    }
    return "; ".join(f"{name} {_option(value)}" for name, value in given.items())


def versions(made: Provenance) -> str:
    """Return the versions of all that has a part in a score, in one line."""
    return ", ".join(f"{name} {version}" for name, version in made.versions.items())


def _or_infinity(metric: Metric, value: float | None, summary: Summary) -> str:
    return number(metric, infinity(metric) if value is None and summary.num_infinite else value)


def _option(value: Option) -> str:
    if value is True:
        return "yes"
    return " ".join(value) if isinstance(value, list) else str(value)
