"""restore.training.material: what a run learns from."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from restore.config import TrainConfig
from restore.data import Frames, Mixture, Photos, Request, open_frames, open_photos
from restore.distributed import Team
from restore.errors import UsageError
from restore.images import Photo, write_photo
from restore.training import Material, recorded_sources
from restore.training.material import sample_stream, training_samples, validate, validated


def first(
    config: TrainConfig, material: Material, num: int, *, team: Team | None = None, step: int = 0, num_rewinds: int = 0
) -> list[Tensor]:
    samples = training_samples(config, material, num_rewinds)
    stream = sample_stream(config, samples, team or Team(), first_step=step, progress_at=lambda step: step / 6)
    return [batch.degraded for batch in itertools.islice(stream, num)]


def test_the_stream_goes_on_from_any_step(config: TrainConfig, material: Material) -> None:
    whole = first(config, material, 5)
    assert [len(batch) for batch in whole] == [4, 4, 4, 2, 2]  # patches grow half-way
    for one, other in zip(whole[2:], first(config, material, 3, step=2), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("sizes", [(4, 2), (2, 4)])
def test_batches_of_another_size_later_on_repeat_no_sample(
    config: TrainConfig, material: Material, sizes: tuple[int, int]
) -> None:
    stages = [{"start": start, "size": 16, "batch_size": num} for start, num in zip((0.0, 0.5), sizes, strict=True)]
    batches = first(TrainConfig.model_validate(config.as_dict() | {"patches": stages}), material, 6)
    drawn = [tuple(sample.flatten().tolist()) for batch in batches for sample in batch]
    assert len(set(drawn)) == len(drawn) == 18


def test_two_processes_see_what_one_sees_in_twice_the_passes(config: TrainConfig, material: Material) -> None:
    values = config.as_dict()
    values["optimiser"] |= {"accumulation": 2}
    alone = first(TrainConfig.model_validate(values), material, 4)
    team = [first(config, material, 2, team=Team(rank, 2)) for rank in (0, 1)]
    for one, other in zip(alone, [team[0][0], team[1][0], team[0][1], team[1][1]], strict=True):
        assert torch.equal(one, other)


def test_a_rewind_draws_other_samples(config: TrainConfig, material: Material) -> None:
    assert not torch.equal(first(config, material, 1)[0], first(config, material, 1, num_rewinds=1)[0])


def test_pairs_are_taken_as_they_are(config: TrainConfig, photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs, tmp_path / "degraded")
    material = Material.open(config, degraded=tmp_path / "degraded", reference=photographs)
    assert material.is_paired
    samples = training_samples(config, material)
    stream = sample_stream(config, samples, Team(), first_step=0, progress_at=lambda _: 0.0)
    degraded, told, reference = next(stream)
    assert torch.equal(degraded, reference)
    assert (told == -1).all()
    identical = validate(nn.Identity(), material.held_out, config, torch.device("cpu"), is_paired=True)
    assert (identical.psnr_db, identical.gain_db) == (45.0, 0.0)


def test_frames_are_a_share_of_the_samples_beside_photographs(
    config: TrainConfig, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / "frames").mkdir()
    for index in range(80):
        pixels = np.full((24, 24, 3), 3 * index, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "frames" / f"{index}.png")
    material = Material.open(config, clean=photographs, frames=tmp_path / "frames")
    assert material.pictures == {"photographs": 1, "deeper": 1, "frames": 72}  # a tenth is for validation
    (tmp_path / "photographs" / "deeper").rename(tmp_path / "photographs" / "frames")
    material = Material.open(config, clean=photographs, frames=tmp_path / "frames")
    assert material.pictures == {"photographs": 1, "frames": 73}
    middles: list[set[int]] = []
    for source in (material.training, material.held_out):
        assert isinstance(source, Mixture)
        moving = source.sources[1]
        middles.append({int(moving.name(index).partition(".")[0]) for index in range(len(moving))})
    assert max(middles[0]) < 72 <= min(middles[1])
    samples = training_samples(config, material)
    flat = [samples[Request(index, 16)].reference for index in range(300)]
    share = sum(float(reference.std()) < 1e-3 for reference in flat) / len(flat)
    assert share == pytest.approx(0.2, abs=0.07)
    noise = [{"steps": [{"kind": "gaussian-noise", "sigma": [100, 100]}]}]
    noisy = TrainConfig.model_validate(config.as_dict() | {"degradations": noise})
    found = validate(nn.Identity(), material.held_out, noisy, torch.device("cpu"))
    assert found.psnr_db < 15  # frames are degraded, too
    with pytest.raises(UsageError, match="not with pairs"):
        Material.open(config, degraded=photographs, reference=photographs, frames=tmp_path / "frames")


def test_what_validates_is_not_trained_on_even_where_it_lies_among_the_photographs(
    config: TrainConfig, photographs: Path
) -> None:
    material = Material.open(config, clean=photographs, validation=photographs / "deeper")
    assert material.pictures == {"photographs": 1}
    assert [material.held_out.name(index) for index in range(len(material.held_out))] == ["b.png"]


def test_what_is_trained_on_does_not_validate(config: TrainConfig, photographs: Path, tmp_path: Path) -> None:
    for validation in (photographs / "deeper", photographs):
        with pytest.raises(UsageError, match="deeper: would be trained on"):
            Material.open(config, clean=photographs / "deeper", validation=validation)
    for side in ("degraded", "reference"):
        shutil.copytree(photographs, tmp_path / "pairs" / side)
    sides = {side: tmp_path / "pairs" / side for side in ("degraded", "reference")}
    with pytest.raises(UsageError, match="would be trained on"):
        Material.open(config, **sides, validation=tmp_path / "pairs")
    frames = tmp_path / "videos" / "frames"
    shutil.copytree(photographs, frames)
    with pytest.raises(UsageError, match=r"frames and .*videos: one lies in the other"):
        Material.open(config, clean=photographs, frames=frames, validation=tmp_path / "videos")
    (tmp_path / "link").symlink_to(photographs / "deeper")
    with pytest.raises(UsageError, match="link: would be trained on"):
        Material.open(config, clean=tmp_path / "link", validation=photographs)
    (tmp_path / "linked").mkdir()
    for side, folder in sides.items():
        (tmp_path / "linked" / side).symlink_to(folder)
    with pytest.raises(UsageError, match="would be trained on"):
        Material.open(config, **sides, validation=tmp_path / "linked")


def test_a_run_folder_says_where_its_pictures_lie(
    config: TrainConfig, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recorded_sources(tmp_path) == {}
    monkeypatch.chdir(tmp_path)
    material = Material.open(config, clean=Path(photographs.name), validation=photographs / "deeper")
    material.record(tmp_path)
    assert recorded_sources(tmp_path) == {"clean": photographs, "validation": photographs / "deeper"}
    (tmp_path / "data.json").write_text('{"clean": "here", "later": "there"}')  # by a newer version
    assert recorded_sources(tmp_path) == {"clean": Path("here")}
    (tmp_path / "data.json").write_text("[]")
    assert recorded_sources(tmp_path) == {}


def test_pictures_right_in_the_folder_are_counted_under_its_name(
    config: TrainConfig, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photographs)
    assert Material.open(config, clean=Path()).pictures == {"photographs": 1, "deeper": 1}
    shutil.copytree(photographs, photographs / photographs.name)
    assert Material.open(config, clean=photographs).pictures == {"photographs": 3, "deeper": 1}


@pytest.mark.parametrize(
    ("averaged", "means"),
    [((1.0, 1), {85, 170}), ((0.0, 1), {156, 213}), ((1.0, 2), {0, 255})],  # to_srgb of 1/3 and 2/3
)
def test_the_recipe_says_how_many_frames_and_how_they_are_averaged(
    config: TrainConfig, photographs: Path, tmp_path: Path, averaged: tuple[float, int], means: set[int]
) -> None:
    (tmp_path / "frames").mkdir()
    display, skip = averaged
    for index in range(60):
        pixels = np.full((40, 40, 3), 255 * (index % 2), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "frames" / f"{index}.png")
    values = config.as_dict()
    values["data"] |= {"frames_num": [3, 3], "frames_skip": [skip, skip], "frames_display": display}
    material = Material.open(TrainConfig.model_validate(values), clean=photographs, frames=tmp_path / "frames")
    assert isinstance(material.training, Mixture)
    moving = material.training.sources[1]
    blurred = [picture[0] for picture in map(moving.read, range(len(moving))) if isinstance(picture, tuple)]
    assert {tuple(image.shape) for image in blurred} == {(3, 24, 24)}  # tiles as large as the largest patch
    assert {int(image[0, 0, 0]) for image in blurred if image.min() == image.max()} == means


def test_validation_degrades_alike_every_time(config: TrainConfig, material: Material) -> None:
    one, other = (validate(nn.Identity(), material.held_out, config, torch.device("cpu")) for _ in range(2))
    assert one.psnr_db == other.psnr_db < 60
    assert one.gain_db == 0  # the input is clamped, too


def test_validation_takes_the_middles_each_with_noise_of_its_own(config: TrainConfig, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 280, 3), np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    shown = validate(nn.Identity(), open_photos(tmp_path), config, torch.device("cpu")).pictures
    assert shown.shape == (2, 3, 256, 3 * 256)
    middle = torch.from_numpy(pixels[22:278, 12:268]).permute(2, 0, 1) / 255
    assert all(torch.equal(row[..., 512:], middle) for row in shown)
    assert not torch.equal(*shown[..., :256])


class Black(nn.Module):
    """Remembers what it is given, and makes black pictures of it."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def forward(self, degraded: Tensor) -> Tensor:
        self.given.append(degraded)
        return torch.zeros_like(degraded)


def test_validation_takes_small_and_deep_pictures_whole_and_shows_four_of_full_size(
    config: TrainConfig, tmp_path: Path
) -> None:
    white = {"0-small.png": (200, 300), **{f"{index}.png": (256, 256) for index in range(5)}}
    for name, size in white.items():
        write_photo(tmp_path / name, Photo(np.full(size, 65535, np.uint16)))
    network = Black()
    found = validate(network, open_photos(tmp_path), config, torch.device("cpu"))
    assert {tuple(given.shape) for given in network.given} == {(1, 3, 256, 256), (1, 3, 200, 256)}
    assert all(given.mean() == pytest.approx(1, abs=0.05) for given in network.given)
    assert found.psnr_db == 0
    assert found.gain_db < -10
    assert found.pictures.shape == (4, 3, 256, 3 * 256)
    assert found.pictures[..., 256:512].max() == 0  # between what was given and the reference


def test_means_of_frames_are_validated_against_the_sharp_frame(config: TrainConfig, tmp_path: Path) -> None:
    for index in range(5):
        write_photo(tmp_path / f"{index}.png", Photo(np.full((20, 20, 3), 255 * (index == 2), np.uint8)))
    still = [{"steps": [{"kind": "gaussian-noise", "sigma": [0, 0]}]}]
    noiseless = TrainConfig.model_validate(config.as_dict() | {"degradations": still})
    found = validate(nn.Identity(), open_frames(tmp_path, num_frames=(5, 5)), noiseless, torch.device("cpu"))
    assert found.psnr_db < 10


def test_pairs_are_trained_and_validated_from_the_degraded_to_the_reference(
    config: TrainConfig, tmp_path: Path
) -> None:
    for place in ("training", "validation"):
        for side, value in (("degraded", 10), ("reference", 200)):
            (tmp_path / place / side).mkdir(parents=True)
            write_photo(tmp_path / place / side / "a.png", Photo(np.full((9, 9, 3), value, np.uint8)))
    sides = {side: tmp_path / "training" / side for side in ("degraded", "reference")}
    material = Material.open(config, **sides, validation=tmp_path / "validation")
    for source in (material.training, material.held_out):
        assert [int(side.max()) for side in source.read(0)] == [10, 200]
    assert material.pictures == {"reference": 1}
    assert material.is_apart


def test_the_recipe_says_what_share_is_held_out_and_how_much_is_kept_in_memory(
    config: TrainConfig, photographs: Path, tmp_path: Path
) -> None:
    values = config.as_dict()
    values["data"] |= {"validation_share": 0.5, "cache_gb": 2e-6}
    chosen = TrainConfig.model_validate(values)
    half = Material.open(chosen, clean=photographs)
    assert (len(half.training), len(half.held_out), half.is_apart) == (1, 1, True)
    assert not Material.open(config, clean=photographs).is_apart
    (tmp_path / "frames").mkdir()
    for index in range(60):
        write_photo(tmp_path / "frames" / f"{index}.png", Photo(np.zeros((40, 40, 3), np.uint8)))
    sources = {"clean": photographs, "frames": tmp_path / "frames"}
    assert not Material.open(config, **sources).is_apart
    with_frames = Material.open(chosen, **sources, validation=photographs / "deeper")
    assert with_frames.is_apart
    for mixture in (with_frames.training, with_frames.held_out):
        assert isinstance(mixture, Mixture)
        still, moving = mixture.sources
        assert isinstance(still, Photos)
        assert isinstance(moving, Frames)
        assert (still.cache_bytes, moving.photos.cache_bytes) == (2000, 2000)
        drawn = [mixture.name(index) for index in range(len(mixture))]
        assert sum("mean of" in name for name in drawn) / len(drawn) == pytest.approx(0.2, abs=0.01)
    assert moving.read(0)[0].shape == (3, 40, 40)  # as much as a validation takes


def test_another_seed_draws_other_samples(config: TrainConfig, material: Material) -> None:
    other = config.model_copy(update={"seed": 1})
    assert not torch.equal(first(config, material, 1)[0], first(other, material, 1)[0])


def test_at_most_32_pictures_validate_spread_evenly() -> None:
    def photos(num: int) -> Photos:
        return Photos([str(index) for index in range(num)], lambda _: np.zeros((1, 1)), lambda _: None)

    found = [validated(photos(num)) for num in (1, 32, 33, 100)]
    assert [len(indices) for indices in found] == [1, 32, 17, 25]
    assert [indices[-1] for indices in found] == [0, 31, 32, 96]


def test_the_recipe_says_which_samples_are_told_grey_or_drawn(config: TrainConfig, material: Material) -> None:
    shares = {"told_share": 0.1, "grey_share": 0.2, "patterns_share": 0.3}
    values = config.as_dict()
    values["data"] |= shares
    samples = training_samples(TrainConfig.model_validate(values), material)
    assert {name: getattr(samples, name) for name in shares} == shares


def test_what_to_learn_from_must_be_clear(config: TrainConfig, photographs: Path) -> None:
    with pytest.raises(UsageError, match="--degraded with --reference"):
        Material.open(config)
    with pytest.raises(UsageError, match="--degraded with --reference"):
        Material.open(config, clean=photographs, degraded=photographs, reference=photographs)
    with pytest.raises(UsageError, match="degrades nothing"):
        Material.open(config.model_copy(update={"degradations": ()}), clean=photographs)


@pytest.mark.parametrize("other", ["clean", "validation"])
def test_frames_and_photographs_lie_apart(config: TrainConfig, photographs: Path, other: str) -> None:
    sources = {"clean": photographs.parent / "other", "frames": photographs}
    shutil.copytree(photographs, sources["clean"])
    with pytest.raises(UsageError, match="one lies in the other"):
        Material.open(config, **(sources | {other: photographs / "deeper"}))
    with pytest.raises(UsageError, match="one lies in the other"):
        Material.open(config, clean=photographs, frames=photographs / "deeper")
