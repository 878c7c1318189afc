"""Training samples: clean photographs in memory, random patches, degraded as they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from restore.errors import NothingToDoError
from restore.images import Photo, find_images, from_float, read_photo, to_float

Batch = tuple[Tensor, Tensor, Tensor]  # noisy (N,3,H,W), told noise levels (N,), clean (N,3,H,W)


class CleanPatches:
    """Random patches of clean photographs, flipped and rotated, every pixel of the set as likely as any other.

    Args:
        photos: (3,H,W) uint8 tensors.
        generator: the only source of randomness, so that its state is the position in the data.
    """

    def __init__(self, photos: Sequence[Tensor], generator: torch.Generator) -> None:
        self.photos = photos
        self.generator = generator
        self.areas = torch.tensor([photo[0].numel() for photo in photos], dtype=torch.float64)

    def draw(self, batch_size: int, patch_size: int) -> Tensor:
        """Return (batch_size,3,patch_size,patch_size) float32 in [0,1]; smaller photographs are mirrored outwards."""
        chosen = torch.multinomial(self.areas, batch_size, replacement=True, generator=self.generator)
        patches = torch.stack([self._patch(self.photos[index], patch_size) for index in chosen.tolist()])
        return patches.float().div_(255).contiguous(memory_format=torch.channels_last)

    def _patch(self, photo: Tensor, size: int) -> Tensor:
        height, width = photo.shape[-2:]
        top, left = self._below(max(1, height - size + 1)), self._below(max(1, width - size + 1))
        patch = photo[:, top : top + size, left : left + size]
        patch = torch.rot90(patch, self._below(4), dims=(1, 2))
        patch = patch.flip(2) if self._below(2) else patch
        return _mirror_to(patch, size)

    def _below(self, limit: int) -> int:
        return int(torch.randint(limit, (), generator=self.generator))


def degrade(
    clean: Tensor, generator: torch.Generator, *, sigma_max: float, told_share: float, grey_share: float
) -> Batch:
    """Make training samples for blind denoising: Gaussian noise, unclipped, σ uniform in [0, sigma_max] per sample.

    Args:
        clean: (N,3,H,W) in [0,1].
        generator: source of randomness.
        sigma_max: in [0,1].
        told_share: probability that the network is told the noise level.
        grey_share: probability that a sample is grey, with the same noise in its three equal channels.

    Returns:
        The noisy (N,3,H,W), the told noise levels (N,), -1 where untold, and the clean (N,3,H,W).
    """
    num = clean.shape[0]
    sigma_N = torch.rand(num, generator=generator) * sigma_max
    told_N = torch.rand(num, generator=generator) < told_share
    grey_N = torch.rand(num, generator=generator) < grey_share
    noise = torch.randn(clean.shape, generator=generator).contiguous(memory_format=torch.channels_last)
    clean = torch.where(grey_N.view(-1, 1, 1, 1), clean.mean(1, keepdim=True), clean)
    noise = torch.where(grey_N.view(-1, 1, 1, 1), noise[:, :1], noise)
    return clean + sigma_N.view(-1, 1, 1, 1) * noise, torch.where(told_N, sigma_N, -1.0), clean


def load_photos(folder: Path) -> list[Tensor]:
    """Decode every picture below a folder to (3,H,W) uint8.

    Raises:
        NothingToDoError: no picture is there.
    """
    photos = [_as_uint8(read_photo(path)) for path in find_images(folder)]
    if not photos:
        raise NothingToDoError(f"{folder}: no pictures to train on; name a folder of clean photographs")
    return photos


def _as_uint8(photo: Photo) -> Tensor:
    """Return (3,H,W) uint8: grey is repeated, deeper samples are rounded."""
    pixels = photo.pixels if photo.pixels.dtype == np.uint8 else from_float(to_float(photo.pixels), np.uint8)
    image = torch.from_numpy(pixels)
    return image.expand(3, -1, -1).contiguous() if image.ndim == 2 else image.permute(2, 0, 1).contiguous()


def _mirror_to(patch: Tensor, size: int) -> Tensor:
    for dim in (1, 2):
        while patch.shape[dim] < size:
            mirrored = torch.cat([patch, patch.flip(dim)], dim)
            patch = mirrored.narrow(dim, 0, min(size, mirrored.shape[dim]))
    return patch
