"""restore.images.pnm: plain and raw, any greatest sample, comments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from restore.errors import ImageError
from restore.images import read_photo

CASES = {
    "plain bitmap": (b"P1\n3 2\n010\n1 0 1\n", [[255, 0, 255], [0, 255, 0]], np.uint8),
    "tabs and returns": (b"P1\r\n3 2\r\n010\r\n1\t0\t1\r\n", [[255, 0, 255], [0, 255, 0]], np.uint8),
    "raw bitmap": (b"P4\n3 2\n\x40\xa0", [[255, 0, 255], [0, 255, 0]], np.uint8),
    "plain grey": (b"P2 # words\n# more\n3 1\n255\n0 7 # and\n255", [[0, 7, 255]], np.uint8),
    "raw grey": (b"P5\n3 1\n255\n\x00\x07\xff", [[0, 7, 255]], np.uint8),
    "a line's end behind": (b"P5\n3 1\n255\n\x00\x07\xff\n", [[0, 7, 255]], np.uint8),
    "stretched": (b"P5\n3 1\n15\n\x00\x07\x0f", [[0, 119, 255]], np.uint8),
    "above the greatest": (b"P5\n2 1\n15\n\x0f\x10", [[255, 255]], np.uint8),
    "plain above the greatest": (b"P2\n2 1\n255\n256 7", [[255, 7]], np.uint8),
    "greatest of two bytes": (b"P5\n2 1\n256\n\x01\x00\x00\x80", [[65535, 32768]], np.uint16),
    "10 bits": (b"P5\n2 1\n1023\n\x03\xff\x02\x00", [[65535, 32800]], np.uint16),
    "16 bits": (b"P5\n2 1\n65535\n\x01\x02\xff\xff", [[258, 65535]], np.uint16),
    "plain colour": (b"P3\n1 1\n65535\n1 2 3", [[[1, 2, 3]]], np.uint16),
    "raw colour": (b"P6\n1 1\n255\n\x01\x02\x03", [[[1, 2, 3]]], np.uint8),
}


@pytest.mark.parametrize(("data", "expected", "dtype"), CASES.values(), ids=CASES.keys())
def test_kinds(tmp_path: Path, data: bytes, expected: list[object], dtype: type[np.unsignedinteger]) -> None:
    path = tmp_path / "a.ppm"
    path.write_bytes(data)
    photo = read_photo(path)
    assert photo.pixels.dtype == dtype
    assert photo.pixels.tolist() == expected
    assert photo.warnings == ()


@pytest.mark.parametrize(
    "data",
    [
        b"P6\n2 2\n255\n\x01\x02\x03",
        b"P3\n1 2\n255\n1 2 3",
        b"P4\n9 2\n\x01",
        b"P1\n2 1\n1",
        b"P5\n2 1\n255\n",
        b"P5\n2 1\n255",
    ],
)
def test_missing_samples(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.ppm"
    path.write_bytes(data)
    with pytest.raises(ImageError, match="truncated"):
        read_photo(path)
    assert "truncated" in read_photo(path, allow_truncated=True).warnings[0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"P6\n2", "its header is damaged"),
        (b"P5\n1 1\n0\n0", "stated as 0, not 1 to 65535"),
        (b"P5\n1 1\n65536\n00", "stated as 65536, not 1 to 65535"),
        (b"P2\n1 1\n255\nx", "it holds something else than numbers"),
        (b"P5\n0 1\n255\n", "its header is damaged or truncated"),
    ],
)
def test_nonsense(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "a.ppm"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=rf"a\.ppm: .*{reason}.*; "):
        read_photo(path)
