"""Score methods of restoration by the published protocols, ours beside others.

    python scripts/evaluate.py denoise-fast runs/my-run --peers            colour Gaussian noise on CBSD68
    python scripts/evaluate.py denoise-fast --pairs FOLDER                 real pairs: clean/ and noisy/, or sharp/ and blur/
    python scripts/evaluate.py deblur --chain shake defocus gaussian noisy-shake         blur that is drawn
    python scripts/evaluate.py MODEL --chain '{"steps": [{"kind": "defocus-blur", "radius": [2, 4]}]}'
    python scripts/evaluate.py denoise --patterns --chain '{"steps": [{"kind": "gaussian-noise", "sigma": [15, 15]}]}'
    python scripts/evaluate.py denoise --ensemble 4                        the mean over four orientations

Noise is added in float, neither clipped nor quantised, from a seed for each picture; what comes back is clamped to
[0,1] and rounded to 8 bits; the score is the mean over pictures of the PSNR over RGB in float64, of the SSIM, and of
LPIPS where its weights are found. Beside it the median of the seconds per megapixel and, with --memory, the peak of
resident memory of a process that does nothing else. `input` is the degraded picture, scored in the same way.
"""  # noqa: E501  commands are not wrapped

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from benchmarking import Clock, hardware, peak_bytes, use_threads
from peers import PEERS, PSF, Method, MissingPeerError, deblurring_peers
from protocols import CBSD68, CHAINS, SHARED, Pixels, Protocol, Sample, chained, gaussian, pairs, patterns
from pydantic import ValidationError
from score_tables import INPUT, PictureScore, Report, Score, document, markdown

from restore import inference
from restore.degradations import Chain
from restore.ensemble import ENSEMBLES
from restore.errors import NothingToDoError, RestoreError, UsageError, WeightsError
from restore.fetching import ENVIRONMENT_VARIABLE, find_weights
from restore.images import Photo, from_float, to_float, write_photo
from restore.metrics import METRICS, PairFunction, psnr, score_all
from restore.types import Task

__all__ = ["CBSD68", "evaluate", "main", "our_method"]

Build = Callable[[], Method]
Tile = int | Literal["auto", "off"]


def our_method(name_or_path: str, *, told: bool = False, tile: Tile = "off", ensemble: int | None = None) -> Method:
    """Return a network of ours; blind unless it is told σ.

    Raises:
        WeightsError: the weights cannot be loaded.
    """
    restorer = inference.load(name_or_path, device="cpu", tile=tile, ensemble=ensemble)

    def restore(degraded: Pixels, sigma: float) -> Pixels:
        return restorer(degraded, sigma=sigma if told else None).astype(np.float32, copy=False)

    return restore


def evaluate(
    methods: Mapping[str, Method],
    protocol: Protocol,
    *,
    lpips: PairFunction | None = None,
    clock: Clock = time.perf_counter,
    save: Path | None = None,
) -> dict[str, Score]:
    """Score every method on the same pictures, in turns.

    Args:
        methods: by name.
        protocol: the pictures.
        lpips: computed too.
        clock: returns seconds.
        save: write what comes back to SAVE/CONDITION/METHOD/NAME.png, the degraded and the reference too.

    Returns:
        The scores by name, those of the degraded pictures first, as `INPUT`.
    """
    folder = None if save is None else save / protocol.condition.removeprefix("σ ").replace(" → ", "-to-")
    found: dict[str, list[PictureScore]] = {name: [] for name in (INPUT, *methods)}
    for index, sample in enumerate(protocol.samples()):
        outputs: dict[str, tuple[Pixels, float | None]] = {INPUT: (sample.degraded, None)}
        for name, method in methods.items():
            if index == 0:
                method(sample.degraded, sample.sigma)  # the first call pays for what later ones find ready
            started = clock()
            restored = method(sample.degraded, sample.sigma)
            outputs[name] = restored, (clock() - started) * 1e6 / restored[..., 0].size
        for name, (restored, seconds) in outputs.items():
            codes = from_float(restored, np.dtype(np.uint8))
            found[name].append(_score_picture(sample, codes, seconds, lpips))
            if folder is not None:
                _save(folder / _folder_name(name) / f"{sample.name}.png", codes)
        if folder is not None:
            _save(folder / "reference" / f"{sample.name}.png", from_float(sample.reference, np.dtype(np.uint8)))
    return {name: Score(name, tuple(pictures)) for name, pictures in found.items()}


def peak_mib(build: Build, protocol: Protocol, num_threads: int) -> float:
    """Return the peak of resident memory in MiB of a new process that restores the first picture, libraries too."""
    sample = next(protocol.samples())
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_restore_alone, build, sample, num_threads).result()


def _restore_alone(build: Build, sample: Sample, num_threads: int) -> float:
    use_threads(num_threads)
    build()(sample.degraded, sample.sigma)
    return peak_bytes() / 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of the module's docstring; return the exit code."""
    options = _parse(arguments)
    try:
        if options.json:
            options.json.open("a").close()  # before the work
        report = _report(options)
        print(markdown(report))
        if options.json:
            content = json.dumps(document(report), indent=2, allow_nan=False) + "\n"
            options.json.write_text(content, encoding="utf-8")
    except (RestoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _report(options: argparse.Namespace) -> Report:
    protocols = _protocols(options)
    builders: dict[str, Build] = {
        name: partial(our_method, name, told=options.told, tile=options.tile, ensemble=options.ensemble)
        for name in options.models
    }
    methods = {name: build() for name, build in builders.items()}
    left_out: dict[str, str] = {}
    for name, build in _wanted_peers(options, protocols[0].task).items():
        try:
            methods[name] = build()
        except MissingPeerError as error:  # noqa: PERF203  a few times in all
            left_out[name] = str(error)
        else:
            builders[name] = build
    folders = Counter(map(_folder_name, (INPUT, "reference", *methods)))
    if options.save and (twice := [name for name, num in folders.items() if num > 1]):
        raise UsageError(f"--save: two methods would both write to {twice[0]}/; score them one after the other")
    if not methods:
        raise NothingToDoError("no method to score: " + "; ".join(left_out.values()))
    lpips = None
    if options.lpips != "none":
        try:
            lpips = load_lpips(options.lpips, options.weights_dir)
        except WeightsError as error:
            left_out[f"LPIPS ({options.lpips})"] = str(error)
    use_threads(options.threads)
    # threads that a library starts for itself count too
    clock = time.process_time if options.threads == 1 else time.perf_counter
    scores = [evaluate(methods, protocol, lpips=lpips, clock=clock, save=options.save) for protocol in protocols]
    num_threads = torch.get_num_threads()
    return Report(
        protocols=protocols,
        scores=scores,
        memory={name: peak_mib(builders[name], protocols[0], num_threads) for name in methods if options.memory},
        left_out=left_out,
        lpips=None if lpips is None else METRICS[f"lpips-{options.lpips}"].protocol,
        ours=list(options.models),
        told=options.told,
        ensemble=options.ensemble,
        clock="processor time of the process" if clock is time.process_time else "time that passes",
        hardware=hardware(),
    )


def _protocols(options: argparse.Namespace) -> list[Protocol]:
    if options.pairs is not None:
        return [pairs(options.pairs, options.limit)]
    if options.chain is not None:
        made = patterns if options.patterns else partial(chained, options.folder)
        return [
            made(_chain(given), options.limit, given if given in CHAINS else f"chain {number}")
            for number, given in enumerate(options.chain, 1)
        ]
    return [gaussian(options.folder, sigma, options.limit) for sigma in options.sigma]


def _chain(name_or_json: str) -> Chain:
    if name_or_json in CHAINS:
        return CHAINS[name_or_json]
    try:
        return Chain.model_validate_json(name_or_json)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise UsageError(f"--chain: {place}: {problem['msg']}; there are {', '.join(CHAINS)}") from error


def _wanted_peers(options: argparse.Namespace, task: Task) -> dict[str, Build]:
    every = PEERS if task is Task.DENOISE else deblurring_peers(options.psf)
    unknown = next((name for name in options.peer if name not in every), None)
    if unknown is not None:
        raise UsageError(f"--peer {unknown}: to {task} there are {'; '.join(every)}")
    return {name: build for name, build in every.items() if options.peers or name in options.peer}


def load_lpips(net: str, weights_dir: Path | None = None) -> PairFunction:
    """Return LPIPS with its trunk from a folder, from where downloads lie, or from the data folder.

    Raises:
        WeightsError: the trunk is in none of them.
    """
    beside = SHARED / "weights"
    if weights_dir is None and ENVIRONMENT_VARIABLE not in os.environ and beside.is_dir():
        weights_dir = beside
    name = f"lpips-{net}"
    function: PairFunction = METRICS[name].load(find_weights(name, weights_dir))
    return function


def _score_picture(
    sample: Sample, codes: np.ndarray[Any, np.dtype[Any]], seconds: float | None, lpips: PairFunction | None
) -> PictureScore:
    reference, restored = (_as_planes(pixels) for pixels in (sample.reference, to_float(codes)))
    names = ["ssim", *(["lpips"] if lpips else [])]
    scores = score_all(names, reference, restored, {"lpips": lpips} if lpips else None)
    values = {name: None if isinstance(score, ValueError) else score for name, score in scores.items()}
    return PictureScore(sample.name, psnr(reference, restored), values["ssim"], values.get("lpips"), seconds)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="names of weights, weight files or folders of training runs")
    parser.add_argument("--folder", type=Path, default=CBSD68, help="clean pictures (CBSD68 in the data folder)")
    parser.add_argument(
        "--sigma", type=_strength, nargs="+", default=[15, 25, 50], help="noise levels on 0–255 (15 25 50)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--pairs", type=Path, metavar="DIR", help="real pairs instead: clean/ and noisy/, or sharp/, blur/"
    )
    what.add_argument(
        "--chain", nargs="+", metavar="NAME|JSON", help=f"degrade the folder by these: {', '.join(CHAINS)}, or steps"
    )
    parser.add_argument("--patterns", action="store_true", help="drawn repeated patterns in place of a folder")
    parser.add_argument("--limit", type=positive, metavar="N", help="take the first N pictures only")
    parser.add_argument("--told", action="store_true", help="tell our networks σ")
    parser.add_argument("--tile", type=_tile, default="off", metavar="N|auto|off", help="of our networks (off)")
    parser.add_argument("--ensemble", type=int, choices=list(ENSEMBLES), help="orientations that ours average over")
    parser.add_argument("--peers", action="store_true", help=f"score {', '.join(PEERS)} too; for blur, scikit-image's")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME", help="one of them; may be repeated")
    parser.add_argument("--psf", default=PSF, help=f"blur that scikit-image's are told, or disc:RADIUS ({PSF})")
    parser.add_argument(
        "--lpips", choices=["squeeze", "alex", "vgg", "none"], default="squeeze", help="trunk (squeeze)"
    )
    parser.add_argument("--weights-dir", type=Path, metavar="DIR", help="of LPIPS")
    parser.add_argument("--threads", type=positive, help="CPU threads; with 1 the processor's time is measured")
    parser.add_argument("--memory", action="store_true", help="peak memory of each method, in a process of its own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores there too, picture by picture")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write the restored pictures below this folder")
    options = parser.parse_args(arguments)
    if not (options.models or options.peers or options.peer):
        parser.error("name a model, or add --peers")
    if options.patterns and options.chain is None:
        parser.error("say what is done to the patterns: add --chain")
    return options


def positive(text: str) -> int:
    """Return a whole number of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a number from 1 upwards")
    return int(text)


def _strength(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 255:
        raise argparse.ArgumentTypeError(f"{text}: a number from 0 to 255")
    return value


def _tile(text: str) -> Tile:
    return "auto" if text == "auto" else "off" if text == "off" else positive(text)


def _as_planes(rows: Pixels) -> torch.Tensor:
    return torch.from_numpy(rows).permute(2, 0, 1)


def _folder_name(method: str) -> str:
    """Return the name of a run's folder or of a weight file; a method's name without colons."""
    return Path(method).name.removesuffix(".safetensors").removesuffix(".pth").replace(":", "-")


def _save(path: Path, codes: np.ndarray[Any, np.dtype[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_photo(path, Photo(pixels=codes, alpha=None, icc=None, exif=None, format="png", warnings=()))


if __name__ == "__main__":
    sys.exit(main())
