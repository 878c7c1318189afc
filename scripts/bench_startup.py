"""Time how soon the command line answers: `python scripts/bench_startup.py [--repeats N]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial

from benchmarking import hardware, interleaved

COMMANDS = {"restore --help": ["--help"], "restore denoise --help": ["denoise", "--help"]}


def main() -> None:
    """Print the median wall time of each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    seconds = interleaved({name: partial(run, words) for name, words in COMMANDS.items()}, args.repeats)
    print(hardware())
    for name, median in seconds.items():
        print(f"{name}: {median:.3f} s")


def run(words: list[str]) -> None:
    """Run the command in a new process, as a person would."""
    subprocess.run([sys.executable, "-m", "restore", *words], check=True, capture_output=True)


if __name__ == "__main__":
    main()
