"""Everything that is asked of the models of one variant on couplets."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
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
from jaxlook.planning.couplets.writing import WrittenLines
from jaxlook.probing.linear import ClassScores
from jaxlook.stats.claims import by_seed
from jaxlook.tasks.couplets import Couplets
from jaxlook.tasks.task import Batch

STRENGTHS = (1.0, 2.0)
# One of so many couplets is swapped, and one written on and steered.
_SWAPPED, _WRITTEN = 2, 4
GENRES = ("RHY", "FREE")

NamedValues = dict[str, np.ndarray]


class HeldOutCouplets(NamedTuple):
  """Held-out couplets for one language, drawn apart.

  Attributes:
    tested: of both genres, in no order but that, for cuts, writing and the
      losses of FREE ones; swaps take one of two, writing under them and
      steering one of four.
    reference: for the means of families that steering needs.
    rhyming: RHY ones only, for probes and the losses of that genre.
  """

  tested: Batch
  reference: Batch
  rhyming: Batch


class CoupletResults(NamedTuple):
  """What was found of models of E seeds; axes as the functions say.

  Attributes:
    measured: losses and written lines.
    swapped: what is expected of line 2 after swaps, at all places.
    rewritten: what is written after swaps, at `main_places`.
    steered: what is expected after steering, at `main_places`.
    resteered: what is written after steering.
    lost: nats of line 2 that cuts of attention cost, at all places.
    probed: how well the class is read off, at `probed_places`.
  """

  measured: losses_and_lines.LossesAndLines
  swapped: LineParts[Effect]
  rewritten: WrittenLines
  steered: LineParts[Effect]
  resteered: WrittenLines
  lost: Any
  probed: ClassScores


def main_places(task: Couplets) -> tuple[Place, ...]:
  """Where a plan may be, line 1, e1, NL and after, and both controls."""
  ends = "pair ends" if task.key == "tally" else "line1"
  late = "genre" if task.late_genre else "U"
  return places.named(
    task, (places.NONE, ends, "e1", "NL", late, places.PROMPT)
  )


def probed_places(task: Couplets) -> tuple[Place, ...]:
  """Those of few positions: a probe reads all of them, end to end."""
  few = max(5, task.pairs if task.key == "tally" else 0)
  return tuple(
    place for place in places.places(task) if len(place.positions) <= few
  )


def measure_all(
  decoder: Decoder,
  task: Couplets,
  params: Any,
  couples: HeldOutCouplets,
  alive: Sequence[bool],
  key: jax.Array,
) -> CoupletResults:
  """Asks everything of the models of one variant.

  Args:
    decoder: the model under the variant, with the barrier of the task.
    task: that it was trained on.
    params: parameters with a leading seed axis E.
    couples: held-out couplets.
    alive: by seed, whether it did not diverge.
    key: a PRNG key, consumed; the same for all variants.

  Returns:
    Arrays on the host; NaN for seeds that diverged.
  """
  keys = list(jax.random.split(key, 4))
  of = (decoder, task, params, couples.tested)
  # What runs the model most often varies little by couplet.
  of_swapped, of_written = (
    (decoder, task, params, jax.tree.map(lambda x, n=n: x[::n], couples.tested))
    for n in (_SWAPPED, _WRITTEN)
  )
  scored = losses_and_lines.losses(decoder, task, params, couples.rhyming)
  main = main_places(task)
  by = (couples.reference, STRENGTHS, main)
  found = CoupletResults(
    measured=losses_and_lines.measure(*of, keys[0])._replace(
      rhyming=scored.mean(axis=1)
    ),
    swapped=swaps.measure(*of_swapped),
    rewritten=swaps.write(*of_written, main, key=keys[1]),
    steered=steering.measure(*of_written, *by, key=keys[2]),
    resteered=steering.write(*of_written, *by, key=keys[3]),
    lost=routes.lost(task, routes.measure(*of)),
    probed=measure_probes(decoder, task, params, couples),
  )
  return by_seed(found, alive)


def measure_probes(
  decoder: Decoder, task: Couplets, params: Any, couples: HeldOutCouplets
) -> ClassScores:
  """The probes of `measure_all`, for untrained models, too."""
  return class_probe.measure(
    decoder, task, params, couples.rhyming, probed_places(task)
  )


def named_values(task: Couplets, found: CoupletResults) -> NamedValues:
  """All that was found, by name.

  Args:
    task: that the models were trained on.
    found: what was found.

  Returns:
    Arrays [E] by names as "loss/RHY/m1", "write/rhymes",
    "swap/other class/NL/layer1/topic/moved/RHY",
    "rewrite/other class/NL/layer1/ending/target/RHY",
    "steer/mean difference/x1/NL/layer1/topic/moved/RHY", "cut/NL/RHY" and
    "probe/NL/layer1/accuracy".
  """
  named: NamedValues = {}
  for genre, losses in zip(GENRES, found.measured[:2], strict=True):
    for name, values in losses_and_lines.by_class(task, losses).items():
      named[f"loss/{genre}/{name}"] = values
    named[f"loss/{genre}/line 2"] = losses_and_lines.second_line(task, losses)
  for name in found.measured._fields[2:]:
    named[f"write/{name}"] = getattr(found.measured, name)
  layers = [f"layer{at}" for at in range(found.swapped.topic.moved.shape[2])]
  every = [place.name for place in places.places(task)]
  main = [place.name for place in main_places(task)]
  strengths = [f"x{strength:g}" for strength in STRENGTHS]
  for head, tree, axes in (
    ("swap", found.swapped, (swaps.KINDS, layers, every)),
    ("rewrite", found.rewritten, (swaps.KINDS, layers, main)),
    ("steer", found.steered, (steering.KINDS, strengths, layers, main)),
    ("resteer", found.resteered, (steering.KINDS, strengths, layers, main)),
  ):
    for part, effect in zip(tree._fields, tree, strict=True):
      for field, values in zip(effect._fields, effect, strict=True):
        # The layer stands behind the place in names.
        for (*kind, layer, place, genre), each in _entries(
          values, (*axes, GENRES)
        ):
          words = (head, *kind, place, layer, part, field, genre)
          named["/".join(words)] = each
  for (place, genre), values in _entries(found.lost, (every, GENRES)):
    named[f"cut/{place}/{genre}"] = values
  return named | named_probe_values(task, found.probed)


def named_probe_values(task: Couplets, found: ClassScores) -> NamedValues:
  """What `measure_probes` found, by name."""
  layers = [f"layer{at}" for at in range(found.accuracy.shape[2])]
  every = [place.name for place in probed_places(task)]
  named = {}
  for field, values in zip(found._fields, found, strict=True):
    values = np.asarray(values, np.float64)
    for (kind, layer, place), each in _entries(
      values, (class_probe.KINDS, layers, every)
    ):
      named[f"{kind}/{place}/{layer}/{field}"] = each
  return named


def _entries(
  values: Any, axes: Sequence[Sequence[str]]
) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
  """The labels and values [E] of every entry of an array [E, ...]."""
  for index in np.ndindex(*values.shape[1:]):
    labels = tuple(str(axis[at]) for axis, at in zip(axes, index, strict=True))
    yield labels, values[(slice(None), *index)]
