"""What a model of products has ready, where, and what depends on it.

Products are written with the lowest digit first (`jaxlook.tasks`), so most of
the answer can be worked out before `=`, on padding or on what is read there.
Three looks at that, on products of two numbers of full length, whose parts
stand at the same positions in every sequence: which digits a linear probe
reads off the residual stream, which digits the model then writes if the stream
is swapped for that of another product, and what a search gains over writing
digit by digit.
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
  """How much to measure on.

  Attributes:
    products: for losses and accuracies, of each pair of lengths.
    swaps: products that are swapped for one another, and searched.
    probes: products to fit and to score probes on, half of them each.
    beam: hypotheses of the search.

  Raises:
    SettingError: a field is out of range; the message names it.
  """

  products: int = 1024
  swaps: int = 256
  probes: int = 4096
  beam: int = 4

  def __post_init__(self):
    """Refuses what leaves nothing to compare."""
    for field, least in (
      *(("products", 1), ("swaps", 2), ("probes", 2), ("beam", 1)),
    ):
      if getattr(self, field) < least:
        raise SettingError(
          field, f"must be at least {least}, not {getattr(self, field)}"
        )


class ProductResults(NamedTuple):
  """What models of one variant do; E seeds, K = 2n digits of the answer.

  Attributes:
    losses: by digit, over all lengths as in training, nats, [E, K].
    full_losses: by digit, of products of full length, nats, [E, K].
    accuracies: by digit, of products of full length, [E, K].
    grid: share of whole products that are right, by the digits of a and of b,
      [E, n, n].
    gain: the beam gain over the answer, nats, [E].
    found: share of whole products right that the search finds, [E].
    written: share right that greedy decoding of the same products writes, [E].
    moved: share of products whose digit turns to the donor's, by the layer
      whose input is swapped and by place; of those counted in `differ`,
      [E, L, S, K].
    left: share whose digit stays, likewise.
    differ: share of products for which the model, left alone, writes another
      digit than for the donor, [E, K].
    probe: accuracy of a linear probe for each digit at the last position of
      each place, by layer, the output of the last one included,
      [E, L + 1, S, K].
    shuffled: the same of a probe fitted to shuffled labels.
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
    return _share(getattr(self, part), self.differ)


def _share(parts: Any, whole: Any) -> np.ndarray:
  total = np.sum(np.asarray(whole), axis=-1)[:, None, None]
  total = np.where(total > 0, total, np.nan)
  return np.sum(np.asarray(parts), axis=-1) / total


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
    task: that it was trained on.
    params: parameters with a leading seed axis E.
    key: a PRNG key, consumed; draws products, the same for every seed.
    sizes: how many.
    alive: by seed, whether it did not diverge; all by default.

  Returns:
    Arrays on the host; NaN for seeds that diverged.

  Raises:
    ValueError: as `Decoder`.
  """
  key_products, key_shuffle = jax.random.split(key)
  products = _draw(task, sizes, key_products)
  found = _measure(
    forward_only(decoder), task, sizes, params, products, key_shuffle
  )
  return by_seed(found, alive)


class _Products(NamedTuple):
  """Batches to measure on.

  Attributes:
    by_lengths: of all lengths as in training, then of each pair of lengths,
      stacked, [1 + n * n, B, T].
    full_length: of full length, as many as the largest use of them needs.
  """

  by_lengths: Batch
  full_length: Batch


def _draw(
  task: Multiplication, sizes: ProductSizes, key: jax.Array
) -> _Products:
  key_full, key_lengths = jax.random.split(key)
  counts = range(1, task.digits + 1)
  pairs = [None, *itertools.product(counts, counts)]
  keys = jax.random.split(key_lengths, len(pairs))
  batches = [
    _batch(dataclasses.replace(task, lengths=pair), each, sizes.products)
    for pair, each in zip(pairs, keys, strict=True)
  ]
  return _Products(
    jax.tree.map(lambda *each: jnp.stack(each), *batches),
    _batch(full_length(task), key_full, max(sizes.swaps, sizes.probes)),
  )


@functools.partial(jax.jit, static_argnums=(0, 2))
def _batch(task: Multiplication, key: jax.Array, count: int) -> Batch:
  return task.batch(key, count)


# Compiled once for all variants of one forward pass.
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
    """Loss and accuracy by digit, and how many products are wholly right."""
    logits = models.apply(decoder, params, batch.inputs)
    losses = task.answer(cross_entropy(logits, batch.targets), batch)
    right = task.correct(jnp.argmax(logits, axis=-1), batch)
    return (
      jnp.mean(losses, axis=0),
      jnp.mean(right, axis=0),
      jnp.mean(jnp.all(right, axis=1)),
    )

  losses, accuracies, wholes = jax.lax.map(scores, products.by_lengths)
  gain, found, written, swapped = _behaviour(
    decoder, task, sizes, params, products.full_length
  )
  read, shuffled = _probed(
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
    probe=read,
    shuffled=shuffled,
  )


def _behaviour(
  decoder: Decoder,
  task: Multiplication,
  sizes: ProductSizes,
  params: Any,
  batch: Batch,
) -> tuple[jax.Array, jax.Array, jax.Array, SwapShares]:
  """Beam gain, what the search and greedy decoding get right, and swaps."""
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
  """The probe and its control, each [L + 1, S, K]."""
  batch = jax.tree.map(lambda x: x[: sizes.probes], batch)
  answers = task.answer(batch.targets, batch)
  ends = np.array([positions[-1] for positions in places(task).values()])
  sites = residual_sites(decoder.config)
  _, states = capture(decoder, params, batch.inputs, sites)
  # [L + 1, S, B, D], one place after the other.
  at_ends = jnp.stack([jnp.swapaxes(states[x][:, ends], 0, 1) for x in sites])
  flat = at_ends.reshape(-1, *at_ends.shape[2:])
  read, shuffled = probe(flat, answers, key)
  shape = (len(sites), len(ends), -1)
  return read.reshape(shape), shuffled.reshape(shape)
