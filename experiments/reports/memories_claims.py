"""The claims of `memories`, with sources and verdicts."""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxlook import stats
from jaxlook.circuits import memories
from jaxlook.circuits import memory_study as study
from jaxlook.circuits.memory_study import agreement_name, ending_name
from jaxlook.stats.claims import ABOVE_0, PAIRED, Statement, changes, judged
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL

GEVA = "Geva et al. 2021, arXiv 2012.14913"
OWN = "jaxlook's own"
RANDOM = "random prefixes"

SeedValues = dict[int, float]
_Compared = tuple[str, str, str | None, SeedValues, SeedValues]
"""Id and words of a claim, its place in the paper, and the measures a and b."""


@dataclasses.dataclass(frozen=True)
class VariantMemories:
  """The models of a variant, and their results.

  Attributes:
    variant: the variant as in the flag, or another name of the models.
    seeds: one for each model, [E].
    found: the results.
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
  found: Sequence[VariantMemories], chance: Mapping[str, float]
) -> list[stats.Claim]:
  """The claims of Geva et al. on causal models, and what cuts change.

  Args:
    found: the results of every variant, including untrained models.
    chance: measures of random endings, from `memory_study.random_patterns`.

  Returns:
    Claims; none from fewer than two seeds. With one layer there are no claims
    on depth.
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
  """The claim that a - b, two shares paired by seed, is above 0."""
  words = f"{words} is above 0"
  return Statement(
    id=id,
    statement=words,
    source=source,
    unit="share",
    values=changes(a, b),
    bounds=ABOVE_0,
    pairing=PAIRED,
  )


def _published(
  causal: VariantMemories, chance: Mapping[str, float]
) -> list[Statement]:
  """The paper's statements as differences of two measures of causal models."""
  first, last = agreement_name("first"), "agreement in the last layer"
  two = ending_name(2, "coverage")
  own, all_layers = causal.at(first, -1), causal.at(first)
  others = causal.at(agreement_name("first", study.OTHERS), -1)
  commonest = causal.at(agreement_name("first", study.COMMONEST), -1)
  confident = causal.overall(study.confident_name("first"))
  by_chance = dict.fromkeys(causal.seeds, chance[two])
  neither, ff = causal.at(memories.NEITHER), causal.at(memories.FF)
  made = [
    (
      "G2/chance",
      f"{last} minus that with other neurons' triggers",
      "section 4",
      own,
      others,
    ),
    (
      "G2/commonest",
      f"{last} minus that of the commonest token",
      None,
      own,
      commonest,
    ),
    (
      "G2/confident",
      "agreement of the most confident tenth minus that of all values",
      "figure 6",
      confident,
      all_layers,
    ),
    (
      "G1/endings",
      f"repeated endings of two tokens, mean over layers, minus {RANDOM}",
      "section 3",
      causal.at(two),
      by_chance,
    ),
    (
      "refine/compromise",
      "share of outputs that follow neither minus share that follow the FF,"
      " mean over layers,",
      "section 5.2",
      neither,
      ff,
    ),
  ]
  if causal.layers > 1:
    made += _by_depth(causal)
  return [
    _above(
      id,
      f"{causal.variant}: {words}",
      f"{GEVA}, {where}" if where else OWN,
      a,
      b,
    )
    for id, words, where, a, b in made
  ]


def _by_depth(causal: VariantMemories) -> list[_Compared]:
  """The paper's claims on upper and lower layers."""
  first, one = agreement_name("first"), ending_name(1, "purity")
  most, final = study.AMONG_CONFIDENT, memories.RESIDUAL_FINAL
  middle = causal.layers // 2
  upper, lower = slice(-middle, None), slice(middle)
  return [
    (
      "G2/rise",
      "agreement in the last layer minus the first layer",
      "figure 4",
      causal.at(first, -1),
      causal.at(first, 0),
    ),
    (
      "G2/upper",
      "share of most confident values, upper minus lower half of layers,",
      "section 4",
      causal.at(most, upper),
      causal.at(most, lower),
    ),
    (
      "G1/shallow",
      "share of triggers with the commonest last token, first"
      " minus last layer,",
      "section 3.2",
      causal.at(one, 0),
      causal.at(one, -1),
    ),
    (
      "refine/settled",
      f"{final}, last minus first layer,",
      "figure 9",
      causal.at(final, -1),
      causal.at(final, 0),
    ),
  ]
