"""The options of `restore score`, and how their values are read."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restore import fetching
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
DEFAULT_METRICS = "psnr,ssim"
Metrics = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,…",
        help="What to compute, see --list-metrics; the first ranks the worst pictures. Saved statistics: fid only.",
        show_default=DEFAULT_METRICS,
    ),
]
ListMetrics = Annotated[
    bool, typer.Option("--list-metrics", callback=_list_metrics, is_eager=True, help="List the metrics and exit.")
]
Combine = Annotated[
    str | None, typer.Option(metavar="SUM", help="Add a combined score, such as 0.5*psnr/100 + 0.5*ms-ssim.")
]
Channel = Annotated[Literal["rgb", "y"], typer.Option(help="Compare all channels, or BT.601 luma (limited range).")]
CropBorder = Annotated[int, typer.Option(min=0, metavar="N", help="Leave out N pixels along each edge.")]
Alpha = Annotated[
    str, typer.Option(metavar="ignore|COLOUR", help="Ignore alpha, or lay pictures over white, black, grey or #rrggbb.")
]
WeightsDir = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder with the weights of metrics, by default that of "
        f"{fetching.ENVIRONMENT_VARIABLE}, else {fetching.CACHE}.",
    ),
]
FidWeights = Annotated[Path | None, typer.Option(metavar="FILE", help="Inception-v3 weights for the FID.")]
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
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="Exit with 1 if this mean is worse; may be repeated.")
]
JsonFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the JSON report to a file.")]
Csv = Annotated[Path | None, typer.Option(metavar="FILE", help="Write one row for each pair.")]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with pictures, which works offline.")]
Worst = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="How many of the worst pictures to list; --html shows as many of the best."),
]
Workers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Threads that decode and score; by default as the cores allow.")
]


def names_of(metrics: str | None, combine: str | None, reference: Path, *, with_fid: bool) -> list[str]:
    """Read the value of --metrics.

    Args:
        metrics: as given, or None.
        combine: the value of --combine, which adds metrics of its own, or None.
        reference: folder, file, or saved statistics, which serve the FID alone.
        with_fid: whether the FID is needed though it is not named.

    Raises:
        UsageError: a name is empty, or statistics do not serve it.
    """
    from restore.scoring import FID, is_statistics  # noqa: PLC0415  torch takes two seconds to import

    statistics = is_statistics(reference)
    default = FID if statistics else DEFAULT_METRICS
    names = list(dict.fromkeys(name.strip().lower() for name in (default if metrics is None else metrics).split(",")))
    if "" in names:
        raise UsageError(f"--metrics {metrics}: a name is empty; write names with commas between, such as psnr,ssim")
    if statistics and names != [FID]:
        raise UsageError(f"--metrics {metrics}: saved statistics serve fid alone; name a folder of references")
    if statistics and combine is not None:
        raise UsageError("--combine: saved statistics serve fid alone; name a folder of references")
    return list(dict.fromkeys([*names, FID])) if with_fid else names


def thresholds(texts: Sequence[str]) -> dict[str, float]:
    """Read the values of --fail-under.

    Raises:
        UsageError: one is not NAME=NUMBER, or a metric has two.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        name = name.strip().lower()
        if name in found:
            raise UsageError(f"--fail-under {text}: {name} has the limit {found[name]:g} already; give it one")
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError(f"--fail-under {text}: write NAME=NUMBER, such as psnr=30") from None
        if math.isnan(found[name]):
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
    real = [path.resolve() for path in paths]
    if len(set(real)) < len(real):
        raise UsageError(f"{max(real, key=real.count)}: stands there twice; name each folder once")
    names = [path.name for path in real]
    chosen = [str(path) if names.count(name) > 1 else name for path, name in zip(paths, names, strict=True)]
    return [console.printable(label) for label in chosen]


def assert_writable(*paths: Path | None, statistics: Path | None, inputs: Sequence[Path]) -> None:
    """Refuse outputs that cannot be written before anything is computed.

    Raises:
        OutputError: the folder is missing or read-only, or a folder has the name of the file.
        UsageError: two are the same file, one is an input or has the name of a picture, or statistics would not be
            recognised by their name.
    """
    from restore.images import FORMATS, UNSUPPORTED  # noqa: PLC0415  OpenCV takes a while to import

    if statistics is not None and statistics.suffix != ".safetensors":
        raise UsageError(f"--save-statistics {statistics}: call it {statistics.stem}.safetensors")
    files = [path for path in (*paths, statistics) if path is not None]
    targets = [path.resolve() for path in files]  # a link stays one, and what it leads to is written
    for path, real in zip(files, targets, strict=True):
        suffixes = {path.suffix.lower(), real.suffix.lower()}
        if suffixes & {*FORMATS, *UNSUPPORTED}:
            raise UsageError(f"{path}: a report under the name of a picture; call it {path.stem}.html, .csv or .json")
        if path != statistics and ".safetensors" in suffixes:
            raise UsageError(f"{path}: a report under the name of statistics; call it {path.stem}.html, .csv or .json")
        if any(real.samefile(other) for other in inputs if real.exists() and other.is_file()):
            raise UsageError(f"{path}: this report is an input; name another file, originals are never replaced")
        if real.is_dir():
            raise OutputError(f"{path}: is a folder; name a file in it")
        is_stream = path.exists() and not path.is_file()
        if not is_stream and not (real.parent.is_dir() and os.access(real.parent, os.W_OK)):
            raise OutputError(f"{path}: its folder is missing or cannot be written to; make it, or name another")
        if targets.count(real) > 1:
            raise UsageError(f"{path}: two reports in one file; name another for one of them")


def assert_saved(
    statistics: Path | None, reference: Path, restored: Sequence[Path], labels: Sequence[str], measures: Measures
) -> None:
    """Refuse to save statistics that nothing will compute, or that would overwrite each other.

    Raises:
        UsageError: the FID is left out, two folders would have one file, or one is an input.
        OutputError: something of that name is in the way.
    """
    from restore.reports import statistics_files  # noqa: PLC0415  torch takes two seconds to import
    from restore.scoring import FID, files_of_statistics, is_statistics  # noqa: PLC0415

    if statistics is None:
        return
    saved = [path for path in (reference, *restored) if is_statistics(path)]
    inputs = {file.resolve() for path in saved for file in files_of_statistics(path)}
    for target in statistics_files(statistics, labels):
        if target.resolve() in inputs:
            raise UsageError(f"--save-statistics: {target} is an input; choose another name")
    if measures.inception is None and len(saved) <= len(restored):
        raise UsageError(f"--save-statistics {statistics}: there will be none, {measures.left_out[FID]}")
