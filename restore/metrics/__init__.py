"""How well restored pictures agree with their references: pure functions, and a record of what each one means.

Arguments stand in the order of the command line: reference, restored. A metric of scope `pair` scores one picture
against its reference; one of scope `set` compares two collections. Those that need weights are loaded first:

    METRICS["psnr"].load(None)(reference, restored)                          -> float, or ValueError where undefined
    METRICS["lpips"].load(find_weights("lpips-alex"))(reference, restored)   -> float
    METRICS["fid"].load(find_weights("inception-fid")).features(picture)     -> (2048,) float64, for FidStatistics
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from restore.fetching import find_weights
from restore.metrics.fid import (
    FidStatistics,
    InceptionFid,
    frechet_distance,
    frechet_distance_from_features,
    load_inception,
)
from restore.metrics.lpips import Lpips, load_lpips
from restore.metrics.ms_ssim import Clamped, ms_ssim, ssim_and_ms_ssim
from restore.metrics.psnr import psnr
from restore.metrics.ssim import ssim

__all__ = [
    "METRICS",
    "Clamped",
    "FidStatistics",
    "InceptionFid",
    "Lpips",
    "Metric",
    "PairFunction",
    "frechet_distance",
    "frechet_distance_from_features",
    "load_inception",
    "load_lpips",
    "ms_ssim",
    "psnr",
    "score_all",
    "ssim",
    "ssim_and_ms_ssim",
]

PairFunction = Callable[[Tensor, Tensor], float]
"""(reference, restored), two (C,H,W) tensors in [0,1], to a number; ValueError where it is undefined."""


@dataclass(frozen=True)
class Metric:
    """What a score means, and how it is computed.

    Attributes:
        name: as printed.
        function: of a pair of pictures; None where weights must be loaded first, or where whole sets are compared.
        unit: empty for a pure number.
        higher_is_better: the direction.
        range: lowest and highest value possible.
        decimals: that are worth printing.
        paper: where it was defined.
        protocol: how it is computed here, to be printed with every score.
        scope: `pair`, or `set` for what exists only over many pictures.
        weights: name in `restore.fetching.CATALOGUE` of the file that `load` needs; None: it needs none.
        loader: reads that file; use `load`.
    """

    name: str
    function: PairFunction | None
    unit: str
    higher_is_better: bool
    range: tuple[float, float]
    decimals: int
    paper: str
    protocol: str
    scope: Literal["pair", "set"] = "pair"
    weights: str | None = None
    loader: Callable[[Path], Any] | None = None

    def load(self, weights: Path | None = None) -> Any:  # noqa: ANN401  the two scopes have two interfaces
        """Make the metric ready.

        Args:
            weights: the file, as `restore.fetching.find_weights(metric.weights, folder)` finds it; None: found in the
                usual folder where the metric needs one.

        Returns:
            A `PairFunction` for scope `pair`; an `InceptionFid`, whose `features` feed `FidStatistics`, for `set`.

        Raises:
            WeightsError: the file is missing, damaged, or not the one that defines the metric.
        """
        if self.loader is None:
            return self.function
        assert self.weights is not None
        return self.loader(find_weights(self.weights) if weights is None else weights)


LPIPS_PROTOCOL = (
    f"package lpips {version('lpips')}, version 0.1, net {{}}; RGB scaled to [-1,1], grey repeated to three channels, "
    "no resize; mean over images"
)


def _lpips(net: str) -> Metric:
    return Metric(
        name=f"LPIPS ({net})",
        function=None,
        unit="",
        higher_is_better=False,
        range=(0.0, float("inf")),
        decimals=4,
        paper="Zhang, Isola, Efros, Shechtman, Wang (2018), arXiv:1801.03924",
        protocol=LPIPS_PROTOCOL.format(net),
        weights=f"lpips-{net}",
        loader=partial(load_lpips, net),
    )


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
        "only, maps in the pictures' precision (float32), means in float64; mean over channels, then over images",
    ),
    "ms-ssim": Metric(
        name="MS-SSIM",
        function=ms_ssim,
        unit="",
        higher_is_better=True,
        range=(0.0, 1.0),
        decimals=4,
        paper="Wang, Simoncelli, Bovik (2003), doi:10.1109/ACSSC.2003.1292216",
        protocol="per channel, five scales of weights .0448 .2856 .3001 .2363 .1333, Gaussian window 11 pixels σ 1.5, "
        "windows inside the picture only; 2×2 means between scales, odd sides completed by their last row or column; "
        "negative terms clamped to 0; undefined below 161 pixels a side; mean over channels, then over images",
    ),
    "lpips": _lpips("alex"),
    "lpips-alex": _lpips("alex"),
    "lpips-squeeze": _lpips("squeeze"),
    "lpips-vgg": _lpips("vgg"),
    "fid": Metric(
        name="rFID",
        function=None,
        unit="",
        higher_is_better=False,
        range=(0.0, float("inf")),
        decimals=2,
        paper="Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter (2017), arXiv:1706.08500",
        protocol="Fréchet distance between references and restored pictures: Inception-v3 2015-12-05, pool3, 2048 "
        "features, resized to 299×299 as pytorch-fid does (bilinear, no antialiasing), RGB scaled to [-1,1], grey "
        "repeated to three channels; unbiased covariance, float64",
        scope="set",
        weights="inception-fid",
        loader=load_inception,
    ),
}


def score_all(
    names: Sequence[str], reference: Tensor, restored: Tensor, loaded: Mapping[str, PairFunction] | None = None
) -> dict[str, float | ValueError]:
    """Score one pair by several metrics, sharing what they have in common.

    SSIM is the finest scale of MS-SSIM: wanted together, it costs nothing.

    Args:
        names: of scope `pair`, as in METRICS.
        reference: (C,H,W), range [0,1].
        restored: the same shape.
        loaded: for each name that needs weights, what its `load` returned.

    Returns:
        The same values as the functions give one by one, in the order of the names; where a metric is undefined, the
        ValueError that says why.

    >>> import torch
    >>> scores = score_all(["psnr", "ms-ssim"], torch.zeros(3, 16, 16), torch.full((3, 16, 16), 0.1))
    >>> round(scores["psnr"], 3), scores["ms-ssim"]
    (20.0, ValueError('MS-SSIM needs at least 161 pixels a side, and this picture has 16×16'))
    """
    functions = {name: (loaded or {}).get(name) or METRICS[name].function for name in names}
    shared: dict[str, float] = {}
    if {"ssim", "ms-ssim"} <= set(names):
        with contextlib.suppress(ValueError):  # one of the two may still be defined
            shared["ssim"], shared["ms-ssim"] = ssim_and_ms_ssim(reference, restored)
    scores: dict[str, float | ValueError] = {}
    for name, function in functions.items():
        assert function is not None, f"{name} must be loaded first"
        try:
            scores[name] = shared[name] if name in shared else function(reference, restored)
        except ValueError as error:
            scores[name] = error
    return scores
