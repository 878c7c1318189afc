"""What a training run is made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from restore.errors import UsageError
from restore.models import PRESETS, NAFNetConfig


@dataclass(frozen=True)
class PatchStage:
    """From a share of the schedule on, draw this many patches of this size.

    Args:
        start: share of the schedule, 0 to 1.
        patch_size: pixels on a side.
        batch_size: patches a step.
    """

    start: float
    patch_size: int
    batch_size: int


@dataclass(frozen=True)
class TrainConfig:
    """A blind Gaussian denoiser's training: Muon + AdamW, Charbonnier loss, cosine to the end of a time budget.

    Args:
        name: of the weights.
        network: what to train.
        minutes: time budget; the schedule ends with it, however many steps that are.
        patches: sizes over the schedule; the first starts at 0.
        sigma_max: samples get a noise level uniform in [0, sigma_max], in [0,1].
        told_share: share of the samples whose noise level the network is told.
        grey_share: share of the samples that are grey.
        muon_lr: peak learning rate of Muon.
        adamw_lr: peak learning rate of AdamW.
        ema_decay: of the moving average of the weights, which is what is kept.
        seed: of the initial weights and the samples.
        checkpoint_minutes: between two checkpoints.
        precision: `fp32`, `bf16`, or `auto` to time a few steps of each.
    """

    name: str
    network: NAFNetConfig
    minutes: float
    patches: tuple[PatchStage, ...] = (PatchStage(0.0, 64, 16), PatchStage(0.7, 96, 8))
    sigma_max: float = 55 / 255
    told_share: float = 0.25
    grey_share: float = 0.1
    muon_lr: float = 0.02
    adamw_lr: float = 2e-3
    ema_decay: float = 0.999
    seed: int = 0
    checkpoint_minutes: float = 3.0
    precision: str = "auto"

    def patch_stage(self, progress: float) -> PatchStage:
        """Return the stage that a progress in [0,1] falls into."""
        return max((stage for stage in self.patches if stage.start <= progress), key=lambda stage: stage.start)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


RECIPES: dict[str, NAFNetConfig] = {
    "denoise-fast": replace(PRESETS["half-naf-32"], sca_window=64, sigma_input=True),
    "denoise-lka": replace(PRESETS["founding-12"], sca_window=64, sigma_input=True),
}


def recipe(name: str, minutes: float) -> TrainConfig:
    """Return a shipped recipe with a time budget.

    Raises:
        UsageError: no such recipe.
    """
    if name not in RECIPES:
        raise UsageError(f"no recipe named {name!r}; there are {', '.join(RECIPES)}")
    return TrainConfig(name=name, network=RECIPES[name], minutes=minutes)
