"""Next-token logits, one position at a time, with or without a cache."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxlook import models
from jaxlook.errors import check_ids
from jaxlook.interventions.forward import forward_only
from jaxlook.models import Decoder, DecoderConfig, Past
from jaxlook.models.decoder import Params
from jaxlook.models.sites import NO_EDITS, Edit, Edits, sown
from jaxlook.numerals import counted


class Reader(Protocol):
  """Computes logits one position at a time; the state holds the text so far."""

  def start(
    self, params: Params, prompts: jax.Array, lengths: jax.Array, steps: int
  ) -> tuple[jax.Array, Any]:
    """Reads prompts; returns the logits after each, [B, V], and the state."""
    ...

  def read(
    self, params: Params, state: Any, tokens: jax.Array
  ) -> tuple[jax.Array, Any]:
    """Reads one token per row, [B]; returns logits [B, V] and the state."""
    ...

  def pick(self, state: Any, rows: jax.Array) -> Any:
    """Returns the state of the given rows, int [B'], in that order."""
    ...


def checked_prompts(
  config: DecoderConfig,
  prompts: jax.Array,
  lengths: jax.Array | None,
  steps: int,
) -> tuple[jax.Array, jax.Array]:
  """The prompts without their padding, if a decoder can continue them.

  Args:
    config: the decoder's config.
    prompts: int [B, P].
    lengths: number of tokens of each prompt, int [B]; None if all have P.
    steps: tokens to add.

  Returns:
    The prompts with 0 for all padding, and the lengths, int32 [B].

  Raises:
    ValueError: the model does not map tokens to tokens; `prompts` is empty;
      `steps` is below 1; together they are longer than `max_length`; or a
      length or a token that is not traced is out of range.
  """
  if config.vocab_size is None or config.output_features is not None:
    raise ValueError("decoder must map tokens to tokens")
  if prompts.ndim != 2 or 0 in prompts.shape:
    raise ValueError(
      f"prompts must be [B, P] and not empty; got shape {prompts.shape}"
    )
  if steps < 1:
    raise ValueError(f"steps must be at least 1, not {steps}")
  # The last token is drawn but never read.
  if prompts.shape[1] + steps - 1 > config.max_length:
    raise ValueError(
      f"prompts of {counted(prompts.shape[1], 'token')} and"
      f" {counted(steps, 'step')} exceed max_length={config.max_length}"
    )
  lengths = _full_lengths(prompts, lengths)
  # Padding outside the vocabulary would be NaN, and 0 times NaN is NaN.
  real = jnp.arange(prompts.shape[1])[None] < lengths[:, None]
  if not isinstance(prompts, Tracer) and not isinstance(real, Tracer):
    # As they are given: JAX would narrow them to 32 bits.
    given = np.asarray(prompts)
    check_ids(config.vocab_size, np.where(real, given, given.dtype.type(0)))
  return jnp.where(real, prompts, 0), lengths


def reader(decoder: Decoder, cached: bool, edits: Edits = NO_EDITS) -> Reader:
  """Chooses how logits are computed: with or without a cache.

  Args:
    decoder: the model under any variant; gradient cuts have no effect.
    cached: whether to keep keys and values of earlier positions.
    edits: edits of activations by site, applied while prompts are read.

  Returns:
    The reader. With a cache, reading a token takes time linear in the length.

  Raises:
    ValueError: `cached` is true and the variant changes the forward pass.
  """
  plain = forward_only(decoder)
  if not cached:
    return _Uncached(plain, tuple(edits.items()))
  if not plain.variant.keeps_forward:
    raise ValueError(
      f"attention {decoder.variant.name!r} changes the forward pass, so it has"
      " no cache; use cached=False"
    )
  return _Cached(plain, tuple(edits.items()))


def _full_lengths(prompts: jax.Array, lengths: jax.Array | None) -> jax.Array:
  """The lengths of prompts, int32 [B]; by default P, the width."""
  if lengths is None:
    return jnp.full(prompts.shape[0], prompts.shape[1], jnp.int32)
  chex.assert_shape(lengths, prompts.shape[:1])
  width = prompts.shape[1]
  # Traced lengths have no values to check.
  if not isinstance(lengths, Tracer):
    if np.min(lengths) < 1 or np.max(lengths) > width:
      raise ValueError(
        f"lengths must lie in 1..{width}, not {np.asarray(lengths)}"
      )
  return jnp.asarray(lengths, jnp.int32)


class _Cached(NamedTuple):
  """Keeps keys and values."""

  decoder: Decoder
  edits: tuple[tuple[str, Edit], ...] = ()

  def start(self, params, prompts, lengths, steps):
    c, (batch, width) = self.decoder.config, prompts.shape
    shape = (c.layers, batch, width + steps, c.heads, c.head_width)
    # What the attention layers compute: bfloat16, or the parameters' dtype.
    dtype = self.decoder.dtype or params["final_norm"]["scale"].dtype
    empty = Past(
      jnp.zeros(shape, dtype),
      jnp.zeros(shape, dtype),
      jnp.zeros(batch, jnp.int32),
    )
    edits = dict(self.edits)
    logits, past = self._extend(params, prompts, lengths, empty, edits)
    return _at(logits, lengths - 1), past

  def read(self, params, state, tokens):
    ones = jnp.ones_like(state.length)
    logits, past = self._extend(params, tokens[:, None], ones, state)
    return logits[:, 0], past

  def pick(self, state, rows):
    return Past(state.key[:, rows], state.value[:, rows], state.length[rows])

  def _extend(self, params, tokens, counts, past, edits=NO_EDITS):
    """Reads tokens [B, T]; only the first `counts` of each row are real.

    Padding is also written to the cache. It is beyond the length, so it is
    never read, and the next token overwrites it.
    """
    logits, state = self.decoder.apply(
      {"params": params},
      tokens,
      None,
      edits,
      past,
      mutable=["intermediates"],
    )
    seen = sown(cast(Mapping[str, Any], state["intermediates"]))

    def write(old: jax.Array, name: str) -> jax.Array:
      new = jnp.stack(
        [
          seen[f"block_{layer}/attention/{name}"]
          for layer in range(self.decoder.config.layers)
        ]
      )
      put = jax.vmap(
        lambda old, new, at: jax.lax.dynamic_update_slice_in_dim(
          old, new, at, axis=1
        ),
        in_axes=(1, 1, 0),
        out_axes=1,
      )
      return put(old, new, past.length)

    return logits, Past(
      write(past.key, "key"),
      write(past.value, "value"),
      past.length + counts,
    )


class _Uncached(NamedTuple):
  """Runs the decoder over the whole text for every token."""

  decoder: Decoder
  edits: tuple[tuple[str, Edit], ...] = ()

  def start(self, params, prompts, lengths, steps):
    room = jnp.zeros((len(prompts), steps - 1), prompts.dtype)
    state = jnp.concatenate([prompts, room], axis=1), lengths
    return self._logits(params, *state), state

  def read(self, params, state, tokens):
    text, lengths = state
    # The last token may lie beyond the text; it is never read, so drop it.
    text = text.at[jnp.arange(len(text)), lengths].set(tokens, mode="drop")
    state = text, lengths + 1
    return self._logits(params, *state), state

  def pick(self, state, rows):
    return state[0][rows], state[1][rows]

  def _logits(self, params, text, lengths):
    edits = dict(self.edits)
    logits = models.apply(self.decoder, params, text, None, edits)
    return _at(logits, lengths - 1)


def _at(logits: jax.Array, positions: jax.Array) -> jax.Array:
  """Logits [B, T, V] at one position of each row, [B, V]."""
  return jnp.take_along_axis(logits, positions[:, None, None], axis=1)[:, 0]
