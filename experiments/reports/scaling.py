"""The report of `scaling`: claims, tables and the figure."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.common.model_sizes import SAME_START
from experiments.common.results_writer import Drawing, Results
from experiments.common.study import Study
from experiments.common.text_setup import BIGRAM
from experiments.reports import ngram_notes
from experiments.setups.scaling_setup import Points
from jaxlook import reporting, stats
from jaxlook.lookahead import scaling
from jaxlook.lookahead.scaling import MEASURES, SizeSweep
from jaxlook.reporting import figures
from jaxlook.stats.claims import ABOVE_0, PAIRED, Statement, judged
from jaxlook.stats.myopia_gap import CAUSAL, by_variant, diverged, source_of
from jaxlook.training import FinishedArm

WU = "Wu et al. 2024, arXiv 2404.00859, section 5"
OURS = "jaxlook's own; not measured before, as far as we found"
UNIT = "nats/token"
NOTES = (
  "A model that does not beat bigram counts need not use more than the last"
  " token. Then a cut costs it little, so growth of the gap from such a point"
  " may only show that larger models begin to use context.",
  "A slope is the slope of a straight line through a seed's values over log10"
  " of the horizontal axis: nats/token for ten times as much. Its interval is"
  " over seeds at these points and does not hold beyond them. The power law is"
  " fitted to logarithms, so its distance cannot be compared with the line's. A"
  " seed with a value that is not above 0 has no power law.",
  "The published line is fitted to training losses. Our training losses at the"
  " end are means over the last steps, one row of the loss history. Claims,"
  " fits and the figure use held-out losses.",
)
CAPTION = (
  "Differences of held-out losses, paired by seed: mean and 95% t band over"
  " seeds. Lines only connect the points; they are not fits."
)
_FIGURE = "scaling.png"
_TITLES = {
  scaling.GAP: "myopic/residual - causal",
  scaling.STRICT_GAP: "myopic/kv - causal",
  scaling.BONUS: "causal - local, residual",
}


def results(
  study: Study,
  swept: Points,
  arms: Sequence[FinishedArm],
  counts: Mapping[str, float],
) -> Results:
  """Collects tables, figure and claims on all points.

  Args:
    study: what was trained.
    swept: the points.
    arms: all arms of all points.
    counts: the held-out losses of baselines by counting.

  Returns:
    The results to write.
  """
  cells = [cell for arm in arms for cell in arm.cells]
  names = tuple(problem.setting for problem in swept.problems)
  sweep = SizeSweep(
    swept.axis,
    names,
    np.array([swept.x[name] for name in names], np.float64),
    {name: by_variant(cells, "loss", name) for name in names},
  )
  return Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    notes=(
      *ngram_notes.notes(sweep.losses, counts),
      *NOTES,
      _training_note(swept),
    ),
    figures={
      _FIGURE: Drawing(
        lambda path: figure(path, sweep, title=study.title, setup=study.setup),
        CAPTION,
      )
    },
    tables=tables(
      sweep,
      training_losses(sweep, arms),
      {name: diverged(cells, name) for name in names},
      counts,
    ),
    claims=claims(sweep, counts[BIGRAM]),
    cells=cells,
  )


def training_losses(sweep: SizeSweep, arms: Sequence[FinishedArm]) -> SizeSweep:
  """The sweep with the training losses of the last steps.

  Args:
    sweep: the held-out losses.
    arms: all arms of all points.

  Returns:
    Losses of the seeds that did not diverge.
  """
  losses: dict[str, dict[str, dict[int, float]]] = {
    name: {} for name in sweep.names
  }
  for arm in arms:
    seeds = [cell["seed"] for cell in arm.cells]
    losses[arm.setting][arm.variant] = {
      seed: float(loss)
      for seed, loss in zip(seeds, arm.losses[-1], strict=True)
      if np.isfinite(loss)
    }
  return dataclasses.replace(sweep, losses=losses)


def _training_note(swept: Points) -> str:
  """How learning rates and starts differ between points."""
  rates = {each.train.learning_rate for each in swept.problems}
  note = (
    "All points have the same learning rate."
    if len(rates) == 1
    else "The setup above gives the learning rate of each size."
  )
  if swept.problems[0].start is not None:
    note = f"{note} {SAME_START}"
  return note


def claims(sweep: SizeSweep, bigram: float) -> list[stats.Claim]:
  """Gap and bonus are positive at every point, and grow along the sweep.

  Args:
    sweep: the losses.
    bigram: the held-out loss of bigram counts.

  Returns:
    The claims with at least two seeds.
  """
  made = []
  for measure in MEASURES:
    kind, stop = measure.split("/")
    values = sweep.values(measure)
    # Published is only that the gap grows with size; the published bonus is of
    # one size.
    along_size = kind == "gap" and "parameters" in sweep.axis
    made += [
      Statement(
        f"{measure}/grows",
        f"the {kind} grows with {sweep.axis}: its slope for ten times as much"
        " is above 0",
        source_of(stop, WU) if along_size else OURS,
        f"{UNIT} a decade",
        scaling.fit_line(sweep.x, values).slope,
        ABOVE_0,
        PAIRED,
      ),
      *(
        Statement(
          f"{measure}/{name}",
          f"the {kind} is positive at {name}; the estimate is"
          f" {_TITLES[measure]}",
          source_of(stop, WU),
          UNIT,
          by_seed,
          ABOVE_0,
          PAIRED,
        )
        for name, by_seed in zip(sweep.names, values, strict=True)
      ),
    ]
  return judged([*made, *_beyond_bigrams(sweep, bigram)])


def _beyond_bigrams(sweep: SizeSweep, bigram: float) -> list[Statement]:
  """Whether a point's models use context; without it there can be no gap."""
  return [
    Statement(
      f"context/{name}",
      f"ordinary training at {name} beats bigram counts; the estimate is the"
      " loss of bigram counts minus causal's",
      "jaxlook's own",
      UNIT,
      bigram - np.array(list(sweep.losses[name][CAUSAL].values())),
      ABOVE_0,
    )
    for name in sweep.names
  ]


def tables(
  sweep: SizeSweep,
  training: SizeSweep,
  diverged: Mapping[str, Mapping[str, Sequence[int]]],
  counts: Mapping[str, float],
) -> dict[str, reporting.Rows]:
  """Losses, gap and bonus at every point, their fits, the published line.

  Args:
    sweep: the held-out losses.
    training: the training losses at the end.
    diverged: the seeds that diverged, by point and variant.
    counts: the held-out losses of baselines by counting.

  Returns:
    Rows by title.
  """
  shown = {
    f"Held-out loss, {UNIT}": losses(sweep, diverged, counts),
    "Gap and bonus, paired by seed": reporting.comparison_table(
      comparisons(sweep)
    ),
    "Fits, one per seed": fits(sweep),
    f"Training loss at the end, {UNIT}": losses(training, diverged, {}),
    "Gap and bonus in training losses, paired by seed": (
      reporting.comparison_table(comparisons(training))
    ),
  }
  if "parameters" in sweep.axis:
    shown["Published: Pythia, training loss, one seed per size"] = published()
  return shown


def losses(
  sweep: SizeSweep,
  diverged: Mapping[str, Mapping[str, Sequence[int]]],
  counts: Mapping[str, float],
) -> reporting.Rows:
  """One row per point and arm; see `tables`."""
  values, lost = {}, {}
  for name in sweep.names:
    for variant, by_seed in sweep.losses[name].items():
      values[f"{name}, {variant}"] = by_seed
      lost[f"{name}, {variant}"] = diverged[name][variant]
  return reporting.variant_table(values, lost, counts)


def comparisons(sweep: SizeSweep) -> dict[str, stats.Comparison]:
  """Paired differences by measure and point, if two seeds did not diverge."""
  return {
    f"{measure} at {name}: {high} - {low}": stats.compare(of[high], of[low])
    for measure, (high, low) in MEASURES.items()
    for name, of in sweep.losses.items()
    if len(of[high].keys() & of[low].keys()) > 1
  }


def fits(sweep: SizeSweep) -> reporting.Rows:
  """One row per measure: slope, exponent, and how well each fits."""
  rows = [
    [
      "measure",
      f"slope of the line, {UNIT} a decade",
      "exponent of the power law",
      f"line's distance, {UNIT}",
      f"power law's distance, {UNIT}",
      "n, line",
      "n, power law",
    ]
  ]
  for measure in MEASURES:
    values = sweep.values(measure)
    straight, curved = (
      fit(sweep.x, values) for fit in (scaling.fit_line, scaling.fit_power_law)
    )
    # With two points, a curve with two parameters always fits exactly.
    over = len(sweep.x) > 2
    rows.append(
      [
        measure,
        reporting.mean(straight.slope),
        reporting.mean(curved.slope),
        reporting.mean(straight.rms) if over else "-",
        reporting.mean(curved.rms) if over else "-",
        reporting.count(straight.slope),
        reporting.count(curved.slope),
      ]
    )
  return rows


def published() -> reporting.Rows:
  """The published losses, and the slope of their gap over one seed per size."""
  x, gap = _published_gap()
  rows = [["model", "non-embedding parameters", "vanilla", "myopic", "gap"]]
  for (name, of), each in zip(scaling.PUBLISHED.items(), gap, strict=True):
    losses = (f"{each:.2f}" for each in (of.vanilla, of.myopic, each))
    rows.append([name, str(of.size), *losses])
  *names, largest = scaling.PUBLISHED
  for first in ("pythia-14m", "pythia-70m"):
    start = names.index(first)
    fit = scaling.fit_line(x[start:], gap[start:, None])
    rows.append(
      [
        f"slope a decade, {first} to {largest}",
        *("-", "-", "-"),
        reporting.number(float(fit.slope[0])),
      ]
    )
  return rows


def _published_gap() -> tuple[np.ndarray, np.ndarray]:
  """The published sizes [R] and gaps [R]."""
  found = scaling.PUBLISHED.values()
  return (
    np.array([each.size for each in found], np.float64),
    np.array([each.myopic - each.vanilla for each in found]),
  )


def figure(path: Path, sweep: SizeSweep, *, title: str, setup: str) -> None:
  """Draws gap and bonus along the sweep, and the published gap.

  Args:
    path: the PNG to write.
    sweep: the losses.
    title: of the figure.
    setup: text, training and seeds, in a line or two.

  Raises:
    OSError: the file cannot be written.
  """

  def panel(name: str, shown: Mapping[str, np.ndarray]) -> figures.Curves:
    return figures.Curves(
      name,
      sweep.x,
      sweep.axis,
      UNIT,
      shown,
      {"no difference": 0.0},
      scale="log10",
    )

  def curves(*measures: str) -> dict[str, np.ndarray]:
    return {_TITLES[each]: sweep.values(each) for each in measures}

  panels = [
    panel("Myopia gap, held-out", curves(scaling.GAP, scaling.STRICT_GAP)),
    panel("Local myopia bonus, held-out", curves(scaling.BONUS)),
  ]
  if "parameters" in sweep.axis:
    x, gap = _published_gap()
    panels.append(
      figures.Curves(
        "Published: Pythia, training loss",
        x,
        sweep.axis,
        UNIT,
        {"myopic - vanilla, one seed per size (Wu et al. 2024)": gap[:, None]},
        {"no difference": 0.0},
        scale="log10",
      )
    )
  figures.panels_figure(path, [panels], title=title, setup=setup)
