"""Score every pair of two folders, a few pairs in memory at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from restore.errors import ImageError, UsageError, WeightsError
from restore.images import Photo
from restore.metrics import FidStatistics
from restore.scoring.gathering import Gathered, describe_statistics, distance, is_statistics, load_statistics
from restore.scoring.measures import FID, Measures, load_measures
from restore.scoring.pairing import Pair, by_name, pair_files
from restore.scoring.preparation import AS_STORED, Preparation
from restore.scoring.records import Failure, PairScore, ScoreReport
from restore.scoring.workers import as_image_errors, in_threads

LARGE = 2**24  # pixels above which pictures are decoded and scored one at a time, to bound the memory
OnPair = Callable[[int, int], None]

_one_at_a_time = threading.Lock()
_Photos = TypeVar("_Photos", Photo, "tuple[Photo, Photo]")


class _Scored(NamedTuple):
    """A pair's scores, and its features for the FID where that is asked for."""

    scores: PairScore
    features: tuple[Tensor, Tensor] | None


class _Seen(NamedTuple):
    """The features of a picture without a pair, and what there is to say of it."""

    features: Tensor
    clipped: bool
    warnings: tuple[str, ...]


@dataclass
class _SeenAll:
    """The same of a folder of such pictures."""

    gathered: Gathered
    failures: list[Failure] = field(default_factory=list)
    num_clipped: int = 0
    warnings: list[str] = field(default_factory=list)


def score_pair(pair: Pair, metrics: Sequence[str] | Measures, preparation: Preparation = AS_STORED) -> PairScore:
    """Read two pictures and compare them.

    Args:
        pair: the two files.
        metrics: names of METRICS, or what `load_measures` made of them.
        preparation: how files become numbers.

    Raises:
        ImageError: one cannot be read or holds NaN or infinite values, size or channels differ, or the memory does
            not suffice.
    """
    return _score(pair, _loaded(metrics), preparation).scores


def assert_scorable(reference: Path, restored: Sequence[Path]) -> None:
    """Look at several folders before the first is scored, so that a wrong one does not cost the work on the others.

    Raises:
        UsageError: as `score_folders`.
        NothingToDoError: as `score_folders`.
    """
    for path in restored:
        if not is_statistics(reference):
            pair_files(reference, path, restored)
        elif not (is_statistics(path) or path.is_dir()):
            raise UsageError(f"{path}: is no folder; statistics are compared with a folder of pictures")


def score_folders(
    reference: Path,
    restored: Path,
    metrics: Sequence[str] | Measures = ("psnr", "ssim"),
    *,
    others: Sequence[Path] = (),
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
        others: further folders that are compared, which are no part of a folder that they lie in.
        preparation: how files become numbers.
        label: what to call the restored pictures; the name of their folder if absent.
        num_workers: threads that decode and score; by the number of cores if absent.
        on_pair: called after each pair with the number done and the number of all.

    Raises:
        UsageError: an unknown metric, or as `pair_files`.
        NothingToDoError: as `pair_files`.
        WeightsError: statistics cannot be read or are of pictures prepared in another way, or the network that they
            need is missing.
    """
    measures, label = _loaded(metrics), label or restored.name
    if is_statistics(reference):
        return _score_statistics(
            reference,
            restored,
            measures,
            others=others,
            preparation=preparation,
            label=label,
            num_workers=num_workers,
            on_pair=on_pair,
        )
    pairing = pair_files(reference, restored, others)

    def attempt(pair: Pair) -> _Scored | Failure:
        try:
            return _score(pair, measures, preparation)
        except ImageError as error:
            return Failure(pair.name, str(error))

    scores, failures, gathered = [], [], (Gathered(), Gathered())
    for num_done, outcome in enumerate(in_threads(attempt, pairing.pairs, num_workers), start=1):
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
        skipped=pairing.skipped,
        label=label,
        preparation=preparation,
        combination=measures.combination,
        statistics=(_stating(gathered[0], preparation), _stating(gathered[1], preparation)) if with_fid else None,
    )


def _score_statistics(
    reference: Path,
    restored: Path,
    measures: Measures,
    *,
    others: Sequence[Path],
    preparation: Preparation,
    label: str,
    num_workers: int | None,
    on_pair: OnPair | None,
) -> ScoreReport:
    """Return the FID of pictures, or of statistics, against statistics, of which no single picture is known."""
    assert_scorable(reference, [restored])
    stored = load_statistics(reference, preparation)
    words = f"saved FID statistics of {describe_statistics(stored, 'references')}"
    report = ScoreReport(metrics=(), pairs=(), label=label, preparation=preparation)
    if is_statistics(restored):
        other = load_statistics(restored, preparation)
        return replace(
            report,
            sets={FID: distance(Gathered(stored), Gathered(other))},
            statistics=(stored, other),
            stored=f"{words} and {describe_statistics(other, 'restored pictures')}",
        )
    if measures.inception is None:
        reason = measures.left_out.get(FID, "the FID is not among the metrics")
        raise WeightsError(f"{reference}: statistics serve the FID alone; {reason}")
    listing = by_name(restored, others)
    seen = _see_all(listing.files, measures, preparation, num_workers=num_workers, on_pair=on_pair)
    return replace(
        report,
        failures=tuple(seen.failures),
        sets={FID: distance(Gathered(stored), seen.gathered)},
        skipped=listing.skipped,
        statistics=(stored, _stating(seen.gathered, preparation)),
        stored=words,
        unpaired_warnings=tuple(seen.warnings),
        num_unpaired_clipped=seen.num_clipped,
    )


def _see_all(
    files: Mapping[str, Path],
    measures: Measures,
    preparation: Preparation,
    *,
    num_workers: int | None,
    on_pair: OnPair | None,
) -> _SeenAll:
    def attempt(name: str) -> _Seen | Failure:
        try:
            return _see(files[name], measures, preparation)
        except ImageError as error:
            return Failure(name, str(error))

    seen = _SeenAll(Gathered())
    for num_done, outcome in enumerate(in_threads(attempt, sorted(files), num_workers), start=1):
        if isinstance(outcome, Failure):
            seen.failures.append(outcome)
        else:
            seen.gathered.add(outcome.features)
            seen.num_clipped += outcome.clipped
            seen.warnings += outcome.warnings
        if on_pair:
            on_pair(num_done, len(files))
    return seen


def _loaded(metrics: Sequence[str] | Measures) -> Measures:
    return metrics if isinstance(metrics, Measures) else load_measures(metrics)


def _stating(gathered: Gathered, preparation: Preparation) -> FidStatistics:
    return replace(gathered.statistics, preparation=preparation.seen_by_networks)


def _score(pair: Pair, measures: Measures, preparation: Preparation) -> _Scored:
    with as_image_errors(pair.restored), _read(preparation, lambda bounded: bounded.read(pair)) as photos:
        prepared = preparation.prepare(pair, photos)
        pictures = (prepared.reference, prepared.restored)
        compared = (preparation.compared(pictures[0]), preparation.compared(pictures[1]))
        scores, reasons, notes = measures.score(pictures, compared)
        record = PairScore(
            pair=pair,
            kind=prepared.kind,
            identical=torch.equal(*compared),
            clipped=prepared.clipped,
            alpha_on_one_side=prepared.alpha_on_one_side,
            scores=scores,
            reasons=reasons,
            notes=notes,
            warnings=prepared.warnings,
        )
        if measures.inception is None:
            return _Scored(record, None)
        return _Scored(record, (measures.features(pictures[0]), measures.features(pictures[1])))


def _see(path: Path, measures: Measures, preparation: Preparation) -> _Seen:
    with as_image_errors(path), _read(preparation, lambda bounded: bounded.read_one(path)) as photo:
        prepared = preparation.prepare_one(path, photo)
        return _Seen(measures.features(prepared.picture), prepared.clipped, prepared.warnings)


@contextlib.contextmanager
def _read(preparation: Preparation, read: Callable[[Preparation], _Photos]) -> Iterator[_Photos]:
    """Give what is read, and large pictures only while no other large ones are in memory."""
    bounded = replace(preparation, max_pixels=min(LARGE, preparation.max_pixels))
    photos = None
    try:
        photos = read(bounded)
    except ImageError:
        if bounded == preparation:
            raise
    if photos is not None:
        yield photos
        return
    with _one_at_a_time:  # too large for the bound, which shows before anything is decoded; or broken, which will show
        yield read(preparation)
