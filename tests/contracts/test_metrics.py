"""What every metric promises, and that each agrees with the library that people compare with."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
import skimage.metrics
import torch
from pytorch_msssim import ms_ssim  # type: ignore[import-untyped]
from torch import Tensor

from restore.fetching import CATALOGUE
from restore.metrics import METRICS, Lpips, Metric, PairFunction
from restore.metrics.lpips import import_lpips, trunk_shapes

PAIR_METRICS = [name for name, metric in METRICS.items() if metric.scope == "pair"]
skimage_metrics: Any = skimage.metrics


def ready(name: str) -> PairFunction:
    """The metric; where it needs weights, under a random trunk: contracts hold for any."""
    metric = METRICS[name]
    if metric.weights is None:
        function: PairFunction = metric.load(None)
        return function
    net = metric.weights.removeprefix("lpips-")
    generator = torch.Generator().manual_seed(5)
    trunk = {key: torch.randn(shape, generator=generator) / 20 for key, shape in trunk_shapes(net).items()}
    return Lpips(net, trunk)


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    """(3,176,192), so that every side stays even through four halvings."""
    generator = torch.Generator().manual_seed(6)
    small = torch.rand(1, 3, 11, 12, generator=generator)
    reference = torch.nn.functional.interpolate(small, size=(176, 192), mode="bilinear")[0]
    return reference, (reference + 0.1 * torch.randn(3, 176, 192, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("name", PAIR_METRICS)
def test_identical_pictures_get_the_best_score_and_others_a_worse_one(name: str, pair: tuple[Tensor, Tensor]) -> None:
    metric, function = METRICS[name], ready(name)
    reference, restored = pair
    best = metric.range[1 if metric.higher_is_better else 0]
    assert function(reference, reference.clone()) == best
    score, worse = function(reference, restored), function(reference, 0.5 * restored + 0.5 * restored.flip(2))
    low, high = metric.range
    assert low <= score <= high
    assert (score > worse) == metric.higher_is_better
    assert type(score) is float


@pytest.mark.parametrize("name", PAIR_METRICS)
def test_pictures_may_change_places(name: str, pair: tuple[Tensor, Tensor]) -> None:
    function = ready(name)
    assert function(*pair) == pytest.approx(function(*reversed(pair)), abs=1e-6)


@pytest.mark.parametrize("name", PAIR_METRICS)
def test_grey_pictures_have_a_score(name: str, pair: tuple[Tensor, Tensor]) -> None:
    assert math.isfinite(ready(name)(pair[0][:1], pair[1][:1]))


@pytest.mark.parametrize("name", PAIR_METRICS)
def test_shapes_must_agree_whichever_comes_first(name: str) -> None:
    function, pictures = ready(name), (torch.zeros(3, 176, 180), torch.zeros(3, 180, 176))
    for one, other in (pictures, pictures[::-1]):
        with pytest.raises(ValueError, match="shapes differ"):
            function(one, other)


@pytest.mark.parametrize("name", PAIR_METRICS)
def test_nothing_is_changed_or_tracked(name: str, pair: tuple[Tensor, Tensor]) -> None:
    reference, restored = (picture.clone().requires_grad_() for picture in pair)
    state = torch.get_rng_state()
    function = ready(name)
    assert function(reference, restored) == function(*pair)
    assert torch.equal(reference, pair[0])
    assert reference.grad is None
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_the_record_says_everything(metric: Metric) -> None:
    assert metric.name
    assert metric.paper
    assert metric.protocol
    assert metric.range[0] < metric.range[1]
    assert (metric.weights is None) == (metric.function is not None) == (metric.loader is None)
    assert metric.weights is None or metric.weights in CATALOGUE


def test_the_weights_say_which_metric_needs_them() -> None:
    for name, weights in CATALOGUE.items():
        assert METRICS[weights.metric].weights == name


def by_skimage(function: Callable[..., float], **options: Any) -> PairFunction:
    return lambda a, b: float(function(*(p.permute(1, 2, 0).numpy() for p in (a, b)), data_range=1.0, **options))


SSIM_OPTIONS = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}
ORACLES: dict[str, PairFunction] = {
    "psnr": by_skimage(skimage_metrics.peak_signal_noise_ratio),
    "ssim": by_skimage(skimage_metrics.structural_similarity, **SSIM_OPTIONS),
    "ms-ssim": lambda a, b: float(ms_ssim(a[None], b[None], data_range=1.0)),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_its_reference_library(name: str, pair: tuple[Tensor, Tensor]) -> None:
    assert ready(name)(*pair) == pytest.approx(ORACLES[name](*pair), abs=1e-4)


@pytest.mark.parametrize("name", [name for name in PAIR_METRICS if name not in ORACLES])
def test_lpips_agrees_with_the_package(name: str, pair: tuple[Tensor, Tensor]) -> None:
    function = ready(name)
    assert isinstance(function, Lpips)
    with pytest.warns(UserWarning, match="deprecated"), torch.random.fork_rng(devices=[]):
        package = import_lpips().LPIPS(net=function.net, pnet_rand=True, verbose=False)
    package.net.load_state_dict(function.network.net.state_dict())
    with torch.no_grad():
        expected = float(package(*(picture[None] * 2 - 1 for picture in pair)))
    assert function(*pair) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", [name for name in PAIR_METRICS if METRICS[name].weights])
def test_the_protocol_names_the_version_that_runs(name: str) -> None:
    assert f"package lpips {version('lpips')}, " in METRICS[name].protocol
