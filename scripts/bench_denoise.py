"""Compare denoisers by what they reach and how long they take, on one machine, in one process, in turns.

    python scripts/bench_denoise.py [--limit N] [--models denoise denoise-fast] [--peers FFDNet BM3D]

PSNR by the protocol of `evaluate.py` at one noise level; time per megapixel as the median over the pictures. BM3D takes
minutes per megapixel, and is compared only when named.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarking import Clock, hardware, markdown_table, use_threads
from evaluate import evaluate, our_method
from peers import ALWAYS_HERE, PEERS, Method
from protocols import CBSD68, gaussian
from score_tables import INPUT, PROTOCOL

from restore.errors import RestoreError
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
    scores = evaluate(denoisers, gaussian(args.folder, args.sigma, args.limit), clock=clock)
    num = len(scores[INPUT].pictures)
    print(f"{hardware()}\n{args.folder.name}, {num} pictures, σ {args.sigma:g}: {PROTOCOL}\n")
    seconds = {name: scores[name].seconds_per_megapixel or math.nan for name in denoisers}
    rows = [
        [name, f"{scores[name].psnr_db:.2f}", f"{1000 * took:.0f}", f"{took / seconds['FFDNet']:.2f}"]
        for name, took in seconds.items()
    ]
    print(markdown_table(["denoiser", "PSNR dB", "ms per megapixel", "time / FFDNet's"], rows))


if __name__ == "__main__":
    sys.exit(main())
