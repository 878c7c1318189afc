"""Time a folder run against the network alone on the same pictures: `python scripts/bench_folder.py [--copies N]`.

What the run adds is decoding and encoding, which should hide behind the network. PNG and JPEG, in turns.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarking import hardware, interleaved, markdown_table
from evaluate import CBSD68

from restore.images import Photo, find_images, read_photo, write_photo
from restore.inference import Restorer, load
from restore.pipeline import restore_folder
from restore.types import Existing


def main() -> None:
    """Print the wall time of both and the ratio for each format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="denoise-fast", help="name or weight file")
    parser.add_argument("--folder", type=Path, default=CBSD68, help="pictures to copy (CBSD68 in the data folder)")
    parser.add_argument("--pictures", type=int, default=16, help="how many different ones (16)")
    parser.add_argument("--copies", type=int, default=2, help="of each (2)")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    restorer = load(args.model, device="cpu")
    photos = [read_photo(path) for path in sorted(find_images(args.folder))[: args.pictures]] * args.copies
    rows = []
    for suffix in (".png", ".jpg"):
        with tempfile.TemporaryDirectory() as temporary:
            folder, output = Path(temporary, "in"), Path(temporary, "out")
            folder.mkdir()
            for index, photo in enumerate(photos):
                write_photo(folder / f"{index:04}{suffix}", photo)
            runs = {"folder": folder_run(folder, output, restorer), "network": network_run(photos, restorer)}
            seconds = interleaved(runs, args.repeats)
        ratio = seconds["folder"] / seconds["network"]
        rows.append([suffix[1:], *(f"{1000 * value:.0f}" for value in seconds.values()), f"{ratio:.3f}"])
    height, width = photos[0].pixels.shape[:2]
    print(f"{hardware()}\n{args.model}, {len(photos)} pictures of about {width}×{height}\n")
    print(markdown_table(["format", "folder run ms", "network alone ms", "ratio"], rows))


def folder_run(folder: Path, output: Path, restorer: Restorer) -> Callable[[], object]:
    """Return the run of a folder through the pipeline, files and all."""
    return lambda: restore_folder(folder, output, model=restorer, existing=Existing.OVERWRITE)


def network_run(photos: Sequence[Photo], restorer: Restorer) -> Callable[[], object]:
    """Return the run of decoded pictures through the network."""
    return lambda: [restorer(photo.pixels) for photo in photos]


if __name__ == "__main__":
    main()
