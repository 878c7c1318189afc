"""Degradations for training and test material: noise, blur and compression, every draw from an explicit generator."""

from restore.degradations.blur import aperture_kernel, convolve, defocus_blur, gaussian_blur
from restore.degradations.camera import (
    SHOT_PER_ISO,
    Camera,
    demosaic,
    draw_camera,
    read_variance,
    to_linear,
    to_srgb,
)
from restore.degradations.chains import (
    CameraNoise,
    Chain,
    DefocusBlur,
    Degraded,
    GaussianBlur,
    GaussianNoise,
    Jpeg,
    PoissonNoise,
    Step,
    Webp,
    draw,
)
from restore.degradations.compression import FULL_CHROMA_QUALITY, jpeg, webp
from restore.degradations.noise import gaussian_noise, generator_for, poisson_noise

__all__ = [
    "FULL_CHROMA_QUALITY",
    "SHOT_PER_ISO",
    "Camera",
    "CameraNoise",
    "Chain",
    "DefocusBlur",
    "Degraded",
    "GaussianBlur",
    "GaussianNoise",
    "Jpeg",
    "PoissonNoise",
    "Step",
    "Webp",
    "aperture_kernel",
    "convolve",
    "defocus_blur",
    "demosaic",
    "draw",
    "draw_camera",
    "gaussian_blur",
    "gaussian_noise",
    "generator_for",
    "jpeg",
    "poisson_noise",
    "read_variance",
    "to_linear",
    "to_srgb",
    "webp",
]
