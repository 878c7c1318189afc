"""Fréchet distance between the Inception features of two sets of pictures.

With references and their restorations as the sets it is called rFID. |μ₁−μ₂|² + Tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½).
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from restore.atomic import write_atomically
from restore.errors import OutputError, WeightsError
from restore.fetching import read_verified
from restore.metrics.inception import NUM_CLASSES, NUM_FEATURES, Inception

FEATURES_PROTOCOL = "Inception-v3 2015-12-05, pool3, resized to 299 as pytorch-fid does"
FORMAT = "restore-fid-statistics-1"


class InceptionFid:
    """The network whose features are compared.

    Args:
        state: parameters under the names of pytorch-fid's weight file; its classifier is passed over.

    Raises:
        WeightsError: parameters are missing, are too many, or have other shapes.

    References:
        The features are those of `pytorch_fid.inception.InceptionV3`.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        with torch.device("meta"):
            self.network = Inception()
        features = {key: value for key, value in state.items() if not key.startswith("fc.")}
        try:
            self.network.load_state_dict(features, strict=True, assign=True)
        except RuntimeError as error:
            raise WeightsError(f"these are no weights of Inception-v3 2015-12-05: {_last_line(error)}") from error
        self.network.eval().requires_grad_(requires_grad=False)

    @torch.inference_mode()
    def features(self, picture: Tensor) -> Tensor:
        """Return the features of a picture.

        Args:
            picture: (3,H,W), or (1,H,W), which is repeated to three channels; RGB, range [0,1].

        Returns:
            (2048,) float64.

        Raises:
            ValueError: there are other than one or three channels.
        """
        if picture.ndim != 3 or picture.shape[0] not in {1, 3}:
            raise ValueError(f"FID needs (3,H,W) or (1,H,W), and this picture is {tuple(picture.shape)}")
        batch = picture.float().expand(3, *picture.shape[-2:])[None]
        features: Tensor = self.network(batch)
        return features[0].double()


def load_inception(path: Path) -> InceptionFid:
    """Build the network from its weight file.

    Args:
        path: pytorch-fid's file, as `restore.fetching.find_weights("inception-fid")` finds it.

    Raises:
        WeightsError: the file cannot be read, or is not the official one.
    """
    data = read_verified(path, "inception-fid")
    state: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    assert len(state["fc.weight"]) == NUM_CLASSES
    return InceptionFid(state)


@dataclass(frozen=True, eq=False)
class FidStatistics:
    """What of a set of pictures enters the distance: sums, so that parts of a set can be added up exactly.

    Attributes:
        n: number of pictures.
        sum: (D,) float64, Σx over their features.
        outer: (D,D) float64, Σxxᵀ.
        preparation: how files became pictures, option by option; empty where that is not known.

    >>> import torch
    >>> features = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double()
    >>> whole = FidStatistics.empty(3).update(features)
    >>> merged = FidStatistics.empty(3).update(features[:2]).merge(FidStatistics.empty(3).update(features[2:]))
    >>> merged.n, torch.allclose(merged.covariance, whole.covariance)
    (6, True)
    >>> torch.allclose(whole.covariance, features.T.cov())
    True
    """

    n: int
    sum: Tensor
    outer: Tensor
    preparation: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def empty(cls, num_features: int = NUM_FEATURES) -> FidStatistics:
        """Return the statistics of no pictures."""
        return cls(0, torch.zeros(num_features).double(), torch.zeros(num_features, num_features).double())

    def update(self, features: Tensor) -> FidStatistics:
        """Return the statistics with more pictures; in batches it is cheapest.

        Args:
            features: (N,D), or (D,) of one picture.

        Raises:
            ValueError: there are more or fewer than D.
        """
        if features.shape[-1] != self.sum.numel():
            raise ValueError(f"expected {self.sum.numel()} features of a picture, got {features.shape[-1]}")
        rows = features.double().reshape(-1, self.sum.numel())
        return replace(self, n=self.n + len(rows), sum=self.sum + rows.sum(dim=0), outer=self.outer + rows.T @ rows)

    def merge(self, other: FidStatistics) -> FidStatistics:
        """Return the statistics of both sets together; how they were prepared is known where both say so.

        Raises:
            ValueError: they were prepared in different ways.
        """
        ours, theirs = self.preparation, other.preparation
        if ours and theirs and ours != theirs:
            raise ValueError(f"pictures prepared in different ways: {dict(ours)} and {dict(theirs)}")
        preparation = ours if ours == theirs else {}
        return FidStatistics(self.n + other.n, self.sum + other.sum, self.outer + other.outer, preparation)

    @property
    def mean(self) -> Tensor:
        """(D,) float64."""
        return self.sum / self.n

    @property
    def covariance(self) -> Tensor:
        """(D,D) float64, unbiased; ValueError for fewer than two pictures."""
        _check_count(self.n)
        return (self.outer - self.n * torch.outer(self.mean, self.mean)) / (self.n - 1)

    def save(self, path: Path) -> None:
        """Write a safetensors file that says how the pictures were prepared and the features computed.

        Raises:
            OutputError: it cannot be written.
        """
        preparation = json.dumps(dict(self.preparation), sort_keys=True)
        metadata = {"format": FORMAT, "features": FEATURES_PROTOCOL, "n": str(self.n), "preparation": preparation}
        tensors = {"sum": self.sum, "outer": self.outer}
        try:
            write_atomically(path, save(tensors, metadata))
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path) -> FidStatistics:
        """Read what `save` wrote.

        Raises:
            WeightsError: the file cannot be read, is something else, or its features were computed in another way.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise WeightsError(f"{path}: holds no FID statistics; write them with `restore score`")
                if metadata["features"] != FEATURES_PROTOCOL:
                    raise WeightsError(f"{path}: other features ({metadata['features']}); compute the statistics anew")
                preparation = dict(json.loads(metadata.get("preparation", "{}")))
                tensors = file.get_tensor("sum"), file.get_tensor("outer")
                statistics = cls(json.loads(metadata["n"]), *tensors, preparation)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{path}: is no readable file of FID statistics ({_last_line(error)})") from error
        num_features = statistics.sum.numel()
        is_sound = (
            type(statistics.n) is int
            and statistics.n >= 0
            and statistics.outer.shape == (num_features, num_features)
            and statistics.sum.dtype == statistics.outer.dtype == torch.float64
            and bool(statistics.outer.isfinite().all() and statistics.sum.isfinite().all())
        )
        if not is_sound:
            raise WeightsError(f"{path}: the FID statistics are damaged; compute them anew")
        return statistics


def frechet_distance(a: FidStatistics, b: FidStatistics) -> float:
    """Return the Fréchet distance of two sets, from their statistics: the form for large sets.

    Tr(Σ₁Σ₂)^½ is taken from the eigenvalues of Σ₁^½Σ₂Σ₁^½, which is symmetric and positive like both of them.

    Args:
        a: of at least two pictures.
        b: likewise.

    Returns:
        0 or more; below about 2,049 pictures a side it is biased upward.

    Raises:
        ValueError: a set has fewer than two pictures, or the numbers of features differ.

    References:
        Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter: GANs trained by a two time-scale update rule converge to a
        local Nash equilibrium (2017), arXiv:1706.08500.

    >>> import torch
    >>> a = torch.tensor([[0.0], [2.0]])  # mean 1, variance 2
    >>> b = torch.tensor([[3.0], [7.0]])  # mean 5, variance 8
    >>> distance = frechet_distance(FidStatistics.empty(1).update(a), FidStatistics.empty(1).update(b))
    >>> round(distance, 6)  # 4² + 2 + 8 - 2·√16
    18.0
    """
    if a.sum.shape != b.sum.shape:
        raise ValueError(f"numbers of features differ: {a.sum.numel()} and {b.sum.numel()}")
    covariance_a, covariance_b = a.covariance, b.covariance
    values, vectors = torch.linalg.eigh(covariance_a)
    root = vectors * _without_noise(values).sqrt() @ vectors.T
    product = root @ covariance_b @ root
    cross = _without_noise(torch.linalg.eigvalsh((product + product.T) / 2)).sqrt().sum()
    return _distance(a.mean - b.mean, covariance_a.trace() + covariance_b.trace(), cross)


def frechet_distance_from_features(a: Tensor, b: Tensor) -> float:
    """Return the Fréchet distance of two sets, from the features themselves: the exact form for small sets.

    With centred features A and B, Tr(Σ₁Σ₂)^½ is the nuclear norm of ABᵀ over √((n₁−1)(n₂−1)).

    Args:
        a: (N,D), at least two rows.
        b: (M,D), likewise.

    Returns:
        0 or more.

    Raises:
        ValueError: a set has fewer than two pictures, or the numbers of features differ.

    >>> import torch
    >>> frechet_distance_from_features(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [7.0]]))
    18.0
    """
    for features in (a, b):
        _check_count(len(features))
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"numbers of features differ: {a.shape[1]} and {b.shape[1]}")
    a, b = a.double(), b.double()
    mean_a, mean_b = a.mean(dim=0), b.mean(dim=0)
    rows_a, rows_b = ((x - mean) / math.sqrt(len(x) - 1) for x, mean in ((a, mean_a), (b, mean_b)))
    cross = torch.linalg.svdvals(rows_a @ rows_b.T).sum()
    return _distance(mean_a - mean_b, rows_a.square().sum() + rows_b.square().sum(), cross)


def _distance(difference: Tensor, traces: Tensor, cross: Tensor) -> float:
    return max(0.0, float(difference.square().sum() + traces - 2 * cross))


def _without_noise(eigenvalues: Tensor) -> Tensor:
    """Set to zero what rounding leaves of the zeros of a singular matrix: its root would no longer be small."""
    noise = eigenvalues.abs().max() * len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps
    return torch.where(eigenvalues > noise, eigenvalues, 0.0)


def _check_count(n: int) -> None:
    if n < 2:
        raise ValueError(f"FID needs at least 2 pictures a side, and here is {n}")


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
