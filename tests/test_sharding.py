from __future__ import annotations

import hashlib

import pytest

from restore.errors import UsageError
from restore.sharding import WHOLE, Shard

NAMES = [f"2024/été/photo-{number}.jpg" for number in range(1000)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_name_falls_to_one_part_and_parts_are_about_equal(count: int) -> None:
    parts = [{name for name in NAMES if Shard(index, count).holds(name)} for index in range(count)]
    assert set().union(*parts) == set(NAMES)
    assert sum(map(len, parts)) == len(NAMES)
    assert min(map(len, parts)) > 0.75 * len(NAMES) / count


def test_a_part_is_the_same_in_every_process_and_version() -> None:
    digest = hashlib.blake2b(b"a", digest_size=8).hexdigest()
    assert [Shard(index, 5).holds("a.png") for index in range(5)].index(True) == int(digest, 16) % 5


@pytest.mark.parametrize(
    "names",
    [
        ("2024/X.png", "2024/x.png"),
        ("caf\u00e9.png", "cafe\u0301.png"),
        ("Stra\u00dfe.png", "STRASSE.png"),
        ("a/x.JPG", "A/X.png"),
    ],
)
def test_names_that_may_be_one_on_a_disk_fall_to_one_part(names: tuple[str, str]) -> None:
    first, second = ([Shard(index, 997).holds(name) for index in range(997)] for name in names)
    assert first == second


def test_names_that_are_no_text_fall_to_a_part() -> None:
    assert sum(Shard(index, 3).holds("caf\udce9.png") for index in range(3)) == 1


@pytest.mark.parametrize(("text", "shard"), [("0/1", WHOLE), ("0/4", Shard(0, 4)), ("11/12", Shard(11, 12))])
def test_parts_are_read_as_they_are_written(text: str, shard: Shard) -> None:
    assert Shard.parse(text) == shard
    assert str(shard) == text


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({"RANK": "1", "WORLD_SIZE": "2"}, Shard(1, 2)),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}, Shard(3, 8)),
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, Shard(1, 2)),
        ({"RANK": "1", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}, Shard(3, 8)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"}, WHOLE),  # the shell of an allocation
    ],
)
def test_auto_is_what_the_starter_of_processes_says(environment: dict[str, str], shard: Shard) -> None:
    assert Shard.parse("auto", environment) == shard


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("1", {}, "shard 1: choose auto, or the number of a part from 0 and how many, such as 0/4"),
        ("-1/4", {}, "shard -1/4: choose auto"),
        ("١/٤", {}, "shard ١/٤: choose auto"),
        ("0/4\n", {}, "choose auto"),
        ("4/4", {}, "shard 4/4: there is no such part; parts count from 0: choose 0/4 to 3/4"),
        ("0/0", {}, "shard 0/0: there is no such part; parts count from 0: choose 0/1"),
        (
            "auto",
            {},
            r"neither RANK and .* \(torchrun\) nor SLURM_PROCID and SLURM_STEP_NUM_TASKS \(srun\) are set",
        ),
        ("auto", {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, "shard auto: neither"),  # a batch script without srun
        ("auto", {"RANK": "first", "WORLD_SIZE": "2"}, "RANK=first and WORLD_SIZE=2 are not what torchrun sets"),
        (
            "auto",
            {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "2"},
            "SLURM_STEP_NUM_TASKS=2 are not what srun sets",
        ),
    ],
)
def test_parts_that_do_not_exist_are_refused(text: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Shard.parse(text, environment)
