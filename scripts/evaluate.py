"""Score denoisers by the published protocol of colour Gaussian denoising.

    python scripts/evaluate.py denoise-fast runs/my-run --peers

Noise is added in float, neither clipped nor quantised, from a seed for each picture; what comes back is clamped to
[0,1] and rounded to 8 bits; the score is the mean over pictures of the PSNR over RGB in float64, and of the SSIM.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarking import markdown_table
from peers import PEERS, Denoiser, Pixels

from restore import inference
from restore.degradations import gaussian_noise, generator_for
from restore.errors import NothingToDoError, RestoreError
from restore.images import Photo, find_images, from_float, read_photo, to_float, write_photo
from restore.metrics import psnr, ssim

CBSD68 = Path(__file__).resolve().parents[2] / "shared" / "data" / "test" / "cbsd68"
PROTOCOL = (
    "noise added in float, neither clipped nor quantised, one seed for each picture; output clamped and rounded to 8 "
    "bits; mean over pictures of RGB PSNR (float64) and SSIM (Gaussian window 11, σ 1.5)"
)


@dataclass(frozen=True)
class Score:
    """Means over the pictures.

    Args:
        model: name or path.
        sigma: of the noise, on 0–255.
        psnr_db: mean of the PSNR of each picture.
        ssim: mean of the SSIM of each picture.
    """

    model: str
    sigma: float
    psnr_db: float
    ssim: float


def our_denoiser(name_or_path: str, *, told: bool = False) -> Denoiser:
    """Return a network of ours; blind unless it is told σ.

    Raises:
        WeightsError: the weights cannot be loaded.
    """
    restorer = inference.load(name_or_path, device="cpu", tile="off")

    def denoise(noisy: Pixels, sigma: float) -> Pixels:
        return restorer(noisy, sigma=sigma if told else None).astype(np.float32, copy=False)

    return denoise


def noisy_pairs(folder: Path, sigma: float, limit: int | None = None) -> Iterator[tuple[str, Pixels, Pixels]]:
    """Yield the name, the clean and the noisy (H,W,3) float32 of each picture of a folder, sorted by path.

    Args:
        folder: searched recursively.
        sigma: in [0,1].
        limit: take the first ones only.

    Raises:
        NothingToDoError: no pictures.
        ImageError: one cannot be read.
    """
    paths = sorted(find_images(folder))[:limit]
    if not paths:
        raise NothingToDoError(f"{folder}: no pictures to score on")
    for path in paths:
        clean = torch.from_numpy(to_float(read_photo(path).pixels))
        clean = clean.expand(3, -1, -1) if clean.ndim == 2 else clean.permute(2, 0, 1)
        noisy = gaussian_noise(clean, sigma, generator_for(0, path.relative_to(folder)))
        yield path.stem, _as_rows(clean), _as_rows(noisy)


def evaluate(
    denoisers: dict[str, Denoiser], folder: Path, sigma: float, limit: int | None = None, save: Path | None = None
) -> list[Score]:
    """Score every denoiser at one noise level.

    Args:
        denoisers: by name.
        folder: of clean pictures.
        sigma: on 0–255.
        limit: take the first pictures only.
        save: write what comes back to SAVE/σ/MODEL/NAME.png.
    """
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in denoisers}
    for stem, clean, noisy in noisy_pairs(folder, sigma / 255, limit):
        for name, denoise in denoisers.items():
            codes = from_float(denoise(noisy, sigma / 255), np.dtype(np.uint8))
            restored, reference = _as_planes(to_float(codes)), _as_planes(clean)
            scores[name].append((psnr(reference, restored), ssim(reference, restored)))
            if save is not None:
                _save(save / f"{sigma:g}" / Path(name).stem / f"{stem}.png", codes)
    means = {name: [statistics.fmean(column) for column in zip(*pairs, strict=True)] for name, pairs in scores.items()}
    return [Score(name, sigma, mean_psnr, mean_ssim) for name, (mean_psnr, mean_ssim) in means.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of the module's docstring; return the exit code."""
    options = _parse(arguments)
    try:
        denoisers = {name: our_denoiser(name, told=options.told) for name in options.models}
        denoisers |= {name: build() for name, build in PEERS.items() if options.peers}
        num_pictures = len(list(find_images(options.folder))[: options.limit])
        scores = [
            score
            for sigma in options.sigma
            for score in evaluate(denoisers, options.folder, sigma, options.limit, options.save)
        ]
    except (RestoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    told = ", told σ" if options.told else ", blind"
    rows = []
    for name in denoisers:
        own = [score for score in scores if score.model == name]
        label = name + (told if name in options.models else "")
        rows.append([label, *(f"{score.psnr_db:.2f} / {score.ssim:.4f}" for score in own)])
    versions = f"torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    print(f"{options.folder.name}, {num_pictures} pictures: {PROTOCOL}; {versions}\n")
    print(markdown_table(["PSNR dB / SSIM", *(f"σ {sigma:g}" for sigma in options.sigma)], rows))
    if options.json:
        document = {
            "protocol": PROTOCOL,
            "folder": options.folder.name,
            "num_pictures": num_pictures,
            "versions": versions,
            "told": options.told,
            "scores": [asdict(score) for score in scores],
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="names of weights, weight files or folders of training runs")
    parser.add_argument("--folder", type=Path, default=CBSD68, help="clean pictures (CBSD68 in the data folder)")
    parser.add_argument("--sigma", type=float, nargs="+", default=[15, 25, 50], help="noise levels on 0–255 (15 25 50)")
    parser.add_argument("--limit", type=int, metavar="N", help="take the first N pictures only")
    parser.add_argument("--told", action="store_true", help="tell our networks σ")
    parser.add_argument("--peers", action="store_true", help=f"score {', '.join(PEERS)} too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores there too")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write the restored pictures below this folder")
    options = parser.parse_args(arguments)
    if not options.models and not options.peers:
        parser.error("name a model, or add --peers")
    return options


def _as_rows(planes: torch.Tensor) -> Pixels:
    rows: Pixels = planes.permute(1, 2, 0).contiguous().numpy()
    return rows


def _as_planes(rows: Pixels) -> torch.Tensor:
    return torch.from_numpy(rows).permute(2, 0, 1)


def _save(path: Path, codes: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_photo(path, Photo(pixels=codes, alpha=None, icc=None, exif=None, format="png", warnings=()))


if __name__ == "__main__":
    sys.exit(main())
