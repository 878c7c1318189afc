"""Lay synthetic noise beside the real noise of a camera, and compare the two in numbers.

    python scripts/degradation_sheet.py --clean DIR --pairs DIR --out sheet.png

Left, samples of clean pictures degraded by a chain (`--chain`, JSON; camera noise if absent); right, crops of real
pairs, the folder of which holds clean/ and noisy/. Above each noisy crop stands its clean one. The numbers compare the
noise of the real pairs with the chain's noise on the clean halves of the very same pairs, so at equal brightness.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from restore.degradations import Chain, draw
from restore.errors import NothingToDoError, RestoreError
from restore.images import find_images, from_float, read_photo, to_float

GUTTER = 6
COLUMNS = 5  # of samples, and as many of real crops
NAMES = (
    "std R", "std G", "std B", "std R/G", "std B/G", "corr RG", "corr GB", "corr RB",
    "next R", "next G", "next B", "2nd R", "2nd G", "2nd B",
)  # fmt: skip
Pair = tuple[Tensor, Tensor]  # clean and noisy, (3,H,W) in [0,1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sheet and print the numbers; return the exit code."""
    options = _parse(arguments)
    generator = torch.Generator().manual_seed(options.seed)
    try:
        chain = Chain.model_validate(json.loads(options.chain))
        real = [_pair(path, options.pairs / "noisy") for path in find_images(options.pairs / "clean")]
        clean = [read(path) for path in find_images(options.clean)]
        if not real or not clean:
            raise NothingToDoError(f"{options.pairs}/clean and {options.clean}: pictures are needed in both")
        samples = [sample(clean, chain, options.crop, generator) for _ in range(options.samples)]
        crops = [cut(*real[index % len(real)], options.crop, generator) for index in range(options.samples)]
        options.out.parent.mkdir(parents=True, exist_ok=True)
        beside(grid(samples), grid(crops)).save(options.out)
    except (RestoreError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(options.out)
    synthetic = list(_imitations(real, chain, options.repeats, generator))
    _print_numbers(
        np.array([_statistics(noisy - reference) for reference, noisy in real]),
        np.array([_statistics(noisy - reference) for reference, noisy in synthetic]),
    )
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clean", type=Path, required=True, help="folder of clean photographs to degrade")
    parser.add_argument("--pairs", type=Path, required=True, help="folder with clean/ and noisy/ of equal names")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write")
    parser.add_argument("--chain", default='{"steps": [{"kind": "camera-noise"}]}', help="as JSON")
    parser.add_argument("--samples", type=int, default=20, help="crops on either side (20)")
    parser.add_argument("--crop", type=int, default=128, help="their side in pixels (128)")
    parser.add_argument("--repeats", type=int, default=6, help="imitations of each real pair for the numbers (6)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def read(path: Path) -> Tensor:
    """Return (3,H,W) float32 in [0,1]."""
    pixels = torch.from_numpy(to_float(read_photo(path).pixels)).clamp(0, 1)
    return pixels.expand(3, -1, -1) if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _pair(clean: Path, folder: Path) -> Pair:
    return read(clean), read(folder / clean.name)


def sample(pictures: Sequence[Tensor], chain: Chain, size: int, generator: torch.Generator) -> Pair:
    """Return the reference and the degraded form of a crop of one of the pictures, all of it drawn."""
    picture = pictures[int(torch.randint(len(pictures), (), generator=generator))]
    crop, _ = cut(picture, picture, size, generator)
    degraded = draw([chain], crop, generator)
    return degraded.reference, degraded.image


def cut(clean: Tensor, noisy: Tensor, size: int, generator: torch.Generator) -> Pair:
    """Return the same crop of two pictures, at a place that is drawn."""
    height, width = clean.shape[1:]
    top = int(torch.randint(max(1, height - size + 1), (), generator=generator))
    left = int(torch.randint(max(1, width - size + 1), (), generator=generator))
    return clean[:, top : top + size, left : left + size], noisy[:, top : top + size, left : left + size]


def _imitations(real: Sequence[Pair], chain: Chain, repeats: int, generator: torch.Generator) -> Iterator[Pair]:
    for clean, _ in real:
        for _ in range(repeats):
            degraded = draw([chain], clean, generator)
            yield degraded.reference, degraded.image


def _statistics(noise: Tensor) -> list[float]:
    """Return what NAMES says of (3,H,W): deviations on 0–255, correlations of channels and of neighbours in a row."""
    noise = (noise - noise.mean((1, 2), keepdim=True)).double()
    variance = noise.square().mean((1, 2))
    red, green, blue = (variance.sqrt() * 255).tolist()
    between = torch.corrcoef(noise.flatten(1))
    neighbours = [((noise[:, :, step:] * noise[:, :, :-step]).mean((1, 2)) / variance).tolist() for step in (1, 2)]
    channels = [between[0, 1].item(), between[1, 2].item(), between[0, 2].item()]
    return [red, green, blue, red / green, blue / green, *channels, *neighbours[0], *neighbours[1]]


def _print_numbers(real: np.ndarray, synthetic: np.ndarray) -> None:
    print(f"real noise: {len(real)} pairs; synthetic: {len(synthetic)} degradations of their clean halves")
    print("| noise | real, least to most | synthetic, 5 to 95 % | real within |\n| --- | ---: | ---: | ---: |")
    low, high = np.quantile(synthetic, [0.05, 0.95], axis=0)
    for index, name in enumerate(NAMES):
        column = real[:, index]
        inside = np.mean((column >= low[index]) & (column <= high[index]))
        limits = f"{column.min():.2f} to {column.max():.2f} | {low[index]:.2f} to {high[index]:.2f}"
        print(f"| {name} | {limits} | {inside:.0%} |")


def grid(pairs: Sequence[Pair]) -> Image.Image:
    """Return rows of crops, each clean one above its noisy one."""
    side = max(max(noisy.shape[1:]) for _, noisy in pairs)
    rows = -(-len(pairs) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (side + GUTTER), rows * (2 * side + 2 * GUTTER)), (255, 255, 255))
    for index, pair in enumerate(pairs):
        row, column = divmod(index, COLUMNS)
        for below, image in enumerate(pair):
            pixels = from_float(image.permute(1, 2, 0).contiguous().numpy(), np.dtype(np.uint8))
            corner = (column * (side + GUTTER), row * (2 * side + 2 * GUTTER) + below * side)
            sheet.paste(Image.fromarray(pixels), corner)
    return sheet


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Return one picture of two, a wide gutter between them."""
    sheet = Image.new("RGB", (left.width + 4 * GUTTER + right.width, max(left.height, right.height)), (255, 255, 255))
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + 4 * GUTTER, 0))
    return sheet


if __name__ == "__main__":
    sys.exit(main())
