from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from restore.degradations import jpeg, webp
from restore.encodings import FULL_CHROMA_QUALITY

Compress = Callable[[Tensor, int], Tensor]
both = pytest.mark.parametrize("compress", [jpeg, webp])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@both
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (17, 40)])
def test_shape_and_range_are_kept(compress: Compress, channels: int, height: int, width: int) -> None:
    image = torch.rand(channels, height, width, generator=seeded()) * 2 - 0.5
    before = image.clone()
    out = compress(image, 80)
    assert torch.equal(image, before)
    assert out.shape == image.shape
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal((out * 255).round() / 255, out)


@both
def test_lower_quality_is_worse_and_the_channels_stay_apart(compress: Compress) -> None:
    ramp = torch.linspace(0, 1, 64)
    image = torch.stack([ramp.expand(64, 64), ramp.expand(64, 64).T, torch.full((64, 64), 0.5)])
    errors = [(compress(image, quality) - image).abs().mean().item() for quality in (95, 50, 5)]
    assert errors == sorted(errors)
    assert errors[0] < 0.01
    assert errors[2] > 0.015


@both
def test_grey_keeps_its_brightness(compress: Compress) -> None:
    image = torch.linspace(0.1, 0.9, 64).expand(1, 32, 64)
    assert (compress(image, 90) - image).abs().max() < 0.03


def test_the_colours_of_a_jpeg_are_halved_where_those_of_our_files_are() -> None:
    stripes = torch.zeros(3, 32, 32)
    stripes[0, :, ::2], stripes[2, :, 1::2] = 0.5, 0.5
    errors = [(jpeg(stripes, quality) - stripes).abs().mean().item() for quality in (FULL_CHROMA_QUALITY, 89)]
    assert errors[0] < errors[1] / 2


@pytest.mark.parametrize(
    ("compress", "quality", "message"),
    [(jpeg, 0, "1 to 100"), (jpeg, 101, "1 to 100"), (webp, -1, "0 to 100"), (webp, 101, "0 to 100")],
)
def test_bad_quality(compress: Compress, quality: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compress(torch.zeros(3, 4, 4), quality)


@pytest.mark.parametrize(("compress", "side", "message"), [(jpeg, 65501, "65,500"), (webp, 16384, "16,383")])
def test_sides_that_a_format_cannot_hold(compress: Compress, side: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compress(torch.zeros(1, 1, side), 90)
