"""restore.data.frames: means of frames in linear light with the sharp frame in their middle."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from restore.data import (
    Frames,
    Mixture,
    Photos,
    Request,
    Tolerant,
    TrainSamples,
    natural_order,
    open_frames,
    open_photos,
    windows,
)
from restore.degradations import Chain, GaussianBlur, GaussianNoise, MotionBlur, mean_light, to_linear, to_srgb
from restore.errors import ImageError, NothingToDoError, UsageError

Write = Callable[..., None]


def video(folder: Path, write: Write, num: int, size: tuple[int, int] = (12, 20), dtype: Any = np.uint8) -> list[Any]:
    """Write frames f1.png, f2.png, … of random pixels and return them in order."""
    random = np.random.default_rng(num)
    frames = [random.integers(0, np.iinfo(dtype).max, (*size, 3), dtype) for _ in range(num)]
    for number, frame in enumerate(frames, 1):
        write(folder / f"f{number}.png", frame)
    return frames


def test_names_are_sorted_by_their_numbers() -> None:
    names = ["f10", "f9", "f09", "g1", "f9b", "2", "f"]
    assert sorted(names, key=natural_order) == ["2", "f", "f09", "f9", "f9b", "f10", "g1"]
    assert natural_order(Path("a/f9.png")) < natural_order("a/f10.png")


@pytest.mark.parametrize(
    ("num_frames", "step", "expected"),
    [(3, 3, ["b", "e"]), (3, 1, ["b", "c", "d", "e", "f"]), (2, 2, ["b", "d", "f"]), (8, 1, [])],
)
def test_windows_are_named_after_their_middle(num_frames: int, step: int, expected: list[str]) -> None:
    found = windows("abcdefg", num_frames, step)
    assert [middle for middle, _ in found] == expected
    assert all(len(run) == num_frames and run[num_frames // 2] == middle for middle, run in found)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_pair_is_the_plain_mean_and_the_middle(write: Write, tmp_path: Path, dtype: Any, white: int) -> None:
    frames = video(tmp_path, write, 11, dtype=dtype)
    source = open_frames(tmp_path, num_frames=(3, 3), skip=(2, 2), tile_px=99)
    assert len(source) == 7
    for index in range(7):
        blurred, sharp = source.read(index)
        assert source.name(index).startswith(f"f{index + 3}.png (mean of 3")
        assert np.array_equal(sharp.permute(1, 2, 0).numpy(), frames[index + 2])
        some = [torch.from_numpy(frames[index + step].astype(np.float32) / white) for step in (0, 2, 4)]
        expected = to_srgb(torch.stack([to_linear(frame) for frame in some]).mean(0)) * white
        assert (blurred.permute(1, 2, 0).float() - expected).abs().max() <= 0.51
        assert torch.allclose(mean_light(some) * white, expected, atol=white * 1e-6)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("display_share", [0.0, 0.5, 1.0])
def test_a_share_of_the_means_is_that_of_the_values_as_they_stand(
    write: Write, tmp_path: Path, dtype: Any, white: int, display_share: float
) -> None:
    frames = video(tmp_path, write, 42, size=(6, 8), dtype=dtype)
    source = open_frames(tmp_path, num_frames=(3, 3), display_share=display_share)
    as_they_stand = []
    for index in range(40):
        run = torch.from_numpy(np.stack(frames[index : index + 3]).astype(np.float32))
        plain, linear = run.double().mean(0).round().float(), to_srgb(to_linear(run / white).mean(0)) * white
        blurred, sharp = source.read(index)
        found = blurred.permute(1, 2, 0).float()
        assert np.array_equal(sharp.permute(1, 2, 0).numpy(), frames[index + 1])
        assert torch.equal(found, plain) or (found - linear).abs().max() <= 0.51
        as_they_stand.append(torch.equal(found, plain))
    for stride in (1, 2, 3, 4):  # of several processes, or of tiles of one frame
        some = as_they_stand[::stride]
        assert sum(some) == pytest.approx(len(some) * display_share, abs=2 if display_share % 1 else 0)


def test_means_of_values_as_they_stand_fall_evenly_whatever_the_stride() -> None:
    frames = [np.full((1, 1, 3), 255 * (index % 2), np.uint8) for index in range(202)]
    photos = Photos([f"f{index}" for index in range(202)], frames.__getitem__, lambda _: None)
    source = Frames(photos, [range(202)], (3, 3), (1, 1), tile_px=1, display_share=0.5)
    as_they_stand = [int(source.read(index)[0][0, 0, 0]) in {85, 170} for index in range(200)]
    for stride in range(1, 13):
        some = as_they_stand[::stride]
        assert sum(some) == pytest.approx(len(some) / 2, abs=3)


def test_the_memory_for_frames_is_that_of_the_caller_and_divided(write: Write, tmp_path: Path) -> None:
    video(tmp_path, write, 3)
    source = open_frames(tmp_path, num_frames=(3, 3), cache_bytes=1000)
    assert source.photos.cache_bytes == 1000
    source.divide_memory(4)
    assert source.photos.cache_bytes == 250


def test_every_window_of_every_video_is_a_pair(write: Write, tmp_path: Path) -> None:
    video(tmp_path / "one", write, 7)
    video(tmp_path / "two", write, 5)
    video(tmp_path / "short", write, 2)
    source = open_frames(tmp_path, num_frames=(2, 6), skip=(1, 2), tile_px=10)
    tiles = 4  # 20×12 pixels need 2×2
    assert len(source) == tiles * ((5 + 3) + 3 + (3 + 1) + 1)  # 3 frames: distance 1 and 2; 5 frames: distance 1
    assert len({source.name(index) for index in range(len(source))}) == len(source)
    alone = open_frames(tmp_path, num_frames=(1, 1), skip=(1, 2), tile_px=10)
    assert len(alone) == tiles * (7 + 5 + 2)  # a frame alone has no distance
    assert {source.read(index)[0].shape for index in range(len(source))} == {(3, 10, 10)}
    again = pickle.loads(pickle.dumps(source))  # noqa: S301  our own bytes, as workers get them
    for index in (0, len(source) - 1):
        assert torch.equal(again.read(index)[0], source.read(index)[0])


def test_tiles_cover_the_frame(write: Write, tmp_path: Path) -> None:
    (only,) = video(tmp_path, write, 1, (23, 31))
    source = open_frames(tmp_path, num_frames=(1, 1), tile_px=16)
    seen = np.zeros((23, 31), bool)
    for index in range(len(source)):
        down, across = source.name(index).split(" at ")[1].rstrip(")").split(",")[::-1]
        tile = slice(int(down), int(down) + 16), slice(int(across), int(across) + 16)
        assert np.array_equal(source.read(index)[1].permute(1, 2, 0).numpy(), only[tile])
        seen[tile] = True
    assert seen.all()


def test_tiles_overlap_evenly(write: Write, tmp_path: Path) -> None:
    video(tmp_path, write, 1, (16, 40))
    source = open_frames(tmp_path, num_frames=(1, 1), tile_px=16)
    places = [source.name(index).split(" at ")[1] for index in range(len(source))]
    assert places == ["0,0)", "12,0)", "24,0)"]


def test_too_many_bad_frames_stop_though_they_are_in_many_means(write: Write, tmp_path: Path) -> None:
    video(tmp_path, write, 60)
    for path in sorted(tmp_path.rglob("*.png"))[30:]:
        path.write_bytes(b"broken")
    means = open_frames(tmp_path, num_frames=(5, 9), tile_px=8)
    source = Tolerant(means)

    def read_all() -> None:
        for index in range(len(means)):
            source.read(index)

    with pytest.raises(NothingToDoError, match="4 of 60"):
        read_all()


def test_parts_share_no_frame(write: Write, tmp_path: Path) -> None:
    video(tmp_path, write, 10)
    training = open_frames(tmp_path, num_frames=(3, 5), part=(0, 0.7))
    held_out = open_frames(tmp_path, num_frames=(3, 3), part=(0.7, 1))
    assert [held_out.name(0)[:6], len(held_out)] == ["f9.png", 1]
    assert {training.name(index)[:2] for index in range(len(training))} == {"f2", "f3", "f4", "f5", "f6"}


def test_refusals(write: Write, tmp_path: Path) -> None:
    video(tmp_path, write, 4)
    with pytest.raises(NothingToDoError, match="a mean takes 5 frames, and the longest video has 4; name"):
        open_frames(tmp_path)
    with pytest.raises(NothingToDoError, match="a mean takes 5 frames, and the longest video has 4; name"):
        open_frames(tmp_path, num_frames=(3, 3), skip=(2, 2))
    with pytest.raises(NothingToDoError, match="a mean takes 1 frames, and the longest video has, from 95% to 100% of"):
        open_frames(tmp_path, num_frames=(1, 3), part=(0.95, 1))
    for settings in (
        {"num_frames": (5, 3)},
        {"num_frames": (4, 4)},
        {"skip": (0, 1)},
        {"part": (0.5, 0.5)},
        {"tile_px": 0},
    ):
        with pytest.raises(UsageError):
            open_frames(tmp_path, **settings)
    write(tmp_path / "f3.png", np.zeros((12, 21, 3), np.uint8))
    with pytest.raises(ImageError, match=r"f3\.png: its size or depth"):
        open_frames(tmp_path, num_frames=(3, 3)).read(0)
    with pytest.raises(ImageError, match=r"f3\.png: its size or depth"):  # in the middle
        open_frames(tmp_path, num_frames=(3, 3)).read(1)
    write(tmp_path / "f3.png", np.zeros((12, 20, 3), np.uint16))
    with pytest.raises(ImageError, match=r"f3\.png: its size or depth"):
        open_frames(tmp_path, num_frames=(3, 3)).read(0)


def test_frames_that_a_tag_turns_are_cut_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"f{index}.jpg", exif=exif)
    source = open_frames(tmp_path, num_frames=(3, 3), tile_px=16)
    assert len(source) == 2 * 4  # of 50×20 upright
    for index in range(len(source)):
        assert all(side.shape == (3, 16, 16) for side in source.read(index))
    for suffix in ("tif", "webp"):
        Image.fromarray(pixels).save(tmp_path / f"x.{suffix}", exif=exif)
    photos = open_photos(tmp_path)
    for index in (0, 3, 4):
        assert photos.size(index) == (50, 20) == tuple(photos.read(index).shape[1:])


def test_a_broken_first_frame_spoils_only_its_own_means(write: Write, tmp_path: Path) -> None:
    video(tmp_path, write, 4)
    first = min(tmp_path.iterdir(), key=lambda path: natural_order(path.name))
    first.write_bytes(b"broken")
    source = open_frames(tmp_path, num_frames=(3, 3))
    assert len(source) == 2
    with pytest.raises(ImageError, match=first.name):
        source.read(0)
    source.read(1)
    for path in tmp_path.iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(NothingToDoError, match="frames that can be read"):
        open_frames(tmp_path, num_frames=(3, 3))


def test_samples_mix_frames_and_photographs_and_give_noise_to_both(write: Write, tmp_path: Path) -> None:
    video(tmp_path / "frames", write, 6, (30, 30))
    for index in range(3):
        write(tmp_path / "photos" / f"{index}.png", np.full((30, 30, 3), 128, np.uint8))
    frames, photos = open_frames(tmp_path / "frames", num_frames=(3, 3)), open_photos(tmp_path / "photos")
    mixture = Mixture([(photos, 0.75), (frames, 0.25)])
    noise = GaussianNoise(sigma=(10.0, 10.0))
    chains = [Chain(steps=(GaussianBlur(sigma=(1.0, 1.0)), MotionBlur(length=(5.0, 5.0)), noise))]
    samples = TrainSamples(mixture, chains, seed=0, told_share=1.0)
    drawn = [samples[Request(index, 16)] for index in range(200)]
    flat = [sample.reference.std() < 1e-6 for sample in drawn]
    assert 120 < sum(flat) < 175
    for sample, is_flat in zip(drawn, flat, strict=True):
        difference = sample.degraded - sample.reference
        assert (difference.std() * 255 < 11.5) == is_flat  # a real blur beside the noise, and no other
        assert (sample.told > 0) != is_flat  # noise alone comes on top of the frames
    again = samples[Request(7, 16)]
    assert torch.equal(again.degraded, drawn[7].degraded)


def test_pairs_without_steps_of_noise_stay_as_they_are(write: Write, tmp_path: Path) -> None:
    video(tmp_path, write, 5, (16, 16))
    source = open_frames(tmp_path, num_frames=(5, 5))
    plain, chained = (
        TrainSamples(source, chains, seed=3)[Request(0, 16)]
        for chains in (None, [Chain(steps=(MotionBlur(length=(9.0, 9.0)),))])
    )
    assert torch.equal(plain.degraded, chained.degraded)
    assert torch.equal(plain.reference, chained.reference)


def test_a_mixture_draws_each_source_with_its_weight_and_each_picture_alike() -> None:
    def photos(name: str, num: int) -> Photos:
        return Photos(
            [f"{name}{index}" for index in range(num)], lambda _: np.zeros((1, 1, 3), np.uint8), lambda _: None, 100
        )

    many, few = photos("m", 60), photos("f", 4)
    mixture = Mixture([(many, 3), (few, 1)])
    names = [mixture.name(index) for index in range(len(mixture))]
    assert len(names) == 80
    assert all(names.count(f"m{index}") == 1 for index in range(60))
    assert all(names.count(f"f{index}") == 5 for index in range(4))
    assert isinstance(mixture.read(79), torch.Tensor)
    mixture.divide_memory(4)
    assert (many.cache_bytes, few.cache_bytes) == (25, 25)
    for sources in ([], [(many, 0.0)], [(many, math.inf)], [(Photos([], lambda _: None, lambda _: None), 1.0)]):  # type: ignore[arg-type, return-value]
        with pytest.raises(UsageError, match="mixture"):
            Mixture(sources)
