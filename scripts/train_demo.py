"""Show training at work: five minutes from random weights to a denoiser, and what it reaches.

    python scripts/train_demo.py --out runs/train-demo [--data FOLDER] [--minutes 5]

With a folder of photographs to train on and the benchmark beside it, the score is that of the published protocol on
CBSD68. Without, the photographs that scikit-image carries serve for both: some to train on, the others to score on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from demo import ROOT, run, save_photographs
from evaluate import CBSD68

HELD_OUT = ("coffee.png", "chelsea.png")


def main() -> int:
    """Run the command of the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/train-demo"), help="run folder; one that exists is replaced"
    )
    parser.add_argument("--data", type=Path, help="folder of clean photographs to train on")
    parser.add_argument("--minutes", default="5", help="of training")
    parser.add_argument("--recipe", default="denoise-fast")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    training, benchmark = args.data, CBSD68
    if training is None or not training.is_dir():
        training = args.out.with_name(f"{args.out.name}-photographs") / "training"
        shutil.rmtree(training.parent, ignore_errors=True)
        save_photographs(training)
    if not benchmark.is_dir():
        benchmark = training.with_name("held-out")
        benchmark.mkdir(parents=True, exist_ok=True)
        for name in HELD_OUT:
            shutil.move(training / name, benchmark / name)
    run(
        "restore",
        "train",
        args.recipe,
        training,
        "--out",
        args.out,
        "--max-minutes",
        args.minutes,
        "--processes",
        "auto",
        "--set",
        "schedule.kind=cosine",
    )
    run(ROOT / "scripts/evaluate.py", args.out, "--sigma", 25, "--folder", benchmark)
    print(f"\nSee {args.out}/curves.png; `restore denoise in/ out/ --model {args.out}` uses these weights.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
