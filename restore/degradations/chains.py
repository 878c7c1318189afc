"""Degradations in sequence, with ranges to draw from, as recipes and the command line write them.

Every draw comes from one generator; a range of equal ends draws nothing, so that fixed settings give the very noise of
the functions themselves.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias, TypeVar

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor

from restore.degradations.blur import convolve, defocus_blur, gaussian_blur, in_camera_sharpening
from restore.degradations.camera import draw_camera, read_variance, to_linear, to_srgb
from restore.degradations.compression import jpeg, webp
from restore.degradations.motion import (
    ANXIETY,
    Exposure,
    Motion,
    Reference,
    brighten_highlights,
    draw_layer,
    draw_motion,
    kernel_of,
    motion_blur,
    trajectory,
)
from restore.degradations.noise import MAX_PHOTONS, MIN_PHOTONS, gaussian_noise, poisson_noise
from restore.settings import Settings

Number = TypeVar("Number", int, float)


def _ordered(limits: tuple[Number, Number]) -> tuple[Number, Number]:
    low, high = limits
    if low > high:
        raise ValueError(f"a range goes from low to high, not [{low}, {high}]: swap the two")
    return limits


def _with_odd_ends(limits: tuple[int, int]) -> tuple[int, int]:
    if limits[0] % 2 == 0 or limits[1] % 2 == 0:
        raise ValueError(f"a number of frames is odd, one is the middle one: not from {limits[0]} to {limits[1]}")
    return limits


def _as_range(value: object) -> object:
    return (value, value) if isinstance(value, int) else value


def _of_sides(limits: tuple[int, int]) -> tuple[int, int]:
    if limits != (0, 0) and limits[0] < 3:
        raise ValueError(f"an aperture has 3 sides or more, or 0 when it is round: not from {limits[0]} to {limits[1]}")
    return limits


Probability = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Anxiety = Annotated[float, Field(gt=0, le=1)]
Photons = Annotated[float, Field(ge=MIN_PHOTONS, le=MAX_PHOTONS)]
NumFrames = Annotated[int, Field(ge=1, le=99)]
NumSides = Annotated[int, Field(ge=0, le=20)]
Quality = Annotated[int, Field(ge=1, le=100)]

Range = Annotated[tuple[NotNegative, NotNegative], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
AnxietyRange = Annotated[tuple[Anxiety, Anxiety], AfterValidator(_ordered)]
PhotonRange = Annotated[tuple[Photons, Photons], AfterValidator(_ordered)]
OddRange = Annotated[tuple[NumFrames, NumFrames], AfterValidator(_ordered), AfterValidator(_with_odd_ends)]
SidesRange = Annotated[
    tuple[NumSides, NumSides], BeforeValidator(_as_range), AfterValidator(_ordered), AfterValidator(_of_sides)
]
QualityRange = Annotated[tuple[Quality, Quality], AfterValidator(_ordered)]


@dataclass(frozen=True, eq=False)
class Degraded:
    """A degraded picture and what is known of it.

    Args:
        image: (C,H,W) float32, nominal range [0,1]; Gaussian and Poisson noise leave it unclipped.
        reference: (C,H,W) float32, what a network should make of it; the clean picture, or what a camera without noise
            makes of the clean picture.
        sigma: standard deviation in [0,1] where Gaussian noise is all that was drawn, else None.
    """

    image: Tensor
    reference: Tensor
    sigma: float | None


class _Step(Settings, ABC):
    """One degradation with ranges.

    Args:
        probability: of being drawn at all.

    Attributes:
        blurs: whether it is left out where a picture comes blurred already.
        clips: whether what comes out lies in [0,1], whatever went in.
    """

    blurs: ClassVar[bool] = False
    clips: ClassVar[bool] = False

    probability: Probability = 1.0

    @property
    def reach_px(self) -> float:
        """How far away a pixel can lie that still counts: this much beside a patch should be known."""
        return 0.0

    @abstractmethod
    def apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the degraded (C,H,W)."""

    def apply_to_both(
        self, image: Tensor, reference: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, float | None]:
        """Return the degraded image, its reference, and sigma if this is Gaussian noise."""
        return self.apply(image, generator), reference, None


class GaussianNoise(_Step):
    """White Gaussian noise, neither clipped nor quantised.

    Args:
        sigma: range of the standard deviation on 0–255, drawn uniformly.
    """

    kind: Literal["gaussian-noise"] = "gaussian-noise"
    sigma: Range

    def apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the noisy (C,H,W), unclipped."""
        return gaussian_noise(image, _uniform(self.sigma, generator) / 255, generator)

    def apply_to_both(
        self, image: Tensor, reference: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, float | None]:
        """Return the noisy image, its reference and the standard deviation in [0,1]."""
        sigma = _uniform(self.sigma, generator) / 255
        return gaussian_noise(image, sigma, generator), reference, sigma


class PoissonNoise(_Step):
    """Shot noise of the values as they are, neither clipped nor quantised.

    Args:
        peak: range of the mean number of photons at white, drawn log-uniformly.
    """

    kind: Literal["poisson-noise"] = "poisson-noise"
    peak: PhotonRange

    def apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the noisy (C,H,W), unclipped."""
        return poisson_noise(image, _log_uniform(self.peak, generator), generator)


class CameraNoise(_Step):
    """Noise of a real camera: added to the raw values of its sensor, then developed; see `Camera`.

    Args:
        shot: range of the variance of the shot noise at white, on raw values in [0,1], drawn log-uniformly: 2e-4 is a
            phone at ISO 100, 0.013 at ISO 6400.
        read_spread: standard deviation of the logarithm of the read noise around the one that goes with the shot noise
            (0.26 in the paper).
        eight_bits: round to 8 bits, as files are.
    """

    clips: ClassVar[bool] = True

    kind: Literal["camera-noise"] = "camera-noise"
    shot: PositiveRange = (1e-4, 0.02)
    read_spread: Annotated[float, Field(ge=0, le=2)] = 0.26
    eight_bits: bool = True

    def apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the noisy (C,H,W) in [0,1]."""
        return self._photograph(image, None, generator)[0]

    def apply_to_both(
        self, image: Tensor, reference: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, float | None]:
        """Return the noisy image and the reference as the same camera without noise shows it."""
        noisy, developed = self._photograph(image, reference, generator)
        assert developed is not None
        return noisy, developed, None

    def _photograph(
        self, image: Tensor, reference: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        camera = draw_camera(generator)
        shot = _log_uniform(self.shot, generator)
        read = read_variance(shot) * math.exp(self.read_spread * float(torch.randn((), generator=generator)))
        noisy = camera.photograph(image, shot, read, generator)
        noisy = noisy.mul_(255).round_().div_(255) if self.eight_bits else noisy
        return noisy, None if reference is None else camera.photograph(reference)


class Jpeg(_Step):
    """A JPEG file.

    Args:
        quality: range from 1 to 100, drawn uniformly.
    """

    clips: ClassVar[bool] = True

    kind: Literal["jpeg"] = "jpeg"
    quality: QualityRange

    def apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the decoded (C,H,W) in [0,1]."""
        return jpeg(image, _integer(self.quality, generator))


class Webp(_Step):
    """A lossy WebP file.

    Args:
        quality: range from 1 to 100, drawn uniformly.
    """

    clips: ClassVar[bool] = True

    kind: Literal["webp"] = "webp"
    quality: QualityRange

    def apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the decoded (C,H,W) in [0,1]."""
        return webp(image, _integer(self.quality, generator))


class GaussianBlur(_Step):
    """A Gaussian blur of the values as they are, as the literature defines it.

    Args:
        sigma: range of the standard deviation in pixels, drawn uniformly.
    """

    blurs: ClassVar[bool] = True

    kind: Literal["gaussian-blur"] = "gaussian-blur"
    sigma: Range

    @property
    def reach_px(self) -> float:
        """Three standard deviations."""
        return 3 * self.sigma[1]

    def apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the blurred (C,H,W)."""
        return gaussian_blur(image, _uniform(self.sigma, generator))


class InCameraSharpening(_Step):
    """A picture as video cameras and phones deliver it: soft, then sharpened until edges have halos; its reference too.

    It is no blur to be undone. Without it a network takes the softness of sharp frames for blur, and sharpens them once
    more.

    Args:
        sigma: range of the softness, the standard deviation of a Gaussian in pixels, drawn uniformly.
        radius: range of the width of the halos, likewise.
        amount: range of what is added of the difference from the picture blurred by the radius, drawn uniformly.
    """

    blurs: ClassVar[bool] = True
    clips: ClassVar[bool] = True

    kind: Literal["in-camera-sharpening"] = "in-camera-sharpening"
    sigma: Range = (0.4, 1.2)
    radius: PositiveRange = (1.0, 2.0)
    amount: Range = (0.5, 2.0)

    @property
    def reach_px(self) -> float:
        """Three standard deviations of both."""
        return 3 * (self.sigma[1] + self.radius[1])

    def apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the sharpened (C,H,W) in [0,1]."""
        return in_camera_sharpening(image, *self._drawn(generator))

    def apply_to_both(
        self, image: Tensor, reference: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, float | None]:
        """Return image and reference, sharpened alike."""
        drawn = self._drawn(generator)
        sharpened = in_camera_sharpening(image, *drawn)
        return sharpened, sharpened if reference is image else in_camera_sharpening(reference, *drawn), None

    def _drawn(self, generator: torch.Generator) -> tuple[float, float, float]:
        return _uniform(self.sigma, generator), _uniform(self.radius, generator), _uniform(self.amount, generator)


class DefocusBlur(_Step):
    """A lens out of focus, in linear light.

    Args:
        radius: range of the radius in pixels, drawn uniformly.
        blades: range of the number of sides of the aperture, turned by any angle; one number for a fixed one, 0 for a
            round aperture.
    """

    blurs: ClassVar[bool] = True

    kind: Literal["defocus-blur"] = "defocus-blur"
    radius: Range
    blades: SidesRange = (0, 0)

    @property
    def reach_px(self) -> float:
        """The greatest radius."""
        return self.radius[1]

    def apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the blurred (C,H,W)."""
        radius = _uniform(self.radius, generator)
        blades = _integer(self.blades, generator)
        rotation = _uniform((0.0, 2 * math.pi), generator) if blades else 0.0
        return to_srgb(defocus_blur(to_linear(image), radius, blades, rotation))


class MotionBlur(_Step):
    """A camera that shakes, and things that move; clipped to [0,1], as sensors do.

    Light adds up in linear light. Benchmarks made from video, such as GoPro, are means of the values of its frames as
    they stand instead: in the bright, contrasty places of its pairs the local mean of the values is kept.

    Pictures without blur, which a network must learn to leave alone, come from a `probability` below 1.

    Args:
        length: range of the way of a pixel during the exposure, in pixels, mean over the picture, drawn uniformly.
        rotation: most that roll moves a pixel at the edge of the frame, relative to the shift of all pixels.
        zoom: likewise for moving in and out; with neither, and no layer, the blur is the same everywhere.
        layers: probability of something in front that moves by itself, over another length of the same range.
        highlights: probability that saturated values count as brighter than white, up to 6 times, and leave streaks, in
            linear light.
        frame: longer side in pixels of the frame that pictures are cut from, at a random place; 0 where they are whole.
        display: probability that the values are averaged as they stand, not in linear light.
        anxiety: range of how tangled the paths are, drawn log-uniformly: 0.003 for nearly straight ones, 0.3 for
            tangles. From 0.015 to 0.1 most are nearly straight, at a speed that changes, as in videos.
        reference: where the sharp picture lies: at the `mean` position, or, as in benchmarks made from video, where
            things stand in the `middle` of the exposure.
        frames: range of the odd number of pictures, taken for an instant each, whose mean the blurred one is, as in
            such benchmarks: what moves fast shows several edges. None for a shutter that stays open.
    """

    blurs: ClassVar[bool] = True
    clips: ClassVar[bool] = True

    kind: Literal["motion-blur"] = "motion-blur"
    length: Range
    rotation: Annotated[float, Field(ge=0, le=10)] = 0.3
    zoom: Annotated[float, Field(ge=0, le=10)] = 0.1
    layers: Probability = 0.0
    highlights: Probability = 0.0
    frame: Annotated[int, Field(ge=0)] = 0
    display: Probability = 0.0
    anxiety: AnxietyRange = ANXIETY
    reference: Reference = "mean"
    frames: OddRange | None = None

    @property
    def reach_px(self) -> float:
        """How far most paths go from the pixel: half of the longest way, and more where its middle in time is there."""
        return self.length[1] * (0.5 if self.reference == "mean" else 0.65)

    def apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the blurred (C,H,W), clipped to [0,1]; where nothing moves, the image so clipped."""
        size = (image.shape[-2], image.shape[-1])
        length, has_layer = _uniform(self.length, generator), _happens(self.layers, generator)
        gain = _log_uniform((1.0, 6.0), generator) if _happens(self.highlights, generator) else 1.0
        as_it_stands = _happens(self.display, generator)
        if length == 0 and not has_layer:
            return image.clamp(0, 1)
        light = image if as_it_stands else brighten_highlights(to_linear(image), gain)
        exposure = Exposure(self.reference, _odd_integer(self.frames, generator) if self.frames else None)
        if self.rotation == self.zoom == 0 and not has_layer and not self.frames:  # splatting would soften sharp frames
            light = convolve(light, kernel_of(trajectory(generator, length, self.anxiety), exposure))
        else:
            motion = self._motion(length, size, generator)
            length = _uniform(self.length, generator) if has_layer else 0.0
            layer = draw_layer(generator, size, self._motion(length, size, generator)) if has_layer else None
            light = motion_blur(light, motion, layer, exposure)
        light = light.clamp_(0, 1)
        return light if as_it_stands else to_srgb(light)

    def _motion(self, length: float, size: tuple[int, int], generator: torch.Generator) -> Motion:
        return draw_motion(
            generator,
            length,
            size,
            rotation=self.rotation,
            zoom=self.zoom,
            frame_px=self.frame,
            anxiety=self.anxiety,
        )


Step: TypeAlias = Annotated[
    GaussianNoise
    | PoissonNoise
    | CameraNoise
    | Jpeg
    | Webp
    | GaussianBlur
    | InCameraSharpening
    | DefocusBlur
    | MotionBlur,
    Field(discriminator="kind"),
]


class Chain(Settings):
    """Degradations in the order in which they happen.

    Args:
        steps: first to last; none leaves the picture clean.
        weight: how often this chain is drawn, beside the weights of the others.
    """

    steps: tuple[Step, ...]
    weight: Positive = 1.0

    @property
    def reach_px(self) -> float:
        """How far beside a patch the picture should be known, in pixels."""
        return sum(step.reach_px for step in self.steps)

    def degrade(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the degraded picture alone, in half the time where a camera is among the steps.

        Args:
            image: (C,H,W) float32, one or three channels, nominal range [0,1].
            generator: source of randomness.

        Raises:
            ValueError: a picture that a step cannot take, such as one with NaN or too large for a format.
        """
        _check_finite(image)
        for step in self._drawn(generator):
            image = step.apply(image, generator)
        return image

    def degrade_pair(self, image: Tensor, generator: torch.Generator, reference: Tensor | None = None) -> Degraded:
        """Return the degraded picture, the same as that of `degrade`, with what is known of it.

        Args:
            image: (C,H,W) float32, one or three channels, nominal range [0,1].
            generator: source of randomness.
            reference: (C,H,W) float32, the sharp picture where the image comes blurred; steps that blur are left out.

        Raises:
            ValueError: as for `degrade`.
        """
        _check_finite(image)
        steps, sigma = self._drawn(generator), None
        if reference is None:
            reference = image
        else:
            steps = [step for step in steps if not step.blurs]
        for step in steps:
            image, reference, sigma = step.apply_to_both(image, reference, generator)
        return Degraded(image, reference, sigma if len(steps) == 1 else None)

    def _drawn(self, generator: torch.Generator) -> list[Step]:
        return [step for step in self.steps if step.probability == 1 or _happens(step.probability, generator)]


def draw(
    chains: Sequence[Chain], image: Tensor, generator: torch.Generator, reference: Tensor | None = None
) -> Degraded:
    """Degrade an image by one of several chains, drawn by weight.

    Args:
        chains: one or more.
        image: (C,H,W) float32, one or three channels, nominal range [0,1]; left as it is.
        generator: the only source of randomness.
        reference: the sharp picture where the image comes blurred; steps that blur are left out then.

    Raises:
        ValueError: there are no chains, or a step cannot take the picture.
    """
    if not chains:
        raise ValueError("there is no chain to draw from: give one or more")
    weights = torch.tensor([chain.weight for chain in chains], dtype=torch.float64)
    index = int(torch.multinomial(weights, 1, generator=generator)) if len(chains) > 1 else 0
    return chains[index].degrade_pair(image, generator, reference)


def _check_finite(image: Tensor) -> None:
    if not bool(image.isfinite().all()):
        raise ValueError("NaN or infinite values cannot be degraded: blur would spread them")


def _happens(probability: float, generator: torch.Generator) -> bool:
    return probability > 0 and float(torch.rand((), generator=generator)) < probability


def _uniform(limits: tuple[float, float], generator: torch.Generator) -> float:
    low, high = limits
    return low if low == high else low + (high - low) * float(torch.rand((), generator=generator))


def _log_uniform(limits: tuple[float, float], generator: torch.Generator) -> float:
    low, high = limits
    return low if low == high else math.exp(_uniform((math.log(low), math.log(high)), generator))


def _integer(limits: tuple[int, int], generator: torch.Generator) -> int:
    low, high = limits
    return low if low == high else int(torch.randint(low, high + 1, (), generator=generator))


def _odd_integer(limits: tuple[int, int], generator: torch.Generator) -> int:
    return 2 * _integer((limits[0] // 2, limits[1] // 2), generator) + 1
