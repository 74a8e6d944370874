"""How a model is trained: optimizer, schedule, logging, checkpoints."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxlook.errors import SettingError

_MOST_STEPS = 2**31 - 1  # Devices count steps in int32.


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """AdamW with linear warm-up and cosine decay to zero.

  Attributes:
    steps: number of optimizer steps.
    batch_size: sequences per step and seed.
    microbatches: number of equal parts of a batch whose gradients are summed
      one after another, so that only one part's activations exist at a time.
    learning_rate: peak learning rate.
    weight_decay: decoupled, per step and unit of learning rate; applied to all
      parameters, as in the published experiments.
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
    if self.clip_norm is not None and not self.clip_norm > 0.0:
      raise SettingError("clip_norm", f"must be positive, not {self.clip_norm}")


def schedule(config: TrainConfig) -> optax.Schedule:
  """Returns the learning rate by step: linear warm-up, then a cosine to 0."""
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=config.learning_rate,
    # With few steps, a fraction near 1 would leave no step for the cosine.
    warmup_steps=min(
      round(config.warmup_fraction * config.steps), config.steps - 1
    ),
    decay_steps=config.steps,
  )


def optimizer(
  config: TrainConfig, norm: Callable[[Any], jax.Array] = optax.tree.norm
) -> optax.GradientTransformation:
  """Returns AdamW under `schedule`, with clipping if `clip_norm` is set.

  Args:
    config: has the rates and `clip_norm`.
    norm: computes the norm of a gradient, which may be split over devices.

  Returns:
    The transformation.
  """
  adamw = optax.adamw(schedule(config), weight_decay=config.weight_decay)
  bound = config.clip_norm
  if bound is None:
    return adamw

  def clip(grads: Any, _: Any) -> Any:
    size = norm(grads)
    return jax.tree.map(
      lambda x: jnp.where(size < bound, x, x / size.astype(x.dtype) * bound),
      grads,
    )

  return optax.chain(optax.stateless(clip), adamw)
