"""Skip-trigrams: what the heads of a one-layer attention-only model do.

A skip-trigram `source ... destination -> output` says: if the source occurs
anywhere earlier, the output is more probable after the destination. A head
holds a table of skip-trigrams in two factors. Its QK circuit says how much the
destination attends to the source. Its OV circuit says how the source then
changes the output's logit. The effect of an entry is the product of the two
parts, so what a source does cannot depend on the destination: if `A -> X` and
`B -> Y` are in the table of one source, then `A -> Y` and `B -> X` are in it
too, whether they are true or not.

A circuit reads tokens without a context. So three quantities get typical
values: positions get their mean embedding, the last LayerNorm's divisor gets
its mean on some text, and the other tokens that a destination sees are drawn by
frequency. With rotary positions the QK circuit is that of distance 0.

Source: Elhage et al. (2021), "A Mathematical Framework for Transformer
Circuits", sections "Interpretation as skip-trigrams" and "The limited
expressivity of the QK and OV circuits: skip-trigram bugs".
"""

import math
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from jaxlook.circuits.weights import embedding, head_weights, unembedding
from jaxlook.interventions.forward import capture
from jaxlook.models import Decoder


class HeadCircuits(NamedTuple):
  """The QK and OV circuits of the heads of one layer, in factors.

  Attributes:
    query: the query of every token as a destination, divided by sqrt(H),
      [N, V, H].
    key: the key of every token as a source, [N, V, H].
    value: the value of every token as a source, minus the mean over the text,
      [N, V, H].
    out: the map from values to logits, minus the mean logit over the text,
      [N, H, V].
    typical: log of the mean of exp(score) over the text's tokens, by
      destination, [N, V].
    kept: which tokens are frequent enough to be listed, bool [V].
    context: number of tokens that a destination sees.
  """

  query: jax.Array
  key: jax.Array
  value: jax.Array
  out: jax.Array
  typical: jax.Array
  kept: jax.Array
  context: jax.Array


class SourceTable(NamedTuple):
  """The strongest destinations and outputs of every head and source.

  Attributes:
    destinations: the tokens that attend to the source most, integer [N, V, M].
    looks: QK parts of these destinations, descending, [N, V, M]; see
      `effect_parts`.
    outputs: the tokens whose logit the source raises most, integer [N, V, M].
    writes: OV parts of these outputs, descending, [N, V, M]; see
      `effect_parts`.
  """

  destinations: jax.Array
  looks: jax.Array
  outputs: jax.Array
  writes: jax.Array


class Trigrams(NamedTuple):
  """Entries of tables; each array is [R].

  Attributes:
    head: index of the head.
    source: token that occurs earlier.
    destination: token that attends to the source.
    output: token that comes next.
    look: the QK part; see `effect_parts`.
    write: the OV part; see `effect_parts`.
  """

  head: Any
  source: Any
  destination: Any
  output: Any
  look: Any
  write: Any

  @property
  def effect(self) -> Any:
    """Expected rise of the output's logit, look times write, [R]."""
    return self.look * self.write


def head_circuits(
  decoder: Decoder,
  params: Any,
  tokens: jax.Array,
  probability: jax.Array,
  *,
  floor: float = 0.0,
  block: int = 64,
) -> HeadCircuits:
  """The circuits between tokens of every head.

  Args:
    decoder: a one-layer attention-only model over tokens.
    params: its parameters, of one seed.
    tokens: a text to measure the last LayerNorm on, integer [B, T].
    probability: how often each token occurs, summing to one, [V].
    floor: tokens below this probability are not listed.
    block: destinations per step; N x block x V scores are in memory.

  Returns:
    The circuits, for a destination that sees T / 2 tokens.

  Raises:
    ValueError: the model does not have exactly one attention-only layer, or it
      has no logits.
  """
  c = decoder.config
  if c.layers != 1:
    raise ValueError(f"layers must be 1 for skip-trigrams, not {c.layers}")
  if c.hidden_width:
    raise ValueError(
      f"hidden_width must be 0 for skip-trigrams, not {c.hidden_width}"
    )
  if c.vocab_size is None or c.output_features is not None:
    raise ValueError("skip-trigrams need a model of tokens with logits")
  _, seen = capture(decoder, params, tokens, ["residual"])
  variance = jnp.var(seen["residual"], axis=-1)
  deviation = jnp.mean(jnp.sqrt(variance + c.norm_epsilon))
  stream = embedding(params)
  if c.positions == "learned":
    used = params["position_embedding"][: tokens.shape[1]]
    stream = stream + jnp.mean(used, axis=0, keepdims=True)
  variance = jnp.var(stream, axis=-1, keepdims=True)
  read = (stream / jnp.sqrt(variance + c.norm_epsilon))[None]
  w = jax.tree.map(lambda x: x[0], head_weights(c, params, fold_norms=True))
  query = (read @ w.query + w.query_bias[:, None]) / math.sqrt(c.head_width)
  # Biases of keys and values are left out: a key's bias adds the same to all
  # scores of a query, a value's bias adds the same to what all sources write.
  key, value = read @ w.key, read @ w.value
  out = w.out @ unembedding(c, params, fold_norms=True) / deviation
  log_probability = jnp.log(jnp.maximum(probability, 1e-30))

  def typical(query: jax.Array) -> jax.Array:
    scores = jnp.einsum("nh,nvh->nv", query, key)
    return jax.nn.logsumexp(scores + log_probability[None], axis=-1)

  by_token = jax.lax.map(typical, jnp.moveaxis(query, 1, 0), batch_size=block)
  return HeadCircuits(
    query=query,
    key=key,
    value=value - jnp.einsum("v,nvh->nh", probability, value)[:, None],
    out=out - jnp.einsum("v,nhv->nh", probability, out)[..., None],
    typical=jnp.moveaxis(by_token, 0, 1),
    kept=probability >= max(floor, 1e-30),
    context=jnp.asarray(max(tokens.shape[1] // 2, 2)),
  )


def effect_parts(
  circuits: HeadCircuits,
  source: jax.Array,
  destination: jax.Array,
  output: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """The QK part and the OV part of given skip-trigrams, for every head.

  Args:
    circuits: from `head_circuits`.
    source: tokens, integer [R].
    destination: tokens, integer [R].
    output: tokens, integer [R].

  Returns:
    The QK part, [N, R]: the attention from the destination to the source if all
    other tokens that it sees are typical. The OV part, [N, R]: how far the
    output's logit rises above the typical logit if the source takes the place
    of a typical token, at an attention of 1.
  """
  c = circuits
  score = jnp.sum(c.query[:, destination] * c.key[:, source], axis=-1)
  write = jnp.einsum("nrh,nhr->nr", c.value[:, source], c.out[..., output])
  return _look(c, score, c.typical[:, destination]), write


def strongest_entries(
  circuits: HeadCircuits, entries: int, *, block: int = 64
) -> SourceTable:
  """The strongest destinations and outputs of every source.

  An effect is a product of two parts. QK parts are never negative, and strong
  effects have positive OV parts. So the strongest `entries` skip-trigrams of a
  source are among the products of its strongest parts.

  Args:
    circuits: from `head_circuits`.
    entries: destinations and outputs to list for each source, M.
    block: sources per step; N x block x V parts are in memory.

  Returns:
    The table of every head. A source is never its own destination, because a
    head that attends to the token itself makes bigrams. Tokens that are not
    `kept` come last, with parts of -inf.
  """
  c = circuits
  tokens = jnp.arange(len(c.kept))

  def one(source: tuple[jax.Array, jax.Array, jax.Array]) -> SourceTable:
    token, key, value = source
    score = jnp.einsum("nvh,nh->nv", c.query, key)
    write = jnp.einsum("nh,nhv->nv", value, c.out)
    kept = c.kept[None]
    other = kept & (tokens != token)[None]
    look = jnp.where(other, _look(c, score, c.typical), -jnp.inf)
    write = jnp.where(kept, write, -jnp.inf)
    looks, destinations = jax.lax.top_k(look, entries)
    writes, outputs = jax.lax.top_k(write, entries)
    return SourceTable(destinations, looks, outputs, writes)

  sources = (tokens, *(jnp.moveaxis(x, 1, 0) for x in (c.key, c.value)))
  table = jax.lax.map(one, sources, batch_size=block)
  return cast(SourceTable, jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), table))


def top_trigrams(table: SourceTable, kept: jax.Array, sources: int) -> Trigrams:
  """Lists the skip-trigrams of the strongest sources.

  A source is as strong as its strongest skip-trigram.

  Args:
    table: from `strongest_entries`.
    kept: which sources may be listed, bool [V].
    sources: how many sources to list for each head.

  Returns:
    Every destination with every output of these sources: N x sources x M x M
    entries in this order, strongest sources first.
  """
  best = table.looks[..., 0] * table.writes[..., 0]
  _, chosen = jax.lax.top_k(jnp.where(kept[None], best, -jnp.inf), sources)

  def of_chosen(x: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, chosen[..., None], axis=1)

  rows = [of_chosen(x) for x in table]
  destination, look = (x[..., :, None] for x in rows[:2])
  output, write = (x[..., None, :] for x in rows[2:])
  head = jnp.arange(len(chosen))[:, None, None, None]
  shape = (*chosen.shape, *table.looks.shape[-1:] * 2)
  return Trigrams(
    *(
      jnp.broadcast_to(x, shape).reshape(-1)
      for x in (
        *(head, chosen[..., None, None]),
        *(destination, output, look, write),
      )
    )
  )


def _look(
  circuits: HeadCircuits, score: jax.Array, typical: jax.Array
) -> jax.Array:
  """The softmax share of one source among typical tokens."""
  others = jnp.log(circuits.context.astype(score.dtype) - 1.0)
  return jax.nn.sigmoid(score - typical - others)
