"""Processes that train as one, below the command line; `tests/cli/test_train.py` starts whole teams."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from restore.distributed import Team, join_team, number_of_processes, own_device
from restore.errors import DeviceError, UsageError

LEAVE_A_TEAM = """
import os
import time
import torch.distributed as dist
import restore.distributed

num_threads = len(os.listdir("/proc/self/task"))
dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
import torch._dynamo
dist.destroy_process_group()
for _ in range(100):  # one that ends takes a moment to be gone
    if len(os.listdir("/proc/self/task")) == num_threads:
        break
    time.sleep(0.1)
print(len(os.listdir("/proc/self/task")) - num_threads)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to count threads")
def test_no_thread_of_a_team_outlives_it() -> None:
    left = subprocess.run([sys.executable, "-c", LEAVE_A_TEAM], capture_output=True, text=True, check=True)
    assert left.stdout.split()[-1] == "0"


@pytest.mark.parametrize(("size", "told"), [("two", "no number"), ("2", "RANK expected")])
def test_half_the_environment_of_torchrun_is_named(monkeypatch: pytest.MonkeyPatch, size: str, told: str) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(UsageError, match=f"WORLD_SIZE={size}.*{told}.*torchrun"), join_team(torch.device("cpu")):
        pass


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "")
    with join_team(torch.device("cpu")) as team:
        assert team.size == 1


def test_a_rank_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "first")
    with pytest.raises(UsageError, match=r"LOCAL_RANK=first is no number.*torchrun"):
        own_device(torch.device("cuda"))


def test_an_empty_rank_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _device: None)
    assert own_device(torch.device("cuda")) == torch.device("cuda", 0)


def test_a_process_for_which_there_is_no_gpu_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_device: torch.device) -> None:
        raise RuntimeError("CUDA error: invalid device ordinal")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", refuse)
    with pytest.raises(DeviceError, match=r"cuda:1 is meant for this process .* only 1 CUDA devices; start no more"):
        own_device(torch.device("cuda"))


def test_every_process_gets_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert number_of_processes("auto", torch.device("cuda")) == 2
    assert number_of_processes("auto", torch.device("cuda", 1)) == 1
    assert number_of_processes("8", torch.device("cpu")) == 8
    for text, device in (("3", torch.device("cuda")), ("2", torch.device("cuda", 1))):
        with pytest.raises(UsageError, match=f"--processes {text}: each takes a GPU"):
            number_of_processes(text, device)


def test_gradients_become_the_mean_over_the_team(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_another_thrice_as_long(gradients: Tensor) -> None:
        gradients *= 1 + 3

    monkeypatch.setattr(dist, "all_reduce", with_another_thrice_as_long)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 1, 1)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ours = [torch.randn_like(parameter) for parameter in network.parameters()]
    for parameter, gradient in zip(network.parameters(), ours, strict=True):
        parameter.grad = gradient.clone()
    Team(0, 2).average_gradients(network)
    for parameter, gradient in zip(network.parameters(), ours, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)
