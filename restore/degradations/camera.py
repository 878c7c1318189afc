"""The noise of a real camera, through a simple model of one.

A picture is taken back to what the sensor saw, gets its noise there, and is developed again. So the noise follows the
light, is interpolated with the mosaic and mixed by the colour matrix: coarse, coloured, and stronger in red and blue.

References:
    Brooks, Mildenhall, Xue, Chen, Sharlet, Barron 2019, "Unprocessing Images for Learned Raw Denoising",
    arXiv:1811.11127.
    Malvar, He, Cutler 2004, "High-quality linear interpolation for demosaicing of Bayer-patterned color images",
    doi:10.1109/ICASSP.2004.1326587.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from restore.degradations.borders import mirror_borders

SHOT_PER_ISO = 2e-6  # a phone's sensor: ISO 100 gives 2e-4, ISO 6400 gives 0.013, the range of Brooks et al.

XYZ_FROM_SRGB = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
# Camera from XYZ, as the makers' DNG files state it for daylight: the four cameras of the Darmstadt Noise Dataset
# (Huawei Nexus 6P, Sony A7R, Olympus E-M10, Sony RX100 IV)
CAMERA_FROM_XYZ = torch.tensor(
    [
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.6130, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.8380, -0.2630, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.0970, 0.1581, 0.5181]],
    ]
)
HIGHLIGHTS = 0.9  # above this brightness a scene is taken to saturate the sensor in all colours


def to_linear(image: Tensor) -> Tensor:
    """Return sRGB values as linear light; values outside [0,1] are continued.

    References:
        IEC 61966-2-1:1999.
    """
    curved = image.clamp(min=0.04045).add(0.055).div_(1.055).pow_(2.4)
    return torch.where(image <= 0.04045, image / 12.92, curved)


def to_srgb(linear: Tensor) -> Tensor:
    """Return linear light as sRGB values, the inverse of `to_linear`."""
    curved = linear.clamp(min=0.0031308).pow_(1 / 2.4).mul_(1.055).sub_(0.055)
    return torch.where(linear <= 0.0031308, linear * 12.92, curved)


def read_variance(shot: float) -> float:
    """Return the variance of the read noise that usually goes with a shot noise.

    Args:
        shot: variance of the shot noise at white, both on raw values in [0,1].

    References:
        Brooks et al. 2019, equation 2, from the sensors of the Darmstadt Noise Dataset.
    """
    return math.exp(2.18 * math.log(shot) + 1.20)


@dataclass(frozen=True, eq=False)
class Camera:
    """What stands between light on a sensor and a picture in sRGB.

    Args:
        colours: (3,3), camera colours from linear sRGB ones; its rows sum to 1, so that white stays white.
        gains: white balance of red, green and blue; green is 1.
        exposure: what developing multiplies all colours with.
        contrast: strength of the tone curve, 0 for none to 1 for 3x²−2x³.
        phase: row and column of the first red pixel of the Bayer mosaic, each 0 or 1.
    """

    colours: Tensor
    gains: tuple[float, float, float]
    exposure: float
    contrast: float
    phase: tuple[int, int]

    def expose(self, image: Tensor) -> Tensor:
        """Return what the sensor would see without mosaic and noise: (C,H,W) in [0,1], linear, in camera colours.

        Highlights keep all colours at saturation, so that developing gives white back.

        Args:
            image: (3,H,W), or (1,H,W) for a monochrome sensor; clipped to [0,1].
        """
        light = to_linear(_without_contrast(image.clamp(0, 1), self.contrast))
        factors = torch.tensor(self._gains(image)).mul_(self.exposure).reciprocal_().view(-1, 1, 1)
        if len(image) == 3:
            light = torch.einsum("dc,chw->dhw", self.colours, light)
        saturated = light.mean(0, keepdim=True).sub_(HIGHLIGHTS).clamp_(min=0).div_(1 - HIGHLIGHTS).square_()
        return light.mul_(torch.maximum(factors + saturated * (1 - factors), factors)).clamp_(0, 1)

    def photograph(
        self, image: Tensor, shot: float = 0.0, read: float = 0.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the picture that this camera makes of a scene.

        Without noise this is the reference for a network: mosaic, saturation and development are in it as in the
        noisy picture, and what differs is the noise alone. Against the original picture a network would learn to undo
        demosaicing, and so to sharpen and to invent colours; the clean pictures of real pairs, means of many frames,
        have passed the same development too.

        Args:
            image: (3,H,W), or (1,H,W) for a monochrome sensor, from 1×1 upwards; clipped to [0,1].
            shot: variance of the shot noise at white, on raw values in [0,1]; at raw value x the variance of the noise
                is shot·x + read.
            read: variance of the read noise.
            generator: source of randomness; may be None where shot and read are 0.

        Returns:
            The same shape, in [0,1], not quantised.

        Raises:
            ValueError: shot or read are negative or not finite, the number of channels is neither 1 nor 3, or the image
                holds NaN or infinite values.
        """
        if not (0 <= shot < math.inf and 0 <= read < math.inf):
            raise ValueError(f"shot and read noise are variances from 0 upwards, not {shot} and {read}")
        if len(image) not in {1, 3}:
            raise ValueError(f"a camera takes pictures of one or three channels, not {len(image)}")
        if not torch.isfinite(image).all():
            raise ValueError("NaN or infinite values are no light")
        height, width = image.shape[-2:]
        top, left = self.phase
        bottom, right = (top + height) % 2, (left + width) % 2
        light = mirror_borders(self.expose(image), 2 + top, 2 + bottom, 2 + left, 2 + right)
        gains = torch.tensor(self._gains(image)).mul_(self.exposure).view(-1, 1, 1)
        raw, gain = (_mosaic(light), _mosaic(gains.expand_as(light))) if len(image) == 3 else (light[0], gains[0])
        if shot or read:
            deviation = raw.mul(shot).add_(read).sqrt_()
            raw = torch.randn(raw.shape, generator=generator).mul_(deviation).add_(raw).clamp_(0, 1)
        developed = raw.mul(gain).clamp_(max=1)
        if len(image) == 3:
            developed = torch.einsum("dc,chw->dhw", torch.linalg.inv(self.colours), demosaic(developed))
        else:
            developed = developed[None, 2:-2, 2:-2]
        developed = developed[:, top : top + height, left : left + width].clamp(0, 1)
        return _with_contrast(to_srgb(developed), self.contrast)

    def _gains(self, image: Tensor) -> tuple[float, ...]:
        return self.gains if len(image) == 3 else (1.0,)


def draw_camera(generator: torch.Generator) -> Camera:
    """Return a camera with colours, white balance, exposure and tone curve as cameras have them.

    The white balance goes from daylight (red 2.4, blue 1.5), where Brooks et al. end, on to lamplight (red 1.3, blue
    2.8), where blue is the noisiest colour; each gain is varied by about 12 % besides.

    Args:
        generator: source of randomness.

    References:
        Brooks et al. 2019, section 3: colour matrices between those of cameras, and the range of the exposure.
    """
    shares = torch.rand(len(_COLOURS), generator=generator).clamp_(min=1e-6).log_().square_()  # often one prevails
    warmth, contrast = torch.rand(2, generator=generator).tolist()
    red, blue, brightness = torch.randn(3, generator=generator).tolist()
    row, column = torch.randint(2, (2,), generator=generator).tolist()
    return Camera(
        colours=torch.einsum("n,nij->ij", shares / shares.sum(), _COLOURS),
        gains=((2.4 - 1.1 * warmth) * math.exp(0.12 * red), 1.0, (1.5 + 1.3 * warmth) * math.exp(0.12 * blue)),
        exposure=1 / min(max(0.8 + 0.1 * brightness, 0.5), 1.0),
        contrast=contrast,
        phase=(row, column),
    )


def demosaic(raw: Tensor) -> Tensor:
    """Return all three colours of every pixel of a Bayer mosaic whose first pixel is red (RGGB).

    Linear, 5×5: a missing colour is the mean of its neighbours, corrected by the Laplacian of the colour that is there.

    Args:
        raw: (H,W), even sides, with two more pixels on every side than are asked for.

    Returns:
        (3,H-4,W-4), unclipped: edges overshoot.

    References:
        Malvar, He, Cutler 2004, figure 2.
    """
    return F.pixel_shuffle(F.conv2d(raw[None, None], _DEMOSAICING, stride=2), 2)[0]


def _camera_colours() -> Tensor:
    """Return (5,3,3), camera colours from linear sRGB ones, rows summing to 1.

    The fifth is the identity: where there is much noise, makers weaken the matrix that would amplify it.
    """
    colours = CAMERA_FROM_XYZ @ XYZ_FROM_SRGB
    return torch.cat([colours / colours.sum(2, keepdim=True), torch.eye(3)[None]])


def _demosaicing_filters() -> Tensor:
    """Return (12,1,6,6): for each colour and each pixel of a 2×2 cell the 5×5 filter, at that pixel's place."""
    itself = torch.zeros(5, 5)
    itself[2, 2] = 8
    cross = [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]
    beside = [[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]]
    corner = [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]]
    at_others, horizontal, diagonal = torch.tensor(cross), torch.tensor(beside), torch.tensor(corner)
    vertical = horizontal.T
    filters = torch.zeros(3, 2, 2, 6, 6)
    cells = (  # colour × the pixels red, green beside red, green beside blue, blue
        (itself, horizontal, vertical, diagonal),
        (at_others, itself, itself, at_others),
        (diagonal, vertical, horizontal, itself),
    )
    for colour, cell in enumerate(cells):
        for pixel, kernel in enumerate(cell):
            row, column = divmod(pixel, 2)
            filters[colour, row, column, row : row + 5, column : column + 5] = kernel / 8
    return filters.view(12, 1, 6, 6)


_COLOURS = _camera_colours()
_DEMOSAICING = _demosaicing_filters()


def _mosaic(image: Tensor) -> Tensor:
    """Return (H,W) with one colour of (3,H,W) a pixel: red first (RGGB)."""
    raw = image[1].clone()
    raw[0::2, 0::2] = image[0, 0::2, 0::2]
    raw[1::2, 1::2] = image[2, 1::2, 1::2]
    return raw


def _with_contrast(image: Tensor, strength: float) -> Tensor:
    """Blend the values with 3x²−2x³ of them: darker below one half, brighter above."""
    return image if strength == 0 else torch.lerp(image, image.square() * (3 - 2 * image), strength)


def _without_contrast(image: Tensor, strength: float) -> Tensor:
    """Invert `_with_contrast`: the middle one of the cubic's three roots, by the trigonometric formula."""
    if strength == 0:
        return image
    linear = (1 + strength / 2) / (2 * strength)
    scale = math.sqrt(linear / 3)
    sine = (image - 0.5).div_(4 * strength * scale**3).clamp_(-1, 1)
    return sine.asin_().div_(3).sin_().mul_(2 * scale).add_(0.5)
