"""restore.data.patterns: drawn pictures that repeat themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from restore.data import Photos, Request, TrainSamples, draw_pattern
from restore.degradations import Chain

Counting = Callable[..., tuple[Photos, list[int]]]
UNTOUCHED = [Chain(steps=())]


def pattern(seed: int, size_px: int = 96) -> Tensor:
    return draw_pattern(size_px, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size_px", [1, 7, 96])
def test_a_pattern_has_the_size_asked_for_and_depends_on_its_seed_alone(size_px: int) -> None:
    assert pattern(3, size_px).shape == (3, size_px, size_px)
    assert pattern(3, size_px).dtype == torch.uint8
    assert torch.equal(pattern(3, size_px), pattern(3, size_px))
    if size_px > 1:
        assert not torch.equal(pattern(3, size_px), pattern(4, size_px))


def test_patterns_differ_in_contrast_colour_and_period_and_repeat_themselves() -> None:
    patterns = [pattern(seed).float() for seed in range(60)]
    contrasts = torch.stack([picture.amax() - picture.amin() for picture in patterns])
    assert contrasts.min() < 60
    assert contrasts.max() == 255
    num_grey = sum(bool((picture.amax(0) == picture.amin(0)).all()) for picture in patterns)
    assert 20 < num_grey < 50
    assert sum(_repeats(picture.mean(0)) for picture in patterns) > 45
    along = [max(float((picture.diff(dim=dim) == 0).float().mean()) for dim in (1, 2)) for picture in patterns]
    assert 0 < sum(share > 0.93 for share in along) < 6  # stripes along a side, not of too long a period


def test_some_patterns_keep_their_stairs_and_more_have_soft_edges() -> None:
    patterns = [pattern(seed).flatten(1) for seed in range(60)]
    num_colours = [len(torch.unique(picture, dim=1).T) for picture in patterns]
    num_hard = sum(num <= 4 for num in num_colours)  # two colours, or twice two
    assert sum(2 < num <= 4 for num in num_colours) > 2
    assert 5 < num_hard < 15  # three in ten keep them, half of which lie in even light; without any soft edges 21


def test_light_beyond_white_is_white() -> None:
    brightest = [pattern(seed, 32) for seed in (5, 79, 80, 83, 107)]
    assert all((picture == 255).float().mean() > 0.05 for picture in brightest)


def _repeats(plane: Tensor) -> bool:
    """Tell whether a few frequencies hold most of the variance."""
    spectrum = torch.fft.rfft2(plane - plane.mean()).abs().square().flatten()
    return float(spectrum.topk(64).values.sum() / spectrum.sum()) > 0.5


def test_a_share_of_the_samples_are_patterns(counting: Counting) -> None:
    photos, reads = counting(3, 0)
    samples = TrainSamples(photos, UNTOUCHED, seed=0, patterns_share=0.25)
    drawn = sum(float(samples[Request(index, 16)].reference.std()) > 0 for index in range(400))  # the photos are flat
    assert 70 < drawn < 130
    assert len(reads) == pytest.approx(400 - drawn, abs=5)
    without = TrainSamples(photos, UNTOUCHED, seed=0)
    assert all(float(without[Request(index, 16)].reference.std()) == 0 for index in range(50))
