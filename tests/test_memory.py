"""restore.memory: what is left, of the machine and of the container."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from restore.memory import free_memory

GIB = 2**30


def system(root: Path, files: Mapping[str, object]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return root


MACHINE = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {20 * GIB // 1024} kB"}


VERSION_1 = ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")


def limits(names: tuple[str, str, str, str], group: str, limit: object, usage: int, cache: int) -> dict[str, object]:
    mount, name_of_limit, name_of_usage, name_of_cache = names
    folder = f"{mount}{group}"
    return {
        f"{folder}/{name_of_limit}": limit,
        f"{folder}/{name_of_usage}": usage,
        f"{folder}/memory.stat": f"anon 7\n{name_of_cache} {cache}",
    }


IN_1 = {"proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/job/7\n0::/"}
IN_2 = {"proc/self/cgroup": "0::/job/7"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (MACHINE, 20 * GIB),
        (MACHINE | IN_2, 20 * GIB),
        (MACHINE | IN_2 | limits(VERSION_2, "/job/7", 8 * GIB, 3 * GIB, GIB), 6 * GIB),
        (MACHINE | IN_2 | limits(VERSION_2, "", 8 * GIB, 3 * GIB, GIB), 6 * GIB),  # a container that sees only its own
        (MACHINE | IN_2 | limits(VERSION_2, "/job/7", "max", 3 * GIB, GIB), 20 * GIB),
        (
            MACHINE
            | IN_2
            | limits(VERSION_2, "/job/7", "max", 0, 0)
            | limits(VERSION_2, "/job", 8 * GIB, 3 * GIB, GIB),
            6 * GIB,
        ),
        (MACHINE | IN_2 | limits(VERSION_2, "/job/7", 8 * GIB, 9 * GIB, 0), 0),
        (MACHINE | IN_2 | limits(VERSION_2, "/other", GIB, 0, 0), 20 * GIB),
        (MACHINE | IN_1 | limits(VERSION_1, "/job/7", 8 * GIB, 3 * GIB, GIB), 6 * GIB),
        (MACHINE | IN_1 | limits(VERSION_1, "", 2**63 - 4096, 3 * GIB, GIB), 20 * GIB),
        ({"proc/meminfo": "nothing"}, 4 * GIB),
        ({}, 4 * GIB),
    ],
)
def test_the_smallest_of_what_is_left_counts(tmp_path: Path, files: dict[str, object], expected: int) -> None:
    assert free_memory(system(tmp_path, files)) == expected


def test_this_system_has_some() -> None:
    assert free_memory() > 0


FREES_AND_GIVES_BACK = """
from pathlib import Path
from restore.memory import give_back_freed_memory, keep_freed_memory

def resident():
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])

keep_freed_memory()
before = resident()
block = bytearray(2**28)
block = None
print(resident() - before)
give_back_freed_memory()
print(resident() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", FREES_AND_GIVES_BACK], capture_output=True, text=True, check=True
    )  # a process of its own, since the setting stays
    kept, left = map(int, finished.stdout.split())
    assert kept > 2**27
    assert left < 2**26
