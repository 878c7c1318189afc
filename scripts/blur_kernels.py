"""Draw the blur kernels of real pairs: what a point of the sharp picture became, in six places of each.

    python scripts/blur_kernels.py [FOLDER] --out kernels.png      FOLDER holds sharp/ and blur/ (the GoPro pairs)

In a window, the kernel is the one that makes the sharp picture the blurred one with the least squared error, a little
regularised, found in the Fourier domain. It is drawn with its own maximum as white; the cell's middle is the place of
the sharp picture. One row for each pair, in the order of the names printed. A row of dots is the mean of so many
frames; dots further apart were passed faster.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from protocols import REAL_PAIRS, Pixels, pairs

from restore.errors import RestoreError, UsageError
from restore.images import Photo, write_photo
from restore.planning import prepare_folder
from restore.types import Task

WINDOW_PX = 256
KERNEL_PX = 49
ZOOM = 3
REGULARISATION = 0.002  # relative to the mean power
ROWS, COLUMNS = 2, 3  # of windows in a picture


def kernel_between(sharp: Pixels, blurred: Pixels, size_px: int = KERNEL_PX) -> npt.NDArray[np.float64]:
    """Return the kernel that makes a sharp window a blurred one.

    Args:
        sharp: (H,W,C) in [0,1], larger than the kernel.
        blurred: the same shape.
        size_px: odd side of the kernel.

    Returns:
        (size_px,size_px), sum near 1; the middle stands for no shift.
    """
    height, width = sharp.shape[:2]
    weight = (np.hanning(height)[:, None] * np.hanning(width))[..., None]
    before, after = (np.fft.fft2((each - each.mean((0, 1))) * weight, axes=(0, 1)) for each in (sharp, blurred))
    power = (np.abs(before) ** 2).sum(2)
    kernel = np.fft.ifft2((after * before.conj()).sum(2) / (power + REGULARISATION * power.mean())).real
    top, left = height // 2 - size_px // 2, width // 2 - size_px // 2
    return np.asarray(np.fft.fftshift(kernel)[top : top + size_px, left : left + size_px], np.float64)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of the module's docstring; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=REAL_PAIRS[Task.DEBLUR], help="sharp/ and blur/")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write")
    options = parser.parse_args(arguments)
    rows = []
    try:
        for sample in pairs(options.folder).samples():
            if min(sample.reference.shape[:2]) < KERNEL_PX:
                raise UsageError(f"{sample.name}: a picture needs {KERNEL_PX} pixels a side to show its kernel")
            rows.append(np.hstack([_cell(sample.reference[w], sample.degraded[w]) for w in _windows(sample.reference)]))
            print(sample.name)
        prepare_folder(options.out.parent)
        write_photo(options.out, Photo(np.vstack(rows)))
    except RestoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _windows(picture: Pixels) -> list[tuple[slice, slice]]:
    height, width = (min(WINDOW_PX, side) for side in picture.shape[:2])
    tops = np.linspace(0, picture.shape[0] - height, ROWS + 2).astype(int)[1:-1]
    lefts = np.linspace(0, picture.shape[1] - width, COLUMNS + 2).astype(int)[1:-1]
    return [(slice(top, top + height), slice(left, left + width)) for top, left in itertools.product(tops, lefts)]


def _cell(sharp: Pixels, blurred: Pixels) -> npt.NDArray[np.uint8]:
    kernel = kernel_between(sharp, blurred)
    shown = np.uint8(255 * np.clip(kernel / max(kernel.max(), 1e-9), 0, 1))
    return np.pad(np.kron(shown, np.ones((ZOOM, ZOOM), np.uint8)), 1, constant_values=90)


if __name__ == "__main__":
    sys.exit(main())
