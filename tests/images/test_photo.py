"""restore.images.photo: depths are converted without a value lost."""

from __future__ import annotations

import numpy as np
import pytest

from restore.images import from_float, photo, to_float


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_integer_comes_back(dtype: type[np.unsignedinteger], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo, "_STEP_VALUES", 1000)
    values = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 16)
    floats = to_float(values)
    assert floats.dtype == np.float32
    assert (floats.min(), floats.max()) == (0, 1)
    back = from_float(floats, dtype)
    assert back.dtype == dtype
    assert np.array_equal(back, values)


def test_floats_are_left_as_they_are() -> None:
    values = np.array([[-1.5, 0.25, np.inf, np.nan]], np.float32)
    assert np.array_equal(to_float(values), values, equal_nan=True)
    assert np.array_equal(from_float(values, np.float32), values, equal_nan=True)


def test_integers_are_clipped_and_rounded_and_nan_becomes_0() -> None:
    values = np.array([-3, 0.4 / 255, 0.6 / 255, 2, np.inf, -np.inf, np.nan], np.float32)
    assert from_float(values, np.uint8).tolist() == [0, 0, 1, 255, 255, 0, 0]
    assert photo.count_outside(values) == 5


def test_16_bits_become_the_nearest_8() -> None:
    values = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(photo.change_depth(values, np.uint8), np.rint(values / 257).astype(np.uint8))


def test_empty_arrays_stay_empty() -> None:
    assert from_float(to_float(np.zeros((0, 4), np.uint8)), np.uint16).shape == (0, 4)
