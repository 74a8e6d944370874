"""What memories say: claims, tables, curves and measurements."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jaxlook import stats
from jaxlook.circuits import memories
from jaxlook.circuits import memory_study as study
from jaxlook.circuits.memory_study import agreement_name, ending_name
from jaxlook.reporting.tables import Rows, interval, number
from jaxlook.stats.claims import ABOVE_0, PAIRED, Statement, changes, judged
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL

GEVA = "Geva et al. 2021, arXiv 2012.14913"
OWN = "jaxlook's own"
RANDOM = "random prefixes"
ENDINGS = range(1, study.LONGEST + 1)

SeedValues = dict[int, float]

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
    *(study.LIVE, memories.ACTIVE, memories.EFFECTIVE, memories.COMPOSED),
    *(study.ENTROPY, study.AMONG_CONFIDENT),
  )
}
REFINEMENT_COLUMNS = {
  name: name
  for name in (
    *(memories.RESIDUAL_FINAL, memories.FF_FINAL, memories.BOTH),
    *(memories.RESIDUAL, memories.FF, memories.NEITHER),
  )
}


@dataclasses.dataclass(frozen=True)
class Examined:
  """The models of a variant, and what was found of them.

  Attributes:
    variant: the attention's flag form, or what the models are called.
    seeds: one for each model, [E].
    found: the findings.
  """

  variant: str
  seeds: tuple[int, ...]
  found: study.MemoryResults

  @property
  def layers(self) -> int:
    """Number of layers, L."""
    return self.found.by_layer[study.LIVE].shape[1]

  def at(self, measure: str, layer: int | slice = slice(None)) -> SeedValues:
    """A measure by seed, at a layer or as a mean over layers."""
    values = self.found.by_layer[measure][:, layer]
    means = values.reshape(len(self.seeds), -1).mean(axis=1)
    return dict(zip(self.seeds, map(float, means), strict=True))

  def overall(self, measure: str) -> SeedValues:
    """A measure of all layers together, by seed."""
    values = self.found.overall[measure]
    return dict(zip(self.seeds, map(float, values), strict=True))


def claims(
  found: Sequence[Examined], chance: Mapping[str, float]
) -> list[stats.Claim]:
  """What Geva et al. claim, of causal models; what gradient from later adds.

  Args:
    found: every variant, untrained models among them.
    chance: of endings, from `memory_study.random_patterns`.

  Returns:
    Claims; none from fewer than two seeds, or of layers where there is one.
  """
  by = {each.variant: each for each in found}
  made = _published(by[CAUSAL], chance) if CAUSAL in by else []
  first = agreement_name("first")
  last = "agreement of values with their first triggers in the last layer"
  for id, a, b in (
    ("learned", CAUSAL, "untrained"),
    ("ahead/kv", CAUSAL, KV),
    ("ahead/residual", CAUSAL, RESIDUAL),
  ):
    if a in by and b in by:
      words = f"{last}, {a} minus {b},"
      pair = by[a].at(first, -1), by[b].at(first, -1)
      made.append(_above(id, words, OWN, *pair))
  return judged(made)


def _above(
  id: str, words: str, source: str, a: SeedValues, b: SeedValues
) -> Statement:
  """That the difference a - b of two shares, paired by seed, is above 0."""
  words = f"{words} is above 0"
  return Statement(
    *(id, words, source, "share", changes(a, b), ABOVE_0, PAIRED)
  )


def _published(
  causal: Examined, chance: Mapping[str, float]
) -> list[Statement]:
  """The paper's statements as differences of two measures of causal models."""
  first, last = agreement_name("first"), "agreement in the last layer"
  one, two = ending_name(1, "purity"), ending_name(2, "coverage")
  own, all_layers = causal.at(first, -1), causal.at(first)
  others = causal.at(agreement_name("first", study.OTHERS), -1)
  commonest = causal.at(agreement_name("first", study.COMMONEST), -1)
  confident = causal.overall(study.confident_name("first"))
  by_chance = dict.fromkeys(causal.seeds, chance[two])
  neither, ff = causal.at(memories.NEITHER), causal.at(memories.FF)
  told: list[Statement] = []

  def tell(
    id: str, words: str, where: str | None, a: SeedValues, b: SeedValues
  ):
    source = f"{GEVA}, {where}" if where else OWN
    told.append(_above(id, f"{causal.variant}: {words}", source, a, b))

  words = f"{last} minus that with other neurons' triggers"
  tell("G2/chance", words, "section 4", own, others)
  words = f"{last} minus that of the commonest token"
  tell("G2/commonest", words, None, own, commonest)
  words = "agreement of the most confident tenth minus that of all values"
  tell("G2/confident", words, "figure 6", confident, all_layers)
  words = f"repeated endings of two tokens, mean over layers, minus {RANDOM}"
  tell("G1/endings", words, "section 3", causal.at(two), by_chance)
  words = "output follows neither minus follows the FF, mean over layers,"
  tell("refine/compromise", words, "section 5.2", neither, ff)
  if causal.layers == 1:
    return told
  words = "agreement in the last layer minus the first layer"
  tell("G2/rise", words, "figure 4", own, causal.at(first, 0))
  middle, most = causal.layers // 2, study.AMONG_CONFIDENT
  upper, lower = slice(-middle, None), slice(middle)
  words = "share of most confident values, upper minus lower half of layers,"
  tell(
    "G2/upper",
    words,
    "section 4",
    causal.at(most, upper),
    causal.at(most, lower),
  )
  words = "share of triggers with the commonest last token, first minus last"
  ends = causal.at(one, 0), causal.at(one, -1)
  tell("G1/shallow", f"{words} layer,", "section 3.2", *ends)
  words = f"{memories.RESIDUAL_FINAL}, last minus first layer,"
  final = (causal.at(memories.RESIDUAL_FINAL, layer) for layer in (-1, 0))
  tell("refine/settled", words, "figure 9", *final)
  return told


def layer_table(
  found: Sequence[Examined],
  columns: Mapping[str, str],
  levels: Mapping[str, float] | None = None,
) -> Rows:
  """One row a layer and variant: measures with their 95% t intervals.

  Args:
    found: every variant.
    columns: measures by heading.
    levels: measures of random prefixes; a last row.

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


def differences(found: Sequence[Examined]) -> dict[str, stats.Comparison]:
  """What other variants change of the first one, paired by seed.

  Args:
    found: every variant, the one to compare with first.

  Returns:
    By name: agreement in the last layer, and means over layers; only where two
    seeds are in both.
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


def metrics(each: Examined) -> dict[int, dict[str, float]]:
  """By seed, every measure of every layer, and of all together."""
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
  found: Sequence[Examined], chance: Mapping[str, float]
) -> pa.Table:
  """Every number, one a row.

  Returns:
    Columns variant, seed, layer (null: all together), measure and value. What
    random prefixes share has no seed.
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


def arrays(found: Sequence[Examined], shown: int) -> dict[str, np.ndarray]:
  """Values, and the first triggers of every neuron, by name.

  Args:
    found: every variant.
    shown: triggers to keep.

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
