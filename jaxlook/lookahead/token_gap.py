"""Where in text the myopia gap lies: losses of single tokens, by kind.

The gap of a token is what a variant's model loses on it, minus what ordinary
training's of the same seed does. Means over the tokens of a class are taken
within a seed, so that every number has one value a seed.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook import models
from jaxlook.interventions.forward import forward_only
from jaxlook.lookahead.token_classes import TokenKind
from jaxlook.models import Decoder
from jaxlook.tasks.losses import cross_entropy


def token_losses(decoder: Decoder, params: Any, windows: Any) -> np.ndarray:
  """The loss on every token but the first of some windows, all seeds at once.

  Args:
    decoder: the model under a variant; cut gradients do not matter.
    params: parameters with a leading seed axis E.
    windows: token ids in batches that are run one after the other, integer
      [batches, B, T + 1].

  Returns:
    Nats, [E, batches B, T]; float32, or float64 if the parameters are.
  """
  found = _losses(forward_only(decoder), params, jnp.asarray(windows))
  return np.asarray(jnp.moveaxis(found, 1, 0)).reshape(
    found.shape[1], -1, found.shape[-1]
  )


# Compiled once for all variants of one forward pass.
@functools.partial(jax.jit, static_argnums=0)
def _losses(decoder: Decoder, params: Any, windows: jax.Array) -> jax.Array:
  def batch(tokens: jax.Array) -> jax.Array:
    def seed(params: Any) -> jax.Array:
      logits = models.apply(decoder, params, tokens[:, :-1])
      return cross_entropy(logits, tokens[:, 1:])

    return jax.vmap(seed)(params)

  return jax.lax.map(batch, windows)


def class_shares(kind: TokenKind) -> np.ndarray:
  """The share of all tokens that is in each class, [C]."""
  found = np.bincount(kind.of.ravel(), minlength=len(kind.classes))
  return found / kind.of.size


def class_means(values: np.ndarray, kind: TokenKind) -> np.ndarray:
  """The mean over the tokens of each class.

  Args:
    values: one a seed and token, [E, W, T].
    kind: says which class a token is in.

  Returns:
    float64 [E, C].
  """
  size = len(kind.classes)
  of = kind.of.ravel()
  sums = [np.bincount(of, each.ravel(), size) for each in values]
  return np.stack(sums) / np.bincount(of, minlength=size)


def by_position(values: np.ndarray) -> np.ndarray:
  """The mean over windows at every position, float64 [E, T] of [E, W, T]."""
  return values.mean(axis=1, dtype=np.float64)


def contrast(
  values: np.ndarray, these: np.ndarray, those: np.ndarray
) -> np.ndarray:
  """The mean of some tokens minus that of others at the same positions.

  What stands late in a window is repeated more often, and is predicted from
  more; so differences are taken position by position, and weighted by
  n m / (n + m) for n tokens of the one and m of the other, which is the
  precision of a difference of two means.

  Args:
    values: one a seed and token, [E, W, T].
    these: tokens, bool [W, T].
    those: others, bool [W, T].

  Returns:
    float64 [E]; NaN where no position has both.
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
  """Tokens on which a variant loses most; see `costliest_tokens`.

  Attributes:
    window: of each token, integer [K].
    position: in the window, integer [K].
    chosen: mean gap over the seeds that they were chosen by, nats, [K].
    gap: of the other seeds, nats, [E - E // 2, K].
  """

  window: np.ndarray
  position: np.ndarray
  chosen: np.ndarray
  gap: np.ndarray


def costliest_tokens(gap: np.ndarray, count: int) -> CostlyTokens:
  """The tokens with the largest gap, measured on seeds that did not choose.

  The largest of many noisy numbers is too large. So the first half of the seeds
  chooses, and the other half, on which nothing was chosen, says what it is.

  Args:
    gap: a variant's loss minus ordinary training's, [E, W, T]; E at least 2.
    count: how many tokens; fewer where there are not so many.

  Returns:
    Tokens of different windows, the costliest first.

  Raises:
    ValueError: there are fewer than two seeds.
  """
  if len(gap) < 2:
    raise ValueError(f"two seeds are needed, not {len(gap)}")
  half = len(gap) // 2
  mean = gap[:half].mean(axis=0, dtype=np.float64)
  # Neighbours of a costly token would fill the table with one context.
  position = mean.argmax(axis=1)
  best = mean.max(axis=1)
  window = np.argsort(-best, kind="stable")[:count]
  position = position[window]
  return CostlyTokens(
    window, position, best[window], gap[half:, window, position]
  )
