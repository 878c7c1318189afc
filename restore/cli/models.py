"""`restore models`: what is shipped, and what a weight file says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from restore.cli import console, options

if TYPE_CHECKING:
    from restore.weights import WeightsInfo

SCHEMA_VERSION = 1

app = typer.Typer(name="models", help="List the shipped weights, or show what a weight file says of itself.")


@app.callback(invoke_without_command=True)
def list_models(context: typer.Context, json: options.Json = False, debug: options.Debug = False) -> None:
    """List the shipped weights: task, size, scores, licences of the training data."""
    del debug  # read where errors are explained
    if context.invoked_subcommand is not None:
        return
    from restore.weights import CATALOGUE, read_info  # noqa: PLC0415  torch takes two seconds to import

    infos = [read_info(name) for name in CATALOGUE]
    if json:
        console.result_json({"schema_version": SCHEMA_VERSION, "models": [_as_json(info) for info in infos]})
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("name", "task"):
        table.add_column(heading, no_wrap=True)
    for heading in ("parameters", "size", "PSNR dB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for info in infos:
        table.add_row(
            info.name,
            str(info.task),
            f"{info.num_parameters / 1e6:.2f} M",
            f"{info.num_bytes / 1e6:.1f} MB",
            "/".join(f"{score['psnr_db']:.2f}" for score in info.document["scores"]["results"]),
        )
    console.table(table)
    for protocol in sorted({info.document["scores"]["protocol"] for info in infos}):
        console.result(f"PSNR: {protocol}")
    for info in infos:
        console.result(f"training data of {info.name}:")
        for data in info.document["data"]:
            console.result(f"  {data['name']}, {data['pictures']} pictures, {data['licence']}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Shipped name, weight file, or folder of a training run.")],
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show all that a weight file says of itself."""
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
