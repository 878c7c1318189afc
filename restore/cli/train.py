"""`restore train`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from restore.cli import console, options
from restore.cli import train_options as given
from restore.cli.pack import pack
from restore.cli.stopping import StopRequest
from restore.cli.watching import TrainingDisplay
from restore.errors import UsageError

if TYPE_CHECKING:
    from restore.config import TrainConfig


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


@app.command()
def run(  # noqa: PLR0917  the order is that of the help page
    recipe: given.Recipe = None,
    data: given.Clean = None,
    out: given.Out = None,
    degraded: given.Degraded = None,
    reference: given.Reference = None,
    validation: given.Validation = None,
    frames: given.Frames = None,
    setting: given.Set = None,
    show: given.Show = False,
    max_minutes: given.MaxMinutes = None,
    max_steps: given.MaxSteps = None,
    resume: given.Resume = False,
    init: given.Init = None,
    device: options.Device = "auto",
    processes: given.Processes = "1",
    threads: given.Threads = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a network by a recipe; the word `run` may be left out."""
    del debug  # read where errors are explained
    import numpy as np  # noqa: F401, PLC0415  torch's own code would load it, and lose a signal that comes meanwhile

    from restore.checkpoint import list_checkpoints  # noqa: PLC0415  torch takes two seconds to import

    holds_run = out is not None and bool(list_checkpoints(out))
    chosen = given.recipe_of(recipe, out, resume=resume, holds_run=holds_run)
    config = _config_of(chosen, setting or (), given.budget_of(max_minutes, max_steps), out if recipe is None else None)
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
        sources = _completed(sources, recorded_sources(out), out)
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


app.command()(pack)


def _config_of(
    chosen: str | Path, settings: Sequence[str], budget: Mapping[str, float] | None, out: Path | None
) -> TrainConfig:
    """Load a recipe; where it is the one that a run kept and is damaged, say how to go on.

    Raises:
        UsageError: it cannot be loaded, or a setting makes no sense.
    """
    from restore.config import load_config  # noqa: PLC0415  pydantic takes a while to import

    try:
        return load_config(chosen, settings, budget)
    except UsageError as error:
        if out is None or settings:  # then it may be a setting that is wrong
            raise
        again = f"restore train RECIPE --resume --out {out}"
        raise UsageError(f"{error}; or name the recipe that the run began with: {again}") from error


def _completed(named: Mapping[str, Path], recorded: Mapping[str, Path], out: Path) -> dict[str, Path]:
    """Return the sources that are named and those that the run had besides, unless they are of the other kind.

    Raises:
        UsageError: one of the latter is gone, or nothing says what the run had.
    """
    if not named and not recorded and (out / "config.toml").exists():
        again = f"restore train {out / 'config.toml'} DATA --resume --out {out}"
        raise UsageError(f"{out / 'data.json'}: does not say what the run learns from; name it: {again}")
    if any(kind in named and kind not in recorded for kind in ("clean", "degraded")):
        return dict(named)
    for name, path in recorded.items():
        if name not in named and not path.exists():
            place = "DATA" if name == "clean" else f"--{name} FOLDER"
            again = f"restore train {out / 'config.toml'} {place} --resume --out {out}"
            raise UsageError(f"{path}: the run learns from it, and it is gone; name where it is now: {again}")
    return {**recorded, **named}


def _say_what_is_passed_over(init: str | None, out: Path, *, quiet: bool) -> None:
    if init is not None and not quiet:
        console.say(f"note: {out} goes on from its own weights; --init counts only where a run starts")


def _assert_apart(out: Path, sources: Mapping[str, Path]) -> None:
    for source in sources.values():
        if source.resolve() in (out.resolve(), *out.resolve().parents):
            raise UsageError(f"{out}: the run would lie among the pictures of {source}; choose another folder")
