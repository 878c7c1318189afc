"""The options of `restore score`, and how their values are read."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restore.cli import console
from restore.cli.meanings import list_metrics
from restore.errors import OutputError, UsageError

if TYPE_CHECKING:
    from restore.scoring import Measures


def _list_metrics(asked: bool) -> None:
    if asked:
        list_metrics()
        raise typer.Exit


Reference = Annotated[
    Path,
    typer.Argument(metavar="REFERENCE", help="Folder (or file) of reference pictures, or saved FID statistics."),
]
Restored = Annotated[
    list[Path],
    typer.Argument(metavar="RESTORED…", help="Folders (or files) to compare; names match without their extension."),
]
Metrics = Annotated[
    str, typer.Option(metavar="NAME,…", help="See --list-metrics; the worst pictures are by the first.")
]
ListMetrics = Annotated[
    bool, typer.Option("--list-metrics", callback=_list_metrics, is_eager=True, help="List the metrics and leave.")
]
Combine = Annotated[
    str | None, typer.Option(metavar="SUM", help="Also a combined score, such as 0.5*psnr/100+0.5*ms-ssim.")
]
Channel = Annotated[Literal["rgb", "y"], typer.Option(help="Compare all channels, or the luma of BT.601 (limited).")]
CropBorder = Annotated[int, typer.Option(min=0, metavar="N", help="Leave out N pixels along each edge.")]
Alpha = Annotated[
    str, typer.Option(metavar="ignore|white|black|grey|#rrggbb", help="Ignore alpha, or lay over a background.")
]
WeightsDir = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the weights of metrics lie.")]
FidWeights = Annotated[Path | None, typer.Option(metavar="FILE", help="Weights of the FID's Inception-v3.")]
SaveStatistics = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.safetensors",
        help="Save FID statistics of the references, and of the restored in a folder of their name beside it.",
    ),
]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Accept pictures without a partner.")]
AllowMissingMetrics = Annotated[
    bool, typer.Option("--allow-missing-metrics", help="Accept metrics whose weights are missing.")
]
FailUnder = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="Exit with 1 if the mean is worse; may be repeated.")
]
JsonFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the JSON report to a file.")]
Csv = Annotated[Path | None, typer.Option(metavar="FILE", help="Write one row for each pair.")]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write one page with pictures; it needs no network.")]
Worst = Annotated[int, typer.Option(min=0, metavar="N", help="How many of the worst to name; as many best in --html.")]
Workers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Threads that decode and score; by the cores if absent.")
]


def names_of(metrics: str) -> list[str]:
    """Read the value of --metrics."""
    return list(dict.fromkeys(name.strip().lower() for name in metrics.split(",")))


def thresholds(texts: Sequence[str]) -> dict[str, float]:
    """Read the values of --fail-under.

    Raises:
        UsageError: one is not NAME=NUMBER.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name.strip().lower()] = float(value)
        except ValueError:
            raise UsageError(f"--fail-under {text}: write NAME=NUMBER, such as psnr=30") from None
        if math.isnan(float(value)):
            raise UsageError(f"--fail-under {text}: a score is compared with a number")
    return found


def assert_measured(limits: Iterable[str], measures: Measures) -> None:
    """Refuse limits of metrics that are not asked for.

    Raises:
        UsageError: there is one.
    """
    known = measures.everything_asked_for
    for name in limits:
        if name not in known:
            raise UsageError(
                f"--fail-under {name}: is not measured; choose from {', '.join(known)}, or add it to --metrics"
            )


def labels_of(paths: Sequence[Path]) -> list[str]:
    """Return what to call each folder: its name, or its path where two have the same name.

    Raises:
        UsageError: one is missing, or stands there twice.
    """
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder; name one that exists")
    names = [path.resolve().name for path in paths]
    chosen = [str(path) if names.count(name) > 1 else name for path, name in zip(paths, names, strict=True)]
    if len(set(chosen)) < len(chosen):
        raise UsageError(f"{max(chosen, key=chosen.count)}: stands there twice; name each folder once")
    return [console.printable(label) for label in chosen]


def assert_writable(*paths: Path | None, statistics: Path | None) -> None:
    """Refuse outputs that cannot be written before anything is computed.

    Raises:
        OutputError: the folder is missing or read-only.
        UsageError: statistics would not be recognised by their name.
    """
    if statistics is not None and statistics.suffix != ".safetensors":
        raise UsageError(f"--save-statistics {statistics}: call it {statistics.stem}.safetensors")
    for path in (*paths, statistics):
        if path is not None and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
            raise OutputError(f"{path}: its folder is missing or cannot be written to; make it, or name another")
