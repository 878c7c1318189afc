"""Photographs of a folder or a pack, decoded when they are asked for, kept as far as memory goes."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from restore.data.packs import Member, read_index, read_member
from restore.data.sources import some_names
from restore.errors import NothingToDoError, UsageError
from restore.images import find_images, from_float, read_photo

CACHE_BYTES = 2**31

_ORIENTATION = 0x0112  # of EXIF; from 5 on the sides change places
_SIZED_BY_PILLOW = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM")


class Photos:
    """Clean photographs; nothing is decoded before it is read, and the latest read stay in memory.

    Args:
        names: of the pictures.
        load: returns the pixels of one, (H,W,3) or (H,W) of uint8, uint16 or float32.
        size: returns height and width of one if that is to be had without decoding it, else None.
        cache_bytes: most that is kept in memory; the least recently used goes first.
    """

    def __init__(
        self,
        names: Sequence[str],
        load: Callable[[int], np.ndarray[Any, Any]],
        size: Callable[[int], tuple[int, int] | None],
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.names = names
        self.size = size
        self.cache_bytes = cache_bytes
        self.load = load
        self._cache: OrderedDict[int, Tensor] = OrderedDict()
        self._num_cached_bytes = 0

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.names)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": OrderedDict(), "_num_cached_bytes": 0}

    def name(self, index: int) -> str:
        """Return the path of a picture below the folder."""
        return self.names[index]

    def read(self, index: int) -> Tensor:
        """Return a picture.

        Returns:
            (3,H,W) uint8 or uint16, not to be written to; grey is repeated, floats are clipped to [0,1] and rounded to
            16 bits, alpha is dropped.

        Raises:
            ImageError: it cannot be read.
        """
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        picture = _as_integers(self.load(index))
        num_bytes = picture.untyped_storage().nbytes()
        if num_bytes <= self.cache_bytes:
            self._cache[index] = picture
            self._num_cached_bytes += num_bytes
            self._drop_surplus()
        return picture

    def divide_memory(self, num_parts: int) -> None:
        """Keep a part of the decoded pictures in memory that could be kept so far, as one of several processes."""
        self.cache_bytes //= num_parts
        self._drop_surplus()

    def _drop_surplus(self) -> None:
        while self._num_cached_bytes > self.cache_bytes:
            _, dropped = self._cache.popitem(last=False)
            self._num_cached_bytes -= dropped.untyped_storage().nbytes()


def open_photos(path: Path, *, exclude: Path | None = None, cache_bytes: int = CACHE_BYTES) -> Photos:
    """Open a folder of photographs, searched recursively, or a pack.

    Args:
        path: a folder, or a file made by `pack`.
        exclude: a folder below it that is no part of it.
        cache_bytes: most that is kept of decoded pictures in memory.

    Raises:
        UsageError: there is no such path, or the file is no pack or a damaged one.
        NothingToDoError: no pictures are there.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such folder or pack; name one that exists")
    if path.is_dir():
        passed_over: list[str] = []
        files = find_images(path, exclude=exclude, on_skip=lambda file, why: passed_over.append(f"{file}: {why}"))
        names = [file.relative_to(path).as_posix() for file in files]
        folder = _Folder(path, names)
        photos = Photos(names, folder.load, folder.size, cache_bytes)
        if not photos and passed_over:
            raise NothingToDoError(f"{path}: no pictures ({some_names(passed_over)}); name a folder of photographs")
    else:
        pack = _Pack(path, read_index(path))
        photos = Photos([member.name for member in pack.members], pack.load, pack.size, cache_bytes)
    if not photos:
        raise NothingToDoError(f"{path}: no pictures; name a folder of photographs")
    return photos


@dataclass(frozen=True)
class _Folder:
    root: Path
    names: Sequence[str]

    def load(self, index: int) -> np.ndarray[Any, Any]:
        return read_photo(self.root / self.names[index]).pixels

    def size(self, index: int) -> tuple[int, int] | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(self.root / self.names[index], formats=_SIZED_BY_PILLOW) as image:
                    # Pillow turns TIFFs itself, and would decode a PNG to know
                    is_turned = image.format in {"JPEG", "WEBP"} and image.getexif().get(_ORIENTATION, 1) >= 5
                    return (image.width, image.height) if is_turned else (image.height, image.width)
        except Exception:  # noqa: BLE001  decoders raise anything on damaged content; reading it will tell
            return None


@dataclass(frozen=True)
class _Pack:
    path: Path
    members: Sequence[Member]

    def load(self, index: int) -> np.ndarray[Any, Any]:
        return read_member(self.path, self.members[index])

    def size(self, index: int) -> tuple[int, int]:
        return self.members[index].height, self.members[index].width


def _as_integers(pixels: np.ndarray[Any, Any]) -> Tensor:
    """Return (3,H,W) uint8 or uint16."""
    image = torch.from_numpy(from_float(pixels, np.uint16) if pixels.dtype == np.float32 else pixels)
    return image.expand(3, -1, -1) if image.ndim == 2 else image.permute(2, 0, 1).contiguous()
