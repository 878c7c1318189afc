"""Training samples: a patch of a picture, turned, mirrored and degraded by nothing but its number and the seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from restore.data.patterns import draw_pattern
from restore.data.sources import Picture, Source, Tolerant
from restore.degradations import Chain, draw

UNTOLD = -1.0
JPEG_UNIT_PX = 16  # with colours at half the size


@dataclass(frozen=True)
class Request:
    """Which sample, and how large.

    Attributes:
        index: of the sample, from 0 on without end.
        patch_size: in pixels.
    """

    index: int
    patch_size: int


class Sample(NamedTuple):
    """What a network is given and what it should return, p the patch size.

    Attributes:
        degraded: (3,p,p) float32, nominal range [0,1], not clipped.
        told: the noise level in [0,1] that the network is told, -1 where it is not.
        reference: (3,p,p) float32.
    """

    degraded: Tensor
    told: float
    reference: Tensor


class Batch(NamedTuple):
    """Samples stacked, in channels_last.

    Attributes:
        degraded: (N,3,p,p) float32.
        told: (N,) noise levels in [0,1], -1 where untold.
        reference: (N,3,p,p) float32.
    """

    degraded: Tensor
    told: Tensor
    reference: Tensor


class TrainSamples(Dataset[Sample]):
    """Samples without end; the same for a seed, however many processes draw them.

    Every picture is as likely as any other. A sample depends on the seed and its index alone, so that the position in
    the data is one integer. Where chains blur, what lies beside a patch moves into it. Pictures that are too small for
    that are mirrored outwards.

    Args:
        source: photographs, to be degraded; or pairs, which come blurred already; or a mixture of both.
        chains: degradations, one of which is drawn for each sample; pairs get its steps that do not blur. None to take
            pairs as they are.
        seed: of everything random.
        told_share: probability that the network is told the noise level, where there is one.
        grey_share: probability that a photograph is turned grey, with the same noise in its three equal channels.
        patterns_share: probability that a drawn pattern is degraded in place of a picture.

    Attributes:
        pictures: the source, read so that single bad pictures are passed over; `pictures.bad` tells which.
    """

    def __init__(
        self,
        source: Source,
        chains: Sequence[Chain] | None,
        seed: int,
        *,
        told_share: float = 0.0,
        grey_share: float = 0.0,
        patterns_share: float = 0.0,
    ) -> None:
        self.pictures = Tolerant(source)
        self.chains = chains
        reach_px = max((chain.reach_px for chain in chains or ()), default=0)
        self.margin_px = JPEG_UNIT_PX * math.ceil(reach_px / JPEG_UNIT_PX)  # blocks start where those of files do
        self.seed = seed
        self.told_share = told_share
        self.grey_share = grey_share
        self.patterns_share = patterns_share

    def __getitem__(self, request: Request) -> Sample:
        """Draw a sample.

        Raises:
            NothingToDoError: too many pictures cannot be read.
            UsageError: the pictures of a pair differ in size.
            ValueError: photographs come without chains.
        """
        generator = torch.Generator().manual_seed(_seed_of(self.seed, request))
        where, down, across, turn, told, grey, drawn = torch.rand(7, dtype=torch.float64, generator=generator).tolist()
        if self.chains is not None and drawn < self.patterns_share:
            picture: Picture = draw_pattern(request.patch_size + 2 * self.margin_px, generator)
        else:
            picture = self.pictures.read(int(where * len(self.pictures.source)))
        given = picture if isinstance(picture, tuple) else (picture,)
        margin_px = self.margin_px if len(given) == 1 else 0  # pairs come blurred already
        size, symmetry = request.patch_size + 2 * margin_px, int(8 * turn)
        sides = [_patch(side, size, down, across, symmetry) for side in given]
        if self.chains is None:
            degraded, reference = sides
            return Sample(degraded, UNTOLD, reference)
        if grey < self.grey_share:
            sides = [side.mean(0, keepdim=True) for side in sides]
        made = draw(self.chains, sides[0], generator, sides[1] if len(sides) > 1 else None)
        known = slice(margin_px, margin_px + request.patch_size)
        sigma = made.sigma if told < self.told_share else None
        return Sample(
            made.image[:, known, known].expand(3, -1, -1),
            UNTOLD if sigma is None else sigma,
            made.reference[:, known, known].expand(3, -1, -1),
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size."""
    degraded, told, reference = zip(*samples, strict=True)
    return Batch(_stack(degraded), torch.tensor(told, dtype=torch.float32), _stack(reference))


def _stack(images: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(images)).contiguous(memory_format=torch.channels_last)


def _seed_of(seed: int, request: Request) -> int:
    """Return a hash; neighbouring seeds and indices have nothing in common, nor have patches of two sizes."""
    words = f"{seed} {request.index} {request.patch_size}"
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=7).digest(), "big")


def _patch(picture: Tensor, size: int, down: float, across: float, symmetry: int) -> Tensor:
    """Cut a patch at a place given by two numbers in [0,1) and apply one of the eight symmetries of the square."""
    height, width = picture.shape[-2:]
    top, left = int(down * max(1, height - size + 1)), int(across * max(1, width - size + 1))
    patch = picture[:, top : top + size, left : left + size].float().div_(torch.iinfo(picture.dtype).max)
    patch = patch.flip([dim for dim in (1, 2) if symmetry & dim])
    return _mirror_to(patch.transpose(1, 2) if symmetry & 4 else patch, size)


def _mirror_to(patch: Tensor, size: int) -> Tensor:
    for dim in (1, 2):
        while patch.shape[dim] < size:
            mirrored = torch.cat([patch, patch.flip(dim)], dim)
            patch = mirrored.narrow(dim, 0, min(size, mirrored.shape[dim]))
    return patch
