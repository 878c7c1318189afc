from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from restore.errors import OutputError, WeightsError
from restore.metrics import (
    METRICS,
    FidStatistics,
    InceptionFid,
    frechet_distance,
    frechet_distance_from_features,
    load_inception,
)
from restore.metrics.fid import FEATURES_PROTOCOL
from restore.metrics.inception import Inception
from restore.metrics.torchvision_shim import import_torchvision


def random_state() -> dict[str, Tensor]:
    """Weights under which no layer dies or explodes, and running statistics that are not those of a new network."""
    generator = torch.Generator().manual_seed(3)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in Inception().state_dict().items()}
    assert len(shapes) == 94 * 6  # convolutions with their normalisation
    state = {}
    for key, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if key.endswith("conv.weight"):
            state[key] = noise * (2 / shape[1:].numel()) ** 0.5
        elif key.endswith(("running_var", "bn.weight")):
            state[key] = 1 + 0.2 * noise.clamp(-2, 2)
        elif key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(1)
        else:
            state[key] = 0.1 * noise
    return state


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return random_state()


@pytest.fixture(scope="module")
def reference_network(state: dict[str, Tensor]) -> Any:
    """pytorch-fid's own module, its download replaced by our weights."""
    import_torchvision()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", category=FutureWarning)
        from pytorch_fid import inception  # type: ignore[import-untyped]  # noqa: PLC0415  importable after the shim

        whole = {**state, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: whole)
            return inception.InceptionV3(output_blocks=[0, 1, 2, 3]).eval()


def picture(channels: int = 3, height: int = 61, width: int = 83) -> Tensor:
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(4))


def outputs(network: nn.Module, names: list[str], run: Any) -> dict[str, Tensor]:
    """What the named modules return during a run."""
    kept: dict[str, Tensor] = {}
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda *found, name=name: kept.update({name: found[2].clone()})
        )
        for name in names
    ]
    run()
    for handle in handles:
        handle.remove()
    return kept


def test_every_layer_agrees_with_pytorch_fid(state: dict[str, Tensor], reference_network: Any) -> None:
    fid = InceptionFid(state)
    batch = picture()[None]
    ours_by_theirs = {  # where its blocks keep our layers
        "blocks.0.0": "Conv2d_1a_3x3",
        "blocks.0.1": "Conv2d_2a_3x3",
        "blocks.0.2": "Conv2d_2b_3x3",
        "blocks.1.0": "Conv2d_3b_1x1",
        "blocks.1.1": "Conv2d_4a_3x3",
        **{f"blocks.2.{i}": f"Mixed_{name}" for i, name in enumerate(("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e"))},
        **{f"blocks.3.{i}": f"Mixed_{name}" for i, name in enumerate(("7a", "7b", "7c"))},
    }
    ours = outputs(fid.network, list(ours_by_theirs.values()), lambda: fid.features(batch[0]))
    with torch.inference_mode():
        theirs = outputs(reference_network, list(ours_by_theirs), lambda: reference_network(batch))
    for their_name, our_name in ours_by_theirs.items():
        scale = theirs[their_name].abs().max()
        assert scale > 0.01, our_name
        assert (ours[our_name] - theirs[their_name]).abs().max() <= 1e-5 * scale, our_name


@pytest.mark.parametrize(("height", "width"), [(61, 83), (299, 299), (400, 310)])
def test_the_features_agree_with_pytorch_fid(
    state: dict[str, Tensor], reference_network: Any, height: int, width: int
) -> None:
    image = picture(3, height, width)
    features = InceptionFid(state).features(image)
    with torch.inference_mode():
        expected = reference_network(image[None])[3][0, :, 0, 0]
    assert (features.shape, features.dtype) == ((2048,), torch.float64)
    assert expected.std() > 0.01
    assert (features - expected).abs().max() <= 1e-5


def test_grey_is_repeated_and_other_channels_are_refused(state: dict[str, Tensor]) -> None:
    fid = InceptionFid(state)
    grey = picture(1)
    assert torch.equal(fid.features(grey), fid.features(grey.repeat(3, 1, 1)))
    with pytest.raises(ValueError, match="FID needs"):
        fid.features(picture(4))


def test_other_weights_are_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights of Inception-v3 2015-12-05: .*Mixed_7c"):
        InceptionFid({key: value for key, value in state.items() if not key.startswith("Mixed_7c")})
    torch.save(state, tmp_path / "pt_inception-2015-12-05-6726825d.pth")
    with pytest.raises(WeightsError, match="sha256"):
        load_inception(tmp_path / "pt_inception-2015-12-05-6726825d.pth")
    with pytest.raises(WeightsError, match="`restore models fetch inception-fid --weights-dir /"):
        METRICS["fid"].load(tmp_path / "pt_inception-2015-12-05-6726825d.pth")


def samples(n: int, num_features: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(num_features, num_features, generator=generator)
    return (torch.randn(n, num_features, generator=generator) @ mixing + seed).double()


def statistics(features: Tensor) -> FidStatistics:
    return FidStatistics.empty(features.shape[1]).update(features)


@pytest.mark.parametrize(
    ("n", "m", "num_features"), [(2, 2, 8), (5, 9, 16), (12, 7, 64), (40, 60, 16), (200, 150, 8), (20, 20, 400)]
)
def test_both_forms_agree(n: int, m: int, num_features: int) -> None:
    a, b = samples(n, num_features, 1), samples(m, num_features, 2)
    exact = frechet_distance_from_features(a, b)
    assert frechet_distance(statistics(a), statistics(b)) == pytest.approx(exact, rel=1e-9)
    assert frechet_distance(statistics(b), statistics(a)) == pytest.approx(exact, rel=1e-9)


def test_agrees_with_the_matrix_square_root() -> None:
    a, b = samples(60, 6, 1), samples(80, 6, 2)
    covariance_a, covariance_b = a.T.cov(), b.T.cov()
    trace_of_root = torch.linalg.eigvals(covariance_a @ covariance_b).sqrt().real.sum()
    difference = a.mean(dim=0) - b.mean(dim=0)
    expected = float(difference @ difference + covariance_a.trace() + covariance_b.trace() - 2 * trace_of_root)
    assert frechet_distance(statistics(a), statistics(b)) == pytest.approx(expected, rel=1e-9)


def test_shifted_copies_differ_by_the_shift_alone() -> None:
    a = samples(30, 5, 1)
    assert frechet_distance(statistics(a), statistics(a + 2)) == pytest.approx(4 * 5, rel=1e-9)


@pytest.mark.parametrize("n", [2, 7, 300])
def test_a_set_is_at_no_distance_from_itself(n: int) -> None:
    a = samples(n, 12, 1)
    scale = float(statistics(a).covariance.trace())
    assert 0 <= frechet_distance(statistics(a), statistics(a)) <= 1e-6 * scale
    assert 0 <= frechet_distance_from_features(a, a) <= 1e-12 * scale


def test_sums_merge_exactly_as_one_pass() -> None:
    features = samples(23, 10, 1)
    one_by_one = FidStatistics.empty(10)
    for row in features:
        one_by_one = one_by_one.update(row)
    shards = statistics(features[:4]).merge(statistics(features[4:15])).merge(statistics(features[15:]))
    for whole in (one_by_one, shards):
        assert whole.n == 23
        assert torch.allclose(whole.mean, features.mean(dim=0), rtol=1e-12)
        assert torch.allclose(whole.covariance, features.T.cov(), rtol=1e-9)
    assert torch.allclose(shards.outer, one_by_one.outer, rtol=1e-12)


def test_statistics_are_kept_in_a_file(tmp_path: Path) -> None:
    kept = statistics(samples(5, 4, 1))
    kept.save(tmp_path / "a.safetensors")
    read = FidStatistics.load(tmp_path / "a.safetensors")
    assert read.n == 5
    assert torch.equal(read.sum, kept.sum)
    assert torch.equal(read.outer, kept.outer)
    with pytest.raises(OutputError, match="cannot be written"):
        kept.save(tmp_path / "absent" / "a.safetensors")


def test_statistics_say_how_their_pictures_were_prepared(tmp_path: Path) -> None:
    features = samples(5, 4, 1)
    plain, cropped = ({"crop_border": border} for border in ("0", "2"))
    kept = FidStatistics.empty(4)
    kept = FidStatistics(0, kept.sum, kept.outer, cropped).update(features)
    kept.save(tmp_path / "a.safetensors")
    read = FidStatistics.load(tmp_path / "a.safetensors")
    assert read.preparation == cropped
    assert read.merge(kept).preparation == cropped
    assert read.merge(statistics(features)).preparation == {}
    with pytest.raises(ValueError, match="prepared in different ways"):
        read.merge(FidStatistics(5, kept.sum, kept.outer, plain))


def damaged(tmp_path: Path, how: str) -> Path:
    path = tmp_path / f"{how}.safetensors"
    tensors = {"sum": torch.zeros(3).double(), "outer": torch.zeros(3, 3).double()}
    metadata = {"format": "restore-fid-statistics-1", "features": "Inception-v3 2015-12-05, pool3", "n": "5"}
    statistics(samples(5, 3, 1)).save(path)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    elif how == "foreign":
        save_file(tensors, path)
    elif how == "other features":
        save_file(tensors, path, metadata)
    elif how == "ill-described":
        save_file(tensors, path, {**metadata, "features": FEATURES_PROTOCOL, "preparation": "5"})
    elif how == "miscounted":
        save_file(tensors, path, {**metadata, "features": FEATURES_PROTOCOL, "n": "2.5"})
    elif how == "of fewer than none":
        FidStatistics(-5, tensors["sum"], tensors["outer"]).save(path)
    elif how == "absent":
        path.unlink()
    elif how == "not finite":
        FidStatistics(5, tensors["sum"] / 0, tensors["outer"]).save(path)
    elif how == "ill-shaped":
        FidStatistics(5, tensors["sum"], tensors["outer"][:2].contiguous()).save(path)
    return path


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "foreign",
        "other features",
        "absent",
        "not finite",
        "ill-shaped",
        "ill-described",
        "miscounted",
        "of fewer than none",
    ],
)
def test_a_file_that_holds_no_such_statistics_is_refused(tmp_path: Path, how: str) -> None:
    with pytest.raises(WeightsError, match=rf"{how}\.safetensors: ") as caught:
        FidStatistics.load(damaged(tmp_path, how))
    assert "\n" not in str(caught.value)


def test_fewer_than_two_pictures_are_too_few() -> None:
    one, many = samples(1, 4, 1), samples(9, 4, 2)
    with pytest.raises(ValueError, match="at least 2 pictures a side, and here is 1"):
        frechet_distance(statistics(many), statistics(one))
    with pytest.raises(ValueError, match="at least 2 pictures a side"):
        frechet_distance_from_features(one, many)


def test_numbers_of_features_must_agree() -> None:
    with pytest.raises(ValueError, match="numbers of features differ: 4 and 5"):
        frechet_distance(statistics(samples(9, 4, 1)), statistics(samples(9, 5, 1)))
    with pytest.raises(ValueError, match="numbers of features differ: 4 and 5"):
        frechet_distance_from_features(samples(9, 4, 1), samples(9, 5, 1))
