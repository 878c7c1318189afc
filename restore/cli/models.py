"""`restore models`: what is shipped, what a weight file says of itself, and the weights of metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from restore import fetching
from restore.cli import console, options
from restore.cli.progress import SECONDS_BETWEEN_LINES
from restore.errors import UsageError

if TYPE_CHECKING:
    from restore.weights import WeightsInfo

SCHEMA_VERSION = 1

app = typer.Typer(
    name="models",
    help="List the shipped weights, show what a weight file says about itself, or fetch weights of metrics.",
)


@app.callback(invoke_without_command=True)
def list_models(context: typer.Context, json: options.Json = False, debug: options.Debug = False) -> None:
    """List the shipped weights: task, size, scores, licences of the training data."""
    del debug  # read where errors are explained
    if context.invoked_subcommand is not None:
        if json:
            raise UsageError(f"--json goes behind the command: restore models {context.invoked_subcommand} … --json")
        return
    from restore.weights import CATALOGUE, read_info  # noqa: PLC0415  torch takes two seconds to import

    infos = [read_info(name) for name in CATALOGUE]
    if json:
        console.result_json({"schema_version": SCHEMA_VERSION, "models": [_as_json(info) for info in infos]})
        return
    console.table(_overview(infos))
    for protocol in sorted({info.document["scores"]["protocol"] for info in infos}):
        console.result(f"PSNR: {protocol}")
    for info in infos:
        if info.ensemble > 1:
            console.result(f"{info.name} restores a picture in {info.ensemble} orientations (--ensemble)")
    for data, names in _names_by_data(infos).items():
        console.result(f"training data of {', '.join(names)}:")
        for name, pictures, licence in data:
            console.result(f"  {name}, {pictures} pictures, {licence}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Shipped name, weight file, or folder of a training run.")],
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show everything that a weight file says about itself."""
    del debug  # read where errors are explained
    from restore.weights import read_info  # noqa: PLC0415  torch takes two seconds to import

    info = read_info(name)
    if json:
        console.result_json({"schema_version": SCHEMA_VERSION, **_as_json(info)})
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _flat(_as_json(info)):
        table.add_row(key, console.printable(value))
    console.table(table)


@app.command()
def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME…", help=f"Weights of metrics: {', '.join(fetching.CATALOGUE)}.")
    ],
    weights_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=f"Folder for them, by default that of {fetching.ENVIRONMENT_VARIABLE}, else {fetching.CACHE}.",
        ),
    ] = None,
    debug: options.Debug = False,
) -> None:
    """Download the weights of metrics from their official addresses; interrupted downloads continue."""
    del debug  # read where errors are explained
    folder = fetching.weights_folder(weights_dir)
    wanted = {name: fetching.entry(name) for name in names}  # every name is checked before the first byte comes
    for name, weights in wanted.items():
        with _download_bar(show=console.is_terminal()) as bar:
            path = fetching.fetch(name, folder, _Follower(weights, bar))
        console.result(str(path))


class _Follower:
    """Shows how far a download is: a bar on a terminal, a line every few seconds off one."""

    def __init__(self, weights: fetching.MetricWeights, bar: Progress) -> None:
        self.weights = weights
        self.bar = bar
        self.task = bar.add_task(weights.file_name, total=weights.num_bytes)
        self.last_line: float | None = None

    def __call__(self, done: int, total: int | None) -> None:
        if self.last_line is None:
            self.last_line = time.monotonic()
            console.say(f"downloading {self.weights.url} ({self.weights.num_bytes / 1e6:.1f} MB)")
        self.bar.update(self.task, completed=done, total=total or self.weights.num_bytes)
        if self.bar.disable and time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            of_total = "" if total is None else f" of {total / 1e6:.1f}"
            console.say(f"{self.weights.file_name}: {done / 1e6:.1f}{of_total} MB")


def _overview(infos: Iterable[WeightsInfo]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("name", "task"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "size", "PSNR dB"):
        table.add_column(heading, justify="right", overflow="fold")
    for info in infos:
        table.add_row(
            info.name,
            str(info.task),
            f"{info.num_parameters / 1e6:.2f} M",
            f"{info.num_bytes / 1e6:.1f} MB",
            _psnr(info.document["scores"]),
        )
    return table


def _names_by_data(infos: Iterable[WeightsInfo]) -> dict[tuple[tuple[str, int, str], ...], list[str]]:
    """Return the names of the weights that learnt from the same: name, number of pictures and licence of each set."""
    names: dict[tuple[tuple[str, int, str], ...], list[str]] = {}
    for info in infos:
        data = tuple((one["name"], one["pictures"], one["licence"]) for one in info.document["data"])
        names.setdefault(data, []).append(info.name)
    return names


def _download_bar(*, show: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=console.stderr_console(),
        disable=not show,
        transient=True,
    )


def _psnr(scores: Mapping[str, Any]) -> str:
    """Return the PSNR at each noise level, or before and after on real pairs."""
    if "results" in scores:
        return "/".join(f"{score['psnr_db']:.2f}" for score in scores["results"])
    return f"{scores['real']['input_psnr_db']:.2f} → {scores['real']['psnr_db']:.2f}"


def _as_json(info: WeightsInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "file": str(info.path),
        "parameters": info.num_parameters,
        "bytes": info.num_bytes,
        **{key: value for key, value in info.document.items() if key != "name"},
    }


def _flat(document: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in document.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                rows += _flat(item, f"{prefix}{key}.{index}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows
