"""What methods are scored on: pictures, what was done to them, and the words that say so.

Four kinds: a folder of clean pictures with Gaussian noise; a folder of pairs as cameras made them; a folder of clean
pictures degraded by a chain, as recipes write it; drawn patterns degraded by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from restore.data import draw_pattern
from restore.degradations import Chain, gaussian_noise, generator_for
from restore.errors import ImageError, NothingToDoError, UsageError
from restore.images import find_images, read_photo, to_float
from restore.scoring.pairing import pair_files
from restore.types import Task

Pixels = npt.NDArray[np.float32]

SHARED = Path(__file__).resolve().parents[2] / "shared"
CBSD68 = SHARED / "data" / "test" / "cbsd68"
REAL_PAIRS = {Task.DENOISE: SHARED / "data" / "test" / "sidd", Task.DEBLUR: SHARED / "data" / "test" / "gopro"}
GAUSSIAN = "noise added in float, neither clipped nor quantised, one seed for each picture"
DEGRADED = "degraded"
NUM_PATTERNS, PATTERN_PX = 64, 256
LAYOUTS = {("clean", "noisy"): Task.DENOISE, ("sharp", "blur"): Task.DEBLUR}
"""Names of the two folders of a set of pairs, reference first, and what undoes the difference."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture to restore.

    Args:
        name: relative path without the extension.
        reference: (H,W,3) float32 in [0,1].
        degraded: the same shape; noise may leave [0,1].
        sigma: standard deviation of the noise in [0,1], for methods that must be told: that of the Gaussian noise, and
            where the noise is of another kind the root of its mean square in this very picture, which no user knows.
    """

    name: str
    reference: Pixels
    degraded: Pixels
    sigma: float


@dataclass(frozen=True)
class Protocol:
    """A set of pictures and what was done to them.

    Args:
        folder: name of the folder.
        condition: as the head of a column.
        text: what was done, for a reader.
        task: what undoes it.
        sigma: of Gaussian noise, on 0–255; None for anything else.
        samples: reads or makes them anew, sorted by path, the same each time. NothingToDoError: there are none;
            ImageError: one cannot be read; UsageError: they do not make pairs.
    """

    folder: str
    condition: str
    text: str
    task: Task
    sigma: float | None
    samples: Callable[[], Iterator[Sample]]


def gaussian(folder: Path, sigma: float, limit: int | None = None) -> Protocol:
    """Return the published protocol of colour Gaussian denoising.

    Args:
        folder: of clean pictures, searched recursively.
        sigma: on 0–255.
        limit: take the first pictures only.
    """

    def samples() -> Iterator[Sample]:
        for path in _paths(folder, limit):
            clean = _read(path)
            noisy = gaussian_noise(clean, sigma / 255, generator_for(0, path.relative_to(folder)))
            yield Sample(_name(path, folder), _as_rows(clean), _as_rows(noisy), sigma / 255)

    return Protocol(folder.name, f"σ {sigma:g}", GAUSSIAN, Task.DENOISE, sigma, samples)


def pairs(folder: Path, limit: int | None = None) -> Protocol:
    """Return the protocol of real pairs.

    Args:
        folder: holds clean/ and noisy/, or sharp/ and blur/, with pictures of the same names.
        limit: take the first pairs only.

    Raises:
        UsageError: it does not.
    """
    found = next((names for names in LAYOUTS if all((folder / name).is_dir() for name in names)), None)
    if found is None:
        raise UsageError(f"{folder}: holds neither clean/ and noisy/ nor sharp/ and blur/; name the folder above them")
    better, worse = found

    def samples() -> Iterator[Sample]:
        pairing = pair_files(folder / better, folder / worse)
        alone = (*pairing.only_reference, *pairing.only_restored)
        if alone:
            raise UsageError(f"{folder}: {alone[0]} and {len(alone) - 1} others are in one of the folders only")
        for pair in pairing.pairs[:limit]:
            reference, degraded = _read(pair.reference), _read(pair.restored)
            if reference.shape != degraded.shape:
                raise ImageError(f"{pair.restored}: has another size than {pair.reference}")
            yield _sample(pair.name, reference, degraded)

    text = f"{worse} pictures as their files hold them, against the {better} ones of the same names"
    return Protocol(folder.name, f"{worse} → {better}", text, LAYOUTS[found], None, samples)


def _shaken(*more: dict[str, object]) -> Chain:
    shake = {"kind": "motion-blur", "length": [3, 20], "rotation": 0, "zoom": 0}
    return Chain.model_validate({"steps": [shake, *more]})


CHAINS = {
    "shake": _shaken(),
    "defocus": Chain.model_validate({"steps": [{"kind": "defocus-blur", "radius": [1, 4]}]}),
    "gaussian": Chain.model_validate({"steps": [{"kind": "gaussian-blur", "sigma": [1, 2]}]}),
    "noisy-shake": _shaken({"kind": "gaussian-noise", "sigma": [8, 8]}),
}
"""Blur that is drawn, by the names that `evaluate.py --chain` takes."""


def chained(folder: Path, chain: Chain, limit: int | None = None, condition: str = DEGRADED) -> Protocol:
    """Return the protocol of synthetic degradations, such as a blur.

    Args:
        folder: of clean pictures, searched recursively.
        chain: what is done to each.
        limit: take the first pictures only.
        condition: what it is called.
    """

    def samples() -> Iterator[Sample]:
        for path in _paths(folder, limit):
            degraded = chain.degrade_pair(_read(path), generator_for(0, path.relative_to(folder)))
            yield _sample(_name(path, folder), degraded.reference, degraded.image)

    return _of_chain(folder.name, chain, samples, condition)


def patterns(chain: Chain, limit: int | None = None, condition: str = DEGRADED) -> Protocol:
    """Return the protocol of drawn repeated patterns, on which networks fail that know photographs only.

    Args:
        chain: what is done to each.
        limit: take the first patterns only.
        condition: what it is called.
    """

    def samples() -> Iterator[Sample]:
        for index in range(min(NUM_PATTERNS, limit or NUM_PATTERNS)):
            name = f"pattern-{index}"
            pattern = draw_pattern(PATTERN_PX, generator_for(0, Path(name))) / 255
            degraded = chain.degrade_pair(pattern, generator_for(0, Path(name, "degraded")))
            yield _sample(name, degraded.reference, degraded.image)

    return _of_chain("patterns", chain, samples, condition)


def _of_chain(folder: str, chain: Chain, samples: Callable[[], Iterator[Sample]], condition: str) -> Protocol:
    blurs = any(step.kind.endswith("blur") for step in chain.steps)
    text = f"degraded in float by {describe_steps(chain)}, one seed for each picture"
    return Protocol(folder, condition, text, Task.DEBLUR if blurs else Task.DENOISE, None, samples)


def read_rows(path: Path) -> Pixels:
    """Return a picture as (H,W,3) float32 in [0,1]; grey is repeated.

    Raises:
        ImageError: it cannot be read.
    """
    return _as_rows(_read(path))


def describe_steps(chain: Chain) -> str:
    """Say in words what a chain does.

    >>> describe_steps(Chain.model_validate({"steps": [{"kind": "gaussian-noise", "sigma": [0, 55]}]}))
    'Gaussian noise (sigma 0–55 on 0–255)'
    """
    return ", then ".join(_describe_step(step.model_dump(mode="json")) for step in chain.steps) or "nothing"


def _describe_step(step: dict[str, object]) -> str:
    kind, probability = str(step.pop("kind")), step.pop("probability", 1)
    words = {"gaussian": "Gaussian", "jpeg": "JPEG", "webp": "WebP", "poisson": "Poisson"}
    title = " ".join(words.get(word, word) for word in kind.split("-"))
    unit = " on 0–255" if kind == "gaussian-noise" else ""
    known = {name.replace("_", " "): _describe_value(value) for name, value in step.items() if value is not None}
    settings = ", ".join(f"{name} {value}{unit}" for name, value in known.items())
    share = "" if probability == 1 else f" with probability {probability}"
    return title + (f" ({settings})" if settings else "") + share


def _describe_value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        first, *others = (_describe_value(item) for item in value)
        return first if set(others) <= {first} else "–".join((first, *others))
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _paths(folder: Path, limit: int | None) -> list[Path]:
    paths = sorted(find_images(folder))[:limit]
    if not paths:
        raise NothingToDoError(f"{folder}: no pictures to score on")
    return paths


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _read(path: Path) -> torch.Tensor:
    """Return (3,H,W) float32; grey is repeated."""
    pixels = torch.from_numpy(to_float(read_photo(path).pixels))
    return pixels.expand(3, -1, -1) if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _sample(name: str, reference: torch.Tensor, degraded: torch.Tensor) -> Sample:
    sigma = float((degraded.double() - reference.double()).square().mean().sqrt())
    return Sample(name, _as_rows(reference), _as_rows(degraded), min(1.0, sigma))


def _as_rows(planes: torch.Tensor) -> Pixels:
    rows: Pixels = planes.permute(1, 2, 0).contiguous().numpy()
    return rows
