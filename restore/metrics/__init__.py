"""How well a restored picture agrees with its reference: pure functions, and a record of what each one means.

Arguments stand in the order of the command line: reference, restored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from restore.metrics.psnr import psnr
from restore.metrics.ssim import ssim

__all__ = ["METRICS", "Metric", "psnr", "ssim"]


@dataclass(frozen=True)
class Metric:
    """What a score means.

    Attributes:
        name: as printed.
        function: (reference, restored), two (C,H,W) tensors in [0,1], to a number; ValueError where it is undefined.
        unit: empty for a pure number.
        higher_is_better: the direction.
        range: lowest and highest value possible.
        decimals: that are worth printing.
        paper: where it was defined.
        protocol: how it is computed here, to be printed with every score.
    """

    name: str
    function: Callable[[Tensor, Tensor], float]
    unit: str
    higher_is_better: bool
    range: tuple[float, float]
    decimals: int
    paper: str
    protocol: str


METRICS: dict[str, Metric] = {
    "psnr": Metric(
        name="PSNR",
        function=psnr,
        unit="dB",
        higher_is_better=True,
        range=(-float("inf"), float("inf")),
        decimals=2,
        paper="10·log10(R²/MSE); as skimage.metrics.peak_signal_noise_ratio",
        protocol="10·log10(1/MSE), MSE over all pixels and channels in float64; mean of the per-image dB",
    ),
    "ssim": Metric(
        name="SSIM",
        function=ssim,
        unit="",
        higher_is_better=True,
        range=(-1.0, 1.0),
        decimals=4,
        paper="Wang, Bovik, Sheikh, Simoncelli (2004), doi:10.1109/TIP.2003.819861",
        protocol="per channel, Gaussian window 11 pixels σ 1.5, population covariance, windows inside the picture "
        "only, float64; mean over channels, then over images",
    ),
}
