"""Where in text the myopia gap occurs: losses of single tokens, by class.

The gap of a token is its loss under a variant minus its loss under ordinary
training, for the same seed. Means over the tokens of a class are taken within a
seed, so every number has one value for each seed.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook import models
from jaxlook.errors import check_ids
from jaxlook.interventions.forward import forward_only
from jaxlook.lookahead.token_classes import TokenKind
from jaxlook.models import Decoder
from jaxlook.tasks.losses import cross_entropy


def token_losses(decoder: Decoder, params: Any, windows: Any) -> np.ndarray:
  """The loss of every token except the first of some windows, for all seeds.

  Args:
    decoder: the model under a variant; a gradient cut has no effect.
    params: parameters with a leading seed axis E.
    windows: token ids, in batches that run one after the other, integer
      [batches, B, T + 1].

  Returns:
    Nats, [E, batches B, T]; float32, or float64 if the parameters are.
  """
  check_ids(decoder.config.vocab_size, windows)
  found = _losses(forward_only(decoder), params, jnp.asarray(windows))
  return np.asarray(jnp.moveaxis(found, 1, 0)).reshape(
    found.shape[1], -1, found.shape[-1]
  )


# Compiled once for all variants with the same forward pass.
@functools.partial(jax.jit, static_argnums=0)
def _losses(decoder: Decoder, params: Any, windows: jax.Array) -> jax.Array:
  def batch(tokens: jax.Array) -> jax.Array:
    def seed(params: Any) -> jax.Array:
      logits = models.apply(decoder, params, tokens[:, :-1])
      return cross_entropy(logits, tokens[:, 1:])

    return jax.vmap(seed)(params)

  return jax.lax.map(batch, windows)


def class_shares(kind: TokenKind) -> np.ndarray:
  """The share of all tokens in each class, [C]."""
  found = np.bincount(kind.token_class.ravel(), minlength=len(kind.classes))
  return found / kind.token_class.size


def class_means(values: np.ndarray, kind: TokenKind) -> np.ndarray:
  """The mean over the tokens of each class.

  Args:
    values: for each seed and token, [E, W, T].
    kind: gives the class of each token.

  Returns:
    float64 [E, C].
  """
  size = len(kind.classes)
  token_class = kind.token_class.ravel()
  sums = [np.bincount(token_class, row.ravel(), size) for row in values]
  return np.stack(sums) / np.bincount(token_class, minlength=size)


def by_position(values: np.ndarray) -> np.ndarray:
  """The mean over windows at every position, float64 [E, T] of [E, W, T]."""
  return values.mean(axis=1, dtype=np.float64)


def contrast(
  values: np.ndarray, these: np.ndarray, those: np.ndarray
) -> np.ndarray:
  """The mean of some tokens minus that of others at the same positions.

  Tokens late in a window are repeated more often and have more context. So
  differences are taken position by position and weighted by n m / (n + m), for
  n tokens of one set and m of the other. This is the precision of a difference
  of two means.

  Args:
    values: for each seed and token, [E, W, T].
    these: the first set of tokens, bool [W, T].
    those: the second set of tokens, bool [W, T].

  Returns:
    float64 [E]; NaN if no position has tokens of both sets.
  """
  n, m = (mask.sum(axis=0).astype(np.float64) for mask in (these, those))
  both = (n > 0) & (m > 0)
  if not both.any():
    return np.full(len(values), np.nan)
  weights = np.where(both, n * m / np.maximum(n + m, 1), 0.0)
  first, second = (
    np.einsum("ewt,wt->et", values, mask.astype(np.float64))
    / np.maximum(count, 1)
    for mask, count in ((these, n), (those, m))
  )
  return (first - second) @ weights / weights.sum()


class CostlyTokens(NamedTuple):
  """The tokens with the largest gap; see `costliest_tokens`.

  Attributes:
    window: of each token, integer [K].
    position: in the window, integer [K].
    chosen: mean gap over the seeds that chose the tokens, nats, [K].
    gap: the gap for the other seeds, nats, [E - E // 2, K].
  """

  window: np.ndarray
  position: np.ndarray
  chosen: np.ndarray
  gap: np.ndarray


def costliest_tokens(gap: np.ndarray, count: int) -> CostlyTokens:
  """The tokens with the largest gap, measured on other seeds.

  The largest of many noisy numbers is biased upwards. So the first half of the
  seeds chooses the tokens, and the other half measures their gap.

  Args:
    gap: loss under a variant minus loss under ordinary training, [E, W, T]; E
      at least 2.
    count: the most tokens to return.

  Returns:
    Tokens of different windows, the costliest first.

  Raises:
    ValueError: there are fewer than two seeds.
  """
  if len(gap) < 2:
    raise ValueError(f"two seeds are needed, not {len(gap)}")
  half = len(gap) // 2
  mean = gap[:half].mean(axis=0, dtype=np.float64)
  # One token a window, or neighbours in one context would fill the table.
  position = mean.argmax(axis=1)
  best = mean.max(axis=1)
  window = np.argsort(-best, kind="stable")[:count]
  position = position[window]
  return CostlyTokens(
    window, position, best[window], gap[half:, window, position]
  )
