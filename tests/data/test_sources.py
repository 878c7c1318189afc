"""restore.data.sources: bad pictures are passed over while they are few, and a part is held out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from restore.data import Mixture, Photos, Subset, Tolerant, split
from restore.errors import NothingToDoError, UsageError

Counting = Callable[..., tuple[Photos, list[int]]]


def test_a_bad_picture_is_tried_once_and_the_next_good_one_taken(counting: Counting) -> None:
    photos, reads = counting(5, 10**6, bad=(1, 2))
    pictures = Tolerant(photos)
    for index in (1, 2, 3):
        picture = pictures.read(index)
        assert isinstance(picture, torch.Tensor)
        assert int(picture[0, 0, 0]) == 3
    assert reads == [1, 2, 3]
    assert sorted(pictures.bad) == ["p1", "p2"]


def test_after_the_last_picture_comes_the_first(counting: Counting) -> None:
    photos, _ = counting(3, 10**6, bad=(2,))
    picture = Tolerant(photos).read(2)
    assert isinstance(picture, torch.Tensor)
    assert int(picture[0, 0, 0]) == 0


@pytest.mark.parametrize(("num", "bad", "fails"), [(79, 3, False), (79, 4, True), (80, 4, False), (2, 2, True)])
def test_more_than_three_and_five_percent_bad_pictures_stop(
    counting: Counting, num: int, bad: int, *, fails: bool
) -> None:
    pictures = Tolerant(counting(num, 10**6, bad=range(bad))[0])
    if fails:
        with pytest.raises(NothingToDoError, match=rf"{bad} of {num} pictures .*p0, p1"):
            pictures.read(0)
    else:
        pictures.read(0)


def test_a_bad_picture_that_a_mixture_repeats_is_tried_once_and_counted_once(counting: Counting) -> None:
    photos, reads = counting(40, 10**6, bad=(1,))
    few, _ = counting(2, 10**6)
    pictures = Tolerant(Mixture([(photos, 0.01), (few, 0.99)]))
    assert len(pictures.source) > 10 * 42
    for index in range(len(pictures.source)):
        pictures.read(index)
    assert reads.count(1) == 1
    assert list(pictures.bad) == ["p1"]
    with pytest.raises(NothingToDoError, match="4 of 42 pictures"):
        pictures.note({f"p{index}": f"p{index}: damaged" for index in (2, 3, 4)})


def test_a_bad_frame_that_spoils_many_means_counts_once(counting: Counting) -> None:
    pictures = Tolerant(counting(40, 10**6)[0])
    pictures.note({f"mean {index}": "f.png: damaged" for index in range(30)})
    pictures.note({f"mean {index}": f"f{index}.png: damaged" for index in (30, 31)})
    with pytest.raises(NothingToDoError, match=r"4 of 40 pictures cannot be read: f.png, f30.png, f31.png and 1 more "):
        pictures.note({"mean 33": "f33.png: damaged"})


def test_every_fortieth_picture_is_held_out_and_a_few_serve_both(counting: Counting) -> None:
    photos, _ = counting(81, 10**6)
    training, held_out = split(photos)
    assert [held_out.name(index) for index in range(len(held_out))] == ["p0", "p40", "p80"]
    assert len(training) == 78
    assert not {training.name(index) for index in range(78)} & {"p0", "p40", "p80"}
    for part in (training, held_out):
        for index in range(len(part)):
            assert part.name(index) == f"p{int(part.read(index)[0][0, 0])}"
    held_out.divide_memory(10)
    assert photos.cache_bytes == 10**5
    assert [len(part) for part in split(Subset(photos, range(40)))] == [39, 1]
    assert [len(part) for part in split(photos, 0.35)] == [54, 27]  # nearest to every third
    few = Subset(photos, range(5, 10))
    training, held_out = split(few)
    assert len(training) == 5
    assert (len(held_out), held_out.name(0)) == (1, "p5")
    for fraction in (0.0, 0.51):
        with pytest.raises(UsageError, match="fraction"):
            split(photos, fraction)


@pytest.mark.parametrize(("bad", "validated"), [((), "p0"), ((0, 1), "p2"), ((0, 1, 2), "p0")])
def test_of_few_pictures_the_first_that_can_be_read_validates(
    counting: Counting, bad: tuple[int, ...], validated: str
) -> None:
    _, held_out = split(counting(3, 10**6, bad=bad)[0])
    assert [held_out.name(index) for index in range(len(held_out))] == [validated]
