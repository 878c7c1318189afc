"""`restore train pack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restore.cli import console, options, progress
from restore.cli.meanings import counted
from restore.errors import OutputError, UsageError

if TYPE_CHECKING:
    from restore.data import PackReport


def pack(
    folder: Annotated[Path, typer.Argument(help="Folder of clean photographs, searched recursively.")],
    out: Annotated[Path, typer.Option("--out", metavar="PACK.tar", help="The archive to write.")],
    max_mb: Annotated[
        float, typer.Option(min=0.1, max=1e6, help="Largest size in megabytes; pictures are recompressed to fit.")
    ] = 60,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Pack photographs into one archive that `restore train` reads directly."""
    del debug  # read where errors are explained
    from restore.data import pack as pack_folder  # noqa: PLC0415  torch takes two seconds to import

    if out.suffix != ".tar":
        raise UsageError(f"{out}: call the pack {out.stem}.tar")
    if out.exists():
        raise UsageError(f"{out}: exists already; remove it, or choose another name")
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent}: no such folder; make it, or choose another")
    with progress.counting("packing", "pictures", show=not quiet) as on_picture:
        report = pack_folder(folder, out, max_bytes=int(max_mb * 1e6), on_picture=on_picture)
    if not quiet:
        console.say(_packed(report))
    console.result(str(out))


def _packed(report: PackReport) -> str:
    """Say what became of the pictures."""
    loss = "without loss" if report.is_lossless else f"at JPEG quality {report.quality}"
    if report.is_lossless and report.num_rounded:
        loss += f" ({counted(report.num_rounded, 'picture')} of floats rounded to 16 bits of 0 to 1)"
    crop = f", cut to {report.crop} pixels" if report.crop else ""
    skipped = "".join(f"; left out {name}: {reason}" for name, reason in report.skipped)
    return (
        f"packed {counted(report.num_pictures, 'picture')} into {report.num_bytes / 1e6:.1f} MB {loss}{crop}{skipped}"
    )
