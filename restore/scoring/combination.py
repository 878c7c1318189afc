"""A weighted sum of metrics as one more score, its formula always beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from restore.errors import UsageError
from restore.metrics import METRICS, Metric

COMBINED = "combined"
"""The name of the combined score among the metrics."""

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_NAMES = "|".join(sorted(map(re.escape, METRICS), key=len, reverse=True))  # ms-ssim before ssim
_FACTOR = rf"(?:{_NUMBER}|{_NAMES})"
_TERM = re.compile(rf"\s*([+-]?)\s*({_FACTOR}(?:\s*[*/]\s*{_FACTOR})*)\s*(?=[+-]|$)")
_OPERAND = re.compile(rf"([*/]?)\s*({_FACTOR})")


@dataclass(frozen=True)
class Combination:
    """A weighted sum.

    Attributes:
        formula: as it was given.
        weights: by metric; none is 0, and all pull in one direction.
        constant: the rest of the sum.
    """

    formula: str
    weights: dict[str, float]
    constant: float

    @classmethod
    def parse(cls, formula: str) -> Combination:
        """Read a sum such as `0.5*psnr/100 + 0.5*ms-ssim`: terms of numbers and at most one metric each.

        Raises:
            UsageError: it is no such sum, or improving one metric would raise it and improving another lower it.

        >>> Combination.parse("0.5*psnr/100 + 0.5*ssim").weights
        {'psnr': 0.005, 'ssim': 0.5}
        """
        weights: dict[str, float] = {}
        constant, position, text = 0.0, 0, formula.strip().lower()
        while position < len(text):
            term = _TERM.match(text, position)
            if term is None or (position and not term[1]):
                raise _refusal(formula, f"cannot read {text[position:]!r}")
            name, weight = _read_term(formula, term[2])
            weight = -weight if term[1] == "-" else weight
            if name is None:
                constant += weight
            else:
                weights[name] = weights.get(name, 0.0) + weight
            position = term.end()
        _assert_sensible(formula, weights, constant)
        return cls(formula.strip(), weights, constant)

    @property
    def record(self) -> Metric:
        """What the score means."""
        higher_is_better = all(weight > 0 for weight in _towards_better(self.weights))
        ends = [sorted(weight * end for end in METRICS[name].range) for name, weight in self.weights.items()]
        return Metric(
            name=COMBINED,
            function=None,
            unit="",
            higher_is_better=higher_is_better,
            range=(self.constant + sum(low for low, _ in ends), self.constant + sum(high for _, high in ends)),
            decimals=4,
            paper="a weighted sum chosen by the user",
            protocol=f"{self.formula}, of each pair, then the mean",
        )

    def score(self, scores: Mapping[str, float | None]) -> float | str:
        """Return the sum for one pair, or why there is none."""
        total = self.constant
        for name, weight in self.weights.items():
            score = scores.get(name)
            if score is None:
                return f"{METRICS[name].name} has no score"
            total += weight * score
        return total


def _read_term(formula: str, term: str) -> tuple[str | None, float]:
    name, weight = None, 1.0
    for operator, operand in _OPERAND.findall(term):
        if operand in METRICS:
            if name or operator == "/":
                raise _refusal(formula, f"{term!r} is no number times one metric")
            name = operand
        elif operator == "/":
            if float(operand) == 0:
                raise _refusal(formula, "it divides by 0")
            weight /= float(operand)
        else:
            weight *= float(operand)
    return name, weight


def _assert_sensible(formula: str, weights: Mapping[str, float], constant: float) -> None:
    if not weights:
        raise _refusal(formula, "it names no metric")
    if not math.isfinite(constant):
        raise _refusal(formula, f"it adds {constant:g}")
    for name, weight in weights.items():
        if METRICS[name].scope == "set":
            raise _refusal(formula, f"{name} exists only over all pictures")
        if not math.isfinite(weight) or weight == 0:
            raise _refusal(formula, f"{name} has the weight {weight:g}")
    directions = [weight > 0 for weight in _towards_better(weights)]
    if any(directions) != all(directions):
        raise _refusal(formula, "its terms pull in opposite directions; subtract what is better when lower")


def _towards_better(weights: Mapping[str, float]) -> list[float]:
    return [weight if METRICS[name].higher_is_better else -weight for name, weight in weights.items()]


def _refusal(formula: str, reason: str) -> UsageError:
    return UsageError(f"--combine {formula!r}: {reason}; write a sum such as 0.5*psnr/100 + 0.5*ms-ssim")
