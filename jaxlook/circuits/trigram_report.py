"""What skip-trigrams say: tables, panels and claims."""

import json
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxlook import stats
from jaxlook.ablation import CAUSAL, KV, RESIDUAL, source_of
from jaxlook.circuits import trigram_check as check
from jaxlook.circuits.trigram_check import Checked, Plan
from jaxlook.figures import Curves, Scatter
from jaxlook.report import Rows, comparison_table, measure_table, number

Show = Callable[[Sequence[int]], list[str]]
Measures = Mapping[str, Mapping[str, Mapping[int, float]]]

_SOURCE = "Elhage et al. 2021, transformer-circuits.pub/2021/framework"
_OWN = "jaxlook's own"
_POSITIVE = math.nextafter(0.0, 1.0)
_BALANCED = 0.1
_CUT = 2.0
_COMPARED = (
  *(check.LOSS, check.LISTED, check.POOLED, check.RANK_DRAWN),
  *(check.FORCED, check.COPYING),
)
_SHOWN = 6
_BUGS = 12


def measures(plan: Plan, found: Sequence[Checked]) -> Measures:
  """The summaries by measure, variant and seed.

  Args:
    plan: what was listed.
    found: what was found of every variant.

  Returns:
    The numbers of `trigram_check.metrics`, measures first.
  """
  of = {each.variant: check.metrics(plan, each) for each in found}
  return {
    name: {
      variant: {
        seed: values[name] for seed, values in by_seed.items() if name in values
      }
      for variant, by_seed in of.items()
    }
    for name in check.MEASURES
  }


def tables(
  plan: Plan, found: Sequence[Checked], untrained: str, show: Show
) -> dict[str, Rows]:
  """The summaries, their differences, and what the first model says.

  Args:
    plan: what was listed.
    found: what was found of every variant, the main one first.
    untrained: the name of the control among them.
    show: the text of tokens.

  Returns:
    Rows by title.
  """
  values = measures(plan, found)
  shown = {"Skip-trigrams and the text": measure_table(values)}
  first, *others = (each.variant for each in found)
  pairs = [(first, other) for other in others if other != untrained]
  if untrained in others:
    trained = [first, *others]
    trained.remove(untrained)
    pairs += [(variant, untrained) for variant in trained]
  compared = {
    f"{name}: {a} - {b}": stats.compare(values[name][a], values[name][b])
    for name in _COMPARED
    for a, b in pairs
    if len(values[name][a].keys() & values[name][b].keys()) >= 2
  }
  if compared:
    shown["Paired differences"] = comparison_table(compared)
  of = f"{first}, seed {found[0].seeds[0]}"
  shown[f"Copying scores, {first}"] = _copying_table(found[0])
  shown[f"Strongest skip-trigrams of every head, {of}"] = _listed_table(
    plan, found[0], show
  )
  shown[f"Bugs: forced by two true entries, never true, {of}"] = _bug_table(
    plan, found[0], show
  )
  return shown


def claims(plan: Plan, found: Sequence[Checked], untrained: str):
  """Copying, truth of the tables, and what the future had to ask for.

  Args:
    plan: what was listed.
    found: what was found of every variant.
    untrained: the name of the control among them.

  Returns:
    Claims; none from fewer than two seeds.
  """
  values = measures(plan, found)
  claimed: list[stats.Claim] = []

  def claim(id, statement, source, measure, first, second=None, **bounds):
    a, b = values[measure].get(first, {}), values[measure].get(second or "", {})
    if second is None and len(a) >= 2:
      evidence: stats.Interval = stats.mean_interval(list(a.values()))
    elif len(a.keys() & b.keys()) >= 2:
      evidence = stats.compare(a, b)
    else:
      return
    unit = "logits" if measure == check.EFFECT else "score"
    unit = "share" if measure in (check.POSITIVE, check.FORCED) else unit
    statement = f"{measure}: {statement}"
    claimed.append(stats.claim(id, statement, source, unit, evidence, **bounds))

  claim(
    *("E1/majority", f"{CAUSAL}'s is above 0.5 (published: 10 of 12)"),
    *(_SOURCE, check.POSITIVE, CAUSAL),
    low=math.nextafter(0.5, 1.0),
  )
  claim(
    *("E1/learned", f"{CAUSAL} minus {untrained} is above 0"),
    *(_OWN, check.COPYING, CAUSAL, untrained),
    low=_POSITIVE,
  )
  claim(
    *("E1/untrained", f"{untrained}'s lies in -{_BALANCED}..{_BALANCED}"),
    *(_OWN, check.COPYING, untrained),
    low=-_BALANCED,
    high=_BALANCED,
  )
  # The control of the same tokens is another measure of the same models.
  listed, mixed = (
    values[name].get(CAUSAL, {}) for name in (check.POOLED, check.POOLED_MIXED)
  )
  if len(listed.keys() & mixed.keys()) >= 2:
    claimed.append(
      stats.claim(
        "trigrams/true",
        f"lift of all entries under {CAUSAL}, listed minus the same tokens in"
        " random combinations, is above 0",
        _SOURCE,
        "log2",
        stats.compare(listed, mixed),
        low=_POSITIVE,
      )
    )
  claim(
    *("trigrams/rank", f"{CAUSAL}'s is above 0"),
    *(_SOURCE, check.RANK_DRAWN, CAUSAL),
    low=_POSITIVE,
  )
  claim(
    *("trigrams/bugs", f"{CAUSAL}'s is above 0"),
    *(_SOURCE, check.FORCED, CAUSAL),
    low=_POSITIVE,
  )
  for id, variant in (("residual", RESIDUAL), ("kv", KV)):
    claim(
      *(f"asked/{id}", f"{CAUSAL} minus {variant} is above 0"),
      *(source_of("kv", _OWN).split(";")[0], check.RANK_DRAWN, CAUSAL, variant),
      low=_POSITIVE,
    )
  return claimed


def panels(
  plan: Plan, found: Sequence[Checked]
) -> list[list[Curves | Scatter]]:
  """Both parts of the first model's table, and how true all models' are.

  Args:
    plan: what was listed.
    found: what was found of every variant.

  Returns:
    Two rows of two panels.
  """
  first, counts = found[0].listed[0], found[0].counts[0]
  sure = counts.testable
  return [
    [
      Scatter(
        title=f"Skip-trigrams listed of {found[0].variant}, one seed",
        x=first.look[sure],
        y=first.write[sure],
        values=np.clip(np.log2(counts.lift[sure]), -_CUT, _CUT),
        xlabel="QK part: attention of the destination to the source",
        ylabel="OV part: rise of the output's logit",
        unit=f"log2 of the lift in the text, cut at {_CUT:g}",
      ),
      Curves(
        title="Entries that hold in the text: lift above 1",
        x=["listed", "random combinations"],
        xlabel="the same tokens, as in the table or not",
        ylabel="share of those that the text can tell of",
        curves={
          each.variant: np.array(
            [
              [check.share_above(one) for one in each.counts],
              [check.share_above(one) for one in each.mixed],
            ]
          )
          for each in found
        },
        scale="steps",
      ),
    ],
    [_calibration(plan, found), _copying_curves(found)],
  ]


def _calibration(plan: Plan, found: Sequence[Checked]) -> Curves:
  """The text's lift along the models' effect, in tenths."""

  def by_tenth(effect: np.ndarray) -> list[float]:
    tenths = np.array_split(np.argsort(effect, kind="stable"), 10)
    return [plan.counts.some(tenth).pooled() for tenth in tenths]

  return Curves(
    title="Skip-trigrams drawn from the text",
    x=np.arange(1, 11),
    xlabel="tenth, by the effect in the model",
    ylabel="lift of the tenth in the text",
    curves={
      each.variant: np.array([by_tenth(one) for one in each.drawn]).T
      for each in found
    },
    levels={"no lift": 1.0},
    scale="steps",
  )


def _copying_curves(found: Sequence[Checked]) -> Curves:
  return Curves(
    title="Copying scores of the heads",
    x=np.arange(1, found[0].copying.shape[1] + 1),
    xlabel="head, by its score in its model",
    ylabel="sum of eigenvalues / sum of their moduli",
    curves={each.variant: -np.sort(-each.copying, axis=1).T for each in found},
    levels={"balanced": 0.0},
    scale="steps",
  )


def _copying_table(found: Checked) -> Rows:
  heads = found.copying.shape[1]
  rows = [["seed", *(f"head {head}" for head in range(heads)), "above 0"]]
  for seed, scores in zip(found.seeds, found.copying, strict=True):
    positive = f"{int((scores > 0).sum())} of {heads}"
    rows.append([str(seed), *(f"{score:.2f}" for score in scores), positive])
  return rows


def _listed_table(plan: Plan, found: Checked, show: Show) -> Rows:
  """For every head and source, the strongest entry that the text tells of."""
  listed, counts = found.listed[0], found.counts[0]
  rows = [
    [
      *("head", "skip-trigram", "QK: attention", "OV: logits", "effect"),
      *("P after destination", "source earlier, too", "lift", "times"),
    ]
  ]
  shape = (-1, plan.sources, plan.entries**2)
  effect = np.where(counts.testable, listed.effect, -np.inf).reshape(shape)
  index = np.arange(effect.size).reshape(shape)
  best = np.take_along_axis(index, effect.argmax(axis=2)[..., None], axis=2)
  for head, of_head in enumerate(best[..., 0]):
    of_head = of_head[counts.testable[of_head]]
    ranked = of_head[np.argsort(-listed.effect[of_head], kind="stable")]
    for at in ranked[:_SHOWN]:
      words = quoted(
        show, (listed.source[at], listed.destination[at], listed.output[at])
      )
      shown = (listed.look, listed.write, listed.effect)
      shown += (counts.base, counts.rate, counts.lift)
      rows.append(
        [
          str(head),
          words,
          *(number(float(x[at])) for x in shown),
          str(counts.true[at]),
        ]
      )
  return rows


def _bug_table(plan: Plan, found: Checked, show: Show) -> Rows:
  """The strongest forced entries, one for each head and source."""
  listed, counts = found.listed[0], found.counts[0]
  bugs = check.found_bugs(plan, found, 0)
  rows = [
    [
      *("head", "true", "true as well", "so it must say", "effect"),
      "times true, of",
    ]
  ]
  told = set()
  for each in zip(*bugs, strict=True):
    forced = each[0]
    of = (int(listed.head[forced]), int(listed.source[forced]))
    if of in told or len(told) == _BUGS:
      continue
    told.add(of)
    first, second, third = (
      quoted(
        show, (listed.source[at], listed.destination[at], listed.output[at])
      )
      for at in (each[1], each[2], forced)
    )
    rows.append(
      [
        *(str(of[0]), first, second, third, number(listed.effect[forced])),
        f"{counts.true[forced]} of {counts.seen[forced]}",
      ]
    )
  return rows


def quoted(show: Show, trigram: Sequence[int]) -> str:
  """A skip-trigram for a Markdown table: every token in quotes, as code."""
  source, destination, output = (
    json.dumps(text, ensure_ascii=False).replace("|", "\\|")
    for text in show([int(token) for token in trigram])
  )
  text = f"{source} ... {destination} → {output}"
  fence = "``" if "`" in text else "`"
  return f"{fence}{text}{fence}"
