"""What a compressed file leaves of a picture."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import WebPImageFile
from torch import Tensor

from restore.encodings import FULL_CHROMA_QUALITY, LONGEST_SIDES


def jpeg(image: Tensor, quality: int) -> Tensor:
    """Return the image after a JPEG file: clipped, rounded to 8 bits, compressed and decoded.

    Below quality 90 the colours have half the resolution (4:2:0), as cameras and `restore.images.write_photo` do it.

    Args:
        image: (C,H,W), one or three channels, nominal range [0,1].
        quality: 1 to 100, as libjpeg counts it.

    Returns:
        The same shape, float32 in [0,1].

    Raises:
        ValueError: the quality is out of range, or a side exceeds the 65,500 pixels of the format.
    """
    _assert_encodable(image, quality, "JPEG", least_quality=1)
    subsampling = "4:4:4" if quality >= FULL_CHROMA_QUALITY else "4:2:0"
    with io.BytesIO() as file:
        _picture(image).save(file, "JPEG", quality=quality, subsampling=subsampling)
        file.seek(0)
        # Image.open would refuse large pictures as decompression bombs, and this one we wrote ourselves
        decoded = JpegImageFile(file).tobytes()
    return _image(decoded, image)


def webp(image: Tensor, quality: int) -> Tensor:
    """Return the image after a lossy WebP file: clipped, rounded to 8 bits, compressed and decoded.

    The colours always have half the resolution (4:2:0), as the format prescribes.

    Args:
        image: (C,H,W), one or three channels, nominal range [0,1].
        quality: 0 to 100, as libwebp counts it; 100 is lossy too.

    Returns:
        The same shape, float32 in [0,1].

    Raises:
        ValueError: the quality is out of range, or a side exceeds the 16,383 pixels of the format.
    """
    _assert_encodable(image, quality, "WebP", least_quality=0)
    with io.BytesIO() as file:
        _picture(image).convert("RGB").save(file, "WEBP", quality=quality)
        file.seek(0)
        decoded = WebPImageFile(file).convert("L" if len(image) == 1 else "RGB").tobytes()
    return _image(decoded, image)


def _assert_encodable(image: Tensor, quality: int, name: str, *, least_quality: int) -> None:
    longest_side = LONGEST_SIDES[name.lower()]
    if not least_quality <= quality <= 100:
        raise ValueError(f"{name} quality goes from {least_quality} to 100, not {quality}")
    height, width = image.shape[-2:]
    if max(height, width) > longest_side:
        raise ValueError(f"a {name} has at most {longest_side:,} pixels a side, and this picture has {width}×{height}")


def _picture(image: Tensor) -> Image.Image:
    """Return (C,H,W) clipped and rounded to 8 bits, as encoders take it."""
    codes = image.clamp(0, 1).mul_(255).round_().to(torch.uint8)
    return Image.fromarray((codes[0] if len(codes) == 1 else codes.permute(1, 2, 0)).contiguous().numpy())


def _image(decoded: bytes, like: Tensor) -> Tensor:
    """Return decoded 8-bit pixels as float32 in [0,1], in the shape of an image."""
    channels, height, width = like.shape
    pixels = np.frombuffer(bytearray(decoded), np.uint8).reshape(height, width, channels)
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)
