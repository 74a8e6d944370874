"""How much a head reads what an earlier head wrote.

Source: Elhage et al. (2021), section "Two-layer attention-only transformers",
in the corrected form: the Frobenius norm of the product of an earlier head's
W_V W_O and what a later head reads with, over the product of their norms.
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from jaxlook.circuits.factored import Factored
from jaxlook.circuits.qk_ov import ov, qk
from jaxlook.circuits.weights import HeadWeights

CompositionKind = Literal["query", "key", "value"]


class Baseline(NamedTuple):
  """Composition scores of random weights.

  Attributes:
    mean: over draws, scalar.
    deviation: standard deviation over draws, scalar.
  """

  mean: jax.Array
  deviation: jax.Array


def composition(weights: HeadWeights, kind: CompositionKind) -> jax.Array:
  """Scores between all pairs of heads.

  Args:
    weights: from `head_weights`.
    kind: by which of a later head's inputs it reads: Q-, K- or V-composition.

  Returns:
    [L, N, L, N]: the writing head, then the reading one; 0 unless the reader's
    layer is the later one.

  Raises:
    ValueError: the kind is unknown.
  """
  writes, reads = ov(weights), _reads(weights, kind)
  layers = weights.query.shape[0]
  # |V O A B| by matrices of H x H: no pair of heads needs more.
  middle = writes.right[:, :, None, None] @ reads.left[None, None]
  inner = middle @ (reads.right @ reads.right.mT) @ middle.mT
  grams = (writes.left.mT @ writes.left)[:, :, None, None] * inner
  product = jnp.sqrt(jnp.maximum(jnp.sum(grams, axis=(-2, -1)), 0.0))
  later = jnp.arange(layers)[:, None] < jnp.arange(layers)[None, :]
  scores = product / (
    writes.norm()[:, :, None, None] * reads.norm()[None, None]
  )
  return jnp.where(later[:, None, :, None], scores, 0.0)


def random_baseline(
  key: jax.Array, width: int, head_width: int, draws: int = 1000
) -> Baseline:
  """What heads of Gaussian weights compose: the level that means nothing.

  Args:
    key: a PRNG key, consumed.
    width: of the residual stream, D.
    head_width: H.
    draws: independent pairs of heads.

  Returns:
    Mean and deviation of the score, the same for all three kinds, since a
    transpose of independent Gaussian factors has their distribution.
  """

  def one(key: jax.Array) -> jax.Array:
    v, o, q, k = (
      jax.random.normal(each, (width, head_width))
      for each in jax.random.split(key, 4)
    )
    writes, reads = Factored(v, o.T), Factored(q, k.T)
    return (writes @ reads).norm() / (writes.norm() * reads.norm())

  scores = jax.lax.map(one, jax.random.split(key, draws))
  return Baseline(jnp.mean(scores), jnp.std(scores))


def _reads(weights: HeadWeights, kind: CompositionKind) -> Factored:
  if kind == "query":
    return qk(weights)
  if kind == "key":
    return qk(weights).mT
  if kind == "value":
    return ov(weights)
  raise ValueError(
    f"kind must be one of {get_args(CompositionKind)}, not {kind!r}"
  )
