"""Restore one very large picture by the real command, and say what memory it took at most.

python scripts/bench_memory.py [--megapixels 100] [--format tif --depth 16] [--task deblur] [-- OPTIONS]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from benchmarking import BYTES_OF_MAXRSS, hardware

from restore.types import Task

DEPTHS = {"8": ("uint8", 255.0), "16": ("uint16", 65535.0), "float": ("float32", 1.0)}  # type and white


def main() -> int:
    """Print the peak of resident memory and the megapixels per second; return the command's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=100)
    parser.add_argument("--format", choices=["jpg", "png", "tif"], default="jpg")
    parser.add_argument("--depth", choices=DEPTHS, default="8", help="bits, 16 for png and tif, float for tif (8)")
    parser.add_argument("--task", choices=list(Task), default=Task.DENOISE, help="the command (denoise)")
    parser.add_argument("options", nargs="*", help="of the command, after --")
    args = parser.parse_args()
    if args.depth not in {"jpg": "8", "png": "8 16", "tif": "8 16 float"}[args.format].split():
        parser.error(f"--depth {args.depth}: {args.format} does not hold it")
    side = round((args.megapixels * 1e6) ** 0.5)
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, f"in.{args.format}"), Path(temporary, f"out.{args.format}")
        writer = multiprocessing.get_context("spawn").Process(
            target=write_large_picture, args=(source, side, *DEPTHS[args.depth])
        )  # the peak of the command would begin with that of this process
        writer.start()
        writer.join()
        command = [sys.executable, "-m", "restore", args.task, source, target, "--quiet", *args.options]
        started = time.perf_counter()
        _, status, usage = os.wait4(subprocess.Popen(command).pid, 0)
        seconds = time.perf_counter() - started
    if code := os.waitstatus_to_exitcode(status):
        return code
    peak = BYTES_OF_MAXRSS * usage.ru_maxrss
    megapixels = side * side / 1e6
    print(f"{hardware()}\n{side}×{side} {args.format}, depth {args.depth}: peak {peak / 2**30:.2f} GiB resident")
    print(f"{seconds:.1f} s, {megapixels / seconds:.3f} megapixels per second, start and files included")
    return 0


def write_large_picture(path: Path, side: int, dtype: str, white: float) -> None:
    """Write a noisy picture of soft shapes."""
    generator = np.random.default_rng(0)
    shapes = generator.integers(0, 256, (side // 100 + 2, side // 100 + 2, 3), dtype=np.uint8)
    picture = cv2.resize(shapes, (side, side), interpolation=cv2.INTER_LINEAR)
    for rows in np.array_split(picture, max(1, side // 256)):
        noise = generator.integers(-25, 26, rows.shape, dtype=np.int16)
        rows[:] = (rows + noise).clip(0, 255)
    cv2.imwrite(str(path), (picture * np.float32(white / 255)).astype(dtype))


if __name__ == "__main__":
    sys.exit(main())
