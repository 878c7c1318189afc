"""restore.tiling: tiles cover the picture, blend without seams, and start where the strides fall."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from restore.tiling import Tiling, restore_strips


def assemble(picture: Tensor, tiling: Tiling, offset: float = 0.0) -> Tensor:
    num_tiles = 0

    def restore_tile(rows: slice, columns: slice) -> Tensor:
        nonlocal num_tiles
        num_tiles += 1
        return picture[..., rows, columns] + offset * num_tiles

    strips = list(restore_strips(picture.shape[-2], picture.shape[-1], tiling, restore_tile))
    assert [rows.start for rows, _ in strips[1:]] == [rows.stop for rows, _ in strips[:-1]]
    return torch.cat([strip for _, strip in strips], dim=-2)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (64, 64), (65, 129), (130, 97)])
@pytest.mark.parametrize("tiling", [Tiling(64, 16), Tiling(64, 32, 16), Tiling(32, 0), Tiling(512, 64)])
def test_an_identity_gives_the_picture_back(size: tuple[int, int], tiling: Tiling) -> None:
    picture = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(assemble(picture, tiling), picture, atol=1e-6)


@pytest.mark.parametrize("length", [1, 16, 17, 63, 64, 65, 100, 1000])
def test_spans_cover_an_axis_and_overlap(length: int) -> None:
    spans = Tiling(64, 16, 16).spans(length)
    assert spans[0].start == 0
    assert spans[-1].stop == length
    assert all(span.start % 16 == 0 and span.stop - span.start <= 64 for span in spans)
    assert all(left.stop - right.start == 16 for left, right in itertools.pairwise(spans))


@pytest.mark.parametrize("size", [(48, 112), (112, 48)])
def test_tiles_that_differ_are_feathered_not_cut(size: tuple[int, int]) -> None:
    blended = assemble(torch.zeros(1, 1, *size), Tiling(64, 16), offset=1.0)[0, 0]
    row = blended[0] if size[1] == 112 else blended[:, 0]
    assert set(row[:48].tolist()) == {1.0}
    assert set(row[64:].tolist()) == {2.0}
    assert (row[48:64].diff() >= 0).all()
    torch.testing.assert_close(row[48:64] - 1, 2 - row[48:64].flip(0))  # neither tile counts for more
    assert row.diff().max() < 0.2
    assert set(row[48:52].tolist()) == {1.0}  # the later tile's border is spoilt, and the earlier one's
    assert set(row[60:64].tolist()) == {2.0}


@pytest.mark.parametrize(("size", "overlap", "multiple"), [(64, 64, 1), (64, -1, 1), (60, 16, 16), (64, 10, 16)])
def test_tilings_that_do_not_fit_are_refused(size: int, overlap: int, multiple: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Tiling(size, overlap, multiple)
