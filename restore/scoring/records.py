"""What was found out about two folders, as frozen records."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from restore.metrics import METRICS, FidStatistics, Metric
from restore.scoring.combination import COMBINED, Combination
from restore.scoring.pairing import Pair, Skipped
from restore.scoring.preparation import AS_STORED, Preparation
from restore.scoring.resampling import BOOTSTRAP, mean_interval

Interval = tuple[float, float]


@dataclass(frozen=True)
class PairScore:
    """The scores of one pair.

    Attributes:
        pair: its name and files.
        kind: colour and depth, such as "RGB, 8 bit" or "grey, 8 bit against 16 bit".
        identical: whether every value that is compared agrees.
        clipped: whether float values outside [0,1] were clipped.
        alpha_on_one_side: whether one picture was laid over the background and the other had no alpha.
        scores: by metric; infinite PSNR for identical pictures, None where the metric is undefined.
        reasons: by metric, why there is no score.
        notes: by metric, what to know about the score.
        warnings: what the reader of the two files had to say.
    """

    pair: Pair
    kind: str
    identical: bool
    clipped: bool
    alpha_on_one_side: bool
    scores: dict[str, float | None]
    reasons: dict[str, str]
    notes: dict[str, str]
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the pair."""
        return self.pair.name


@dataclass(frozen=True)
class Failure:
    """A pair that could not be scored, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class SetScore:
    """A metric that exists only over all pictures.

    Attributes:
        value: None where it is undefined.
        num_reference: pictures on the side of the references.
        num_restored: pictures on the other side.
        warning: what to know about the value, or None.
    """

    value: float | None
    num_reference: int
    num_restored: int
    warning: str | None = None


@dataclass(frozen=True)
class Summary:
    """One metric over all pairs with a finite score.

    Attributes:
        mean: of the scores of the single pictures; None without any.
        interval: 95 % bootstrap interval of the mean; None below two pictures.
        deviation: standard deviation of the sample (N-1); None below two pictures.
        median: None without any.
        num_pairs: that are counted in.
        num_infinite: identical pairs, left out.
        num_undefined: pairs for which the metric is not defined, left out.
    """

    mean: float | None
    interval: Interval | None
    deviation: float | None
    median: float | None
    num_pairs: int
    num_infinite: int
    num_undefined: int


@dataclass(frozen=True)
class Difference:
    """By how much one folder's scores exceed another's, picture by picture.

    Attributes:
        mean: of the differences; None without any.
        interval: 95 % bootstrap interval of that mean; None below two pictures.
        num_pairs: pictures with a finite score on both sides.
    """

    mean: float | None
    interval: Interval | None
    num_pairs: int

    @property
    def reason(self) -> str | None:
        """Why mean or interval are absent; None where they are not."""
        if self.num_pairs == 0:
            return "no pair has a finite score on both sides"
        return "a single pair has no interval" if self.interval is None else None


@dataclass(frozen=True)
class ScoreReport:
    """All that was found out about two folders.

    Attributes:
        metrics: names of the scores of single pairs, as in METRICS, and perhaps `combined`.
        pairs: sorted by name.
        failures: sorted by name.
        only_reference: names without a restored picture.
        only_restored: names without a reference.
        sets: scores over all pictures, by metric.
        left_out: metrics that were asked for and could not be loaded, and why.
        skipped: files that were passed over in looking for pictures.
        label: what to call the folder of restored pictures.
        preparation: how files became numbers.
        combination: what `combined` means.
        statistics: of the references and of the restored pictures, where the FID was computed.
        stored: what is known of saved statistics, where they were compared instead of pairs.
        unpaired_warnings: what the reader had to say of pictures that were compared with saved statistics.
        num_unpaired_clipped: those among them whose float values outside [0,1] were clipped.
    """

    metrics: tuple[str, ...]
    pairs: tuple[PairScore, ...]
    failures: tuple[Failure, ...] = ()
    only_reference: tuple[str, ...] = ()
    only_restored: tuple[str, ...] = ()
    sets: dict[str, SetScore] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    label: str = "restored"
    preparation: Preparation = AS_STORED
    combination: Combination | None = None
    statistics: tuple[FidStatistics, FidStatistics] | None = field(default=None, compare=False, repr=False)
    stored: str = ""
    unpaired_warnings: tuple[str, ...] = ()
    num_unpaired_clipped: int = 0

    @property
    def protocol(self) -> str:
        """How the pictures were compared, with the colours and depths that were met."""
        return common_protocol([self])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader had to say of all files."""
        return (*(warning for pair in self.pairs for warning in pair.warnings), *self.unpaired_warnings)

    @property
    def num_clipped(self) -> int:
        """Number of pairs, or of pictures without pairs, with float values outside [0,1]."""
        return sum(pair.clipped for pair in self.pairs) + self.num_unpaired_clipped

    @property
    def num_missing(self) -> int:
        """Number of pictures without a partner, on either side."""
        return len(self.only_reference) + len(self.only_restored)

    def record(self, metric: str) -> Metric:
        """Return what a score of this report means."""
        if metric in self.sets:
            over = "over all pictures of either side, which are not paired" if self.stored else "over the matched pairs"
            return replace(METRICS[metric], protocol=f"{METRICS[metric].protocol}; {over}")
        if metric != COMBINED:
            return METRICS[metric]
        assert self.combination is not None, "no combined score in this report"
        return self.combination.record

    def summary(self, metric: str) -> Summary:
        """Return mean, interval, deviation and median of one metric."""
        return self._summaries[metric]

    def value(self, metric: str) -> float | None:
        """Return what one number says of a metric: its mean, infinite for identical pairs alone, or that of the set."""
        if metric in self.sets:
            return self.sets[metric].value
        found = self.summary(metric)
        return infinity(self.record(metric)) if found.mean is None and found.num_infinite else found.mean

    def worst(self, metric: str, count: int) -> tuple[PairScore, ...]:
        """Return the pairs with the worst scores of a metric, the worst first."""
        return self._ranked(metric)[:count]

    def best(self, metric: str, count: int) -> tuple[PairScore, ...]:
        """Return the pairs with the best scores of a metric, the best first."""
        return self._ranked(metric)[::-1][:count]

    def document(self) -> dict[str, Any]:
        """Return the report as JSON can hold it: eight significant digits, null for what is infinite or undefined."""
        return {
            "protocol": self.protocol,
            "metrics": {name: self._metric_document(name) for name in self.metrics}
            | {name: _meaning(self.record(name)) | found for name, found in self.set_documents().items()},
            "left_out": self.left_out,
            "num_pairs": len(self.pairs),
            "num_identical": sum(pair.identical for pair in self.pairs),
            "num_clipped": self.num_clipped,
            "pairs": [_pair_document(pair) for pair in self.pairs],
            "failures": [{"name": failure.name, "reason": failure.reason} for failure in self.failures],
            "only_reference": list(self.only_reference),
            "only_restored": list(self.only_restored),
            "skipped": [
                {"folder": str(found.folder), "reason": found.reason, "names": list(found.names)}
                for found in self.skipped
            ],
            "unpaired_warnings": list(self.unpaired_warnings),
        }

    def set_documents(self) -> dict[str, dict[str, Any]]:
        """Return the scores over all pictures as JSON can hold them."""
        return {name: _set_document(found) for name, found in self.sets.items()}

    @cached_property
    def _summaries(self) -> dict[str, Summary]:
        return {name: _summary([pair.scores[name] for pair in self.pairs]) for name in self.metrics}

    def _ranked(self, metric: str) -> tuple[PairScore, ...]:
        sign = 1 if self.record(metric).higher_is_better else -1
        scored = [(sign * score, pair.name, pair) for pair in self.pairs if (score := pair.scores[metric]) is not None]
        return tuple(pair for *_, pair in sorted(scored))  # a name stands once, so no two records are compared

    def _metric_document(self, name: str) -> dict[str, Any]:
        summary = self.summary(name)
        return _meaning(self.record(name)) | {
            "mean": finite(summary.mean),
            "interval": interval_document(summary.interval),
            "deviation": finite(summary.deviation),
            "median": finite(summary.median),
            "num_pairs": summary.num_pairs,
            "num_infinite": summary.num_infinite,
            "num_undefined": summary.num_undefined,
        }


def common_protocol(reports: Iterable[ScoreReport]) -> str:
    """Return how the pictures of all reports were compared, with the colours and depths that were met in any."""
    found = list(reports)
    kinds = sorted({pair.kind for report in found for pair in report.pairs})
    stored = dict.fromkeys(report.stored for report in found if report.stored)
    parts = [*kinds, *stored, *dict.fromkeys(report.preparation.protocol for report in found)]
    return "; ".join([*parts, BOOTSTRAP] if any(len(report.pairs) > 1 for report in found) else parts)


def infinity(metric: Metric) -> float:
    """Return the score of identical pictures under a metric without bounds."""
    return math.inf if metric.higher_is_better else -math.inf


def difference(first: ScoreReport, other: ScoreReport, metric: str) -> Difference:
    """Return by how much the scores of another report exceed the first's, over the pairs that both have."""
    ours = {pair.name: pair.scores[metric] for pair in first.pairs}
    differences = [
        score - mine
        for pair in other.pairs
        if (mine := ours.get(pair.name)) is not None and (score := pair.scores[metric]) is not None
        if math.isfinite(score) and math.isfinite(mine)
    ]
    mean = statistics.fmean(differences) if differences else None
    return Difference(mean, mean_interval(differences), len(differences))


def finite(value: float | None) -> float | None:
    """Return a number as JSON holds it: eight significant digits, None for what is infinite or undefined."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.8g}")


def interval_document(interval: Interval | None) -> list[float | None] | None:
    """Return an interval as JSON holds it."""
    return None if interval is None else [finite(bound) for bound in interval]


def _summary(scores: Sequence[float | None]) -> Summary:
    known = [score for score in scores if score is not None]
    numbers = [score for score in known if math.isfinite(score)]
    return Summary(
        mean=statistics.fmean(numbers) if numbers else None,
        interval=mean_interval(numbers),
        deviation=statistics.stdev(numbers) if len(numbers) > 1 else None,
        median=statistics.median(numbers) if numbers else None,
        num_pairs=len(numbers),
        num_infinite=len(known) - len(numbers),
        num_undefined=len(scores) - len(known),
    )


def _meaning(metric: Metric) -> dict[str, Any]:
    return {
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "range": [finite(bound) for bound in metric.range],
        "paper": metric.paper,
        "protocol": metric.protocol,
    }


def _set_document(found: SetScore) -> dict[str, Any]:
    return {
        "value": finite(found.value),
        "num_reference": found.num_reference,
        "num_restored": found.num_restored,
        "warning": found.warning,
    }


def _pair_document(pair: PairScore) -> dict[str, Any]:
    return {
        "name": pair.name,
        "kind": pair.kind,
        "identical": pair.identical,
        "clipped": pair.clipped,
        "alpha_on_one_side": pair.alpha_on_one_side,
        "scores": {name: finite(score) for name, score in pair.scores.items()},
        "reasons": pair.reasons,
        "notes": pair.notes,
        "warnings": list(pair.warnings),
    }
