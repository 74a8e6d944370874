"""Training: all seeds of a variant, with checkpoints.

arms             one arm: a variant on a problem with all its seeds
parts            the parts of an arm: seeds that were trained together
saved_arms       finished arms, read back from their folders
loop             trains all seeds: chunks of steps, devices, resumption
step             one optimizer step of one seed, and of all seeds
config           `TrainConfig`
optimizers       optimizers and learning-rate schedules
initial_weights  pretrained weights to start from
checkpoints      checkpoints of a run: the newest, and chosen ones
memory           the memory of a training step, estimated and compiled
mesh             how devices share seeds, batches and weights
multihost        processes that train together
"""

from jaxlook.training import multihost
from jaxlook.training.arms import (
  FinishedArm,
  arm_name,
  baseline,
  begin_arm,
  find_arm,
  held_out_batch,
  held_out_key,
  held_out_losses,
  in_parts,
  join_parts,
  run_arm,
)
from jaxlook.training.config import TrainConfig
from jaxlook.training.initial_weights import Start, start_from
from jaxlook.training.loop import (
  Stopped,
  Trained,
  evaluate,
  saved_params,
  train,
)
from jaxlook.training.memory import (
  Memory,
  check_memory,
  checkpoint_bytes,
  step_memory,
)
from jaxlook.training.mesh import MeshShape, parse_mesh
from jaxlook.training.problem import Problem
from jaxlook.training.saved_arms import SavedArm, read_arm, read_arms
from jaxlook.training.step import Teacher

__all__ = [
  "FinishedArm",
  "Memory",
  "MeshShape",
  "Problem",
  "SavedArm",
  "Start",
  "Stopped",
  "Teacher",
  "TrainConfig",
  "Trained",
  "arm_name",
  "baseline",
  "begin_arm",
  "check_memory",
  "checkpoint_bytes",
  "evaluate",
  "find_arm",
  "held_out_batch",
  "held_out_key",
  "held_out_losses",
  "in_parts",
  "join_parts",
  "multihost",
  "parse_mesh",
  "read_arm",
  "read_arms",
  "run_arm",
  "saved_params",
  "start_from",
  "step_memory",
  "train",
]
