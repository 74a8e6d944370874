"""The flags that all training binaries share, and the presets they change.

Not a binary.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from absl import flags

from experiments.common import (
  multiprocess,
)
from jaxlook.training import (
  TrainConfig,
)

PRESETS = ("smoke", "cpu", "paper")

PRESET = flags.DEFINE_enum(
  "preset", "cpu", PRESETS, "Scale: seconds, minutes, or an accelerator."
)
SEEDS = flags.DEFINE_integer(
  "seeds", None, "Number of seeds, at least 2.", lower_bound=2
)
OUT = flags.DEFINE_string(
  "out", None, "Run folder; runs/EXPERIMENT-PRESET by default."
)
ATTENTION = flags.DEFINE_multi_string(
  "attention",
  None,
  "An arm beside causal, as horizon:4 or causal,myopic; may be repeated.",
)
STEPS = flags.DEFINE_integer("steps", None, "Training steps.")
LEARNING_RATE = flags.DEFINE_float(
  "learning_rate", None, "Peak of the learning rate."
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Sequences a step.")
MICROBATCHES = flags.DEFINE_integer(
  "microbatches",
  None,
  "Parts of a batch, one after the other: less memory, faster on a CPU.",
)
BFLOAT16 = flags.DEFINE_bool(
  "bfloat16",
  None,
  "Multiply in bfloat16 in training and evaluation; parameters are float32.",
)
REMAT = flags.DEFINE_bool(
  "remat", None, "Compute blocks again in the backward pass: less memory."
)
LOSS_TOKENS = flags.DEFINE_integer(
  "loss_tokens", None, "Tokens whose logits exist at a time; all by default."
)
# Each replaces the field of its name.
_TRAINING = (
  *(STEPS, LEARNING_RATE, BATCH_SIZE, MICROBATCHES),
  *(BFLOAT16, REMAT, LOSS_TOKENS),
)
MESH = flags.DEFINE_string(
  "mesh",
  None,
  "Devices, as seed:2,data:2,model:2; as many as share the seeds by default.",
)
LAUNCHER = flags.DEFINE_enum(
  "launcher",
  None,
  ["ray"],
  "Who trains the arms: tasks of Ray, on the cluster of RAY_ADDRESS or on this"
  " machine; this process, one after the other, by default.",
)
LAUNCHER_RESOURCES = flags.DEFINE_string(
  "launcher_resources", "cpu:1", "What an arm needs, as cpu:2,gpu:1."
)
LENGTH = flags.DEFINE_integer("length", None, "Positions a sequence.")
LAYERS = flags.DEFINE_integer("layers", None, "Layers of the model.")
WIDTH = flags.DEFINE_integer("width", None, "Width of the residual stream.")
HEADS = flags.DEFINE_integer("heads", None, "Attention heads a layer.")

flags.adopt_module_key_flags(multiprocess)

# How small models are trained, but for steps and batch.
small_training = functools.partial(
  TrainConfig, learning_rate=3e-3, warmup_fraction=0.05, clip_norm=1.0
)


def resolve(presets: Mapping[str, Any], **values: Any) -> Any:
  """The preset's config with the fields replaced whose flag was given.

  Args:
    presets: a config dataclass by preset; its `train` is a `TrainConfig`.
    **values: by field, what an experiment's own flag says; None where it was
      not given. The shared flags need not be named.

  Returns:
    The config with the flags' values.

  Raises:
    UsageError: `--steps` or `--microbatches` is out of range.
  """
  config = presets[PRESET.value]
  values |= {
    flag.name: flag.value for flag in (SEEDS, LENGTH, LAYERS, WIDTH, HEADS)
  }
  given = {name: value for name, value in values.items() if value is not None}
  given["train"] = resolve_train(config.train)
  return dataclasses.replace(config, **given)


def resolve_train(train: TrainConfig) -> TrainConfig:
  """The preset's training with the flags' values.

  Args:
    train: what a preset says, for experiments that train in several ways.

  Returns:
    The same with the values of those of `_TRAINING` that are given.

  Raises:
    UsageError: a flag is out of range.
  """
  given: dict[str, Any] = {
    flag.name: flag.value for flag in _TRAINING if flag.value is not None
  }
  if STEPS.value is not None:
    kept = (step for step in train.keep_steps if step <= STEPS.value)
    given["keep_steps"] = tuple(kept)
  return dataclasses.replace(train, **given)
