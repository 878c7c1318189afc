"""Denoisers to stand beside ours: FFDNet, CDnCNN-B and OpenCV's non-local means, for side-by-side runs only.

A denoiser here takes an (H,W,3) float32 RGB array, nominally in [0,1] (noise may leave it), and σ in the same range,
and returns an array of the same kind. The networks' weights are not part of the project: they are read from the folder
of data beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Pixels = npt.NDArray[np.float32]
Denoiser = Callable[[Pixels, float], Pixels]

WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "peers"


def ffdnet(weights: Path = WEIGHTS / "ffdnet_color.npz") -> Denoiser:
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


def cdncnn_b(weights: Path = WEIGHTS / "cdncnn_b.npz") -> Denoiser:
    """Return CDnCNN-B, the blind colour DnCNN; σ is not used.

    References:
        Zhang, Zuo, Chen, Meng, Zhang 2017, "Beyond a Gaussian Denoiser", arXiv:1608.03981.
    """
    layers = _layers(weights)

    def restore(image: Tensor, _sigma: float) -> Tensor:
        return image - _plain_stack(image, layers)  # it predicts the noise

    return _on_arrays(restore)


def non_local_means() -> Denoiser:
    """Return OpenCV's `fastNlMeansDenoisingColored` with windows 7 and 21.

    It takes 8 bits, so that the noise is clipped and rounded first. Its strength is 0.7 σ for lightness and σ for
    colour, which on CBSD68 is within 0.3 dB of the best strengths at σ 15, 25 and 50.
    """

    def restore(image: Pixels, sigma: float) -> Pixels:
        codes = np.rint(255 * image.clip(0, 1)).astype(np.uint8)
        restored = cv2.fastNlMeansDenoisingColored(codes, None, 0.7 * 255 * sigma, 255 * sigma, 7, 21)
        result: Pixels = np.divide(restored, 255, dtype=np.float32)
        return result

    return restore


PEERS: dict[str, Callable[[], Denoiser]] = {"FFDNet": ffdnet, "CDnCNN-B": cdncnn_b, "OpenCV NLM": non_local_means}


def _layers(weights: Path) -> list[tuple[Tensor, Tensor]]:
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


def _on_arrays(restore: Callable[[Tensor, float], Tensor]) -> Denoiser:
    @torch.inference_mode()
    def on_array(image: Pixels, sigma: float) -> Pixels:
        x = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
        restored: Pixels = restore(x, sigma)[0].permute(1, 2, 0).numpy()
        return restored

    return on_array
