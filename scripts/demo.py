"""Show the tool at work: make noisy copies of real photographs, restore them, measure both, draw them side by side.

    python scripts/demo.py --out demo

The photographs are those that scikit-image carries, so nothing is downloaded. Every step is a command that is printed
before it runs.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
from skimage import data

PHOTOGRAPHS = {
    "astronaut": data.astronaut,
    "camera": data.camera,
    "chelsea": data.chelsea,
    "coffee": data.coffee,
    "motorcycle": lambda: data.stereo_motorcycle()[0],  # type: ignore[no-untyped-call]
    "rocket": data.rocket,
}
ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the command of the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to make; one that exists is replaced")
    parser.add_argument("--noise", default="25", help="standard deviation on 0–255")
    parser.add_argument("--model", default="denoise-fast")
    args = parser.parse_args()
    clean, noisy, restored = (args.out / name for name in ("clean", "noisy", "restored"))
    for folder in (clean, noisy, restored):
        shutil.rmtree(folder, ignore_errors=True)
    save_photographs(clean)
    run("restore", "degrade", clean, noisy, "--noise", args.noise, "--seed", 0)
    run("restore", "denoise", noisy, restored, "--model", args.model)
    print("\nnoisy against clean")
    run("restore", "score", clean, noisy)
    print("\nrestored against clean")
    run("restore", "score", clean, restored)
    sheet = args.out / "before-after.png"
    columns = [f"noisy={noisy}", f"restored={restored}", f"clean={clean}"]
    run(ROOT / "scripts/contact_sheet.py", "--columns", *columns, "--out", sheet, "--scores")
    print(f"\nLook at {sheet}; the restored photographs are in {restored}.")
    return 0


def save_photographs(folder: Path) -> None:
    """Write the photographs as PNG."""
    folder.mkdir(parents=True)
    for name, photograph in PHOTOGRAPHS.items():
        pixels = photograph()  # type: ignore[no-untyped-call]  # scikit-image has no types
        cv2.imwrite(str(folder / f"{name}.png"), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def run(program: str | Path, *arguments: object) -> None:
    """Say a command, run it with this Python, stop where it fails."""
    words = [str(argument) for argument in arguments]
    module = ["-m", "restore"] if program == "restore" else [str(program)]
    shown = "restore" if program == "restore" else f"python {Path(program).relative_to(ROOT)}"
    print(f"\n$ {shown} {shlex.join(words)}", flush=True)
    finished = subprocess.run([sys.executable, *module, *words], check=False)
    if finished.returncode:
        sys.exit(finished.returncode)


if __name__ == "__main__":
    sys.exit(main())
