"""Feed-forward layers as key-value memories.

A neuron is a memory:

- Its key is its row of the first matrix.
- Its coefficient is the activation after the nonlinearity.
- Its value is its row of the second matrix.

A memory is active where its coefficient is above 0. For GELU and for ReLU that
is where the product of input and key is positive.

Source: Geva et al. (2021), arXiv 2012.14913, sections 2 and 5. Differs from it
in two ways:

- Our models have a LayerNorm before the unembedding. The residual stream is
  read through the whole LayerNorm, and the output of a feed-forward layer
  through its linear part; see `memory_values`.
- `COMPOSED` looks at active memories only. With about as many neurons as
  tokens, one of all neurons would nearly always agree.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.circuits import lens
from jaxlook.circuits.memory_triggers import (
  Triggers,
  merge_triggers,
  no_triggers,
)
from jaxlook.circuits.memory_values import value_rows
from jaxlook.circuits.weights import unembedding
from jaxlook.interventions.forward import capture
from jaxlook.models import Decoder, residual_sites
from jaxlook.models.decoder import Params


class StreamResults(NamedTuple):
  """What neurons and layers do on a text.

  Attributes:
    triggers: the triggers of every neuron, [L, F, k].
    shares: means over all positions by name (`SHARES`), each [L].
  """

  triggers: Triggers
  shares: dict[str, jax.Array]


ACTIVE = "active memories"
EFFECTIVE = "effective number of memories"
COMPOSED = "FF's token is no active memory's"
RESIDUAL_FINAL = "residual has the final token"
FF_FINAL = "FF has the final token"
BOTH = "output follows both"
RESIDUAL = "output follows the residual"
FF = "output follows the FF"
NEITHER = "output follows neither"
SHARES = (
  *(ACTIVE, EFFECTIVE, COMPOSED, RESIDUAL_FINAL, FF_FINAL),
  *(BOTH, RESIDUAL, FF, NEITHER),
)


def stream_text(
  decoder: Decoder,
  params: Params,
  windows: jax.Array,
  counted: jax.Array,
  tokens: jax.Array,
  top: int,
) -> StreamResults:
  """Runs a model over a text and measures its feed-forward layers.

  Args:
    decoder: the model, over tokens, with feed-forward layers.
    params: its parameters, of one seed.
    windows: the text in batches, integer [batches, B, T].
    counted: which prefixes may be triggers, boolean [batches, B, T].
    tokens: the most probable token of every value, integer [L, F].
    top: how many triggers to keep, k.

  Returns:
    Triggers, and means over all positions, counted or not.

  Source: Geva et al. (2021), section 5, for the shares. The residual is the
  stream after attention, to which the FF's output is added.
  """
  batch = windows.shape[1]
  shape = (decoder.config.layers, decoder.config.hidden_width)
  dtype = params["final_norm"]["scale"].dtype

  def step(carry: StreamResults, item) -> tuple[StreamResults, None]:
    number, window, may = item
    neurons, shares = _measure(decoder, params, window, tokens)
    triggers = merge_triggers(carry.triggers, neurons, number * batch, may)
    total = jax.tree.map(jnp.add, carry.shares, shares)
    return StreamResults(triggers, total), None

  zeros = {name: jnp.zeros(shape[0], dtype) for name in SHARES}
  start = StreamResults(no_triggers(shape, top, dtype), zeros)
  numbers = jnp.arange(len(windows), dtype=jnp.int32)
  end, _ = jax.lax.scan(step, start, (numbers, windows, counted))
  means = {name: x / len(windows) for name, x in end.shares.items()}
  return StreamResults(end.triggers, means)


def feed_forward(
  decoder: Decoder, params: Params, tokens: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """The streams around the feed-forward layers, and their coefficients.

  Args:
    decoder: the model, over tokens, with feed-forward layers.
    params: its parameters, of one seed.
    tokens: integer [B, T].

  Returns:
    Four arrays: the coefficients, [L, B, T, F]; the stream to which each
    layer's output is added; that output, bias included; and their sum. The last
    three are [L, B, T, D].
  """
  c = decoder.config
  names = [f"block_{layer}/mlp/neuron" for layer in range(c.layers)]
  after = residual_sites(c)[1:]
  _, seen = capture(decoder, params, tokens, [*names, *after])
  outputs = []
  for layer, name in enumerate(names):
    down = params[f"block_{layer}"]["mlp"]["down"]
    outputs.append(seen[name] @ down["kernel"] + down["bias"][None, None])
  neurons = jnp.stack([seen[name] for name in names])
  ff, out = jnp.stack(outputs), jnp.stack([seen[site] for site in after])
  return neurons, out - ff, ff, out


def _measure(
  decoder: Decoder, params: Params, tokens: jax.Array, by_value: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Coefficients [L, B, T, F] and the mean shares [L] of one batch."""
  c = decoder.config
  neurons, residual, ff, out = feed_forward(decoder, params, tokens)
  folded = unembedding(c, params, fold_norms=True)

  def by_lens(stream: jax.Array) -> jax.Array:
    return jnp.argmax(lens.stream_logits(c, params, stream), axis=-1)

  # Layer by layer, because the logits of all layers together would be large.
  at_residual, at_out = (jax.lax.map(by_lens, x) for x in (residual, out))
  at_ff = jax.lax.map(lambda x: jnp.argmax(x @ folded, axis=-1), ff)
  active = neurons > 0.0
  agrees = by_value[:, None, None] == at_ff[..., None]
  norms = jnp.linalg.norm(value_rows(c, params), axis=-1)
  weight = (neurons * norms[:, None, None]) ** 2
  spread = jnp.sum(weight**2, axis=-1)
  effective = jnp.sum(weight, axis=-1) ** 2 / jnp.where(
    spread > 0.0, spread, 1.0
  )
  by_residual, by_ff = at_out == at_residual, at_out == at_ff
  by_position = {
    ACTIVE: jnp.mean(active, axis=-1),
    EFFECTIVE: effective,
    COMPOSED: ~jnp.any(active & agrees, axis=-1),
    RESIDUAL_FINAL: at_residual == at_out[-1:],
    FF_FINAL: at_ff == at_out[-1:],
    BOTH: by_residual & by_ff,
    RESIDUAL: by_residual & ~by_ff,
    FF: ~by_residual & by_ff,
    NEITHER: ~by_residual & ~by_ff,
  }
  means = {
    name: jnp.mean(x.astype(neurons.dtype), axis=(1, 2))
    for name, x in by_position.items()
  }
  return neurons, means
