"""Compare the blocks: parameters, arithmetic, time, memory, and the PSNR after an equal short training.

    python scripts/bench_blocks.py [--blocks naf gated-lka-21 …] [--train-seconds 600 --data FOLDER]

One block on one map. Times are medians of interleaved rounds, the forward one folded and without gradients. Memory is
the growth of the peak of resident memory, in a process of its own for each block. GMAC counts convolutions, and three
multiplications for the interpolation at each tap of a deformable one.

The training is that of the recipe `denoise-fast` with a cosine schedule, by the clock, on the half-resolution net of
width 32 whose four encoder blocks of level 1 are replaced; the PSNR is that on held-out photographs, over all noise
levels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from benchmarking import hardware, interleaved, markdown_table, peak_bytes, use_threads
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from restore.config import load_config
from restore.logbook import read_log
from restore.models.blocks import LKABlock, NAFBlock
from restore.models.deformable import DeformableDepthwiseConv2d
from restore.models.layers import ACTIVATIONS
from restore.models.nafnet import Stage, half_resolution_net
from restore.training import Material, train

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "train"
GATED = Stage(1, "lka", expansion=1, feed_forward="gated", inner_skip=False)
DEFORMABLE = replace(GATED, attention="deformable_lka")
BLOCKS: dict[str, Stage] = {
    "naf": Stage(1),
    "naf-group-norm": Stage(1, norm="group"),
    "naf-drop-path": Stage(1, drop_path=0.1),
    "lka-21": Stage(1, "lka"),
    "lka-21-geglu": Stage(1, "lka", expansion=2, feed_forward="geglu"),
    "lka-21-simple-gate": Stage(1, "lka", expansion=2, feed_forward="simple_gate"),
    "gated-lka-21": GATED,
    "gated-lka-13": replace(GATED, kernel_size=13),
    "gated-lka-11-d2": replace(GATED, kernel_size=11, dilation=2),
    "gated-lka-35-d4": replace(GATED, kernel_size=35, dilation=4),
    **{f"gated-lska-{k}": replace(GATED, attention="lska", kernel_size=k) for k in (7, 11, 23, 35, 41, 53)},
    "gated-deformable": DEFORMABLE,
    "gated-deformable-separable": replace(DEFORMABLE, offsets="separable"),
    "gated-deformable-separable-modulated": replace(DEFORMABLE, offsets="separable", modulated=True),
    "gated-sca": replace(GATED, attention="sca"),
    **{f"gated-lka-21-{name}": replace(GATED, activation=name) for name in ACTIVATIONS if name != "gelu"},
}
WINDOW = 16  # of channel attention, on maps of level 1


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--blocks", nargs="+", choices=BLOCKS, default=list(BLOCKS), metavar="NAME", help=" ".join(BLOCKS)
    )
    parser.add_argument("--width", type=int, default=64, help="channels of the map")
    parser.add_argument("--size", default="120x80", help="of the map, width x height")
    parser.add_argument("--batch", type=int, default=1, help="maps at a time")
    parser.add_argument("--repeats", type=int, default=7, help="rounds")
    parser.add_argument("--threads", type=int, help="CPU threads; with 1 the processor's time is measured")
    parser.add_argument("--train-seconds", type=float, help="train a network of each block for so long (not done)")
    parser.add_argument("--data", type=Path, default=DATA, help="clean photographs to train on")
    parser.add_argument("--memory-of", choices=BLOCKS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    clock = use_threads(args.threads)
    width, height = map(int, args.size.split("x"))
    shape = (args.batch, args.width, height, width)
    if args.memory_of:
        print(json.dumps(memory_growth(args.memory_of, shape)))
        return

    forward = interleaved({name: forward_pass(name, shape) for name in args.blocks}, args.repeats, clock=clock)
    both = interleaved({name: both_passes(name, shape) for name in args.blocks}, args.repeats, clock=clock)
    rows = []
    for name in args.blocks:
        memory = memory_in_a_process_of_its_own(name)
        rows.append(
            [
                name,
                f"{num_parameters(name, shape) / 1e3:.1f}",
                f"{num_macs(name, shape) / 1e9:.3f}",
                f"{1000 * forward[name]:.1f}",
                f"{1000 * both[name]:.1f}",
                *(f"{grown / 1e6:.0f}" for grown in memory),
            ]
        )
    header = ["block", "10³ parameters", "GMAC", "forward ms", "with backward ms", "forward MB", "with backward MB"]
    if args.train_seconds:
        header.append("PSNR dB")
        for name, row in zip(args.blocks, rows, strict=True):
            row.append(f"{psnr_after_training(BLOCKS[name], args.data, args.train_seconds):.2f}")
    print(f"{hardware()}\nmaps of {'×'.join(map(str, shape))} (N×C×H×W), channels_last, medians of {args.repeats}\n")
    print(markdown_table(header, rows))


def build(name: str, channels: int) -> nn.Sequential:
    """Build one block with the same first weights each time."""
    torch.manual_seed(0)
    block = BLOCKS[name].build(channels, WINDOW)
    return block.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def feature_map(shape: tuple[int, ...]) -> Tensor:
    """Return a random map in channels_last memory."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).contiguous(memory_format=torch.channels_last)


def forward_pass(name: str, shape: tuple[int, ...]) -> Callable[[], object]:
    """Return what computes the folded block without gradients."""
    block, x = build(name, shape[1]).eval(), feature_map(shape)
    for module in block.modules():
        if isinstance(module, NAFBlock | LKABlock):
            module.fold()
    return torch.inference_mode()(partial(block, x))


def both_passes(name: str, shape: tuple[int, ...]) -> Callable[[], object]:
    """Return what computes the block in training, and all gradients."""
    block, x = build(name, shape[1]), feature_map(shape).requires_grad_()
    upstream, leaves = torch.ones_like(x), (x, *block.parameters())
    return lambda: torch.autograd.grad(block(x), leaves, upstream)


def num_parameters(name: str, shape: tuple[int, ...]) -> int:
    """Count the parameters of a block."""
    return sum(parameter.numel() for parameter in build(name, shape[1]).parameters())


def num_macs(name: str, shape: tuple[int, ...]) -> float:
    """Count the multiplications of a block's convolutions, nothing computed."""
    deformable: list[int] = []

    def count(module: DeformableDepthwiseConv2d, _inputs: object, output: Tensor) -> None:
        deformable.append(3 * module.num_taps * output.numel())

    with torch.device("meta"):
        block, x = BLOCKS[name].build(shape[1], WINDOW), torch.empty(shape)
    for module in block.modules():
        if isinstance(module, DeformableDepthwiseConv2d):
            module.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block(x)
    return float(counter.get_total_flops()) / 2 + sum(deformable)


def memory_growth(name: str, shape: tuple[int, ...]) -> list[int]:
    """Return by how many bytes the forward pass raises the peak of this process, and both passes together."""
    small = (*shape[:2], 8, 8)
    forward_pass(name, small)()
    both_passes(name, small)()
    forward, both = forward_pass(name, shape), both_passes(name, shape)
    peaks = [peak_bytes()]
    for run in (forward, both):
        run()
        peaks.append(peak_bytes())
    return [peak - peaks[0] for peak in peaks[1:]]


def memory_in_a_process_of_its_own(name: str) -> list[int]:
    """Return what `memory_growth` finds in a new process with the arguments of this one."""
    command = [sys.executable, *sys.argv, "--memory-of", name]
    found: list[int] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def psnr_after_training(stage: Stage, data: Path, seconds: float) -> float:
    """Train the half-resolution net with four such blocks at level 1; return the validation PSNR in dB."""
    whole = half_resolution_net(32)
    encoder = (whole.encoder[0], replace(stage, num_blocks=4))
    network = replace(whole, encoder=encoder, sca_window=64, sigma_input=True)
    config = load_config("denoise-fast", ["checkpoint.minutes=1000", "schedule.kind=cosine"], {"minutes": seconds / 60})
    config = config.model_copy(update={"network": network})
    with tempfile.TemporaryDirectory() as run:
        torch.manual_seed(0)
        train(config, Material.open(config, clean=data), Path(run))
        log = read_log(Path(run) / "log.jsonl")
    checkpoints = [record for record in log if record["event"] == "checkpoint"]
    return float(checkpoints[-1]["validation_psnr_db"])


if __name__ == "__main__":
    main()
