"""Time the founding net as the project runs it against the same net written plainly.

    python scripts/bench_inference.py [--preset NAME] [--size WIDTHxHEIGHT …]

Both see the whole picture at once, in float32, in one process, in turns; their outputs are compared.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from benchmarking import Clock, hardware, interleaved, markdown_table, use_threads
from plain_nets import plain_net, randomise

from restore.inference import Restorer
from restore.models import PRESETS, NAFNet


def main() -> None:
    """Print milliseconds, the ratio and the largest difference for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="founding-12")
    parser.add_argument("--size", nargs="+", default=["480x320", "1920x1080"], help="WIDTHxHEIGHT")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="CPU threads; with 1 the processor's time is measured")
    args = parser.parse_args()
    clock = use_threads(args.threads)
    print(hardware())
    rows = []
    for size in args.size:
        width, height = map(int, size.split("x"))
        plain_seconds, our_seconds, difference = compare(args.preset, height, width, args.repeats, clock)
        ratio = plain_seconds / our_seconds
        rows.append(
            [size, f"{1000 * plain_seconds:.0f}", f"{1000 * our_seconds:.0f}", f"{ratio:.2f}×", f"{difference:.1e}"]
        )
    print(f"\n{args.preset}, float32, medians of {args.repeats}, interleaved\n")
    print(markdown_table(["size", "plain ms", "ours ms", "ratio", "largest difference"], rows))


def compare(preset: str, height: int, width: int, repeats: int, clock: Clock) -> tuple[float, float, float]:
    """Return the median seconds of the plain and of our network, and the largest absolute difference."""
    network = NAFNet(PRESETS[preset]).eval()
    randomise(network)
    plain = plain_net(network.config.as_dict(), network.state_dict())
    restorer = Restorer(network, tile="off")
    picture = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    planes = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()

    @torch.inference_mode()
    def run_plainly() -> torch.Tensor:
        result: torch.Tensor = plain(planes)
        return result

    def run_ours() -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        return restorer(picture, clip=False)

    expected = run_plainly()[0].permute(1, 2, 0).numpy()
    difference = float(np.abs(run_ours() - expected).max())
    seconds = interleaved({"plain": run_plainly, "ours": run_ours}, repeats, warmup=0, clock=clock)
    return seconds["plain"], seconds["ours"], difference


if __name__ == "__main__":
    main()
