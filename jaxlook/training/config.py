"""How a model is trained: optimizer, schedule, logging, checkpoints."""

import dataclasses
import math
from typing import Literal, get_args

from jaxlook.errors import SettingError

_MOST_STEPS = 2**31 - 1  # Devices count steps in int32.

Optimizer = Literal["adamw", "muon", "sgd", "lion"]
Schedule = Literal["cosine", "wsd"]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """How a model is trained; by default AdamW, warm-up and a cosine to zero.

  Attributes:
    steps: number of optimizer steps.
    batch_size: sequences per step and seed.
    microbatches: number of equal parts of a batch whose gradients are summed
      one after another, so that only one part's activations exist at a time.
    learning_rate: peak learning rate.
    weight_decay: decoupled, per step and unit of learning rate; by default
      applied to all parameters, as in the published experiments.
    warmup_fraction: share of the steps in which the learning rate rises.
    clip_norm: largest global gradient norm; None for no clipping.
    log_every: steps between rows of the loss history; steps run in compiled
      chunks of this many.
    checkpoint_every: a checkpoint is written after each chunk that reaches a
      multiple of this many steps, and at the end.
    eval_batches: number of batches of `batch_size` held-out sequences.
    keep_steps: steps whose checkpoints are kept besides the newest; each must
      be the end of a chunk.
    bfloat16: whether the model computes in bfloat16; see `Decoder`. Parameters,
      gradients, optimizer and loss are always float32.
    remat: whether the backward pass recomputes each block; see `Decoder`. It
      saves memory for about a third more work.
    loss_tokens: number of tokens per seed whose logits exist at a time, in
      training and evaluation; None for all of a microbatch. Needs logits.
    optimizer: of the weights; `muon` trains the matrices of the blocks, and
      Adam with Nesterov's momentum, at the same rate, the rest. See
      `optimizers`.
    schedule: of the learning rate; see `optimizers.schedule`.
    warmup_steps: instead of `warmup_fraction`; None for that fraction.
    decay_fraction: share of the steps in which the learning rate falls, under
      `wsd`.
    decay_matrices_only: whether weight decay leaves out norms, biases,
      embeddings and the head.

  Raises:
    SettingError: a field is out of range.
  """

  steps: int
  batch_size: int
  learning_rate: float = 1e-3
  weight_decay: float = 0.01
  warmup_fraction: float = 0.01
  clip_norm: float | None = None
  log_every: int = 50
  checkpoint_every: int = 500
  eval_batches: int = 16
  keep_steps: tuple[int, ...] = ()
  microbatches: int = 1
  bfloat16: bool = False
  remat: bool = False
  loss_tokens: int | None = None
  optimizer: Optimizer = "adamw"
  schedule: Schedule = "cosine"
  warmup_steps: int | None = None
  decay_fraction: float = 0.2
  decay_matrices_only: bool = False

  def __post_init__(self):
    """Checks the fields."""
    for field in (
      "steps",
      "batch_size",
      "log_every",
      "checkpoint_every",
      "eval_batches",
      "microbatches",
    ):
      if getattr(self, field) < 1:
        raise SettingError(
          field, f"must be at least 1, not {getattr(self, field)}"
        )
    if self.steps > _MOST_STEPS:
      raise SettingError(
        "steps", f"must be at most {_MOST_STEPS}, not {self.steps}"
      )
    if self.batch_size % self.microbatches:
      raise SettingError(
        "microbatches",
        f"must divide batch_size={self.batch_size}, not {self.microbatches}",
      )
    if self.loss_tokens is not None and self.loss_tokens < 1:
      raise SettingError(
        "loss_tokens", f"must be at least 1, not {self.loss_tokens}"
      )
    for step in self.keep_steps:
      if not 0 < step <= self.steps or step not in (
        self.steps,
        step - step % self.log_every,
      ):
        raise SettingError(
          "keep_steps",
          f"must be {self.steps} or multiples of log_every={self.log_every}"
          f" below it, not {step}",
        )
    if not 0.0 < self.learning_rate < math.inf:
      raise SettingError(
        "learning_rate", f"must be positive, not {self.learning_rate}"
      )
    if not 0.0 <= self.weight_decay < math.inf:
      raise SettingError(
        "weight_decay", f"must be at least 0, not {self.weight_decay}"
      )
    if not 0.0 <= self.warmup_fraction < 1.0:
      raise SettingError(
        "warmup_fraction", f"must lie in [0, 1), not {self.warmup_fraction}"
      )
    for field, known in (("optimizer", Optimizer), ("schedule", Schedule)):
      if getattr(self, field) not in get_args(known):
        raise SettingError(
          field,
          f"must be one of {', '.join(get_args(known))}, not"
          f" {getattr(self, field)!r}",
        )
    if self.warmup_steps is not None and not (
      0 <= self.warmup_steps < self.steps
    ):
      raise SettingError(
        "warmup_steps",
        f"must lie in 0..{self.steps - 1}, not {self.warmup_steps}",
      )
    if not 0.0 < self.decay_fraction < 1.0:
      raise SettingError(
        "decay_fraction", f"must lie in (0, 1), not {self.decay_fraction}"
      )
    if self.clip_norm is not None and not self.clip_norm > 0.0:
      raise SettingError("clip_norm", f"must be positive, not {self.clip_norm}")
