"""Methods to stand beside ours, for side-by-side runs only.

For noise FFDNet, CDnCNN-B, OpenCV's non-local means and BM3D; for blur scikit-image's Richardson–Lucy and its
unsupervised Wiener filter. A method here takes an (H,W,3) float32 RGB array, nominally in [0,1] (noise may leave it),
and σ in the same range, and returns an array of the same kind. The networks' weights are not part of the project: they
are read from the folder of data beside it. BM3D is not installed with it: its licence allows non-commercial use only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from protocols import SHARED, Pixels
from skimage import restoration
from torch import Tensor

from restore.degradations import aperture_kernel
from restore.errors import RestoreError, UsageError

Method = Callable[[Pixels, float], Pixels]
Array = np.ndarray[Any, np.dtype[np.float64]]

WEIGHTS = SHARED / "peers"
PSF = "gaussian:1.5"
MARGIN = 32  # pixels mirrored around a picture before it is deconvolved: both methods ring at its edge


class MissingPeerError(RestoreError):
    """A method cannot run here; the message says what it lacks."""


def ffdnet(weights: Path = WEIGHTS / "ffdnet_color.npz") -> Method:
    """Return FFDNet for colour, which must be told σ.

    References:
        Zhang, Zuo, Zhang 2018, "FFDNet: Toward a Fast and Flexible Solution for CNN-Based Image Denoising",
        arXiv:1710.04026.
    """
    layers = _layers(weights)

    def restore(image: Tensor, sigma: float) -> Tensor:
        height, width = image.shape[-2:]
        even = F.pad(image, (0, width % 2, 0, height % 2), mode="replicate")
        x = _transposed(F.pixel_unshuffle(even, 2))
        sigma_map = torch.full_like(x[:, :1], sigma)
        x = _plain_stack(torch.cat([x, sigma_map], dim=1), layers)
        return F.pixel_shuffle(_transposed(x), 2)[..., :height, :width]

    return _on_arrays(restore)


def cdncnn_b(weights: Path = WEIGHTS / "cdncnn_b.npz") -> Method:
    """Return CDnCNN-B, the blind colour DnCNN; σ is not used.

    References:
        Zhang, Zuo, Chen, Meng, Zhang 2017, "Beyond a Gaussian Denoiser", arXiv:1608.03981.
    """
    layers = _layers(weights)

    def restore(image: Tensor, _sigma: float) -> Tensor:
        return image - _plain_stack(image, layers)  # it predicts the noise

    return _on_arrays(restore)


def non_local_means() -> Method:
    """Return OpenCV's `fastNlMeansDenoisingColored` with windows 7 and 21.

    It takes 8 bits, so that the noise is clipped and rounded first. Its strength is 0.7 σ for lightness and σ for
    colour, which on CBSD68 is within 0.3 dB of the best strengths at σ 15, 25 and 50.
    """

    def restore(image: Pixels, sigma: float) -> Pixels:
        codes = np.rint(255 * image.clip(0, 1)).astype(np.uint8)
        bgr = np.ascontiguousarray(codes[..., ::-1])  # from which it takes the lightness
        restored = cv2.fastNlMeansDenoisingColored(bgr, None, 0.7 * 255 * sigma, 255 * sigma, 7, 21)[..., ::-1]
        result: Pixels = np.divide(restored, 255, dtype=np.float32)
        return result

    return restore


def bm3d() -> Method:
    """Return BM3D for colour from the package `bm3d`, with its default profile; it must be told σ.

    It takes the noise as it is, unclipped, and computes with as many threads as torch.

    Raises:
        MissingPeerError: the package is not installed.

    References:
        Dabov, Foi, Katkovnik, Egiazarian 2007, "Image denoising by sparse 3-D transform-domain collaborative
        filtering", doi:10.1109/TIP.2007.901238; Mäkinen, Azzari, Foi 2020, doi:10.1109/TIP.2020.3014721.
    """
    try:
        package: Any = importlib.import_module("bm3d")
    except ImportError as error:
        reason = "the package is not installed (pip install bm3d; free for non-commercial use only)"
        raise MissingPeerError(f"BM3D: {reason}") from error

    def restore(image: Pixels, sigma: float) -> Pixels:
        if sigma == 0:
            return image
        profile = package.BM3DProfile()
        profile.num_threads = torch.get_num_threads()
        restored: Pixels = package.bm3d_rgb(image.astype(np.float64), sigma, profile).astype(np.float32)
        return restored

    return restore


def richardson_lucy(psf: str = PSF, num_iter: int = 10) -> Method:
    """Return scikit-image's Richardson–Lucy deconvolution of each channel; σ is not used.

    Args:
        psf: the blur assumed, as `point_spread` takes it.
        num_iter: more sharpen more and raise more noise: on crops of real pairs 10 scored above 30.

    Raises:
        UsageError: no such blur.
    """
    kernel = point_spread(psf)
    deconvolve: Callable[..., Array] = restoration.richardson_lucy  # it has no types

    def restore(channel: Array) -> Array:
        return deconvolve(channel.clip(0, 1), kernel, num_iter=num_iter)

    return _on_channels(restore)


def unsupervised_wiener(psf: str = PSF) -> Method:
    """Return scikit-image's Wiener filter, which estimates its own strength, of each channel; σ is not used.

    Args:
        psf: the blur assumed, as `point_spread` takes it.

    Raises:
        UsageError: no such blur.
    """
    kernel = point_spread(psf)
    deconvolve: Callable[..., tuple[Array, object]] = restoration.unsupervised_wiener  # it has no types

    def restore(channel: Array) -> Array:
        return deconvolve(channel, kernel, rng=0)[0]  # it draws samples: always the same ones

    return _on_channels(restore)


def point_spread(psf: str) -> Array:
    """Return the kernel of an assumed blur, (k,k) float64 with sum 1, k odd.

    Args:
        psf: `gaussian:SIGMA` or `disc:RADIUS`, in pixels.

    Raises:
        UsageError: another word, or no positive size.
    """
    kind, _, text = psf.partition(":")
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if kind not in {"gaussian", "disc"} or not 0 < size <= 50:
        raise UsageError(f"--psf {psf}: write gaussian:SIGMA or disc:RADIUS, in pixels up to 50")
    if kind == "disc":
        disc: Array = aperture_kernel(size).numpy()
        return disc
    reach = int(np.ceil(3 * size))
    profile = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * size**2))
    kernel = np.outer(profile, profile)
    result: Array = kernel / kernel.sum()
    return result


PEERS: dict[str, Callable[[], Method]] = {
    "FFDNet": ffdnet,
    "CDnCNN-B": cdncnn_b,
    "OpenCV NLM": non_local_means,
    "BM3D": bm3d,
}
ALWAYS_HERE = ("FFDNet", "CDnCNN-B", "OpenCV NLM")  # with the data folder, that is


def deblurring_peers(psf: str = PSF) -> dict[str, Callable[[], Method]]:
    """Return scikit-image's two methods, named with the blur that they assume."""
    return {
        f"Richardson–Lucy, {psf}, 10 iterations": partial(richardson_lucy, psf),
        f"unsupervised Wiener, {psf}": partial(unsupervised_wiener, psf),
    }


def _layers(weights: Path) -> list[tuple[Tensor, Tensor]]:
    if not weights.is_file():
        raise MissingPeerError(f"{weights}: its weights are not there")
    with np.load(weights) as arrays:
        count = len(arrays.files) // 2
        pairs = [(torch.from_numpy(arrays[f"w{i}"]), torch.from_numpy(arrays[f"b{i}"])) for i in range(count)]
    return [(weight.contiguous(memory_format=torch.channels_last), bias) for weight, bias in pairs]


def _plain_stack(x: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Run 3x3 convolutions with ReLU between them."""
    for weight, bias in layers[:-1]:
        x = F.conv2d(x, weight, bias, padding=1).relu_()
    weight, bias = layers[-1]
    return F.conv2d(x, weight, bias, padding=1)


def _transposed(x: Tensor) -> Tensor:
    """Exchange rows and columns within the 2x2 cells that are the channels: FFDNet counts down the columns."""
    order = torch.arange(x.shape[1]).view(-1, 2, 2).transpose(1, 2).flatten()
    return x[:, order]


def _on_arrays(restore: Callable[[Tensor, float], Tensor]) -> Method:
    @torch.inference_mode()
    def on_array(image: Pixels, sigma: float) -> Pixels:
        x = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
        restored: Pixels = restore(x, sigma)[0].permute(1, 2, 0).numpy()
        return restored

    return on_array


def _on_channels(restore: Callable[[Array], Array]) -> Method:
    def on_array(image: Pixels, _sigma: float) -> Pixels:
        inside = slice(MARGIN, -MARGIN)
        planes = np.moveaxis(image.astype(np.float64), -1, 0)
        channels = [restore(np.pad(plane, MARGIN, mode="symmetric"))[inside, inside] for plane in planes]
        result: Pixels = np.stack(channels, axis=-1).clip(0, 1).astype(np.float32)
        return result

    return on_array
