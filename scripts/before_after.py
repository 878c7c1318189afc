"""Lay crops of what methods make of the same pictures side by side, at 100 %, each with the PSNR of its whole picture.

    python scripts/before_after.py --out weights/before-after.jpg --places 101085:160:60 102061:20:90
    python scripts/before_after.py --out weights/before-after-real.jpg --pairs FOLDER --models denoise

From left to right the input, the peers, our networks, the reference. A place is a picture and the left upper corner of
its crop; without --places the first pictures are shown, each where it has most detail. Peers that are not installed are
left out with the reason. A JPEG is compressed as far as --max-kb demands.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from contact_sheet import beside, most_detailed, stack, tile
from evaluate import our_method
from peers import PEERS, PSF, Method, MissingPeerError, deblurring_peers
from PIL import Image
from protocols import CBSD68, Pixels, Protocol, Sample, gaussian, pairs

from restore.atomic import write_atomically
from restore.errors import RestoreError, UsageError
from restore.images import from_float, to_float
from restore.metrics import psnr
from restore.types import Task

SHOWN = {Task.DENOISE: ("BM3D", "FFDNet"), Task.DEBLUR: tuple(deblurring_peers(PSF))[:1]}
ENDS = {Task.DENOISE: ("noisy", "clean"), Task.DEBLUR: ("blurred", "sharp")}  # labels of the first and last column
NUM_ROWS = 4


@dataclass(frozen=True)
class Place:
    """A crop.

    Args:
        name: of the picture.
        corner: left and top, in pixels; None for where it has most detail.
    """

    name: str
    corner: tuple[int, int] | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sheet; return the exit code."""
    options = _parse(arguments)
    try:
        protocol = pairs(options.pairs) if options.pairs else gaussian(options.folder, options.sigma)
        methods = _methods(options, protocol.task)
        ends = ENDS[protocol.task]
        rows = [_row(sample, place, methods, ends, options) for sample, place in _chosen(protocol, options.places)]
        _write(stack(rows), options.out, options.max_kb)
    except (RestoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the picture to write")
    parser.add_argument(
        "--models", nargs="+", default=["denoise-fast"], help="names, weight files or runs (denoise-fast)"
    )
    parser.add_argument("--peers", nargs="*", metavar="NAME", help="beside them (BM3D FFDNet; scikit-image's for blur)")
    parser.add_argument("--folder", type=Path, default=CBSD68, help="clean pictures (CBSD68 in the data folder)")
    parser.add_argument("--sigma", type=float, default=25, help="of the noise put on them, on 0–255 (25)")
    parser.add_argument(
        "--pairs", type=Path, metavar="DIR", help="real pairs instead: clean/ and noisy/, or sharp/, blur/"
    )
    parser.add_argument(
        "--places", nargs="+", type=_place, metavar="NAME[:X:Y]", help="pictures and corners of the crops"
    )
    parser.add_argument("--crop", type=int, default=200, help="side of the crops in pixels (200)")
    parser.add_argument("--max-kb", type=int, default=1000, help="largest JPEG, in kilobytes (1000)")
    return parser.parse_args(arguments)


def _place(text: str) -> Place:
    name, *corner = text.split(":")
    if corner and not (len(corner) == 2 and all(number.isdecimal() for number in corner)):
        raise argparse.ArgumentTypeError(f"{text}: write NAME or NAME:X:Y")
    return Place(name, (int(corner[0]), int(corner[1])) if corner else None)


def _methods(options: argparse.Namespace, task: Task) -> dict[str, Method]:
    every = PEERS if task is Task.DENOISE else deblurring_peers(PSF)
    methods: dict[str, Method] = {}
    for name in SHOWN[task] if options.peers is None else options.peers:
        if name not in every:
            raise UsageError(f"--peers {name}: to {task} there are {'; '.join(every)}")
        try:
            methods[name.partition(",")[0]] = every[name]()
        except MissingPeerError as error:
            print(f"left out: {error}", file=sys.stderr)
    return methods | {Path(name).name: our_method(name) for name in options.models}


def _chosen(protocol: Protocol, places: Sequence[Place] | None) -> list[tuple[Sample, Place]]:
    """Return the pictures of the places, in their order; the first pictures where there are none."""
    samples = {}
    wanted = None if places is None else {place.name for place in places}
    for sample in protocol.samples():
        if wanted is None or sample.name in wanted:
            samples[sample.name] = sample
        if len(samples) == (NUM_ROWS if wanted is None else len(wanted)):
            break
    for place in places or ():
        if place.name not in samples:
            raise UsageError(f"--places {place.name}: there is no such picture in {protocol.folder}")
    return [(samples[place.name], place) for place in places or [Place(name, None) for name in samples]]


def _row(
    sample: Sample, place: Place, methods: Mapping[str, Method], ends: tuple[str, str], options: argparse.Namespace
) -> Image.Image:
    size = options.crop
    left, top = place.corner or most_detailed(sample.reference, size)[::-1]
    height, width = sample.reference.shape[:2]
    left, top = min(left, max(0, width - size)), min(top, max(0, height - size))
    pictures = {ends[0]: sample.degraded} | {
        name: method(sample.degraded, sample.sigma) for name, method in methods.items()
    }
    tiles = []
    for name, pixels in pictures.items():
        shown = to_float(from_float(pixels, np.dtype(np.uint8)))
        tiles.append(tile(_crop(shown, left, top, size), name, f"{_psnr(sample.reference, shown):.2f} dB"))
    tiles.append(tile(_crop(sample.reference, left, top, size), ends[1], ""))
    noise = f", noise of {options.sigma:g}" if options.pairs is None else ""
    return beside(tiles, f"{sample.name}{noise}, from ({left}, {top}); dB of the whole picture")


def _crop(picture: Pixels, left: int, top: int, size: int) -> Pixels:
    return picture[top : top + size, left : left + size]


def _psnr(reference: Pixels, restored: Pixels) -> float:
    return psnr(torch.from_numpy(reference), torch.from_numpy(restored))


def _write(sheet: Image.Image, path: Path, max_kb: int) -> None:
    """Write the sheet, a JPEG at full colour resolution in the best quality that fits.

    Raises:
        UsageError: it does not fit.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() not in {".jpg", ".jpeg"}:
        sheet.save(path)
        return
    for quality in (95, 92, 88, 84, 80):
        encoded = io.BytesIO()
        sheet.save(encoded, "JPEG", quality=quality, subsampling=0, optimize=True)
        if encoded.tell() <= 1000 * max_kb:
            write_atomically(path, encoded.getvalue())
            return
    raise UsageError(f"{path}: more than {max_kb} kB even at quality 80; show fewer or smaller crops")


if __name__ == "__main__":
    sys.exit(main())
