"""Compare the paths that things take in the frames of videos with those that synthetic blur draws.

    python scripts/blur_paths.py [FOLDER] [--frames 7 11 15]     FOLDER holds frames, or a folder for each video

Each frame is registered on the one before it by phase correlation, in nine windows. Runs of frames, as they would be
averaged, then have paths. For those of 10 pixels and more, and for drawn ones, the script prints the way in pixels; how
straight it is, the distance from end to end over the way; how the speed changes, its standard deviation over its mean;
and how far the middle frame, the reference of benchmarks, lies from the mean of all, over the way. Each at 10 %, the
median and 90 % of the paths. Errors of the registration bend the paths: what was is straighter than what is measured.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from benchmarking import markdown_table
from protocols import SHARED

from restore.data import Photos, open_frames
from restore.degradations.motion import ANXIETY, trajectory
from restore.errors import RestoreError
from restore.images.opencv import cv2

WINDOW_PX = 256
TRUSTED = 0.2  # of the correlation's peak, from which a shift counts
SHORTEST_PX = 10.0  # way: on shorter ones, errors of the registration outweigh what moves
STEP = 3  # frames from one run to the next
QUANTILES = (0.1, 0.5, 0.9)
NUM_DRAWN = 1000
DRAWN = (ANXIETY, (0.015, 0.1))

Paths = npt.NDArray[np.float64]
"""(M,N,2): positions across and down, in pixels, at equal times."""


def shifts_of(photos: Photos, frames: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return (N-1,9,3): how far nine windows move from frame to frame, across and down, and how sure that is."""
    return np.array([_shifts(photos, before, after) for before, after in itertools.pairwise(frames)])


def paths_over(shifts: npt.NDArray[np.float64], num_frames: int) -> Paths:
    """Return the paths over runs of frames in which every shift can be trusted."""
    positions = np.concatenate([np.zeros_like(shifts[:1]), shifts.cumsum(0)])[..., :2]
    runs = [
        positions[start : start + num_frames, place]
        for start in range(0, len(positions) - num_frames + 1, STEP)
        for place in range(shifts.shape[1])
        if (shifts[start : start + num_frames - 1, place, 2] > TRUSTED).all()
    ]
    return np.array(runs).reshape(-1, num_frames, 2)


def drawn_paths(anxiety: tuple[float, float], num: int = NUM_DRAWN) -> Paths:
    """Return paths of some length as `motion-blur` draws them."""
    drawn = [trajectory(torch.Generator().manual_seed(seed), 2 * SHORTEST_PX, anxiety) for seed in range(num)]
    return np.stack([path.numpy() for path in drawn])


def statistics_of(paths: Paths) -> dict[str, npt.NDArray[np.float64]]:
    """Return what the module's docstring names, one number for each path that is long enough."""
    steps = np.linalg.norm(np.diff(paths, axis=1), axis=2)
    ways = steps.sum(1)
    moving = ways >= SHORTEST_PX
    paths, steps, ways = paths[moving], steps[moving], ways[moving]
    return {
        "way in px": ways,
        "end to end over way": np.linalg.norm(paths[:, -1] - paths[:, 0], axis=1) / ways,
        "change of speed": steps.std(1) / steps.mean(1),
        "middle from mean over way": np.linalg.norm(paths[:, paths.shape[1] // 2] - paths.mean(1), axis=1) / ways,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of the module's docstring; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=SHARED / "data/frames", help="(the data folder's)")
    parser.add_argument("--frames", type=int, nargs="+", default=[7, 11, 15], metavar="N", help="of a run (7 11 15)")
    options = parser.parse_args(arguments)
    try:
        frames = open_frames(options.folder, num_frames=(3, 3))
        shifts = [shifts_of(frames.photos, video.frames) for video in frames.videos]
    except RestoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    found = {
        f"{num} frames": statistics_of(np.concatenate([paths_over(of_video, num) for of_video in shifts]))
        for num in options.frames
    }
    found |= {f"drawn, anxiety {low:g} to {high:g}": statistics_of(drawn_paths((low, high))) for low, high in DRAWN}
    rows = [[name, *_cells(statistics)] for name, statistics in found.items()]
    print(markdown_table(["10 %, median, 90 % of the paths", "paths", *next(iter(found.values()))], rows))
    return 0


def _shifts(photos: Photos, before: int, after: int) -> list[tuple[float, float, float]]:
    """Return how far nine windows moved, across and down in pixels, and the peak of each correlation in [0,1]."""
    first, second = (photos.read(index).float().mean(0).numpy() for index in (before, after))
    height, width = (min(WINDOW_PX, side) for side in first.shape)
    hann = cv2.createHanningWindow((width, height), cv2.CV_32F)
    places = itertools.product(
        *(np.linspace(0, side - part, 3).astype(int) for side, part in zip(first.shape, (height, width), strict=True))
    )
    found = []
    for top, left in places:
        place = slice(top, top + height), slice(left, left + width)
        (across, down), peak = cv2.phaseCorrelate(first[place], second[place], hann)
        found.append((across, down, peak))
    return found


def _cells(statistics: Mapping[str, npt.NDArray[np.float64]]) -> list[str]:
    num = len(statistics["way in px"])
    texts = [
        " ".join(f"{value:.3g}" for value in np.quantile(values, QUANTILES)) if num else "–"
        for values in statistics.values()
    ]
    return [str(num), *texts]


if __name__ == "__main__":
    sys.exit(main())
