"""What a run learns from, and what it is checked on."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import statistics
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from restore.atomic import write_atomically
from restore.config import TrainConfig
from restore.data import (
    Batch,
    Mixture,
    Picture,
    Request,
    Source,
    Tolerant,
    TrainSamples,
    batches,
    describe,
    open_frames,
    open_pairs,
    open_photos,
    split,
)
from restore.degradations import Chain, draw
from restore.distributed import Team
from restore.errors import UsageError
from restore.metrics import psnr

VALIDATION_SIZE = 256
VALIDATION_PICTURES = 32  # at most
INVISIBLE_DB = 45.0  # pictures that need nothing would else outweigh all that need something
PARTS_OF_FRAMES = ((0.0, 0.9), (0.9, 1.0))  # of every video, for training and validation
OTHER_SAMPLES = 1_000_003  # added to the seed by each rewind
SOURCES = ("clean", "degraded", "reference", "validation", "frames")
SOURCES_FILE = "data.json"


@dataclass(frozen=True)
class Material:
    """Pictures to train on, and others to validate on: clean photographs, or pairs of degraded and reference ones.

    Attributes:
        training: what samples are drawn from.
        held_out: what the moving average is validated on.
        pictures: number of training pictures in each folder, for the record.
        is_paired: whether everything is pairs, which no recipe degrades.
        is_apart: whether nothing of what it is validated on is trained on; with few pictures one serves both.
        sources: the paths that it was opened from, by the names of `open`.
    """

    training: Source
    held_out: Source
    pictures: dict[str, int]
    is_paired: bool = False
    is_apart: bool = True
    sources: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        config: TrainConfig,
        *,
        clean: Path | None = None,
        degraded: Path | None = None,
        reference: Path | None = None,
        validation: Path | None = None,
        frames: Path | None = None,
    ) -> Material:
        """Open a folder or pack of clean photographs, or two folders of pairs.

        Nothing is decoded yet but the first frame of each video.

        Args:
            config: its `data` say how much memory decoded pictures may take and what share is held out.
            clean: photographs that the recipe degrades.
            degraded: pictures to restore, with a reference of the same name each.
            reference: what they should become.
            validation: photographs to validate on, instead of a share of the others, and none of them even where they
                lie in `clean`; for pairs a folder with `degraded` and `reference`.
            frames: consecutive sharp frames, whose means are blurred as by real motion; a share of the samples beside
                `clean`, and of the validation.

        Raises:
            UsageError: neither or both kinds are given, the recipe degrades nothing, pairs do not match, what is
                trained on lies among what it is validated on, or frames among other pictures or the other way round.
            NothingToDoError: no pictures.
        """
        cache_bytes = int(config.data.cache_gb * 1e9)
        given = dict(zip(SOURCES, (clean, degraded, reference, validation, frames), strict=True))
        sources = {name: path.absolute() for name, path in given.items() if path is not None}
        _check_apart(sources)
        if degraded is None and reference is None and clean is not None:
            source: Source = open_photos(clean, exclude=validation, cache_bytes=cache_bytes)
        elif degraded is not None and reference is not None and clean is None:
            source = open_pairs(degraded, reference, cache_bytes=cache_bytes)
        else:
            raise UsageError("name either a folder of clean photographs, or pairs: --degraded with --reference")
        if clean and not config.degradations:
            raise UsageError("the recipe degrades nothing: add a [[degradations]] table, or give pairs")
        if validation is None:
            training, held_out = split(source, config.data.validation_share)
        elif clean is not None:
            training, held_out = source, open_photos(validation, cache_bytes=cache_bytes)
        else:
            training = source
            held_out = open_pairs(validation / "degraded", validation / "reference", cache_bytes=cache_bytes)
        is_apart = validation is not None or len(training) < len(source)
        pictures = _by_folder(training, reference if clean is None else clean)
        if frames is None:
            return cls(training, held_out, pictures, is_paired=clean is None, is_apart=is_apart, sources=sources)
        if clean is None:
            raise UsageError("frames of a video go with clean photographs, not with pairs")
        name = frames.resolve().name
        share, largest_px = config.data.frames_share, max(stage.size for stage in config.patches)
        moving, later = (
            open_frames(
                frames,
                num_frames=config.data.frames_num,
                skip=config.data.frames_skip,
                part=part,
                tile_px=tile_px,
                display_share=config.data.frames_display,
                cache_bytes=cache_bytes,
            )
            for part, tile_px in zip(PARTS_OF_FRAMES, (largest_px, VALIDATION_SIZE), strict=True)
        )
        return cls(
            Mixture([(training, 1 - share), (moving, share)]),
            Mixture([(held_out, 1 - share), (later, share)]),
            pictures | {name: pictures.get(name, 0) + moving.num_frames},
            is_apart=is_apart,
            sources=sources,
        )

    def record(self, run_dir: Path) -> None:
        """Write down in a run folder where the pictures lie, for `recorded_sources`.

        Raises:
            OSError: as the system says it.
        """
        paths = {name: str(path) for name, path in self.sources.items()}
        write_atomically(run_dir / SOURCES_FILE, (json.dumps(paths, indent=2) + "\n").encode())


def _check_apart(sources: Mapping[str, Path]) -> None:
    """Refuse sources of which one holds what another is validated on; photographs may hold those of `validation`."""
    real = {name: path.resolve() for name, path in sources.items()}
    given, frames = sources.get("validation"), real.get("frames")
    places = [] if given is None else [path.resolve() for path in (given, given / "degraded", given / "reference")]
    for name, path in real.items():
        if name != "validation" and any(path.is_relative_to(place) for place in places):
            told = "would be trained on, and is among the pictures of --validation; name others"
            raise UsageError(f"{sources[name]}: {told}")
        if name != "frames" and frames and (path.is_relative_to(frames) or frames.is_relative_to(path)):
            told = "one lies in the other, and the end of each video is validated on; name folders that are apart"
            raise UsageError(f"{sources['frames']} and {sources[name]}: {told}")


def recorded_sources(run_dir: Path) -> dict[str, Path]:
    """Return what `Material.open` took for a run, by the names of its arguments; nothing where the run does not say."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):  # an older run, or a file edited by hand
        found = json.loads((run_dir / SOURCES_FILE).read_text(encoding="utf-8"))
        return {name: Path(path) for name, path in found.items() if name in SOURCES}
    return {}


def training_samples(config: TrainConfig, material: Material, num_rewinds: int = 0) -> TrainSamples:
    """Return what a run draws from; each rewind goes on with other samples."""
    return TrainSamples(
        material.training,
        None if material.is_paired else config.degradations,
        seed=config.seed + OTHER_SAMPLES * num_rewinds,
        told_share=config.data.told_share,
        grey_share=config.data.grey_share,
        patterns_share=config.data.patterns_share,
    )


def sample_stream(
    config: TrainConfig,
    samples: TrainSamples,
    team: Team,
    *,
    first_step: int,
    progress_at: Callable[[int], float],
) -> Generator[Batch]:
    """Yield the batches of one process, those of `optimiser.accumulation` passes for each step.

    The samples of a pass depend on its number, the process and the seed alone: a run goes on with the right ones from
    any step, and N processes see what one process sees in N times as many passes.

    Args:
        config: the recipe.
        samples: to draw from.
        team: the processes that share the passes.
        first_step: to yield for.
        progress_at: share of the budget used up at a step, which decides the size of the patches.
    """
    passes_a_step = config.optimiser.accumulation
    most = max(stage.batch_size for stage in config.patches)  # so that smaller batches later on repeat no sample

    def requests() -> Iterator[list[Request]]:
        for number in itertools.count(first_step * passes_a_step):
            stage = config.patch_stage(progress_at(number // passes_a_step))
            first = (number * team.size + team.rank) * most
            yield [Request(first + index, stage.size) for index in range(stage.batch_size)]

    yield from batches(samples, requests(), config.data.workers)


class Validation(NamedTuple):
    """What a network makes of held-out patches.

    Attributes:
        psnr_db: mean, 45 counting for all above.
        gain_db: how far that is above the degraded patches, likewise.
        pictures: the first samples as (N,3,H,3W): degraded, restored, reference.
        bad: held-out pictures that cannot be read, by name, and why; others took their places.
    """

    psnr_db: float
    gain_db: float
    pictures: Tensor
    bad: dict[str, str]


@torch.no_grad()
def validate(
    network: nn.Module, source: Source, config: TrainConfig, device: torch.device, *, is_paired: bool = False
) -> Validation:
    """Restore the central patches of held-out pictures, degraded the same way every time.

    Args:
        network: in evaluation mode, on the device.
        source: held-out pictures.
        config: its degradations are drawn from with a generator for each picture.
        device: of the network.
        is_paired: whether everything is pairs, which no recipe degrades.

    Raises:
        NothingToDoError: too many pictures cannot be read.
    """
    before: list[float] = []
    after: list[float] = []
    rows: list[Tensor] = []
    pictures = Tolerant(source)
    for index in validated(source):
        chains = () if is_paired else config.degradations
        degraded, reference = _central_sample(pictures.read(index), index, chains)
        restored = network(degraded[None].to(device, memory_format=torch.channels_last)).float().clamp(0, 1)[0].cpu()
        before.append(min(psnr(reference, degraded.clamp(0, 1)), INVISIBLE_DB))
        after.append(min(psnr(reference, restored), INVISIBLE_DB))
        if len(rows) < 4 and reference.shape[-2:] == (VALIDATION_SIZE, VALIDATION_SIZE):
            rows.append(torch.cat([degraded, restored, reference], dim=-1))
    shown = torch.stack(rows) if rows else torch.empty(0, 3, VALIDATION_SIZE, 1)
    psnr_db = statistics.fmean(after)
    return Validation(psnr_db, psnr_db - statistics.fmean(before), shown, pictures.bad)


def validated(source: Source) -> range:
    """Return the indices of the held-out pictures that a validation takes: at most 32, spread evenly."""
    return range(0, len(source), math.ceil(len(source) / VALIDATION_PICTURES))


def _by_folder(source: Source, root: Path | None) -> dict[str, int]:
    """Count the pictures of each first folder; those in none under the name of the folder that was given."""
    counts = describe(source)
    loose = counts.pop(".", 0)
    if not loose or root is None:
        return counts
    name = root.resolve().name
    return {name: loose + counts.get(name, 0)} | {other: num for other, num in counts.items() if other != name}


def _central_sample(picture: Picture, index: int, chains: Sequence[Chain]) -> tuple[Tensor, Tensor]:
    """Degrade the middle of a picture as in training: of a mean of frames only what does not blur, of pairs nothing."""
    image, *reference = map(_centre, picture if isinstance(picture, tuple) else (picture,))
    if not chains:
        return image, reference[0]
    drawn = draw(chains, image, torch.Generator().manual_seed(index), *reference)
    return drawn.image, drawn.reference


def _centre(picture: Tensor) -> Tensor:
    """Return the middle of an integer picture as float32 in [0,1]."""
    height, width = picture.shape[-2:]
    top, left = max(0, height - VALIDATION_SIZE) // 2, max(0, width - VALIDATION_SIZE) // 2
    patch = picture[:, top : top + VALIDATION_SIZE, left : left + VALIDATION_SIZE]
    return patch.float().div_(torch.iinfo(picture.dtype).max)
