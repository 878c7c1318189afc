"""restore.data.loading: workers change nothing but the time, and their end is an error of one line."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from restore.data import Pairs, Request, TrainSamples, batches, open_photos
from restore.degradations import Chain, GaussianNoise
from restore.errors import DeviceError, NothingToDoError, UsageError
from restore.images import Photo, write_photo


@pytest.fixture
def samples(tmp_path: Path) -> TrainSamples:
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (20 + index, 30, 3)).astype(np.uint8)
        write_photo(tmp_path / f"{index}.png", Photo(pixels))
    (tmp_path / "damaged.png").write_bytes(b"nothing")
    return TrainSamples(open_photos(tmp_path), [Chain(steps=(GaussianNoise(sigma=(0, 0.2)),))], seed=5, told_share=0.5)


def requests(num: int) -> Iterator[list[Request]]:
    for step in range(num):
        yield [Request(3 * step + one, 8 if step < num // 2 else 16) for one in range(3)]


def workers() -> list[int]:
    return [process.pid or 0 for process in multiprocessing.active_children()]


def test_batches_are_the_same_for_any_number_of_workers(samples: TrainSamples) -> None:
    alone, together = list(batches(samples, requests(7))), list(batches(samples, requests(7), num_workers=2))
    assert len(alone) == len(together) == 7
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))
        assert other.degraded.is_contiguous(memory_format=torch.channels_last)
    assert together[-1].degraded.shape == (3, 3, 16, 16)
    assert not workers()


def test_the_parent_learns_which_pictures_are_bad(samples: TrainSamples) -> None:
    list(batches(samples, requests(10), num_workers=1))
    assert list(samples.pictures.bad) == ["damaged.png"]


def test_requests_are_taken_a_bounded_number_ahead_and_closing_ends_the_workers(samples: TrainSamples) -> None:
    taken = []

    def endless() -> Iterator[list[Request]]:
        for index in range(10**9):
            taken.append(index)
            yield [Request(index, 8)]

    loader = batches(samples, endless(), num_workers=1)
    next(loader)
    next(loader)
    assert len(taken) <= 4
    assert len(workers()) == 1
    assert isinstance(loader, Iterator)
    loader.close()  # type: ignore[attr-defined]  # it is a generator
    assert not workers()


@pytest.mark.parametrize("which", [0, 1])
def test_a_killed_worker_is_an_error_with_a_remedy(samples: TrainSamples, which: int) -> None:
    loader = batches(samples, requests(100), num_workers=2)
    next(loader)
    os.kill(sorted(workers())[which], signal.SIGKILL)
    with pytest.raises(DeviceError, match=r"exit code -9.*--set data.workers=0"):
        list(loader)
    assert not workers()


def test_ctrl_c_and_sigterm_are_left_to_the_parent(samples: TrainSamples) -> None:
    loader = batches(samples, requests(8), num_workers=1)
    next(loader)
    for signum in (signal.SIGINT, signal.SIGTERM):
        os.kill(workers()[0], signum)
    time.sleep(0.05)
    assert len(list(loader)) == 7


def test_errors_of_a_worker_are_those_of_the_parent_or_name_it(samples: TrainSamples, tmp_path: Path) -> None:
    photos = samples.pictures.source
    with pytest.raises(RuntimeError, match="in a data worker: ValueError"):
        list(batches(TrainSamples(photos, None, seed=0), requests(1), num_workers=1))
    (tmp_path / "other").mkdir()
    write_photo(tmp_path / "other" / "0.png", Photo(np.zeros((9, 9, 3), np.uint8)))
    pairs = Pairs(open_photos(tmp_path, exclude=tmp_path / "other"), open_photos(tmp_path / "other"))
    with pytest.raises(UsageError, match="same size"):
        list(batches(TrainSamples(pairs, None, seed=0), [[Request(0, 8)]], num_workers=1))
    assert not workers()


def test_too_many_bad_pictures_stop_from_within_a_worker(samples: TrainSamples, tmp_path: Path) -> None:
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(NothingToDoError, match="of 5 pictures cannot be read"):
        list(batches(samples, requests(2), num_workers=1))
    assert not workers()
