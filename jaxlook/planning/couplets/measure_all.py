"""Every measure of couplets, for the models of one variant."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.models import Decoder
from jaxlook.planning.couplets import (
  class_probe,
  losses_and_lines,
  places,
  routes,
  steering,
  swaps,
)
from jaxlook.planning.couplets.answers import Effect, LineParts
from jaxlook.planning.couplets.places import Place
from jaxlook.planning.couplets.stream_edits import expectations, written_lines
from jaxlook.planning.couplets.writing import WrittenLines
from jaxlook.probing.linear import ClassScores
from jaxlook.stats.claims import by_seed
from jaxlook.tasks.couplets import Couplets
from jaxlook.tasks.task import Batch

STRENGTHS = (1.0, 2.0)
# Swaps use every second couplet; steering and writing under edits use every
# fourth. These measures run the model most often and vary little between
# couplets.
_SWAPPED, _WRITTEN = 2, 4
GENRES = ("RHY", "FREE")

NamedValues = dict[str, np.ndarray]


class HeldOutCouplets(NamedTuple):
  """Held-out couplets of one language, drawn independently.

  Attributes:
    tested: couplets of both genres, RHY first. Attention cuts, writing and the
      losses of FREE couplets use all of them. Swaps use every second one.
      Steering and writing under edits use every fourth one.
    reference: couplets for the class means of steering.
    rhyming: RHY couplets only, for probes and the losses of that genre.
  """

  tested: Batch
  reference: Batch
  rhyming: Batch


class CoupletResults(NamedTuple):
  """Results of models of E seeds; each function documents its axes.

  Attributes:
    unedited: losses and written lines without any edit.
    swapped: what models expect of line 2 after swaps, at all places.
    rewritten: what they write after swaps, at `main_places`.
    steered: what they expect after steering, at `main_places`.
    resteered: what they write after steering, at `main_places`.
    lost: how far attention cuts raise the loss of line 2, nats, at all places.
    probed: how well a probe reads the class, at `probed_places`.
  """

  unedited: losses_and_lines.LossesAndLines
  swapped: LineParts[Effect]
  rewritten: WrittenLines
  steered: LineParts[Effect]
  resteered: WrittenLines
  lost: Any
  probed: ClassScores


def main_places(task: Couplets) -> tuple[Place, ...]:
  """Where a plan may be (line 1, e1, NL and after), and both controls."""
  ends = "pair ends" if task.key == "tally" else "line1"
  late = "genre" if task.late_genre else "U"
  return places.named(
    task, (places.NONE, ends, "e1", "NL", late, places.PROMPT)
  )


def probed_places(task: Couplets) -> tuple[Place, ...]:
  """The places with few positions; a probe reads their joined streams."""
  few = max(5, task.pairs if task.key == "tally" else 0)
  return tuple(
    place for place in places.places(task) if len(place.positions) <= few
  )


def measure_all(
  decoder: Decoder,
  task: Couplets,
  params: Any,
  couplets: HeldOutCouplets,
  alive: Sequence[bool],
  key: jax.Array,
) -> CoupletResults:
  """Runs every measure on the models of one variant.

  Args:
    decoder: the model under the variant, with the barrier of the task.
    task: the language that the model was trained on.
    params: parameters with a leading seed axis E.
    couplets: held-out couplets.
    alive: for each seed, False if it diverged.
    key: a PRNG key, consumed; the same for all variants.

  Returns:
    Arrays on the host; NaN for seeds that diverged.
  """
  write_key, swap_key, steer_key, resteer_key = jax.random.split(key, 4)
  direction_key, draw_key = jax.random.split(resteer_key)
  model: dict[str, Any] = {"decoder": decoder, "task": task, "params": params}
  tested = couplets.tested
  few, fewer = (
    jax.tree.map(lambda x, step=step: x[::step], tested)
    for step in (_SWAPPED, _WRITTEN)
  )
  main = main_places(task)

  def steered(key: jax.Array) -> steering.Steering:
    return steering.Steering(couplets.reference, jnp.asarray(STRENGTHS), key)

  rhyming = losses_and_lines.losses(**model, batch=couplets.rhyming)
  results = CoupletResults(
    unedited=losses_and_lines.measure(
      **model, batch=tested, key=write_key
    )._replace(rhyming=rhyming.mean(axis=1)),
    swapped=expectations(swaps.Swaps(), **model, batch=few),
    rewritten=written_lines(
      swaps.Swaps(), **model, batch=fewer, chosen=main, key=swap_key
    ),
    steered=expectations(steered(steer_key), **model, batch=fewer, chosen=main),
    resteered=written_lines(
      steered(direction_key), **model, batch=fewer, chosen=main, key=draw_key
    ),
    lost=routes.lost(task, routes.measure(**model, batch=tested)),
    probed=measure_probes(decoder, task, params, couplets),
  )
  return by_seed(results, alive)


def measure_probes(
  decoder: Decoder, task: Couplets, params: Any, couplets: HeldOutCouplets
) -> ClassScores:
  """The probes of `measure_all`, also for untrained models."""
  return class_probe.measure(
    decoder, task, params, couplets.rhyming, probed_places(task)
  )


def named_values(task: Couplets, results: CoupletResults) -> NamedValues:
  """All results by name.

  Args:
    task: the language that the models were trained on.
    results: from `measure_all`.

  Returns:
    Arrays [E] by names such as "loss/RHY/m1", "write/rhymes",
    "swap/other class/NL/layer1/topic/moved/RHY",
    "rewrite/other class/NL/layer1/ending/target/RHY",
    "steer/mean difference/x1/NL/layer1/topic/moved/RHY", "cut/NL/RHY" and
    "probe/NL/layer1/accuracy".
  """
  named: NamedValues = {}
  unedited = results.unedited
  for genre, losses in zip(
    GENRES, (unedited.rhyming, unedited.free), strict=True
  ):
    for name, values in losses_and_lines.by_class(task, losses).items():
      named[f"loss/{genre}/{name}"] = values
    named[f"loss/{genre}/line 2"] = losses_and_lines.second_line(task, losses)
  for name in unedited._fields[2:]:
    named[f"write/{name}"] = getattr(unedited, name)
  layers = [f"layer{at}" for at in range(results.swapped.topic.moved.shape[2])]
  every = [place.name for place in places.places(task)]
  main = [place.name for place in main_places(task)]
  strengths = [f"x{strength:g}" for strength in STRENGTHS]
  for measure, tree, axes in (
    ("swap", results.swapped, (swaps.KINDS, layers, every)),
    ("rewrite", results.rewritten, (swaps.KINDS, layers, main)),
    ("steer", results.steered, (steering.KINDS, strengths, layers, main)),
    ("resteer", results.resteered, (steering.KINDS, strengths, layers, main)),
  ):
    for part, effect in zip(tree._fields, tree, strict=True):
      for field, values in zip(effect._fields, effect, strict=True):
        # In names the place comes before the layer.
        for (*kind, layer, place, genre), entry in _entries(
          values, (*axes, GENRES)
        ):
          words = (measure, *kind, place, layer, part, field, genre)
          named["/".join(words)] = entry
  for (place, genre), values in _entries(results.lost, (every, GENRES)):
    named[f"cut/{place}/{genre}"] = values
  return named | named_probe_values(task, results.probed)


def named_probe_values(task: Couplets, scores: ClassScores) -> NamedValues:
  """The results of `measure_probes` by name."""
  layers = [f"layer{at}" for at in range(scores.accuracy.shape[2])]
  probed = [place.name for place in probed_places(task)]
  named = {}
  for field, values in zip(scores._fields, scores, strict=True):
    values = np.asarray(values, np.float64)
    for (kind, layer, place), entry in _entries(
      values, (class_probe.KINDS, layers, probed)
    ):
      named[f"{kind}/{place}/{layer}/{field}"] = entry
  return named


def _entries(
  values: Any, axes: Sequence[Sequence[str]]
) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
  """The labels and the values [E] of every entry of an array [E, ...]."""
  for index in np.ndindex(*values.shape[1:]):
    labels = tuple(str(axis[at]) for axis, at in zip(axes, index, strict=True))
    yield labels, values[(slice(None), *index)]
