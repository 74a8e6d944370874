"""Differences between variants, and the claims about them."""

import numpy as np
from absl.testing import parameterized

from jaxlook import stats
from jaxlook.stats import myopia_gap
from tests.fixtures import base


def cells(losses, **extra):
  """Returns cells by variant and seed; a loss of None means diverged."""
  return [
    {
      "variant": variant,
      "seed": seed,
      "metrics": {"diverged_at": 3} if loss is None else {"loss": loss},
      "status": "diverged" if loss is None else "done",
    }
    | extra
    for variant, by_seed in losses.items()
    for seed, loss in enumerate(by_seed)
  ]


LOSSES = {
  "causal": [0.10, 0.12, 0.11],
  "myopic/residual": [0.20, 0.23, 0.21],
  "myopic/kv": [0.30, 0.33, 0.34],
  "self_only": [0.30, 0.32, 0.35],
  "horizon:4/kv": [0.15, 0.16, 0.17],
}


class AblationTest(base.TestCase):
  def test_by_variant_keeps_finished_cells_of_one_setting(self):
    """Diverged seeds and other settings are left out."""
    result = myopia_gap.by_variant(
      cells({"causal": [0.1, None]}, setting="a")
      + cells({"causal": [0.7]}, setting="b"),
      "loss",
      "a",
    )
    self.assertEqual(result, {"causal": {0: 0.1}})

  def test_differences_split_the_gap(self):
    """Upstream and projection parts add up to the whole gap."""
    result = myopia_gap.differences(
      myopia_gap.by_variant(cells(LOSSES), "loss")
    )
    parts = {
      name.split("(")[-1].rstrip(")"): comparison.estimate
      for name, comparison in result.items()
    }
    self.assertAlmostEqual(
      parts["upstream part"] + parts["projection part"], parts["myopia gap"]
    )
    self.assertAlmostEqual(
      result["horizon:4/kv - causal"].estimate, np.mean([0.05, 0.04, 0.06])
    )
    self.assertLen(result, 5)

  def test_differences_pair_by_seed(self):
    """A seed that diverged in one arm is dropped from both."""
    losses = {"causal": [0.1, None, 0.3], "myopic/kv": [0.2, 0.9, 0.5]}
    values = myopia_gap.by_variant(cells(losses), "loss")
    (comparison,) = myopia_gap.differences(values).values()
    self.assertEqual(comparison.n, 2)
    self.assertAlmostEqual(comparison.estimate, 0.15)

  @parameterized.parameters(
    ("upstream", "supported"),
    ("projection", "supported"),
    ("gap", "supported"),
    ("floor", "inconclusive"),
  )
  def test_verdicts_come_from_intervals(self, name, expected):
    """Clear steps are supported; a step within noise is inconclusive."""
    values = myopia_gap.by_variant(cells(LOSSES), "loss")
    claims = {
      claim.id: claim
      for claim in myopia_gap.ladder_claims(values, "nats", "here", "p=1")
    }
    self.assertLen(claims, 4)
    claim = claims[f"p=1/{name}"]
    self.assertEqual(claim.verdict, expected)
    self.assertEqual(claim.verdict, stats.verdict(claim.ci95, low=1e-300))

  def test_a_reversed_order_is_contradicted(self):
    """Losses in reverse order contradict every strict step."""
    reversed_losses = {
      variant: [1.0 - loss for loss in by_seed]
      for variant, by_seed in LOSSES.items()
    }
    values = myopia_gap.by_variant(cells(reversed_losses), "loss")
    claims = myopia_gap.ladder_claims(values, "nats", "here")
    self.assertEqual(
      [claim.verdict for claim in claims[:3]], ["contradicted"] * 3
    )

  @parameterized.parameters(
    (0.1, "supported"),
    (0.0, "supported"),
    (-0.1, "contradicted"),
  )
  def test_the_floor_allows_equal_losses(self, above, expected):
    """The loss of `self_only` may equal that of `myopic/kv`, not be lower."""
    cut = LOSSES["myopic/kv"]
    losses = {"myopic/kv": cut, "self_only": [loss + above for loss in cut]}
    values = myopia_gap.by_variant(cells(losses), "loss")
    (floor,) = myopia_gap.ladder_claims(values, "nats", "here")
    self.assertEqual(floor.id, "floor")
    self.assertAlmostEqual(floor.estimate, above)
    self.assertEqual(floor.verdict, expected)

  def test_every_other_variant_has_an_exploratory_claim(self):
    """Against causal; but not those with claims of their own."""
    losses = LOSSES | {
      "leak:0.5": [0.080, 0.101, 0.09],
      "window:2": [0.5, 0.1, 1],
    }
    values = myopia_gap.by_variant(cells(losses), "loss")
    found = myopia_gap.exploratory_claims(values, "nats", "p=1", but=["leak:1"])
    self.assertEqual(
      {claim.id: claim.verdict for claim in found},
      {
        "p=1/exploratory/horizon:4/kv": "supported",
        "p=1/exploratory/leak:0.5": "contradicted",
        "p=1/exploratory/window:2": "inconclusive",
      },
    )
    self.assertAlmostEqual(found[0].estimate, 0.05)
    self.assertEqual(
      {claim.source for claim in found}, {myopia_gap.EXPLORATORY}
    )
    rest = myopia_gap.exploratory_claims(values, "nats", but=["leak:0.5"])
    self.assertLen(rest, 2)
    del values["causal"]
    self.assertEmpty(myopia_gap.exploratory_claims(values, "nats"))

  def test_disjoint_intervals_are_reported(self):
    """Distant arms are reported disjoint, close ones not disjoint."""
    values = myopia_gap.by_variant(cells(LOSSES), "loss")
    self.assertEndsWith(myopia_gap.disjoint(values), "means are disjoint.")
    close = dict(values) | {"myopic/residual": values["causal"]}
    self.assertIn("not disjoint", myopia_gap.disjoint(close))
    self.assertEqual(myopia_gap.disjoint({}), "")

  def test_missing_arms_make_no_claims(self):
    """Arms with fewer than two common seeds give no claims."""
    values = myopia_gap.by_variant(
      cells({"causal": [0.1, 0.2], "myopic/kv": [0.3, None]}), "loss"
    )
    self.assertEmpty(myopia_gap.ladder_claims(values, "nats", "here"))
    self.assertEmpty(myopia_gap.differences(values))
