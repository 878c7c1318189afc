"""Put the weights of a training run into `weights/` if the benchmark says that they beat what is there.

    python scripts/publish_weights.py runs/denoise-fast

Scores the run's averaged weights on CBSD68 by the published protocol and compares their mean over σ 15, 25 and 50 with
that of the shipped file. Better ones are written to `weights/NAME.safetensors`, in float16 where that costs less than
0.01 dB, with scores, training record and data licences in the metadata; the figures of the card `weights/NAME.md` are
renewed too.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarking import markdown_table
from evaluate import CBSD68, PROTOCOL, evaluate, our_denoiser

from restore.errors import RestoreError
from restore.weights import WeightsInfo, load_weights, save_weights

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
SIGMAS = (15, 25, 50)
HALF_PRECISION_COST_DB = 0.01
LICENCES = {
    "bsds500": ("BSDS500 without CBSD68", "research use"),
    "cid22": ("CID22", "CC BY-SA 4.0"),
    "clic2025-half": ("CLIC 2025, halved", "Unsplash License"),
    "gb82": ("gb82", "CC0"),
}  # of the folders that we train on; any other is named as it is
CARD_START, CARD_END = "<!-- figures, written by scripts/publish_weights.py -->", "<!-- end of figures -->"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of the module's docstring; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a training run, or its weight file")
    parser.add_argument("--folder", type=Path, default=CBSD68, help="clean pictures to score on (CBSD68)")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        print(f"error: {options.folder}: no pictures to score on; the weights stay in {options.run}", file=sys.stderr)
        return 3
    try:
        publish(options.run, options.folder)
    except RestoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def publish(run: Path, folder: Path) -> None:
    """Score a run and ship it where it is better.

    Raises:
        WeightsError: the run's weights cannot be read.
    """
    network, info = load_weights(run)
    target = WEIGHTS / f"{info.name}.safetensors"
    with tempfile.TemporaryDirectory() as temporary:
        half_path = Path(temporary) / target.name
        save_weights(half_path, copy.deepcopy(network).half(), info.document)
        denoisers = {"full": our_denoiser(str(info.path)), "half": our_denoiser(str(half_path))}
        full, half = evaluate(denoisers, folder, SIGMAS[1])
        stores_half = full.psnr_db - half.psnr_db < HALF_PRECISION_COST_DB
        scores = score(half_path if stores_half else info.path, folder)
    shipped = mean_psnr(score(target, folder)) if target.exists() else float("-inf")
    print(f"{info.name}: {mean_psnr(scores):.3f} dB, shipped {shipped:.3f} dB (mean over σ {SIGMAS})")
    if mean_psnr(scores) <= shipped:
        print("the shipped weights are better and stay")
        return
    document = {
        **info.document,
        "data": data_and_licences(info.document["training"]["photographs"]),
        "degradation": "Gaussian noise, σ uniform in 0–55 on 0–255, blind or told",
        "scores": {
            "benchmark": f"{folder.name}, {PROTOCOL}",
            "protocol": f"{folder.name}, blind, σ 15/25/50",
            "results": scores,
        },
    }
    save_weights(target, network.half() if stores_half else network, document)
    renew_card(target.with_suffix(".md"), load_weights(target)[1])
    print(f"wrote {target}")


def data_and_licences(photographs: Mapping[str, int]) -> list[dict[str, object]]:
    """Name the training sets of a run with their licences; a folder that we do not know has none stated."""
    named = {folder: LICENCES.get(folder, (folder, "not stated")) for folder in photographs}
    return [
        {"name": named[folder][0], "pictures": num, "licence": named[folder][1]} for folder, num in photographs.items()
    ]


def score(path: Path, folder: Path) -> list[dict[str, float]]:
    """Return the scores of a weight file at each σ: blind PSNR and SSIM, and the PSNR when it is told σ."""
    results = []
    for sigma in SIGMAS:
        denoisers = {"blind": our_denoiser(str(path)), "told": our_denoiser(str(path), told=True)}
        blind, told = evaluate(denoisers, folder, sigma)
        results.append(
            {
                "sigma": sigma,
                "psnr_db": round(blind.psnr_db, 3),
                "ssim": round(blind.ssim, 4),
                "told_psnr_db": round(told.psnr_db, 3),
            }
        )
    return results


def mean_psnr(scores: Sequence[dict[str, float]]) -> float:
    """Return the mean over σ of the blind PSNR in dB."""
    return statistics.fmean(score["psnr_db"] for score in scores)


def renew_card(path: Path, info: WeightsInfo) -> None:
    """Write the figures of the weights into their card, between its two marks; a new card gets a title."""
    scores, training = info.document["scores"], info.document["training"]
    rows = [
        [f"{s['sigma']}", f"{s['psnr_db']:.2f}", f"{s['told_psnr_db']:.2f}", f"{s['ssim']:.4f}"]
        for s in scores["results"]
    ]
    size = f"{info.num_parameters / 1e6:.2f} M parameters, a file of {info.num_bytes / 1e6:.1f} MB"
    effort = f"{training['steps']:,} steps in {training['minutes']:.0f} minutes on {training['threads']} CPU thread(s)"
    table = markdown_table(["σ on 0–255", "PSNR dB, blind", "PSNR dB, told σ", "SSIM, blind"], rows)
    figures = (
        f"{size}. Trained for {effort}, seed {training['config']['seed']}.\n\n"
        f"{table}\n\nProtocol: {scores['benchmark']}."
    )
    card = path.read_text(encoding="utf-8") if path.exists() else f"# {info.name}\n\n{CARD_START}\n{CARD_END}\n"
    before, rest = card.split(CARD_START)
    after = rest.split(CARD_END)[1]
    path.write_text(f"{before}{CARD_START}\n\n{figures}\n\n{CARD_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
