"""Next-token logits position by position: from a cache, or computed anew."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp

from jaxlook import models
from jaxlook.interventions.forward import forward_only
from jaxlook.models import Decoder, DecoderConfig, Past
from jaxlook.models.decoder import Params
from jaxlook.models.sites import NO_EDITS, Edit, Edits, sown


class Reader(Protocol):
  """A way to come from tokens to logits, one position at a time.

  States are trees whose arrays have the batch on the axis that `axes` gives,
  so that a beam search can pick rows.
  """

  def start(
    self, params: Params, prompts: jax.Array, lengths: jax.Array, steps: int
  ) -> tuple[jax.Array, Any]:
    """Reads prompts; gives the logits after each, [B, V], and a state."""
    ...

  def read(
    self, params: Params, state: Any, tokens: jax.Array
  ) -> tuple[jax.Array, Any]:
    """Reads one more token each, [B]; gives logits [B, V] and a state."""
    ...

  def pick(self, state: Any, rows: jax.Array) -> Any:
    """The state of some rows, int [B'], in that order."""
    ...


def check(config: DecoderConfig, prompts: jax.Array, steps: int) -> None:
  """Refuses what a decoder cannot continue.

  Args:
    config: its shape.
    prompts: int [B, P].
    steps: tokens to add.

  Raises:
    ValueError: the model has no tokens, the prompts or `steps` are empty, or
      they are together longer than `max_length`.
  """
  if config.vocab_size is None or config.output_features is not None:
    raise ValueError("decoding needs a model from tokens to tokens")
  if prompts.ndim != 2 or 0 in prompts.shape:
    raise ValueError(f"prompts must be [B, P] and not empty: {prompts.shape}")
  if steps < 1:
    raise ValueError(f"steps must be at least 1, not {steps}")
  # The last token is not read.
  if prompts.shape[1] + steps - 1 > config.max_length:
    raise ValueError(
      f"prompts of {prompts.shape[1]} and {steps} steps exceed max_length="
      f"{config.max_length}"
    )


def reader(decoder: Decoder, cached: bool, edits: Edits = NO_EDITS) -> Reader:
  """Chooses how logits are computed.

  Args:
    decoder: the model under any variant; cuts of gradient are left out.
    cached: whether keys and values of earlier positions are kept.
    edits: by site, what is done to activations while prompts are read.

  Returns:
    The reader. With a cache, reading a token takes time linear in the length.

  Raises:
    ValueError: a variant that changes the forward pass has no cache here.
  """
  plain = forward_only(decoder)
  if not cached:
    return _Anew(plain, tuple(edits.items()))
  if not plain.variant.keeps_forward:
    raise ValueError(
      f"attention {decoder.variant.name!r} changes the forward pass: decode it"
      " with cached=False"
    )
  return _Cached(plain, tuple(edits.items()))


class _Cached(NamedTuple):
  """Keeps keys and values."""

  decoder: Decoder
  edits: tuple[tuple[str, Edit], ...] = ()

  def start(self, params, prompts, lengths, steps):
    c, (batch, width) = self.decoder.config, prompts.shape
    shape = (c.layers, batch, width + steps, c.heads, c.head_width)
    dtype = params["final_norm"]["scale"].dtype
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
    """Reads tokens [B, T], of which the first `counts` of a row are meant.

    What is padding is written, too, but the next token overwrites it, and
    until then it lies beyond the length.
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

    def written(old: jax.Array, name: str) -> jax.Array:
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
      written(past.key, "key"),
      written(past.value, "value"),
      past.length + counts,
    )


class _Anew(NamedTuple):
  """Runs the decoder over all that was read, every time."""

  decoder: Decoder
  edits: tuple[tuple[str, Edit], ...] = ()

  def start(self, params, prompts, lengths, steps):
    room = jnp.zeros((len(prompts), steps - 1), prompts.dtype)
    state = jnp.concatenate([prompts, room], axis=1), lengths
    return self._logits(params, *state), state

  def read(self, params, state, tokens):
    text, lengths = state
    # Past the end there is nothing to write: the last token is not read.
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
