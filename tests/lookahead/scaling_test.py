"""Fits of gaps that were made to grow, or not."""

import numpy as np
from absl.testing import parameterized

from experiments.reports import scaling as reports
from jaxlook.lookahead import scaling
from jaxlook.lookahead.scaling import BONUS, GAP, STRICT_GAP, SizeSweep
from tests.fixtures import base

X = np.array([1e3, 1e4, 1e6])
SEEDS = (0, 1, 2, 5)
BIGRAM = 2.6


def sweep(gap, strict, bonus, axis="non-embedding parameters") -> SizeSweep:
  """A sweep whose measures are those of each point, and a little noise."""
  rng = np.random.default_rng(0)
  names = ("small", "middle", "large")
  losses = {}
  for place, name in enumerate(names):
    plain = {seed: 3.0 - 0.4 * place + rng.normal(scale=0.01) for seed in SEEDS}
    shifts = {
      "causal": 0.0,
      "myopic/residual": gap[place],
      "myopic/kv": strict[place],
      "teacher/residual": -bonus[place],
    }
    losses[name] = {
      variant: {
        seed: loss + shift + (shift != 0.0) * rng.normal(scale=1e-3)
        for seed, loss in plain.items()
      }
      for variant, shift in shifts.items()
    }
  return SizeSweep(axis, names, X, losses)


class ScalingTest(base.TestCase):
  def test_a_line_has_the_slope_of_a_decade(self):
    """Exact on lines; a seed without a value has no fit."""
    rise, level = np.array([0.5, -2.0, 1.0]), np.array([1.0, 3.0, 0.0])
    values = level[None] + rise[None] * np.log10(X)[:, None]
    values[1, 2] = np.nan
    fit = scaling.fit_line(X, values)
    np.testing.assert_allclose(fit.slope, [0.5, -2.0, np.nan], atol=1e-12)
    middle = level + rise * np.log10(X).mean()
    np.testing.assert_allclose(fit.middle[:2], middle[:2], atol=1e-12)
    np.testing.assert_allclose(fit.rms, [0.0, 0.0, np.nan], atol=1e-12)

  def test_the_distance_of_a_line_is_to_its_values(self):
    """Against a fit by NumPy's own least squares."""
    values = np.random.default_rng(1).normal(size=(3, 4))
    fit = scaling.fit_line(X, values)
    for seed in range(4):
      slope, level = np.polyfit(np.log10(X), values[:, seed], 1)
      left = values[:, seed] - level - slope * np.log10(X)
      self.assertAlmostEqual(fit.slope[seed], slope)
      self.assertAlmostEqual(fit.rms[seed], np.sqrt((left**2).mean()))

  def test_a_power_law_has_its_exponent(self):
    """Exact on power laws; none where a value is not above 0."""
    values = np.stack([0.02 * X**0.3, 5.0 * X**-0.1, X - 1e4], axis=1)
    fit = scaling.fit_power_law(X, values)
    np.testing.assert_allclose(fit.slope, [0.3, -0.1, np.nan], atol=1e-12)
    np.testing.assert_allclose(fit.rms, [0.0, 0.0, np.nan], atol=1e-12)
    straight = scaling.fit_line(X, values)
    self.assertGreater(straight.rms[0], 0.05)

  @parameterized.parameters(
    ([1.0, 1.0], [2, 3], "x must be positive and not all equal"),
    ([0.0, 1.0], [2, 3], "x must be positive and not all equal"),
    ([1.0, 2.0, 3.0], [2, 3], r"x and values must be \[R\] and \[R, E\]"),
    ([1.0, 2.0], [2], r"x and values must be \[R\] and \[R, E\]"),
  )
  def test_refusals(self, x, shape, message):
    """What no line goes through."""
    with self.assertRaisesRegex(ValueError, message):
      scaling.fit_line(np.array(x), np.ones(shape))

  def test_measures_are_paired_by_seed(self):
    """The losses' own spread is gone; a diverged seed is NaN."""
    made = sweep([0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.05, 0.06, 0.07])
    del made.losses["middle"]["causal"][2]
    values = made.values(GAP)
    self.assertEqual(values.shape, (3, 4))
    np.testing.assert_array_equal(
      np.isnan(values), np.arange(12).reshape(3, 4) == 6
    )
    np.testing.assert_allclose(
      np.nanmean(values, 1), [0.1, 0.2, 0.3], atol=0.01
    )
    np.testing.assert_allclose(
      made.values(BONUS).mean(1)[[0, 2]], [0.05, 0.07], atol=0.01
    )


class ScalingReportTest(base.TestCase):
  def test_verdicts_are_those_that_were_built_in(self):
    """The gap grows by a line, the strict gap falls, the bonus stays."""
    made = sweep([0.1, 0.2, 0.4], [0.9, 0.5, 0.3], [0.05, 0.05, 0.05])
    found = {claim.id: claim for claim in reports.claims(made, BIGRAM)}
    self.assertEqual(found[f"{GAP}/grows"].verdict, "supported")
    self.assertAlmostEqual(found[f"{GAP}/grows"].estimate, 0.1, places=2)
    self.assertEqual(found[f"{GAP}/grows"].source, reports.WU)
    self.assertEqual(found[f"{STRICT_GAP}/grows"].verdict, "contradicted")
    self.assertEqual(found[f"{BONUS}/grows"].verdict, "inconclusive")
    self.assertEqual(found[f"{BONUS}/large"].verdict, "supported")
    self.assertEqual(found["context/small"].verdict, "contradicted")
    self.assertEqual(found["context/middle"].verdict, "inconclusive")
    self.assertEqual(found["context/large"].verdict, "supported")
    self.assertEqual({claim.n for claim in found.values()}, {4})

  def test_growth_with_data_is_not_published(self):
    """Nor is a published line shown beside it."""
    made = sweep([0.1] * 3, [0.2] * 3, [0.3] * 3, "training tokens")
    found = {claim.id: claim for claim in reports.claims(made, BIGRAM)}
    self.assertEqual(found[f"{GAP}/grows"].source, reports.OURS)
    diverged = {
      name: {variant: [] for variant in of} for name, of in made.losses.items()
    }
    self.assertNotIn(
      "Published", " ".join(reports.tables(made, made, diverged, {}))
    )

  def test_a_fit_without_a_seed_says_so(self):
    """A seed that diverged at one size is in no fit, nor in its count."""
    made = sweep([0.1, 0.2, 0.4], [0.3] * 3, [-0.1] * 3)
    del made.losses["large"]["myopic/residual"][5]
    head, *rows = reports.fits(made)
    by_measure = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    self.assertEqual(by_measure[GAP]["n, line"], "3")
    self.assertEqual(by_measure[STRICT_GAP]["n, line"], "4")
    # The bonus is below 0 here, where there is no power law.
    self.assertEqual(by_measure[BONUS]["n, power law"], "0")
    self.assertEqual(by_measure[BONUS]["exponent of the power law"], "-")

  def test_the_published_gap_falls_and_then_rises(self):
    """Over all sizes less than from 70M on."""
    head, *rows = reports.published()
    self.assertEqual(
      [row[head.index("gap")] for row in rows[:3]], ["0.16", "0.11", "0.04"]
    )
    whole, later = (float(row[-1]) for row in rows[-2:])
    self.assertBetween(whole, 0.02, 0.03)
    self.assertBetween(later, 0.07, 0.09)
