from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.degradations import Camera, demosaic, draw_camera, read_variance, to_linear, to_srgb
from restore.degradations.camera import _COLOURS, CAMERA_FROM_XYZ, _with_contrast, _without_contrast

NEUTRAL = Camera(colours=torch.eye(3), gains=(1.0, 1.0, 1.0), exposure=1.0, contrast=0.0, phase=(0, 0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(height: int = 64, width: int = 64, channels: int = 3) -> Tensor:
    """A picture without detail that a mosaic could miss, and without highlights."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([0.1 + 0.5 * x, 0.2 + 0.4 * y, 0.6 - 0.3 * x * y])[:channels]


def noise_of(camera: Camera, level: float, shot: float, read: float, side: int = 200) -> Tensor:
    image = torch.full((3, side, side), level)
    return camera.photograph(image, shot, read, seeded()) - camera.photograph(image)


@pytest.mark.parametrize("phase", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("seed", range(4))
def test_without_noise_a_smooth_picture_comes_back(seed: int, phase: tuple[int, int]) -> None:
    drawn = draw_camera(seeded(seed))
    camera = Camera(drawn.colours, drawn.gains, drawn.exposure, drawn.contrast, phase)
    error = (camera.photograph(smooth()) - smooth()).abs()
    assert error[:, 2:-2, 2:-2].max() < 2 / 255
    assert error.max() < 9 / 255  # a mirrored slope has a bend


def test_white_stays_white_and_black_black() -> None:
    for seed in range(8):
        camera = draw_camera(seeded(seed))
        assert torch.allclose(camera.photograph(torch.ones(3, 6, 6)), torch.ones(3, 6, 6), atol=1e-5)
        assert camera.photograph(torch.zeros(3, 6, 6)).abs().max() < 1e-6
        assert camera.expose(torch.ones(3, 2, 2)).min() == pytest.approx(1, abs=1e-5)  # every colour saturates


def test_highlights_saturate_from_nine_tenths_of_white_on() -> None:
    camera = Camera(torch.eye(3), (2.0, 1.0, 1.5), 1.0, 0.0, (0, 0))
    shares = [
        camera.expose(to_srgb(torch.full((3, 1, 1), light))).flatten() / light for light in (0.5, 0.89, 0.91, 0.95)
    ]
    assert torch.allclose(shares[0], shares[1], atol=1e-5)
    assert shares[1][0] < shares[2][0] < shares[3][0] < 1
    assert torch.allclose(shares[3], shares[0] + 0.25 * (1 - shares[0]), atol=1e-4)  # half way, squared


def test_white_has_less_noise_than_grey() -> None:
    camera = draw_camera(seeded())
    assert noise_of(camera, 1.0, 1e-3, 1e-5).std() < 0.2 * noise_of(camera, 0.6, 1e-3, 1e-5).std()


@pytest.mark.parametrize(
    ("light", "shot", "read"), [(0.05, 2e-3, 1e-4), (0.6, 2e-3, 1e-4), (0.2, 2e-3, 0), (0.2, 0, 1e-4)]
)
def test_the_variance_of_raw_values_follows_the_light(light: float, shot: float, read: float) -> None:
    image = to_srgb(torch.full((1, 300, 300), light))
    noisy = to_linear(NEUTRAL.photograph(image, shot, read, seeded()))  # a monochrome sensor shows its raw values
    assert noisy.var().item() == pytest.approx(shot * light + read, rel=0.03)
    assert noisy.mean().item() == pytest.approx(light, rel=0.01)


def test_the_noise_of_a_colour_camera_is_coarse_and_its_channels_depend_on_each_other() -> None:
    noise = noise_of(NEUTRAL, 0.5, 1e-3, 1e-6)
    across = [np.corrcoef(channel[:, 1:].flatten(), channel[:, :-1].flatten())[0, 1] for channel in noise.numpy()]
    assert min(across) > 0.2
    assert across[0] > across[1]  # red has half as many pixels as green
    between = np.corrcoef(noise.flatten(1).numpy())
    assert between[0, 2] > 0.2


def test_white_balance_makes_noise_of_its_own_colour() -> None:
    camera = Camera(torch.eye(3), (2.0, 1.0, 1.0), 1.0, 0.0, (0, 0))
    noise = noise_of(camera, 0.5, 1e-3, 1e-6)
    assert noise[0].std() > 1.1 * noise[2].std()  # √2 less what both read from green


def test_grey_pictures_meet_a_monochrome_sensor() -> None:
    noise = draw_camera(seeded()).photograph(torch.full((1, 200, 200), 0.5), 1e-3, 1e-6, seeded()) - 0.5
    assert noise.shape == (1, 200, 200)
    assert np.corrcoef(noise[0, :, 1:].flatten(), noise[0, :, :-1].flatten())[0, 1] == pytest.approx(0, abs=0.02)
    assert noise.std() > 0.01


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("phase", [(0, 0), (1, 1)])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 3), (65, 64)])
def test_any_size(height: int, width: int, phase: tuple[int, int], channels: int) -> None:
    image = torch.rand(channels, height, width, generator=seeded()) * 2 - 0.5
    before = image.clone()
    drawn = draw_camera(seeded())
    camera = Camera(drawn.colours, drawn.gains, drawn.exposure, drawn.contrast, phase)
    noisy = camera.photograph(image, 0.01, 1e-4, seeded())
    assert torch.equal(image, before)
    assert noisy.shape == image.shape
    assert noisy.dtype == torch.float32
    assert 0 <= noisy.min() <= noisy.max() <= 1
    assert not torch.equal(noisy, camera.photograph(image))


def test_one_pixel_keeps_its_colour() -> None:
    pixel = torch.tensor([0.2, 0.5, 0.7]).view(3, 1, 1)
    assert torch.allclose(draw_camera(seeded()).photograph(pixel), pixel, atol=1e-4)


def test_the_generator_decides_alone() -> None:
    state = torch.random.get_rng_state()
    camera, again = draw_camera(seeded(3)), draw_camera(seeded(3))
    assert torch.equal(camera.colours, again.colours)
    assert (camera.gains, camera.exposure, camera.contrast, camera.phase) == (
        again.gains,
        again.exposure,
        again.contrast,
        again.phase,
    )
    one, two, three = (camera.photograph(smooth(), 0.01, 1e-4, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_drawn_cameras_are_plausible_and_differ() -> None:
    generator = seeded()
    cameras = [draw_camera(generator) for _ in range(100)]
    for camera in cameras:
        assert torch.allclose(camera.colours.sum(1), torch.ones(3), atol=1e-5)
        assert 0.8 < camera.gains[0] < 3.6
        assert camera.gains[1] == 1
        assert 1 < camera.gains[2] < 4.2
        assert 1 <= camera.exposure <= 2
        assert torch.linalg.cond(camera.colours) < 12
    assert {camera.phase for camera in cameras} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert any(camera.gains[0] > camera.gains[2] for camera in cameras)
    assert any(camera.gains[0] < camera.gains[2] for camera in cameras)
    assert len(CAMERA_FROM_XYZ) == 4


def test_cameras_are_drawn_as_widely_as_is_said() -> None:
    generator = seeded()
    cameras = [draw_camera(generator) for _ in range(2000)]
    red, _, blue = torch.tensor([camera.gains for camera in cameras]).unbind(1)
    daylight, lamplight = (2.4, 1.5), (1.3, 2.8)  # red and blue
    assert red.mean().item() == pytest.approx((daylight[0] + lamplight[0]) / 2, rel=0.02)
    assert blue.mean().item() == pytest.approx((daylight[1] + lamplight[1]) / 2, rel=0.02)
    red, blue = red / (daylight[0] - lamplight[0]), blue / (lamplight[1] - daylight[1])
    beside = red + blue - (red + blue).mean()  # the line from daylight to lamplight
    assert beside.std().item() == pytest.approx(0.12 * (red.square() + blue.square()).mean().sqrt().item(), rel=0.06)
    darkened = torch.tensor([1 / camera.exposure for camera in cameras])
    assert darkened.mean().item() == pytest.approx(0.8, abs=0.01)
    assert darkened.std().item() == pytest.approx(0.1, rel=0.1)
    assert darkened.min() < 0.6
    contrasts = torch.tensor([camera.contrast for camera in cameras])
    assert contrasts.min() < 0.01
    assert contrasts.max() > 0.99
    colours = torch.stack([camera.colours.flatten() for camera in cameras], 1)
    shares = torch.linalg.lstsq(_COLOURS.flatten(1).T, colours).solution
    assert shares.argmax(0).bincount(minlength=5).min() > 300  # each of the four cameras, and none
    assert (shares.amax(0) > 0.8).float().mean() > 0.2  # often one prevails


def test_a_sensor_reads_nothing_below_black() -> None:
    red = noise_of(NEUTRAL, 0.0, 0.0, 1e-3)[0]
    assert (red[0::2, 0::2] == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert (red[0::2, 1::2] == 0).float().mean() < 0.4  # between two pixels of which one is often above


def test_what_the_white_balance_weakens_stays_bright_below_saturation() -> None:
    camera = Camera(torch.eye(3), (0.96, 1.0, 1.0), 1.0, 0.0, (0, 0))
    image = to_srgb(torch.full((3, 6, 6), 0.95))
    torch.testing.assert_close(camera.photograph(image), image, atol=1e-4, rtol=0)


def test_read_noise_of_the_paper() -> None:
    assert read_variance(0.01) == pytest.approx(math.exp(2.18 * math.log(0.01) + 1.2))


def test_demosaicing_gives_back_flat_colours_and_every_measured_value() -> None:
    red, green, blue = 0.2, 0.5, 0.9
    raw = torch.full((12, 10), green)
    raw[0::2, 0::2], raw[1::2, 1::2] = red, blue
    flat = torch.tensor([red, green, blue]).view(3, 1, 1).expand(3, 8, 6)
    assert torch.allclose(demosaic(raw), flat, atol=1e-6)
    raw = torch.rand(12, 10, generator=seeded())
    image, inner = demosaic(raw), raw[2:-2, 2:-2]
    assert torch.allclose(image[0, 0::2, 0::2], inner[0::2, 0::2], atol=1e-6)
    assert torch.allclose(image[1, 0::2, 1::2], inner[0::2, 1::2], atol=1e-6)
    assert torch.allclose(image[1, 1::2, 0::2], inner[1::2, 0::2], atol=1e-6)
    assert torch.allclose(image[2, 1::2, 1::2], inner[1::2, 1::2], atol=1e-6)


def test_demosaicing_by_hand() -> None:
    """Malvar, He, Cutler 2004, equations 2 to 5, at one pixel of each kind."""
    raw = torch.rand(12, 12, generator=seeded(), dtype=torch.float64).float()
    image = demosaic(raw)

    def at(y: int, x: int) -> float:
        return float(raw[y, x])

    def ring(y: int, x: int) -> float:
        return at(y - 2, x) + at(y + 2, x) + at(y, x - 2) + at(y, x + 2)

    green = (at(3, 4) + at(5, 4) + at(4, 3) + at(4, 5)) / 4 + (at(4, 4) - ring(4, 4) / 4) / 2  # at red
    assert image[1, 2, 2].item() == pytest.approx(green, abs=1e-6)
    corners = (at(4, 4) + at(4, 6) + at(6, 4) + at(6, 6)) / 4 + 0.75 * (at(5, 5) - ring(5, 5) / 4)  # red at blue
    assert image[0, 3, 3].item() == pytest.approx(corners, abs=1e-6)
    diagonals = at(3, 4) + at(3, 6) + at(5, 4) + at(5, 6)  # red at the green pixel beside it
    laplacian = at(4, 5) - (at(4, 3) + at(4, 7) + diagonals) / 5 + (at(2, 5) + at(6, 5)) / 10
    assert image[0, 2, 3].item() == pytest.approx((at(4, 4) + at(4, 6)) / 2 + 5 / 8 * laplacian, abs=1e-6)


@pytest.mark.parametrize("strength", [0.0, 0.01, 0.5, 1.0])
def test_the_tone_curve_is_inverted(strength: float) -> None:
    values = torch.linspace(0, 1, 101)
    curved = _with_contrast(values, strength)
    assert torch.allclose(_without_contrast(curved.clone(), strength), values, atol=2e-3)  # it is flat at the ends
    assert torch.allclose(_with_contrast(_without_contrast(values.clone(), strength), strength), values, atol=1e-5)
    if strength == 1:
        assert torch.allclose(curved, 3 * values**2 - 2 * values**3, atol=1e-6)


def test_srgb_and_linear_light() -> None:
    values = torch.linspace(-0.1, 1.2, 131)
    assert torch.allclose(to_srgb(to_linear(values)), values, atol=1e-5)
    assert to_linear(torch.tensor(0.5)).item() == pytest.approx(0.21404, abs=1e-4)


@pytest.mark.parametrize("level", [-1e-3, math.nan, math.inf])
def test_bad_noise(level: float) -> None:
    with pytest.raises(ValueError, match="variances from 0 upwards"):
        NEUTRAL.photograph(torch.zeros(3, 4, 4), level, 0, seeded())
    with pytest.raises(ValueError, match="variances from 0 upwards"):
        NEUTRAL.photograph(torch.zeros(3, 4, 4), 0, level, seeded())


def test_bad_pictures() -> None:
    with pytest.raises(ValueError, match="one or three channels, not 2"):
        NEUTRAL.photograph(torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match="no light"):
        NEUTRAL.photograph(torch.full((3, 4, 4), math.nan))
