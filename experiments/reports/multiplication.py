"""The report of `multiplication`: notes, tables and measurements."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.common import results_writer
from experiments.reports.multiplication_claims import (
  FLOOR,
  Arm,
  claims,
  metrics,
  whole,
)
from experiments.reports.multiplication_figures import drawings
from experiments.setups import multiplication_setup
from experiments.setups.multiplication_setup import MultiplicationConfig
from jaxlook import reporting, stats
from jaxlook.planning.products import plans
from jaxlook.planning.products.measures import ProductResults
from jaxlook.tasks.multiplication import Multiplication
from jaxlook.training import FinishedArm

NOTES = (
  "All models have as many position embeddings as the longest padding needs. So"
  " for each seed all arms start from the same parameters. Swaps, beam search,"
  " probes and the accuracies by digit use products of two numbers of full"
  " length. If numbers are short, there are few such products. Then a probe may"
  " be scored on products that it was fitted to, for trained and untrained"
  " models alike.",
  "A swap replaces the stream at the positions of one part with that of another"
  " product, with two new operands, at the input of one layer. Then the model"
  " writes the answer. A digit counts only if the model without a swap writes"
  " different digits for the two products. At the input of layer 0 all padding"
  " is the same, so a swap there cannot move any digit; a swap of the whole"
  " prompt there moves all of them.",
  "A gradient cut does not change the forward pass: a model reads padding even"
  " if it has not learned to use it.",
  "Three digits at `cpu` were chosen after pilots of ordinary training with one"
  " seed, two layers and width 64, with and without padding; a run pads to n"
  " and to 2n, as published. Operands of up to two digits were learned as fast"
  " without padding as with it: training losses of 0.129 and 0.125 nats/digit"
  " after 1,250 to 1,500 steps of 2,500. With up to three digits padding to 6"
  " helped: 0.477 instead of 0.571 after 750 to 1,000 steps of 2,000. By then"
  " few products of two numbers of three digits are learned. So the comparison"
  " of padding and myopia uses all lengths evenly; the published one uses full"
  " length only. There is no claim on full length for a variant whose share of"
  f" right products is surely below {FLOOR:.0%} with either padding.",
  results_writer.UNADJUSTED,
)


def results(
  config: MultiplicationConfig,
  arms: Mapping[Arm, FinishedArm],
  found: Mapping[Arm, ProductResults],
  untrained: Mapping[str, ProductResults],
  frequency: np.ndarray,
) -> results_writer.Results:
  """Collects claims, tables, figures, cells and measurements.

  Args:
    config: the scale.
    arms: the trained arms.
    found: results by arm.
    untrained: results of models before training, by setting.
    frequency: loss of a predictor that knows only the frequency of each digit
      at each place, nats, [K].

  Returns:
    The results to write.
  """
  tasks = config.tasks()
  setup = multiplication_setup.setup(config)
  return results_writer.Results(
    name="multiplication",
    title="Multiplication: padding with and without the future's gradient",
    setup=setup,
    notes=NOTES,
    figures=drawings(tasks, found, frequency=frequency, setup=setup),
    tables=tables(tasks, found, untrained),
    claims=claims(tasks, found, untrained),
    cells=[
      cell
      for (setting, variant), arm in arms.items()
      for cell in results_writer.arm_cells(
        arm, metrics(tasks[setting], found[setting, variant])
      )
    ],
    measurements=measurements(tasks, found, config.seed_range),
  )


def tables(
  tasks: Mapping[str, Multiplication],
  found: Mapping[Arm, ProductResults],
  untrained: Mapping[str, ProductResults],
) -> dict[str, reporting.Rows]:
  """Products, their digits, lengths, swaps and probes, by arm.

  Args:
    tasks: by setting.
    found: results by arm.
    untrained: results of models before training, by setting.

  Returns:
    Tables by title; every number has its 95% t interval over n seeds.
  """
  size = next(iter(tasks.values())).digits
  names = {
    "right": "right, all lengths evenly",
    "whole": "right, of full length",
    "full_loss": "their loss, nats/digit",
    "greedy_whole": "greedy decoding",
    "beam_whole": "beam search",
    "beam_gain": "beam gain, nats",
  }
  products = [["setting", "variant", *names.values(), "n"]]
  for (setting, variant), each in found.items():
    values = metrics(tasks[setting], each)
    shown = [_shown(values[name]) for name in names]
    products.append([setting, variant, *shown, _count(values["whole"])])
  return {
    f"Whole products of numbers of up to {size} digits": products,
    "Accuracy by digit, the lowest first": _by_digit(found, "accuracies"),
    "Loss by digit over all lengths, nats": _by_digit(found, "losses"),
    "Whole products right by lengths of a x b": _lengths(found, size),
    "After a swap, of the digits that differ": _swaps(tasks, found),
    "Probes of the last layer's output": _probes(tasks, found, untrained),
  }


def _by_digit(found: Mapping[Arm, ProductResults], part: str) -> reporting.Rows:
  count = getattr(next(iter(found.values())), part).shape[1]
  rows = [["setting", "variant", *(f"c_{k}" for k in range(count)), "n"]]
  for (setting, variant), each in found.items():
    values = getattr(each, part)
    shown = [_shown(column) for column in values.T]
    rows.append([setting, variant, *shown, _count(values[:, 0])])
  return rows


def _lengths(found: Mapping[Arm, ProductResults], size: int) -> reporting.Rows:
  pairs = list(itertools.product(range(size), repeat=2))
  heads = [f"{a + 1} x {b + 1}" for a, b in pairs]
  rows = [["setting", "variant", *heads, "n"]]
  for (setting, variant), each in found.items():
    shown = [_shown(each.grid[:, a, b]) for a, b in pairs]
    rows.append([setting, variant, *shown, _count(whole(each))])
  return rows


def _swaps(tasks, found: Mapping[Arm, ProductResults]) -> reporting.Rows:
  rows = [["setting", "variant", "into layer", "place", "moved", "left", "n"]]
  for (setting, variant), each in found.items():
    moved, left = each.effect("moved"), each.effect("left")
    for layer in range(moved.shape[1]):
      for index, place in enumerate(plans.places(tasks[setting])):
        here = moved[:, layer, index]
        shown = [_shown(here), _shown(left[:, layer, index])]
        rows.append([setting, variant, str(layer), place, *shown, _count(here)])
  return rows


def _probes(tasks, found, untrained) -> reporting.Rows:
  rows = [["setting", "variant", "place", "probe", "untrained", "shuffled"]]
  rows[0].append("n")
  for (setting, variant), each in found.items():
    for index, place in enumerate(plans.places(tasks[setting])):
      # The prompt ends where its last part does.
      if place == plans.PROMPT:
        continue
      values = [
        model[:, -1, index].mean(axis=-1)
        for model in (each.probe, untrained[setting].probe, each.shuffled)
      ]
      shown = [_shown(value) for value in values]
      rows.append([setting, variant, place, *shown, _count(values[0])])
  return rows


def _shown(values: np.ndarray) -> str:
  values = values[np.isfinite(values)]
  if len(values) < 2:
    return "-"
  found = stats.mean_interval(values)
  return f"{reporting.number(found.estimate)} {reporting.interval(found.ci95)}"


def _count(values: np.ndarray) -> str:
  return str(np.isfinite(values).sum())


def measurements(
  tasks: Mapping[str, Multiplication],
  found: Mapping[Arm, ProductResults],
  seeds: Sequence[int],
) -> pa.Table:
  """Swaps and probes by seed, layer, place and digit, one number per row.

  Args:
    tasks: by setting.
    found: results by arm.
    seeds: the seeds of their leading axes.

  Returns:
    Columns setting, variant, seed, measure, layer, place, digit and value;
    `moved` and `left` as shares of all products, as in `ProductResults`.
  """

  def rows() -> Iterator[tuple[Any, ...]]:
    for (setting, variant), each in found.items():
      where = list(plans.places(tasks[setting]))
      for measure in ("moved", "left", "probe", "shuffled"):
        values = getattr(each, measure)
        for (e, layer, s, digit), value in np.ndenumerate(values):
          which = (setting, variant, seeds[e], measure, layer)
          yield (*which, where[s], digit, float(value))

  names = "setting variant seed measure layer place digit value".split()
  columns = zip(*rows(), strict=True)
  return pa.table(dict(zip(names, map(list, columns), strict=True)))
