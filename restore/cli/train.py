"""`restore train`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from restore.cli import console, options, progress
from restore.cli.meanings import counted
from restore.cli.stopping import StopRequest
from restore.cli.watching import TrainingDisplay
from restore.errors import OutputError, UsageError
from restore.types import RECIPES

if TYPE_CHECKING:
    from restore.data import PackReport


class RunsByDefault(TyperGroup):
    """`restore train RECIPE …` is `restore train run RECIPE …`: the first word is a command only where it is one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  Typer keeps its own context class
        """Put the default command in front of what is no command."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:  # noqa: ANN401  as above
        """Offer what the default command takes, too."""
        command = self.commands["run"]
        with command.make_context("run", [], parent=ctx, resilient_parsing=True) as context:
            offered = [*super().shell_complete(ctx, incomplete), *command.shell_complete(context, incomplete)]
        return list({item.value: item for item in offered}.values())


app = typer.Typer(
    name="train",
    cls=RunsByDefault,
    help="Train on your own photographs: restore train RECIPE DATA --out RUN (options: restore train run --help). "
    "Continue a run: restore train --resume --out RUN.",
    no_args_is_help=True,
)

Recipe = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE",
        help=f"Shipped recipe ({', '.join(RECIPES)}) or TOML file; with --resume by default that of the run.",
    ),
]
Clean = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="Folder or pack of clean photographs for the recipe to degrade."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="RUN", help="Run folder; `--model RUN` takes its weights.")]
Degraded = Annotated[
    Path | None, typer.Option(help="With --reference, in place of DATA: degraded pictures, paired by name.")
]
Reference = Annotated[Path | None, typer.Option(help="With --degraded: what they should become.")]
Validation = Annotated[
    Path | None,
    typer.Option(
        help="Photographs to validate on, by default a share of DATA; for pairs a folder with degraded/ and reference/."
    ),
]
Frames = Annotated[
    Path | None, typer.Option(help="Beside DATA: consecutive sharp video frames, to average into blurred samples.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change a setting of the recipe, such as optimiser.lr=1e-3; may be repeated.",
    ),
]
Show = Annotated[bool, typer.Option("--show", help="Print the complete recipe as TOML and exit.")]
MaxMinutes = Annotated[
    float | None, typer.Option(min=0.01, help="Time budget, by default that of the recipe; the schedule ends with it.")
]
MaxSteps = Annotated[int | None, typer.Option(min=1, help="Budget in steps instead.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Continue the run in --out exactly; RECIPE and DATA are by default its own."),
]
Init = Annotated[str | None, typer.Option(help="Weights to start from: a shipped name, a weight file, a .pth, a run.")]
Processes = Annotated[
    str, typer.Option(metavar="N|auto", help="Processes of one thread each; auto: one on each core or GPU.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of a single process; by default all.")]


@app.command()
def run(  # noqa: PLR0917  the order is that of the help page
    recipe: Recipe = None,
    data: Clean = None,
    out: Out = None,
    degraded: Degraded = None,
    reference: Reference = None,
    validation: Validation = None,
    frames: Frames = None,
    setting: Set = None,
    show: Show = False,
    max_minutes: MaxMinutes = None,
    max_steps: MaxSteps = None,
    resume: Resume = False,
    init: Init = None,
    device: options.Device = "auto",
    processes: Processes = "1",
    threads: Threads = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a network by a recipe; the word `run` may be left out."""
    del debug  # read where errors are explained
    from restore.checkpoint import list_checkpoints  # noqa: PLC0415  torch takes two seconds to import
    from restore.config import load_config  # noqa: PLC0415  see above

    holds_run = out is not None and bool(list_checkpoints(out))
    chosen = _recipe_of(recipe, out, resume=resume, holds_run=holds_run)
    config = load_config(chosen, setting or (), _budget(max_minutes, max_steps))
    if show:
        for line in config.as_toml().splitlines():
            console.result(line)
        return
    if out is None:
        raise UsageError("name the run folder: --out RUN")

    import torch  # noqa: PLC0415  see above

    from restore.distributed import is_in_team, launch, leads, number_of_processes  # noqa: PLC0415  see above
    from restore.inference import find_device  # noqa: PLC0415  see above
    from restore.training import Material, recorded_sources, train  # noqa: PLC0415  see above

    named = {"clean": data, "degraded": degraded, "reference": reference, "validation": validation, "frames": frames}
    sources = {name: path for name, path in named.items() if path is not None}
    if resume:
        sources = _completed(sources, recorded_sources(out))
        _say_what_is_passed_over(init if holds_run else None, out, quiet=quiet or is_in_team())
    _assert_apart(out, sources)
    place = find_device(device)
    num_processes = number_of_processes(processes, place)
    if num_processes > 1 and not is_in_team():
        raise typer.Exit(launch(num_processes, sys.argv[1:]))
    if threads:
        torch.set_num_threads(threads)
    with StopRequest(watches_parent=is_in_team()) as stop:
        material = Material.open(config, **sources)
        with TrainingDisplay(config, out, seeks_run=resume and not holds_run, quiet=quiet) as display:
            weights = train(
                config,
                material,
                out,
                device=place,
                init=init,
                resume=resume,
                should_stop=stop.is_set,
                on_record=display.show,
            )
    if weights is None:
        if leads():
            console.error(f"stopped; the state is saved, and restore train --resume --out {out} goes on")
        raise typer.Exit(stop.exit_code)
    if leads():
        console.result(str(weights))


@app.command()
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


def _recipe_of(given: str | None, out: Path | None, *, resume: bool, holds_run: bool) -> str | Path:
    """Return the recipe that is given, or that of the run that is resumed.

    Raises:
        UsageError: there is neither, or no run is named to resume.
    """
    if resume and out is None:
        raise UsageError("name the run to go on with: restore train --resume --out RUN")
    if given is not None:
        return given
    if not resume:
        raise UsageError(f"name a recipe: {', '.join(RECIPES)}, or a TOML file")
    if out is None or not holds_run:
        raise UsageError(f"{out}: holds no run to go on with; name RECIPE and DATA to start one")
    return out / "config.toml"


def _completed(named: Mapping[str, Path], recorded: Mapping[str, Path]) -> dict[str, Path]:
    """Return the sources that are named and those that the run had besides, unless they are of the other kind."""
    is_other_kind = any(kind in named and kind not in recorded for kind in ("clean", "degraded"))
    return dict(named) if is_other_kind else {**recorded, **named}


def _say_what_is_passed_over(init: str | None, out: Path, *, quiet: bool) -> None:
    if init is not None and not quiet:
        console.say(f"note: {out} goes on from its own weights; --init counts only where a run starts")


def _assert_apart(out: Path, sources: Mapping[str, Path]) -> None:
    for source in sources.values():
        if source.resolve() in (out.resolve(), *out.resolve().parents):
            raise UsageError(f"{out}: the run would lie among the pictures of {source}; choose another folder")


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


def _budget(max_minutes: float | None, max_steps: int | None) -> dict[str, float] | None:
    if max_minutes is not None and max_steps is not None:
        raise UsageError("--max-minutes and --max-steps exclude each other; choose one")
    if max_minutes is not None:
        return {"minutes": max_minutes}
    return None if max_steps is None else {"steps": max_steps}
