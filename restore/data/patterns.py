"""Drawn repeated patterns: stripes, grids, checks, bricks, halftone dots and tiles of any picture.

Photographs for training hold few of them, and networks that never saw them fail badly where they come up, on fences,
fabrics, facades, screens and printed halftones: they take texture of two pixels for noise, and the products of their
gates grow beyond all bounds where a whole patch repeats itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

PERIOD_PX = (2.0, 40.0)
OVERSAMPLING = 3  # of patterns that are drawn with soft edges

Draw = Callable[[float, float], float]


def draw_pattern(size_px: int, generator: torch.Generator) -> Tensor:
    """Draw a pattern of two colours, often with another one over a part of it, in uneven light.

    Args:
        size_px: side of the picture.
        generator: of everything random.

    Returns:
        (3,size,size) uint8.
    """

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    oversampling = OVERSAMPLING if uniform(0, 1) < 0.7 else 1  # the others keep their stairs, as screens do
    axis = (torch.arange(size_px * oversampling, dtype=torch.float32) + 0.5) / oversampling
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    picture = _coloured(_layer(x, y, uniform, generator), uniform, generator)
    if uniform(0, 1) < 0.3:
        other = _coloured(_layer(x, y, uniform, generator), uniform, generator)
        u, _ = _turned(x - size_px / 2, y - size_px / 2, uniform(0, 2 * math.pi))
        picture = torch.where(u > uniform(-0.4, 0.4) * size_px, other, picture)
    if uniform(0, 1) < 0.5:
        u, _ = _turned(x / size_px - 0.5, y / size_px - 0.5, uniform(0, 2 * math.pi))
        picture = picture * (uniform(0.4, 1) + uniform(0, 0.6) * u)
    return F.avg_pool2d(picture, oversampling).mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def _layer(x: Tensor, y: Tensor, uniform: Draw, generator: torch.Generator) -> Tensor:
    """Return a pattern in [0,1], (H,W)."""
    angle = uniform(0, 2 * math.pi) if uniform(0, 1) < 0.6 else 0.0
    u, v = _turned(x, y, angle)
    if uniform(0, 1) < 0.3:  # seen at a slant: periods shrink with the distance
        depth = 1 + uniform(0, 0.004) * (u - u.min())
        u, v = u / depth, v / depth
    shortest, longest = (math.log(period) for period in PERIOD_PX)
    u = u / math.exp(uniform(shortest, longest)) + uniform(0, 1)
    v = v / math.exp(uniform(shortest, longest)) + uniform(0, 1)
    kind = int(uniform(0, 6))
    if kind == 0:  # stripes with hard or soft edges
        return _waves(u) if uniform(0, 1) < 0.5 else _bars(u, uniform(0.2, 0.8))
    if kind == 1:  # a grid: windows, fences, fabrics
        return torch.maximum(_bars(u, uniform(0.1, 0.7)), _bars(v, uniform(0.1, 0.7)))
    if kind == 2:  # checks
        return (_bars(u, 0.5) - _bars(v, 0.5)).abs()
    if kind == 3:  # bricks: every other row moved by half a brick
        return torch.maximum(_bars(u + 0.5 * (v.floor() % 2), uniform(0.1, 0.4)), _bars(v, uniform(0.1, 0.4)))
    if kind == 4:  # dots, hard as in a halftone print or soft as on a screen
        dots = (_waves(u) + _waves(v)) / 2
        return dots if uniform(0, 1) < 0.5 else (dots > uniform(0.3, 0.7)).float()
    sides = int(uniform(2, 9)), int(uniform(2, 9))
    tile = torch.rand(sides, generator=generator)
    if uniform(0, 1) < 0.5:
        tile = tile.round()
    return tile[(v % 1 * sides[0]).long() % sides[0], (u % 1 * sides[1]).long() % sides[1]]


def _turned(x: Tensor, y: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _waves(phase: Tensor) -> Tensor:
    return 0.5 + 0.5 * torch.sin(2 * math.pi * phase)


def _bars(phase: Tensor, share: float) -> Tensor:
    return (phase % 1 < share).float()


def _coloured(pattern: Tensor, uniform: Draw, generator: torch.Generator) -> Tensor:
    """Return (3,H,W) between two colours: any, grey, or black and white."""
    colours = torch.rand(2, 3, 1, 1, generator=generator)
    choice = uniform(0, 1)
    if choice < 0.2:
        colours = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    elif choice < 0.5:
        colours = colours.mean(1, keepdim=True).expand(2, 3, 1, 1)
    first, second = colours
    return torch.lerp(first, second, pattern)
