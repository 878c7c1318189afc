"""Lay synthetic blur beside the blur of real pairs, and compare the two in numbers.

    python scripts/blur_sheet.py --clean DIR --pairs DIR --out sheet.png

Left, samples of clean pictures degraded by a chain (`--chain`, JSON; motion blur as video cameras make it if absent);
right, crops of real pairs, the folder of which holds sharp/ and blur/. Above each blurred crop stands its sharp one.
The numbers compare crops of the real pairs with the chain's blur on the sharp halves of the very same crops: how far
they are from sharp in PSNR, how much of the gradients is left, how much that differs with the direction, and how much
detail (a pixel's difference from the mean of its neighbours) is left.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from degradation_sheet import Pair, beside, cut, grid, read, sample
from torch import Tensor

from restore.degradations import Chain, draw
from restore.errors import NothingToDoError, RestoreError
from restore.images import find_images
from restore.metrics import psnr

CHAIN = """{"steps": [{
    "kind": "motion-blur", "length": [1, 32], "frame": 1280, "layers": 0.3, "display": 1,
    "frames": [7, 13], "reference": "middle", "anxiety": [0.015, 0.1]
}]}"""
NAMES = ("PSNR from sharp", "gradients left", "weakest over strongest direction", "detail left")
LEVELS = (5, 25, 50, 75, 95)
FLAT = 0.008  # crops whose gradients are below this on average say nothing of blur


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sheet and print the numbers; return the exit code."""
    options = _parse(arguments)
    generator = torch.Generator().manual_seed(options.seed)
    try:
        chain = Chain.model_validate(json.loads(options.chain))
        real = [(read(path), read(options.pairs / "blur" / path.name)) for path in find_images(options.pairs / "sharp")]
        clean = [read(path) for path in find_images(options.clean)]
        if not real or not clean:
            raise NothingToDoError(f"{options.pairs}/sharp and {options.clean}: pictures are needed in both")
        samples = [sample(clean, chain, options.crop, generator) for _ in range(options.samples)]
        crops = [cut(*real[index % len(real)], options.crop, generator) for index in range(options.samples)]
        options.out.parent.mkdir(parents=True, exist_ok=True)
        beside(grid(samples), grid(crops)).save(options.out)
        measured = [
            cut(*pair, options.measured_crop, generator) for pair in real for _ in range(options.measured // len(real))
        ]
        measured = [pair for pair in measured if float(_gradients(pair[0]).mean()) > FLAT]
        imitated = [(made.reference, made.image) for made in (draw([chain], sharp, generator) for sharp, _ in measured)]
    except (RestoreError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(options.out)
    _print_numbers(measured, imitated)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clean", type=Path, required=True, help="folder of sharp photographs to degrade")
    parser.add_argument("--pairs", type=Path, required=True, help="folder with sharp/ and blur/ of equal names")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write")
    parser.add_argument("--chain", default=CHAIN, help="as JSON")
    parser.add_argument("--samples", type=int, default=24, help="crops on either side (24)")
    parser.add_argument("--crop", type=int, default=160, help="their side in pixels (160)")
    parser.add_argument("--measured", type=int, default=160, help="crops for the numbers (160)")
    parser.add_argument("--measured-crop", type=int, default=128, help="their side in pixels (128)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def _statistics(sharp: Tensor, blurred: Tensor) -> list[float]:
    """Return what NAMES says of a crop, but for its border, (3,H,W) each."""
    sharp, blurred = sharp[:, 12:-12, 12:-12], blurred[:, 12:-12, 12:-12]
    left = (_gradients(blurred) / _gradients(sharp).clamp(min=1e-3)).tolist()
    total = float(_gradients(blurred).mean() / _gradients(sharp).mean())
    detail = float(_detail(blurred) / max(_detail(sharp), 1e-6))
    return [min(psnr(sharp, blurred), 60.0), total, min(left) / max(left), detail]


def _gradients(image: Tensor) -> Tensor:
    """Return (4,): how much brightness changes from pixel to pixel across, down and along both diagonals."""
    grey = image.mean(0)
    pairs = [
        (grey[:, 1:], grey[:, :-1]), (grey[1:], grey[:-1]),
        (grey[1:, 1:], grey[:-1, :-1]), (grey[1:, :-1], grey[:-1, 1:]),
    ]  # fmt: skip
    return torch.stack([(one - other).abs().mean() for one, other in pairs])


def _detail(image: Tensor) -> float:
    grey = image.mean(0)[None, None]
    return math.sqrt(float((grey - F.avg_pool2d(grey, 3, 1, 1, count_include_pad=False)).square().mean()))


def _print_numbers(real: Sequence[Pair], synthetic: Sequence[Pair]) -> None:
    print(f"{len(real)} crops of real pairs; the same ones blurred by the chain; percentiles {LEVELS}")
    print("| | real | synthetic |\n| --- | ---: | ---: |")
    columns = [np.array([_statistics(*pair) for pair in pairs]) for pairs in (real, synthetic)]
    for index, name in enumerate(NAMES):
        texts = [" / ".join(f"{value:.2f}" for value in np.percentile(one[:, index], LEVELS)) for one in columns]
        print(f"| {name} | {texts[0]} | {texts[1]} |")


if __name__ == "__main__":
    sys.exit(main())
