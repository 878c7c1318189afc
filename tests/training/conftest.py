"""A small recipe and a few photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restore.config import TrainConfig
from restore.training import Material

SMALL = {
    "name": "small",
    "network": {
        "width": 8,
        "encoder": [{"num_blocks": 1}],
        "middle": {"num_blocks": 1},
        "decoder": [{"num_blocks": 1}],
        "stem": 2,
        "sigma_input": True,
    },
    "degradations": [{"steps": [{"kind": "gaussian-noise", "sigma": [0, 50]}]}],
    "patches": [{"start": 0.0, "size": 16, "batch_size": 4}, {"start": 0.5, "size": 24, "batch_size": 2}],
    "budget": {"steps": 6},
    "data": {"told_share": 0.25, "grey_share": 0.2},
    "precision": "fp32",
}


@pytest.fixture
def config() -> TrainConfig:
    """A recipe of six steps on a network of 8 channels."""
    return TrainConfig.model_validate(SMALL)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of two clean pictures, one of them in a subfolder."""
    folder = tmp_path / "photographs"
    (folder / "deeper").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ("a.png", "deeper/b.png"):
        blocks = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((40, 32), Image.Resampling.BICUBIC).save(folder / name)
    return folder


@pytest.fixture
def material(config: TrainConfig, photographs: Path) -> Material:
    """The photographs as a run sees them."""
    return Material.open(config, clean=photographs)
