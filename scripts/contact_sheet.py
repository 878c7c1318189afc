"""Lay the same crops of several folders side by side, to see what the scores say.

    python scripts/contact_sheet.py --columns noisy=DIR restored=DIR reference=DIR --out sheet.png --scores

One row per photograph, found by its relative path without the extension in every folder; the crop is shown pixel for
pixel, where the last column has most detail. With --scores the last column is the reference of the others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from restore.errors import RestoreError
from restore.images import find_images, from_float, read_photo, to_float
from restore.metrics import psnr

GUTTER = 10
LINE = 24
FONT_SIZE = 15
MIN_TILE = 160  # wide enough for a label and a score
Colour = tuple[int, int, int]
PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)


@dataclass(frozen=True)
class Column:
    """One folder of pictures, by relative path without the extension."""

    label: str
    files: dict[str, Path]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sheet; return the exit code."""
    options = _parse(arguments)
    try:
        columns = [_parse_column(column) for column in options.columns]
        names = _common_names(columns)[: options.rows]
        rows = [_row(columns, name, options.crop, with_scores=options.scores) for name in names]
        options.out.parent.mkdir(parents=True, exist_ok=True)
        stack(rows).save(options.out)
    except (RestoreError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--columns", nargs="+", required=True, metavar="LABEL=DIR", help="left to right")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write")
    parser.add_argument("--crop", type=int, default=256, help="side of the crops in pixels (256)")
    parser.add_argument("--rows", type=int, default=8, help="show at most so many photographs (8)")
    parser.add_argument("--scores", action="store_true", help="PSNR of each whole picture against the last column")
    return parser.parse_args(arguments)


def _parse_column(text: str) -> Column:
    label, _, name = text.partition("=")
    folder = Path(name)
    if not name or not folder.is_dir():
        raise ValueError(f"--columns {text}: write LABEL=FOLDER, the folder being there")
    return Column(label, {path.relative_to(folder).with_suffix("").as_posix(): path for path in find_images(folder)})


def _common_names(columns: Sequence[Column]) -> list[str]:
    """Return the names that every column has, sorted."""
    common = set.intersection(*(set(column.files) for column in columns))
    if not common:
        labels = ", ".join(column.label for column in columns)
        raise ValueError(f"{labels}: no picture has the same name in all of them")
    return sorted(common)


def _row(columns: Sequence[Column], name: str, size: int, *, with_scores: bool) -> Image.Image:
    """Return one photograph's crops side by side, each below its label, and its name underneath."""
    pictures = [_read_rgb(column.files[name]) for column in columns]
    reference = pictures[-1]
    top, left = most_detailed(reference, size)
    tiles = []
    for picture, column in zip(pictures, columns, strict=True):
        if picture.shape != reference.shape:
            raise ValueError(f"{column.files[name]}: has another size than {columns[-1].files[name]}")
        score = f"{_psnr(reference, picture):.2f} dB" if with_scores and picture is not reference else ""
        tiles.append(tile(picture[top : top + size, left : left + size], column.label, score))
    return beside(tiles, name)


def _read_rgb(path: Path) -> np.ndarray:
    """Return (H,W,3) float32 in [0,1]."""
    pixels = np.clip(to_float(read_photo(path).pixels), 0, 1)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def _psnr(reference: np.ndarray, picture: np.ndarray) -> float:
    return psnr(torch.from_numpy(reference), torch.from_numpy(picture))


def most_detailed(picture: np.ndarray, size: int) -> tuple[int, int]:
    """Return the corner of the crop with the strongest edges, the crops tried half overlapping."""
    grey = picture.mean(axis=2)
    edges = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    height, width = grey.shape
    corners = [(top, left) for top in _starts(height, size) for left in _starts(width, size)]
    return max(corners, key=lambda corner: edges[corner[0] : corner[0] + size, corner[1] : corner[1] + size].sum())


def _starts(length: int, size: int) -> list[int]:
    last = max(0, length - size)
    return sorted({*range(0, last, max(1, size // 2)), last})


def tile(crop: np.ndarray, label: str, score: str) -> Image.Image:
    """Return a crop, (H,W,3) float32 in [0,1], below its label and its score."""
    picture = Image.fromarray(from_float(np.ascontiguousarray(crop), np.dtype(np.uint8)))
    labelled = Image.new("RGB", (max(picture.width, MIN_TILE), picture.height + LINE), PAPER)
    labelled.paste(picture, (0, LINE))
    _write(labelled, label, INK, x=0, y=0)
    _write(labelled, score, INK, x=labelled.width, y=0, anchor="rm")
    return labelled


def beside(tiles: Sequence[Image.Image], name: str) -> Image.Image:
    """Return tiles in a row above a name."""
    width = sum(picture.width for picture in tiles) + GUTTER * (len(tiles) - 1)
    row = Image.new("RGB", (width, tiles[0].height + LINE), PAPER)
    for index, picture in enumerate(tiles):
        row.paste(picture, (index * (picture.width + GUTTER), 0))
    _write(row, name, FAINT, x=0, y=tiles[0].height)
    return row


def _write(picture: Image.Image, text: str, colour: Colour, *, x: int, y: int, anchor: str = "lm") -> None:
    """Write text into a line of the picture that starts at y."""
    font = ImageFont.load_default(FONT_SIZE)
    text = text.replace("–", "-")  # the font has no dash
    ImageDraw.Draw(picture).text((x, y + LINE / 2), text, fill=colour, font=font, anchor=anchor)


def stack(rows: Sequence[Image.Image]) -> Image.Image:
    """Return rows one below the other."""
    sheet = Image.new(
        "RGB",
        (max(row.width for row in rows) + 2 * GUTTER, sum(row.height + GUTTER for row in rows) + GUTTER),
        PAPER,
    )
    y = GUTTER
    for row in rows:
        sheet.paste(row, (GUTTER, y))
        y += row.height + GUTTER
    return sheet


if __name__ == "__main__":
    sys.exit(main())
