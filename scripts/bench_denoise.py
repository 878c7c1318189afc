"""Compare denoisers by what they reach and how long they take, on one machine, in one process, in turns.

    python scripts/bench_denoise.py [--limit N] [--models denoise denoise-fast] [--peers FFDNet BM3D]

PSNR by the protocol of `evaluate.py` at one noise level; time per megapixel as the median over the pictures. BM3D takes
minutes per megapixel, and is compared only when named.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from benchmarking import Clock, hardware, interleaved, markdown_table, use_threads
from evaluate import our_method
from peers import ALWAYS_HERE, PEERS, Method
from protocols import CBSD68, Pixels, gaussian
from score_tables import PROTOCOL

from restore.errors import RestoreError
from restore.images import from_float, to_float
from restore.metrics import psnr
from restore.weights import CATALOGUE

MODELS = [name for name in CATALOGUE if name.startswith("denoise")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help=f"names or weight files ({' '.join(MODELS)})")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=ALWAYS_HERE, help="to compare with")
    parser.add_argument("--folder", type=Path, default=CBSD68, help="clean pictures (CBSD68 in the data folder)")
    parser.add_argument("--sigma", type=float, default=25, help="on 0–255 (25)")
    parser.add_argument("--limit", type=int, metavar="N", help="take the first N pictures only")
    parser.add_argument("--threads", type=int, help="CPU threads; with 1 the processor's time is measured")
    args = parser.parse_args(arguments)
    clock = use_threads(args.threads)
    try:
        denoisers: dict[str, Method] = {name: our_method(name) for name in args.models}
        denoisers |= {name: PEERS[name]() for name in ("FFDNet", *args.peers)}  # FFDNet is what times are divided by
        print_table(denoisers, args, clock)
    except RestoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def print_table(denoisers: Mapping[str, Method], args: argparse.Namespace, clock: Clock) -> None:
    """Score and time the denoisers."""
    scores: dict[str, list[float]] = {name: [] for name in denoisers}
    times: dict[str, list[float]] = {name: [] for name in denoisers}
    for index, sample in enumerate(gaussian(args.folder, args.sigma, args.limit).samples()):
        runs = {name: partial(denoise, sample.degraded, sample.sigma) for name, denoise in denoisers.items()}
        seconds = interleaved(runs, repeats=1, warmup=int(index == 0), clock=clock)
        for name, run in runs.items():
            times[name].append(seconds[name] * 1e9 / sample.reference[..., 0].size)
            scores[name].append(score(sample.reference, run()))
    print(f"{hardware()}\n{args.folder.name}, {len(scores['FFDNet'])} pictures, σ {args.sigma:g}: {PROTOCOL}\n")
    reference = statistics.median(times["FFDNet"])
    rows = []
    for name in denoisers:
        time = statistics.median(times[name])
        rows.append([name, f"{statistics.fmean(scores[name]):.2f}", f"{time:.0f}", f"{time / reference:.2f}"])
    print(markdown_table(["denoiser", "PSNR dB", "ms per megapixel", "time / FFDNet's"], rows))


def score(clean: Pixels, restored: Pixels) -> float:
    """Return the PSNR in dB of what was restored, rounded to 8 bits."""
    codes = from_float(restored, np.dtype(np.uint8))
    return psnr(torch.from_numpy(clean), torch.from_numpy(to_float(codes)))


if __name__ == "__main__":
    sys.exit(main())
