"""Networks by name: `ARCHITECTURES["nafnet"](config)` builds one from the plain dict that its weight file carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from restore.models.nafnet import (
    NAFNet,
    NAFNetConfig,
    deep_half_resolution_net,
    founding_net,
    half_resolution_net,
    nafnet_gopro,
    nafnet_sidd,
    slim_half_resolution_net,
)

__all__ = ["ARCHITECTURES", "PRESETS", "NAFNet", "NAFNetConfig"]

ARCHITECTURES: dict[str, Callable[[Mapping[str, Any]], NAFNet]] = {
    "nafnet": lambda config: NAFNet(NAFNetConfig.from_dict(config)),
}

PRESETS: dict[str, NAFNetConfig] = {
    "founding-12": founding_net(12),
    "founding-16": founding_net(16),
    "founding-24": founding_net(24),
    "founding-32": founding_net(32),
    "half-naf-32": half_resolution_net(32),
    "half-naf-32-slim": slim_half_resolution_net(32),
    "half-naf-48-deep": deep_half_resolution_net(48),
    "half-naf-48": half_resolution_net(48),
    "half-naf-64": half_resolution_net(64),
    "nafnet-gopro-32": nafnet_gopro(32),
    "nafnet-gopro-64": nafnet_gopro(64),
    "nafnet-sidd-32": nafnet_sidd(32),
    "nafnet-sidd-64": nafnet_sidd(64),
}
