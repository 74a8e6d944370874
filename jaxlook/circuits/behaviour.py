"""What heads do on repeated random sequences: scores in [0, 1] for each head.

| score | for a query at i that holds token a |
| --- | --- |
| previous | attention to position i - 1 |
| duplicate | attention to earlier positions that also hold a |
| prefix | attention to positions just after earlier ones that hold a |
| copying | whether the head raises the logit of a token there the most |

An induction head matches prefixes and copies. A score is a mean over the
queries that have such a position. A head must put its attention somewhere, so
scores above 0 are expected by chance: compare with an untrained model.

Source: Olsson et al. (2022), "In-context Learning and Induction Heads", arXiv
2209.11895; Elhage et al. (2021), "A Mathematical Framework for Transformer
Circuits". The copying score of Olsson et al. measures how far a head raises
logits. Ours counts how often it raises the right one the most. It is different
from the eigenvalue score of `qk_ov.copying_scores`.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxlook.circuits.weights import head_weights, unembedding
from jaxlook.interventions.forward import capture
from jaxlook.models import Decoder
from jaxlook.models.decoder import Params


class HeadScores(NamedTuple):
  """The scores of all heads, each [L, N]; see the table of the module.

  Attributes:
    previous: share of attention.
    duplicate: share of attention.
    prefix: share of attention.
    copying: share of queries; about 1 / V by chance.
  """

  previous: jax.Array
  duplicate: jax.Array
  prefix: jax.Array
  copying: jax.Array


def head_scores(
  decoder: Decoder, params: Params, tokens: jax.Array
) -> HeadScores:
  """Scores every head of a decoder on given sequences.

  Args:
    decoder: the model, over tokens.
    params: its parameters, of one seed.
    tokens: integer [B, T]; all scores but `previous` need repeats.

  Returns:
    The scores; NaN where no query has such a position.

  Raises:
    ValueError: see `Decoder`.
  """
  c = decoder.config
  at = [f"block_{layer}/attention/" for layer in range(c.layers)]
  _, seen = capture(
    decoder, params, tokens, [a + s for a in at for s in ("pattern", "head")]
  )
  att_LxBxNxTxS = jnp.stack([seen[f"{a}pattern"] for a in at])
  z_LxBxTxNxH = jnp.stack([seen[f"{a}head"] for a in at])
  # LayerNorm's division does not change the order of the logits.
  reads_DxV = unembedding(c, params, fold_norms=True)
  outs_LxNxHxD = head_weights(c, params).out

  def guesses(head: tuple[jax.Array, jax.Array]) -> jax.Array:
    z_BxTxH, out_HxD = head
    return jnp.argmax(z_BxTxH @ (out_HxD @ reads_DxV), axis=-1)

  # Head by head, because the logits of one head may already be large.
  heads = jax.tree.map(
    lambda x: x.reshape(-1, *x.shape[2:]),
    (jnp.moveaxis(z_LxBxTxNxH, 3, 1), outs_LxNxHxD),
  )
  guess_LxNxBxT = jax.lax.map(guesses, heads).reshape(
    c.layers, c.heads, *tokens.shape
  )
  return HeadScores(
    previous=previous_token(att_LxBxNxTxS),
    duplicate=duplicate_token(att_LxBxNxTxS, tokens),
    prefix=prefix_matching(att_LxBxNxTxS, tokens),
    copying=copying(guess_LxNxBxT, tokens),
  )


def previous_token(pattern: jax.Array) -> jax.Array:
  """Attention to the previous position, mean over all queries but the first.

  Args:
    pattern: [..., B, N, T, S] with T = S.

  Returns:
    [..., N].
  """
  before = jnp.diagonal(pattern, offset=-1, axis1=-2, axis2=-1)
  return jnp.mean(before, axis=(-3, -1))


def duplicate_token(pattern: jax.Array, tokens: jax.Array) -> jax.Array:
  """Attention to earlier copies of the query's token.

  Args:
    pattern: [..., B, N, T, S] with T = S.
    tokens: integer [B, T].

  Returns:
    The sum over copies, mean over queries that have one, [..., N].
  """
  return _attended(pattern, _copies(tokens))


def prefix_matching(pattern: jax.Array, tokens: jax.Array) -> jax.Array:
  """Attention to what followed earlier copies of the query's token.

  Args:
    pattern: [..., B, N, T, S] with T = S.
    tokens: integer [B, T].

  Returns:
    The sum over those positions, mean over queries that have one, [..., N].
  """
  return _attended(pattern, _followers(tokens))


def copying(guesses: jax.Array, tokens: jax.Array) -> jax.Array:
  """Whether a head guesses what followed an earlier copy of the query's token.

  Args:
    guesses: the token whose logit each head raises most, integer [..., B, T].
    tokens: integer [B, T].

  Returns:
    Share of the queries that have an earlier copy, [...].
  """
  followers_BxTxS = _followers(tokens)
  chex.assert_equal_shape_suffix([guesses, tokens], 2)
  same = guesses[..., None] == jnp.expand_dims(
    tokens[:, None, :], tuple(range(guesses.ndim - 2))
  )
  ahead = jnp.expand_dims(followers_BxTxS, tuple(range(guesses.ndim - 2)))
  right = jnp.any(same & ahead, axis=-1)
  queries = jnp.sum(jnp.any(followers_BxTxS, axis=-1))
  return jnp.sum(right, axis=(-2, -1)) / queries


def in_context_score(losses: jax.Array, early: slice, late: slice) -> jax.Array:
  """How much lower the loss is late in a sequence than early.

  Args:
    losses: nats per token, [..., T].
    early: the early positions, for example `slice(40, 60)`.
    late: the late positions.

  Returns:
    Mean late loss minus mean early loss, [...]: below 0 where context helps.

  Source: Olsson et al. (2022): the loss of token 500 minus that of token 50.
  """
  return jnp.mean(losses[..., late], -1) - jnp.mean(losses[..., early], -1)


def _copies(tokens: jax.Array) -> jax.Array:
  """Where a key is an earlier copy of the query's token, bool [B, T, S]."""
  length = tokens.shape[1]
  earlier = jnp.tri(length, k=-1, dtype=bool)
  return (tokens[:, :, None] == tokens[:, None, :]) & earlier[None]


def _followers(tokens: jax.Array) -> jax.Array:
  """Where a key is just after an earlier copy, bool [B, T, S].

  The query's own position is excluded: the head already has its token.
  """
  after = jnp.roll(_copies(tokens), 1, axis=2).at[:, :, 0].set(False)
  length = tokens.shape[1]
  return after & jnp.tri(length, k=-1, dtype=bool)[None]


def _attended(pattern: jax.Array, wanted_BxTxS: jax.Array) -> jax.Array:
  chex.assert_equal(pattern.shape[-4], wanted_BxTxS.shape[0])
  chex.assert_equal_shape_suffix([pattern, wanted_BxTxS], 2)
  wanted = jnp.expand_dims(
    wanted_BxTxS[:, None], tuple(range(pattern.ndim - 4))
  )
  queries = jnp.sum(jnp.any(wanted_BxTxS, axis=-1))
  return jnp.sum(pattern * wanted, axis=(-4, -2, -1)) / queries
