"""What a training run is made of: read from a TOML recipe, checked, kept with the run and in its weights."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from restore.degradations import Chain
from restore.errors import UsageError
from restore.models import PRESETS, NAFNetConfig
from restore.settings import Settings, unknown
from restore.types import RECIPES, Task
from restore.weights import NUM_CHANNELS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FREE_ON_RESUME = (
    "checkpoint",
    "data.workers",
    "data.cache_gb",
    "on_divergence",
    "tensorboard",
)  # they change nothing that is learnt

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]  # of a moving average


class PatchStage(Settings):
    """From a share of the schedule on, draw this many patches of this size.

    Attributes:
        start: share of the schedule, 0 to 1.
        size: pixels on a side.
        batch_size: patches of one process in one pass.
    """

    start: Share
    size: int = Field(ge=8)
    batch_size: int = Field(ge=1)


class Optimiser(Settings):
    """How the weights move.

    Attributes:
        kind: `muon` for dense hidden convolutions with AdamW for the rest, `adamw` or `adam` for everything.
        lr: peak learning rate of Muon, or of the only optimiser: by default 0.02, and 2e-3 without Muon.
        adamw_lr: peak learning rate of AdamW beside Muon.
        betas: of Adam and AdamW.
        weight_decay: of AdamW.
        clip_norm: longest gradient, over all parameters; longer ones are shortened. None for no limit.
        accumulation: passes whose gradients are averaged into one step.
    """

    kind: Literal["muon", "adamw", "adam"] = "muon"
    lr: float = Field(0.02, gt=0)
    adamw_lr: float = Field(2e-3, gt=0)
    betas: tuple[Decay, Decay] = (0.9, 0.9)
    weight_decay: float = Field(0.0, ge=0)
    clip_norm: float | None = Field(None, gt=0)
    accumulation: int = Field(1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _by_its_kind(cls, given: Any) -> Any:  # noqa: ANN401  whatever the file holds
        if isinstance(given, Mapping) and given.get("kind") in ("adam", "adamw"):
            return {"lr": cls.model_fields["adamw_lr"].default, **given}
        return given

    @model_validator(mode="after")
    def _uses_what_is_set(self) -> Optimiser:
        for name, kind in (("weight_decay", "adamw"), ("adamw_lr", "muon")):
            if getattr(self, name) != type(self).model_fields[name].default and self.kind != kind:
                raise ValueError(f"{name} belongs to kind {kind}, and this is {self.kind}")
        return self


class Schedule(Settings):
    """The factor on the learning rates over the budget.

    Attributes:
        kind: `cosine` to zero; `stable-decay`: constant, then linear to zero, so that a run can be continued from
            where the decay began; `constant`.
        warmup: share of the budget over which the factor rises linearly to 1.
        decay: share of the budget over which `stable-decay` falls.
    """

    kind: Literal["cosine", "stable-decay", "constant"] = "cosine"
    warmup: Share = 0.03
    decay: Annotated[float, Field(gt=0, le=1)] = 0.25

    @property
    def decay_start(self) -> float:
        """Share of the budget after which the weights can no longer be continued under a larger one."""
        return {"cosine": 0.0, "stable-decay": 1 - self.decay, "constant": 1.0}[self.kind]


class Loss(Settings):
    """What is minimised.

    Attributes:
        kind: `charbonnier`, `l1`, `mse`, or `psnr`.
        eps: of Charbonnier (1e-3 if None) and PSNR (1e-4 if None, as published: then nearly perfect samples drown the
            others; 4e-3, an error of 1/255, weighs all noise alike), in values of [0,1].
        fft: weight of the L1 distance of the Fourier transforms.
        lpips: weight of LPIPS, whose trunk `restore models fetch` downloads.
        lpips_net: its trunk.
    """

    kind: Literal["charbonnier", "l1", "mse", "psnr"] = "charbonnier"
    eps: float | None = Field(None, gt=0)
    fft: float = Field(0.0, ge=0)
    lpips: float = Field(0.0, ge=0)
    lpips_net: Literal["alex", "squeeze", "vgg"] = "alex"

    @model_validator(mode="after")
    def _uses_what_is_set(self) -> Loss:
        if self.eps is not None and self.kind in ("l1", "mse"):
            raise ValueError(f"eps belongs to charbonnier and psnr; write loss={{kind='{self.kind}'}}, without it")
        if self.lpips_net != type(self).model_fields["lpips_net"].default and not self.lpips:
            raise ValueError("lpips_net is of no use without a weight for lpips")
        return self


class Budget(Settings):
    """How long to train: by steps or by time, never both; the schedule ends with it.

    Attributes:
        steps: of the optimiser.
        minutes: of the clock; pauses do not count.
    """

    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_of_two(self) -> Budget:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes")
        return self

    def progress(self, steps: int, seconds: float) -> float:
        """Return the share of the budget that is used up, 1 at the end and beyond."""
        used = steps / self.steps if self.steps is not None else seconds / 60 / (self.minutes or 1)
        return min(1.0, used)


class Data(Settings):
    """How samples are drawn.

    Attributes:
        told_share: share of the samples whose Gaussian noise level the network is told; for networks with
            `sigma_input`. This share and the next two have no part in learning from pairs.
        grey_share: share of the samples that are grey.
        patterns_share: share of the samples whose picture is a drawn repeated pattern instead, in training only.
        validation_share: share of the pictures held out for validation, where no folder is named for it.
        frames_share: share of the samples that are means of consecutive frames, where a folder of them is given.
        frames_num: fewest and most frames in a mean.
        frames_skip: least and greatest distance between two of them, 1 for neighbours, more for faster motion.
        frames_display: share of the means whose values are averaged as they stand, not in linear light.
        workers: processes that decode and degrade; 0 does it between the steps.
        cache_gb: most memory for decoded pictures, in gigabytes, of each process and of each folder that is named:
            photographs, frames, those to validate on.
    """

    told_share: Share = 0.0
    grey_share: Share = 0.0
    patterns_share: Share = 0.0
    validation_share: Annotated[float, Field(ge=1e-6, le=0.5)] = 0.025
    frames_share: Annotated[float, Field(ge=1e-6, lt=1)] = 0.2
    frames_num: tuple[Count, Count] = (5, 17)
    frames_skip: tuple[Count, Count] = (1, 1)
    frames_display: Share = 0.0
    workers: int = Field(0, ge=0)
    cache_gb: float = Field(2.0, ge=0, le=1e6)


class Checkpoint(Settings):
    """When the state is saved, beside the end and a stop.

    Attributes:
        minutes: between two checkpoints.
        max_mb: largest file in megabytes; larger states are cut into pieces. None for one file.
    """

    minutes: float = Field(3.0, gt=0)
    max_mb: float | None = Field(None, ge=0.1, le=1e6)


def _network(value: Any) -> Any:  # noqa: ANN401  whatever the file holds
    """Build a network's settings from a table that may start from a preset."""
    if not isinstance(value, Mapping):
        return value
    given = dict(value)
    preset = given.pop("preset", None)
    if preset is not None and (not isinstance(preset, str) or preset not in PRESETS):
        raise ValueError(f"preset: {unknown(preset, PRESETS)}")
    complete = (PRESETS[preset].as_dict() if preset else {}) | given
    try:
        return NAFNetConfig.from_dict(complete)
    except (TypeError, KeyError) as error:
        fields = NAFNetConfig.__dataclass_fields__
        stranger = next((key for key in complete if key not in fields), None)
        problem = unknown(stranger, fields) if stranger else f"{error} does not describe a network; start from a preset"
        raise ValueError(problem) from error


class TrainConfig(Settings):
    """A training run.

    Attributes:
        name: of the weights.
        task: what the network undoes.
        network: what to train; in TOML a table of `NAFNetConfig`, with `preset` to start from a named one.
        degradations: chains of which each sample draws one; unused where pairs of pictures are given.
        patches: sizes over the schedule; the first starts at 0.
        optimiser: how the weights move.
        schedule: of the learning rates.
        loss: what is minimised.
        budget: how long.
        data: how samples are drawn.
        checkpoint: when the state is saved.
        ema_decay: of the moving average of the weights, which is what is kept.
        seed: of the initial weights and the samples.
        precision: `fp32`, `bf16`, `fp16` (CUDA only), or `auto`: on a CPU what a few timed steps show to be faster, on
            CUDA bfloat16 where the device has it.
        compile: whether to use `torch.compile`.
        on_divergence: `stop` with the last good state, or `rewind` to it and go on with other samples and half the
            learning rate.
        tensorboard: whether to write TensorBoard events (extra `tensorboard`).
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    task: Task = Task.DENOISE
    network: Annotated[NAFNetConfig, BeforeValidator(_network)]
    degradations: tuple[Chain, ...] = ()
    patches: tuple[PatchStage, ...] = (
        PatchStage(start=0.0, size=64, batch_size=16),
        PatchStage(start=0.7, size=96, batch_size=8),
    )
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    budget: Budget = Budget(minutes=60)
    data: Data = Data()
    checkpoint: Checkpoint = Checkpoint()
    ema_decay: Decay = 0.999
    seed: int = Field(0, ge=-(2**62), lt=2**62)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    on_divergence: Literal["stop", "rewind"] = "stop"
    tensorboard: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if not self.patches or self.patches[0].start != 0:
            raise ValueError("patches: the first stage starts at 0")
        if len({stage.start for stage in self.patches}) < len(self.patches):
            raise ValueError("patches: two stages start at once; leave one of them out")
        if self.network.channels != NUM_CHANNELS:
            raise ValueError(f"network.channels: pictures have {NUM_CHANNELS}, not {self.network.channels}")
        if self.data.told_share and not self.network.sigma_input:
            raise ValueError("data.told_share needs network.sigma_input = true")
        return self

    def patch_stage(self, progress: float) -> PatchStage:
        """Return the stage that a progress in [0,1] falls into."""
        return max((stage for stage in self.patches if stage.start <= progress), key=lambda stage: stage.start)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return self.model_dump(mode="json")

    def as_toml(self) -> str:
        """Return a recipe that reads back to the same configuration."""
        tables = {key: value for key, value in self.as_dict().items() if value is not None}
        return "".join(f"{key} = {_toml(value)}\n" for key, value in tables.items())


def load_config(
    recipe: str | Path, settings: Sequence[str] = (), budget: Mapping[str, float] | None = None
) -> TrainConfig:
    """Read a recipe and change some of its settings.

    Args:
        recipe: a shipped name, or a TOML file.
        settings: as in `optimiser.lr=1e-3`; list items by number; values as TOML has them, bare words as strings.
        budget: replaces that of the recipe: `{"steps": N}` or `{"minutes": M}`.

    Raises:
        UsageError: no such recipe, broken TOML, an unknown setting, an impossible value, or two budgets.
    """
    path = _recipe_path(recipe)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML ({error}); mend the file") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}; check the path and its permissions") from error
    for setting in settings:
        _change(values, setting)
    if budget:
        if stated := [setting for setting in settings if re.match(r"budget\b", setting)]:
            raise UsageError(f"--set {stated[0]}: --max-minutes or --max-steps states the budget; leave one out")
        values["budget"] = dict(budget)
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{recipe}: {_first_problem(error)}") from error


def differences(saved: Mapping[str, Any], present: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Return what two configurations, as `TrainConfig.as_dict` gives them, say differently, by dotted name.

    Settings that change nothing that is learnt are left out.

    >>> differences({"seed": 0, "loss": {"fft": 0.1}}, {"seed": 1, "loss": {"fft": 0.1}})
    {'seed': (0, 1)}
    """
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted({*saved, *present}):
        name, one, other = prefix + key, saved.get(key), present.get(key)
        if name in FREE_ON_RESUME or one == other:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found |= differences(one, other, f"{name}.")
        else:
            found[name] = (one, other)
    return found


def _recipe_path(recipe: str | Path) -> Path:
    if str(recipe) in RECIPES:
        return Path(__file__).parent / "recipes" / f"{recipe}.toml"
    path = Path(recipe)
    if path.suffix == ".toml" or path.is_file():
        return path
    raise UsageError(f"{recipe}: {unknown(str(recipe), RECIPES, 'recipe')}; or name a .toml file")


def _change(values: dict[str, Any], setting: str) -> None:
    name, equals, text = setting.partition("=")
    if not equals or not name:
        raise UsageError(f"--set {setting}: write it as name=value, such as optimiser.lr=1e-3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    parts = name.split(".")
    place: Any = values
    try:
        for depth, (part, item) in enumerate(itertools.pairwise(parts), 1):
            if isinstance(place, dict) and part not in place:  # a list has to be there for an item to be changed
                place[part] = _as_understood(values, parts[:depth]) if item.isdecimal() else {}
            place = place[_key(place, part)]
        place[_key(place, parts[-1])] = value
    except ValidationError as error:
        raise UsageError(f"--set {setting}: {_first_problem(error)}") from error
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"--set {setting}: there is no {name} to set; --show prints what there is") from error


def _as_understood(values: Mapping[str, Any], path: Sequence[str]) -> Any:  # noqa: ANN401  whatever stands there
    """Return what stands at a place of a recipe where the file leaves it to presets and defaults."""
    place: Any = TrainConfig.model_validate(values).as_dict()
    for part in path:
        place = place[_key(place, part)]
    return place


def _key(place: Any, part: str) -> int | str:  # noqa: ANN401  a table or a list
    return int(part) if isinstance(place, list) else part


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "union_tag_invalid":
        message = unknown(problem["ctx"]["tag"], re.findall(r"'([^']+)'", problem["ctx"]["expected_tags"]), "kind")
    return f"{place}: {message}" if place else message


def _toml(value: Any) -> str:  # noqa: ANN401  any JSON type
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items() if item is not None) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
