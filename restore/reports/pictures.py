"""Pictures for a page: bounded in size, as data addresses, with a map of their differences."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from restore.images.opencv import cv2
from restore.scoring import Pair, Preparation

LARGEST_SIDE = 1024
WEBP_QUALITY = 92
SMALL = 2**16  # pixels up to which pictures are embedded without loss
SCALES = (8, 16, 32, 64, 128, 255)  # brightest difference of a map, in 255ths
COLOURS = cv2.COLORMAP_INFERNO

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """One restored picture to look at.

    Attributes:
        label: of its folder.
        picture: data address.
        difference: data address of the map of differences.
    """

    label: str
    picture: str
    difference: str


@dataclass(frozen=True)
class Viewing:
    """A reference and what was made of it.

    Attributes:
        reference: data address.
        views: the restored pictures.
        width: in pixels, as embedded.
        height: in pixels, as embedded.
        scale: the difference, in 255ths, that the maps show brightest.
        note: what part of the picture is shown, where it is not the whole; else empty.
    """

    reference: str
    views: tuple[View, ...]
    width: int
    height: int
    scale: int
    note: str


def view(pairs: Sequence[tuple[str, Pair]], preparation: Preparation) -> Viewing:
    """Read the pictures of one name again and embed them.

    Args:
        pairs: label and files of each restored picture, all of one reference.
        preparation: as they were scored.

    Raises:
        ImageError: a file cannot be read any more.
    """
    reference, restored, errors = None, [], []
    part, height, width = (slice(None), slice(None)), 0, 0
    for _, pair in pairs:
        prepared = preparation.prepare(pair, preparation.read(pair))
        error = _largest_difference(preparation.compared(prepared.reference), preparation.compared(prepared.restored))
        if reference is None:
            height, width = error.shape
            part = _window(error)
            reference = _cut(prepared.reference, part)
        restored.append(_cut(prepared.restored, part))
        errors.append(error[part].copy())
    assert reference is not None, "no pair to show"
    scale = _scale(errors)
    shown_height, shown_width = errors[0].shape
    rows, columns = part
    return Viewing(
        reference=_embed(reference),
        views=tuple(
            View(label, _embed(picture), _map(error, scale))
            for (label, _), picture, error in zip(pairs, restored, errors, strict=True)
        ),
        width=shown_width,
        height=shown_height,
        scale=scale,
        note=f"{shown_width}×{shown_height} of {width}×{height} pixels, from column {columns.start} and row "
        f"{rows.start}, where the difference is greatest"
        if (shown_height, shown_width) != (height, width)
        else "",
    )


def colour_scale() -> str:
    """Return the colours of the maps, dark to bright, as the stops of a CSS gradient."""
    ramp = cv2.applyColorMap(np.arange(0, 256, 17, dtype=np.uint8)[None], COLOURS)[0]
    return ", ".join(f"rgb({red} {green} {blue})" for blue, green, red in ramp.tolist())


def _largest_difference(reference: Tensor, restored: Tensor) -> Picture:
    difference: Picture = (reference - restored).abs().amax(0).numpy()
    return difference


def _cut(picture: Tensor, part: tuple[slice, slice]) -> Picture:
    pixels: Picture = picture[:, part[0], part[1]].permute(1, 2, 0).contiguous().numpy()
    return pixels


def _window(error: Picture) -> tuple[slice, slice]:
    """Return the rows and columns of at most LARGEST_SIDE pixels a side with the greatest sum of differences."""
    height, width = error.shape
    shown_height, shown_width = min(height, LARGEST_SIDE), min(width, LARGEST_SIDE)
    sums = cv2.integral(error)
    windows = (
        sums[shown_height:, shown_width:]
        - sums[:-shown_height, shown_width:]
        - sums[shown_height:, :-shown_width]
        + sums[:-shown_height, :-shown_width]
    )
    top, left = (int(place) for place in np.unravel_index(np.argmax(windows), windows.shape))
    return slice(top, top + shown_height), slice(left, left + shown_width)


def _scale(errors: Sequence[Picture]) -> int:
    """Return the smallest scale that holds all but one in fifty of the differences."""
    usual = max(float(np.quantile(error, 0.98)) for error in errors) * 255
    return next((scale for scale in SCALES if scale >= round(usual)), SCALES[-1])


def _map(error: Picture, scale: int) -> str:
    levels = np.rint(np.clip(error * (255 / scale), 0, 1) * 255).astype(np.uint8)
    return _as_address(np.asarray(cv2.applyColorMap(levels, COLOURS), np.uint8))


def _embed(picture: Picture) -> str:
    pixels = np.rint(picture * 255).astype(np.uint8)
    code = cv2.COLOR_GRAY2BGR if pixels.shape[2] == 1 else cv2.COLOR_RGB2BGR
    return _as_address(np.asarray(cv2.cvtColor(pixels, code), np.uint8))


def _as_address(bgr: NDArray[np.uint8]) -> str:
    lossless = bgr.shape[0] * bgr.shape[1] <= SMALL
    encoded = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, 101 if lossless else WEBP_QUALITY])[1]
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
