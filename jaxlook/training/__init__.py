"""Training: all seeds of a variant at once, checkpointed and resumable."""

from jaxlook.training.config import TrainConfig
from jaxlook.training.loop import Stopped, Trained, evaluate, train

__all__ = ["Stopped", "TrainConfig", "Trained", "evaluate", "train"]
