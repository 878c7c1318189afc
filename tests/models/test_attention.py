from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from plain_nets import PlainLKA, randomise
from torch import Tensor, nn

from restore.models.attention import LKA, LSKA, LSKA_KERNELS, ChannelAttention, DeformableLKA
from restore.models.layers import SCA


def rand(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


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


PUBLISHED = {7: (3, 3, 2), 11: (3, 5, 2), 23: (5, 7, 3), 35: (5, 11, 3), 41: (5, 13, 3), 53: (5, 17, 3)}


def plain_lska(lska: LSKA, x: Tensor, kernel_size: int) -> Tensor:
    a, b, d = PUBLISHED[kernel_size]
    weights, c = lska.state_dict(), x.shape[1]
    h = F.conv2d(x, weights["local.0.weight"], weights["local.0.bias"], padding=(0, a // 2), groups=c)
    h = F.conv2d(h, weights["local.1.weight"], weights["local.1.bias"], padding=(a // 2, 0), groups=c)
    far = d * (b // 2)
    h = F.conv2d(h, weights["spread.0.weight"], weights["spread.0.bias"], 1, (0, far), (1, d), c)
    h = F.conv2d(h, weights["spread.1.weight"], weights["spread.1.bias"], 1, (far, 0), (d, 1), c)
    return x * F.conv2d(h, weights["mix.weight"], weights["mix.bias"])


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("kernel_size", PUBLISHED)
def test_lska_is_the_written_definition(kernel_size: int, *, gradients: bool) -> None:
    lska = LSKA(6, kernel_size)
    randomise(lska)
    with torch.set_grad_enabled(gradients):
        for size in [(1, 1), (2, 3), (17, 5), (31, 32)]:
            x = rand(2, 6, *size)
            torch.testing.assert_close(lska(x), plain_lska(lska, x, kernel_size), atol=1e-5, rtol=1e-5)


def test_lska_refuses_other_kernels() -> None:
    assert PUBLISHED == LSKA_KERNELS
    with pytest.raises(ValueError, match="7, 11, 23, 35, 41, 53, not 21"):
        LSKA(4, 21)


@pytest.mark.parametrize("modulated", [True, False])
@pytest.mark.parametrize("offsets", ["dense", "separable"])
def test_deformable_lka_begins_as_plain_lka(offsets: str, *, modulated: bool) -> None:
    deformable = DeformableLKA(6, 13, 3, offsets=offsets, modulated=modulated)
    plain = LKA(6, 13, 3)
    plain.load_state_dict({key: value for key, value in deformable.state_dict().items() if "predict" not in key})
    for size in [(1, 1), (17, 5), (20, 24)]:
        x = rand(2, 6, *size)
        torch.testing.assert_close(deformable(x), plain(x), atol=1e-6, rtol=1e-5)


def test_separable_offsets_are_cheaper() -> None:
    dense, separable = (
        sum(parameter.numel() for parameter in DeformableLKA(32, offsets=offsets).parameters())
        for offsets in ("dense", "separable")
    )
    assert separable < dense / 10


def test_channel_attention_weighs_by_the_factors_of_sca() -> None:
    attention, factors = ChannelAttention(4, window=8), SCA(4, window=8)
    factors.load_state_dict(attention.state_dict())
    x = rand(2, 4, 19, 23)
    torch.testing.assert_close(attention(x), x * factors(x))


@pytest.mark.parametrize(
    "attention",
    [LSKA(2, 11), DeformableLKA(2, 5, 2, modulated=True), ChannelAttention(2)],
    ids=lambda a: type(a).__name__,
)
def test_gradients_of_every_attention_are_right(attention: nn.Module) -> None:
    randomise(attention)
    attention = attention.double()
    x = rand(1, 2, 4, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: attention(x), (x, *attention.parameters()), fast_mode=True)
