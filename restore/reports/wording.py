"""Scores in words, the same on the screen and on the page."""

from __future__ import annotations

import math

from restore.metrics import Metric
from restore.scoring import Summary
from restore.scoring.records import Interval


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
    """Return a mean as printed: ∞ where only identical pairs were met."""
    return "∞" if summary.mean is None and summary.num_infinite else number(metric, summary.mean)


def median(metric: Metric, summary: Summary) -> str:
    """Return a median as printed: ∞ where only identical pairs were met."""
    return "∞" if summary.median is None and summary.num_infinite else number(metric, summary.median)
