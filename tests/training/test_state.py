"""restore.training.state: where a run starts from."""

from __future__ import annotations

import pytest
import torch

from restore.config import TrainConfig
from restore.errors import UsageError
from restore.training import TrainState
from restore.training.state import choose_dtype


def test_the_initial_weights_depend_on_the_seed_alone_and_global_randomness_is_untouched(config: TrainConfig) -> None:
    before = torch.random.get_rng_state()
    one, other = TrainState.fresh(config), TrainState.fresh(config)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.network.intro.weight, other.network.intro.weight)
    different = TrainState.fresh(config.model_copy(update={"seed": 1}))
    assert not torch.equal(one.network.intro.weight, different.network.intro.weight)


def test_number_formats(config: TrainConfig) -> None:
    cpu = torch.device("cpu")
    assert choose_dtype(config, cpu) == torch.float32
    assert choose_dtype(config.model_copy(update={"precision": "bf16"}), cpu) == torch.bfloat16
    assert choose_dtype(config.model_copy(update={"precision": "auto"}), cpu) in (torch.float32, torch.bfloat16)
    with pytest.raises(UsageError, match="CUDA"):
        choose_dtype(config.model_copy(update={"precision": "fp16"}), cpu)
