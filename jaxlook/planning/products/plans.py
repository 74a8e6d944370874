"""Where a model may plan a product: places, and probes and swaps there.

Everything here needs products of two numbers of full length, because their
parts are at the same positions in every sequence.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.decoding import generate
from jaxlook.interventions.edits import patch
from jaxlook.interventions.forward import capture
from jaxlook.models import Decoder, residual_sites
from jaxlook.probing import linear
from jaxlook.tasks.multiplication import Multiplication

PADDING_A, PADDING_B, PROMPT = "padding of a", "padding of b", "prompt"


def places(task: Multiplication) -> dict[str, np.ndarray]:
  """The positions of the parts of the prompt, for operands of full length.

  Args:
    task: gives the number of digits and the padding.

  Returns:
    Positions by name, in order; the last is the whole prompt. Padding is a
    place only if the task has padding.
  """
  digits, fill = task.digits, task.pad or task.digits
  starts = {
    "a": 0,
    PADDING_A: digits,
    "*": fill,
    "b": fill + 1,
    PADDING_B: fill + 1 + digits,
    "=": 2 * fill + 1,
  }
  ends = [*list(starts.values())[1:], 2 * fill + 2]
  parts = {
    name: np.arange(start, end)
    for (name, start), end in zip(starts.items(), ends, strict=True)
    if end > start
  }
  return parts | {PROMPT: np.arange(2 * fill + 2)}


def before_equals(task: Multiplication) -> str:
  """The last place of the second operand: its padding, if there is any."""
  return PADDING_B if PADDING_B in places(task) else "b"


def full_length(task: Multiplication) -> Multiplication:
  """The same task with products of full length only."""
  return dataclasses.replace(task, lengths=(task.digits, task.digits))


class SwapShares(NamedTuple):
  """Digits after a swap, as in `ProductResults` but without the axis E."""

  moved: jax.Array
  left: jax.Array
  differ: jax.Array


def swap(
  decoder: Decoder,
  params: Any,
  prompts: jax.Array,
  masks: jax.Array,
  steps: int,
) -> SwapShares:
  """Swaps the stream at some positions with a donor's and lets the model write.

  A digit counts only if the model, without a swap, writes different digits for
  the two prompts. Whether they are correct does not matter.

  Args:
    decoder: the model.
    params: parameters of one seed.
    prompts: int [B, P], at least 2. The donor of each prompt is the one before
      it, cyclically.
    masks: the positions of each place, bool [S, P].
    steps: number of digits to write, K.

  Returns:
    Shares of all prompts: `moved` and `left` by the layer whose input is
    swapped and by place, [L, S, K], and `differ`, [K].

  Raises:
    ValueError: see `jaxlook.decoding.generate`.
  """
  # The output of the last layer is not swapped: later positions do not read it.
  sites = residual_sites(decoder.config)[:-1]
  _, states = capture(decoder, params, prompts, sites)
  donors = {site: jnp.roll(x, 1, axis=0) for site, x in states.items()}
  layers, rows = np.indices((len(sites), len(masks))).reshape(2, -1)
  # The first case is the model without a swap.
  layers = np.concatenate([[len(sites)], layers])
  masks = masks[np.concatenate([[0], rows])]

  def write(case: tuple[jax.Array, jax.Array]) -> jax.Array:
    layer, mask = case

    def only(index: int):
      return lambda x: (mask & (layer == index))[None, :, None]

    edits = {
      site: patch(donors[site], only(index)) for index, site in enumerate(sites)
    }
    return generate(decoder, params, prompts, steps, edits=edits).tokens

  written = jax.lax.map(write, (jnp.asarray(layers), masks))
  own = written[0]
  of_donor = jnp.roll(own, 1, axis=0)
  differ = own != of_donor
  moved, left = (
    jnp.mean((written[1:] == wanted[None]) & differ[None], axis=1).reshape(
      len(sites), -1, steps
    )
    for wanted in (of_donor, own)
  )
  return SwapShares(moved, left, jnp.mean(differ, axis=0))


def probe(
  states: jax.Array, answers: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Reads every digit of the answer from states, by ridge regression.

  Args:
    states: float [M, B, D] at M places. Probes are fitted on the first half of
      the batch and scored on the second.
    answers: digits, int [B, K].
    key: a PRNG key, consumed; shuffles the labels of the control.

  Returns:
    Accuracies of the probe and of the control, each [M, K].
  """
  half, digits = len(answers) // 2, answers.shape[1]
  fitted, held_out = answers[:half], answers[half:]
  shuffled = jax.random.permutation(key, fitted)
  # Probe and control differ only in the labels, so they share a factorisation.
  labels = jnp.concatenate([fitted, shuffled], axis=1)
  scored = jnp.concatenate([held_out, held_out], axis=1)
  accuracies = jax.lax.map(
    lambda x: linear.ridge_classes(
      x[:half], labels, x[half:], scored, classes=10
    ),
    states,
  )
  return accuracies[:, :digits], accuracies[:, digits:]
