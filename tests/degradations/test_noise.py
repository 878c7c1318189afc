from __future__ import annotations

import math
import os
from pathlib import PurePath

import numpy as np
import pytest
import torch

from restore.degradations import degrade, gaussian_noise, generator_for, jpeg, poisson_noise


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


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (17, 40)])
def test_jpeg_keeps_shape_and_range(channels: int, height: int, width: int) -> None:
    image = torch.rand(channels, height, width, generator=seeded()) * 2 - 0.5
    out = jpeg(image, 80)
    assert out.shape == image.shape
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal((out * 255).round() / 255, out)


def test_jpeg_gets_worse_with_lower_quality_and_keeps_the_channels_apart() -> None:
    ramp = torch.linspace(0, 1, 64)
    image = torch.stack([ramp.expand(64, 64), ramp.expand(64, 64).T, torch.full((64, 64), 0.5)])
    errors = [(jpeg(image, quality) - image).abs().mean().item() for quality in (95, 50, 5)]
    assert errors == sorted(errors)
    assert errors[0] < 0.01
    assert errors[2] > 0.02


def test_degrade_is_ordered_as_in_a_camera() -> None:
    image = torch.rand(3, 24, 24, generator=seeded())
    generator = seeded(5)
    step_by_step = jpeg(gaussian_noise(poisson_noise(image, 100, generator), 0.1, generator), 70)
    assert torch.equal(degrade(image, seeded(5), peak=100, sigma=0.1, quality=70), step_by_step)


def test_degrade_leaves_out_what_is_not_asked_for() -> None:
    image = torch.rand(3, 8, 8, generator=seeded())
    assert torch.equal(degrade(image, seeded()), image)
    assert torch.equal(degrade(image, seeded(), sigma=0.1), gaussian_noise(image, 0.1, seeded()))


def test_the_input_is_left_as_it_was() -> None:
    image = torch.rand(3, 16, 16, generator=seeded())
    before = image.clone()
    degrade(image, seeded(), peak=10, sigma=0.1, quality=50)
    jpeg(image, 50)
    assert torch.equal(image, before)


def test_generator_depends_on_seed_and_name_alone() -> None:
    def draw(seed: int, name: str) -> float:
        return float(torch.rand((), generator=generator_for(seed, PurePath(name))))

    assert draw(0, "a/x.png") == draw(0, "a/x.tif")
    assert len({draw(0, "a/x.png"), draw(1, "a/x.png"), draw(0, "x.png"), draw(0, "a/y.png"), draw(1, "1/x.png")}) == 5


def test_generator_takes_any_file_name() -> None:
    generator_for(0, PurePath(os.fsdecode(b"caf\xe9.png")))
    generator_for(0, PurePath("π 漢字.png"))


def test_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    degrade(torch.rand(3, 16, 16, generator=seeded()), generator_for(0, PurePath("x")), peak=10, sigma=0.1, quality=50)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("sigma", [-0.1, math.nan, math.inf])
def test_bad_sigma(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma"):
        degrade(torch.zeros(3, 4, 4), seeded(), sigma=sigma)


@pytest.mark.parametrize("peak", [0, -1.0, math.nan, math.inf])
def test_bad_peak(peak: float) -> None:
    with pytest.raises(ValueError, match="positive number of photons"):
        degrade(torch.zeros(3, 4, 4), seeded(), peak=peak)


@pytest.mark.parametrize("quality", [0, 101])
def test_bad_quality(quality: int) -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        degrade(torch.zeros(3, 4, 4), seeded(), quality=quality)


def test_what_a_format_or_a_sensor_cannot_hold() -> None:
    with pytest.raises(ValueError, match="65,500"):
        jpeg(torch.zeros(1, 1, 65501), 90)
    with pytest.raises(ValueError, match="photon"):
        poisson_noise(torch.full((1, 2, 2), math.nan), 10, seeded())
