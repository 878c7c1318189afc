"""NAFNet's skeleton with every stage and the stem open, and the presets that have names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.models.attention import LKA, LSKA, LSKA_KERNELS, ChannelAttention, DeformableLKA
from restore.models.blocks import FEED_FORWARDS, LKABlock, NAFBlock
from restore.models.deformable import OFFSETS
from restore.models.layers import (
    ACTIVATIONS,
    NORMS,
    SCA,
    PointwiseConv2d,
    cell_of,
    enlarged,
    halved,
    mirrored_to_multiple,
)

MAX_WIDTH = 4096
MAX_SCALES = 16  # the smallest of a picture of 65,536 pixels a side is one pixel

# parts that start at zeros, so that trained weights can get them
ADDITIONS = ("noise_level.", "coarse_intro.", "blend.")


@dataclass(frozen=True)
class Stage:
    """The blocks of one stage; the settings from `kernel_size` on are of LKABlocks, unless they say otherwise.

    Args:
        num_blocks: how many, 0 allowed.
        kind: `naf` (NAFBlock) or `lka` (LKABlock).
        kernel_size: K of the attention; LSKA has 7, 11, 23, 35, 41 and 53.
        dilation: d of the attention; LSKA's follows from its kernel.
        expansion: widening of the feed-forward.
        attention: `lka`, `lska`, `deformable_lka` or `sca` (channel attention).
        feed_forward: `mlp`, `geglu`, `gated` or `simple_gate`, see `LKABlock`.
        activation: `gelu`, `silu`, `relu`, `tanh` or `sigmoid`.
        inner_skip: whether the attention's branch adds its own input.
        offsets: how deformable convolutions find theirs: `dense` as published, or `separable`, which is cheaper.
        modulated: whether deformable convolutions have a factor on each tap.
        norm: of both kinds of block, `layer` or `group`; `group` makes the result depend on the tile.
        drop_path: of both kinds of block, probability in [0,1) that a residual branch is left out in training.
    """

    num_blocks: int
    kind: Literal["naf", "lka"] = "naf"
    kernel_size: int = 21
    dilation: int = 3
    expansion: int = 4
    attention: str = "lka"
    feed_forward: str = "mlp"
    activation: str = "gelu"
    inner_skip: bool = True
    offsets: str = "dense"
    modulated: bool = False
    norm: str = "layer"
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        _check_types(self)
        if self.num_blocks < 0 or self.kind not in ("naf", "lka"):
            raise ValueError(f"a stage has 0 or more blocks of kind naf or lka, not {self.num_blocks} of {self.kind!r}")
        for setting, choices in CHOICES.items():
            if (chosen := getattr(self, setting)) not in choices:
                raise ValueError(f"{setting} must be one of {', '.join(choices)}, not {chosen!r}")
        if self.attention == "lska" and self.kernel_size not in LSKA_KERNELS:
            known = ", ".join(map(str, LSKA_KERNELS))
            raise ValueError(f"kernel_size must be one of {known} for lska, not {self.kernel_size}")
        if self.kernel_size < 1 or self.dilation < 1 or self.expansion < 1 or not 0 <= self.drop_path < 1:
            raise ValueError(
                "a stage needs kernel_size, dilation and expansion of 1 or more and drop_path in [0,1), not "
                f"{self.kernel_size}, {self.dilation}, {self.expansion} and {self.drop_path}"
            )

    def build(self, channels: int, window: int | None = None) -> nn.Sequential:
        """Build the stage for (N,channels,H,W); the window is that of the channel attention, in pixels of the map."""
        return nn.Sequential(*(self._build_block(channels, window) for _ in range(self.num_blocks)))

    def _build_block(self, channels: int, window: int | None) -> nn.Module:
        if self.kind == "naf":
            return NAFBlock(channels, window, norm=self.norm, drop_path=self.drop_path)
        return LKABlock(
            channels,
            ATTENTIONS[self.attention](self, window),
            self.feed_forward,
            self.expansion,
            norm=self.norm,
            activation=self.activation,
            inner_skip=self.inner_skip,
            drop_path=self.drop_path,
        )


# from the settings and the window of channel attention, what builds the attention of an LKABlock
ATTENTIONS: dict[str, Callable[[Stage, int | None], Callable[[int], nn.Module]]] = {
    "lka": lambda stage, _: partial(LKA, kernel_size=stage.kernel_size, dilation=stage.dilation),
    "lska": lambda stage, _: partial(LSKA, kernel_size=stage.kernel_size),
    "deformable_lka": lambda stage, _: partial(
        DeformableLKA,
        kernel_size=stage.kernel_size,
        dilation=stage.dilation,
        offsets=stage.offsets,
        modulated=stage.modulated,
    ),
    "sca": lambda _, window: partial(ChannelAttention, window=window),
}

CHOICES: dict[str, Mapping[str, object]] = {
    "attention": ATTENTIONS,
    "feed_forward": FEED_FORWARDS,
    "activation": ACTIVATIONS,
    "offsets": OFFSETS,
    "norm": NORMS,
}


@dataclass(frozen=True)
class NAFNetConfig:
    """What a NAFNet is made of; `as_dict` and `from_dict` carry it through JSON.

    Args:
        width: channels after the first convolution; doubled at each level.
        encoder: stages from full resolution down.
        middle: the stage at the lowest resolution.
        decoder: stages from the lowest resolution up, as many as the encoder has.
        stem: 1, or 2 or 4 for a pixel-unshuffle before the first convolution and a shuffle after the last.
        channels: of the picture.
        padding: how sizes are completed to a multiple of stem·2^levels; `constant` (zeros) as published;
            `reflect` continues the noise as noise, where repeated pixels would be taken for streaks.
        sca_window: side in pixels of the picture over which channel attention averages, about (see `SCA`); None for all
            of it.
        sca_limit: what the factors of channel attention stay within; None for unbounded ones, as published.
        sigma_input: whether the network can be told the noise level; it stays blind where it is not told.
        scales: sizes of the picture, each half the next, that the same weights restore from the smallest up; each takes
            into account what the one before it changed. 1 for the whole size alone, as published.
    """

    width: int
    encoder: Sequence[Stage]
    middle: Stage
    decoder: Sequence[Stage]
    stem: int = 1
    channels: int = 3
    padding: Literal["constant", "reflect"] = "reflect"
    sca_window: int | None = None
    sca_limit: float | None = None
    sigma_input: bool = False
    scales: int = 1

    def __post_init__(self) -> None:
        _check_types(self)
        if len(self.encoder) != len(self.decoder):
            raise ValueError(f"{len(self.encoder)} encoder stages need as many decoder stages, not {len(self.decoder)}")
        if not 1 <= self.width <= MAX_WIDTH or self.channels < 1 or self.padding not in ("constant", "reflect"):
            raise ValueError(f"impossible: width {self.width}, {self.channels} channels, padding {self.padding!r}")
        if not 1 <= self.scales <= MAX_SCALES:
            raise ValueError(f"a network restores at 1 to {MAX_SCALES} scales, not {self.scales}")
        if self.sca_window is not None and self.sca_window < 1:
            raise ValueError(f"sca_window must be 1 pixel or more, not {self.sca_window}")
        if self.scales > 1 and self.stem == 1 and not self.encoder and self.padding == "constant":
            raise ValueError("several scales need sizes that can be halved: a stem, an encoder, or padding reflect")
        if self.stem not in (1, 2, 4):
            raise ValueError(f"the stem must be 1, 2 or 4, not {self.stem}")
        if self.sca_limit is not None and not 0 < self.sca_limit < math.inf:
            raise ValueError(f"sca_limit must be larger than 0 and finite, not {self.sca_limit}")

    @property
    def is_global(self) -> bool:
        """Whether a pixel's result depends on the whole picture, so that tiles differ from wholes."""
        return self.averages_globally or any(stage.norm == "group" for stage in self._stages)

    @property
    def averages_globally(self) -> bool:
        """Whether channel attention averages over the whole picture."""
        attends = any(stage.kind == "naf" or stage.attention == "sca" for stage in self._stages)
        return attends and self.sca_window is None

    @property
    def _stages(self) -> list[Stage]:
        return [stage for stage in (*self.encoder, self.middle, *self.decoder) if stage.num_blocks]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NAFNetConfig:
        """Build from what `as_dict` returned.

        Raises:
            TypeError: an unknown or missing setting.
            ValueError: settings that do not fit together.
        """
        stages = {
            "encoder": tuple(Stage(**stage) for stage in values["encoder"]),
            "middle": Stage(**values["middle"]),
            "decoder": tuple(Stage(**stage) for stage in values["decoder"]),
        }
        return cls(**{**values, **stages})


def _check_types(settings: Stage | NAFNetConfig) -> None:
    """Raise ValueError where a setting is of another type than it says: recipes and weight files hold anything."""
    kinds = {"int": (int,), "bool": (bool,), "float": (int, float), "str": (str,)}
    for field in fields(settings):
        name, *or_none = str(field.type).split(" | ")
        value = getattr(settings, field.name)
        if name in kinds and type(value) not in kinds[name] and not (or_none and value is None):
            wanted = {"int": "a whole number", "bool": "true or false", "float": "a number", "str": "a name"}[name]
            raise ValueError(f"{field.name} must be {wanted}, not {value!r}")


class NAFNet(nn.Module):
    """A U-shaped restoration network that predicts what to add to its input.

    Args:
        config: what it is made of.

    References:
        Chen, Chu, Zhang, Sun 2022, "Simple Baselines for Image Restoration", arXiv:2204.04676; for several scales by
        the same weights Tao, Gao, Shen, Wang, Jia 2018, "Scale-recurrent Network for Deep Image Deblurring",
        arXiv:1802.01770.
    """

    def __init__(self, config: NAFNetConfig) -> None:
        super().__init__()
        self.config = config
        width, pixels = config.width, config.channels * config.stem**2
        self.intro = nn.Conv2d(pixels, width, 3, padding=1)
        self.ending = nn.Conv2d(width, pixels, 3, padding=1)
        self.noise_level = nn.Linear(2, width, bias=False) if config.sigma_input else None
        if self.noise_level is not None:
            nn.init.zeros_(self.noise_level.weight)
        self.coarse_intro = nn.Conv2d(pixels, width, 3, padding=1, bias=False) if config.scales > 1 else None
        self.blend = nn.Conv2d(width, config.stem**2, 3, padding=1) if config.scales > 1 else None
        for added in (self.coarse_intro, self.blend):  # sigmoid(0) is a half: at first two scales count alike
            for parameter in () if added is None else added.parameters():
                nn.init.zeros_(parameter)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        self.decoders, self.ups = nn.ModuleList(), nn.ModuleList()
        depth = len(config.encoder)
        for level, stage in enumerate(config.encoder):
            self.encoders.append(stage.build(width, self._on_map(config.sca_window, level)))
            self.downs.append(nn.Conv2d(width, 2 * width, 2, stride=2))
            width = 2 * width
        self.middle_blks = config.middle.build(width, self._on_map(config.sca_window, depth))
        for level, stage in zip(reversed(range(depth)), config.decoder, strict=True):
            self.ups.append(nn.Sequential(PointwiseConv2d(width, 2 * width, bias=False), nn.PixelShuffle(2)))
            width = width // 2
            self.decoders.append(stage.build(width, self._on_map(config.sca_window, level)))
        for module in self.modules():
            if isinstance(module, SCA):
                module.limit = config.sca_limit

    def _on_map(self, picture_px: int | None, level: int) -> int | None:
        """Return how many cells of a level's map a length in the picture takes, at least one."""
        return picture_px and max(1, picture_px // (self.config.stem * 2**level))

    @property
    def size_multiple(self) -> int:
        """Pixels that the height and width are completed to a multiple of.

        At least 16 where the padding is ours to choose: convolutions on maps of odd width took 40 % longer.
        """
        strides: int = self.config.stem * 2 ** len(self.config.encoder)
        return max(16, strides) if self.config.padding == "reflect" else strides

    @property
    def grid_px(self) -> int:
        """Pixels after which strides and the cells of channel attention repeat: shifted by so many, all is the same."""
        cells = (
            cell_of(window) * self.config.stem * 2**level
            for level in range(len(self.config.encoder) + 1)
            if (window := self._on_map(self.config.sca_window, level))
        )
        return max([self.size_multiple, *cells])  # all are powers of two

    def forward(self, image_NCHW: Tensor, sigma_N: Tensor | None = None) -> Tensor:
        """Restore a picture.

        Args:
            image_NCHW: nominal range [0,1], any size from 1x1 up.
            sigma_N: standard deviation of the noise in [0,1], negative where unknown; None where all are.

        Returns:
            (N,C,H,W), the same size.
        """
        return self.refine(image_NCHW, sigma_N, self._coarse_change(image_NCHW, sigma_N, self.config.scales - 1))

    def refine(
        self, image_NCHW: Tensor, sigma_N: Tensor | None = None, coarse_change_NCHW: Tensor | None = None
    ) -> Tensor:
        """Restore a picture at this size alone.

        Args:
            image_NCHW: as for `forward`.
            sigma_N: as for `forward`.
            coarse_change_NCHW: what restoring it at half its size has changed, enlarged to this one, the same shape;
                None at the smallest size. Zeros are not nothing: they say that the coarse part is right as it is.

        Returns:
            (N,C,H,W), the same size.
        """
        height, width = image_NCHW.shape[-2:]
        padded = self._pad(image_NCHW)
        x = self.intro(F.pixel_unshuffle(padded, self.config.stem))
        if sigma_N is not None:
            x = x + self._embed(sigma_N)
        coarse = None if coarse_change_NCHW is None else self._pad(coarse_change_NCHW)
        if coarse is not None:
            assert self.coarse_intro is not None, "a network of one scale knows no coarse change"
            x = x + self.coarse_intro(F.pixel_unshuffle(coarse, self.config.stem))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for decoder, up in zip(self.decoders, self.ups, strict=True):
            x = decoder(up(x) + skips.pop())
        change = F.pixel_shuffle(self.ending(x), self.config.stem)
        if coarse is not None:
            assert self.blend is not None
            share = F.pixel_shuffle(self.blend(x), self.config.stem).sigmoid()
            change = change + share * (coarse - enlarged(halved(change)))
        return (change + padded)[..., :height, :width]

    def _coarse_change(self, image_NCHW: Tensor, sigma_N: Tensor | None, num_smaller: int) -> Tensor | None:
        """Return what restoring a picture at `num_smaller` smaller sizes changes, enlarged; None where that is 0."""
        if not num_smaller:
            return None
        half = halved(image_NCHW)
        sigma_N = None if sigma_N is None else sigma_N / 2  # the mean of four pixels
        change = self.refine(half, sigma_N, self._coarse_change(half, sigma_N, num_smaller - 1)) - half
        height, width = image_NCHW.shape[-2:]
        return enlarged(change)[..., :height, :width]

    def use_local_statistics(self, base_px: int | None) -> None:
        """Let channel attention average around each pixel, not over the whole picture: TLC, for inference.

        State-dict keys do not change. Attention that was trained with a window keeps it.

        Args:
            base_px: side of the surroundings in pixels of the picture, 1.5 times that of the training patches; None for
                the whole picture.

        References:
            Chu, Chen, Chen, Lu 2022, "Improving Image Restoration by Revisiting Global Information Aggregation",
            arXiv:2112.04491.
        """
        depth = len(self.encoders)
        stages = [*self.encoders, self.middle_blks, *self.decoders]
        for stage, level in zip(stages, [*range(depth + 1), *reversed(range(depth))], strict=True):
            for module in stage.modules():
                if isinstance(module, SCA):
                    module.local_size = self._on_map(base_px, level)
                    module.disagreement = 0.0

    def statistics_disagreement(self) -> float:
        """Return how far local factors lay from global ones in the last pass, at most, relative to these.

        It is 0 without TLC.
        """
        return max((module.disagreement for module in self.modules() if isinstance(module, SCA)), default=0.0)

    def fold(self) -> None:
        """Fold norms and residual scales into convolutions, in place, for inference; the output stays equal."""
        for module in self.modules():
            if isinstance(module, NAFBlock | LKABlock):
                module.fold()

    def _embed(self, sigma_N: Tensor) -> Tensor:
        if self.noise_level is None:
            raise ValueError("this network cannot be told the noise level")
        known = (sigma_N >= 0).to(sigma_N.dtype)
        embedded: Tensor = self.noise_level(torch.stack([10 * sigma_N * known, known], dim=1))
        return embedded[:, :, None, None]

    def _pad(self, image: Tensor) -> Tensor:
        if self.config.padding == "reflect":
            return mirrored_to_multiple(image, self.size_multiple)
        height, width = image.shape[-2:]
        return F.pad(image, (0, -width % self.size_multiple, 0, -height % self.size_multiple))


def founding_net(
    width: int = 12, encoder: Sequence[int] = (1, 3, 4, 0), decoder: Sequence[int] = (1, 1, 1, 0)
) -> NAFNetConfig:
    """NAFNet with large kernel attention in the encoder, the project's first net: 0.44 M parameters at width 12."""
    return NAFNetConfig(
        width=width,
        encoder=tuple(Stage(blocks, "lka") for blocks in encoder),
        middle=Stage(0),
        decoder=tuple(Stage(blocks) for blocks in decoder),
    )


def half_resolution_net(
    width: int = 32, encoder: Sequence[int] = (2, 4), middle: int = 4, decoder: Sequence[int] = (2, 2)
) -> NAFNetConfig:
    """NAFBlocks behind a pixel-unshuffle of 2: a CPU is short of memory traffic, and this is four times as wide."""
    return NAFNetConfig(
        width=width,
        encoder=tuple(Stage(blocks) for blocks in encoder),
        middle=Stage(middle),
        decoder=tuple(Stage(blocks) for blocks in decoder),
        stem=2,
    )


def nafnet_gopro(width: int = 32) -> NAFNetConfig:
    """The published deblurring network (GoPro, REDS): 17.11 M parameters at width 32."""
    return _published(width, encoder=(1, 1, 1, 28), middle=1, decoder=(1, 1, 1, 1))


def nafnet_sidd(width: int = 32) -> NAFNetConfig:
    """The published denoising network (SIDD): 29.16 M parameters at width 32."""
    return _published(width, encoder=(2, 2, 4, 8), middle=12, decoder=(2, 2, 2, 2))


def _published(width: int, encoder: Sequence[int], middle: int, decoder: Sequence[int]) -> NAFNetConfig:
    return NAFNetConfig(
        width=width,
        encoder=tuple(Stage(blocks) for blocks in encoder),
        middle=Stage(middle),
        decoder=tuple(Stage(blocks) for blocks in decoder),
        padding="constant",
    )
