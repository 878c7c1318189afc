"""The networks as the papers write them: the oracle of tests and the baseline of benchmarks.

Kept apart from `restore.models`: direct dilated convolutions, layer normalisation by mean and variance, contiguous
memory. The parameter names are those of `restore.models`, so that one state dict fits both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainLayerNorm2d(nn.Module):
    """Layer normalisation over the channels of each pixel, (N,C,H,W), biased variance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, scale and shift."""
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        y = (x - mean) / (variance + 1e-6).sqrt()
        return y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class PlainNAFBlock(nn.Module):
    """Chen et al. 2022, arXiv:2204.04676."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = PlainLayerNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.norm2 = PlainLayerNorm2d(channels)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Mix space, then channels."""
        first, second = self.conv2(self.conv1(self.norm1(x))).chunk(2, dim=1)
        h = first * second
        h = h * self.sca(h)
        y: Tensor = x + self.beta * self.conv3(h)
        first, second = self.conv4(self.norm2(y)).chunk(2, dim=1)
        out: Tensor = y + self.gamma * self.conv5(first * second)
        return out


class PlainLKA(nn.Module):
    """Guo et al. 2022, arXiv:2202.09741: x times the decomposed large kernel of x."""

    def __init__(self, channels: int, kernel_size: int = 21, dilation: int = 3) -> None:
        super().__init__()
        small = 2 * dilation - 1
        large = -(-kernel_size // dilation)
        large += large % 2 == 0
        reach = dilation * (large - 1) // 2
        self.local = nn.Conv2d(channels, channels, small, padding=dilation - 1, groups=channels)
        self.spread = nn.Conv2d(channels, channels, large, padding=reach, dilation=dilation, groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        weights: Tensor = self.mix(self.spread(self.local(x)))
        return x * weights


class PlainLKABlock(nn.Module):
    """Guo et al. 2022 with layer normalisation in place of batch normalisation."""

    def __init__(self, channels: int, kernel_size: int = 21, dilation: int = 3, expansion: int = 4) -> None:
        super().__init__()
        wide = expansion * channels
        self.norm1 = PlainLayerNorm2d(channels)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.lka = PlainLKA(channels, kernel_size, dilation)
        self.proj_out = nn.Conv2d(channels, channels, 1)
        self.norm2 = PlainLayerNorm2d(channels)
        self.expand = nn.Conv2d(channels, wide, 1)
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.contract = nn.Conv2d(wide, channels, 1)
        self.scale1 = nn.Parameter(torch.full((1, channels, 1, 1), 1e-2))
        self.scale2 = nn.Parameter(torch.full((1, channels, 1, 1), 1e-2))

    def forward(self, x: Tensor) -> Tensor:
        """Attend, then feed forward."""
        shortcut = self.norm1(x)
        y: Tensor = x + self.scale1 * (shortcut + self.proj_out(self.lka(F.gelu(self.proj_in(shortcut)))))
        out: Tensor = y + self.scale2 * self.contract(F.gelu(self.depthwise(self.expand(self.norm2(y)))))
        return out


class PlainNAFNet(nn.Module):
    """NAFNet's skeleton from the plain dict of a `NAFNetConfig`; always blind.

    Args:
        config: what `NAFNetConfig.as_dict` returns.

    Raises:
        ValueError: the channel attention averages over a window, which is not written out here.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        if config.get("sca_window") is not None:
            raise ValueError("the plain network knows global averages only, set sca_window to None")
        if config.get("scales", 1) != 1:
            raise ValueError("the plain network knows the whole size only, set scales to 1")
        self.stem, self.padding = config["stem"], config["padding"]
        width, pixels = config["width"], config["channels"] * config["stem"] ** 2
        self.intro = nn.Conv2d(pixels, width, 3, padding=1)
        self.ending = nn.Conv2d(width, pixels, 3, padding=1)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        self.decoders, self.ups = nn.ModuleList(), nn.ModuleList()
        for stage in config["encoder"]:
            self.encoders.append(_stage(stage, width))
            self.downs.append(nn.Conv2d(width, 2 * width, 2, stride=2))
            width = 2 * width
        self.middle_blks = _stage(config["middle"], width)
        for stage in config["decoder"]:
            self.ups.append(nn.Sequential(nn.Conv2d(width, 2 * width, 1, bias=False), nn.PixelShuffle(2)))
            width = width // 2
            self.decoders.append(_stage(stage, width))

    def forward(self, image: Tensor) -> Tensor:
        """Restore (N,C,H,W) of any size."""
        height, width = image.shape[-2:]
        multiple = self.stem * 2 ** len(self.downs)
        if self.padding == "reflect":
            multiple = max(multiple, 16)
        right, bottom = -width % multiple, -height % multiple
        mirrors = self.padding == "reflect" and right < width and bottom < height
        mode = "constant" if self.padding == "constant" else "reflect" if mirrors else "replicate"
        image = F.pad(image, (0, right, 0, bottom), mode=mode)
        x = self.intro(F.pixel_unshuffle(image, self.stem))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips), strict=True):
            x = decoder(up(x) + skip)
        return (image + F.pixel_shuffle(self.ending(x), self.stem))[..., :height, :width]


def plain_net(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> PlainNAFNet:
    """Build the plain network of a configuration with the weights of `restore.models.NAFNet`, ready for inference.

    Args:
        config: what `NAFNetConfig.as_dict` returns.
        weights: a state dict, not folded; the embedding of the noise level is left out.
    """
    network = PlainNAFNet(config)
    network.load_state_dict({key: value for key, value in weights.items() if not key.startswith("noise_level.")})
    return network.eval().requires_grad_(requires_grad=False)


@torch.no_grad()
def randomise(network: nn.Module, seed: int = 0) -> None:
    """Move every parameter away from its first value, in place, so that no zero hides a branch."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.add_(noise * 0.3 / parameter[0].numel() ** 0.5)


def _stage(stage: Mapping[str, Any], channels: int) -> nn.Sequential:
    num_blocks, kind = stage["num_blocks"], stage["kind"]
    if kind == "naf":
        return nn.Sequential(*(PlainNAFBlock(channels) for _ in range(num_blocks)))
    attention = (stage["kernel_size"], stage["dilation"], stage["expansion"])
    return nn.Sequential(*(PlainLKABlock(channels, *attention) for _ in range(num_blocks)))
