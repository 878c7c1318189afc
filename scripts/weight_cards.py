"""The cards of weights, `weights/NAME.md`, and their metadata: what they learnt from, how, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarking import markdown_table
from protocols import describe_steps

from restore.atomic import write_atomically
from restore.degradations import Chain
from restore.errors import UsageError
from restore.metrics import METRICS
from restore.weights import WeightsInfo

LPIPS_NET = "squeeze"
BEFORE_AND_AFTER = {
    "real": "real pairs",
    "synthetic": "pictures with camera shake",
    "patterns": "drawn patterns",
}
LICENCES = {
    "bsds500": ("BSDS500 without CBSD68", "research use"),
    "cid22": ("CID22", "CC BY-SA 4.0"),
    "clic2025-half": ("CLIC 2025, halved", "Unsplash License"),
    "gb82": ("gb82", "CC0"),
    "gopro240": ("frames of GoPro at 240/s, not of the test pairs", "none stated"),
}  # of the folders that we train on; any other is named as it is
OF_THE_SAMPLES = {"told_share": "σ told to {}", "grey_share": "{} grey", "patterns_share": "{} drawn patterns"}
OF_PAIRS = "that of the pairs it learnt from"
CARD_START, CARD_END = "<!-- figures, written by scripts/publish_weights.py -->", "<!-- end of figures -->"


def describe(document: Mapping[str, Any], scores: Mapping[str, Any], sources: Mapping[str, Path]) -> dict[str, Any]:
    """Return the document of a weight file to be shipped, from that of the run and the places of its pictures."""
    training = document["training"]
    degradation = document.get("degradation")  # of weights that have shipped, and are far from their run
    if degradation is None and training.get("paired"):
        degradation = OF_PAIRS
    elif degradation is None:
        degradation = describe_degradations(training["config"], has_frames="frames" in sources)
    return {
        **document,
        "data": data_and_licences(training["photographs"]),
        "degradation": degradation,
        "scores": dict(scores),
    }


def data_and_licences(photographs: Mapping[str, int]) -> list[dict[str, object]]:
    """Name the training sets of a run with their licences; a folder that we do not know has none stated."""
    named = {folder: LICENCES.get(folder, (folder, "not stated")) for folder in photographs}
    return [
        {"name": named[folder][0], "pictures": num, "licence": named[folder][1]} for folder, num in photographs.items()
    ]


def describe_degradations(config: Mapping[str, Any], *, has_frames: bool = False) -> str:
    """Say in words what the recorded configuration of a run did to its samples.

    Args:
        config: of the run.
        has_frames: whether it was given frames of a video.

    >>> chain = {"weight": 3, "steps": [{"kind": "gaussian-noise", "sigma": [0, 55]}]}
    >>> describe_degradations({"degradations": [chain, {"steps": []}], "data": {"told_share": 0.25}})
    '75 %: Gaussian noise (sigma 0–55 on 0–255); 25 %: nothing; σ told to 25 % of the samples'
    """
    if "degradations" not in config:
        return "not recorded"
    chains = [Chain.model_validate(chain) for chain in config["degradations"]]
    if not chains:
        return OF_PAIRS
    data = config.get("data", {})
    frames = (1 - data.get("patterns_share", 0)) * data["frames_share"] if has_frames else 0
    total = sum(chain.weight for chain in chains) / (1 - frames)
    parts = [(frames, _describe_frames(data))] if has_frames else []
    parts += [(chain.weight / total, describe_steps(chain)) for chain in chains]
    words = [f"{100 * share:.0f} %: {what}" if len(parts) > 1 else what for share, what in parts]
    for key, what in OF_THE_SAMPLES.items():
        if data.get(key):
            words.append(what.format(f"{100 * data[key]:g} % of the samples"))
    return "; ".join(words)


def _describe_frames(data: Mapping[str, Any]) -> str:
    fewest, most = data["frames_num"]
    means = f"the mean of {fewest}–{most} frames of a video, {' to '.join(map(str, data['frames_skip']))} apart"
    return f"{means} ({100 * data['frames_display']:g} % not in linear light), then what does not blur of the others"


def renew_card(path: Path, info: WeightsInfo) -> None:
    """Write the figures of the weights into their card, between its two marks; a new card gets a title.

    Raises:
        UsageError: the card lacks a mark.
    """
    document = info.document
    size = f"{info.num_parameters / 1e6:.2f} M parameters, a file of {info.num_bytes / 1e6:.1f} MB"
    data = "; ".join(f"{item['name']} ({item['pictures']}, {item['licence']})" for item in document["data"])
    start = document.get("halfway_from")
    scales = document["network"].get("scales", 1)
    paragraphs = [
        f"{size}. Trained for {_effort(document['training'])}.",
        *([f"The weights are the mean of those and of the `{start}` that shipped before."] if start else []),
        f"Degradations: {document['degradation']}.",
        *([f"What the network adds is multiplied by {document['residual']:g}."] if "residual" in document else []),
        *(
            [f"The mean over {info.ensemble} orientations of a picture, unless `--ensemble` says otherwise."]
            if info.ensemble > 1
            else []
        ),
        *(
            [f"It was trained for {document['trained_scales']} sizes of a picture and restores it at {scales}."]
            if "trained_scales" in document
            else []
        ),
        f"Data: {data}.",
        *_figures(document["scores"]),
    ]
    before, after = around_figures(path, info.name)
    figures = "\n\n".join(paragraphs)
    write_atomically(path, f"{before}{CARD_START}\n\n{figures}\n\n{CARD_END}{after}".encode())


def around_figures(path: Path, name: str) -> tuple[str, str]:
    """Return what a card says before the first and after the second of its marks; a new one has a title.

    Raises:
        UsageError: the card has other than one of each, in this order.
    """
    card = path.read_text(encoding="utf-8") if path.exists() else f"# {name}\n\n{CARD_START}\n{CARD_END}\n"
    before, start, rest = card.partition(CARD_START)
    _, end, after = rest.partition(CARD_END)
    if not (start and end) or CARD_START in rest or CARD_END in before + after:
        raise UsageError(f"{path}: the figures go between '{CARD_START}' and '{CARD_END}'; put each in it, once")
    return before, after


def _effort(training: Mapping[str, Any]) -> str:
    minutes = training["minutes"]
    time = f"{minutes:.0f} minutes" if minutes < 180 else f"{minutes / 60:.1f} hours"
    processes = training.get("processes", 1)
    workers = f"{processes} processes of {training['threads']}" if processes > 1 else f"{training['threads']}"
    reached = training.get("validation_psnr_db")
    validation = "" if reached is None else f"; {reached:.2f} dB on held-out patches degraded as in training"
    seed = training["config"]["seed"]
    hardware = f" ({training['hardware']})" if "hardware" in training else ""
    return f"{training['steps']:,} steps in {time} on {workers} thread(s){hardware}, seed {seed}{validation}"


def _figures(scores: Mapping[str, Any]) -> list[str]:
    """Return the paragraphs of the scores."""
    paragraphs = []
    if scores.get("results"):
        heads = ["σ on 0–255", "PSNR dB, blind", "PSNR dB, told σ", "SSIM, blind", "LPIPS, blind"]
        rows = [
            [
                f"{found['sigma']}",
                f"{found['psnr_db']:.2f}",
                _or_dash(found.get("told_psnr_db"), 2),
                *(_or_dash(found.get(key), 4) for key in ("ssim", "lpips")),
            ]
            for found in scores["results"]
        ]
        paragraphs += [markdown_table(heads, rows), f"Protocol: {scores['benchmark']}."]
    for key, what in BEFORE_AND_AFTER.items():
        if key in scores:
            paragraphs += _before_and_after_table(scores[key], what)
    if "clean" in scores:
        clean = scores["clean"]
        num = clean.get("num_identical")
        reached = f"{clean['psnr_db']:.2f} dB of themselves" + (f", {num} of them as they were" if num else "")
        paragraphs.append(f"Pictures of {clean['folder']} that need nothing come out at {reached}.")
    sets = [*scores.get("results", ()), *(scores[key] for key in BEFORE_AND_AFTER if key in scores)]
    if any("lpips" in found for found in sets):
        paragraphs.append(f"LPIPS: {METRICS[f'lpips-{LPIPS_NET}'].protocol}.")
    return paragraphs


def _before_and_after_table(found: Mapping[str, Any], what: str) -> list[str]:
    rows = [
        [
            when,
            f"{found[f'{prefix}psnr_db']:.2f}",
            *(_or_dash(found.get(f"{prefix}{key}"), 4) for key in ("ssim", "lpips")),
        ]
        for when, prefix in (("before", "input_"), ("after", ""))
    ]
    num = found.get("num_unchanged")
    unchanged = f"; {num} are left as they were, since the network fails on them" if num else ""
    return [
        markdown_table([f"{found['folder']}, {found['num_pictures']} {what}", "PSNR dB", "SSIM", "LPIPS"], rows),
        f"The worst picture changes by {found['worst_gain_db']:+.2f} dB{unchanged}. Protocol: {found['protocol']}.",
    ]


def _or_dash(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
