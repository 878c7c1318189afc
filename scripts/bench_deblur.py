"""Time deblurring on one frame beside FFDNet and what scikit-image has, in one process, in turns.

    python scripts/bench_deblur.py [--models deblur-fast] [--frame FILE] [--repeats N]

The frame is the first blurred one of the GoPro pairs in the data folder, 1280×720, unless another is named. FFDNet
removes noise; it is here as the measure of a small network of the field. `evaluate.py --pairs` says what each reaches.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarking import hardware, interleaved, markdown_table, use_threads
from evaluate import our_method
from peers import PEERS, Method, deblurring_peers
from protocols import REAL_PAIRS, read_rows

from restore.errors import NothingToDoError, RestoreError
from restore.types import Task

SIGMA = 5 / 255  # told to FFDNet; its time does not depend on it


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["deblur", "deblur-fast"], help="names or weight files")
    parser.add_argument("--frame", type=Path, help="picture to restore")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="rounds that count (3)")
    parser.add_argument("--threads", type=int, help="CPU threads; with 1 the processor's time is measured")
    options = parser.parse_args(arguments)
    clock = use_threads(options.threads)
    try:
        frame = read_rows(options.frame or _first_frame())
        methods: dict[str, Method] = {name: our_method(name) for name in options.models}
        methods |= {name: build() for name, build in deblurring_peers().items()}
        ffdnet = PEERS["FFDNet"]()
    except RestoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    runs = {name: partial(method, frame, SIGMA) for name, method in {"FFDNet": ffdnet, **methods}.items()}
    seconds = interleaved(runs, repeats=options.repeats, clock=clock)
    print(f"{hardware()}\n{frame.shape[1]}×{frame.shape[0]} pixels, median of {options.repeats}\n")
    rows = [[name, f"{took:.2f}", f"{took / seconds['FFDNet']:.2f}"] for name, took in seconds.items()]
    print(markdown_table(["method", "s per frame", "time / FFDNet's"], rows))
    return 0


def _first_frame() -> Path:
    frames = sorted((REAL_PAIRS[Task.DEBLUR] / "blur").glob("*"))
    if not frames:
        raise NothingToDoError("the data folder with the GoPro pairs is not there; name a picture with --frame")
    return frames[0]


if __name__ == "__main__":
    sys.exit(main())
