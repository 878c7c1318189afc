"""restore.data: patches and their degradation depend on the generator alone, and are what they claim."""

from __future__ import annotations

import pytest
import torch

from restore.data import CleanPatches, degrade


def photos() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((50, 60), (20, 90), (5, 7))
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]


@pytest.mark.parametrize("size", [8, 32])
def test_patches_have_their_size_even_where_photographs_are_smaller(size: int) -> None:
    patches = CleanPatches(photos(), torch.Generator().manual_seed(0)).draw(20, size)
    assert patches.shape == (20, 3, size, size)
    assert patches.is_contiguous(memory_format=torch.channels_last)
    assert 0 <= patches.min() <= patches.max() <= 1


def test_the_same_generator_gives_the_same_samples() -> None:
    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        clean = CleanPatches(photos(), generator).draw(4, 16)
        return degrade(clean, generator, sigma_max=0.2, told_share=0.5, grey_share=0.5)[0]

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_noise_has_the_level_that_the_network_is_told() -> None:
    clean = torch.full((64, 3, 32, 32), 0.5)
    noisy, told, reference = degrade(
        clean, torch.Generator().manual_seed(0), sigma_max=0.2, told_share=1.0, grey_share=0.0
    )
    assert torch.equal(reference, clean)
    measured = (noisy - clean).flatten(1).std(1)
    assert torch.allclose(measured, told, rtol=0.08)
    assert told.max() < 0.2
    assert told.min() < 0.02


def test_grey_samples_have_three_equal_channels_and_untold_ones_say_so() -> None:
    clean = torch.rand(40, 3, 8, 8)
    noisy, told, reference = degrade(
        clean, torch.Generator().manual_seed(0), sigma_max=0.2, told_share=0.0, grey_share=0.5
    )
    grey = (reference[:, 0] == reference[:, 1]).flatten(1).all(1)
    assert 5 < grey.sum() < 35
    assert torch.equal(noisy[grey, 0], noisy[grey, 2])
    assert (told == -1).all()
