"""The tables of `skip_trigrams`: listed entries, bugs and copying scores."""

import json
from collections.abc import Callable, Sequence

import numpy as np

from experiments.reports import skip_trigrams_claims
from jaxlook import stats
from jaxlook.circuits.trigram_check import TrigramPlan, TrigramResults
from jaxlook.reporting.tables import (
  Rows,
  comparison_table,
  measure_table,
  number,
)

Show = Callable[[Sequence[int]], list[str]]

_COMPARED = (
  skip_trigrams_claims.LOSS,
  skip_trigrams_claims.LISTED,
  skip_trigrams_claims.POOLED,
  skip_trigrams_claims.RANK_DRAWN,
  skip_trigrams_claims.FORCED,
  skip_trigrams_claims.COPYING,
)
_SHOWN = 4
_BUGS = 12


def tables(
  plan: TrigramPlan, found: Sequence[TrigramResults], untrained: str, show: Show
) -> dict[str, Rows]:
  """The summaries, their differences, and entries of the first model.

  Args:
    plan: the text and the drawn skip-trigrams.
    found: the results of every variant, the main one first.
    untrained: the name of the control among them.
    show: gives the text of each token.

  Returns:
    Rows by title.
  """
  values = skip_trigrams_claims.measures(plan, found)
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


def _copying_table(found: TrigramResults) -> Rows:
  heads = found.copying.shape[1]
  rows = [["seed", *(f"head {head}" for head in range(heads)), "above 0"]]
  for seed, scores in zip(found.seeds, found.copying, strict=True):
    positive = f"{int((scores > 0).sum())} of {heads}"
    rows.append([str(seed), *(f"{score:.2f}" for score in scores), positive])
  return rows


def _listed_table(plan: TrigramPlan, found: TrigramResults, show: Show) -> Rows:
  """The strongest testable entry of every head and source."""
  listed, counts = found.listed[0], found.counts[0]
  rows = [
    [
      *("head", "skip-trigram", "QK: attention", "OV: logits", "effect"),
      *("P after destination", "source earlier, too", "lift", "times"),
    ]
  ]
  shape = (-1, plan.scale.sources, plan.scale.entries**2)
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


def _bug_table(plan: TrigramPlan, found: TrigramResults, show: Show) -> Rows:
  """The strongest bugs, one for each head and source."""
  listed, counts = found.listed[0], found.counts[0]
  bugs = skip_trigrams_claims.found_bugs(plan, found, 0)
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
