from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from restore.degradations import (
    Camera,
    CameraNoise,
    Chain,
    GaussianBlur,
    GaussianNoise,
    Jpeg,
    PoissonNoise,
    Webp,
    brighten_highlights,
    convolve,
    defocus_blur,
    draw,
    draw_layer,
    draw_motion,
    gaussian_blur,
    gaussian_noise,
    jpeg,
    kernel_of,
    motion_blur,
    poisson_noise,
    read_variance,
    to_linear,
    to_srgb,
    trajectory,
    webp,
)

EVERYTHING: list[dict[str, Any]] = [
    {"kind": "gaussian-blur", "sigma": [0.2, 1.5]},
    {"kind": "defocus-blur", "radius": [0.5, 3], "blades": 6},
    {"kind": "in-camera-sharpening"},
    {"kind": "motion-blur", "length": [2, 6], "layers": 0.5, "highlights": 0.5, "frame": 200, "display": 0.5},
    {"kind": "camera-noise", "shot": [1e-4, 1e-2]},
    {"kind": "poisson-noise", "peak": [50, 500]},
    {"kind": "gaussian-noise", "sigma": [0, 50]},
    {"kind": "jpeg", "quality": [30, 95]},
    {"kind": "webp", "quality": [30, 95]},
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chain(*steps: dict[str, Any], weight: float = 1.0) -> Chain:
    return Chain.model_validate({"steps": steps, "weight": weight})


def picture(*shape: int) -> torch.Tensor:
    return torch.rand(shape or (3, 24, 20), generator=seeded(9))


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 2, 3), (3, 65, 64), (1, 33, 20)])
def test_every_step_takes_every_size_and_only_the_generator_counts(shape: tuple[int, int, int]) -> None:
    image = picture(*shape)
    before, state = image.clone(), torch.random.get_rng_state()
    for steps in [*([step] for step in EVERYTHING), EVERYTHING]:
        one, again, other = (draw([chain(*steps)], image, seeded(seed)) for seed in (1, 1, 2))
        assert one.image.shape == one.reference.shape == image.shape
        assert one.image.dtype == one.reference.dtype == torch.float32
        assert torch.equal(one.image, again.image)
        assert torch.equal(one.reference, again.reference)
        assert one.sigma == again.sigma
        if image.numel() > 100:
            assert not torch.equal(one.image, other.image)
        assert torch.equal(chain(*steps).degrade(image, seeded(1)), one.image)
    assert torch.equal(image, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_fixed_settings_give_the_noise_of_the_functions_in_their_order() -> None:
    image, generator = picture(), seeded(5)
    expected = gaussian_blur(image, 0.8)
    expected = to_srgb(defocus_blur(to_linear(expected), 1.5))
    expected = gaussian_noise(poisson_noise(expected, 100, generator), 25 / 255, generator)
    expected = webp(jpeg(expected, 70), 60)
    steps = chain(
        {"kind": "gaussian-blur", "sigma": [0.8, 0.8]},
        {"kind": "defocus-blur", "radius": [1.5, 1.5]},
        {"kind": "poisson-noise", "peak": [100, 100]},
        {"kind": "gaussian-noise", "sigma": [25, 25]},
        {"kind": "jpeg", "quality": [70, 70]},
        {"kind": "webp", "quality": [60, 60]},
    )
    assert torch.equal(draw([steps], image, seeded(5)).image, expected)


def test_what_a_camera_sharpened_has_halos_and_is_what_it_should_be() -> None:
    edge = torch.full((1, 9, 40), 0.3)
    edge[..., 20:] = 0.7
    step = chain({"kind": "in-camera-sharpening", "sigma": [0.5, 1], "radius": [1, 2], "amount": [1, 2]})
    camera = step.degrade_pair(edge, seeded(1))
    assert torch.equal(camera.image, camera.reference)
    assert camera.image.min() < 0.28
    assert camera.image.max() > 0.72
    torch.testing.assert_close(camera.image[..., [0, -1]], edge[..., [0, -1]])  # halos only
    blurred, sharp = picture(), picture().flip(-1)
    video = step.degrade_pair(blurred, seeded(1), sharp)  # a camera has sharpened it already
    assert torch.equal(video.image, blurred)
    assert torch.equal(video.reference, sharp)
    extremes = step.degrade((edge > 0.5).float(), seeded(1))
    assert 0 <= extremes.min() < extremes.max() <= 1
    as_it_was = chain({"kind": "in-camera-sharpening", "sigma": [0, 0], "amount": [0, 0]})
    torch.testing.assert_close(as_it_was.degrade(edge, seeded()), edge)


@pytest.mark.parametrize("blades", [2, [0, 5], [7, 5], [3, 21]])
def test_apertures_have_three_sides_or_none(blades: Any) -> None:
    with pytest.raises(ValidationError):
        chain({"kind": "defocus-blur", "radius": [1, 1], "blades": blades})


def test_the_sides_of_an_aperture_are_drawn() -> None:
    image, step = picture(3, 40, 40), chain({"kind": "defocus-blur", "radius": [4, 4], "blades": [5, 6]})
    drawn = set()
    for seed in range(6):
        generator = seeded(seed)
        blades = int(torch.randint(5, 7, (), generator=generator))
        rotation = 2 * math.pi * float(torch.rand((), generator=generator))
        expected = to_srgb(defocus_blur(to_linear(image), 4, blades, rotation))
        assert torch.equal(step.degrade(image, seeded(seed)), expected)
        drawn.add(blades)
    assert drawn == {5, 6}


def test_sigma_is_known_where_gaussian_noise_is_all_there_is() -> None:
    noise = {"kind": "gaussian-noise", "sigma": [10, 30]}
    degraded = draw([chain(noise)], torch.full((3, 100, 100), 0.02), seeded())
    assert degraded.sigma is not None
    assert 10 / 255 <= degraded.sigma <= 30 / 255
    assert (degraded.image - 0.02).std().item() == pytest.approx(degraded.sigma, rel=0.02)
    assert degraded.image.min() < 0  # neither clipped
    assert len(set(degraded.image.flatten().tolist())) > 10000  # nor quantised
    assert torch.equal(degraded.reference, torch.full((3, 100, 100), 0.02))
    for others in ([noise, noise], [noise, {"kind": "jpeg", "quality": [50, 50]}], [EVERYTHING[4]], []):
        assert draw([chain(*others)], picture(), seeded()).sigma is None
    absent = {"kind": "jpeg", "quality": [50, 50], "probability": 0}
    assert draw([chain(noise, absent)], picture(), seeded()).sigma is not None


def test_ranges_are_covered_and_kept() -> None:
    generator = seeded()
    steps = chain({"kind": "gaussian-noise", "sigma": [5, 50]})
    drawn = [draw([steps], torch.zeros(1, 1, 1), generator).sigma for _ in range(400)]
    sigmas = torch.tensor([sigma for sigma in drawn if sigma is not None]) * 255
    assert len(sigmas) == 400
    assert 5 <= sigmas.min() < 6
    assert 49 < sigmas.max() <= 50
    assert sigmas.mean().item() == pytest.approx(27.5, abs=2)  # uniform

    peaks = chain({"kind": "poisson-noise", "peak": [1, 10000]})
    levels = torch.stack([peaks.degrade(torch.full((1, 20, 20), 0.5), generator).var() for _ in range(200)])
    assert (0.5 / levels).log().mean().exp().item() == pytest.approx(100, rel=0.6)  # log-uniform


def test_steps_and_chains_are_drawn_by_their_probability() -> None:
    generator = seeded()
    noise = {"kind": "gaussian-noise", "sigma": [25, 25], "probability": 0.25}
    num = sum(draw([chain(noise)], torch.zeros(1, 1, 1), generator).sigma is not None for _ in range(400))
    assert 70 < num < 130
    chains = [chain(weight=1), chain(noise | {"probability": 1}, weight=3)]
    num = sum(draw(chains, torch.zeros(1, 1, 1), generator).sigma is not None for _ in range(400))
    assert 270 < num < 330
    with pytest.raises(ValueError, match="no chain"):
        draw([], torch.zeros(1, 1, 1), generator)


def test_no_steps_leave_the_picture_clean() -> None:
    degraded = draw([chain()], picture(), seeded())
    assert torch.equal(degraded.image, picture())
    assert torch.equal(degraded.reference, picture())


def test_the_reference_of_camera_noise_is_the_camera_without_noise() -> None:
    image = gaussian_blur(picture(3, 64, 64), 2) * 0.8  # no highlights, no fine detail
    quiet, loud = (chain({"kind": "camera-noise", "shot": [shot, shot]}) for shot in (1e-9, 1e-2))
    still, noisy = draw([quiet], image, seeded()), draw([loud], image, seeded())
    assert (still.image - still.reference).abs().max() <= 0.51 / 255 + 1e-3
    assert torch.equal(still.reference, noisy.reference)  # the same camera
    assert (noisy.image - noisy.reference).std() > 0.02
    assert (still.reference - image).abs().mean() < 2 / 255
    assert torch.equal((noisy.image * 255).round() / 255, noisy.image)
    floats = chain({"kind": "camera-noise", "shot": [1e-2, 1e-2], "eight_bits": False})
    assert len(set(draw([floats], image, seeded()).image.flatten().tolist())) > 1000


def test_shot_noise_is_drawn_by_its_logarithm_and_read_noise_around_what_goes_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []

    def photograph(_: Camera, image: torch.Tensor, shot: float, read: float, __: torch.Generator) -> torch.Tensor:
        drawn.append((shot, read / read_variance(shot)))
        return image.clone()

    monkeypatch.setattr(Camera, "photograph", photograph)
    generator, steps = seeded(), chain({"kind": "camera-noise", "shot": [1e-4, 1e-2]})
    for _ in range(1000):
        steps.degrade(picture(3, 1, 1), generator)
    shot, beside = torch.tensor(drawn).log10().unbind(1)
    assert shot.mean().item() == pytest.approx(-3, abs=0.1)
    assert -4 <= shot.min() < -3.95
    assert -2.05 < shot.max() <= -2
    assert beside.mean().item() == pytest.approx(0, abs=0.02)
    assert beside.std().item() == pytest.approx(0.26 / math.log(10), rel=0.1)  # of Brooks et al. 2019, equation 2


def test_the_reference_of_a_blurred_photograph_is_sharp() -> None:
    image = picture(3, 32, 32) * 0.8
    camera = {"kind": "camera-noise", "shot": [1e-4, 1e-4]}
    blurred = draw([chain({"kind": "gaussian-blur", "sigma": [2, 2]}, camera)], image, seeded())
    assert torch.equal(blurred.reference, draw([chain(camera)], image, seeded()).reference)
    assert blurred.reference.std() > 2 * blurred.image.std()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"kind": "gaussian-noise", "sigma": [30, 10]}, "from low to high, not [30.0, 10.0]"),
        ({"kind": "jpeg", "quality": [90, 40]}, "from low to high, not [90, 40]"),
        ({"kind": "jpeg", "quality": [0, 40]}, "greater than or equal to 1"),
        ({"kind": "webp", "quality": [40, 101]}, "less than or equal to 100"),
        ({"kind": "camera-noise", "shot": [0, 1]}, "greater than 0"),
        ({"kind": "gaussian-noise", "sigma": [-1, 1]}, "greater than or equal to 0"),
        ({"kind": "gaussian-noise", "sigma": [0, math.inf]}, "finite"),
        ({"kind": "gaussian-noise", "sigma": [0, 1], "probability": 1.5}, "less than or equal to 1"),
        ({"kind": "gaussian-noise", "sigma": [0, 1], "sigmas": 3}, "unknown setting"),
        ({"kind": "gaussian-noise"}, "Field required"),
        ({"kind": "gausian-noise", "sigma": [0, 1]}, "'gaussian-noise'"),
        ({"sigma": [0, 1]}, "kind"),
        ({"kind": "motion-blur", "length": [-1, 3]}, "greater than or equal to 0"),
        ({"kind": "motion-blur", "length": [0, 3], "layers": 2}, "less than or equal to 1"),
        ({"kind": "motion-blur", "length": [0, 3], "layer": 1}, "did you mean layers"),
        ({"kind": "motion-blur", "length": [0, 3], "display": 2}, "less than or equal to 1"),
        ({"kind": "motion-blur", "length": [0, 3], "anxiety": [0, 0.1]}, "greater than 0"),
        ({"kind": "motion-blur", "length": [0, 3], "reference": "end"}, "'mean' or 'middle'"),
        ({"kind": "motion-blur", "length": [0, 3], "frames": [7, 10]}, "is odd"),
    ],
)
def test_refusals(step: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        chain(step)
    assert message in str(caught.value)


def test_bad_weights_and_keys() -> None:
    for weight in (0, -1, math.inf):
        with pytest.raises(ValidationError):
            chain(weight=weight)
    with pytest.raises(ValidationError, match="unknown setting"):
        Chain.model_validate({"steps": [], "name": "x"})


def test_chains_are_frozen_and_survive_being_written_down() -> None:
    steps = chain(*EVERYTHING, weight=2)
    assert Chain.model_validate_json(steps.model_dump_json()) == steps
    with pytest.raises(ValidationError, match="frozen"):
        setattr(steps, "weight", 3.0)  # noqa: B010  the type checker knows it too
    built = Chain(
        steps=(
            GaussianBlur(sigma=(0, 1)),
            CameraNoise(),
            PoissonNoise(peak=(1, 2)),
            GaussianNoise(sigma=(0, 1)),
            Jpeg(quality=(1, 2)),
            Webp(quality=(1, 2)),
        )
    )
    assert [step.kind for step in built.steps] == [
        "gaussian-blur",
        "camera-noise",
        "poisson-noise",
        "gaussian-noise",
        "jpeg",
        "webp",
    ]


def motion(low: float, high: float, **settings: Any) -> Chain:
    return chain({"kind": "motion-blur", "length": [low, high], **settings})


@pytest.mark.parametrize("settings", [{}, {"rotation": 0, "zoom": 0}, {"frame": 500}, {"highlights": 1}])
def test_motion_blur_of_no_length_is_the_identity(settings: dict[str, Any]) -> None:
    assert torch.equal(motion(0, 0, **settings).degrade(picture(), seeded()), picture())
    with_layers = motion(0, 0, layers=1, **settings).degrade(picture(), seeded())
    assert (with_layers - picture()).abs().max() < 0.03  # highlights alone differ, by what they were above 0.98


def stripes() -> torch.Tensor:
    """Three quarters white, one quarter black."""
    image = torch.zeros(3, 32, 32)
    image[:, ::2] = image[:, :, ::2] = 1
    return image


@pytest.mark.parametrize("settings", [{}, {"rotation": 0, "zoom": 0}])
@pytest.mark.parametrize(("display", "expected"), [(0, 0.8808), (1, 0.75)])  # to_srgb(0.75), and the plain mean
def test_motion_blur_adds_up_in_linear_light_or_as_values_stand(
    settings: dict[str, Any], display: float, expected: float
) -> None:
    steps = motion(30, 30, display=display, **settings)
    means = [steps.degrade(stripes(), seeded(seed))[:, 8:-8, 8:-8].mean() for seed in range(5)]
    assert sum(map(float, means)) / 5 == pytest.approx(expected, abs=0.02)


def test_values_are_averaged_as_they_stand_by_their_probability() -> None:
    steps = motion(30, 30, rotation=0, zoom=0, display=0.3)
    means = [float(steps.degrade(stripes(), seeded(seed))[:, 8:-8, 8:-8].mean()) for seed in range(100)]
    assert 15 < sum(mean < 0.815 for mean in means) < 45


@pytest.mark.parametrize("display", [0.0, 1.0])
@pytest.mark.parametrize("highlights", [0.0, 1.0])
def test_motion_blur_is_that_of_the_functions(display: float, highlights: float) -> None:
    def light_and_generator() -> tuple[torch.Tensor, torch.Generator]:
        """The picture to average, and the generator after the draws that come before the path."""
        generator = seeded(4)
        gain = 1.0
        if highlights:
            torch.rand((), generator=generator)
            gain = 6 ** float(torch.rand((), generator=generator))
        if display:
            torch.rand((), generator=generator)
            return picture(), generator
        return brighten_highlights(to_linear(picture()), gain), generator

    def as_shown(light: torch.Tensor) -> torch.Tensor:
        light = light.clamp(0, 1)
        return light if display else to_srgb(light)

    settings = {"display": display, "highlights": highlights}
    light, generator = light_and_generator()
    expected = as_shown(convolve(light, kernel_of(trajectory(generator, 7))))
    still = motion(7, 7, rotation=0, zoom=0, **settings)
    torch.testing.assert_close(still.degrade(picture(), seeded(4)), expected, atol=1e-6, rtol=1e-6)
    light, generator = light_and_generator()
    turning = draw_motion(generator, 7, (24, 20), rotation=0.3, zoom=0.1)
    expected = as_shown(motion_blur(light, turning))
    torch.testing.assert_close(motion(7, 7, **settings).degrade(picture(), seeded(4)), expected, atol=1e-6, rtol=1e-6)


def test_something_in_front_moves_over_a_length_of_its_own() -> None:
    def drawn_length(generator: torch.Generator) -> float:
        return 2 + 28 * float(torch.rand((), generator=generator))

    generator = seeded(2)
    length = drawn_length(generator)
    torch.rand((), generator=generator)  # whether there is anything in front
    camera = draw_motion(generator, length, (24, 20))
    other = draw_motion(generator, drawn_length(generator), (24, 20))
    layer = draw_layer(generator, (24, 20), other)
    expected = to_srgb(motion_blur(to_linear(picture()), camera, layer).clamp(0, 1))
    assert torch.allclose(motion(2, 30, layers=1).degrade(picture(), seeded(2)), expected, atol=1e-6)


@pytest.mark.parametrize(("layers", "least", "most"), [(0.0, 0, 0), (0.3, 5, 25), (1.0, 36, 40)])
def test_something_in_front_moves_by_itself_with_its_probability(layers: float, least: int, most: int) -> None:
    stripes = (torch.arange(96) // 4 % 2).float().expand(1, 96, 96).contiguous()
    steps = motion(2, 30, rotation=0, zoom=0, display=1, layers=layers)
    num_uneven = 0
    for seed in range(40):
        inner = steps.degrade(stripes, seeded(seed))[0, 16:-16, 16:-16]
        contrasts = inner.unfold(0, 16, 16).unfold(1, 16, 16).std((2, 3))
        num_uneven += bool(contrasts.max() - contrasts.min() > 0.02)
    assert least <= num_uneven <= most


@pytest.mark.parametrize("turning", [0.0, 0.3])
def test_motion_blur_is_as_tangled_as_it_is_told_and_refers_to_the_moment_it_is_told(turning: float) -> None:
    def blurred(**settings: Any) -> torch.Tensor:
        steps = motion(9, 9, rotation=turning, zoom=0, display=1, **settings)
        return steps.degrade(picture(3, 32, 32), seeded(3)).flatten()

    straight, tangled = ({"anxiety": [anxiety] * 2} for anxiety in (1e-6, 0.1))
    assert not torch.allclose(blurred(**straight), blurred(**tangled), atol=0.02)
    torch.testing.assert_close(blurred(**straight), blurred(**straight, reference="middle"), atol=1e-4, rtol=0)
    assert not torch.allclose(blurred(**tangled), blurred(**tangled, reference="middle"), atol=0.02)
    torch.testing.assert_close(blurred(), blurred(anxiety=[0.003, 0.3], reference="mean"), atol=0, rtol=0)


def test_motion_blur_of_video_has_an_odd_number_of_frames() -> None:
    spot = torch.zeros(1, 81, 81)
    spot[:, 40, 40] = 1
    straight = {"rotation": 0, "zoom": 0, "display": 1, "anxiety": [1e-6, 1e-6]}
    steps = motion(60, 60, frames=[3, 7], reference="middle", **straight)
    peaks = [float(steps.degrade(spot, seeded(seed)).max()) for seed in range(40)]  # the middle frame's pixel
    assert {round(1 / peak) for peak in peaks} == {3, 5, 7}


def test_highlights_are_no_brighter_than_white_where_values_are_averaged_as_they_stand() -> None:
    lamp = torch.zeros(1, 33, 33)
    lamp[:, 14:19, 14:19] = 1
    for seed in range(5):
        blurred = motion(9, 9, highlights=1, display=1, rotation=0, zoom=0).degrade(lamp, seeded(seed))
        assert blurred.sum().item() == pytest.approx(25, rel=0.01)  # as many values as before, elsewhere


@pytest.mark.parametrize(
    ("step", "reach_px"),
    [
        ({"kind": "gaussian-blur", "sigma": [0.2, 1.5]}, 4.5),
        ({"kind": "defocus-blur", "radius": [0.5, 3]}, 3),
        ({"kind": "in-camera-sharpening", "sigma": [0.5, 1], "radius": [1, 2]}, 9),
        ({"kind": "motion-blur", "length": [2, 25], "reference": "mean"}, 12.5),
        ({"kind": "motion-blur", "length": [2, 20], "reference": "middle"}, 13),
        *((step, 0) for step in EVERYTHING[4:]),
    ],
)
def test_a_step_knows_how_far_it_reaches(step: dict[str, Any], reach_px: float) -> None:
    assert chain(step).reach_px == reach_px


def test_the_reach_of_a_chain_is_that_of_all_its_steps() -> None:
    assert chain().reach_px == 0
    assert chain(*EVERYTHING).reach_px == 4.5 + 3 + 3 * (1.2 + 2) + 3


def test_motion_blur_is_clipped_and_highlights_leave_streaks() -> None:
    lamp = torch.zeros(1, 33, 33)
    lamp[:, 14:19, 14:19] = 1
    plain, bright = (motion(25, 25, highlights=share, zoom=0).degrade(lamp, seeded(5)) for share in (0.0, 1.0))
    assert plain.max() <= 1
    assert bright.max() <= 1
    assert bright.min() >= 0
    brighter = [
        motion(25, 25, highlights=1).degrade(lamp, seeded(seed)).mean()
        / motion(25, 25, highlights=1e-9).degrade(lamp, seeded(seed)).mean()
        for seed in range(10)
    ]
    assert sum(ratio > 1.1 for ratio in brighter) > 5


def test_sharp_pictures_come_from_the_probability() -> None:
    steps = motion(5, 9, probability=0.6)
    degraded = [steps.degrade(picture(3, 16, 16), seeded(seed)) for seed in range(60)]
    num_sharp = sum(torch.equal(image, picture(3, 16, 16)) for image in degraded)
    assert 12 < num_sharp < 36


def test_what_comes_blurred_is_not_blurred_again() -> None:
    blurred, sharp = picture(), 1 - picture()
    made = draw([chain(*EVERYTHING[:3], {"kind": "gaussian-noise", "sigma": [10, 10]})], blurred, seeded(), sharp)
    assert torch.equal(made.reference, sharp)
    assert made.sigma == pytest.approx(10 / 255)
    assert (made.image - blurred).std().item() == pytest.approx(10 / 255, rel=0.1)
    camera = draw([chain({"kind": "camera-noise", "shot": [1e-9, 1e-9]})], picture(), seeded(), picture() * 0)
    assert camera.reference.max() < 0.01
    assert camera.image.mean() > 0.3
