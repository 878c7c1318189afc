"""From two files to the numbers that are compared: alpha, border, channel."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.errors import ImageError, UsageError
from restore.images import MAX_PIXELS, Photo, read_photo, to_float
from restore.scoring.pairing import Pair

Y_WEIGHTS = (65.481, 128.553, 24.966)
Y_OFFSET = 16.0
VALUES = (
    "values as stored, each file scaled to [0,1] by its own depth (8 bit: /255, 16 bit: /65535, float: as it is, "
    "clipped to [0,1])"
)
BACKGROUNDS = {"white": "#ffffff", "black": "#000000", "grey": "#808080"}
_DEPTHS = {"uint8": "8 bit", "uint16": "16 bit", "float32": "float"}
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_NAMES = {colour: name for name, colour in BACKGROUNDS.items()}


class Prepared(NamedTuple):
    """Two pictures ready to be compared, (C,H,W) in [0,1], and what there is to say of them."""

    reference: Tensor
    restored: Tensor
    kind: str
    clipped: bool
    alpha_on_one_side: bool
    warnings: tuple[str, ...]


class PreparedOne(NamedTuple):
    """One picture, (C,H,W) in [0,1], whether it was clipped to that, and what its reader had to say."""

    picture: Tensor
    clipped: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Preparation:
    """How files become the numbers that are compared.

    Attributes:
        channel: all channels as stored, or the luma of BT.601 in its limited range.
        crop_border: pixels left out along each edge.
        alpha: `ignore`, or the background that pictures with an alpha channel are laid over: a name in BACKGROUNDS
            or #rrggbb.
        max_pixels: above which a picture is not decoded.

    Raises:
        UsageError: a channel or background that does not exist, or a negative border.
    """

    channel: Literal["rgb", "y"] = "rgb"
    crop_border: int = 0
    alpha: str = "ignore"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.channel not in {"rgb", "y"}:
            raise UsageError(f"--channel {self.channel}: choose rgb or y")
        if self.crop_border < 0:
            raise UsageError(f"--crop-border {self.crop_border}: give 0 or more pixels")
        if self.alpha != "ignore" and not _COLOUR.fullmatch(BACKGROUNDS.get(self.alpha, self.alpha)):
            raise UsageError(f"--alpha {self.alpha}: choose ignore, {', '.join(BACKGROUNDS)} or #rrggbb")

    @property
    def protocol(self) -> str:
        """What is done to every picture, in words."""
        alpha = "alpha and colour profiles ignored"
        if self.alpha != "ignore":
            alpha = f"laid over {self.alpha} by their alpha, in stored values; colour profiles ignored"
        parts = [VALUES, "pictures upright", alpha, "nothing resized"]
        if self.crop_border:
            parts.append(f"{self.crop_border} pixels cropped along each edge")
        if self.channel == "y":
            parts.append(
                "Y, BT.601 limited: (16 + 65.481 R + 128.553 G + 24.966 B)/255; networks (LPIPS, FID) see all channels"
            )
        return "; ".join(parts)

    @property
    def seen_by_networks(self) -> dict[str, str]:
        """What determines the features of a network, option by option: all channels, whatever `channel` says."""
        return {"channel": "rgb", "crop_border": str(self.crop_border), "alpha": _NAMES.get(self.alpha, self.alpha)}

    def read(self, pair: Pair) -> tuple[Photo, Photo]:
        """Read two pictures and check that they can be compared.

        Raises:
            ImageError: one cannot be read or holds NaN or infinite values, or size or channels differ.
        """
        reference, restored = (self.read_one(path) for path in (pair.reference, pair.restored))
        _assert_comparable(pair, reference, restored)
        return reference, restored

    def prepare(self, pair: Pair, photos: tuple[Photo, Photo]) -> Prepared:
        """Turn what `read` returned into numbers: flatten alpha, crop the border.

        Raises:
            ImageError: the background has colour and the picture none, or nothing is left inside the border.
        """
        reference, restored = map(self.prepare_one, (pair.reference, pair.restored), photos)
        one_sided = self.alpha != "ignore" and (photos[0].alpha is None) != (photos[1].alpha is None)
        return Prepared(
            reference.picture,
            restored.picture,
            kind=_kind(*photos) + (", alpha on one side only" if one_sided else ""),
            clipped=reference.clipped or restored.clipped,
            alpha_on_one_side=one_sided,
            warnings=reference.warnings + restored.warnings,
        )

    def read_one(self, path: Path) -> Photo:
        """Read a single picture.

        Raises:
            ImageError: it cannot be read, or holds NaN or infinite values.
        """
        photo = read_photo(path, max_pixels=self.max_pixels)
        if photo.pixels.dtype == np.float32 and not np.isfinite(photo.pixels).all():
            raise ImageError(f"{path}: holds NaN or infinite values and has no score; write it anew")
        return photo

    def prepare_one(self, path: Path, photo: Photo) -> PreparedOne:
        """Turn what `read_one` returned into numbers.

        Raises:
            ImageError: as `prepare`.
        """
        warnings = tuple(f"{path}: {warning}" for warning in photo.warnings)
        return PreparedOne(self._tensor(path, photo), _exceeds(photo.pixels), warnings)

    def compared(self, picture: Tensor) -> Tensor:
        """Return the channels that are compared.

        Args:
            picture: (C,H,W) in [0,1], grey or RGB.

        Returns:
            The picture itself, or (1,H,W) luma in [16/255, 235/255].
        """
        if self.channel == "rgb":
            return picture
        weights = torch.tensor(Y_WEIGHTS, dtype=torch.float64).view(-1, 1, 1) / 255
        return ((picture * weights).sum(0, keepdim=True) + Y_OFFSET / 255).float()

    def _tensor(self, path: Path, photo: Photo) -> Tensor:
        picture = _channels_first(to_float(photo.pixels)).clamp(0, 1)
        if photo.alpha is not None and self.alpha != "ignore":
            opacity = torch.from_numpy(to_float(photo.alpha)).clamp(0, 1)
            picture = opacity * picture + (1 - opacity) * self._background(path, len(picture))
        border = self.crop_border
        height, width = picture.shape[1:]
        if min(height, width) <= 2 * border:
            raise ImageError(f"{path}: has {width}×{height} pixels, and --crop-border {border} leaves nothing of them")
        return picture[:, border : height - border, border : width - border].contiguous()

    def _background(self, path: Path, num_channels: int) -> Tensor:
        colour = BACKGROUNDS.get(self.alpha, self.alpha)
        components = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        if num_channels == 1 and len(set(components)) > 1:
            raise ImageError(f"{path}: is grey and has no place on {self.alpha}; choose a grey for --alpha")
        return torch.tensor(components[:num_channels], dtype=torch.float32).view(-1, 1, 1) / 255


AS_STORED = Preparation()


def _channels_first(pixels: NDArray[np.float32]) -> Tensor:
    tensor = torch.from_numpy(pixels)
    return tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1).contiguous()


def _assert_comparable(pair: Pair, reference: Photo, restored: Photo) -> None:
    if _colour(reference) != _colour(restored):
        raise ImageError(
            f"{pair.restored}: is {_colour(restored)} and its reference {_colour(reference)}; convert one of them"
        )
    (height, width), (other_height, other_width) = reference.pixels.shape[:2], restored.pixels.shape[:2]
    if (height, width) != (other_height, other_width):
        raise ImageError(
            f"{pair.restored}: has {other_width}×{other_height} pixels and its reference {width}×{height}; "
            "pictures are never resized for a score, restore at the reference's size"
        )


def _exceeds(pixels: NDArray[np.float32]) -> bool:
    return pixels.dtype == np.float32 and bool(pixels.min() < 0 or pixels.max() > 1)


def _colour(photo: Photo) -> str:
    return "grey" if photo.pixels.ndim == 2 else "RGB"


def _kind(reference: Photo, restored: Photo) -> str:
    depths = [_DEPTHS[photo.pixels.dtype.name] for photo in (reference, restored)]
    return f"{_colour(reference)}, {' against '.join(dict.fromkeys(depths))}"
