"""The report of `memories`: notes, cells, measurements and arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.common.results_writer import Results, seed_cells
from experiments.common.study import Study
from experiments.common.trained_models import Subject, diverged_seeds
from experiments.reports.memories_claims import (
  RANDOM,
  VariantMemories,
  claims,
)
from experiments.reports.memories_figures import drawings
from experiments.reports.memories_tables import SHOWN, Show, tables
from jaxlook import numerals
from jaxlook.circuits import memory_study as study
from jaxlook.circuits.memory_study import (
  StreamedText,
)
from jaxlook.circuits.memory_triggers import REPEATED
from jaxlook.models import DecoderConfig
from jaxlook.reporting.tables import number


def results(
  about: Study,
  subjects: Sequence[Subject],
  found: Sequence[VariantMemories],
  text: StreamedText,
  setup: study.MemorySetup,
  show: Show,
) -> Results:
  """Collects tables, figures, claims and measurements.

  Args:
    about: what was studied.
    subjects: the trained models.
    found: the results of every variant and of untrained models.
    text: the text that the models read.
    setup: how much was read and kept.
    show: gives the text of each token.

  Returns:
    The results to write.
  """
  chance = study.random_patterns(text, setup.top)
  seeds = numerals.counted(len(subjects[0].seeds), "seed")
  labels = about.labels(f"{seeds}, mean and 95% t band")
  return Results(
    name=about.name,
    title=about.title,
    setup=about.setup,
    notes=notes(text, setup, about.problem.model),
    figures=drawings(found, chance, **labels),
    tables=tables(found, text, chance, show),
    claims=claims(found, chance),
    cells=seed_cells(
      {each.variant: metrics(each) for each in found},
      diverged_seeds(subjects),
    ),
    measurements=measurements(found, chance),
    arrays=arrays(found, SHOWN),
  )


def metrics(each: VariantMemories) -> dict[int, dict[str, float]]:
  """Every measure by layer, and of all layers together, by seed."""
  named = {
    f"{measure}/layer{layer}": each.at(measure, layer)
    for measure in each.found.by_layer
    for layer in range(each.layers)
  } | {measure: each.overall(measure) for measure in each.found.overall}
  return {
    seed: {name: values[seed] for name, values in named.items()}
    for seed in each.seeds
  }


def measurements(
  found: Sequence[VariantMemories], chance: Mapping[str, float]
) -> pa.Table:
  """Every number, one per row.

  Returns:
    Columns variant, seed, layer (null: all layers together), measure and value.
    Rows of random prefixes have no seed.
  """
  rows: list[tuple[Any, ...]] = []
  for each in found:
    for measure, values in each.found.by_layer.items():
      for (e, layer), value in np.ndenumerate(values):
        where = (each.variant, each.seeds[e], layer)
        rows.append((*where, measure, float(value)))
    for measure, values in each.found.overall.items():
      for e, value in enumerate(values):
        where = (each.variant, each.seeds[e], None)
        rows.append((*where, measure, float(value)))
  rows += [(RANDOM, None, None, *item) for item in chance.items()]
  names = "variant seed layer measure value".split()
  columns = map(list, zip(*rows, strict=True))
  return pa.table(dict(zip(names, columns, strict=True)))


def arrays(
  found: Sequence[VariantMemories], shown: int
) -> dict[str, np.ndarray]:
  """Values, and the first triggers of every neuron, by name.

  Args:
    found: the results of every variant.
    shown: how many triggers to keep.

  Returns:
    "VARIANT: NAME", each [E, L, F, ...]; see `memory_study.MemoryResults`.
  """
  kept = {}
  for each in found:
    triggers, values = each.found.triggers, each.found.values
    for name, array in triggers._asdict().items():
      kept[f"{each.variant}: trigger {name}"] = array[..., :shown]
    for name, array in values._asdict().items():
      kept[f"{each.variant}: value {name}"] = array
  return kept


def notes(
  text: StreamedText, setup: study.MemorySetup, config: DecoderConfig
) -> list[str]:
  """How to read the tables.

  Args:
    text: the text that the models read.
    setup: how much was read and kept.
    config: the models' shape.

  Returns:
    Paragraphs.
  """
  windows, length = np.shape(text.following)
  counted = int(np.sum(text.counted))
  return [
    f"Triggers are the {setup.top} prefixes with the largest coefficients. The"
    f" text has {counted} different prefixes, in {windows} held-out windows of"
    f" {length} tokens. Every prefix from a window's start counts; equal"
    " prefixes count once. The paper uses prefixes of training sentences.",
    "Coefficients are activations after the nonlinearity"
    f" ({config.activation}). A memory is active where its coefficient is above"
    " 0; it is live if it is active anywhere. The effective number is"
    " (sum w)^2 / sum w^2 with w = (coefficient |value|)^2.",
    "Agreement is about the most probable token of a live neuron's value: the"
    " share of neurons for which it follows the first trigger (the paper's"
    " rate), the mean of this share over all k triggers, or the share of"
    " neurons for which it follows any of them. 'Others' is the same with"
    " another neuron's triggers, the mean over all pairs in the layer. The"
    " commonest token is that of the text, the same for all neurons. Ranks go"
    " from 0, most probable, to 1, least probable.",
    "Endings: coverage is the share of a neuron's triggers that end in the same"
    f" n tokens as at least {REPEATED - 1} others. Number is how many such"
    " endings there are. Purity is the share of the commonest ending. The"
    " paper's experts name patterns of any kind; endings are the kind that can"
    " be counted.",
    "A value's probabilities are softmax(value W_U), with the final LayerNorm's"
    " gain and centring folded into W_U. They are not calibrated, as in the"
    " paper, because the coefficient scales what a value adds. The uniform"
    f" probability is {number(1 / (config.vocab_size or 1))}.",
  ]
