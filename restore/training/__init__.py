"""Training: material, state, and the loop that turns them into weights."""

from restore.training.loop import train
from restore.training.material import Material, recorded_sources
from restore.training.state import TrainState

__all__ = ["Material", "TrainState", "recorded_sources", "train"]
