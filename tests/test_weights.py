"""restore.weights: files describe themselves, damage and malice are refused, official checkpoints load."""

from __future__ import annotations

import copy
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_nets import plain_net
from safetensors.torch import load_file, save_file
from torch import Tensor

from restore.errors import WeightsError
from restore.models import NAFNet, NAFNetConfig
from restore.models.nafnet import Stage, half_resolution_net, nafnet_gopro, nafnet_sidd
from restore.types import Task
from restore.weights import CATALOGUE, FORMAT_VERSION, METADATA_KEY, find_weights, load_weights, save_weights

SMALL = NAFNetConfig(
    width=4, encoder=(Stage(1, "lka"),), middle=Stage(1), decoder=(Stage(1),), stem=2, sigma_input=True
)


def randomised(config: NAFNetConfig) -> NAFNet:
    generator = torch.Generator().manual_seed(1)
    network = NAFNet(config).eval()
    with torch.no_grad():
        for param in network.parameters():
            param.copy_(0.2 * torch.randn(param.shape, generator=generator))
    return network


def document(config: NAFNetConfig, **changes: Any) -> dict[str, Any]:
    return {"name": "small", "task": "denoise", "architecture": "nafnet", "network": config.as_dict()} | changes


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_weights(path, randomised(SMALL), document(SMALL))
    return path


def test_save_and_load_give_the_same_network(saved: Path) -> None:
    network, info = load_weights(saved, Task.DENOISE)
    picture = torch.rand(1, 3, 9, 7)
    assert torch.equal(network(picture), randomised(SMALL)(picture))
    assert not network.training
    assert (info.name, info.task, info.num_bytes) == ("small", Task.DENOISE, saved.stat().st_size)
    assert info.num_parameters == sum(param.numel() for param in network.parameters())


def test_a_name_that_is_none_gets_the_nearest() -> None:
    with pytest.raises(
        WeightsError, match=r"denoise-fats: no such file, and unknown model .* did you mean denoise-fast"
    ):
        find_weights("denoise-fats")


def test_saving_twice_gives_identical_bytes(saved: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "again.safetensors", randomised(SMALL), document(SMALL))
    assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


def test_half_precision_files_compute_in_float32(tmp_path: Path) -> None:
    save_weights(tmp_path / "half.safetensors", randomised(SMALL).half(), document(SMALL))
    network, _ = load_weights(tmp_path / "half.safetensors")
    assert {param.dtype for param in network.parameters()} == {torch.float32}


def test_every_flipped_bit_is_noticed(saved: Path) -> None:
    whole = saved.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        position = int(torch.randint(len(whole), (), generator=generator))
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(torch.randint(8, (), generator=generator))
        saved.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"small\.safetensors: "):
            load_weights(saved)


@pytest.mark.parametrize("name", ["empty.safetensors", "empty.pth"])
def test_an_empty_file_is_called_that(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(WeightsError, match=rf"{name}: the file is empty; download it again"):
        load_weights(tmp_path / name)


def test_a_file_that_the_system_keeps_back_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("restore.weights.find_weights", Path)
    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(WeightsError, match=r"small\.safetensors: Permission denied; check the path"):
        load_weights(saved)


@pytest.mark.parametrize("keep", [0, 1, 7, 100, -1])
def test_truncated_files_are_refused(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"small\.safetensors: "):
        load_weights(saved)


def test_a_lying_header_is_refused(saved: Path) -> None:
    saved.write_bytes(struct.pack("<Q", 2**60) + saved.read_bytes()[8:])
    with pytest.raises(WeightsError, match="damaged"):
        load_weights(saved)


def test_a_description_without_bottom_is_refused(saved: Path) -> None:
    save_file(load_file(saved), saved, {METADATA_KEY: "[" * 100_000})
    with pytest.raises(WeightsError, match="damaged"):
        load_weights(saved)


def test_the_surroundings_that_go_with_the_training_are_half_as_large_again_as_its_largest_patches(
    tmp_path: Path,
) -> None:
    training = {"config": {"patches": [{"size": 48}, {"size": 128}, {"size": 96}]}}
    save_weights(tmp_path / "a.safetensors", randomised(SMALL), document(SMALL, training=training))
    assert load_weights(tmp_path / "a.safetensors")[1].tlc_px_of_training == 192


def test_patches_without_end_ask_for_no_tlc(tmp_path: Path) -> None:
    path = tmp_path / "endless.safetensors"
    training = {"config": {"patches": [{"size": float("inf")}]}}
    save_weights(path, randomised(SMALL), document(SMALL, training=training))
    assert load_weights(path)[1].tlc_px_of_training is None


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, "1", None])
def test_a_newer_format_asks_for_an_upgrade(saved: Path, version: object) -> None:
    rewrite(saved, lambda described: described | {"format_version": version})
    with pytest.raises(WeightsError, match=rf"small\.safetensors: format {version!r} is unknown.*upgrade restore"):
        load_weights(saved)


def test_a_description_that_is_no_object_is_refused(saved: Path) -> None:
    save_file(load_file(saved), saved, {METADATA_KEY: "[]"})
    with pytest.raises(WeightsError, match=r"small\.safetensors: its description is not a JSON object"):
        load_weights(saved)


def test_another_task_is_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected weights to deblur, found weights to denoise"):
        load_weights(saved, Task.DEBLUR)
    save_weights(tmp_path / "odd.safetensors", randomised(SMALL), document(SMALL, task="colourise"))
    with pytest.raises(WeightsError, match="'colourise'"):
        load_weights(tmp_path / "odd.safetensors", Task.DEBLUR)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "unet"}, "found 'unet'"),
        ({"architecture": ["nafnet"]}, "expected one of"),
        ({"task": ["denoise"]}, "unknown task"),
        ({"network": SMALL.as_dict() | {"width": -4}}, "describe no nafnet"),
        ({"network": SMALL.as_dict() | {"padding": "mirror"}}, "describe no nafnet"),
        ({"network": SMALL.as_dict() | {"middle": {"num_blocks": 1, "kind": "conv"}}}, "describe no nafnet"),
        ({"network": {"width": 4}}, "describe no nafnet"),
        ({"network": SMALL.as_dict() | {"depth": 3}}, "describe no nafnet"),
        ({"network": SMALL.as_dict() | {"width": 8}}, r"expected \(\d+.*found \(\d+"),
        ({"network": SMALL.as_dict() | {"stem": 1}}, "expected .* found"),
    ],
)
def test_a_description_that_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "odd.safetensors"
    save_weights(path, randomised(SMALL), document(SMALL, **changes))
    with pytest.raises(WeightsError, match=message):
        load_weights(path)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_that_are_nan_are_refused(tmp_path: Path, value: float) -> None:
    network = randomised(SMALL)
    with torch.no_grad():
        network.intro.weight[0, 0, 0, 0] = value
    save_weights(tmp_path / "nan.safetensors", network, document(SMALL))
    with pytest.raises(WeightsError, match="NaN"):
        load_weights(tmp_path / "nan.safetensors")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 not a zip"])
def test_garbage_checkpoints_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.pth: "):
        load_weights(path)


def test_more_blocks_than_tensors_are_refused_before_they_are_built(tmp_path: Path) -> None:
    block = {"intro.weight": torch.zeros(1, 3, 3, 3), "middle_blks.1000000000.beta": torch.zeros(1)}
    torch.save({"params": block}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="expected"):
        load_weights(tmp_path / "net.pth")
    many = SMALL.as_dict() | {"middle": {"num_blocks": 10**9}}
    save_weights(tmp_path / "net.safetensors", randomised(SMALL), document(SMALL, network=many))
    with pytest.raises(WeightsError, match="blocks of"):
        load_weights(tmp_path / "net.safetensors")


def test_tensors_without_all_their_values_are_refused(tmp_path: Path) -> None:
    weight = torch.zeros(1, 3, 3, 3)
    for tensor in (weight.to_sparse(), weight.to("meta"), torch.zeros(1).expand(1, 10**6, 10**6)):
        torch.save({"params": {"intro.weight": tensor}}, tmp_path / "net.pth")
        with pytest.raises(WeightsError, match=r"net\.pth: "):
            load_weights(tmp_path / "net.pth")


def test_an_archive_that_would_expand_is_refused_before_it_does(tmp_path: Path) -> None:
    torch.save({"params": {"intro.weight": torch.zeros(10**6)}}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "net.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(WeightsError, match=r"net\.pth: would expand to \d+ times its size"):
        load_weights(tmp_path / "net.pth")


@pytest.mark.parametrize(("place", "value"), [(6, 99), (9, 8), (30, 255)])  # version, flags, length of extra fields
def test_an_archive_whose_directory_is_damaged_is_refused(tmp_path: Path, place: int, value: int) -> None:
    path = tmp_path / "net.pth"
    torch.save({"params": {"intro.weight": torch.zeros(10)}}, path)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 46] = 255  # no UTF-8
    content[entry + place] = value
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.pth: not a checkpoint that can be read safely"):
        load_weights(path)


def test_a_file_too_large_for_the_memory_is_not_called_unsafe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **_options: object) -> None:
        raise MemoryError

    (tmp_path / "net.pth").write_bytes(b"x")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(MemoryError):
        load_weights(tmp_path / "net.pth")


class Malicious:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Any, ...]]:
        return (Path.touch, (self.victim,))


@pytest.mark.parametrize("protocol", [None, 2, 4])  # torch reads those of 2, and by itself writes them into an archive
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path: Path, protocol: int | None) -> None:
    victim, path = tmp_path / "victim", tmp_path / "net.pth"
    if protocol is None:
        torch.save({"params": Malicious(victim)}, path)
    else:
        path.write_bytes(pickle.dumps(Malicious(victim), protocol=protocol))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(WeightsError, match="no code in it was run"):
            load_weights(path)
    assert (victim.exists(), told) == (False, [])


@pytest.mark.parametrize("container", ["params", "params_ema", "state_dict", "model", "net", None])
@pytest.mark.parametrize("prefix", ["", "module.", "netG.", "module.netG."])
def test_official_checkpoints_load_whatever_their_container(tmp_path: Path, container: str | None, prefix: str) -> None:
    reference = randomised(NAFNetConfig(4, (Stage(1), Stage(2)), Stage(1), (Stage(1), Stage(1)), padding="constant"))
    state = {prefix + key: tensor for key, tensor in reference.state_dict().items()}
    torch.save(state if container is None else {container: state}, tmp_path / "net.pth")
    network, info = load_weights(tmp_path / "net.pth", Task.DEBLUR)
    assert info.task is None
    picture = torch.rand(1, 3, 13, 22)
    assert torch.equal(network(picture), reference(picture))


def test_averaged_weights_go_before_those_of_the_last_step(tmp_path: Path) -> None:
    config = NAFNetConfig(4, (Stage(1),), Stage(1), (Stage(1),), padding="constant")
    averaged = randomised(config)
    torch.save({"params": NAFNet(config).state_dict(), "params_ema": averaged.state_dict()}, tmp_path / "net.pth")
    picture = torch.rand(1, 3, 8, 8)
    assert torch.equal(load_weights(tmp_path / "net.pth")[0](picture), averaged(picture))


def test_a_checkpoint_without_tensors_is_refused(tmp_path: Path) -> None:
    contents: list[object] = [{}, {"params": {}}, {"epoch": 3}, [torch.zeros(1)]]
    for content in contents:
        torch.save(content, tmp_path / "net.pth")
        with pytest.raises(WeightsError, match=r"net\.pth: holds no network weights"):
            load_weights(tmp_path / "net.pth")


def test_an_official_checkpoint_is_its_plain_transcription(tmp_path: Path) -> None:
    config = NAFNetConfig(6, (Stage(1), Stage(2)), Stage(2), (Stage(1), Stage(1)), padding="constant")
    state = randomised(config).state_dict()
    torch.save({"params": state}, tmp_path / "net.pth")
    network, _ = load_weights(tmp_path / "net.pth")
    picture = torch.rand(1, 3, 21, 34, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(network(picture), plain_net(config.as_dict(), state)(picture), atol=1e-5)


def test_a_checkpoint_for_grey_pictures_is_refused(tmp_path: Path) -> None:
    config = NAFNetConfig(4, (Stage(1),), Stage(1), (Stage(1),), channels=1)
    torch.save(NAFNet(config).state_dict(), tmp_path / "grey.pth")
    with pytest.raises(WeightsError, match="expected a network for 3 channels, found 1"):
        load_weights(tmp_path / "grey.pth")


def test_the_published_layout_is_recognised(tmp_path: Path) -> None:
    config = nafnet_gopro(4)
    torch.save({"params": NAFNet(config).state_dict()}, tmp_path / "gopro.pth")
    network, _ = load_weights(tmp_path / "gopro.pth")
    assert isinstance(network, NAFNet)
    assert network.config == config


@pytest.mark.parametrize(("config", "tlc_px"), [(nafnet_gopro(2), 384), (nafnet_sidd(2), None)])
def test_checkpoints_that_were_published_with_tlc_say_so(
    tmp_path: Path, config: NAFNetConfig, tlc_px: int | None
) -> None:
    torch.save({"params": NAFNet(config).state_dict()}, tmp_path / "net.pth")
    assert load_weights(tmp_path / "net.pth")[1].tlc_px == tlc_px


def test_our_own_files_name_the_surroundings_under_tlc_themselves(saved: Path, tmp_path: Path) -> None:
    assert load_weights(saved)[1].tlc_px is None
    save_weights(tmp_path / "local.safetensors", randomised(SMALL), document(SMALL, tlc_px=96))
    assert load_weights(tmp_path / "local.safetensors")[1].tlc_px == 96
    for impossible in (0, "96", 96.0, True):
        save_weights(saved, randomised(SMALL), document(SMALL, tlc_px=impossible))
        with pytest.raises(WeightsError, match=rf"small\.safetensors: TLC over {impossible!r} pixels has no meaning"):
            load_weights(saved)


def test_files_can_ask_for_a_self_ensemble_that_exists(saved: Path, tmp_path: Path) -> None:
    assert load_weights(saved)[1].ensemble == 1
    asked = tmp_path / "asked.safetensors"
    save_weights(asked, randomised(SMALL), document(SMALL, ensemble=4))
    assert load_weights(asked)[1].ensemble == 4
    for impossible in (3, "4", [4], None):
        save_weights(asked, randomised(SMALL), document(SMALL, ensemble=impossible))
        with pytest.raises(WeightsError, match=r"asked\.safetensors: an ensemble of .* has no meaning"):
            load_weights(asked)


def test_a_foreign_network_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="expected the weights of a NAFNet, found another"):
        load_weights(tmp_path / "net.pth")


def test_unexpected_layers_are_refused_by_name(tmp_path: Path) -> None:
    state = NAFNet(nafnet_gopro(2)).state_dict()
    torch.save(state | {"extra.weight": torch.zeros(3)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"extra\.weight: expected nothing"):
        load_weights(tmp_path / "net.pth")


def test_names_and_places() -> None:
    with pytest.raises(WeightsError, match="denoise-fast"):
        find_weights("no-such-model")
    with pytest.raises(WeightsError, match="read from files only"):
        find_weights("https://example.org/net.pth")
    assert all(find_weights(name).is_file() for name in CATALOGUE)


def test_shipped_weights_that_are_gone_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restore.weights.shipped_folder", lambda: tmp_path)
    with pytest.raises(WeightsError, match=r"denoise\.safetensors: the shipped weights are missing; reinstall restore"):
        find_weights("denoise")


def test_a_run_folder_stands_for_its_weights(saved: Path, tmp_path: Path) -> None:
    assert find_weights(tmp_path) == saved
    (tmp_path / "second.safetensors").write_bytes(saved.read_bytes())
    with pytest.raises(WeightsError, match=r"2 \.safetensors files"):
        find_weights(tmp_path)


@pytest.mark.parametrize("name", CATALOGUE)
def test_shipped_weights_say_all_that_is_promised(name: str) -> None:
    _, info = load_weights(name)
    assert info.name == name
    scores = info.document["scores"]
    assert scores["protocol"]
    if info.task is Task.DENOISE:
        assert [score["sigma"] for score in scores["results"]] == [15, 25, 50]
    else:
        assert scores["real"]["psnr_db"] > scores["real"]["input_psnr_db"]
        assert scores["real"]["worst_gain_db"] >= -0.2
        assert scores["clean"]["psnr_db"] > 38
    assert all(data["licence"] for data in info.document["data"])
    assert info.document["training"]["steps"] > 0
    assert info.path.with_suffix(".md").is_file()


def test_folding_leaves_the_network_as_it_was() -> None:
    network = randomised(half_resolution_net(4))
    folded = copy.deepcopy(network)
    folded.fold()
    picture = torch.rand(1, 3, 16, 16)
    assert torch.allclose(folded(picture), network(picture), atol=1e-5)


def rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    tensors: dict[str, Tensor] = load_file(path)
    described = change(json.loads(read_metadata(path)))
    save_file(tensors, path, {METADATA_KEY: json.dumps(described)})


def read_metadata(path: Path) -> str:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    return str(header["__metadata__"][METADATA_KEY])
