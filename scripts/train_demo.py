"""Show training at work: five minutes from random weights to a denoiser, and what it reaches.

    python scripts/train_demo.py --out runs/train-demo [--data FOLDER] [--minutes 5]

With a folder of photographs to train on and the benchmark beside it, the score is that of the published protocol on
CBSD68. Else two of the photographs that scikit-image carries are scored on; the others are trained on where there is no
folder.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from demo import ROOT, run, save_photographs
from evaluate import CBSD68

HELD_OUT = ("coffee.png", "chelsea.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/train-demo"), help="run folder; one that exists is replaced"
    )
    parser.add_argument("--data", type=Path, help="folder of clean photographs to train on")
    parser.add_argument("--minutes", default="5", help="of training")
    parser.add_argument("--recipe", default="denoise-fast")
    args = parser.parse_args(arguments)
    shutil.rmtree(args.out, ignore_errors=True)
    training, benchmark = args.data, CBSD68
    has_data = training is not None and training.is_dir()
    if not (has_data and benchmark.is_dir()):
        photographs, benchmark = save_and_split(args.out.with_name(f"{args.out.name}-photographs"))
        training = training if has_data else photographs
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


def save_and_split(folder: Path) -> tuple[Path, Path]:
    """Write scikit-image's photographs anew; return where those to train on lie, and those to score on."""
    training, held_out = folder / "training", folder / "held-out"
    shutil.rmtree(folder, ignore_errors=True)
    save_photographs(training)
    held_out.mkdir()
    for name in HELD_OUT:
        shutil.move(training / name, held_out / name)
    return training, held_out


if __name__ == "__main__":
    sys.exit(main())
