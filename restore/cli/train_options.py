"""The options of `restore train`, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore.errors import UsageError
from restore.types import RECIPES

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


def recipe_of(given: str | None, out: Path | None, *, resume: bool, holds_run: bool) -> str | Path:
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


def budget_of(max_minutes: float | None, max_steps: int | None) -> dict[str, float] | None:
    """Return the budget that is given; None for that of the recipe.

    Raises:
        UsageError: both are given.
    """
    if max_minutes is not None and max_steps is not None:
        raise UsageError("--max-minutes and --max-steps exclude each other; choose one")
    if max_minutes is not None:
        return {"minutes": max_minutes}
    return None if max_steps is None else {"steps": max_steps}
