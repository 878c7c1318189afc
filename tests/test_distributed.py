"""Processes that train as one, below the command line; `tests/cli/test_train.py` starts whole teams."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LEAVE_A_TEAM = """
import os
import torch.distributed as dist
import restore.distributed

num_threads = len(os.listdir("/proc/self/task"))
dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
import torch._dynamo
dist.destroy_process_group()
print(len(os.listdir("/proc/self/task")) - num_threads)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to count threads")
def test_no_thread_of_a_team_outlives_it() -> None:
    left = subprocess.run([sys.executable, "-c", LEAVE_A_TEAM], capture_output=True, text=True, check=True)
    assert left.stdout.split()[-1] == "0"
