"""Learned perceptual similarity: the `lpips` package, with a trunk that nothing downloads."""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from restore.errors import WeightsError
from restore.fetching import read_verified
from restore.metrics.torchvision_shim import import_torchvision

SMALLEST_SIDES = {"alex": 31, "squeeze": 17, "vgg": 16}  # below, a pooling of the trunk has nothing to pool


class Lpips:
    """LPIPS with one of its networks, version 0.1.

    Args:
        net: `alex`, `squeeze` or `vgg`.
        trunk: parameters of the network under torchvision's names, whole or the features alone, with or without the
            prefix `features.`; the classifier is passed over.

    Attributes:
        network: the package's own, of two (N,3,H,W) batches in [-1,1] to (N,1,1,1); differentiable.

    Raises:
        WeightsError: parameters are missing or have other shapes.

    References:
        Zhang, Isola, Efros, Shechtman, Wang: The unreasonable effectiveness of deep features as a perceptual metric
        (2018), arXiv:1801.03924. Agrees with the package `lpips` itself, which it calls.

    >>> import torch
    >>> from restore.metrics.lpips import Lpips, trunk_shapes
    >>> generator = torch.Generator().manual_seed(0)
    >>> trunk = {key: torch.randn(shape, generator=generator) / 9 for key, shape in trunk_shapes("squeeze").items()}
    >>> lpips = Lpips("squeeze", trunk)  # a random network shows the interface; its numbers mean nothing
    >>> picture = torch.rand(3, 32, 32, generator=generator)
    >>> lpips(picture, picture), lpips(picture, 1 - picture) > 0
    (0.0, True)
    """

    def __init__(self, net: str, trunk: Mapping[str, Tensor]) -> None:
        self.net = net
        self.network = _empty_network(net)
        features = {key.removeprefix("features."): value for key, value in trunk.items()}
        names = _names_in_package(self.network)
        missing = sorted(key for key in names if key not in features)
        if missing:
            raise WeightsError(f"these are no weights of {net}: {missing[0]} and {len(missing) - 1} others are missing")
        try:
            self.network.net.load_state_dict(
                {name: features[key].float() for key, name in names.items()}, strict=True, assign=True
            )
        except RuntimeError as error:
            raise WeightsError(f"these are no weights of {net}: {str(error).splitlines()[-1].strip()}") from error
        self.network.load_state_dict(_heads(net), strict=False, assign=True)
        self.network.eval().requires_grad_(requires_grad=False)
        assert not any(tensor.is_meta for tensor in self.network.state_dict().values())

    @torch.inference_mode()
    def __call__(self, reference: Tensor, restored: Tensor) -> float:
        """Return the distance of a restored picture.

        Args:
            reference: (3,H,W), or (1,H,W), which is repeated to three channels; RGB, range [0,1].
            restored: the same shape.

        Returns:
            0 for identical pictures; smaller is better.

        Raises:
            ValueError: the shapes differ, there are other than one or three channels, or a side is too small.
        """
        if reference.shape != restored.shape:
            raise ValueError(f"shapes differ: {tuple(reference.shape)} and {tuple(restored.shape)}")
        if reference.ndim != 3 or reference.shape[0] not in {1, 3}:
            raise ValueError(f"LPIPS needs (3,H,W) or (1,H,W), and this picture is {tuple(reference.shape)}")
        height, width = reference.shape[-2:]
        smallest = SMALLEST_SIDES[self.net]
        if min(height, width) < smallest:
            raise ValueError(
                f"LPIPS ({self.net}) needs at least {smallest} pixels a side, and this picture has {width}×{height}"
            )
        pair = (picture.float().expand(1, 3, height, width) * 2 - 1 for picture in (reference, restored))
        return float(self.network(*pair))


def load_lpips(net: str, path: Path) -> Lpips:
    """Build LPIPS from a file of trunk weights.

    Args:
        net: `alex`, `squeeze` or `vgg`.
        path: torchvision's file, as `restore.fetching.find_weights(f"lpips-{net}")` finds it.

    Raises:
        WeightsError: the file cannot be read, or is not the official one.
    """
    data = read_verified(path, f"lpips-{net}")
    return Lpips(net, torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))


def trunk_shapes(net: str) -> dict[str, tuple[int, ...]]:
    """Return the parameters that a trunk must have, under torchvision's names without `features.`."""
    network = _empty_network(net)
    state = network.net.state_dict()
    return {key: tuple(state[name].shape) for key, name in _names_in_package(network).items()}


def _empty_network(net: str) -> Any:  # noqa: ANN401  the package is untyped
    """Return the package's network without memory for parameters: nothing is initialised, no random number drawn."""
    with warnings.catch_warnings():
        for message in ("The parameter 'pretrained' is deprecated", "Arguments other than a weight enum"):
            warnings.filterwarnings("ignore", message, UserWarning)
        with torch.device("meta"):
            network = import_lpips().LPIPS(net=net, version="0.1", pretrained=False, pnet_rand=True, verbose=False)
    return network


def import_lpips() -> ModuleType:
    """Return the package, importable beside any torch."""
    import_torchvision()
    return importlib.import_module("lpips")


def _names_in_package(network: Any) -> dict[str, str]:  # noqa: ANN401  the package is untyped
    """Return torchvision's names of the trunk's parameters and the package's: `3.weight` is `slice2.3.weight`."""
    return {name.partition(".")[2]: name for name in network.net.state_dict()}


def _heads(net: str) -> dict[str, Tensor]:
    """Read the linear heads, which the package holds."""
    path = Path(str(import_lpips().__file__)).parent / "weights" / "v0.1" / f"{net}.pth"
    heads: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return heads
