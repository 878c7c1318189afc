"""What the benchmarks share: interleaved timing, medians, ratios, and a line that says on what."""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import torch

Clock = Callable[[], float]
BYTES_OF_MAXRSS = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss


def hardware() -> str:
    """Describe the processor and the versions in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    model = fields.get("model name") or platform.processor() or platform.machine()
    bf16 = "yes" if "avx512_bf16" in fields.get("flags", "").split() else "no"
    return (
        f"{model}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, avx512_bf16: {bf16}, "
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}"
    )


def use_threads(num_threads: int | None) -> Clock:
    """Set the threads that torch and OpenCV compute with, and return the clock to time them by.

    With one thread that is the processor's time, which other programs hardly change; else the time that passes.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
        cv2.setNumThreads(num_threads)
    return time.thread_time if num_threads == 1 else time.perf_counter


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    repeats: int = 7,
    warmup: int = 1,
    clock: Clock = time.perf_counter,
) -> dict[str, float]:
    """Time functions in turns, so that a disturbance meets all of them.

    Args:
        functions: what to time, by name.
        repeats: rounds that count.
        warmup: rounds before them.
        clock: returns seconds.

    Returns:
        The median seconds of each.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warmup + repeats):
        for name, function in functions.items():
            started = clock()
            function()
            if turn >= warmup:
                seconds[name].append(clock() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def peak_bytes() -> int:
    """Return the peak of resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # there ru_maxrss begins with the peak of the process that started this one
        return 1024 * int(status.read_text(encoding="ascii").partition("VmHWM:")[2].split()[0])
    import resource  # noqa: PLC0415  Windows has none

    return BYTES_OF_MAXRSS * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table; the first column to the left, numbers to the right."""
    rule = ["---", *["---:" for _ in header[1:]]]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])
