"""Processes that train as one, below the command line; `tests/cli/test_train.py` starts whole teams."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from restore.distributed import number_of_processes
from restore.errors import UsageError

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


def test_every_process_gets_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert number_of_processes("auto", torch.device("cuda")) == 2
    assert number_of_processes("auto", torch.device("cuda", 1)) == 1
    assert number_of_processes("8", torch.device("cpu")) == 8
    for text, device in (("3", torch.device("cuda")), ("2", torch.device("cuda", 1))):
        with pytest.raises(UsageError, match=f"--processes {text}: each takes a GPU"):
            number_of_processes(text, device)
