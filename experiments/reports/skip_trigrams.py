"""The report of `skip_trigrams`: notes, cells and the figure."""

from collections.abc import Sequence

import numpy as np

from experiments.common.results_writer import Drawing, Results, seed_cells
from experiments.common.study import Study
from experiments.common.trained_models import (
  UNTRAINED,
  Subject,
  diverged_seeds,
)
from experiments.reports.skip_trigrams_claims import (
  claims,
  metrics,
  share_above,
)
from experiments.reports.skip_trigrams_tables import Show, tables
from jaxlook.circuits.trigram_check import TrigramPlan, TrigramResults
from jaxlook.numerals import counted
from jaxlook.reporting import figures
from jaxlook.reporting.figures import Curves, Scatter

_CUT = 2.0
NOTES = (
  "An entry's effect is its QK part times its OV part. The QK part is the"
  " attention from the destination to the source among half a window of typical"
  " tokens. The OV part is the rise of the output's logit for an attention of"
  " 1. For each head and each of its strongest sources, the list has the"
  " strongest destinations combined with the strongest outputs. The weights"
  " choose them, not the text. A source is never its own destination, because a"
  " head that attends to the token itself makes bigrams.",
  "The lift is how often an entry is true in the text over how often it would"
  " be true if the source did not matter; for single entries 1 is added to"
  " both. The text can tell whether an entry is true if at least five events"
  " are expected. For many entries it cannot, because a head does not know"
  " which outputs follow a destination; the direct path does. Random"
  " combinations use the same sources, destinations and outputs.",
  "Each verdict is for one claim alone. The table of paired differences adjusts"
  " its p-values for the number of its rows.",
  "A bug is an entry that never occurs in the counted text, although its"
  " destination comes after its source at least 100 times. Two true entries of"
  " the same source force it on the head: one has its destination, the other"
  " its output. The direct path can compensate for it in the logits.",
  "If positive and negative eigenvalues balance, the copying score is 0. A"
  " positive score does not prove copying, because the eigenvectors need not be"
  " orthogonal.",
)
_FIGURE = "skip_trigrams.png"


def results(
  study: Study,
  subjects: Sequence[Subject],
  plan: TrigramPlan,
  found: Sequence[TrigramResults],
  show: Show,
) -> Results:
  """Collects tables, figure, claims and cells.

  Args:
    study: what was studied.
    subjects: the models, untrained ones last.
    plan: the text and the drawn skip-trigrams.
    found: the results of each.
    show: gives the text of each token.

  Returns:
    The results to write.
  """
  labels = study.labels(counted(len(subjects[0].seeds), "seed"))
  return Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    notes=NOTES,
    figures={
      _FIGURE: Drawing(
        lambda path: figures.panels_figure(path, panels(plan, found), **labels),
        "Above: the entries of one model's heads, and the share of entries that"
        " are true in the text. Below: lift in the text by effect in the model,"
        " and copying scores. Mean and 95% t interval over seeds.",
      )
    },
    tables=tables(plan, found, UNTRAINED, show),
    claims=claims(plan, found, UNTRAINED),
    cells=seed_cells(
      {each.variant: metrics(plan, each) for each in found},
      diverged_seeds(subjects),
    ),
  )


def panels(
  plan: TrigramPlan, found: Sequence[TrigramResults]
) -> list[list[Curves | Scatter]]:
  """The parts of one model's entries, and how true all models' entries are.

  Args:
    plan: the text and the drawn skip-trigrams.
    found: the results of every variant.

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
        title="Entries that are true in the text: lift above 1",
        x=["listed", "random combinations"],
        xlabel="the same tokens, as listed or combined at random",
        ylabel="share of the entries that can be tested",
        curves={
          each.variant: np.array(
            [
              [share_above(one) for one in each.counts],
              [share_above(one) for one in each.mixed],
            ]
          )
          for each in found
        },
        scale="steps",
      ),
    ],
    [_calibration(plan, found), _copying_curves(found)],
  ]


def _calibration(plan: TrigramPlan, found: Sequence[TrigramResults]) -> Curves:
  """The lift in the text by tenths of the effect in the model."""

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


def _copying_curves(found: Sequence[TrigramResults]) -> Curves:
  return Curves(
    title="Copying scores of the heads",
    x=np.arange(1, found[0].copying.shape[1] + 1),
    xlabel="head, sorted by its score",
    ylabel="sum of eigenvalues / sum of |eigenvalues|",
    curves={each.variant: -np.sort(-each.copying, axis=1).T for each in found},
    levels={"balanced": 0.0},
    scale="steps",
  )
