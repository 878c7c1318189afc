"""Score reports on the screen: the scores, the worst pictures, and how it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from restore.cli import console
from restore.cli.meanings import notes

if TYPE_CHECKING:
    from restore.reports import Provenance
    from restore.scoring import ScoreReport


def show(reports: Sequence[ScoreReport], made: Provenance, num_worst: int) -> None:
    """Print reports of one set of references on stdout; the first is what the others are compared with."""
    tables = [_summary(reports[0]) if len(reports) == 1 else _comparison(reports)]
    if reports[0].metrics and len(reports[0].pairs) > 1 and num_worst:
        tables.append(_worst(reports, num_worst))
    for table in [*tables, notes(reports, made)]:
        console.table(table)
        console.result("")


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def _summary(report: ScoreReport) -> Table:
    from restore.reports.wording import heading, interval, mean, median, number  # noqa: PLC0415  they import torch

    table = _table("metric", "mean", "deviation", "median", "pictures", "95 % interval")
    for name in report.metrics:
        metric, found = report.record(name), report.summary(name)
        cells = mean(metric, found), number(metric, found.deviation), median(metric, found), str(found.num_pairs)
        table.add_row(heading(metric), *cells, interval(metric, found.interval))
    for name, score in report.sets.items():
        metric = report.record(name)
        table.add_row(heading(metric), number(metric, score.value), "n/a", "n/a", str(score.num_restored), "n/a")
    return table


def _comparison(reports: Sequence[ScoreReport]) -> Table:
    from restore.reports.wording import heading, interval, mean, median, number, over  # noqa: PLC0415  they import torch
    from restore.scoring import difference  # noqa: PLC0415

    first, *others = reports
    table = _table("metric", *(report.label for report in reports))
    for name in first.metrics:
        metric = first.record(name)
        found = [report.summary(name) for report in reports]
        paired = [difference(first, other, name) for other in others]
        table.add_row(heading(metric), *(mean(metric, summary) for summary in found))
        table.add_row("  95 %", *(interval(metric, summary.interval) for summary in found))
        table.add_row("  deviation", *(number(metric, summary.deviation) for summary in found))
        table.add_row("  median", *(median(metric, summary) for summary in found))
        table.add_row("  pictures", *(str(summary.num_pairs) for summary in found))
        table.add_row(f"  − {first.label}", "", *(number(metric, item.mean, signed=True) for item in paired))
        table.add_row("  95 %", "", *(interval(metric, item.interval, signed=True) for item in paired))
        table.add_row("", "", *(over(item) for item in paired), end_section=True)
    for name in first.sets:
        metric = first.record(name)
        table.add_row(heading(metric), *(number(metric, report.sets[name].value) for report in reports))
    return table


def _worst(reports: Sequence[ScoreReport], count: int) -> Table:
    """Lay out the worst pairs of the first report: all its metrics, or the first metric of all reports."""
    from restore.reports.wording import heading, number  # noqa: PLC0415  they import torch

    first, *others = reports
    by = first.record(first.metrics[0])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(f"worst by {by.name}{f' of {first.label}' if others else ''}", overflow="fold")
    headings = (
        [report.label for report in reports] if others else [heading(first.record(name)) for name in first.metrics]
    )
    for title in headings:
        table.add_column(title, justify="right", no_wrap=not others, overflow="fold")
    scores = [{pair.name: pair.scores[first.metrics[0]] for pair in report.pairs} for report in others]
    for pair in first.worst(first.metrics[0], count):
        own = first.metrics[:1] if others else first.metrics
        cells = [number(first.record(name), pair.scores[name]) for name in own]
        table.add_row(console.printable(pair.name), *cells, *(number(by, found.get(pair.name)) for found in scores))
    return table
