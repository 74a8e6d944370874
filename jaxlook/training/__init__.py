"""Training: all seeds of a variant at once, checkpointed and resumable."""

from jaxlook.training.arms import FinishedArm, Problem, baseline, run_arm
from jaxlook.training.config import TrainConfig
from jaxlook.training.loop import Stopped, Trained, evaluate, train

__all__ = [
  "FinishedArm",
  "Problem",
  "Stopped",
  "TrainConfig",
  "Trained",
  "baseline",
  "evaluate",
  "run_arm",
  "train",
]
