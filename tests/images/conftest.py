"""Small pictures and metadata that the tests of reading and writing share."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray
from PIL import Image, ImageCms

Array = NDArray[Any]
MakePicture = Callable[[str, DTypeLike], tuple[Array, "Array | None"]]


@pytest.fixture(scope="session")
def make_picture() -> MakePicture:
    """Return a maker of noise, 41×67: "L", "LA", "RGB" or "RGBA" of a type; floats reach below 0 and above 1."""

    def make(mode: str, dtype: DTypeLike) -> tuple[Array, Array | None]:
        generator = np.random.default_rng(0)
        num_colors = 1 if mode[0] == "L" else 3
        if np.dtype(dtype).kind == "f":
            samples = generator.normal(0.5, 1, (41, 67, 4)).astype(dtype)
        else:
            samples = generator.integers(0, np.iinfo(dtype).max, (41, 67, 4), dtype, endpoint=True)
        pixels = np.ascontiguousarray(samples[..., :3] if num_colors == 3 else samples[..., 0])
        return pixels, np.ascontiguousarray(samples[..., 3]) if mode.endswith("A") else None

    return make


@pytest.fixture(scope="session")
def smooth() -> Array:
    """A smooth colour picture (41,67,3) uint8, which JPEG changes little."""
    small = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((67, 41), Image.Resampling.BICUBIC))


@pytest.fixture(scope="session")
def icc() -> bytes:
    """A sound RGB profile."""
    profile: bytes = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile


@pytest.fixture
def exif() -> Image.Exif:
    """EXIF with a maker's note, GPS, and the picture stated as 67×41."""
    content = Image.Exif()
    content[0x010F] = "Maker"
    content[0x0112] = 1
    content[0x8298] = "Copyright holder"
    details = content.get_ifd(0x8769)
    details[0x9003] = "2020:01:02 03:04:05"
    details[0x927C] = b"maker's note " * 9
    details[0xA002], details[0xA003] = 67, 41
    position = content.get_ifd(0x8825)
    position[1], position[2] = "N", (48.0, 8.0, 7.5)
    return content


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """Return an encoder by Pillow: array or image, format, options."""

    def to_bytes(picture: Array | Image.Image, kind: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return to_bytes
