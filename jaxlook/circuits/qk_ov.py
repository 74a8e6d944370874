"""QK and OV circuits: where a head attends, and what it then writes.

Source: Elhage et al. (2021), "A Mathematical Framework for Transformer
Circuits", transformer-circuits.pub/2021/framework.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.circuits.factored import Factored
from jaxlook.circuits.weights import (
  HeadWeights,
  embedding,
  head_weights,
  unembedding,
)
from jaxlook.models import DecoderConfig


def qk(weights: HeadWeights) -> Factored:
  """W_Q W_K^T of every head, [L, N, D, D]: query's stream by key's stream.

  The matrices are unscaled: scores are divided by sqrt(H). With rotary
  positions this is the circuit at distance 0.

  Args:
    weights: from `head_weights`.

  Returns:
    One factored matrix per head.
  """
  return Factored(weights.query, weights.key.mT)


def ov(weights: HeadWeights) -> Factored:
  """W_V W_O of every head, [L, N, D, D]: what it reads by what it writes.

  Args:
    weights: from `head_weights`.

  Returns:
    One factored matrix per head.
  """
  return Factored(weights.value, weights.out)


def full_qk(
  config: DecoderConfig, params: Any, *, fold_norms: bool = False
) -> Factored:
  """W_E W_Q W_K^T W_E^T of every head: which tokens attend to which.

  Args:
    config: the decoder's shape.
    params: its parameters, of one seed.
    fold_norms: see `head_weights`.

  Returns:
    [L, N, V, V], query tokens by key tokens.
  """
  tokens = embedding(params)
  weights = head_weights(config, params, fold_norms=fold_norms)
  return tokens @ qk(weights) @ tokens.T


def full_ov(
  config: DecoderConfig, params: Any, *, fold_norms: bool = False
) -> Factored:
  """W_E W_V W_O W_U of every head: how an attended token changes the logits.

  Its `eigen_score` is the copying score; `copying_scores` computes it with less
  work.

  Args:
    config: the decoder's shape.
    params: its parameters, of one seed.
    fold_norms: see `head_weights`.

  Returns:
    [L, N, V, V], attended tokens by output tokens.
  """
  weights = head_weights(config, params, fold_norms=fold_norms)
  out = unembedding(config, params, fold_norms=fold_norms)
  return embedding(params) @ ov(weights) @ out


def copying_scores(
  config: DecoderConfig, params: Any, *, fold_norms: bool = False
) -> np.ndarray:
  """The copying score of every head: the `eigen_score` of `full_ov`.

  The eigenvalues are computed from a D x D matrix, so no head needs an array as
  large as the vocabulary.

  Args:
    config: the decoder's shape.
    params: its parameters, of one seed.
    fold_norms: see `head_weights`.

  Returns:
    Float64 [L, N], in [-1, 1].
  """
  weights = head_weights(config, params, fold_norms=fold_norms)
  out = unembedding(config, params, fold_norms=fold_norms)
  return (ov(weights) @ (out @ embedding(params))).eigen_score()


def positional_qk(
  config: DecoderConfig, params: Any, *, fold_norms: bool = False
) -> jax.Array:
  """Attention scores between learned positions, without tokens.

  Args:
    config: the decoder's shape; it must have learned positions.
    params: its parameters, of one seed.
    fold_norms: see `head_weights`.

  Returns:
    Scores as they enter the softmax, [L, N, T, S]. LayerNorm's division is left
    out, and so are terms that are equal for all keys. Attention never uses the
    scores with S > T.

  Raises:
    ValueError: the model has no learned positions.
  """
  if config.positions != "learned":
    raise ValueError(
      f"positions must be learned, not {config.positions!r}: there is no"
      " position embedding"
    )
  table = params["position_embedding"]
  weights = head_weights(config, params, fold_norms=fold_norms)
  query = table @ weights.query + weights.query_bias[:, :, None]
  scale = jnp.sqrt(jnp.asarray(config.head_width, table.dtype))
  return query @ (table @ weights.key).mT / scale
