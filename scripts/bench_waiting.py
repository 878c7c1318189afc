"""Time restoring where other programs fill all cores, by how long OpenMP's threads wait for one another awake.

python scripts/bench_waiting.py [--models denoise deblur-fast] [--counts 1000 10000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from benchmarking import hardware, interleaved, markdown_table

import restore

HEIGHT, WIDTH = 321, 481
LOADS = {"alone": 0, "beside programs on all cores": os.cpu_count() or 1}


def main() -> None:
    """Print the median seconds for one picture of each model, in every setting, alone and beside other programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["denoise", "deblur-fast"])
    parser.add_argument("--counts", nargs="+", default=["1000", "10000"], help="of GOMP_SPINCOUNT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--time", metavar="MODEL", help="print the seconds for one picture, and nothing else")
    args = parser.parse_args()
    if args.time:
        print(seconds_for_picture(args.time))
        return
    settings: dict[str, dict[str, str]] = {"libgomp's own choice": {}, "one thread": {"OMP_NUM_THREADS": "1"}}
    settings |= {f"GOMP_SPINCOUNT={count}": {"GOMP_SPINCOUNT": count} for count in args.counts}
    print(f"{hardware()}, {WIDTH}×{HEIGHT}, medians of {args.rounds} processes, ms")
    columns = [(load, model) for load in LOADS for model in args.models]
    times: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(args.rounds):
        for load, num_programs in LOADS.items():
            with busy_programs(num_programs):
                for name, variables in settings.items():
                    for model in args.models:
                        times.setdefault((name, load, model), []).append(time_apart(model, variables))
    rows = [
        [name, *(f"{1000 * statistics.median(times[name, load, model]):.0f}" for load, model in columns)]
        for name in settings
    ]
    print(markdown_table(["threads wait", *(f"{model}, {load}" for load, model in columns)], rows))


def time_apart(model: str, variables: Mapping[str, str]) -> float:
    """Time a picture in a process of its own, since libgomp reads its variables once."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, __file__, "--time", model]
    done = subprocess.run(command, env={**inherited, **variables}, check=True, capture_output=True, text=True)
    return float(done.stdout)


def seconds_for_picture(model: str, repeats: int = 3) -> float:
    """Return the median seconds, without loading and without the first picture."""
    restorer = restore.load(model)
    picture = torch.rand(3, HEIGHT, WIDTH, generator=torch.manual_seed(0)).mul_(0.2).add_(0.4)
    return interleaved({model: lambda: restorer(picture)}, repeats)[model]


@contextmanager
def busy_programs(num: int) -> Iterator[None]:
    """Keep processes computing while it is open, each with one thread, as likely to run as any other."""
    with ExitStack() as stack:
        for _ in range(num):
            program = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(program.kill)
        yield


if __name__ == "__main__":
    main()
