"""Compare a folder of restored pictures with their references."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import statistics
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restore.errors import ImageError, NothingToDoError, UsageError
from restore.images import MAX_PIXELS, Photo, find_images, read_photo, to_float
from restore.metrics import METRICS

PROTOCOL = (
    "values as stored, each file scaled to [0,1] by its own depth (8 bit: /255, 16 bit: /65535, float: as it is, "
    "clipped to [0,1]); pictures upright; alpha and colour profiles ignored; nothing resized"
)
LARGE = 2**24  # pixels from which on pictures are scored one at a time, to bound the memory

_one_at_a_time = threading.Lock()
_DEPTHS = {"uint8": "8 bit", "uint16": "16 bit", "float32": "float"}


@dataclass(frozen=True)
class Pair:
    """A reference and its restored picture; the name is the relative path without the extension."""

    name: str
    reference: Path
    restored: Path


@dataclass(frozen=True)
class Pairing:
    """Two folders matched by name.

    Attributes:
        pairs: sorted by name.
        only_reference: names of references without a restored picture.
        only_restored: names of restored pictures without a reference.
    """

    pairs: tuple[Pair, ...]
    only_reference: tuple[str, ...]
    only_restored: tuple[str, ...]


@dataclass(frozen=True)
class PairScore:
    """The scores of one pair.

    Attributes:
        name: of the pair.
        kind: colour and depth, such as "RGB, 8 bit" or "grey, 8 bit against 16 bit".
        identical: whether every value agrees.
        clipped: whether float values outside [0,1] were clipped.
        scores: by metric; infinite PSNR for identical pictures, None where the metric is undefined.
        reasons: by metric, why there is no score.
        warnings: what the reader of the two files had to say.
    """

    name: str
    kind: str
    identical: bool
    clipped: bool
    scores: dict[str, float | None]
    reasons: dict[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """A pair that could not be scored, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """One metric over all pairs with a finite score.

    Attributes:
        mean: of the scores of the single pictures; None without any.
        deviation: standard deviation of the sample (N-1); None below two pictures.
        median: None without any.
        num_pairs: that are counted in.
        num_infinite: identical pairs, left out.
        num_undefined: pairs for which the metric is not defined, left out.
    """

    mean: float | None
    deviation: float | None
    median: float | None
    num_pairs: int
    num_infinite: int
    num_undefined: int


@dataclass(frozen=True)
class ScoreReport:
    """All that was found out about two folders.

    Attributes:
        metrics: names, as in METRICS.
        pairs: sorted by name.
        failures: sorted by name.
        only_reference: names without a restored picture.
        only_restored: names without a reference.
    """

    metrics: tuple[str, ...]
    pairs: tuple[PairScore, ...]
    failures: tuple[Failure, ...]
    only_reference: tuple[str, ...]
    only_restored: tuple[str, ...]

    @property
    def protocol(self) -> str:
        """How the pictures were compared, with the colours and depths that were met."""
        return "; ".join([*sorted({pair.kind for pair in self.pairs}), PROTOCOL])

    @property
    def num_missing(self) -> int:
        """Number of pictures without a partner, on either side."""
        return len(self.only_reference) + len(self.only_restored)

    def summary(self, metric: str) -> Summary:
        """Return mean, deviation and median of one metric."""
        known = [score for pair in self.pairs if (score := pair.scores[metric]) is not None]
        finite = [score for score in known if math.isfinite(score)]
        return Summary(
            mean=statistics.fmean(finite) if finite else None,
            deviation=statistics.stdev(finite) if len(finite) > 1 else None,
            median=statistics.median(finite) if finite else None,
            num_pairs=len(finite),
            num_infinite=len(known) - len(finite),
            num_undefined=len(self.pairs) - len(known),
        )

    def worst(self, metric: str, count: int) -> tuple[PairScore, ...]:
        """Return the pairs with the worst scores of a metric, the worst first."""
        sign = 1 if METRICS[metric].higher_is_better else -1
        scored = [(sign * score, pair.name, pair) for pair in self.pairs if (score := pair.scores[metric]) is not None]
        return tuple(pair for *_, pair in sorted(scored)[:count])  # a name stands once, so no two records are compared

    def document(self) -> dict[str, Any]:
        """Return the report as JSON can hold it: six decimals, null for what is infinite or undefined."""
        return {
            "protocol": self.protocol,
            "metrics": {name: self._metric_document(name) for name in self.metrics},
            "num_pairs": len(self.pairs),
            "num_identical": sum(pair.identical for pair in self.pairs),
            "num_clipped": sum(pair.clipped for pair in self.pairs),
            "pairs": [_pair_document(pair) for pair in self.pairs],
            "failures": [dataclasses.asdict(failure) for failure in self.failures],
            "only_reference": list(self.only_reference),
            "only_restored": list(self.only_restored),
        }

    def _metric_document(self, name: str) -> dict[str, Any]:
        metric, summary = METRICS[name], self.summary(name)
        return {
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "range": [_finite(bound) for bound in metric.range],
            "paper": metric.paper,
            "protocol": metric.protocol,
            "mean": _finite(summary.mean),
            "deviation": _finite(summary.deviation),
            "median": _finite(summary.median),
            "num_pairs": summary.num_pairs,
            "num_infinite": summary.num_infinite,
            "num_undefined": summary.num_undefined,
        }


def pair_files(reference: Path, restored: Path) -> Pairing:
    """Match two folders by relative path without the extension; two files make one pair whatever their names.

    Raises:
        UsageError: a path is missing, a file stands against a folder, or two files of one folder have the same name.
        NothingToDoError: a folder holds no pictures, or no name is on both sides.
    """
    for path in (reference, restored):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder; name one that exists")
    if reference.is_file() and restored.is_file():
        return Pairing((Pair(reference.stem, reference, restored),), (), ())
    for path, other in ((reference, restored), (restored, reference)):
        if not path.is_dir():
            raise UsageError(f"{path}: is a file, and {other} is a folder; compare two folders or two files")
    references, outputs = _by_name(reference, restored), _by_name(restored, reference)
    common = sorted(references.keys() & outputs.keys())
    if not common:
        raise NothingToDoError(
            f"{reference} and {restored}: no picture has the same name in both, extension aside "
            f"(such as {min(references)} and {min(outputs)}); rename one side"
        )
    return Pairing(
        tuple(Pair(name, references[name], outputs[name]) for name in common),
        tuple(sorted(references.keys() - outputs.keys())),
        tuple(sorted(outputs.keys() - references.keys())),
    )


def score_pair(pair: Pair, metrics: Sequence[str], *, max_pixels: int = MAX_PIXELS) -> PairScore:
    """Read two pictures and compare them.

    Args:
        pair: the two files.
        metrics: names, as in METRICS.
        max_pixels: above which a picture is not decoded.

    Raises:
        ImageError: one cannot be read or holds NaN or infinite values, or size or channels differ.
    """
    paths = (pair.reference, pair.restored)
    photos = [read_photo(path, max_pixels=max_pixels) for path in paths]
    _assert_comparable(pair, *photos)
    with _one_at_a_time if photos[0].pixels.size > 3 * LARGE else contextlib.nullcontext():
        reference, restored = (_to_tensor(photo) for photo in photos)
        outcomes = {name: _measure(name, reference, restored) for name in metrics}
        return PairScore(
            name=pair.name,
            kind=_kind(*photos),
            identical=torch.equal(reference, restored),
            clipped=any(_exceeds(photo.pixels) for photo in photos),
            scores={name: None if isinstance(outcome, str) else outcome for name, outcome in outcomes.items()},
            reasons={name: outcome for name, outcome in outcomes.items() if isinstance(outcome, str)},
            warnings=tuple(
                f"{path}: {warning}" for path, photo in zip(paths, photos, strict=True) for warning in photo.warnings
            ),
        )


def score_folders(
    reference: Path,
    restored: Path,
    metrics: Sequence[str] = ("psnr", "ssim"),
    *,
    max_pixels: int = MAX_PIXELS,
    on_pair: Callable[[int, int], None] | None = None,
) -> ScoreReport:
    """Score every pair of two folders; a pair that fails is reported and the others go on.

    Args:
        reference: folder (or file) of references.
        restored: folder (or file) of restored pictures.
        metrics: names, as in METRICS.
        max_pixels: above which a picture is not decoded.
        on_pair: called after each pair with the number done and the number of all.

    Raises:
        UsageError: an unknown metric, or as `pair_files`.
        NothingToDoError: as `pair_files`.
    """
    for name in metrics:
        if name not in METRICS:
            raise UsageError(f"{name}: no such metric; choose from {', '.join(METRICS)}")
    pairing = pair_files(reference, restored)

    def attempt(pair: Pair) -> PairScore | Failure:
        try:
            return score_pair(pair, metrics, max_pixels=max_pixels)
        except ImageError as error:
            return Failure(pair.name, str(error))

    outcomes = []
    for outcome in _in_threads(attempt, pairing.pairs):
        outcomes.append(outcome)
        if on_pair:
            on_pair(len(outcomes), len(pairing.pairs))
    return ScoreReport(
        metrics=tuple(metrics),
        pairs=tuple(outcome for outcome in outcomes if isinstance(outcome, PairScore)),
        failures=tuple(outcome for outcome in outcomes if isinstance(outcome, Failure)),
        only_reference=pairing.only_reference,
        only_restored=pairing.only_restored,
    )


def _pair_document(pair: PairScore) -> dict[str, Any]:
    return dataclasses.asdict(pair) | {"scores": {name: _finite(score) for name, score in pair.scores.items()}}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _by_name(folder: Path, other: Path) -> dict[str, Path]:
    """Return the pictures of a folder by name, leaving out those of the other folder where that lies inside."""
    files: dict[str, Path] = {}
    inside = folder.resolve() in other.resolve().parents
    for path in find_images(folder, exclude=other if inside else None):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise UsageError(f"{files[name]} and {path}: the same name but for the extension; keep one of them")
        files[name] = path
    if not files:
        raise NothingToDoError(f"{folder}: no pictures in it; name a folder of pictures")
    return files


def _measure(metric: str, reference: Tensor, restored: Tensor) -> float | str:
    """Return the score, or why there is none."""
    try:
        return METRICS[metric].function(reference, restored)
    except ValueError as error:
        return str(error)


def _assert_comparable(pair: Pair, reference: Photo, restored: Photo) -> None:
    for photo, path in ((reference, pair.reference), (restored, pair.restored)):
        if photo.pixels.dtype == np.float32 and not np.isfinite(photo.pixels).all():
            raise ImageError(f"{path}: holds NaN or infinite values and has no score; write it anew")
    if _colour(reference) != _colour(restored):
        raise ImageError(
            f"{pair.restored}: is {_colour(restored)} and its reference {_colour(reference)}; convert one of them"
        )
    (height, width), (other_height, other_width) = reference.pixels.shape[:2], restored.pixels.shape[:2]
    if (height, width) != (other_height, other_width):
        raise ImageError(
            f"{pair.restored}: has {other_width}×{other_height} pixels and its reference {width}×{height}; "
            "pictures are never resized for a score, restore at the reference's size"
        )


def _to_tensor(photo: Photo) -> Tensor:
    pixels = torch.from_numpy(to_float(photo.pixels)).clamp(0, 1)
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def _exceeds(pixels: np.ndarray) -> bool:
    return pixels.dtype == np.float32 and bool(pixels.min() < 0 or pixels.max() > 1)


def _colour(photo: Photo) -> str:
    return "grey" if photo.pixels.ndim == 2 else "RGB"


def _kind(reference: Photo, restored: Photo) -> str:
    depths = [_DEPTHS[photo.pixels.dtype.name] for photo in (reference, restored)]
    return f"{_colour(reference)}, {' against '.join(dict.fromkeys(depths))}"


def _in_threads(
    function: Callable[[Pair], PairScore | Failure], pairs: Iterable[Pair]
) -> Iterator[PairScore | Failure]:
    """Yield the outcomes in order, a few pairs ahead of their consumer."""
    num_workers = min(4, os.cpu_count() or 1)
    waiting: deque[Future[PairScore | Failure]] = deque()
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="score")
    try:
        for pair in pairs:
            waiting.append(pool.submit(function, pair))
            if len(waiting) > 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
