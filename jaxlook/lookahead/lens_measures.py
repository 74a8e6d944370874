"""All scores of the future lens for the models of one variant.

Combines `future_pairs` and `future_lens`, each in one program for all seeds.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.errors import check_ids
from jaxlook.interventions.forward import forward_only
from jaxlook.keys import make_key
from jaxlook.lookahead import future_lens as lens
from jaxlook.lookahead import future_pairs
from jaxlook.lookahead.future_lens import LensResults
from jaxlook.lookahead.future_pairs import LensPairs, LensSetup
from jaxlook.models import Decoder

# Counting more text does not change which token is the commonest.
_COUNTED_TOKENS = 10_000_000


class LensText(NamedTuple):
  """The text that all models are measured on.

  Attributes:
    fit_on: sequences to fit on, integer [B, T + 1].
    score_on: later sequences to score on, integer [B, T + 1].
    counted: the token most often tau after each token in the training text, by
      tau = 1 .. K, integer [K, V]; see `future_pairs.skip_bigram`.
  """

  fit_on: jax.Array
  score_on: jax.Array
  counted: jax.Array


def lens_text(
  windows: np.ndarray,
  tokens: np.ndarray,
  vocab_size: int,
  setup: LensSetup,
  ends: np.ndarray | None = None,
) -> LensText:
  """The text to measure on.

  Args:
    windows: held-out sequences, integer [W, T + 1].
    tokens: the training text, integer [n].
    vocab_size: V.
    setup: how many sequences, and how far ahead.
    ends: ends of documents in `tokens`, ascending integers [S]; nothing is
      counted across them. None for one document.

  Returns:
    The first sequences of both halves of the windows, and counts.
  """
  middle = len(windows) // 2
  count = min(setup.sequences, middle)
  counted = [
    future_pairs.skip_bigram(tokens[:_COUNTED_TOKENS], tau, vocab_size, ends)
    for tau in range(1, setup.horizon + 1)
  ]
  return LensText(
    fit_on=jnp.asarray(windows[:count]),
    score_on=jnp.asarray(windows[middle : middle + count]),
    counted=jnp.asarray(np.stack(counted)),
  )


def measure_lens(
  decoder: Decoder,
  params: Any,
  text: LensText,
  setup: LensSetup,
  *,
  prompts: bool = True,
) -> LensResults:
  """The scores of one variant's models.

  Args:
    decoder: the model. All variants with the same forward pass share one
      program.
    params: parameters with a leading seed axis E.
    text: the text to measure on.
    setup: how the lens is fitted.
    prompts: whether to measure soft prompts as well; they take most of the
      time.

  Returns:
    Scores by method, on the host, with a leading E.
  """
  for windows in (text.fit_on, text.score_on):
    check_ids(decoder.config.vocab_size, windows)
  plain = forward_only(decoder)
  keys = jax.random.split(make_key(0), 3)
  pairs = _prepare(plain, setup, params, keys[0], text)
  parts = [_linear(plain, setup, params, pairs, keys[1], text.counted)]
  if prompts:
    first = text.fit_on[0, : setup.prompt_length]
    parts.append(_prompts(plain, setup, params, pairs, keys[2], first))
  return join_methods(jax.tree.map(np.asarray, parts))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _prepare(
  decoder: Decoder,
  setup: LensSetup,
  params: Any,
  key: jax.Array,
  text: LensText,
) -> LensPairs:
  """`prepare_pairs` for all seeds, on the same pairs."""
  return jax.vmap(
    lambda one: future_pairs.prepare_pairs(
      key, decoder, one, text.fit_on, text.score_on, setup
    )
  )(params)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _linear(
  decoder: Decoder,
  setup: LensSetup,
  params: Any,
  pairs: LensPairs,
  key: jax.Array,
  counted: jax.Array,
) -> LensResults:
  """`measure_linear` for all seeds."""
  return jax.vmap(
    lambda one, of_seed: lens.measure_linear(
      key, decoder, one, of_seed, counted, setup
    )
  )(params, pairs)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _prompts(
  decoder: Decoder,
  setup: LensSetup,
  params: Any,
  pairs: LensPairs,
  key: jax.Array,
  tokens: jax.Array,
) -> LensResults:
  """`measure_prompts` for all seeds."""
  return jax.vmap(
    lambda one, of_seed: lens.measure_prompts(
      key, decoder, one, of_seed, tokens, setup
    )
  )(params, pairs)


def join_methods(parts: Sequence[LensResults]) -> LensResults:
  """The methods of several measurements in one."""
  return LensResults(
    fitted={name: x for part in parts for name, x in part.fitted.items()},
    scored={name: x for part in parts for name, x in part.scored.items()},
  )


def rename_methods(
  results: LensResults, methods: Sequence[str], prefix: str
) -> LensResults:
  """Some methods of a measurement, with a prefix to their names."""
  return LensResults(
    fitted={prefix + name: results.fitted[name] for name in methods},
    scored={prefix + name: results.scored[name] for name in methods},
  )
