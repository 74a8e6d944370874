"""How much a head reads what an earlier head wrote.

The score of two heads is |A B| / (|A| |B|) with Frobenius norms. A is W_V W_O
of the earlier head. B is the matrix that the later head reads with.

Source: Elhage et al. (2021), section "Two-layer attention-only transformers",
in the corrected form.
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
    kind: the input through which the later head reads: Q-, K- or
      V-composition.

  Returns:
    [L, N, L, N]: the writing head, then the reading one; 0 unless the reading
    head is in a later layer.

  Raises:
    ValueError: the kind is unknown.
  """
  writes, reads = ov(weights), _reads(weights, kind)
  layers = weights.query.shape[0]
  # Matrices of H x H are enough for the norm of each product.
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
  """The composition scores of random Gaussian heads: the level of chance.

  Args:
    key: a PRNG key, consumed.
    width: of the residual stream, D.
    head_width: H.
    draws: independent pairs of heads.

  Returns:
    Mean and deviation of the score. They are the same for all three kinds,
    because transposed Gaussian factors have the same distribution.
  """

  def one(key: jax.Array) -> jax.Array:
    v, o, q, k = (
      jax.random.normal(part, (width, head_width))
      for part in jax.random.split(key, 4)
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
