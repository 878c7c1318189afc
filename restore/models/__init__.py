"""Networks by name: `ARCHITECTURES["nafnet"](config)` builds one from the plain dict that its weight file carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from restore.models.nafnet import (
    NAFNet,
    NAFNetConfig,
    founding_net,
    half_resolution_net,
    nafnet_gopro,
    nafnet_sidd,
)

__all__ = ["ARCHITECTURES", "PRESETS", "NAFNet", "NAFNetConfig"]

ARCHITECTURES: dict[str, Callable[[Mapping[str, Any]], NAFNet]] = {
    "nafnet": lambda config: NAFNet(NAFNetConfig.from_dict(config)),
}

PRESETS: dict[str, NAFNetConfig] = {
    "founding-12": founding_net(12),
    "founding-12-deeper": founding_net(12, encoder=(1, 3, 6, 2), decoder=(2, 2, 2, 1)),
    "founding-16": founding_net(16),
    "founding-24": founding_net(24),
    "founding-32": founding_net(32),
    "half-naf-32": half_resolution_net(32),
    "half-naf-32-slim": half_resolution_net(32, encoder=(1, 4), middle=6, decoder=(2, 1)),
    "half-naf-32-slimmer": half_resolution_net(32, encoder=(1, 3), middle=4, decoder=(2, 1)),
    "half-naf-48": half_resolution_net(48),
    "half-naf-48-medium": half_resolution_net(48, encoder=(2, 6), middle=6, decoder=(3, 2)),
    "half-naf-48-slim-deep": half_resolution_net(48, encoder=(1, 6), middle=10, decoder=(3, 2)),
    "half-naf-48-deep": half_resolution_net(48, middle=10),
    "half-naf-48-deeper": half_resolution_net(48, encoder=(2, 6), middle=12, decoder=(4, 4)),
    "half-naf-48-large": half_resolution_net(48, encoder=(4, 6), middle=6, decoder=(4, 4)),
    "half-naf-48-large-deep": half_resolution_net(48, encoder=(4, 6), middle=12, decoder=(4, 4)),
    "half-naf-64": half_resolution_net(64),
    "nafnet-gopro-32": nafnet_gopro(32),
    "nafnet-gopro-64": nafnet_gopro(64),
    "nafnet-sidd-32": nafnet_sidd(32),
    "nafnet-sidd-64": nafnet_sidd(64),
}
