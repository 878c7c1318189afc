"""restore.data.samples: a sample follows from its index and the seed, and is what it claims to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from restore.data import Pairs, Photos, Request, TrainSamples, open_photos
from restore.data.samples import collate
from restore.degradations import Chain, DefocusBlur, GaussianBlur, GaussianNoise, Jpeg, gaussian_blur
from restore.images import Photo, write_photo

CLEAN = [Chain(steps=())]
NOISE = [Chain(steps=(GaussianNoise(sigma=(0.0, 0.2)),))]
BLUR = [Chain(steps=(GaussianBlur(sigma=(2.0, 2.0)),))]


def photos(*pictures: np.ndarray[Any, Any]) -> Photos:
    return Photos([str(index) for index in range(len(pictures))], pictures.__getitem__, lambda _: None)


def random(height: int, width: int, dtype: Any = np.uint8) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(height).integers(0, np.iinfo(dtype).max, (height, width, 3))
    return values.astype(dtype)


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("chains", [NOISE, BLUR], ids=["noise", "blur"])
def test_patches_have_their_size_even_where_photographs_are_smaller(size: int, chains: list[Chain]) -> None:
    samples = TrainSamples(photos(random(50, 60), random(20, 90), random(5, 7), random(1, 1)), chains, seed=0)
    batch = collate([samples[Request(index, size)] for index in range(20)])
    assert batch.degraded.shape == batch.reference.shape == (20, 3, size, size)
    assert batch.degraded.is_contiguous(memory_format=torch.channels_last)
    assert batch.degraded.dtype == batch.told.dtype == torch.float32
    assert 0 <= batch.reference.min() <= batch.reference.max() <= 1


def test_a_small_photograph_is_mirrored_outwards() -> None:
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, 2)
    patch = TrainSamples(photos(picture), CLEAN, seed=0)[Request(0, 4)].reference[0].mul(255).round()
    assert set(patch.flatten().tolist()) <= set(range(6))
    assert (patch == patch.flip(0)).all() or (patch == patch.flip(1)).all()


def test_seed_and_index_alone_decide() -> None:
    source = photos(random(50, 60), random(40, 40))
    samples, others = TrainSamples(source, NOISE, seed=1), TrainSamples(source, NOISE, seed=2)
    late = samples[Request(7, 16)]
    early = TrainSamples(source, NOISE, seed=1)[Request(7, 16)]
    assert torch.equal(late.degraded, early.degraded)
    assert not torch.equal(late.degraded, samples[Request(8, 16)].degraded)
    assert not torch.equal(late.degraded, others[Request(7, 16)].degraded)


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    _ = TrainSamples(photos(random(9, 9)), NOISE, seed=1)[Request(0, 8)]
    assert torch.equal(state, torch.get_rng_state())


def test_every_picture_place_and_symmetry_is_met() -> None:
    corners = np.zeros((2, 2, 3), np.uint8)
    corners[..., :] = np.array([[10, 20], [30, 40]])[..., None]
    samples = TrainSamples(photos(corners, corners + 100), CLEAN, seed=0)
    seen = {tuple(samples[Request(index, 2)].reference[0].mul(255).round().flatten().tolist()) for index in range(200)}
    assert len(seen) == 16  # two pictures, eight symmetries
    single = {samples[Request(index, 1)].reference[0].mul(255).round().item() for index in range(100)}
    assert single == {10, 20, 30, 40, 110, 120, 130, 140}


def test_patches_are_cut_from_the_photograph() -> None:
    ramp = np.arange(30 * 40).reshape(30, 40).astype(np.uint16)[..., None].repeat(3, 2)
    patch = TrainSamples(photos(ramp), CLEAN, seed=3)[Request(0, 8)].reference[0].mul(65535).round()
    steps = {abs(step) for step in (*patch.diff(dim=0).flatten().tolist(), *patch.diff(dim=1).flatten().tolist())}
    assert steps == {1, 40}


def test_noise_has_the_level_that_the_network_is_told() -> None:
    flat = np.full((32, 32, 3), 128, np.uint8)
    samples = TrainSamples(photos(flat), NOISE, seed=0, told_share=1.0)
    degraded, told, reference = collate([samples[Request(index, 32)] for index in range(64)])
    assert torch.allclose(reference, torch.tensor(128 / 255))
    measured = (degraded - reference).flatten(1).std(1)
    assert torch.allclose(measured, told, rtol=0.08)
    assert told.max() < 0.2
    assert told.min() < 0.02


def test_the_margin_is_the_greatest_reach_of_the_chains_in_whole_units_of_jpeg() -> None:
    defocus = Chain(steps=(DefocusBlur(radius=(0.5, 3.2)), GaussianBlur(sigma=(0.0, 1.5)), *NOISE[0].steps))
    assert TrainSamples(photos(random(9, 9)), [*CLEAN, *BLUR, defocus], seed=0).margin_px == 16
    assert TrainSamples(photos(random(9, 9)), [Chain(steps=(DefocusBlur(radius=(9, 19)),))], seed=0).margin_px == 32
    for chains in (None, CLEAN, NOISE):
        assert TrainSamples(photos(random(9, 9)), chains, seed=0).margin_px == 0


def test_what_lies_beside_a_patch_moves_into_it() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)  # room for one patch of 8 and a margin of 16 on each side
    picture[15, 19] = 255  # right above it
    samples = TrainSamples(photos(picture), BLUR, seed=0)
    whole = gaussian_blur(torch.from_numpy(picture).permute(2, 0, 1) / 255, 2.0)[:, 16:24, 16:24]
    for index in range(16):
        sample = samples[Request(index, 8)]
        assert sample.degraded.shape == sample.reference.shape == (3, 8, 8)
        assert not sample.reference.any()
        assert sample.degraded.max() > 0.02
        torch.testing.assert_close(sample.degraded.flatten().sort().values, whole.flatten().sort().values)


def test_the_blocks_of_jpeg_start_where_those_of_files_do() -> None:
    smooth = cv2.resize(random(12, 12), (200, 200), interpolation=cv2.INTER_CUBIC)
    chain = Chain(steps=(GaussianBlur(sigma=(0.1, 0.1)), Jpeg(quality=(10, 10))))
    samples = TrainSamples(photos(smooth), [chain], seed=0)
    columns = torch.zeros(63)
    for index in range(8):
        columns += samples[Request(index, 64)].degraded.diff(dim=-1).abs().sum((0, 1))
    edges = columns[7::8].mean()
    assert all(edges > 1.1 * columns[start::8].mean() for start in range(7))


def test_the_reference_of_a_patch_with_a_margin_is_cut_like_the_blurred_one() -> None:
    samples = TrainSamples(photos(random(60, 70)), [Chain(steps=(GaussianBlur(sigma=(0.3, 0.3)),))], seed=0)
    for index in range(10):
        degraded, _, reference = samples[Request(index, 16)]
        assert (degraded - reference).square().mean() < (reference - reference.mean()).square().mean() / 10


def test_noise_needs_no_margin_and_takes_whole_pictures() -> None:
    picture = random(16, 16)
    sample = TrainSamples(photos(picture), NOISE, seed=0)[Request(0, 16)]
    whole = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    turned = [view.rot90(turns, (1, 2)) for view in (whole, whole.flip(1)) for turns in range(4)]
    assert sum(torch.equal(sample.reference, view) for view in turned) == 1


def test_shares_of_grey_and_told_samples() -> None:
    samples = TrainSamples(photos(random(9, 9)), NOISE, seed=0, told_share=0.5, grey_share=0.5)
    degraded, told, reference = collate([samples[Request(index, 8)] for index in range(60)])
    grey = (reference[:, 0] == reference[:, 1]).flatten(1).all(1)
    assert 15 < grey.sum() < 45
    assert torch.equal(degraded[grey, 0], degraded[grey, 2])
    assert not torch.equal(degraded[~grey, 0], degraded[~grey, 2])
    assert 15 < (told == -1).sum() < 45
    assert (told[told != -1] >= 0).all()


def test_both_pictures_of_a_pair_turn_grey() -> None:
    source = Pairs(photos(random(12, 12)), photos(random(12, 12)))
    sample = TrainSamples(source, CLEAN, seed=0, grey_share=1.0)[Request(0, 12)]
    assert torch.equal(sample.degraded, sample.reference)
    assert torch.equal(sample.reference[0], sample.reference[1])


def test_no_noise_is_a_level_that_is_told() -> None:
    none = [Chain(steps=(GaussianNoise(sigma=(0.0, 0.0)),))]
    assert TrainSamples(photos(random(9, 9)), none, seed=0, told_share=1.0)[Request(0, 8)].told == 0


def test_patches_of_another_size_are_of_other_pictures() -> None:
    source = photos(*(np.full((9, 9, 3), 10 * index, np.uint8) for index in range(20)))
    samples = TrainSamples(source, CLEAN, seed=0)
    shown = [[float(samples[Request(index, size)].reference.mean()) for index in range(20)] for size in (8, 9)]
    assert sum(one == other for one, other in zip(*shown, strict=True)) < 6


def test_patterns_reach_into_the_margin_and_are_not_mirrored() -> None:
    samples = TrainSamples(photos(random(9, 9)), BLUR, seed=0, patterns_share=1.0)
    drawn = [samples[Request(index, 2 * samples.margin_px)].reference for index in range(20)]
    assert sum(torch.equal(pattern, pattern.flip(1)) for pattern in drawn) < 5


def test_what_has_no_noise_level_is_never_told() -> None:
    chains = [Chain(steps=(Jpeg(quality=(30, 60)),))]
    assert TrainSamples(photos(random(20, 20)), chains, seed=0, told_share=1.0)[Request(0, 16)].told == -1


def test_pairs_are_cut_without_a_margin() -> None:
    source = Pairs(photos(255 - random(12, 12)), photos(random(12, 12)))
    plain, chained = (TrainSamples(source, chains, seed=0)[Request(0, 12)] for chains in (None, BLUR))
    assert torch.equal(plain.degraded, chained.degraded)
    assert torch.equal(plain.reference, chained.reference)


def test_both_pictures_of_a_pair_are_cut_and_turned_alike() -> None:
    reference = [random(size, 2 * size) for size in (7, 20, 30)]
    degraded = [255 - picture for picture in reference]
    shares = {"told_share": 1.0, "grey_share": 1.0, "patterns_share": 1.0}  # which have no part in this
    samples = TrainSamples(Pairs(photos(*degraded), photos(*reference)), None, seed=0, **shares)
    for index in range(20):
        sample = samples[Request(index, 9)]
        assert torch.allclose(sample.degraded, 1 - sample.reference, atol=1e-6)
        assert sample.told == -1


def test_damaged_pictures_are_passed_over(tmp_path: Path) -> None:
    for index in range(3):
        write_photo(tmp_path / f"{index}.png", Photo(random(9, 9)))
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content[: len(content) // 2])
    samples = TrainSamples(open_photos(tmp_path), CLEAN, seed=0)
    for index in range(20):
        assert samples[Request(index, 8)].reference.shape == (3, 8, 8)
    ((name, reason),) = samples.pictures.bad.items()
    assert name in reason
