"""Put the weights of a training run into `weights/` if the benchmark says that they beat what is there.

    python scripts/publish_weights.py runs/denoise-fast [--dry-run] [--decide-by real]

Weights to denoise are scored on CBSD68 with Gaussian noise by the published protocol, and decided by the mean of their
PSNR over σ 15, 25 and 50; weights to deblur by the real pairs of sharp and blurred pictures, of which none may get
worse by more than 0.2 dB, while sharp pictures must come out above 38 dB. `--decide-by real` decides weights to denoise
by pairs of real noise. Weights that fail on fewer drawn patterns than the shipped ones may score up to 0.05 dB less.
Where nothing is shipped under their name yet, weights decided by real pairs have to beat doing nothing. Better ones are
written to `weights/NAME.safetensors`, in float16 where that costs less than 0.01 dB, with scores (LPIPS where its trunk
is found), training record, degradations and data licences in the metadata; the figures of the card `weights/NAME.md`
are renewed too.

    python scripts/publish_weights.py denoise-fast --renew

scores shipped weights again, by their name, and renews metadata and card; the weights stay as they are.
"""

from __future__ import annotations

import argparse
import copy
import functools
import statistics
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from evaluate import evaluate, load_lpips, our_method
from peers import Method
from protocols import CBSD68, CHAINS, REAL_PAIRS, Protocol, chained, gaussian, pairs, patterns
from safetensors.torch import load_file
from score_tables import INPUT, OUTPUT, PROTOCOL, Score, where_input_differs
from torch import Tensor, nn
from weight_cards import BEFORE_AND_AFTER, LPIPS_NET, around_figures, describe, renew_card

from restore import inference
from restore.degradations import Chain
from restore.ensemble import ENSEMBLES
from restore.errors import RestoreError, UsageError, WeightsError
from restore.metrics import PairFunction
from restore.models.nafnet import ADDITIONS
from restore.training.material import recorded_sources
from restore.types import Task
from restore.weights import CATALOGUE, load_weights, read_info, save_weights

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
SIGMAS = (15, 25, 50)
HALF_PRECISION_COST_DB = 0.01
WORST_CHANGE_DB = -0.2  # of a single real picture to be deblurred: weights that harm do not ship
SOUNDNESS_WORTH_DB = 0.05  # that weights may score less which fail on fewer drawn patterns
SHARP_DB = 38.0  # that sharp pictures must keep when they are deblurred: nothing may be invented
NOISE = Chain.model_validate({"steps": [{"kind": "gaussian-noise", "sigma": [15, 15]}]})
ON_PATTERNS = {Task.DENOISE: NOISE, Task.DEBLUR: CHAINS["shake"]}


@dataclass(frozen=True)
class Options:
    """What to score on, and what to do with the verdict.

    Args:
        folder: of clean pictures, for Gaussian noise.
        pairs: folder of real pairs; None: the usual one of the task.
        decide_by: `gaussian` or `real`; None: by task.
        limit: take the first pictures only.
        dry_run: write nothing.
        residual: what the network adds to its input is multiplied by this much: the more careful, the smaller.
        ensemble: orientations of a picture that the weights average over unless told otherwise; None: as they say.
        scales: sizes that the network restores a picture at; None: those that it was trained for.
        halfway_from: weights that the run started from, to ship the mean of those and of what the run ended with.
        name: to ship under; None: that of the run.
    """

    folder: Path = CBSD68
    pairs: Path | None = None
    decide_by: str | None = None
    limit: int | None = None
    dry_run: bool = False
    residual: float = 1.0
    ensemble: int | None = None
    scales: int | None = None
    halfway_from: str | None = None
    name: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of the module's docstring; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a training run, or its weight file; with --renew a name")
    parser.add_argument("--renew", action="store_true", help="score what ships under a name again, and renew its card")
    parser.add_argument("--folder", type=Path, default=CBSD68, help="clean pictures to score on (CBSD68)")
    parser.add_argument(
        "--pairs", type=Path, metavar="DIR", help="real pairs to score on (in the data folder, by task)"
    )
    parser.add_argument("--decide-by", choices=["gaussian", "real"], help="(gaussian to denoise, real to deblur)")
    parser.add_argument("--limit", type=int, metavar="N", help="score on the first N pictures only; with --dry-run")
    parser.add_argument("--dry-run", action="store_true", help="score and say what would happen, write nothing")
    parser.add_argument(
        "--residual", type=float, default=1.0, metavar="S", help="multiply what the network adds to its input (1)"
    )
    parser.add_argument(
        "--ensemble", type=int, choices=list(ENSEMBLES), help="orientations that the weights are to average over"
    )
    parser.add_argument(
        "--scales", type=int, metavar="N", help="sizes to restore a picture at, by the same weights (as trained)"
    )
    parser.add_argument(
        "--halfway-from", metavar="NAME", help="weights that the run started from: ship the mean of both"
    )
    parser.add_argument("--name", help="name to ship under (that of the run's recipe)")
    given = parser.parse_args(arguments)
    of_runs = ("residual", "ensemble", "scales", "halfway_from", "name", "decide_by")
    if given.renew and any(getattr(given, key) != parser.get_default(key) for key in of_runs):
        parser.error(f"--renew leaves weights as they are: leave out --{', --'.join(of_runs)}".replace("_", "-"))
    if given.limit is not None and not given.dry_run:
        parser.error("--limit is for a look at what would happen: add --dry-run")
    options = Options(**{key: value for key, value in vars(given).items() if key not in ("run", "renew")})
    try:
        return renew(str(given.run), options) if given.renew else publish(given.run, options)
    except RestoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def publish(run: Path, options: Options = Options()) -> int:
    """Score a run and ship it where it is better; return the exit code.

    Raises:
        WeightsError: the run's weights cannot be read, or the shipped ones.
        UsageError: the folder of pairs holds none, or none that differ, an option is not for this task, the weights are
            of no run, or another task's ship under that name.
    """
    network, info = load_weights(run)
    task = info.task or Task.DENOISE
    name = options.name or info.name
    document = {**info.document, "name": name, **adapt(network, info.document, options)}
    decides_by = options.decide_by or ("gaussian" if task is Task.DENOISE else "real")
    if task is Task.DEBLUR and decides_by == "gaussian":
        raise UsageError("--decide-by gaussian: weights to deblur are decided by real pairs; leave it out")
    if "training" not in info.document:
        raise UsageError(f"{run}: these weights do not say how they were trained; name the folder of a run")
    real = real_pairs(task, options)
    missing = [options.pairs or REAL_PAIRS[task]] if decides_by == "real" and real is None else []
    if not options.folder.is_dir() and (task is Task.DEBLUR or decides_by == "gaussian"):  # sharp ones, or to be noisy
        missing.append(options.folder)
    if missing:
        print(f"error: {missing[0]}: no pictures to score on; the weights stay in {run}", file=sys.stderr)
        return 3
    target = WEIGHTS / f"{name}.safetensors"
    card = target.with_suffix(".md")
    around_figures(card, name)  # before anything is written
    if target.exists() and (shipped_task := read_info(target).task) is not task:
        raise UsageError(f"--name {name}: under it weights to {shipped_task} ship, and these are to {task}; change it")
    judge = gaussian(options.folder, SIGMAS[1], options.limit) if decides_by == "gaussian" else real
    assert judge is not None  # noqa: S101  shown above
    with tempfile.TemporaryDirectory() as temporary:
        full_path, half_path = (Path(temporary) / f"{name}.safetensors" for name in ("full", "half"))
        save_weights(full_path, network, document)
        save_weights(half_path, copy.deepcopy(network).half(), document)
        found = evaluate({"full": our_method(str(full_path)), "half": our_method(str(half_path))}, judge)
        stores_half = found["full"].psnr_db - found["half"].psnr_db < HALF_PRECISION_COST_DB
        scores = score(half_path if stores_half else full_path, task, options)
    shipped = score(target, task, options, only=decides_by) if target.exists() else None
    verdict = refuse(scores, shipped, decides_by, task)
    print(f"{name}: {_summary(scores)}; shipped: {_summary(shipped) if shipped else 'nothing'}")
    if name not in CATALOGUE:
        print(f"note: {name} is not in the CATALOGUE of restore/weights.py; add it with its card")
    if verdict is not None:
        print(verdict)
        return 0
    if options.dry_run:
        print(f"would write {target} in {'half' if stores_half else 'full'} precision, and its card")
        return 0
    shipped_document = describe(document, scores, recorded_sources(run if run.is_dir() else run.parent))
    save_weights(target, network.half() if stores_half else network, shipped_document)
    renew_card(card, load_weights(target)[1])
    print(f"wrote {target} in {'half' if stores_half else 'full'} precision, and its card")
    return 0


def renew(name: str, options: Options) -> int:
    """Score shipped weights again, and write their metadata and card anew; return the exit code.

    Raises:
        UsageError: nothing of that name ships, what it was scored on is not there, or pairs are none or do not differ.
    """
    target = WEIGHTS / f"{name}.safetensors"
    if not target.exists():
        raise UsageError(f"--renew {name}: no such weights ship; choose {', '.join(CATALOGUE)}")
    network, info = load_weights(target)
    around_figures(target.with_suffix(".md"), name)
    is_half = any(tensor.dtype == torch.float16 for tensor in load_file(target).values())
    scores = score(target, info.task or Task.DENOISE, options)
    print(f"{name}: {_summary(scores)}")
    if lost := _names_of(info.document.get("scores", {})) - _names_of(scores):
        raise UsageError(f"--renew {name}: nothing is written, since scores would be lost: {', '.join(sorted(lost))}")
    if not options.dry_run:
        save_weights(target, network.half() if is_half else network, {**info.document, "scores": scores})
        renew_card(target.with_suffix(".md"), load_weights(target)[1])
        print(f"wrote the scores of {target}, and its card")
    return 0


def adapt(network: nn.Module, document: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Change weights as the options say; return what their document has to tell of it.

    Args:
        network: changed in place.
        document: what its file says of it.
        options: what is to be shipped of it.

    Raises:
        WeightsError: those that it started from cannot be read.
        UsageError: it cannot have started from those, or has not been trained for several sizes.
    """
    changes: dict[str, Any] = {}
    if options.halfway_from is not None:
        network.load_state_dict(halfway(network, load_weights(options.halfway_from)[0]))
        changes["halfway_from"] = options.halfway_from
    if options.residual != 1:
        changes["residual"] = document.get("residual", 1) * options.residual
        with torch.no_grad():
            for parameter in network.ending.parameters():  # type: ignore[union-attr]
                parameter.mul_(options.residual)
    if options.ensemble is not None:
        changes["ensemble"] = options.ensemble
    if options.scales is not None:
        config = document["network"]
        trained = document.get("trained_scales", config.get("scales", 1))
        if trained < 2 or options.scales < 2:
            raise UsageError(f"--scales {options.scales}: for weights of several sizes, 2 or more; leave it out")
        changes |= {"network": {**config, "scales": options.scales}, "trained_scales": trained}
    return changes


def halfway(network: nn.Module, start: nn.Module) -> dict[str, Tensor]:
    """Return the weights between those of a network and those that it started from: often better than either.

    Blocks and scales that were new add half as much; they began by adding nothing.

    Raises:
        UsageError: the network cannot have started from those.

    References:
        Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv:2109.01903.
    """
    began, ended = start.state_dict(), network.state_dict()
    began = {key: weight for key, weight in began.items() if key in ended or not key.startswith("noise_level")}
    if any(key not in ended or ended[key].shape != weight.shape for key, weight in began.items()):
        raise UsageError("--halfway-from: these weights are those of another network; name what the run started from")
    between = {}
    for key, weight in ended.items():
        began_at_zero = key.endswith((".beta", ".gamma", ".scale1", ".scale2")) or key.startswith(ADDITIONS)
        as_new = torch.zeros_like(weight) if began_at_zero else weight
        between[key] = (began.get(key, as_new) + weight) / 2
    return between


def real_pairs(task: Task, options: Options) -> Protocol | None:
    """Return the protocol of the real pairs; None where the usual folder is not there.

    Raises:
        UsageError: the folder named holds no pairs.
    """
    folder = options.pairs or REAL_PAIRS[task]
    return pairs(folder, options.limit) if options.pairs or folder.is_dir() else None


def refuse(scores: Mapping[str, Any], shipped: Mapping[str, Any] | None, decides_by: str, task: Task) -> str | None:
    """Say why weights do not ship; None where they do."""
    found = decisive(scores, decides_by)
    if decides_by == "real":
        real = scores["real"]
        if task is Task.DEBLUR and real["worst_gain_db"] < WORST_CHANGE_DB:
            return f"a real picture gets worse by {-real['worst_gain_db']:.2f} dB: these weights do not ship"
        if task is Task.DEBLUR and scores["clean"]["psnr_db"] < SHARP_DB:
            return f"sharp pictures come out at {scores['clean']['psnr_db']:.2f} dB: these weights do not ship"
        if found <= real["input_psnr_db"]:
            return "doing nothing is better: these weights do not ship"
    if shipped is None:
        return None
    is_sounder = num_failures(scores) < num_failures(shipped)
    needed = decisive(shipped, decides_by) - (SOUNDNESS_WORTH_DB if is_sounder else 0)
    return "the shipped weights are better and stay" if found <= needed else None


def num_failures(scores: Mapping[str, Any]) -> int:
    """Return the number of drawn patterns on which weights fail."""
    return int(scores.get("patterns", {}).get("num_unchanged", 0))


def decisive(scores: Mapping[str, Any], decides_by: str) -> float:
    """Return the PSNR in dB that decides: the blind mean over σ, or that of the real pairs."""
    if decides_by == "real":
        return float(scores["real"]["psnr_db"])
    return statistics.fmean(result["psnr_db"] for result in scores["results"])


def score(path: Path, task: Task, options: Options, *, only: str | None = None) -> dict[str, Any]:
    """Return the scores of a weight file, as they go into its metadata.

    Args:
        path: of the file.
        task: of the weights.
        options: what to score on.
        only: `gaussian` or `real`: leave out what does not count where weights are compared by that; patterns do.

    Returns:
        For denoising, under `results`, blind PSNR and SSIM at each σ and the PSNR when it is told σ, where it can be;
        under `real`, where there are pairs, PSNR before and after and the change of the worst picture; for deblurring
        the same under `synthetic`, for camera shake; under `patterns` the same for drawn patterns; under `clean`, what
        becomes of pictures that need nothing. Each with SSIM and, where its weights are found, LPIPS.

    Raises:
        UsageError: the folder of pairs holds none, or none that differ.
    """
    scores: dict[str, Any] = {}
    lpips = None if only else _lpips()
    blind = our_method(str(path))
    if task is Task.DENOISE and options.folder.is_dir() and only != "real":
        can_be_told = not only and inference.load(path, device="cpu").knows_sigma
        methods = {"blind": blind} | ({"told": our_method(str(path), told=True)} if can_be_told else {})
        scores |= {
            "benchmark": f"{options.folder.name}, {PROTOCOL}",
            "protocol": f"{options.folder.name}, blind, σ 15/25/50",
            "results": [],
        }
        for sigma in SIGMAS:
            found = evaluate(methods, gaussian(options.folder, sigma, options.limit), lpips=lpips)
            result = {"sigma": sigma, **_recorded(found["blind"])}
            told = {"told_psnr_db": round(found["told"].psnr_db, 6)} if can_be_told else {}
            scores["results"].append(result | told)
    real = None if only == "gaussian" else real_pairs(task, options)
    if real is not None:
        scores["real"] = before_and_after(blind, real, lpips)
        if task is Task.DEBLUR:
            scores["protocol"] = f"{real.folder}, {scores['real']['num_pictures']} real pairs, before → after"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="left as it was")  # they are counted
        scores["patterns"] = before_and_after(blind, patterns(ON_PATTERNS[task], options.limit), lpips)
    if options.folder.is_dir() and not only:
        if task is Task.DEBLUR:
            scores["synthetic"] = before_and_after(
                blind, chained(options.folder, CHAINS["shake"], options.limit), lpips
            )
        clean = chained(options.folder, Chain(steps=()), options.limit)
        kept = evaluate({"restored": blind}, clean, lpips=lpips)["restored"]
        scores["clean"] = {"folder": clean.folder, **_recorded(kept), "num_identical": kept.num_identical}
    return scores


def before_and_after(method: Method, protocol: Protocol, lpips: PairFunction | None = None) -> dict[str, Any]:
    """Return the scores of degraded pictures and of what a method makes of them, of equal pairs nothing.

    Raises:
        UsageError: the pairs do not differ.
    """
    found = where_input_differs(evaluate({"restored": method}, protocol, lpips=lpips))
    gains = found["restored"].gains_db(found[INPUT])
    if not gains:
        raise UsageError(f"{protocol.folder}: the pairs are equal, there is nothing to restore")
    return {
        "folder": protocol.folder,
        "protocol": f"{protocol.text}; {OUTPUT}",
        "num_pictures": len(found[INPUT].pictures),
        **{f"input_{key}": value for key, value in _recorded(found[INPUT]).items()},
        **_recorded(found["restored"]),
        "worst_gain_db": round(min(gains), 6),
        "num_unchanged": sum(gain == 0 for gain in gains),  # left as they were, since the network fails on them
    }


def _summary(scores: Mapping[str, Any]) -> str:
    parts = []
    if scores.get("results"):
        parts.append(f"{decisive(scores, 'gaussian'):.3f} dB (mean over σ {SIGMAS})")
    for key, what in BEFORE_AND_AFTER.items():
        if key in scores:
            unchanged = f", {num} unchanged" if (num := scores[key].get("num_unchanged")) else ""
            parts.append(f"{what} {scores[key]['input_psnr_db']:.3f} → {scores[key]['psnr_db']:.3f} dB{unchanged}")
    if "clean" in scores:
        parts.append(f"clean pictures {scores['clean']['psnr_db']:.2f} dB")
    return ", ".join(parts)


def _names_of(scores: Mapping[str, Any]) -> set[str]:
    """Name the scores, those of each set of pictures too."""
    sets = {**scores, "results": (scores.get("results") or [{}])[0]}
    inner = {f"{name} {key}" for name, found in sets.items() if isinstance(found, Mapping) for key in found}
    return scores.keys() | inner


def _recorded(score: Score) -> dict[str, float]:
    """Return the scores with more digits than are shown, so that those are rounded once."""
    values = {"psnr_db": score.psnr_db, "ssim": score.ssim, "lpips": score.lpips}
    return {key: round(value, 6) for key, value in values.items() if value is not None}


@functools.cache
def _lpips() -> PairFunction | None:
    """Return LPIPS, or None where its weights are not found, and say so once."""
    try:
        return load_lpips(LPIPS_NET)
    except WeightsError as error:
        print(f"note: scored without LPIPS: {error}", file=sys.stderr)
        return None


if __name__ == "__main__":
    sys.exit(main())
