from __future__ import annotations

import math
import os
import unicodedata
from pathlib import PurePath

import numpy as np
import pytest
import torch

from restore.degradations import gaussian_noise, generator_for, poisson_noise


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_gaussian_noise_has_its_sigma_and_is_not_clipped() -> None:
    noisy = gaussian_noise(torch.zeros(3, 300, 300), 25 / 255, seeded())
    assert noisy.dtype == torch.float32
    assert noisy.std().item() == pytest.approx(25 / 255, rel=0.01)
    assert noisy.mean().item() == pytest.approx(0, abs=1e-3)
    assert noisy.min() < -0.2
    assert np.corrcoef(noisy.flatten(1).numpy())[0, 1] == pytest.approx(0, abs=0.02)  # channels are independent


def test_poisson_noise_has_its_variance_and_counts_whole_photons() -> None:
    peak = 40.0
    noisy = poisson_noise(torch.full((3, 300, 300), 0.5), peak, seeded())
    assert noisy.mean().item() == pytest.approx(0.5, rel=0.01)
    assert noisy.var().item() == pytest.approx(0.5 / peak, rel=0.02)
    photons = noisy * peak
    assert torch.allclose(photons, photons.round(), atol=1e-4)


def test_poisson_noise_is_dark_where_there_is_no_light() -> None:
    assert torch.equal(poisson_noise(torch.tensor([[[0.0, -0.5]]]), 10, seeded()), torch.zeros(1, 1, 2))


def test_generator_depends_on_seed_and_name_alone() -> None:
    def draw(seed: int, name: str) -> float:
        return float(torch.rand((), generator=generator_for(seed, PurePath(name))))

    assert draw(0, "a/x.png") == draw(0, "a/x.tif")
    assert len({draw(0, "a/x.png"), draw(1, "a/x.png"), draw(0, "x.png"), draw(0, "a/y.png"), draw(1, "1/x.png")}) == 5


def test_generator_takes_any_file_name() -> None:
    generator_for(0, PurePath(os.fsdecode(b"caf\xe9.png")))
    generator_for(0, PurePath("π 漢字.png"))
    composed, decomposed = unicodedata.normalize("NFC", "été"), unicodedata.normalize("NFD", "été")
    one, other = (generator_for(0, PurePath(name)) for name in (composed, decomposed))
    assert one.initial_seed() == other.initial_seed()


def test_the_input_and_the_global_random_state_are_left_alone() -> None:
    image = torch.rand(3, 16, 16, generator=seeded())
    before, state = image.clone(), torch.random.get_rng_state()
    gaussian_noise(image, 0.1, generator_for(0, PurePath("x")))
    poisson_noise(image, 10, seeded())
    assert torch.equal(image, before)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("sigma", [-0.1, math.nan, math.inf])
def test_bad_sigma(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma"):
        gaussian_noise(torch.zeros(3, 4, 4), sigma, seeded())


@pytest.mark.parametrize("peak", [0, -1.0, 1e-7, 1e10, math.nan, math.inf])
def test_bad_peak(peak: float) -> None:
    with pytest.raises(ValueError, match=r"a number of photons from 1e-06 to 1e\+09"):
        poisson_noise(torch.zeros(3, 4, 4), peak, seeded())


def test_what_a_sensor_cannot_count() -> None:
    with pytest.raises(ValueError, match="photon"):
        poisson_noise(torch.full((1, 2, 2), math.nan), 10, seeded())
    with pytest.raises(ValueError, match=r"values up to 3e\+38 times white have no photon count"):
        poisson_noise(torch.full((1, 2, 2), 3e38), 1, seeded())
