"""Measure training: patches a second, ours and the plainly written net's, and how long a step waits for its samples.

    python scripts/bench_train.py [--data FOLDER] [--preset founding-12] [--rounds 3] [--seconds 25]

The plain net (direct dilated convolutions, arithmetic layer normalisation, contiguous memory, float32) and ours take
steps of 16 patches of 64² with the same optimisers, one process with all threads, in turns. `restore train` then runs
as it does for a user, in one process and in one on each core, with samples drawn from photographs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from benchmarking import hardware, markdown_table
from demo import save_photographs
from plain_nets import PlainNAFNet
from torch import Tensor, nn

from restore.config import TrainConfig, load_config
from restore.distributed import number_of_processes
from restore.logbook import read_log
from restore.losses import charbonnier_loss
from restore.models import PRESETS, NAFNet
from restore.optim import build_muon

BATCH, SIZE = 16, 64
Step = Callable[[], None]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="clean photographs (those of scikit-image)")
    parser.add_argument("--preset", default="founding-12", choices=PRESETS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=25, help="of every way in every round")
    args = parser.parse_args()
    settings = [f"network={{preset='{args.preset}'}}", f"patches=[{{start=0,size={SIZE},batch_size={BATCH}}}]"]
    settings += ["data={}", "checkpoint.minutes=60"]
    config = load_config("denoise-lka", settings)
    num_cores = number_of_processes("auto", torch.device("cpu"))
    with tempfile.TemporaryDirectory() as temporary:
        data = args.data or Path(temporary) / "photographs"
        if args.data is None:
            save_photographs(data)
        ways: dict[str, Callable[[], tuple[float, float]]] = {
            "plain net, all threads": stepping(plain_step(config), args.seconds),
            "our net, all threads": stepping(our_step(config), args.seconds),
            "restore train, 1 process": lambda: running(settings, data, args.seconds, ["--processes", "1"]),
            f"restore train, {num_cores} processes": lambda: running(
                settings, data, args.seconds, ["--processes", str(num_cores)]
            ),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, measure in ways.items():
                found[name].append(measure())
    rows = []
    reference = statistics.median(speed for speed, _ in found["plain net, all threads"])
    for name, results in found.items():
        speed, waiting = (statistics.median(column) for column in zip(*results, strict=True))
        share = f"{100 * waiting:.1f} %" if name.startswith("restore") else "–"
        rows.append([name, f"{speed:.1f}", f"{speed / reference:.2f}", share])
    print(f"{hardware()}\n{args.preset}, {BATCH} patches of {SIZE}², medians of {args.rounds} rounds in turns\n")
    print(markdown_table(["", "patches/s", "times the plain net's", "waiting for samples"], rows))


def stepping(step: Step, seconds: float) -> Callable[[], tuple[float, float]]:
    """Return what measures patches a second of a step on samples that are there already."""

    def measure() -> tuple[float, float]:
        step()
        started, num_steps = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            step()
            num_steps += 1
        return BATCH * num_steps / (time.perf_counter() - started), 0.0

    return measure


def plain_step(config: TrainConfig) -> Step:
    """Return a step of the plain net in contiguous memory."""
    return step_of(PlainNAFNet(config.network.as_dict()), torch.contiguous_format)


def our_step(config: TrainConfig) -> Step:
    """Return a step of our net in channels_last, in float32 as the plain one."""
    network = NAFNet(config.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return step_of(network, torch.channels_last)


def step_of(network: nn.Module, memory: torch.memory_format) -> Step:
    """Return a step: forward, Charbonnier, backward, Muon and AdamW."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(BATCH, 3, SIZE, SIZE, generator=generator).contiguous(memory_format=memory)
    noisy: Tensor = clean + 0.1 * torch.randn(clean.shape, generator=generator).contiguous(memory_format=memory)
    optimisers = build_muon(network)

    def step() -> None:
        charbonnier_loss(network(noisy), clean).backward()  # type: ignore[no-untyped-call]
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return step


def running(settings: list[str], data: Path, seconds: float, options: list[str]) -> tuple[float, float]:
    """Run `restore train` and return its patches a second and the share of the time that it waited for samples."""
    with tempfile.TemporaryDirectory() as run:
        words = ["-m", "restore", "train", "denoise-lka", str(data), "--out", run, "--quiet", *options]
        words += ["--max-minutes", str(max(12.0, seconds) / 60)]  # a record comes after ten seconds
        subprocess.run(
            [sys.executable, *words, *(f"--set={setting}" for setting in settings)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        log = read_log(Path(run) / "log.jsonl")
    records = [record for record in log if record["event"] == "progress"]
    return records[-1]["images_per_second"], records[-1]["waiting_share"]


if __name__ == "__main__":
    main()
