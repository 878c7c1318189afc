"""Time PSNR + SSIM + MS-SSIM against the libraries: `python scripts/bench_score.py [--folder FOLDER] [--pairs 100]`.

Ours, scikit-image with pytorch-msssim used plainly, and piq where it is installed score the same pairs in turns, in
one process; decoded pictures are given to all. The table says the medians for all pairs, how many times faster ours is,
and the largest difference of any score. With `--weights-dir`, LPIPS against the package itself.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from benchmarking import hardware, interleaved, markdown_table, use_threads
from skimage import metrics as skimage_metrics
from torch import Tensor

from restore.errors import WeightsError
from restore.fetching import find_weights
from restore.images import find_images, read_photo, to_float
from restore.metrics import METRICS, score_all
from restore.metrics.torchvision_shim import import_torchvision

HEIGHT, WIDTH = 512, 768
NAMES = ("psnr", "ssim", "ms-ssim")
Pair = tuple[Tensor, Tensor]
Score = Callable[[Pair], Sequence[float]]

reference_ms_ssim: Callable[..., Tensor] = importlib.import_module("pytorch_msssim").ms_ssim  # it has no types


def generated(num_pairs: int) -> Iterator[Pair]:
    """Yield smooth random pictures, (3,512,768) in [0,1] at 8 bit, and the same with noise of σ 10 to 35 in 255."""
    generator = np.random.default_rng(0)
    for index in range(num_pairs):
        coarse = generator.uniform(0, 1, (16, 24, 3)).astype(np.float32)
        clean = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        yield _pair(clean, generator, 10 + index % 26)


def from_folder(folder: Path, num_pairs: int) -> Iterator[Pair]:
    """Yield photographs of at least 161 pixels a side and the same with noise."""
    generator = np.random.default_rng(0)
    for index, path in enumerate(sorted(find_images(folder))[:num_pairs]):
        pixels = to_float(read_photo(path).pixels)
        yield _pair(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2), generator, 10 + index % 26)


def _pair(clean: Any, generator: np.random.Generator, sigma: float) -> Pair:  # noqa: ANN401  any array of OpenCV
    noisy = clean + generator.normal(0, sigma / 255, clean.shape)
    first, second = (
        np.rint(np.clip(pixels, 0, 1) * 255).astype(np.float32) / np.float32(255) for pixels in (clean, noisy)
    )
    return torch.from_numpy(first).permute(2, 0, 1).contiguous(), torch.from_numpy(second).permute(2, 0, 1).contiguous()


def ours(pair: Pair) -> list[float]:
    """Score as `restore score` does."""
    scores = score_all(NAMES, *pair).values()
    return [math.nan if isinstance(score, ValueError) else score for score in scores]


def libraries(pair: Pair) -> list[float]:
    """Score with scikit-image and pytorch-msssim as their documentation shows."""
    arrays = [picture.permute(1, 2, 0).numpy() for picture in pair]
    similarity: Callable[..., float] = skimage_metrics.structural_similarity
    ratio: Callable[..., float] = skimage_metrics.peak_signal_noise_ratio
    plain = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return [
        ratio(*arrays, data_range=1.0),
        similarity(*arrays, data_range=1.0, channel_axis=-1, **plain),
        float(reference_ms_ssim(pair[0][None], pair[1][None], data_range=1.0)),
    ]


def by_piq(piq: Any, pair: Pair) -> list[float]:  # noqa: ANN401  a module that may be absent
    """Score with piq as its documentation shows; its SSIM halves large pictures unless told not to."""
    batch = pair[0][None], pair[1][None]
    return [
        float(piq.psnr(*batch, data_range=1.0)),
        float(piq.ssim(*batch, data_range=1.0, downsample=False)),
        float(piq.multi_scale_ssim(*batch, data_range=1.0)),
    ]


def in_threads(score: Score, pairs: Sequence[Pair], num_threads: int) -> list[Sequence[float]]:
    """Score pairs as `restore score` does: several at a time."""
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(score, pairs))


def one_by_one(score: Score, pairs: Sequence[Pair]) -> list[Sequence[float]]:
    """Score pairs in a plain loop."""
    return [score(pair) for pair in pairs]


def compare(runs: dict[str, Callable[[], list[Sequence[float]]]], names: Sequence[str], arguments: Any) -> str:  # noqa: ANN401
    """Run in turns and lay out medians, ratios to the first, and largest differences from it."""
    values = {name: np.array(run()) for name, run in runs.items()}
    seconds = interleaved(runs, arguments.repeats, warmup=0, clock=use_threads(None))
    first = next(iter(runs))
    rows = [
        [
            name,
            f"{seconds[name]:.2f}",
            f"{seconds[name] / seconds[first]:.2f}×",
            *(f"{difference:.1e}" for difference in np.abs(values[name] - values[first]).max(axis=0)),
        ]
        for name in runs
    ]
    return markdown_table(["scorer", "seconds", "time", *(f"largest Δ {name}" for name in names)], rows)


def lpips_runs(
    net: str, weights_dir: Path | None, pairs: Sequence[Pair]
) -> dict[str, Callable[[], list[Sequence[float]]]]:
    """Return LPIPS as `restore score` computes it, and the package's own module called plainly.

    Raises:
        WeightsError: the weights are not there.
    """
    function = METRICS[f"lpips-{net}"].load(find_weights(f"lpips-{net}", weights_dir))
    package = function.network

    def plainly(pair: Pair) -> list[float]:
        with torch.no_grad():
            return [float(package(pair[0][None] * 2 - 1, pair[1][None] * 2 - 1))]

    return {
        "ours": lambda: one_by_one(lambda pair: [function(*pair)], pairs),
        "lpips": lambda: one_by_one(plainly, pairs),
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="photographs to take instead of generated pictures")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--weights-dir", type=Path, help="of LPIPS")
    parser.add_argument("--net", default="squeeze", choices=["alex", "squeeze", "vgg"])
    arguments = parser.parse_args()
    pairs = list(from_folder(arguments.folder, arguments.pairs) if arguments.folder else generated(arguments.pairs))
    use_threads(arguments.threads)
    print(f"{hardware()}; {len(pairs)} pairs, medians of {arguments.repeats}\n")
    runs: dict[str, Callable[[], list[Sequence[float]]]] = {
        "ours": partial(in_threads, ours, pairs, arguments.threads),
        "ours, one at a time": partial(one_by_one, ours, pairs),
        "scikit-image + pytorch-msssim": partial(one_by_one, libraries, pairs),
    }
    if importlib.util.find_spec("piq"):
        import_torchvision()  # which piq imports
        runs["piq"] = partial(one_by_one, partial(by_piq, importlib.import_module("piq")), pairs)
    else:
        print("piq is not installed, and left out: pip install piq\n")
    print(compare(runs, NAMES, arguments))
    try:
        print(
            "\n"
            + compare(lpips_runs(arguments.net, arguments.weights_dir, pairs), [f"LPIPS {arguments.net}"], arguments)
        )
    except WeightsError as error:
        print(f"\nLPIPS is left out: {error}")


if __name__ == "__main__":
    main()
