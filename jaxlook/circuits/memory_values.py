"""The values of memories as distributions over the vocabulary.

A value is a neuron's row of the second matrix. Its logits are the value times
the unembedding, with the linear part of the final LayerNorm folded in. This is
what the value adds to the logits, up to the positive factor by which LayerNorm
divides. The factor does not change the order of tokens.

Source: Geva et al. (2021), arXiv 2012.14913, section 4. There no LayerNorm is
folded in.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.circuits.weights import unembedding
from jaxlook.models import DecoderConfig
from jaxlook.models.decoder import Params

_ROWS = 256  # Values read at a time; bounds the memory for their logits.


class NeuronValues(NamedTuple):
  """The values of neurons as distributions over the vocabulary.

  Attributes:
    token: the m most probable tokens, integer [L, F, m].
    probability: the probabilities of these tokens, [L, F, m]. They are not
      calibrated, because the neuron's coefficient scales what the value adds.
    entropy: of the whole distribution, in nats, [L, F].
  """

  token: jax.Array
  probability: jax.Array
  entropy: jax.Array


def value_rows(config: DecoderConfig, params: Params) -> jax.Array:
  """The values of all neurons, [L, F, D], as they are stored."""
  return jnp.stack(
    [
      params[f"block_{layer}"]["mlp"]["down"]["kernel"]
      for layer in range(config.layers)
    ]
  )


def values(config: DecoderConfig, params: Params, top: int = 1) -> NeuronValues:
  """Reads the values of all neurons as distributions over the vocabulary.

  Args:
    config: the decoder's shape; over tokens, with feed-forward layers.
    params: its parameters, of one seed.
    top: how many of the most probable tokens to keep, m.

  Returns:
    softmax(value W_U) of every neuron.
  """
  read = unembedding(config, params, fold_norms=True)

  def one(value: jax.Array) -> NeuronValues:
    logs = jax.nn.log_softmax(value @ read)
    best, token = jax.lax.top_k(logs, top)
    entropy = -jnp.sum(jnp.exp(logs) * logs)
    return NeuronValues(token, jnp.exp(best), entropy)

  return _each_value(one, config, params)


def ranks(
  config: DecoderConfig, params: Params, tokens: jax.Array
) -> jax.Array:
  """The rank of a token in the distribution of a neuron's value.

  Args:
    config: see `values`.
    params: see `values`.
    tokens: one for every neuron, integer [L, F].

  Returns:
    1 for the most probable token, V for the least probable, integer [L, F].
  """
  read = unembedding(config, params, fold_norms=True)

  def one(value: jax.Array, token: jax.Array) -> jax.Array:
    logits = value @ read
    return 1 + jnp.sum(logits > logits[token])

  return _each_value(one, config, params, tokens)


class Agreement(NamedTuple):
  """How often the token of a value follows triggers, for one kind of trigger.

  Attributes:
    own: share of live neurons whose value's token follows the neuron's own
      triggers.
    others: the same with the triggers of another neuron; the mean over all
      pairs of different live neurons.
    commonest: the same for a token that does not depend on the neuron.
    each: the terms of `own`, one for each neuron, [F]; 0 for neurons that are
      not live.
  """

  own: jax.Array
  others: jax.Array
  commonest: jax.Array
  each: jax.Array


KINDS = ("first", "mean", "any")


def agreement(
  tokens: jax.Array,
  following: jax.Array,
  fired: jax.Array,
  commonest: jax.Array | int,
  vocab_size: int,
) -> dict[str, Agreement]:
  """Compares values with the tokens after triggers, in one layer.

  Args:
    tokens: the most probable token of every value, integer [F].
    following: the token after each trigger, strongest first, integer [F, k].
    fired: which triggers count, boolean [F, k]. A neuron is live if its first
      trigger counts.
    commonest: the token to compare with, such as the most common of the text.
    vocab_size: number of tokens, V.

  Returns:
    By kind: "first", the strongest trigger (the paper's agreement rate);
    "mean", the share of the k triggers; "any", at least one of the k.
  """
  live = fired[:, 0]
  same = following[:, :, None] == following[:, None]
  earlier = jnp.tril(jnp.ones(same.shape[1:], bool), -1)
  new = fired & ~jnp.any(same & earlier[None] & fired[:, None], axis=-1)
  place = jnp.arange(fired.shape[1])
  count = jnp.maximum(jnp.sum(fired, axis=-1, keepdims=True), 1)
  # An agreement is a sum over triggers with one of these weights.
  weights = (fired & (place == 0)[None], fired / count, new)
  n = jnp.sum(live)

  def one(weight: jax.Array) -> Agreement:
    def agreeing(token: jax.Array) -> jax.Array:
      return jnp.sum(weight * (following == token), axis=-1)

    each = agreeing(tokens[:, None])
    by_token = jnp.zeros(vocab_size, weight.dtype).at[following].add(weight)
    crossed = jnp.sum(jnp.where(live, by_token[tokens] - each, 0.0))
    return Agreement(
      jnp.sum(each) / jnp.maximum(n, 1),
      crossed / jnp.maximum(n * (n - 1), 1),
      jnp.sum(agreeing(jnp.asarray(commonest)[None, None])) / jnp.maximum(n, 1),
      each,
    )

  dtype = weights[1].dtype
  return {
    kind: one(weight.astype(dtype))
    for kind, weight in zip(KINDS, weights, strict=True)
  }


def _each_value(function, config: DecoderConfig, params: Params, *more):
  """Applies a function to every value [D]; results have leading axes [L, F]."""
  rows = value_rows(config, params)
  shape = rows.shape[:2]
  flat = [x.reshape(-1, *x.shape[2:]) for x in (rows, *more)]
  results = jax.lax.map(lambda one: function(*one), flat, batch_size=_ROWS)
  return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), results)
