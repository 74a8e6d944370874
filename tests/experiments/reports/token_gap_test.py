"""Claims and tables of gaps that were made to lie somewhere."""

import numpy as np
from absl.testing import absltest

from experiments.reports import token_gap as reports
from experiments.reports.token_gap_claims import OURS, WU, VariantLosses, claims
from jaxlook.lookahead import token_classes as classes
from tests.fixtures import base

_SHOWN = ["a", " b", "c", "\n", "|", " "]


class TokenGapReportTest(base.TestCase):
  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.windows = rng.integers(0, 6, (60, 17))
    self.kinds = classes.token_kinds(self.windows, np.arange(1, 7), _SHOWN)
    # The gap rises from below 0, and is 1 larger where a token is repeated.
    rise = np.linspace(-0.5, 1.0, 16)
    again = self.kinds[classes.REPEATED].mask(classes.AGAIN)
    noise = rng.normal(scale=0.01, size=(4, 60, 16))
    plain = rng.uniform(2.0, 3.0, (4, 60, 16))
    gap = rise + again + noise
    self.gap = VariantLosses(
      "myopic/residual", (0, 1, 2, 3), plain, plain + gap
    )

  def test_claims(self):
    """The published curve is found; so is what was put into repetition."""
    found = {each.id: each for each in claims([self.gap], self.kinds)}
    name = "myopic/residual/"
    for claim in ("W10/start", "W10/late", "W10/rise", "repeated"):
      self.assertEqual(found[name + claim].verdict, "supported", claim)
    self.assertAlmostEqual(found[name + "repeated"].estimate, 1.0, places=1)
    self.assertNotEqual(found[name + "far"].verdict, "supported")
    self.assertEqual(found[name + "W10/rise"].source, WU)
    self.assertEqual(found[name + "repeated"].source, OURS)
    self.assertEqual({each.n for each in found.values()}, {4})
    falls = VariantLosses(
      "myopic/kv", (0, 1), self.gap.loss[:2], self.gap.plain[:2]
    )
    found = {each.id: each for each in claims([falls], self.kinds)}
    for claim in ("W10/start", "W10/late", "W10/rise", "repeated"):
      self.assertEqual(found[f"myopic/kv/{claim}"].verdict, "contradicted")
    self.assertNotEqual(found["myopic/kv/W10/rise"].source, WU)

  def test_parts_of_the_gap_add_up(self):
    """Over the classes of each kind, to the gap of all tokens."""
    head, *rows = reports.class_table(self.gap, self.kinds)
    table = [dict(zip(head, row, strict=False)) for row in rows]
    whole = float(table[-1]["gap"])
    self.assertAlmostEqual(whole, self.gap.gap.mean(), places=3)
    for kind in self.kinds:
      mine = [row for row in table if row["kind"] == kind]
      for column, total in (("part of the gap", whole), ("tokens", 960)):
        parts = [float(row[column]) for row in mine]
        self.assertAlmostEqual(sum(parts), total, places=2)
    self.assertEqual({row[-1] for row in rows}, {"4"})

  def test_costly_tokens_stand_in_their_context(self):
    """With what is awkward in a table made visible."""
    loss = self.gap.loss.copy()
    loss[:, 7, 2] += 50.0
    self.windows[7, :6] = [0, 1, 2, 4, 3, 5]
    gap = VariantLosses("myopic/kv", (0, 1, 4, 5), self.gap.plain, loss)
    found = reports.tables(
      [gap],
      self.kinds,
      self.windows,
      lambda ids: [_SHOWN[token] for token in ids],
      3,
    )
    (title,) = (name for name in found if "costly" in name)
    self.assertIn("chosen by seeds [0, 1], measured on [4, 5]", title)
    head, first, *_ = found[title]
    self.assertEqual(first[:2], ["`a bc`", r"`\|`"])
    self.assertStartsWith(first[2], "`↵")
    measured = gap.gap[2:, 7, 2].mean()
    self.assertAlmostEqual(float(first[5]), measured, places=1)
    self.assertEqual(first[-1], "2")
    self.assertLen(head, len(first))

  def test_measurements_hold_every_number(self):
    """A row for each seed and class, and each position by itself."""
    table = reports.measurements([self.gap], self.kinds)
    count = sum(len(kind.classes) for kind in self.kinds.values()) + 16
    self.assertEqual(table.num_rows, 4 * count)
    metrics = reports.metrics(self.gap, self.kinds)
    self.assertEqual(set(metrics), {0, 1, 2, 3})
    rows = table.to_pylist()
    for seed in metrics:
      (row,) = (
        row
        for row in rows
        if row["seed"] == seed
        and row["class"] == "new"
        and row["kind"] == classes.REPEATED
      )
      named = f"gap, {classes.REPEATED}: new"
      self.assertEqual(metrics[seed][named], row["gap"])


if __name__ == "__main__":
  absltest.main()
