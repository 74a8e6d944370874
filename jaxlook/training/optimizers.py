"""Learning-rate schedules and optimizers, as a `TrainConfig` says.

Sources: Loshchilov and Hutter (2019), arXiv 1711.05101, for AdamW; Jordan et
al. (2024), "Muon: an optimizer for hidden layers in neural networks", and Liu
et al. (2025), arXiv 2502.16982, for Muon; Chen et al. (2023), arXiv 2302.06675,
for Lion; Hu et al. (2024), arXiv 2404.06395, section 4, for warm-up, stable,
decay.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxlook.training.config import TrainConfig

NAMES = {"adamw": "AdamW", "muon": "Muon", "sgd": "SGD", "lion": "Lion"}
"""Optimizers by their setting, as papers write them."""

_MOMENTUM = 0.9
# What makes the size of Muon's updates that of AdamW's; Liu et al., section 2.
_CONSISTENT_RMS = 0.2


def schedule(config: TrainConfig) -> optax.Schedule:
  """Returns the learning rate by step.

  It rises linearly from 0. Then, under `cosine`, it falls to 0 along a cosine;
  under `wsd`, it is stable and falls to 0 linearly in the last steps.
  """
  warmup = warmup_steps(config)
  if config.schedule == "cosine":
    return optax.warmup_cosine_decay_schedule(
      init_value=0.0,
      peak_value=config.learning_rate,
      warmup_steps=warmup,
      decay_steps=config.steps,
    )
  peak, stable = config.learning_rate, stable_steps(config)
  return optax.join_schedules(
    [
      optax.linear_schedule(0.0, peak, warmup),
      optax.constant_schedule(peak),
      optax.linear_schedule(peak, 0.0, config.steps - stable),
    ],
    [warmup, stable],
  )


def warmup_steps(config: TrainConfig) -> int:
  """Counts the steps in which the learning rate rises."""
  if config.warmup_steps is not None:
    return config.warmup_steps
  # With few steps, a fraction near 1 would leave no step for the rest.
  return min(round(config.warmup_fraction * config.steps), config.steps - 1)


def stable_steps(config: TrainConfig) -> int:
  """Counts the steps before the learning rate falls, under `wsd`."""
  decay = round(config.decay_fraction * config.steps)
  return max(config.steps - max(decay, 1), warmup_steps(config))


def steps_before_decay(config: TrainConfig) -> int | None:
  """Counts the steps after which a longer training could go on.

  Returns:
    The last end of a chunk before the learning rate falls under `wsd`; None if
    there is none, or under another schedule.
  """
  if config.schedule != "wsd":
    return None
  stable = stable_steps(config)
  return stable - stable % config.log_every or None


def can_go_on(old: TrainConfig, new: TrainConfig) -> bool:
  """Whether the longer training takes the shorter one's first steps."""
  same = dataclasses.replace(
    new, steps=old.steps, keep_steps=old.keep_steps, warmup_steps=None
  ) == dataclasses.replace(old, warmup_steps=None)
  return (
    same
    and new.schedule == "wsd"
    and old.steps < new.steps
    and warmup_steps(old) == warmup_steps(new)
  )


def optimizer(
  config: TrainConfig, norm: Callable[[Any], jax.Array] = optax.tree.norm
) -> optax.GradientTransformation:
  """Returns the optimizer under `schedule`, with clipping if it is set.

  Args:
    config: has the optimizer, the rates and `clip_norm`.
    norm: computes the norm of a gradient, which may be split over devices.

  Returns:
    The transformation.
  """
  rule = _rule(config)
  bound = config.clip_norm
  if bound is None:
    return rule

  def clip(grads: Any, _: Any) -> Any:
    size = norm(grads)
    return jax.tree.map(
      lambda x: jnp.where(size < bound, x, x / size.astype(x.dtype) * bound),
      grads,
    )

  return optax.chain(optax.stateless(clip), rule)


def _rule(config: TrainConfig) -> optax.GradientTransformation:
  """The optimizer without clipping. Weight decay is decoupled in all."""
  rate, decay = schedule(config), config.weight_decay
  mask = hidden_matrices if config.decay_matrices_only else None
  match config.optimizer:
    case "adamw":
      return optax.adamw(rate, weight_decay=decay, mask=mask)
    case "lion":
      return optax.lion(rate, weight_decay=decay, mask=mask)
    case "sgd":
      return optax.chain(
        optax.trace(_MOMENTUM),
        optax.add_decayed_weights(decay, mask),
        optax.scale_by_learning_rate(rate),
      )
    case "muon":
      return optax.contrib.muon(
        rate,
        weight_decay=decay,
        adam_weight_decay=0.0 if config.decay_matrices_only else decay,
        muon_weight_dimension_numbers=_muon_axes,
        consistent_rms=_CONSISTENT_RMS,
      )


def hidden_matrices(params: Any) -> Any:
  """Marks the weight matrices of the blocks.

  Args:
    params: the decoder's parameters.

  Returns:
    A tree of bool: False for embeddings, head, norms and biases.
  """

  def marked(path: tuple[Any, ...], x: jax.Array) -> bool:
    return x.ndim == 2 and str(path[0].key).startswith("block_")

  return jax.tree_util.tree_map_with_path(marked, params)


def _muon_axes(params: Any) -> Any:
  """Input and output axes of what Muon trains; None for what Adam trains."""
  axes = optax.contrib.MuonDimensionNumbers()
  return jax.tree.map(
    lambda hidden: axes if hidden else None, hidden_matrices(params)
  )
