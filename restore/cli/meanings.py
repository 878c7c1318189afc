"""What scores mean, in tables on stdout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from restore.cli import console

if TYPE_CHECKING:
    from restore.reports import Provenance
    from restore.scoring import ScoreReport


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 pair`, `2 pairs`, `1,200 pairs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def list_metrics() -> None:
    """Print what can be measured, and where it was defined."""
    from restore.metrics import METRICS  # noqa: PLC0415  torch takes two seconds to import

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in ("name", "metric", "range", "better", "weights"):
        table.add_column(title)
    papers = Table.grid(padding=(0, 2))
    for name, metric in METRICS.items():
        low, high = (f"{end:g}".replace("inf", "∞") for end in metric.range)
        unit = f" {metric.unit}" if metric.unit else ""
        direction = "higher" if metric.higher_is_better else "lower"
        table.add_row(name, metric.name, f"{low} … {high}{unit}", direction, metric.weights or "none needed")
        papers.add_row(name, metric.paper)
    console.table(table)
    console.result("")
    console.table(papers)


def notes(reports: Sequence[ScoreReport], made: Provenance) -> Table:
    """Lay out how the pictures were compared, what each metric left out, and how the report was made."""
    from restore.reports.wording import options, versions  # noqa: PLC0415  they import torch
    from restore.scoring.records import common_protocol  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("protocol", common_protocol(reports))
    for name in (*reports[0].metrics, *reports[0].sets):
        metric = reports[0].record(name)
        remarks = [remark for report in reports for remark in _remarks(report, name, named=len(reports) > 1)]
        remarks += _comparing(reports, name)
        table.add_row(metric.name, console.printable("; ".join([metric.protocol, *remarks])))
    for name, reason in reports[0].left_out.items():
        table.add_row(name, console.printable(f"left out: {reason}"))
    table.add_row("options", console.printable(options(made)))
    table.add_row("made", f"{made.date} (UTC), {versions(made)}")
    return table


def _comparing(reports: Sequence[ScoreReport], name: str) -> Iterator[str]:
    """Yield what to know of the differences between the first report and the others."""
    from restore.reports.wording import unlike_sets  # noqa: PLC0415  it imports torch
    from restore.scoring import difference  # noqa: PLC0415

    first, *others = reports
    if name in first.sets:
        if remark := unlike_sets(reports, name):
            yield remark
        return
    for other in others:
        if reason := difference(first, other, name).reason:
            yield f"{other.label} − {first.label}: {reason}"


def _remarks(report: ScoreReport, name: str, *, named: bool) -> Iterator[str]:
    from restore.reports.wording import identical_pairs  # noqa: PLC0415  it imports torch

    of_label = f" of {report.label}" if named else ""
    if name in report.sets:
        score = report.sets[name]
        yield (score.warning or f"N = {score.num_restored}") + of_label
        return
    found = report.summary(name)
    if found.num_infinite:
        yield f"{identical_pairs(report.record(name), found)}{of_label} left out of the mean"
    if found.num_undefined:
        example = next(pair for pair in report.pairs if name in pair.reasons)
        yield f"n/a for {counted(found.num_undefined, 'pair')}{of_label} ({example.name}: {example.reasons[name]})"
    if noted := [pair for pair in report.pairs if name in pair.notes]:
        yield f"{counted(len(noted), 'pair')}{of_label} where {noted[0].notes[name]} (such as {noted[0].name})"
