"""Gather the features of a set of pictures for the FID: exact while there are few, as sums when there are many."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import torch
from torch import Tensor

from restore.errors import WeightsError
from restore.metrics import FidStatistics, frechet_distance, frechet_distance_from_features
from restore.scoring.preparation import AS_STORED, Preparation
from restore.scoring.records import SetScore

ENOUGH = 2049  # pictures from which on a covariance of 2048 features can have full rank
SUFFIX = ".safetensors"
_BATCH = 256  # features added to the sums at a time


class Gathered:
    """The features of a set of pictures; memory is bounded whatever their number.

    Args:
        statistics: of pictures seen elsewhere, to start from.
    """

    def __init__(self, statistics: FidStatistics | None = None) -> None:
        self._sums = statistics
        self._kept: list[Tensor] = []

    def add(self, features: Tensor) -> None:
        """Add one picture's features, (D,)."""
        self._kept.append(features)
        if len(self._kept) >= (ENOUGH if self._sums is None else _BATCH):
            self._sums, self._kept = self.statistics, []

    @property
    def num_pictures(self) -> int:
        """Pictures so far."""
        return len(self._kept) + (self._sums.n if self._sums else 0)

    @property
    def statistics(self) -> FidStatistics:
        """The sums over all pictures so far."""
        if not self._kept:
            return self._sums or FidStatistics.empty()
        return (self._sums or FidStatistics.empty(len(self._kept[0]))).update(torch.stack(self._kept))

    @property
    def features(self) -> Tensor | None:
        """All features, (N,D), while they are few enough to be kept."""
        return torch.stack(self._kept) if self._sums is None and self._kept else None


def distance(reference: Gathered, restored: Gathered) -> SetScore:
    """Return the FID of two sets, in its exact form where the features of both are at hand."""
    ours, theirs = reference.features, restored.features
    numbers = reference.num_pictures, restored.num_pictures
    fewest = min(numbers)
    warning = f"N = {fewest} is below {ENOUGH:,}, so the value is biased upward" if fewest < ENOUGH else None
    try:
        if ours is not None and theirs is not None:
            value = frechet_distance_from_features(ours, theirs)
        else:
            value = frechet_distance(reference.statistics, restored.statistics)
    except ValueError as error:  # fewer than two pictures
        return SetScore(None, *numbers, warning=str(error))
    return SetScore(value, *numbers, warning=warning)


def is_statistics(path: Path) -> bool:
    """Tell whether a path is a file of FID statistics, or a folder with no other files, one for each shard."""
    if path.is_dir():
        files = [entry for entry in path.iterdir() if entry.is_file()]
        return bool(files) and all(file.suffix == SUFFIX for file in files)
    return path.is_file() and path.suffix == SUFFIX


def files_of_statistics(path: Path) -> list[Path]:
    """Return the file that a path is, or those of all shards in the folder that it is."""
    return [path] if path.is_file() else sorted(path.glob(f"*{SUFFIX}"))


def load_statistics(path: Path, preparation: Preparation = AS_STORED) -> FidStatistics:
    """Read FID statistics, those of all shards together where the path is a folder.

    Args:
        path: file or folder.
        preparation: how their pictures must have been prepared; files that do not say how are accepted.

    Raises:
        WeightsError: a file is damaged or holds something else, or its pictures were prepared in another way.
    """
    files = files_of_statistics(path)
    if not files:
        raise WeightsError(f"{path}: holds no {SUFFIX} file of FID statistics")
    return reduce(FidStatistics.merge, (_load(file, preparation) for file in files))


def describe_statistics(statistics: FidStatistics, side: str) -> str:
    """Return the number of pictures on a side, and how they were prepared, as far as the file says."""
    how = ", ".join(f"{key} {value}" for key, value in statistics.preparation.items())
    return f"{statistics.n} {side} ({how or 'how they were prepared was not recorded'})"


def _load(path: Path, preparation: Preparation) -> FidStatistics:
    statistics, wanted = FidStatistics.load(path), preparation.seen_by_networks
    stated = statistics.preparation
    if stated and stated != wanted:
        differing = [f"--{key.replace('_', '-')} {value}" for key, value in stated.items() if wanted.get(key) != value]
        raise WeightsError(
            f"{path}: its pictures were prepared in another way; give {' '.join(differing)}, or compute it anew"
        )
    return statistics
