"""`restore score`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import typer

from restore.cli import console, options, progress, verdict
from restore.cli import score_options as given
from restore.cli.report import show
from restore.errors import OutputError

if TYPE_CHECKING:
    from restore.scoring import ScoreReport


def score(  # noqa: PLR0917  the order is that of the help page
    reference: given.Reference,
    restored: given.Restored,
    metrics: given.Metrics = None,
    list_metrics: given.ListMetrics = False,
    combine: given.Combine = None,
    channel: given.Channel = "rgb",
    crop_border: given.CropBorder = 0,
    alpha: given.Alpha = "ignore",
    weights_dir: given.WeightsDir = None,
    fid_weights: given.FidWeights = None,
    save_statistics: given.SaveStatistics = None,
    allow_missing: given.AllowMissing = False,
    allow_missing_metrics: given.AllowMissingMetrics = False,
    fail_under: given.FailUnder = None,
    json: options.Json = False,
    json_file: given.JsonFile = None,
    csv: given.Csv = None,
    html: given.Html = None,
    worst: given.Worst = 5,
    workers: given.Workers = None,
    max_pixels: options.MaxPixels = options.DEFAULT_MAX_PIXELS,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Compare restored pictures with their references, and print the protocol with the scores.

    Sizes and channels must agree: nothing is ever resized. Pictures in which
    every value agrees have an infinite PSNR, which is left out of the mean.
    With several restored folders, the others are also compared with the first.
    """
    del list_metrics, debug  # read before, and where errors are explained
    limits, labels = given.thresholds(fail_under or []), given.labels_of(restored)
    given.assert_writable(json_file, csv, html, statistics=save_statistics, inputs=(reference, *restored))
    from restore import reports, scoring  # noqa: PLC0415  torch takes two seconds to import

    names = given.names_of(metrics, combine, reference, with_fid=save_statistics is not None)
    preparation = scoring.Preparation(channel, crop_border, alpha.lower(), max_pixels)
    scoring.assert_scorable(reference, restored)
    measures = scoring.load_measures(names, combine=combine, weights_dir=weights_dir, fid_weights=fid_weights)
    given.assert_measured(limits, measures)
    given.assert_saved(save_statistics, reference, restored, labels, measures)
    made = reports.provenance({
        "reference": console.printable(reference),
        "restored": [console.printable(path) for path in restored],
        "metrics": names,
        "combine": combine,
        "channel": channel,
        "crop_border": crop_border,
        "alpha": preparation.alpha,
        "fail_under": fail_under or [],
        "allow_missing": allow_missing,
        "allow_missing_metrics": allow_missing_metrics,
    })  # fmt: skip
    found: list[ScoreReport] = []
    for path, label in zip(restored, labels, strict=True):
        with progress.counting(f"scoring {label}", "pairs", show=not quiet) as on_pair:
            found.append(
                scoring.score_folders(
                    reference,
                    path,
                    measures,
                    others=restored,
                    preparation=preparation,
                    label=label,
                    num_workers=workers,
                    on_pair=on_pair,
                )
            )
    judged = verdict.Verdict(
        reference, restored, found, limits, missing_is_fine=allow_missing, left_out_is_fine=allow_missing_metrics
    )
    judged.explain(quiet=quiet)

    def tell() -> None:
        if json:
            console.result_json(reports.as_document(found, made))
        elif not quiet:
            show(found, made, worst)

    try:  # files first, since whoever reads the output may have left
        reports.write_reports(found, made, json_file=json_file, csv_file=csv, html_file=html, num_shown=worst)
        if save_statistics:
            reports.save_statistics(save_statistics, found)
    except OutputError:
        with contextlib.suppress(BrokenPipeError, OutputError):
            tell()
        raise
    tell()
    if judged.is_refused:
        raise typer.Exit(1)
