"""Score every pair of two folders, a few pairs in memory at a time."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from restore.errors import ImageError, UsageError, WeightsError
from restore.scoring.gathering import Gathered, distance, is_statistics, load_statistics
from restore.scoring.measures import FID, Measures, load_measures
from restore.scoring.pairing import Pair, by_name, pair_files
from restore.scoring.preparation import AS_STORED, Preparation
from restore.scoring.records import Failure, PairScore, ScoreReport

LARGE = 2**24  # pixels from which on pictures are scored one at a time, to bound the memory
OnPair = Callable[[int, int], None]

_one_at_a_time = threading.Lock()
_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")


class _Scored(NamedTuple):
    """A pair's scores, and its features for the FID where that is asked for."""

    scores: PairScore
    features: tuple[Tensor, Tensor] | None


def score_pair(pair: Pair, metrics: Sequence[str] | Measures, preparation: Preparation = AS_STORED) -> PairScore:
    """Read two pictures and compare them.

    Args:
        pair: the two files.
        metrics: names of METRICS, or what `load_measures` made of them.
        preparation: how files become numbers.

    Raises:
        ImageError: one cannot be read or holds NaN or infinite values, or size or channels differ.
    """
    return _score(pair, _loaded(metrics), preparation).scores


def score_folders(
    reference: Path,
    restored: Path,
    metrics: Sequence[str] | Measures = ("psnr", "ssim"),
    *,
    preparation: Preparation = AS_STORED,
    label: str | None = None,
    num_workers: int | None = None,
    on_pair: OnPair | None = None,
) -> ScoreReport:
    """Score every pair of two folders; a pair that fails is reported and the others go on.

    Args:
        reference: folder (or file) of references; or FID statistics, with which only the FID can be computed.
        restored: folder (or file) of restored pictures; or FID statistics where the references are.
        metrics: names of METRICS, or what `load_measures` made of them.
        preparation: how files become numbers.
        label: what to call the restored pictures; the name of their folder if absent.
        num_workers: threads that decode and score; by the number of cores if absent.
        on_pair: called after each pair with the number done and the number of all.

    Raises:
        UsageError: an unknown metric, or as `pair_files`.
        NothingToDoError: as `pair_files`.
        WeightsError: statistics cannot be read, or the network that they need is missing.
    """
    measures, label = _loaded(metrics), label or restored.name
    if is_statistics(reference):
        return _score_statistics(
            reference,
            restored,
            measures,
            preparation=preparation,
            label=label,
            num_workers=num_workers,
            on_pair=on_pair,
        )
    pairing = pair_files(reference, restored)

    def attempt(pair: Pair) -> _Scored | Failure:
        try:
            return _score(pair, measures, preparation)
        except ImageError as error:
            return Failure(pair.name, str(error))

    scores, failures, gathered = [], [], (Gathered(), Gathered())
    for num_done, outcome in enumerate(_in_threads(attempt, pairing.pairs, num_workers), start=1):
        if isinstance(outcome, Failure):
            failures.append(outcome)
        else:
            scores.append(outcome.scores)
            for side, features in zip(gathered, outcome.features or (), strict=False):
                side.add(features)
        if on_pair:
            on_pair(num_done, len(pairing.pairs))
    with_fid = measures.inception is not None
    return ScoreReport(
        metrics=measures.all_names,
        pairs=tuple(scores),
        failures=tuple(failures),
        only_reference=pairing.only_reference,
        only_restored=pairing.only_restored,
        sets={FID: distance(*gathered)} if with_fid else {},
        left_out=measures.left_out,
        label=label,
        preparation=preparation,
        combination=measures.combination,
        statistics=(gathered[0].statistics, gathered[1].statistics) if with_fid else None,
    )


def _score_statistics(
    reference: Path,
    restored: Path,
    measures: Measures,
    *,
    preparation: Preparation,
    label: str,
    num_workers: int | None,
    on_pair: OnPair | None,
) -> ScoreReport:
    """Return the FID of pictures, or of statistics, against statistics, of which no single picture is known."""
    ours, failures = Gathered(load_statistics(reference)), []
    if is_statistics(restored):
        theirs = Gathered(load_statistics(restored))
    elif not restored.is_dir():
        raise UsageError(f"{restored}: is no folder; statistics are compared with a folder of pictures")
    elif measures.inception is None:
        reason = measures.left_out.get(FID, "the FID is not among the metrics")
        raise WeightsError(f"{reference}: statistics serve the FID alone; {reason}")
    else:
        theirs = Gathered()
        files = by_name(restored)

        def attempt(name: str) -> Tensor | Failure:
            try:
                return measures.features(preparation.read_one(files[name]))
            except ImageError as error:
                return Failure(name, str(error))

        for num_done, outcome in enumerate(_in_threads(attempt, sorted(files), num_workers), start=1):
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                theirs.add(outcome)
            if on_pair:
                on_pair(num_done, len(files))
    return ScoreReport(
        metrics=(),
        pairs=(),
        failures=tuple(failures),
        sets={FID: distance(ours, theirs)},
        label=label,
        preparation=preparation,
        statistics=(ours.statistics, theirs.statistics),
    )


def _loaded(metrics: Sequence[str] | Measures) -> Measures:
    return metrics if isinstance(metrics, Measures) else load_measures(metrics)


def _score(pair: Pair, measures: Measures, preparation: Preparation) -> _Scored:
    photos = preparation.read(pair)
    with _one_at_a_time if photos[0].pixels.size > 3 * LARGE else contextlib.nullcontext():
        prepared = preparation.prepare(pair, photos)
        pictures = (prepared.reference, prepared.restored)
        compared = (preparation.compared(pictures[0]), preparation.compared(pictures[1]))
        scores, reasons, notes = measures.score(pictures, compared)
        record = PairScore(
            pair=pair,
            kind=prepared.kind,
            identical=torch.equal(*compared),
            clipped=prepared.clipped,
            scores=scores,
            reasons=reasons,
            notes=notes,
            warnings=prepared.warnings,
        )
        if measures.inception is None:
            return _Scored(record, None)
        return _Scored(record, (measures.features(pictures[0]), measures.features(pictures[1])))


def _in_threads(
    function: Callable[[_Item], _Outcome], items: Iterable[_Item], num_workers: int | None
) -> Iterator[_Outcome]:
    """Yield the outcomes in order, a few items ahead of their consumer."""
    num_workers = num_workers or min(4, os.cpu_count() or 1)
    waiting: deque[Future[_Outcome]] = deque()
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="score")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
