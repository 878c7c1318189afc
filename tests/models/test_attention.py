from __future__ import annotations

import pytest
import torch
from plain_nets import PlainLKA, randomise

from restore.models.attention import LKA


@pytest.mark.parametrize(
    ("kernel_size", "dilation", "local", "spread"),
    [(13, 3, 5, 5), (21, 3, 5, 7), (7, 2, 3, 5), (23, 3, 5, 9), (35, 4, 7, 9), (5, 1, 1, 5)],
)
def test_the_large_kernel_is_decomposed_as_published(kernel_size: int, dilation: int, local: int, spread: int) -> None:
    lka = LKA(4, kernel_size, dilation)
    assert lka.local.kernel_size == (local, local)
    assert lka.spread.kernel_size == (spread, spread)
    assert lka.spread.dilation == (dilation, dilation)


@pytest.mark.parametrize(("kernel_size", "dilation"), [(13, 3), (21, 3), (7, 2), (35, 4), (5, 1)])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 5), (31, 32)])
def test_lka_is_the_plain_one(kernel_size: int, dilation: int, size: tuple[int, int]) -> None:
    lka, plain = LKA(6, kernel_size, dilation), PlainLKA(6, kernel_size, dilation)
    randomise(lka)
    plain.load_state_dict(lka.state_dict())
    x = torch.randn(2, 6, *size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(lka(x), plain(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kernel_size", "reach"), [(13, 17), (21, 23)])
def test_a_pixel_is_weighed_by_all_within_reach(kernel_size: int, reach: int) -> None:
    lka = LKA(3, kernel_size, 3)
    x = torch.ones(1, 3, 41, 41, requires_grad=True)
    lka(x)[0, :, 20, 20].sum().backward()
    assert x.grad is not None
    rows, columns = x.grad.abs().sum((0, 1)).nonzero(as_tuple=True)
    assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == reach


def test_gradients_are_right() -> None:
    lka = LKA(2, 7, 2).double()
    x = torch.randn(1, 2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: lka(x), (x, *lka.parameters()), fast_mode=True)


@pytest.mark.parametrize(("kernel_size", "dilation"), [(0, 3), (21, 0)])
def test_impossible_kernels_are_refused(kernel_size: int, dilation: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        LKA(4, kernel_size, dilation)
