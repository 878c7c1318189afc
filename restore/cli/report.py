"""A ScoreReport on the screen: the scores, the worst pictures, and how it was measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from restore.cli import console

if TYPE_CHECKING:
    from restore.metrics import Metric
    from restore.scoring import ScoreReport

NUM_WORST = 5


def show(report: ScoreReport) -> None:
    """Print a report on stdout."""
    from restore.metrics import METRICS  # noqa: PLC0415  torch takes two seconds to import

    metrics = [METRICS[name] for name in report.metrics]
    tables = [_summary(report, metrics), _notes(report, metrics)]
    if len(report.pairs) > 1:
        tables.insert(1, _worst(report, metrics))
    for table in tables:
        console.table(table)
        console.result("")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 pair`, `2 pairs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _summary(report: ScoreReport, metrics: list[Metric]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("metric")
    for heading in ("mean", "deviation", "median", "pictures"):
        table.add_column(heading, justify="right")
    for name, metric in zip(report.metrics, metrics, strict=True):
        found = report.summary(name)
        mean, median = (
            "∞" if value is None and found.num_infinite else _number(metric, value)
            for value in (found.mean, found.median)
        )
        table.add_row(_heading(metric), mean, _number(metric, found.deviation), median, str(found.num_pairs))
    return table


def _worst(report: ScoreReport, metrics: list[Metric]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(f"worst by {metrics[0].name}", overflow="fold")
    for metric in metrics:
        table.add_column(_heading(metric), justify="right", no_wrap=True)
    for pair in report.worst(report.metrics[0], NUM_WORST):
        scores = [_number(metric, pair.scores[name]) for name, metric in zip(report.metrics, metrics, strict=True)]
        table.add_row(console.printable(pair.name), *scores)
    return table


def _notes(report: ScoreReport, metrics: list[Metric]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("protocol", report.protocol)
    for name, metric in zip(report.metrics, metrics, strict=True):
        table.add_row(metric.name, console.printable("; ".join([metric.protocol, *_left_out(report, name)])))
    return table


def _left_out(report: ScoreReport, name: str) -> Iterator[str]:
    found = report.summary(name)
    if found.num_infinite:
        yield f"{counted(found.num_infinite, 'identical pair')} (∞) left out of the mean"
    if found.num_undefined:
        example = next(pair for pair in report.pairs if name in pair.reasons)
        yield f"n/a for {counted(found.num_undefined, 'pair')} ({example.name}: {example.reasons[name]})"


def _heading(metric: Metric) -> str:
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{metric.name}{unit} {'↑' if metric.higher_is_better else '↓'}"


def _number(metric: Metric, value: float | None) -> str:
    if value is None:
        return "n/a"
    return "∞" if value == float("inf") else f"{value:.{metric.decimals}f}"
