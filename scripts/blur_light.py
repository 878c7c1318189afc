"""Find out in which light the blurred pictures of pairs were averaged.

    python scripts/blur_light.py [FOLDER]       FOLDER holds sharp/ and blur/ (the GoPro pairs of the data folder)

A blur that keeps within a window keeps the mean over the window, of the values that were averaged: of linear light for
a camera, of the values as they stand where frames of a video file were averaged. For each pair and each exponent that
might lead to linear light, the script prints the mean difference of such means between the blurred and the sharp
picture, in places of high contrast, converted to steps of 1/255 of the sharp picture's values. The right exponent
leaves nothing; too large a one leaves less than nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from benchmarking import markdown_table
from protocols import REAL_PAIRS, Pixels, pairs

from restore.errors import RestoreError
from restore.images.opencv import cv2
from restore.types import Task

EXPONENTS = (0.7, 1.0, 1.5, 2.2)
WINDOW_PX = 65
CONTRAST = 0.03  # variance of the values, from which a place counts
DARK = 1e-3


def mean_shift(sharp: Pixels, blurred: Pixels, exponent: float) -> float:
    """Return the mean change of local means in steps of 1/255, NaN where no place has enough contrast.

    Args:
        sharp: (H,W,3) in [0,1], more than two windows a side.
        blurred: the same shape.
        exponent: leads from values to what is averaged.
    """
    before, after = (_local_mean(pixels**exponent) for pixels in (sharp, blurred))
    slope = exponent * np.maximum(before, DARK) ** (1 - 1 / exponent)  # of that exponent, at the mean
    variance = _local_mean(sharp**2) - _local_mean(sharp) ** 2
    shift = ((after - before) / slope)[_inside(sharp)]
    contrasty = (variance > CONTRAST)[_inside(sharp)]
    return float(255 * shift[contrasty].mean()) if contrasty.any() else float("nan")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of the module's docstring; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=REAL_PAIRS[Task.DEBLUR], help="sharp/ and blur/")
    options = parser.parse_args(arguments)
    try:
        rows = [
            [sample.name, *(f"{mean_shift(sample.reference, sample.degraded, e):+.2f}" for e in EXPONENTS)]
            for sample in pairs(options.folder).samples()
        ]
    except RestoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(markdown_table(["change of local means in 1/255", *(f"exponent {e:g}" for e in EXPONENTS)], rows))
    return 0


def _local_mean(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(cv2.boxFilter(values.astype(np.float64), -1, (WINDOW_PX, WINDOW_PX)), np.float64)


def _inside(pixels: Pixels) -> tuple[slice, slice]:
    """Return the rows and columns whose window lies inside the picture."""
    return slice(WINDOW_PX, pixels.shape[0] - WINDOW_PX), slice(WINDOW_PX, pixels.shape[1] - WINDOW_PX)


if __name__ == "__main__":
    sys.exit(main())
