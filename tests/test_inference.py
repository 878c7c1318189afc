"""restore.inference: the same kind, shape and depth comes back; tiles equal wholes; bad numbers stay where they are."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from restore import inference
from restore.errors import DeviceError, ImageError, UsageError
from restore.images import from_float, read_photo
from restore.inference import Restorer, find_device, load
from restore.memory import is_out_of_memory
from restore.models import PRESETS, NAFNet, NAFNetConfig
from restore.models.nafnet import Stage
from restore.types import Precision
from restore.weights import WeightsInfo


class Identity(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Brighten(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.25


def small_net(**changes: Any) -> NAFNet:
    config = NAFNetConfig(8, (Stage(1, "lka"), Stage(1)), Stage(1), (Stage(1), Stage(1)), **changes)
    generator = torch.Generator().manual_seed(2)
    network = NAFNet(config).eval()
    with torch.no_grad():
        for param in network.parameters():
            param.copy_(0.1 * torch.randn(param.shape, generator=generator) + (param == 1))
    return network


def random_picture(dtype: str, *shape: int) -> npt.NDArray[Any]:
    generator = np.random.default_rng(3)
    if dtype == "float32":
        return generator.random(shape, dtype=np.float32)
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 3), (300, 133, 3), (133, 300)])
@pytest.mark.parametrize("tile", ["auto", "off", 256])
def test_an_identity_gives_every_picture_back(dtype: str, shape: tuple[int, ...], tile: Any) -> None:
    picture = random_picture(dtype, *shape)
    restored = Restorer(Identity(), tile=tile)(picture)
    assert restored.dtype == picture.dtype
    np.testing.assert_allclose(restored, picture, rtol=0, atol=1e-6 if dtype == "float32" else 0)


@pytest.mark.parametrize("shape", [(3, 20, 30), (2, 3, 20, 30), (1, 20, 30)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.uint16])
def test_tensors_come_back_as_tensors(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    picture = torch.from_numpy(random_picture(str(dtype).removeprefix("torch."), *shape))
    restored = Restorer(Identity())(picture)
    assert restored.dtype == dtype
    assert not restored.is_inference()  # it may be changed, and trained on
    np.testing.assert_allclose(restored.numpy(), picture.numpy(), rtol=0, atol=1e-6 if dtype.is_floating_point else 0)


def test_an_array_and_its_tensor_agree() -> None:
    picture = random_picture("float32", 40, 24, 3)
    restorer = Restorer(small_net())
    tensor = restorer(torch.from_numpy(picture).permute(2, 0, 1))
    np.testing.assert_allclose(restorer(picture), tensor.permute(1, 2, 0).numpy(), atol=1e-6)


def test_a_folded_copy_restores_and_the_network_stays_as_it_was() -> None:
    network = small_net()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    restorer = Restorer(network)
    restorer(random_picture("float32", 16, 16, 3))
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert sum(p.numel() for p in restorer.network.parameters()) < sum(p.numel() for p in network.parameters())


def test_a_batch_equals_its_pictures() -> None:
    pictures = torch.rand(3, 3, 20, 28)
    restorer = Restorer(small_net())
    singles = torch.stack([restorer(picture) for picture in pictures])
    assert torch.allclose(restorer(pictures), singles, atol=1e-5)


@pytest.mark.parametrize("scales", [1, 3])
def test_grey_stays_grey_and_equals_the_mean_of_its_colour_copy(scales: int) -> None:
    grey = random_picture("float32", 24, 24)
    restorer = Restorer(small_net(scales=scales))
    colour = restorer(np.repeat(grey[..., None], 3, axis=2), clip=False)
    np.testing.assert_allclose(restorer(grey, clip=False), colour.mean(2), atol=1e-5)


def test_strength_blends_with_the_input() -> None:
    picture = np.full((8, 8, 3), 0.5, np.float32)
    restorer = Restorer(Brighten())
    for strength, expected in ((0.0, 0.5), (0.5, 0.625), (1.0, 0.75)):
        np.testing.assert_allclose(restorer(picture, strength=strength), expected, atol=1e-6)


def test_floats_are_clipped_unless_asked_and_integers_always() -> None:
    restorer = Restorer(Brighten())
    bright = np.full((4, 4, 3), 0.9, np.float32)
    np.testing.assert_allclose(restorer(bright), 1.0)
    np.testing.assert_allclose(restorer(bright, clip=False), 1.15, atol=1e-6)
    assert restorer(np.full((4, 4), 250, np.uint8), clip=False).max() == 255
    np.testing.assert_allclose(restorer(np.zeros((4, 4), np.float32)), 0.25)  # a black picture may change too


def test_values_that_are_no_numbers_stay_alone_and_where_they_are() -> None:
    picture = random_picture("float32", 40, 40, 3)
    picture[5, 5, 0], picture[6, 6] = np.nan, np.inf
    restored = Restorer(small_net())(picture, clip=False)
    np.testing.assert_array_equal(np.isfinite(restored), np.isfinite(picture))
    assert np.isnan(restored[5, 5, 0])


@pytest.mark.parametrize("stem", [1, 2])
def test_tiles_equal_the_whole_within_one_of_255(stem: Any) -> None:
    network = small_net(stem=stem, sca_window=32)
    picture = random_picture("float32", 300, 420, 3)
    whole = Restorer(network, tile="off")(picture, clip=False)
    tiled = Restorer(network, tile=256)(picture, clip=False)
    assert np.abs(whole - tiled).max() < 1 / 255


@pytest.mark.parametrize(
    ("name", "tile"), [("denoise", 512), ("denoise-fast", 512), ("denoise-lka", 512), ("deblur-fast", 1024)]
)
def test_shipped_weights_in_tiles_equal_the_whole_within_one_of_255(shared: Path, name: str, tile: int) -> None:
    photo = read_photo(shared / "data" / "test" / "gopro" / "blur" / "GOPR0385_11_00_000190.webp")
    picture = photo.pixels[:500].astype(np.float32) / 255
    whole = load(name, tile="off")(picture, clip=False)
    tiled = load(name, tile=tile)(picture, clip=False)
    assert np.abs(whole - tiled).max() < 1 / 255


@pytest.mark.parametrize("ensemble", [1, 4])
def test_several_scales_in_tiles_equal_the_whole_within_one_of_255(ensemble: int) -> None:
    network = small_net(stem=2, sca_window=32, scales=3)
    picture = random_picture("float32", 301, 700, 3)  # two tiles at half the size, too
    whole = Restorer(network, tile="off", ensemble=ensemble)(picture, clip=False)
    tiled = Restorer(network, tile=256, ensemble=ensemble)(picture, clip=False)
    assert np.abs(whole - tiled).max() < 1 / 255
    if ensemble == 1:
        expected = network(torch.from_numpy(picture).movedim(-1, 0)[None])[0].movedim(0, -1)
        np.testing.assert_allclose(whole, expected.detach(), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (33, 20), (1025, 9)])
@torch.no_grad()
def test_several_scales_take_any_size_kind_and_depth(height: int, width: int) -> None:
    network = small_net(scales=3, sigma_input=True)
    restorer = Restorer(network, tile="off")
    colour = random_picture("uint16", height, width, 3)
    image = torch.from_numpy(colour.astype(np.float32) / 65535).movedim(-1, 0)
    expected = network(image[None], torch.tensor([0.1]))[0]
    torch.testing.assert_close(restorer(image, sigma=0.1, clip=False), expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(restorer(colour, sigma=0.1) / 65535, expected.movedim(0, -1).clip(0, 1), atol=1e-5)
    grey = random_picture("uint8", height, width)
    np.testing.assert_allclose(restorer(grey) / 255, restorer(grey.astype(np.float32) / 255), atol=0.51 / 255)


@pytest.mark.parametrize("name", ["denoise-fast", "deblur-fast"])
def test_a_light_far_above_white_disturbs_nothing_around_it(name: str) -> None:
    picture = 0.5 + 0.1 * random_picture("float32", 64, 64, 3)
    white = picture.copy()
    white[20, 20], picture[20, 20] = 2, 12
    expected, found = (load(name, device="cpu")(one, clip=False) for one in (white, picture))
    expected[20, 20] += 10
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_networks_see_noise_beyond_black_and_white_but_no_lights_and_all_of_it_comes_back() -> None:
    seen = []

    class Looks(Brighten):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x[0, :, 0].clone())
            return super().forward(x)

    picture = np.array([[-3, -0.5, 0.5, 1.5, 5]], np.float32)
    restored = Restorer(Looks())(picture, clip=False)
    assert [values.tolist() for values in seen] == [[[-1, -0.5, 0.5, 1.5, 2]] * 3]
    np.testing.assert_allclose(restored, picture + 0.25)


def test_values_that_are_no_numbers_stay_where_they_are_at_several_scales() -> None:
    picture = random_picture("float32", 40, 40, 3)
    picture[5, 5, 0], picture[6, 6] = np.nan, np.inf
    restored = Restorer(small_net(scales=3))(picture, clip=False)
    np.testing.assert_array_equal(np.isfinite(restored), np.isfinite(picture))
    black = np.where(np.isfinite(picture), picture, 0)
    expected = Restorer(small_net(scales=3))(black, clip=False)
    np.testing.assert_allclose(restored[np.isfinite(picture)], expected[np.isfinite(picture)], atol=1e-6)


def test_a_scale_on_which_the_network_explodes_changes_nothing() -> None:
    network = small_net(scales=2)
    picture = torch.full((3, 64, 64), 0.5)
    whole_size = network.refine(picture[None], None, torch.zeros(1, 3, 64, 64))[0]
    refine = network.refine

    def fails_at_half_the_size(x: Tensor, *args: Tensor, **kwargs: Tensor) -> Tensor:
        return 100 + x if x.shape[-1] == 32 else refine(x, *args, **kwargs)

    restorer = Restorer(network)
    restorer.network.refine = fails_at_half_the_size  # type: ignore[assignment]  # in place of the method
    restored, notes = restorer.restore(picture, clip=False)
    assert notes == ()
    torch.testing.assert_close(restored, whole_size.detach(), atol=1e-5, rtol=0)


def test_pictures_that_gradients_are_asked_of_are_restored_without_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    halves: list[Tensor] = []
    halved = inference._halved

    def watched(source: Tensor) -> Tensor:
        halves.append(halved(source))
        return halves[-1]

    monkeypatch.setattr(inference, "_halved", watched)
    picture = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert not Restorer(small_net(scales=3))(picture).requires_grad
    assert [half.requires_grad for half in halves] == [False, False]


class AlongTheRows(nn.Module):
    """Shifts a picture to the right by a pixel, so that orientation matters."""

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(1, -1)


@pytest.mark.parametrize(("ensemble", "directions"), [(1, "r"), (2, "rd"), (4, "rldu"), (8, "rldurldu")])
def test_a_self_ensemble_averages_over_orientations(ensemble: int, directions: str) -> None:
    picture = random_picture("float32", 64, 128, 3)
    shifts = {"r": (1, 1), "l": (-1, 1), "d": (1, 0), "u": (-1, 0)}
    expected = np.mean([np.roll(picture, *shifts[direction]) for direction in directions], axis=0)
    # what rolls over the border of a shifted view comes from pixels that complete it
    seen = (slice(1, -1), slice(1, -1)) if ensemble > 1 else ()
    restored = Restorer(AlongTheRows(), ensemble=ensemble)(picture)
    np.testing.assert_allclose(restored[seen], expected[seen], atol=1e-6)


class Askew(nn.Module):
    """Shifts a picture downwards by a pixel and to the right by two, which no turn of its mirror image does."""

    def forward(self, x: Tensor) -> Tensor:
        return x.roll((1, 2), (-2, -1))


def test_a_self_ensemble_of_eight_takes_every_view_of_a_picture_once() -> None:
    picture = random_picture("float32", 64, 128, 3)
    directions = [*product((1, -1), (2, -2)), *product((2, -2), (1, -1))]
    expected = np.mean([np.roll(picture, direction, (0, 1)) for direction in directions], axis=0)
    inner = slice(2, -2), slice(2, -2)
    np.testing.assert_allclose(Restorer(Askew(), ensemble=8)(picture)[inner], expected[inner], atol=1e-6)


def test_a_self_ensemble_is_as_the_weights_say_unless_asked() -> None:
    info = WeightsInfo(Path("net.safetensors"), {"ensemble": 4}, 0, 0)
    assert Restorer(Identity()).ensemble == 1
    assert Restorer(Identity(), info).ensemble == 4
    assert Restorer(Identity(), info, ensemble=2).ensemble == 2


@pytest.mark.parametrize("ensemble", [0, 3, 16])
def test_a_self_ensemble_that_does_not_exist_is_refused(ensemble: int) -> None:
    with pytest.raises(UsageError, match=f"ensemble {ensemble}: choose 1, 2, 4, 8"):
        Restorer(Identity(), ensemble=ensemble)


def test_every_second_view_of_a_self_ensemble_is_shifted_by_a_pixel() -> None:
    network, picture = small_net(stem=2), random_picture("float32", 48, 64, 3)
    shifted = np.pad(picture, ((1, 15), (1, 15), (0, 0)), mode="reflect")  # completed to multiples of 16
    turned_and_restored = Restorer(network)(np.rot90(shifted), clip=False)
    views = Restorer(network)(picture, clip=False), np.rot90(turned_and_restored, -1)[1:49, 1:65]
    restored = Restorer(network, ensemble=2)(picture, clip=False)
    np.testing.assert_allclose(restored, np.mean(views, axis=0), atol=1e-6)
    assert np.abs(views[0] - views[1]).max() > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (2, 3)])
def test_a_self_ensemble_takes_the_smallest_pictures(size: tuple[int, int]) -> None:
    picture = random_picture("float32", *size, 3)
    np.testing.assert_allclose(Restorer(Identity(), ensemble=8)(picture), picture, atol=1e-6)


@pytest.mark.parametrize(("window_px", "completed"), [(64, (48, 112)), (192, (64, 128))])
def test_a_self_ensemble_completes_pictures_no_further_than_strides_and_cells_take(
    window_px: int, completed: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    refine = NAFNet.refine

    def watched(network: NAFNet, x: Tensor, *args: Any) -> Tensor:
        sizes.append(tuple(x.shape[-2:]))
        return refine(network, x, *args)

    monkeypatch.setattr(NAFNet, "refine", watched)
    Restorer(small_net(stem=2, sca_window=window_px), ensemble=4)(random_picture("float32", 33, 100, 3))
    assert sizes == [completed, completed[::-1]] * 2


@pytest.mark.parametrize(("window_px", "width"), [(192, 320), (384, 384)])
def test_tiles_begin_where_cells_of_the_attention_do(
    window_px: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = []
    refine = NAFNet.refine

    def watched(network: NAFNet, x: Tensor, *args: Any) -> Tensor:
        widths.append(x.shape[-1])
        return refine(network, x, *args)

    monkeypatch.setattr(NAFNet, "refine", watched)
    Restorer(small_net(stem=2, sca_window=window_px), tile=300)(random_picture("float32", 16, 500, 3))
    assert widths[0] == width


def test_the_noise_level_reaches_the_network() -> None:
    picture = random_picture("float32", 16, 16, 3)
    restorer = Restorer(small_net(sigma_input=True))
    blind, told, more = restorer(picture), restorer(picture, sigma=0.1), restorer(picture, sigma=0.2)
    assert np.abs(blind - told).max() > 1e-3
    assert np.abs(more - told).max() > 1e-3


@pytest.mark.parametrize("sigma", [0, 1])
def test_a_noise_level_may_be_a_whole_number(sigma: int) -> None:
    picture = random_picture("float32", 16, 16, 3)
    restorer = Restorer(small_net(sigma_input=True))
    np.testing.assert_array_equal(restorer(picture, sigma=sigma), restorer(picture, sigma=float(sigma)))


def test_a_network_that_cannot_be_told_says_so() -> None:
    with pytest.raises(UsageError, match="cannot be told"):
        Restorer(small_net())(random_picture("uint8", 8, 8, 3), sigma=0.1)


def tlc_net(base_px: int | None = 32, **changes: Any) -> tuple[NAFNet, WeightsInfo]:
    """A network without biases, whose features are 0 where the picture is black; and weights that ask for TLC."""
    config = NAFNetConfig(4, (Stage(1), Stage(1)), Stage(1), (Stage(1), Stage(1)), padding="constant", **changes)
    generator = torch.Generator().manual_seed(1)
    network = NAFNet(config).eval()
    with torch.no_grad():
        for name, param in network.named_parameters():
            noise = 0.2 * torch.randn(param.shape, generator=generator)
            param.copy_(torch.zeros_like(param) if name.endswith("bias") else noise + (param == 1))
    return network, WeightsInfo(Path("net.pth"), {} if base_px is None else {"tlc_px": base_px}, 0, 0)


def lamp_in_the_dark(height: int, width: int) -> npt.NDArray[np.float32]:
    """A black picture with one bright corner: there, local averages are far above global ones."""
    picture = np.zeros((height, width, 3), np.float32)
    picture[:16, :16] = 0.5 + 0.5 * random_picture("float32", 16, 16, 3)
    return picture


@pytest.mark.parametrize(
    ("said", "tlc", "expected"),
    [(None, "auto", None), (None, "on", 384), (96, "auto", 96), (96, "on", 96), (96, "off", None)],
)
def test_tlc_is_as_the_weights_say_unless_asked(said: int | None, tlc: str, expected: int | None) -> None:
    assert Restorer(*tlc_net(said), tlc=tlc).tlc_px == expected


def test_tlc_that_is_asked_for_fits_the_patches_of_the_training() -> None:
    network, _ = tlc_net()
    patches = [{"start": 0.0, "size": 64}, {"start": 0.5, "size": 128}]
    document = {"training": {"config": {"patches": patches}}}
    assert Restorer(network, WeightsInfo(Path("own"), document, 0, 0), tlc="on").tlc_px == 192
    assert Restorer(network, WeightsInfo(Path("own"), document, 0, 0)).tlc_px is None
    assert Restorer(network, WeightsInfo(Path("own"), document | {"tlc_px": 80}, 0, 0), tlc="on").tlc_px == 80


def test_tlc_averages_around_each_pixel_where_the_picture_is_larger() -> None:
    network, info = tlc_net(base_px=64)
    local, everywhere = Restorer(network, info), Restorer(network, info, tlc="off")
    small, large = random_picture("float32", 64, 48, 3), random_picture("float32", 64, 80, 3)
    np.testing.assert_array_equal(local(small, clip=False), everywhere(small, clip=False))
    expected = NAFNet(network.config).eval()
    expected.load_state_dict(network.state_dict())
    expected.use_local_statistics(64)
    image = torch.from_numpy(large).permute(2, 0, 1)[None]
    with torch.no_grad():
        np.testing.assert_allclose(
            local(large, clip=False), expected(image)[0].permute(1, 2, 0).numpy(), rtol=1e-4, atol=1e-5
        )
    assert np.abs(local(large, clip=False) - everywhere(large, clip=False)).max() > 1e-4


def test_a_network_that_averaged_locally_before_does_so_only_where_it_is_asked_for() -> None:
    network, _ = tlc_net()
    picture = random_picture("float32", 64, 80, 3)
    expected = Restorer(network)(picture)
    network.use_local_statistics(32)
    np.testing.assert_array_equal(Restorer(network)(picture), expected)


def test_a_network_that_averages_over_whole_pictures_is_not_tiled_unless_memory_is_short() -> None:
    network, _ = tlc_net()
    picture = random_picture("float32", 16, 1100, 3)
    np.testing.assert_array_equal(Restorer(network)(picture), Restorer(network, tile="off")(picture))


def test_tiles_equal_the_whole_under_tlc() -> None:
    network, info = tlc_net()
    picture = random_picture("float32", 200, 420, 3)
    whole = Restorer(network, info, tile="off")(picture, clip=False)
    tiled = Restorer(network, info, tile=256)(picture, clip=False)
    assert np.abs(whole - tiled).max() < 1 / 255


def test_tlc_asks_for_averages_over_whole_pictures() -> None:
    network, info = tlc_net(sca_window=32)
    for other in (network, Identity()):
        assert Restorer(other, info).tlc_px is None
        with pytest.raises(UsageError, match=r"tlc on: .* leave it out"):
            Restorer(other, info, tlc="on")
    picture = random_picture("float32", 40, 80, 3)
    np.testing.assert_array_equal(Restorer(network, info)(picture), Restorer(network, info, tlc="off")(picture))


@pytest.mark.parametrize("tile", ["off", 256])
def test_a_picture_that_tlc_would_spoil_is_restored_without_it_and_this_is_said(tile: Any) -> None:
    network, info = tlc_net()
    restorer, plain = Restorer(network, info, tile=tile), Restorer(network, info, tile=tile, tlc="off")
    lamp, ordinary = lamp_in_the_dark(64, 384), random_picture("float32", 64, 384, 3)
    restored, notes = restorer.restore(lamp)
    assert len(notes) == 1
    assert "restored without TLC: " in notes[0]
    np.testing.assert_array_equal(restored, plain(lamp))
    with pytest.warns(UserWarning, match="without TLC") as caught:
        np.testing.assert_array_equal(restorer(lamp), restored)
    assert [warning.filename for warning in caught] == [__file__]
    _, notes = restorer.restore(ordinary)  # the next picture gets its local averages again
    assert notes == ()
    assert np.abs(restorer(ordinary) - plain(ordinary)).max() > 1e-4


def test_threads_that_share_a_network_under_tlc_do_not_disturb_each_other() -> None:
    restorer = Restorer(*tlc_net())
    pictures = [lamp_in_the_dark(96, 96), *(random_picture("float32", 96, 96, 3) for _ in range(3))]
    alone = [restorer.restore(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(restorer.restore, 10 * pictures))
    for (restored, notes), (expected, expected_notes) in zip(together, 10 * alone, strict=True):
        np.testing.assert_array_equal(restored, expected)
        assert notes == expected_notes


def test_factors_up_to_thrice_the_global_ones_are_no_reason_to_do_without_tlc() -> None:
    network, info = tlc_net()
    dim = np.maximum(lamp_in_the_dark(64, 384), np.float32(0.06))
    _, notes = Restorer(network, info, tile="off").restore(dim)
    assert notes == ()
    network.use_local_statistics(32)
    with torch.no_grad():
        network(torch.from_numpy(dim).permute(2, 0, 1)[None])
    assert 1 < network.statistics_disagreement() < 2


@pytest.mark.parametrize(("disagreement", "notes"), [(2.0, ()), (2.01, ("201 %",))])
def test_tlc_is_done_without_where_factors_are_more_than_thrice_the_global_ones(
    monkeypatch: pytest.MonkeyPatch, disagreement: float, notes: tuple[str, ...]
) -> None:
    told = [0.0, disagreement]
    monkeypatch.setattr(NAFNet, "statistics_disagreement", lambda _network: told.pop())
    _, found = Restorer(*tlc_net()).restore(random_picture("float32", 16, 16, 3))
    assert [word in note for word, note in zip(notes, found, strict=True)] == [True] * len(notes)


def test_half_precision_has_the_guard_too() -> None:
    network, info = tlc_net()
    with pytest.warns(UserWarning, match="without TLC"):
        restored = Restorer(network, info, precision="bf16")(lamp_in_the_dark(64, 384))
    np.testing.assert_array_equal(
        restored, Restorer(network, info, precision="bf16", tlc="off")(lamp_in_the_dark(64, 384))
    )


def test_a_batch_is_restored_without_tlc_where_one_of_its_pictures_is() -> None:
    restorer, plain = Restorer(*tlc_net()), Restorer(*tlc_net(), tlc="off")
    pictures = [lamp_in_the_dark(64, 192), random_picture("float32", 64, 192, 3)]
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    restored, notes = restorer.restore(batch)
    assert len(notes) == 1
    assert torch.equal(restored, plain(batch))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restorer(batch[1:])


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (0, 4, 3), (1, 4, 4, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Restorer(Identity())(np.zeros(shape, np.float32))


def test_other_depths_and_strengths_are_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        Restorer(Identity())(np.zeros((4, 4), np.float64))
    with pytest.raises(ValueError, match="object"):
        Restorer(Identity())(np.zeros((4, 4), object))
    for other in ([[0.5, 0.5], [0.5, 0.5]], Image.new("P", (4, 4))):
        with pytest.raises(TypeError, match=f"expected an array or a tensor, got {type(other).__name__}"):
            Restorer(Identity())(other)  # type: ignore[type-var]
    with pytest.raises(ValueError, match="strength"):
        Restorer(Identity())(np.zeros((4, 4), np.float32), strength=1.5)


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP16])
def test_half_precision_stays_near(precision: Precision) -> None:
    picture = random_picture("float32", 32, 32, 3)
    full, half = Restorer(small_net())(picture), Restorer(small_net(), precision=precision)(picture)
    assert 0 < np.abs(full - half).max() < 0.02


@pytest.mark.parametrize("ensemble", [1, 2])
def test_half_precision_ends_with_the_network(ensemble: int) -> None:
    restorer = Restorer(nn.Conv2d(3, 3, 1), precision="bf16", ensemble=ensemble)
    grey = random_picture("float32", 64, 64)
    colour = restorer(np.repeat(grey[..., None], 3, axis=2), clip=False)
    np.testing.assert_allclose(restorer(grey, clip=False), colour.mean(2), atol=1e-6)


class OverflowsInHalf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.nan if torch.is_autocast_enabled("cpu") else x


class AlwaysNaN(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.nan


def test_a_tile_that_overflows_in_half_precision_is_computed_again_in_float32() -> None:
    picture = random_picture("float32", 8, 8, 3)
    np.testing.assert_array_equal(Restorer(OverflowsInHalf(), precision="bf16")(picture), picture)


def test_a_picture_is_never_black_in_silence() -> None:
    with pytest.raises(ImageError, match="not finite"):
        Restorer(AlwaysNaN())(random_picture("uint8", 8, 8, 3))


class NeedsSmallTiles(nn.Module):
    def __init__(self, largest: int) -> None:
        super().__init__()
        self.largest = largest

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] > self.largest:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return x


def test_out_of_memory_halves_the_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[int | str] = []

    class Tells(NeedsSmallTiles):
        def forward(self, x: Tensor) -> Tensor:
            happened.append(x.shape[-1])
            return super().forward(x)

    monkeypatch.setattr(inference, "give_back_freed_memory", lambda: happened.append("given back"))
    picture = random_picture("uint8", 200, 1000, 3)
    np.testing.assert_array_equal(Restorer(Tells(256), tile=1000)(picture), picture)
    assert happened[:5] == [1000, "given back", 512, "given back", 256]


def test_out_of_memory_at_the_smallest_tile_is_said() -> None:
    with pytest.raises(DeviceError, match=r"out of memory on cpu .*; close other programs$"):
        Restorer(NeedsSmallTiles(0))(random_picture("uint8", 100, 100, 3))


def test_a_picture_that_does_not_fit_is_told_from_a_device_on_which_none_does(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.empty

    def refuse(size: Any, *args: Any, **kwargs: Any) -> Tensor:
        if 600 in size:  # the restored picture itself
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return empty(size, *args, **kwargs)

    monkeypatch.setattr(torch, "empty", refuse)
    restorer = Restorer(Identity())
    with pytest.raises(ImageError, match="not enough memory for this picture, even in tiles of 256 pixels"):
        restorer(random_picture("uint8", 600, 400, 3))
    with pytest.raises(DeviceError, match="out of memory on cpu"):
        Restorer(NeedsSmallTiles(0))(random_picture("uint8", 600, 400, 3))
    picture = random_picture("uint8", 500, 400, 3)
    np.testing.assert_array_equal(restorer(picture), picture)


def test_a_batch_that_does_not_fit_is_not_the_devices_fault() -> None:
    class NeedsSmallBatches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 1:
                raise MemoryError
            return x

    with pytest.raises(ImageError, match="not enough memory"):
        Restorer(NeedsSmallBatches())(torch.zeros(2, 3, 20, 20))


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9",
        "[enforce fail at alloc_cpu.cpp:72] data. DefaultCPUAllocator: not enough memory: you tried to allocate 9",
        "could not create a primitive",
        "std::bad_alloc",
        "OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 5880000",
    ],
)
def test_out_of_memory_is_understood_whoever_says_it(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_out_of_memory(RuntimeError("could not create a primitive descriptor for a convolution"))
    assert not is_out_of_memory(OSError(2, "No such file or directory", f"{message}.png"))


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_bfloat16_is_chosen_where_the_gpu_has_it_itself(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # imitated ones count
    assert inference._choose_precision(Precision.AUTO, torch.device("cuda", 1)) == precision


def test_what_torch_keeps_of_a_gpu_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, amount in (("mem_get_info", (3, 80)), ("memory_reserved", 20), ("memory_allocated", 5)):
        monkeypatch.setattr(torch.cuda, name, lambda _, amount=amount: amount)
    assert inference._free_memory(torch.device("cuda")) == 18


@pytest.fixture(params=["tf32", "ieee"])  # the latter alone makes torch refuse to tell of allow_tf32
def conv(request: pytest.FixtureRequest) -> Iterator[Any]:
    conv = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # torch does not declare it
    usual = conv.fp32_precision
    conv.fp32_precision = request.param
    yield conv
    conv.fp32_precision = usual


def test_float32_is_not_rounded_to_tf32_in_between(conv: Any) -> None:
    seen, before = [], conv.fp32_precision

    class Looks(Identity):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(conv.fp32_precision)
            return x

    Restorer(Looks())(random_picture("uint8", 20, 20, 3))
    assert (seen, conv.fp32_precision) == (["ieee"], before)


def test_a_thread_that_is_done_does_not_round_the_float32_of_another(conv: Any) -> None:
    seen, before = [], conv.fp32_precision
    first_is_inside, second_is_inside, first_is_done = (threading.Event() for _ in range(3))

    class Looks(Identity):
        def forward(self, x: Tensor) -> Tensor:
            if not first_is_inside.is_set():
                first_is_inside.set()
                second_is_inside.wait(60)
            else:
                second_is_inside.set()
                first_is_done.wait(60)
            seen.append(conv.fp32_precision)
            return x

    restorer, picture = Restorer(Looks()), random_picture("uint8", 20, 20, 3)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(restorer, picture)
        first_is_inside.wait(60)
        second = threads.submit(restorer, picture)
        first.result()
        first_is_done.set()
        second.result()
    assert (seen, conv.fp32_precision) == (["ieee", "ieee"], before)


@pytest.mark.parametrize(
    ("free_gb", "num", "side"),
    [(20, 1, 1024), (5.2, 1, 1024), (4.0, 1, 512), (3.0, 1, 512), (5.2, 4, 512), (0.1, 1, 256)],
)
def test_automatic_tiles_are_halved_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch, free_gb: float, num: int, side: int
) -> None:
    monkeypatch.setattr(inference, "_free_memory", lambda _: int(free_gb * 1e9))
    sides = []

    class Looks(Identity):
        def forward(self, x: Tensor) -> Tensor:
            sides.append(x.shape[-1])
            return x

    restorer = Restorer(Looks())
    restorer(torch.zeros(num, 3, 1100, 1100))
    assert max(sides) == side
    monkeypatch.setattr(inference, "_free_memory", lambda _: int(3e9))
    del sides[:]
    restorer(torch.zeros(num, 3, 1100, 1100))  # the next frame of a video gets the tiles of the one before
    assert max(sides) == side


@pytest.mark.parametrize("name", ["denoise-fast", "deblur-fast"])
def test_tiles_add_no_flicker_to_the_frames_of_a_video(shared: Path, name: str) -> None:
    photo = read_photo(sorted((shared / "data" / "test" / "cbsd68").glob("*.jpg"))[3]).pixels
    generator = np.random.default_rng(0)
    frames = [
        from_float((photo / 255 + generator.normal(0, 0.04, photo.shape)).astype(np.float32), np.dtype(np.uint8))
        for _ in range(2)
    ]
    (first, second), (first_tiled, second_tiled) = (
        [load(name, device="cpu", tile=tile)(frame).astype(int) for frame in frames] for tile in ("off", 256)
    )
    flicker = np.abs((second_tiled - first_tiled) - (second - first))
    assert flicker.max() <= 2  # of 255, in single pixels
    assert flicker.mean() < 0.1


@pytest.mark.parametrize("ensemble", [1, 2])
def test_progress_is_told_tile_by_tile_up_to_all(ensemble: int) -> None:
    told: list[float] = []
    restorer = Restorer(small_net(stem=2, sca_window=32, scales=3), tile=256, ensemble=ensemble)
    restorer.restore(random_picture("uint8", 301, 700, 3), on_progress=told.append)
    assert len(told) == 2 * 5 + 2 + 1  # tiles of each size
    assert told == sorted(told)
    assert 0 < told[0] < 0.1
    assert told[-1] == 1


@pytest.mark.parametrize("width", [3, 8])
def test_narrow_pictures_are_restored_too(width: int) -> None:
    noise = np.random.default_rng(0).standard_normal((300, width, 3), np.float32)
    restored = load("denoise-fast")(0.5 + 0.08 * noise, clip=False)
    assert restored.std() < 0.04


def test_the_memory_that_a_cpu_frees_is_kept_for_the_next_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    monkeypatch.setattr(inference, "keep_freed_memory", lambda: told.append(True))
    load("denoise-fast", device="cpu")
    assert told


def test_devices() -> None:
    assert find_device("cpu").type == "cpu"
    for wrong in (
        "gpu",
        "cuda:x",
        "tpu:0",
        "cuda:",
        "cuda:01",
        "cuda:\N{ARABIC-INDIC DIGIT ONE}",
        "cuda:-1",
        "cuda:0\n",
    ):
        with pytest.raises(UsageError, match="choose auto, cpu"):
            find_device(wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_missing_device_is_said() -> None:
    assert find_device("auto").type == "cpu"
    with pytest.raises(DeviceError, match="device cpu"):
        find_device("cuda:0")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(("scales", "ensemble"), [(1, 1), (3, 2)])
def test_cuda_agrees_with_the_cpu(scales: int, ensemble: int) -> None:
    picture, network = random_picture("float32", 64, 64, 3), small_net(scales=scales)
    cuda = Restorer(network, device="cuda", precision="fp32", ensemble=ensemble)(picture)
    np.testing.assert_allclose(cuda, Restorer(network, ensemble=ensemble)(picture), atol=1e-4)


def test_arrays_come_as_they_lie() -> None:
    picture = random_picture("uint16", 20, 30, 3)
    frozen = picture.copy()
    frozen.setflags(write=False)
    restorer = Restorer(small_net())
    expected = restorer(picture)
    for same in (picture[..., ::-1][..., ::-1], picture.astype(">u2"), frozen, np.asfortranarray(picture)):
        np.testing.assert_array_equal(restorer(same), expected)


def test_a_noise_level_on_the_wrong_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="divide by 255"):
        Restorer(small_net(sigma_input=True))(random_picture("uint8", 8, 8, 3), sigma=25)


def test_tiles_below_the_smallest_are_refused() -> None:
    with pytest.raises(UsageError, match="tile 8"):
        Restorer(Identity(), tile=8)


@pytest.mark.parametrize(("scales", "ensemble"), [(1, 1), (3, 2)])
def test_numbers_that_are_float64_by_default_change_nothing(scales: int, ensemble: int) -> None:
    picture = random_picture("uint8", 300, 30, 3)
    restorer = Restorer(small_net(stem=2, sigma_input=True, scales=scales), tile=256, ensemble=ensemble)
    expected = restorer(picture, sigma=0.1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        np.testing.assert_array_equal(restorer(picture, sigma=0.1), expected)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("tile", ["of", "512", 512.0, None])
def test_tiles_of_no_size_are_refused(tile: Any) -> None:
    with pytest.raises(UsageError, match="choose auto, off or a whole number of pixels"):
        Restorer(Identity(), tile=tile)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "precision fp8: choose auto, fp32, bf16, fp16"),
        ({"tlc": "maybe"}, "tlc maybe: choose auto, on, off"),
    ],
)
def test_words_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Restorer(Identity(), **options)


def test_loading_by_name_restores_a_noisy_ramp() -> None:
    clean = np.tile(np.linspace(0.2, 0.8, 96, dtype=np.float32)[:, None], (1, 96))[..., None].repeat(3, 2)
    noise = np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    noisy = clean + 25 / 255 * noise
    restored = inference.load("denoise-fast")(noisy)
    assert np.square(restored - clean).mean() < np.square(noisy - clean).mean() / 20


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_picture_on_which_the_network_explodes_comes_back_as_it_was(dtype: Any) -> None:
    network = NAFNet(PRESETS["half-naf-32"])
    torch.nn.init.constant_(network.ending.weight, 0)
    torch.nn.init.constant_(next(p for name, p in network.named_parameters() if name == "ending.bias"), 40)
    peak = 1 if dtype == np.float32 else np.iinfo(dtype).max
    picture = (np.random.default_rng(0).random((20, 24, 3)) * peak).astype(dtype)
    restored, notes = Restorer(network).restore(picture)
    assert np.array_equal(restored, picture)
    (note,) = notes
    assert note == "left as it was: the network fails on what is there; other weights may not"
    with pytest.warns(UserWarning, match="left as it was"):
        Restorer(network)(picture)


@pytest.mark.parametrize(
    ("value", "change", "is_sound"), [(0.0, 5, True), (1, 5.1, False), (2, 10, True), (2, 11, False)]
)
def test_a_network_explodes_by_five_times_the_brightest_value(value: float, change: float, *, is_sound: bool) -> None:
    class Shifts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + change

    restored, notes = Restorer(Shifts()).restore(np.full((4, 5, 3), value, np.float32), clip=False)
    np.testing.assert_allclose(restored, value + change if is_sound else value)
    assert len(notes) == (not is_sound)


class ExplodesOnWhite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x.amax((1, 2, 3), keepdim=True) == 1, 100 * x, x + 0.25)


@pytest.mark.parametrize("shape", [(256, 1100, 3), (1100, 256, 3)], ids=["wide", "tall"])
def test_where_the_network_explodes_only_that_tile_stays_as_it_was(shape: tuple[int, int, int]) -> None:
    picture = np.full(shape, 0.5, np.float32)
    picture[20, 20] = 1
    before = picture.copy()
    restored, (note,) = Restorer(ExplodesOnWhite(), tile=256).restore(picture)
    assert note == "left as it was in 1 of 8 tiles: the network fails on what is there; other weights may not"
    np.testing.assert_array_equal(picture, before)
    along = restored[0, :, 0] if shape[1] > shape[0] else restored[:, 0, 0]
    np.testing.assert_array_equal(along[:128], 0.5)
    np.testing.assert_array_equal(along[256:], 0.75)
    assert (np.diff(along) >= 0).all()  # blended, not cut


def test_of_a_batch_only_the_picture_stays_as_it_was_on_which_the_network_explodes() -> None:
    batch = torch.full((2, 3, 20, 24), 0.5)
    batch[1, 0, 3, 4] = 1
    restored, (note,) = Restorer(ExplodesOnWhite()).restore(batch)
    assert note == "left as it was in 1 of 2 tiles: the network fails on what is there; other weights may not"
    assert torch.equal(restored[1], batch[1])
    assert (restored[0] == 0.75).all()


def test_tiles_equal_the_whole_with_a_self_ensemble() -> None:
    network = small_net(stem=2, sca_window=32)
    picture = random_picture("float32", 300, 420, 3)
    whole = Restorer(network, tile="off", ensemble=8)(picture, clip=False)
    tiled = Restorer(network, tile=256, ensemble=8)(picture, clip=False)
    assert np.abs(whole - tiled).max() < 1 / 255


class ExplodesOnWhiteAtTheTop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x[:, :, 0].amax((1, 2)).view(-1, 1, 1, 1) == 1, 100 * x, x + 0.25)


def test_views_on_which_the_network_explodes_are_left_out_of_a_self_ensemble() -> None:
    batch = torch.full((3, 3, 63, 63), 0.5)  # with a pixel more on the left, nothing completes it on the right
    batch[1, 0, 0, 9] = batch[2, 0, [0, 9], [9, -1]] = 1
    restored, (note,) = Restorer(ExplodesOnWhiteAtTheTop(), ensemble=2).restore(batch)
    assert note == "left as it was in 1 of 3 tiles: the network fails on what is there; other weights may not"
    torch.testing.assert_close(restored[:2], (batch[:2] + 0.25).clamp(max=1))
    assert torch.equal(restored[2], batch[2])
