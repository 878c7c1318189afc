"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from restore.errors import UsageError
from restore.types import Existing, Precision

Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="INPUT…", readable=False, help="Photographs, and folders to search for them recursively."),
]
Output = Annotated[
    Path,
    typer.Argument(
        metavar="OUTPUT", readable=False, help="Folder, which mirrors the input; for a single file also a file name."
    ),
]
Model = Annotated[
    str, typer.Option(help="Shipped name (see `restore models`), weight file, official NAFNet .pth, or training run.")
]
Strength = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Blend between the input (0) and the restored picture (1).")
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:i]", help="Where to compute.")]
PrecisionOption = Annotated[
    Precision,
    typer.Option("--precision", help="Number format to compute in; auto: fp32 on a CPU, bf16 on GPUs that have it."),
]
Tile = Annotated[
    str,
    typer.Option(
        metavar="N|auto|off",
        help="Side of the overlapping tiles in pixels, 256 or more; auto: 1024, less where memory is short; off: none.",
    ),
]
Ensemble = Annotated[
    int | None,
    typer.Option(
        metavar="1|2|4|8",
        help="Average over so many turned and mirrored copies: better, and as many times slower; by default as the "
        "weights say.",
    ),
]
Format = Annotated[
    str | None, typer.Option("--format", metavar="png|jpg|tif|…", help="Output format; by default that of the input.")
]
Quality = Annotated[int, typer.Option(min=1, max=100, help="Quality of JPEG and lossy WebP outputs.")]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing", help="Keep outputs that exist; redo those whose input, weights or options have changed."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist already.")]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N|auto",
        help="Do only part I, from 0, of N, so that N processes or machines share the files; auto: as torchrun or srun "
        "number this process.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done; write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Name every file, and why others are passed over.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
MaxPixels = Annotated[
    int, typer.Option(min=1, metavar="N", help="Refuse pictures with more pixels than this, before decoding.")
]
AllowTruncated = Annotated[
    bool, typer.Option("--allow-truncated", help="Accept what can be read of a damaged JPEG, TIFF, BMP or PNM.")
]
StripMetadata = Annotated[
    bool,
    typer.Option(
        "--strip-metadata", help="Drop EXIF (with GPS), XMP, IPTC and texts; keep the colour profile and dpi."
    ),
]

DEFAULT_MAX_PIXELS = 2**28


def tile_size(text: str) -> int | Literal["auto", "off"]:
    """Read the value of --tile.

    Raises:
        UsageError: it is neither `auto`, `off` nor a number.
    """
    if text == "auto":
        return "auto"
    if text == "off":
        return "off"
    if not text.isdecimal():
        raise UsageError(f"--tile {text}: choose auto, off or a number of pixels")
    return int(text)


def what_becomes_of_existing(*, skip_existing: bool, overwrite: bool) -> Existing:
    """Read --skip-existing and --overwrite.

    Raises:
        UsageError: both are given.
    """
    if skip_existing and overwrite:
        raise UsageError("--skip-existing and --overwrite exclude each other; choose one")
    if skip_existing:
        return Existing.SKIP
    return Existing.OVERWRITE if overwrite else Existing.REFUSE


def suffix_of(format_name: str | None) -> str | None:
    """Return the suffix that --format stands for: `jpg` and `.jpg` mean `.jpg`."""
    return None if format_name is None else f".{format_name.lower().removeprefix('.')}"
