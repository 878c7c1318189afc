"""Metrics made ready to measure: names checked, weights found and loaded, what is missing named."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from restore.errors import UsageError, WeightsError
from restore.fetching import find_weights
from restore.metrics import METRICS, Clamped, InceptionFid, Metric, PairFunction, score_all
from restore.scoring.combination import COMBINED, Combination
from restore.settings import unknown

FID = "fid"
CLAMPED_NOTE = "a negative term was taken as 0"

_one_network_at_a_time = threading.Lock()  # each uses all cores by itself


@dataclass(frozen=True)
class Measures:
    """What is measured of every pair, loaded.

    Attributes:
        names: of the metrics of single pairs, as in METRICS; the combined score is not among them.
        networks: of those that need weights, by name.
        inception: the network of the FID, or None where it is not asked for.
        combination: the combined score, or None.
        left_out: by metric, why it could not be loaded, and what to do.
    """

    names: tuple[str, ...] = ("psnr", "ssim")
    networks: dict[str, PairFunction] = field(default_factory=dict)
    inception: InceptionFid | None = None
    combination: Combination | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    def score(
        self, pictures: tuple[Tensor, Tensor], compared: tuple[Tensor, Tensor]
    ) -> tuple[dict[str, float | None], dict[str, str], dict[str, str]]:
        """Score one pair.

        Args:
            pictures: reference and restored, (C,H,W) in [0,1], for the networks.
            compared: the same or their luma, for all other metrics.

        Returns:
            By metric: the scores, None where undefined; the reasons for those; notes on the others.
        """
        plain = [name for name in self.names if name not in self.networks]
        outcomes = dict(score_all(plain, *compared))
        if self.networks:
            with _one_network_at_a_time:
                outcomes |= score_all(list(self.networks), *pictures, self.networks)
        outcomes = {name: outcomes[name] for name in self.names}
        scores = {name: None if isinstance(found, ValueError) else float(found) for name, found in outcomes.items()}
        reasons = {name: str(found) for name, found in outcomes.items() if isinstance(found, ValueError)}
        notes = {name: CLAMPED_NOTE for name, found in outcomes.items() if isinstance(found, Clamped)}
        if self.combination:
            total = self.combination.score(scores)
            scores[COMBINED] = None if isinstance(total, str) else total
            if isinstance(total, str):
                reasons[COMBINED] = total
        return scores, reasons, notes

    def features(self, picture: Tensor) -> Tensor:
        """Return the (2048,) float64 features of a (C,H,W) picture in [0,1] for the FID."""
        assert self.inception is not None, "the FID was not loaded"
        with _one_network_at_a_time:
            return self.inception.features(picture)

    @property
    def all_names(self) -> tuple[str, ...]:
        """Names of the scores of single pairs, the combined one last."""
        return (*self.names, COMBINED) if self.combination else self.names

    @property
    def everything_asked_for(self) -> tuple[str, ...]:
        """Names of all scores, those over all pictures and those left out with them."""
        return (*self.all_names, *((FID,) if self.inception else ()), *self.left_out)


def load_measures(
    names: Sequence[str] = ("psnr", "ssim"),
    *,
    combine: str | None = None,
    weights_dir: Path | None = None,
    fid_weights: Path | None = None,
) -> Measures:
    """Check the names of metrics and load what they need.

    Args:
        names: as in METRICS.
        combine: formula of a combined score; its metrics are added to the names.
        weights_dir: folder with the weights of metrics, or None for the usual places.
        fid_weights: file with those of the FID, instead.

    Raises:
        UsageError: an unknown metric, a formula that cannot be read, or `fid_weights` without the FID.
        WeightsError: a file of weights is damaged, or `fid_weights` is missing.
    """
    combination = Combination.parse(combine) if combine is not None else None
    wanted = dict.fromkeys([*names, *(combination.weights if combination else ())])
    for name in wanted:
        if name not in METRICS:
            raise UsageError(unknown(name, METRICS, "metric"))
    if fid_weights is not None and FID not in wanted:
        raise UsageError(f"--fid-weights {fid_weights}: the FID is not asked for; add fid to --metrics")
    if fid_weights is not None and not fid_weights.is_file():
        raise WeightsError(f"{fid_weights}: no such file; name the weights of the FID's Inception-v3")
    ready, left_out = {}, {}
    for name in wanted:
        metric = METRICS[name]
        try:
            weights = fid_weights if name == FID and fid_weights else _find(metric, weights_dir)
        except WeightsError as error:
            left_out[name] = str(error)
        else:
            ready[name] = metric.load(weights)
    if combination and not combination.weights.keys() <= ready.keys():
        missing = ", ".join(name for name in combination.weights if name not in ready)
        left_out[COMBINED] = f"{combination.formula}: needs {missing}, which is left out"
        combination = None
    return Measures(
        names=tuple(name for name in ready if METRICS[name].scope == "pair"),
        networks={name: loaded for name, loaded in ready.items() if METRICS[name].weights and name != FID},
        inception=ready.get(FID),
        combination=combination,
        left_out=left_out,
    )


def _find(metric: Metric, weights_dir: Path | None) -> Path | None:
    return None if metric.weights is None else find_weights(metric.weights, weights_dir)
