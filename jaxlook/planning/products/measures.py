"""Which digits a model of products has computed before it writes them.

Products are written with the lowest digit first (`jaxlook.tasks`), so most of
the answer can be computed before `=`, at padding or at digits of the operands.
Three measures show whether it is:

- which digits a linear probe reads in the residual stream;
- which digits the model writes after its stream was swapped with that of
  another product;
- how much beam search gains over greedy decoding.

They use products of two numbers of full length, because their parts are at the
same positions in every sequence.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook import models
from jaxlook.decoding import beam_gain, beam_search, generate
from jaxlook.errors import SettingError
from jaxlook.interventions.forward import capture, forward_only
from jaxlook.models import Decoder, residual_sites
from jaxlook.planning.products.plans import (
  PROMPT,
  SwapShares,
  full_length,
  places,
  probe,
  swap,
)
from jaxlook.stats.claims import by_seed
from jaxlook.tasks.losses import cross_entropy
from jaxlook.tasks.multiplication import Multiplication
from jaxlook.tasks.task import Batch


@dataclasses.dataclass(frozen=True)
class ProductSizes:
  """How many products to measure on.

  Attributes:
    products: number of products for losses and accuracies, for each pair of
      lengths.
    swaps: number of products for swaps and for the beam search.
    probes: number of products for probes; half to fit on, half to score on.
    beam: width of the beam search.

  Raises:
    SettingError: a field is out of range; the message names it.
  """

  products: int = 1024
  swaps: int = 256
  probes: int = 4096
  beam: int = 4

  def __post_init__(self):
    """Refuses sizes that are too small for a comparison."""
    for field, least in (
      ("products", 1),
      ("swaps", 2),
      ("probes", 2),
      ("beam", 1),
    ):
      if getattr(self, field) < least:
        raise SettingError(
          field, f"must be at least {least}, not {getattr(self, field)}"
        )


class ProductResults(NamedTuple):
  """Results of one variant's models; E seeds, K = 2n digits of the answer.

  Attributes:
    losses: loss by digit, over all lengths as in training, nats, [E, K].
    full_losses: loss by digit, for products of full length, nats, [E, K].
    accuracies: accuracy by digit, for products of full length, [E, K].
    grid: share of products with all digits right, by the number of digits of a
      and of b, [E, n, n].
    gain: the beam gain of the answer, nats, [E].
    found: share of products that the beam search gets right, [E].
    written: share of the same products that greedy decoding gets right, [E].
    moved: share of all products whose digit is counted in `differ` and becomes
      the donor's digit, by the layer whose input is swapped and by place,
      [E, L, S, K].
    left: the same for digits that stay the same.
    differ: share of products for which the model, without a swap, writes
      another digit than for the donor, [E, K].
    probe: accuracy of a linear probe for each digit. It reads the last position
      of each place, at the input of each layer and at the output of the last
      layer, [E, L + 1, S, K].
    shuffled: the same for a probe fitted to shuffled labels.
  """

  losses: Any
  full_losses: Any
  accuracies: Any
  grid: Any
  gain: Any
  found: Any
  written: Any
  moved: Any
  left: Any
  differ: Any
  probe: Any
  shuffled: Any

  def effect(self, part: str) -> np.ndarray:
    """`moved` or `left` as a share of all digits that differ, [E, L, S].

    NaN for models that write the same digits for every product.
    """
    differ = np.sum(np.asarray(self.differ), axis=-1)[:, None, None]
    differ = np.where(differ > 0, differ, np.nan)
    return np.sum(np.asarray(getattr(self, part)), axis=-1) / differ


def measure(
  decoder: Decoder,
  task: Multiplication,
  params: Any,
  key: jax.Array,
  sizes: ProductSizes,
  alive: Sequence[bool] | None = None,
) -> ProductResults:
  """Measures the models of one variant.

  Args:
    decoder: the model under the variant.
    task: the task that the model was trained on.
    params: parameters with a leading seed axis E.
    key: a PRNG key, consumed; draws products, the same for every seed.
    sizes: how many products.
    alive: for each seed, False if it diverged; by default no seed diverged.

  Returns:
    Arrays on the host; NaN for seeds that diverged.

  Raises:
    ValueError: see `Decoder`.
  """
  key_products, key_shuffle = jax.random.split(key)
  products = _draw_products(task, sizes, key_products)
  results = _measure(
    forward_only(decoder), task, sizes, params, products, key_shuffle
  )
  return by_seed(results, alive)


class _Products(NamedTuple):
  """Batches to measure on.

  Attributes:
    by_lengths: first products of all lengths as in training, then products of
      each pair of lengths, stacked, [1 + n * n, B, T].
    full_length: products of full length, enough for probes and swaps.
  """

  by_lengths: Batch
  full_length: Batch


def _draw_products(
  task: Multiplication, sizes: ProductSizes, key: jax.Array
) -> _Products:
  key_full, key_lengths = jax.random.split(key)
  counts = range(1, task.digits + 1)
  pairs = [None, *itertools.product(counts, counts)]
  keys = jax.random.split(key_lengths, len(pairs))
  batches = [
    _batch(dataclasses.replace(task, lengths=pair), pair_key, sizes.products)
    for pair, pair_key in zip(pairs, keys, strict=True)
  ]
  return _Products(
    jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches),
    _batch(full_length(task), key_full, max(sizes.swaps, sizes.probes)),
  )


@functools.partial(jax.jit, static_argnums=(0, 2))
def _batch(task: Multiplication, key: jax.Array, count: int) -> Batch:
  return task.batch(key, count)


# Compiled once for all variants with the same forward pass.
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
@functools.partial(jax.vmap, in_axes=(None, None, None, 0, None, None))
def _measure(
  decoder: Decoder,
  task: Multiplication,
  sizes: ProductSizes,
  params: Any,
  products: _Products,
  key: jax.Array,
) -> ProductResults:
  def scores(batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Loss and accuracy by digit, and the share of correct products."""
    logits = models.apply(decoder, params, batch.inputs)
    losses = task.answer(cross_entropy(logits, batch.targets), batch)
    right = task.correct(jnp.argmax(logits, axis=-1), batch)
    return (
      jnp.mean(losses, axis=0),
      jnp.mean(right, axis=0),
      jnp.mean(jnp.all(right, axis=1)),
    )

  losses, accuracies, wholes = jax.lax.map(scores, products.by_lengths)
  gain, found, written, swapped = _written(
    decoder, task, sizes, params, products.full_length
  )
  probe_accuracy, shuffled = _probed(
    decoder, task, sizes, params, products.full_length, key
  )
  return ProductResults(
    losses=losses[0],
    full_losses=losses[-1],
    accuracies=accuracies[-1],
    grid=wholes[1:].reshape(task.digits, task.digits),
    gain=gain,
    found=found,
    written=written,
    moved=swapped.moved,
    left=swapped.left,
    differ=swapped.differ,
    probe=probe_accuracy,
    shuffled=shuffled,
  )


def _written(
  decoder: Decoder,
  task: Multiplication,
  sizes: ProductSizes,
  params: Any,
  batch: Batch,
) -> tuple[jax.Array, jax.Array, jax.Array, SwapShares]:
  """Beam gain, accuracies of beam search and greedy decoding, and swaps."""
  where, digits = places(task), task.answer_digits
  batch = jax.tree.map(lambda x: x[: sizes.swaps], batch)
  prompts = batch.inputs[:, where[PROMPT]]
  answers = task.answer(batch.targets, batch)
  greedy = generate(decoder, params, prompts, digits)
  beams = beam_search(decoder, params, prompts, digits, width=sizes.beam)
  masks = np.zeros((len(where), prompts.shape[1]), bool)
  for row, positions in zip(masks, where.values(), strict=True):
    row[positions] = True
  swapped = swap(decoder, params, prompts, jnp.asarray(masks), digits)

  def right(tokens: jax.Array) -> jax.Array:
    return jnp.mean(jnp.all(tokens == answers, axis=1))

  return (
    jnp.mean(beam_gain(beams, greedy)),
    right(beams.tokens[:, 0]),
    right(greedy.tokens),
    swapped,
  )


def _probed(
  decoder: Decoder,
  task: Multiplication,
  sizes: ProductSizes,
  params: Any,
  batch: Batch,
  key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Accuracy of the probe and of its control, each [L + 1, S, K]."""
  batch = jax.tree.map(lambda x: x[: sizes.probes], batch)
  answers = task.answer(batch.targets, batch)
  ends = np.array([positions[-1] for positions in places(task).values()])
  sites = residual_sites(decoder.config)
  _, states = capture(decoder, params, batch.inputs, sites)
  # [L + 1, S, B, D], flattened so that `probe` maps over layers and places.
  at_ends = jnp.stack([jnp.swapaxes(states[x][:, ends], 0, 1) for x in sites])
  flat = at_ends.reshape(-1, *at_ends.shape[2:])
  accuracy, shuffled = probe(flat, answers, key)
  shape = (len(sites), len(ends), -1)
  return accuracy.reshape(shape), shuffled.reshape(shape)
