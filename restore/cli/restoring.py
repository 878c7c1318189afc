"""What `restore denoise` and `restore deblur` do once their options are read."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from restore.cli import options
from restore.cli.run import Run, say_skipped
from restore.sharding import Shard
from restore.types import LocalStatistics, Precision, Task

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options that both commands have, as they were given."""

    inputs: list[Path]
    output: Path
    model: str
    strength: float
    device: str
    precision: Precision
    tile: str
    ensemble: int | None
    format_: str | None
    quality: int
    skip_existing: bool
    overwrite: bool
    strip_metadata: bool
    max_pixels: int
    allow_truncated: bool
    shard: str | None
    dry_run: bool
    json: bool
    quiet: bool
    verbose: bool

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Request:
        """Take over what a command was given, by name; its own options are left out."""
        return cls(**{field.name: options[field.name] for field in fields(cls)})


def restore_as_asked(
    request: Request, task: Task, *, sigma: float | None = None, tlc: LocalStatistics = LocalStatistics.AUTO
) -> None:
    """Restore files and report; exits with 1 where one failed.

    Args:
        request: what is asked for.
        task: refuse weights made for another one.
        sigma: standard deviation of the noise on 0–255; None to let the network find out.
        tlc: see `Restorer`.
    """
    from restore import inference, pipeline, planning  # noqa: PLC0415  torch takes two seconds to import

    existing = options.what_becomes_of_existing(skip_existing=request.skip_existing, overwrite=request.overwrite)
    tile_size = options.tile_size(request.tile)
    inference.check_settings(tile_size, request.ensemble)
    plan = planning.make_plan(
        request.inputs,
        request.output,
        suffix=options.suffix_of(request.format_),
        existing=existing,
        shard=Shard.parse(request.shard),
        on_skip=say_skipped if request.verbose else None,
    )
    run = Run(plan, json=request.json, quiet=request.quiet, verbose=request.verbose)
    if request.dry_run:
        planning.check_output(plan.output)
    device = pipeline.device_of(request.device, request.shard)
    with contextlib.nullcontext() if request.dry_run else planning.output_ready(plan.output):
        restorer = inference.load(
            request.model,
            task=task,
            device=device,
            precision=request.precision,
            tile=tile_size,
            tlc=tlc,
            ensemble=request.ensemble,
        )
        sigma_unit = None if sigma is None else sigma / 255
        restorer.check(sigma_unit, request.strength)
    settings = {
        "strength": request.strength,
        "precision": str(restorer.precision),
        "device": str(restorer.device),
        "ensemble": restorer.ensemble,
        **({"sigma": sigma} if task is Task.DENOISE else {"tlc": restorer.tlc_px is not None}),
    }
    assert restorer.info is not None
    weights = {"name": restorer.info.name, "sha256": restorer.info.sha256}
    document = {"command": str(task), "model": weights, "settings": settings}
    file_options = pipeline.FileOptions(
        quality=request.quality,
        max_pixels=request.max_pixels,
        allow_truncated=request.allow_truncated,
        strip_metadata=request.strip_metadata,
    )
    if request.dry_run:
        records = pipeline.records_of_restoring(
            plan, restorer, sigma=sigma_unit, strength=request.strength, options=file_options
        )
        run.conclude(pipeline.dry_run(plan, records), "would restore", document)
        return
    results = pipeline.restore_files(
        plan,
        restorer,
        sigma=sigma_unit,
        strength=request.strength,
        options=file_options,
        on_progress=run.show_progress,
    )
    run.conclude(results, "restored", document)
