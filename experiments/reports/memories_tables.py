"""Memories as tables: measures by layer, and triggers as text."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.common.trained_models import UNTRAINED
from experiments.reports.memories_claims import (
  RANDOM,
  SeedValues,
  VariantMemories,
)
from jaxlook import reporting, stats
from jaxlook.circuits import memories
from jaxlook.circuits import memory_study as study
from jaxlook.circuits.memory_study import (
  MemoryResults,
  StreamedText,
  agreement_name,
  ending_name,
)
from jaxlook.reporting.tables import Rows, code, interval, number

Show = Callable[[Sequence[int]], list[str]]

ENDINGS = range(1, study.LONGEST + 1)
_TAIL = 32  # Characters of a prefix that are shown.
_ROWS = 8  # Neurons in a table of values.
SHOWN = 3  # Triggers of each neuron that are shown and kept.

_OVER_LAYERS = (
  ending_name(2, "coverage"),
  memories.ACTIVE,
  memories.RESIDUAL_FINAL,
)

AGREEMENT_COLUMNS = {
  "first trigger": agreement_name("first"),
  "others' first": agreement_name("first", study.OTHERS),
  "commonest token": agreement_name("first", study.COMMONEST),
  "mean of k": agreement_name("mean"),
  "others' mean": agreement_name("mean", study.OTHERS),
  "any of k": agreement_name("any"),
  "others' any": agreement_name("any", study.OTHERS),
  "rank": study.RANK,
  "others' rank": study.RANK_OTHERS,
}
PATTERN_COLUMNS = {
  f"last {n}: {name}": ending_name(n, name)
  for n in ENDINGS
  for name in ("coverage", "number", "purity")
}
ACTIVITY_COLUMNS = {
  name: name
  for name in (
    study.LIVE,
    memories.ACTIVE,
    memories.EFFECTIVE,
    memories.COMPOSED,
    study.ENTROPY,
    study.AMONG_CONFIDENT,
  )
}
REFINEMENT_COLUMNS = {
  name: name
  for name in (
    memories.RESIDUAL_FINAL,
    memories.FF_FINAL,
    memories.BOTH,
    memories.RESIDUAL,
    memories.FF,
    memories.NEITHER,
  )
}


def tables(
  found: Sequence[VariantMemories],
  text: StreamedText,
  chance: Mapping[str, float],
  show: Show,
) -> dict[str, Rows]:
  """All tables.

  Args:
    found: the results of every variant, the one to compare with first.
    text: the text that contains the triggers.
    chance: the endings that random prefixes share.
    show: gives the text of each token.

  Returns:
    Rows by title.
  """
  shown = {
    "Agreement of values with the tokens that follow their triggers": (
      layer_table(found, AGREEMENT_COLUMNS)
    ),
    "Endings that triggers share": layer_table(found, PATTERN_COLUMNS, chance),
    "Activity": layer_table(found, ACTIVITY_COLUMNS),
    "How the output token comes about": layer_table(found, REFINEMENT_COLUMNS),
  }
  if paired := differences(found):
    shown["Paired differences, means over layers if no layer is named"] = (
      reporting.comparison_table(paired)
    )
  for each in found:
    if each.variant != UNTRAINED:
      title = f"Most confident values, {each.variant}, seed {each.seeds[0]}"
      shown[title] = value_table(
        each.found, text, show, seed=0, rows=_ROWS, shown=SHOWN
      )
  return shown


def layer_table(
  found: Sequence[VariantMemories],
  columns: Mapping[str, str],
  levels: Mapping[str, float] | None = None,
) -> Rows:
  """One row per layer and variant: measures with their 95% t intervals.

  Args:
    found: the results of every variant.
    columns: measures by heading.
    levels: measures of random prefixes, for a last row.

  Returns:
    A header and the rows.
  """
  rows = [["layer", "variant", *columns, "n"]]
  for layer in range(found[0].layers):
    for each in found:
      cells = [_mean(each.at(name, layer)) for name in columns.values()]
      rows.append([str(layer), each.variant, *cells, str(len(each.seeds))])
  if levels is not None:
    cells = [number(levels[name]) for name in columns.values()]
    rows.append(["-", RANDOM, *cells, "-"])
  return rows


def _mean(by_seed: SeedValues) -> str:
  values = list(by_seed.values())
  if len(values) < 2:
    return number(values[0])
  found = stats.mean_interval(values)
  return f"{number(found.estimate)} {interval(found.ci95)}"


def differences(
  found: Sequence[VariantMemories],
) -> dict[str, stats.Comparison]:
  """Differences between the first variant and each other, paired by seed.

  Args:
    found: the results of every variant, the one to compare with first.

  Returns:
    Comparisons by name: agreement in the last layer, and means over layers;
    only those with at least two common seeds.
  """
  base, compared = found[0], {}
  for label, measure, layer in (
    ("agreement, first trigger, last layer", agreement_name("first"), -1),
    ("agreement, mean of k, last layer", agreement_name("mean"), -1),
    ("rank of the next token, last layer", study.RANK, -1),
    *((measure, measure, slice(None)) for measure in _OVER_LAYERS),
  ):
    for each in found[1:]:
      if len(set(base.seeds) & set(each.seeds)) >= 2:
        compared[f"{label}: {base.variant} - {each.variant}"] = stats.compare(
          base.at(measure, layer), each.at(measure, layer)
        )
  return compared


def value_table(
  found: MemoryResults,
  text: StreamedText,
  show: Show,
  *,
  seed: int,
  rows: int,
  shown: int,
) -> Rows:
  """The most confident values of one model, with their triggers.

  Args:
    found: the results of a variant's models.
    text: the text that contains the triggers.
    show: gives the text of each token.
    seed: index of the model on the seed axis.
    rows: how many neurons to show, the most confident first.
    shown: how many triggers of each neuron to show.

  Returns:
    A header and the rows. A trigger is the end of its prefix, an arrow, the
    token that follows it in the text, and the coefficient.
  """
  inputs = np.asarray(text.inputs).reshape(-1, text.inputs.shape[-1])
  values, triggers = found.values, found.triggers
  confidence = np.where(
    np.asarray(triggers.coefficient)[seed, ..., 0] > 0.0,
    np.asarray(values.probability)[seed, ..., 0],
    -np.inf,
  )
  order = np.argsort(-confidence, axis=None, kind="stable")[:rows]
  head = ["layer", "neuron", "value's tokens", "follow it, of k"]
  table = [[*head, *(f"trigger {n + 1}" for n in range(shown))]]
  for place in order:
    layer, neuron = np.unravel_index(place, confidence.shape)
    if confidence[layer, neuron] == -np.inf:
      break
    at = (seed, layer, neuron)
    best = zip(values.token[at], values.probability[at], strict=True)
    fired = np.asarray(triggers.coefficient[at]) > 0.0
    follow = found.following[at][fired] == values.token[at][0]
    cells = [
      _trigger(found, inputs, show, at, k)
      for k in range(min(shown, int(fired.sum())))
    ]
    table.append(
      [
        str(layer),
        str(neuron),
        ", ".join(
          f"{code(_name(show, t))} {number(float(p))}" for t, p in best
        ),
        f"{int(follow.sum())}/{len(follow)}",
        *cells,
        *["-"] * (shown - len(cells)),
      ]
    )
  return table


def _trigger(
  found: MemoryResults,
  inputs: np.ndarray,
  show: Show,
  at: tuple[int, np.intp, np.intp],
  k: int,
) -> str:
  """Trigger number k of a neuron: its end, the next token, the coefficient."""
  triggers = found.triggers
  window, position = triggers.window[at][k], triggers.position[at][k]
  before = "".join(show(inputs[window, : position + 1].tolist()))
  after = _name(show, found.following[at][k])
  return (
    f"{code(before, _TAIL)} → {code(after)}"
    f" ({number(float(triggers.coefficient[at][k]))})"
  )


def _name(show: Show, token: np.integer) -> str:
  """A token's text, or its id if the tokenizer does not use it."""
  return show([int(token)])[0] or f"#{token}"
