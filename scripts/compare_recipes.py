"""Compare recipes by short trainings from nothing, of equal CPU time and from one seed, one setting changed in each.

    python scripts/compare_recipes.py denoise --minutes 4 --out runs/compare [--only base muon-0.01 …]
    python scripts/compare_recipes.py deblur --minutes 6 --out runs/compare

To denoise: blind PSNR on the first 20 pictures of CBSD68 at σ 15, 25 and 50; to deblur: the gain on the first 20 under
camera shake and on the real pairs. A few steps of each patch size are timed on one thread, by the processor's time,
which other programs hardly change; the number of steps follows from them. Each run has a folder below `--out`; one that
is there already is gone on with, or only scored.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
from benchmarking import hardware, markdown_table
from evaluate import evaluate, our_method, positive
from protocols import CBSD68, REAL_PAIRS, SHARED, chained, gaussian, pairs
from publish_weights import SIGMAS
from score_tables import INPUT

from restore.config import PatchStage, TrainConfig, load_config
from restore.degradations import Chain
from restore.errors import NothingToDoError, RestoreError, UsageError
from restore.training import Material, recorded_sources, train
from restore.types import Task
from restore.weights import load_weights

DATA = SHARED / "data" / "train"
LIMIT = 20
STEPS_BEFORE, STEPS_TIMED = 2, 9  # of the few steps that are timed
SHAKE = Chain.model_validate({"steps": [{"kind": "motion-blur", "length": [3, 12], "rotation": 0, "zoom": 0}]})
LKA = 'kind="lka", expansion=1, feed_forward="gated", inner_skip=false'


def _degradations_of(recipe: str) -> str:
    """Return the setting that takes over the degradations of a recipe."""
    lines = load_config(recipe).as_toml().splitlines()
    return next(line.replace(" = ", "=", 1) for line in lines if line.startswith("degradations = "))


def _patches(*stages: tuple[float, int, int]) -> str:
    tables = (f"{{start={start}, size={size}, batch_size={batch}}}" for start, size, batch in stages)
    return f"patches=[{', '.join(tables)}]"


def _blocks(encoder: Sequence[int], middle: int, decoder: Sequence[int], width: int) -> list[str]:
    """Return the settings of a net of NAFBlocks behind the stem of its preset."""
    stages = {"encoder": encoder, "decoder": decoder}
    return [
        *(f"network.{side}=[{', '.join(f'{{num_blocks={num}}}' for num in nums)}]" for side, nums in stages.items()),
        f"network.middle={{num_blocks={middle}}}",
        f"network.width={width}",
    ]


@dataclass(frozen=True)
class Comparison:
    """What is compared for a task.

    Args:
        recipe: that all start from.
        common: settings of all, the first of `variants` included.
        variants: settings that each changes, by name.
    """

    recipe: str
    common: Sequence[str]
    variants: Mapping[str, Sequence[str]]


COMPARISONS = {
    Task.DENOISE: Comparison(
        "denoise-fast",
        ["network.preset=half-naf-32-slim", "data.patterns_share=0", "precision=fp32", "schedule.kind=cosine"],
        {
            "base": [],
            "loss-psnr": ["loss.kind=psnr", "loss.eps=4e-3", "optimiser.clip_norm=300"],
            "loss-mse": ["loss.kind=mse"],
            "adamw": ["optimiser.kind=adamw", "optimiser.lr=2e-3"],
            "muon-0.01": ["optimiser.lr=0.01", "optimiser.adamw_lr=1e-3"],
            "muon-0.04": ["optimiser.lr=0.04", "optimiser.adamw_lr=4e-3"],
            "ema-0.99": ["ema_decay=0.99"],
            "ema-0.9997": ["ema_decay=0.9997"],
            "patches-64": [_patches((0, 64, 16))],
            "patches-48-to-128": [_patches((0, 48, 16), (0.3, 64, 16), (0.6, 96, 8), (0.85, 128, 4))],
            "batch-4-to-32": [_patches((0, 64, 4), (0.25, 64, 8), (0.5, 64, 16), (0.75, 64, 32))],
            "batch-32": [_patches((0, 64, 32), (0.7, 96, 16))],
            "wide-48": _blocks([1, 1], 3, [1, 1], 48),
            "deep-24": _blocks([2, 6], 8, [3, 3], 24),
            "lka-21-below": [f"network.middle={{num_blocks=6, {LKA}}}"],
            **{
                f"lka-21-{kind.replace('_', '-')}-below": [
                    f"network.middle={{num_blocks=6, {LKA.replace('gated', kind)}}}"
                ]
                for kind in ("geglu", "mlp", "simple_gate")
            },
            "mixture": [_degradations_of("denoise")],
        },
    ),
    Task.DEBLUR: Comparison(
        "deblur-fast",
        [
            "degradations=[{steps=[{kind='motion-blur', length=[1, 12], rotation=0, zoom=0, display=0.7}]}]",
            "precision=fp32",
            "network.preset=half-naf-32",
            "network.scales=1",
            "loss={kind='charbonnier'}",
            "optimiser.clip_norm=0.5",
            "data.patterns_share=0",
            "schedule.decay=0.4",
            "optimiser.lr=0.02",
            "optimiser.adamw_lr=2e-3",
            _patches((0, 96, 8)),
        ],
        {
            "base": [],
            "loss-psnr-0.01": ["loss.kind=psnr", "loss.eps=0.01", "optimiser.clip_norm=300"],
            "wide-48": ["network.preset=half-naf-48"],
            "scales-3": ["network.scales=3"],
            "three-levels": _blocks([2, 2, 4], 4, [2, 2, 2], 32),
            "lka-21-below": [f"network.middle={{num_blocks=4, {LKA}}}"],
            "lka-35-below": [f"network.middle={{num_blocks=4, kernel_size=35, dilation=4, {LKA}}}"],
            "deformable-below": [
                f'network.middle={{num_blocks=2, attention="deformable_lka", offsets="separable", {LKA}}}'
            ],
            "stem-4": ["network.stem=4", *_blocks([4], 8, [4], 64)],
            "stem-4-lka-21": ["network.stem=4", *_blocks([4], 8, [4], 64), f"network.middle={{num_blocks=8, {LKA}}}"],
        },
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of the module's docstring; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", type=Task, choices=list(COMPARISONS), help="denoise or deblur")
    parser.add_argument("--minutes", type=float, default=4, help="of each training (4)")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder of the runs (runs/compare)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the variants")
    parser.add_argument("--data", type=Path, default=DATA, help="clean photographs to train on")
    parser.add_argument("--limit", type=positive, default=LIMIT, help=f"pictures to score on ({LIMIT})")
    parser.add_argument("--list", action="store_true", help="say what each variant changes, and do nothing")
    args = parser.parse_args(arguments)
    comparison = COMPARISONS[args.task]
    unknown = sorted({*(args.only or [])} - comparison.variants.keys())
    if unknown:
        parser.error(f"--only {unknown[0]}: to {args.task} there are {', '.join(comparison.variants)}")
    chosen = {name: settings for name, settings in comparison.variants.items() if name in (args.only or [name])}
    if args.list:
        for name, settings in chosen.items():
            print(f"{name}: {' '.join(settings) or f'the recipe {comparison.recipe}, {comparison.common}'}")
        return 0
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    try:
        for folder in (CBSD68, *([REAL_PAIRS[args.task]] if args.task is Task.DEBLUR else [])):
            if not folder.is_dir():
                raise NothingToDoError(f"{folder}: no pictures to score on")
        for name, settings in chosen.items():
            run = args.out / f"{args.task}-{name}-{args.minutes:g}"
            train_variant(run, load_config(comparison.recipe, [*comparison.common, *settings]), args.data, args.minutes)
            rows.append([name, *_facts(run), *_scores(args.task, run, args.limit)])
            print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    except RestoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{hardware()}\n{args.minutes:g} minutes of processor time each, {_protocol(args.task, args.limit)}\n")
    print(markdown_table(["variant", "10⁶ parameters", "steps", *_columns(args.task)], rows))
    return 0


def train_variant(run: Path, config: TrainConfig, data: Path, minutes: float) -> None:
    """Train for as many steps as fit into minutes of processor time, or go on with the run that is there.

    Raises:
        UsageError: that run is of another recipe, or of other photographs.
        DivergedError: the loss is not finite, or the gradient exploded.
    """
    material = Material.open(config, clean=data)
    recorded = run / "config.toml"
    if recorded.exists():
        if recorded_sources(run) != material.sources:
            raise UsageError(f"{run}: this run is of other photographs; choose another folder (--out)")
        budget = load_config(recorded).budget.model_dump()
    else:
        budget = {"steps": num_steps(config, material, 60 * minutes)}
    train(with_changes(config, budget=budget), material, run, resume=True)


def num_steps(config: TrainConfig, material: Material, seconds: float) -> int:
    """Return how many steps of a recipe fit into seconds of processor time, when every patch size has its share."""
    ends = [*(stage.start for stage in config.patches[1:]), 1.0]
    seconds_a_step = sum(
        (end - stage.start) * _seconds_a_step(config, stage, material)
        for stage, end in zip(config.patches, ends, strict=True)
    )
    return max(1, round(seconds / seconds_a_step))


def _seconds_a_step(config: TrainConfig, stage: PatchStage, material: Material) -> float:
    """Time a few steps with patches of one size; those before them pay for what later ones find ready."""
    times: list[float] = []

    def has_enough() -> bool:
        times.append(time.process_time())
        return len(times) > STEPS_BEFORE + STEPS_TIMED

    alone = {"start": 0.0, "size": stage.size, "batch_size": stage.batch_size}
    trial = with_changes(config, patches=[alone], budget={"steps": 1000})
    with tempfile.TemporaryDirectory() as folder:
        train(trial, material, Path(folder), should_stop=has_enough)
    return statistics.median(after - before for before, after in itertools.pairwise(times[STEPS_BEFORE:]))


def with_changes(config: TrainConfig, **changes: object) -> TrainConfig:
    """Return a recipe with other settings."""
    return TrainConfig.model_validate(config.as_dict() | changes)


def _facts(run: Path) -> list[str]:
    info = load_weights(run)[1]
    return [f"{info.num_parameters / 1e6:.2f}", f"{info.document['training']['steps']:,}"]


def _scores(task: Task, run: Path, limit: int) -> list[str]:
    method = {"restored": our_method(str(run))}
    if task is Task.DENOISE:
        found = [evaluate(method, gaussian(CBSD68, sigma, limit))["restored"].psnr_db for sigma in SIGMAS]
        return [*(f"{psnr_db:.2f}" for psnr_db in found), f"{statistics.fmean(found):.3f}"]
    gains = []
    for protocol in (chained(CBSD68, SHAKE, limit), pairs(REAL_PAIRS[task], limit)):
        scores = evaluate(method, protocol)
        gains.append(scores["restored"].gains_db(scores[INPUT]))
    return [f"{value:+.3f}" for each in gains for value in (statistics.fmean(each), min(each))]


def _columns(task: Task) -> list[str]:
    if task is Task.DENOISE:
        return [*(f"σ {sigma}, dB" for sigma in SIGMAS), "mean dB"]
    return ["shake, dB", "worst", "real pairs, dB", "worst"]


def _protocol(task: Task, limit: int) -> str:
    if task is Task.DENOISE:
        return f"blind RGB PSNR on the first {limit} pictures of {CBSD68.name}"
    return f"change of the RGB PSNR on the first {limit} pictures of {CBSD68.name} shaken by 3–12 px, and on real pairs"


if __name__ == "__main__":
    sys.exit(main())
