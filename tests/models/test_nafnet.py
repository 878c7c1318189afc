from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from plain_nets import plain_net, randomise
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from restore.models import ARCHITECTURES, PRESETS, NAFNet, NAFNetConfig
from restore.models.attention import LSKA_KERNELS
from restore.models.blocks import LKABlock, NAFBlock
from restore.models.deformable import DeformableDepthwiseConv2d
from restore.models.layers import ACTIVATIONS, NORMS, SCA, DepthwiseConv2d, SimpleGate
from restore.models.nafnet import ADDITIONS, Stage, founding_net, half_resolution_net, nafnet_gopro, nafnet_sidd
from restore.weights import load_weights

CONFIGS = {
    "founding": founding_net(4),
    "half-naf": half_resolution_net(4),
    "quarter": replace(half_resolution_net(4), stem=4, padding="constant"),
    "published": replace(nafnet_sidd(3), encoder=(Stage(1), Stage(2), Stage(0), Stage(1)), middle=Stage(2)),
    "grey": replace(half_resolution_net(4), channels=1),
}


def network_and_plain(config: NAFNetConfig) -> tuple[NAFNet, torch.nn.Module]:
    network = NAFNet(config).eval()
    randomise(network)
    return network, plain_net(config.as_dict(), network.state_dict())


def picture(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("window_px", "stem", "windows"),
    [
        (64, 2, [32, 16, 8, 16, 32]),
        (64, 1, [64, 32, 16, 32, 64]),
        (6, 2, [3, 1, 1, 1, 3]),
        (100, 4, [25, 12, 6, 12, 25]),
    ],
)
def test_attention_averages_over_the_same_part_of_the_picture_at_every_size(
    window_px: int, stem: int, windows: list[int]
) -> None:
    one, two = Stage(1), Stage(2)
    network = NAFNet(NAFNetConfig(4, (one, two), one, (one, one), stem=stem, sca_window=window_px))
    stages = [*network.encoders, network.middle_blks, *network.decoders]
    found = [{module.window for module in stage.modules() if isinstance(module, SCA)} for stage in stages]
    assert found == [{window} for window in windows]


@pytest.mark.parametrize(
    ("stem", "window_px", "grid_px"),
    [(2, 64, 16), (2, 48, 16), (1, 64, 16), (2, 192, 64), (4, 400, 128), (4, None, 16), (2, 100, 32)],
)
@torch.no_grad()
def test_a_network_does_the_same_one_grid_further(stem: int, window_px: int | None, grid_px: int) -> None:
    one = Stage(1)
    network = NAFNet(NAFNetConfig(4, (one, one), one, (one, one), stem=stem, sca_window=window_px)).double()
    randomise(network)
    assert network.grid_px == grid_px
    if window_px is None or window_px > 100:  # then all pixels depend on all
        return
    image = picture(1, 3, 480, 480).double()
    same, shorter = (network(image[..., by:])[..., 240 - by : 260 - by] for by in (grid_px, grid_px // 2))
    expected = network(image)[..., 240:260]
    torch.testing.assert_close(same, expected, atol=1e-9, rtol=0)
    assert (shorter - expected).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("name", "millions", "gmacs"),
    [
        ("founding-12", 0.44, 1.51),
        ("founding-12-deeper", 0.83, None),
        ("founding-16", 0.77, 2.52),
        ("founding-32", 2.98, 9.14),
        ("half-naf-32", 0.78, None),
        ("half-naf-48", 1.73, None),
        ("half-naf-64", 3.05, None),
        ("half-naf-32-slim", 1.00, None),
        ("half-naf-32-slimmer", 0.74, None),
        ("half-naf-48-medium", 2.46, None),
        ("half-naf-48-slim-deep", 3.50, None),
        ("half-naf-48-deep", 3.32, None),
        ("half-naf-48-deeper", 4.15, None),
        ("half-naf-48-large", 2.60, None),
        ("half-naf-48-large-deep", 4.19, None),
        ("nafnet-gopro-32", 17.11, 15.96),
        ("nafnet-sidd-32", 29.16, 16.05),
        ("nafnet-gopro-64", 67.89, 63.05),
    ],
)
def test_presets_have_the_published_size_and_cost(name: str, millions: float, gmacs: float | None) -> None:
    with torch.device("meta"):
        network, image = NAFNet(PRESETS[name]), torch.empty(1, 3, 256, 256)
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 2) == millions
    if gmacs is not None:
        with FlopCounterMode(display=False) as counter:
            network(image)
        assert round(counter.get_total_flops() / 2e9, 2) == gmacs


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_a_network_is_its_plain_transcription(name: str) -> None:
    config = CONFIGS[name]
    network, plain = network_and_plain(config)
    for size in [(1, 1), (19, 42)]:
        image = picture(2, config.channels, *size)
        torch.testing.assert_close(network(image), plain(image), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_folding_keeps_the_output(name: str) -> None:
    config = CONFIGS[name]
    network, plain = network_and_plain(config)
    network.fold()
    image = picture(1, config.channels, 33, 20).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(image), plain(image), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_a_configuration_survives_json(name: str) -> None:
    config = PRESETS[name]
    text = json.dumps(config.as_dict())
    assert NAFNetConfig.from_dict(json.loads(text)) == config
    with torch.device("meta"):
        network = ARCHITECTURES["nafnet"](json.loads(text))
    assert network.config == config


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"stem": 3}, ValueError, "stem must be 1, 2 or 4, not 3"),
        ({"stem": 2.0}, ValueError, "stem must be a whole number, not 2.0"),
        ({"stem": True}, ValueError, "stem must be a whole number, not True"),
        ({"decoder": []}, ValueError, "2 encoder stages need as many decoder stages, not 0"),
        ({"colour": "blue"}, TypeError, "colour"),
        ({"middle": {"num_blocks": 1, "sort": "naf"}}, TypeError, "sort"),
        ({"middle": {"num_blocks": 1, "kind": "nef"}}, ValueError, "kind naf or lka, not 1 of 'nef'"),
        ({"middle": {"num_blocks": 1, "attention": "lko"}}, ValueError, "attention must be one of lka, .*, not 'lko'"),
        ({"middle": {"num_blocks": 1, "feed_forward": "cnn"}}, ValueError, "feed_forward must be one of mlp, .*'cnn'"),
        ({"middle": {"num_blocks": 1, "activation": "elu"}}, ValueError, "activation must be one of gelu, .*'elu'"),
        ({"middle": {"num_blocks": 1, "norm": "batch"}}, ValueError, "norm must be one of layer, group, not 'batch'"),
        ({"middle": {"num_blocks": 1, "offsets": "many"}}, ValueError, "offsets must be one of dense, separable"),
        ({"middle": {"num_blocks": 1, "drop_path": 1.0}}, ValueError, "drop_path in"),
        ({"middle": {"num_blocks": 1, "drop_path": -0.1}}, ValueError, "drop_path in"),
        ({"scales": 0}, ValueError, "1 to 16 scales, not 0"),
        ({"scales": 5000}, ValueError, "1 to 16 scales, not 5000"),
        (
            {"scales": 2, "stem": 1, "encoder": [], "decoder": [], "padding": "constant"},
            ValueError,
            "sizes that can be halved",
        ),
        ({"sca_limit": 0}, ValueError, "sca_limit must be larger than 0 and finite, not 0"),
        ({"width": 4097}, ValueError, "impossible: width 4097"),
        ({"width": 0}, ValueError, "impossible: width 0"),
        ({"padding": "circular"}, ValueError, "impossible: .* padding 'circular'"),
        ({"channels": 0}, ValueError, "impossible: .* 0 channels"),
        ({"sca_limit": float("inf")}, ValueError, "sca_limit must be larger than 0 and finite, not inf"),
        ({"sca_limit": float("nan")}, ValueError, "sca_limit must be larger than 0 and finite, not nan"),
        ({"sca_window": 0}, ValueError, "sca_window must be 1 pixel or more, not 0"),
        ({"sca_window": -5}, ValueError, "sca_window must be 1 pixel or more, not -5"),
        ({"sca_window": 64.0}, ValueError, "sca_window must be a whole number, not 64.0"),
        ({"sigma_input": "False"}, ValueError, "sigma_input must be true or false, not 'False'"),
        ({"width": 32.0}, ValueError, "width must be a whole number, not 32.0"),
        ({"scales": True}, ValueError, "scales must be a whole number, not True"),
        ({"middle": {"num_blocks": 1, "inner_skip": 1}}, ValueError, "inner_skip must be true or false, not 1"),
        ({"middle": {"num_blocks": 1, "drop_path": "0"}}, ValueError, "drop_path must be a number, not '0'"),
        ({"middle": {"num_blocks": 1, "kernel_size": 0}}, ValueError, "kernel_size, dilation and expansion of 1"),
        ({"middle": {"num_blocks": 1, "dilation": 0}}, ValueError, "kernel_size, dilation and expansion of 1"),
        ({"middle": {"num_blocks": 1, "expansion": 0}}, ValueError, "kernel_size, dilation and expansion of 1"),
        ({"middle": {"num_blocks": -1}}, ValueError, "0 or more blocks of kind naf or lka, not -1"),
        ({"middle": {"num_blocks": 1, "attention": "lska"}}, ValueError, "one of 7, 11, .* for lska, not 21"),
    ],
)
def test_a_wrong_configuration_is_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        NAFNetConfig.from_dict(half_resolution_net(4).as_dict() | changes)


def test_a_document_from_before_the_newer_settings_still_describes_its_network() -> None:
    old = {"num_blocks": 1, "kind": "lka", "kernel_size": 21, "dilation": 3, "expansion": 4}
    document = {
        "width": 12,
        "encoder": [old | {"num_blocks": blocks} for blocks in (1, 3, 4, 0)],
        "middle": old | {"num_blocks": 0, "kind": "naf"},
        "decoder": [old | {"num_blocks": blocks, "kind": "naf"} for blocks in (1, 1, 1, 0)],
        "stem": 1,
        "channels": 3,
        "padding": "reflect",
        "sca_window": None,
        "sigma_input": False,
    }
    assert NAFNetConfig.from_dict(document) == founding_net(12)


@pytest.mark.parametrize("name", ["denoise-fast", "denoise-lka"])
@torch.no_grad()
def test_shipped_weights_load(name: str) -> None:
    network, info = load_weights(name)
    assert isinstance(network, NAFNet)
    assert network.config == NAFNetConfig.from_dict(info.document["network"])
    clean = picture(1, 3, 4, 4).repeat_interleave(16, 2).repeat_interleave(16, 3)
    noise = 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    left = network(clean + noise) - clean
    assert left.square().mean() < noise.square().mean() / 4


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"sca_window": 64}, False),
        ({"sca_window": 64, "middle": Stage(1, norm="group")}, True),
        ({"encoder": (Stage(1, "lka"),), "middle": Stage(0), "decoder": (Stage(0),)}, False),
        ({"encoder": (Stage(1, "lka", attention="sca"),), "middle": Stage(0), "decoder": (Stage(0),)}, True),
    ],
)
def test_a_network_knows_whether_its_result_depends_on_the_tile(changes: dict[str, Any], *, expected: bool) -> None:
    assert replace(half_resolution_net(4), **changes).is_global is expected


def told_network() -> NAFNet:
    network = NAFNet(replace(half_resolution_net(4), sigma_input=True)).eval()
    randomise(network)
    return network


@torch.no_grad()
def test_a_network_that_is_told_nothing_equals_one_that_cannot_be_told() -> None:
    told = told_network()
    blind = plain_net(told.config.as_dict(), told.state_dict())
    image = picture(3, 3, 18, 21)
    torch.testing.assert_close(told(image), blind(image), atol=1e-5, rtol=1e-4)
    assert torch.equal(told(image, torch.full((3,), -1.0)), told(image))


@torch.no_grad()
def block_of(**settings: Any) -> Any:
    """Return the block that a stage of these settings is built of."""
    return Stage(1, **settings).build(4, window=6)[0]


@pytest.mark.parametrize("kind", ["naf", "lka"])
def test_norm_and_drop_path_of_a_stage_reach_its_blocks(kind: str) -> None:
    for norm, build in NORMS.items():
        block = block_of(kind=kind, norm=norm, drop_path=0.3)
        assert isinstance(block, NAFBlock if kind == "naf" else LKABlock)
        assert type(block.norm1) is type(block.norm2) is type(build(4))
        assert block.drop_path.probability == 0.3
    assert block_of(kind="naf").sca.window == 6
    assert block_of(kind="lka", attention="sca").lka.window == 6


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activation_of_a_stage_reaches_attention_and_feed_forward(activation: str) -> None:
    expected = type(ACTIVATIONS[activation]())
    for feed_forward in ("mlp", "geglu", "gated"):
        block = block_of(kind="lka", activation=activation, feed_forward=feed_forward)
        assert type(block.activation) is expected
        assert type(block.gate if feed_forward == "mlp" else block.gate.activation) is expected


@pytest.mark.parametrize(
    ("feed_forward", "num_halves", "has_depthwise"),
    [("mlp", 1, True), ("geglu", 2, False), ("gated", 2, True), ("simple_gate", 2, False)],
)
def test_the_feed_forward_of_a_stage_is_the_one_it_names(
    feed_forward: str, num_halves: int, *, has_depthwise: bool
) -> None:
    block = block_of(kind="lka", feed_forward=feed_forward, expansion=3, inner_skip=False)
    assert block.expand.out_channels == 3 * 4 * num_halves
    assert isinstance(block.depthwise, DepthwiseConv2d) == has_depthwise
    assert isinstance(block.gate, SimpleGate) == (num_halves == 2)
    assert feed_forward != "simple_gate" or isinstance(block.gate.activation, nn.Identity)
    assert not block.inner_skip
    assert block_of(kind="lka").inner_skip


@pytest.mark.parametrize(
    ("kernel_size", "dilation", "local", "spread"), [(21, 3, 5, 7), (35, 4, 7, 9), (13, 2, 3, 7), (7, 1, 1, 7)]
)
def test_k_and_d_of_a_stage_make_the_kernels_of_its_attention(
    kernel_size: int, dilation: int, local: int, spread: int
) -> None:
    for attention in ("lka", "deformable_lka"):
        lka = block_of(kind="lka", attention=attention, kernel_size=kernel_size, dilation=dilation).lka
        assert lka.local.kernel_size == (local, local)
        assert lka.spread.kernel_size == (spread, spread)
        assert lka.local.dilation == (1, 1)
        assert lka.spread.dilation == ((dilation, dilation) if spread > 1 else (1, 1))
        assert isinstance(lka.local, DeformableDepthwiseConv2d) == (attention == "deformable_lka")


@pytest.mark.parametrize(("kernel_size", "kernels"), LSKA_KERNELS.items())
def test_k_of_a_stage_makes_the_rows_and_columns_of_lska(kernel_size: int, kernels: tuple[int, int, int]) -> None:
    lska = block_of(kind="lka", attention="lska", kernel_size=kernel_size).lka
    local, spread, dilation = kernels
    assert [conv.kernel_size for conv in lska.local] == [(1, local), (local, 1)]
    assert [conv.kernel_size for conv in lska.spread] == [(1, spread), (spread, 1)]
    assert [conv.dilation for conv in lska.spread] == [(1, dilation), (dilation, 1)]


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize(("offsets", "prediction"), [("dense", nn.Conv2d), ("separable", nn.Sequential)])
def test_offsets_and_factors_of_a_stage_are_predicted_as_it_says(
    offsets: str, prediction: type[nn.Module], *, modulated: bool
) -> None:
    lka = block_of(kind="lka", attention="deformable_lka", offsets=offsets, modulated=modulated).lka
    for conv, num_taps in ((lka.local, 25), (lka.spread, 49)):
        assert type(conv.predict) is prediction
        assert conv.predict(torch.zeros(1, 4, 8, 8)).shape[1] == (3 if modulated else 2) * num_taps


def test_a_batch_of_told_and_untold_pictures_equals_the_pictures_alone() -> None:
    told = told_network()
    image, sigma = picture(3, 3, 18, 21), torch.tensor([0.1, -1.0, 0.0])
    batch = told(image, sigma)
    for index in range(3):
        alone = told(image[index : index + 1], sigma[index : index + 1])
        torch.testing.assert_close(batch[index : index + 1], alone, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(batch, told(image), atol=1e-3)


@pytest.mark.parametrize("sigma", [0.2, 0.0])
@torch.no_grad()
def test_the_noise_level_shifts_the_first_features(sigma: float) -> None:
    told = told_network()
    assert told.noise_level is not None
    shifted = copy.deepcopy(told.state_dict())
    shifted["intro.bias"] += told.noise_level.weight @ torch.tensor([10 * sigma, 1.0])
    image = picture(1, 3, 16, 16)
    expected = plain_net(told.config.as_dict(), shifted)(image)
    torch.testing.assert_close(told(image, torch.tensor([sigma])), expected, atol=1e-5, rtol=1e-4)


def test_a_blind_network_refuses_a_noise_level() -> None:
    with pytest.raises(ValueError, match="cannot be told"):
        NAFNet(half_resolution_net(4))(picture(1, 3, 8, 8), torch.tensor([0.1]))


@torch.no_grad()
def test_a_limit_of_attention_reaches_every_block() -> None:
    free = NAFNet(half_resolution_net(4))
    for param in free.parameters():
        param.copy_(torch.randn(param.shape, generator=torch.Generator().manual_seed(param.numel())))
    bounded = NAFNet(replace(free.config, sca_limit=0.5))
    bounded.load_state_dict(free.state_dict())
    limits = [module.limit for module in bounded.modules() if isinstance(module, SCA)]
    assert limits == [0.5] * 14
    image = picture(1, 3, 16, 16)
    assert bounded(image).abs().max() < free(image).abs().max() / 2


class PlainLocalMean(nn.Module):
    """The mean over a square that stays inside the map, by pooling."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (min(self.size, side) for side in x.shape[-2:])
        top, left = (rows - 1) // 2, (columns - 1) // 2
        inner = F.avg_pool2d(x, (rows, columns), 1)
        return F.pad(inner, (left, columns - 1 - left, top, rows - 1 - top), mode="replicate")


@pytest.mark.parametrize("name", ["half-naf", "quarter", "published"])
@torch.no_grad()
def test_tlc_is_its_plain_transcription(name: str) -> None:
    config = CONFIGS[name]
    network, plain = network_and_plain(config)
    depth, base_px = len(config.encoder), 48
    stages = [*plain.encoders, plain.middle_blks, *plain.decoders]  # type: ignore[misc]  # lists of modules
    for stage, level in zip(stages, [*range(depth + 1), *reversed(range(depth))], strict=True):
        for block in stage:
            block.sca[0] = PlainLocalMean(base_px // (config.stem * 2**level))
    image = picture(2, 3, 64, 112)
    everywhere = network(image)
    network.use_local_statistics(base_px)
    torch.testing.assert_close(network(image), plain(image), atol=1e-5, rtol=1e-4)
    assert (network(image) - everywhere).abs().max() > 1e-4
    assert network.statistics_disagreement() > 0
    network.use_local_statistics(None)
    assert network.statistics_disagreement() == 0
    assert torch.equal(network(image), everywhere)
    assert network.statistics_disagreement() == 0


def test_surroundings_are_as_large_in_the_picture_at_every_level() -> None:
    def sizes(stage: nn.Module) -> set[int | None]:
        return {module.local_size for module in stage.modules() if isinstance(module, SCA)}

    network = NAFNet(replace(nafnet_gopro(2), encoder=(Stage(2), Stage(1), Stage(1, "lka", attention="sca"), Stage(2))))
    network.use_local_statistics(384)
    assert [sizes(stage) for stage in network.encoders] == [{384}, {192}, {96}, {48}]
    assert sizes(network.middle_blks) == {24}
    assert [sizes(stage) for stage in network.decoders] == [{48}, {96}, {192}, {384}]
    behind_a_stem = NAFNet(half_resolution_net(4))
    behind_a_stem.use_local_statistics(100)
    assert [sizes(stage) for stage in behind_a_stem.encoders] == [{50}, {25}]
    assert sizes(behind_a_stem.middle_blks) == {12}
    behind_a_stem.use_local_statistics(3)
    assert sizes(behind_a_stem.middle_blks) == {1}


@torch.no_grad()
def test_tiles_equal_wholes_inside_under_tlc() -> None:
    network, _ = network_and_plain(CONFIGS["half-naf"])
    image = picture(1, 3, 64, 512)
    for base_px, limit in ((32, 1e-5), (None, None)):
        network.use_local_statistics(base_px)
        difference = (network(image)[..., 256:] - network(image[..., 64:])[..., 192:]).abs().max()
        assert difference < limit if limit else difference > 1e-5


def net_of_scales(scales: int) -> NAFNet:
    network = NAFNet(replace(half_resolution_net(4), scales=scales, sigma_input=True)).eval()
    randomise(network)
    return network


def test_parts_that_trained_weights_can_get_start_at_zeros() -> None:
    network = NAFNet(replace(half_resolution_net(4), scales=2, sigma_input=True))
    added = {key: tensor for key, tensor in network.state_dict().items() if key.startswith(ADDITIONS)}
    assert sorted(added) == ["blend.bias", "blend.weight", "coarse_intro.weight", "noise_level.weight"]
    assert not any(tensor.any() for tensor in added.values())


@torch.no_grad()
def test_scales_are_restored_from_the_smallest_up() -> None:
    network, image, sigma = net_of_scales(3), picture(2, 3, 40, 24), torch.tensor([0.1, -1.0])
    half = F.avg_pool2d(image, 2)
    quarter = F.avg_pool2d(half, 2)
    of_quarter = F.interpolate(network.refine(quarter, sigma / 4) - quarter, scale_factor=2, mode="bilinear")
    of_half = F.interpolate(network.refine(half, sigma / 2, of_quarter) - half, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(network(image, sigma), network.refine(image, sigma, of_half))


@torch.no_grad()
def test_what_the_coarse_scale_changes_replaces_what_it_sees_where_the_network_blends_it_in() -> None:
    network, image = net_of_scales(2), picture(1, 3, 48, 32)
    assert network.coarse_intro is not None
    assert network.blend is not None
    assert network.blend.bias is not None
    network.coarse_intro.weight.zero_()
    network.blend.weight.zero_()
    network.blend.bias.fill_(-100.0)
    torch.testing.assert_close(network(image), network.refine(image))
    network.blend.bias.fill_(100.0)
    half = F.avg_pool2d(image, 2)
    coarse_change = F.interpolate(network.refine(half) - half, scale_factor=2, mode="bilinear")
    change = network.refine(image) - image
    seen = F.interpolate(F.avg_pool2d(change, 2), scale_factor=2, mode="bilinear")
    torch.testing.assert_close(network(image), image + change - seen + coarse_change)
