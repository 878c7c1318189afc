"""What is wrong with scores, in words, and whether that is accepted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from restore.cli import console
from restore.cli.meanings import counted

if TYPE_CHECKING:
    from restore.scoring import ScoreReport


@dataclass(frozen=True)
class Verdict:
    """Judges score reports of one folder of references.

    Attributes:
        reference: the folder.
        restored: the folders compared with it.
        reports: one for each of those.
        limits: by metric, the worst mean that passes.
        missing_is_fine: whether pictures without a partner are accepted.
        left_out_is_fine: whether metrics that could not be loaded are accepted.
    """

    reference: Path
    restored: Sequence[Path]
    reports: Sequence[ScoreReport]
    limits: Mapping[str, float]
    missing_is_fine: bool
    left_out_is_fine: bool

    @property
    def is_refused(self) -> bool:
        """Whether anything is not accepted."""
        return any(True for _ in self._errors())

    def explain(self, *, quiet: bool) -> None:
        """Print what should be known though it is accepted, unless quiet, and what is not accepted."""
        for message in () if quiet else self._warnings():
            console.warn(message)
        for message in self._errors():
            console.error(message)

    def _warnings(self) -> Iterator[str]:
        yield from dict.fromkeys(found.message for report in self.reports for found in report.skipped)
        yield from dict.fromkeys(warning for report in self.reports for warning in report.warnings)
        for path, report in zip(self.restored, self.reports, strict=True):
            if self.reference.resolve() == path.resolve():  # it may have gone meanwhile
                yield f"{path}: is the reference itself, so every pair is identical"
            if report.num_clipped:
                noun = "picture" if report.stored else "pair"
                yield f"{counted(report.num_clipped, noun)} with float values outside [0,1], clipped for the scores"
            if num_one_sided := sum(pair.alpha_on_one_side for pair in report.pairs):
                yield (
                    f"{counted(num_one_sided, 'pair')} of {report.label} with alpha on one side only, which alone is "
                    f"laid over {report.preparation.alpha}; use --alpha ignore, or give both sides the same alpha"
                )
            if self.missing_is_fine and report.num_missing:
                yield f"{counted(report.num_missing, 'picture')} without a partner left out"
            for name, found in report.sets.items():
                if found.warning:
                    yield f"{report.record(name).name} of {report.label}: {found.warning}"
        if self.left_out_is_fine:
            yield from (f"{name} left out: {reason}" for name, reason in self.reports[0].left_out.items())

    def _errors(self) -> Iterator[str]:
        for path, report in zip(self.restored, self.reports, strict=True):
            yield from (failure.reason for failure in report.failures)
            if not self.missing_is_fine:
                remedy = "add it, or leave it out with --allow-missing"
                for name in report.only_reference:
                    yield f"{self.reference / name}: has no partner in {path}; {remedy}"
                for name in report.only_restored:
                    yield f"{path / name}: has no partner in {self.reference}; {remedy}"
        if not self.left_out_is_fine:
            for name, reason in self.reports[0].left_out.items():
                yield f"{name} left out: {reason}; or accept that with --allow-missing-metrics"
        for report in self.reports:
            yield from self._below_limits(report)

    def _below_limits(self, report: ScoreReport) -> Iterator[str]:
        for name, limit in self.limits.items():
            if name in report.left_out:
                yield f"--fail-under {name}={limit:g}: {name} was left out of {report.label}"
                continue
            value, metric = report.value(name), report.record(name)
            if value is None:
                yield f"--fail-under {name}={limit:g}: {metric.name} of {report.label} is undefined"
            elif value < limit if metric.higher_is_better else value > limit:
                side = "below" if metric.higher_is_better else "above"
                number = f"{value:.{metric.decimals + 2}f} {metric.unit}".rstrip()
                yield f"--fail-under {name}={limit:g}: {metric.name} of {report.label} is {number}, {side} the limit"
