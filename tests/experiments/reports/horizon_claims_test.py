"""The claims of the horizon sweep on losses that are known."""

from absl.testing import parameterized

from experiments.reports import horizon_claims
from jaxlook.lookahead import horizon
from jaxlook.lookahead.horizon import HorizonSweep
from tests.fixtures import base


def _by_seed(rows):
  """Losses by variant and seed from rows of numbers."""
  return {name: dict(enumerate(row)) for name, row in rows.items()}


class ClaimsTest(base.TestCase):
  def _claims(self, middle, horizons=(1, 4)):
    """Claims of a sweep 0, 1, 4, 8 whose gap closes as `middle` says."""
    rows = {"causal": [0.0, 0.01, 0.02]}
    for stop in horizon.STOPS:
      rows[f"horizon:0/{stop}"] = [1.0, 1.01, 1.03]
      for h, share in zip(horizons, middle, strict=True):
        rows[f"horizon:{h}/{stop}"] = [1.0 - share, 1.01 - share, 1.02 - share]
    found = horizon_claims.claims(
      HorizonSweep(horizons=(0, *horizons)),
      _by_seed(rows),
      9,
      (2, 4),
      unit="Huber",
      source="test",
    )
    return {claim.id: claim.verdict for claim in found}

  def test_a_dial_that_finds_its_horizon(self):
    """Nothing below the reach, everything at its end."""
    found = self._claims((0.0, 0.97))
    self.assertEqual(found["kv/gap"], "supported")
    self.assertEqual(found["kv/horizon"], "supported")
    self.assertEqual(found["kv/short1"], "supported")

  def test_a_dial_that_contradicts_its_horizon(self):
    """A gap that closes too early, and one that closes too late."""
    early = self._claims((0.97, 0.98))
    self.assertEqual(early["residual/horizon"], "contradicted")
    self.assertEqual(early["residual/short1"], "contradicted")
    late = self._claims((0.0, 0.5))
    self.assertEqual(late["residual/horizon"], "contradicted")

  @parameterized.named_parameters(
    ("below", (0.97, 0.98, 0.99), "contradicted"),
    ("between_1_and_2", (0.8, 0.97, 0.98), "supported"),
    ("at_the_upper_end", (0.0, 0.0, 0.97), "supported"),
    ("above", (0.0, 0.0, 0.8), "contradicted"),
  )
  def test_the_reach_has_two_ends(self, middle, expected):
    """A reach of [2, 4]: h = 2 is in it, 1 is not; 4 is in it, 8 is not.

    On the line between two h, 2 is reached from above 1 on.
    """
    found = self._claims(middle, horizons=(1, 2, 4))
    for stop in horizon.STOPS:
      self.assertEqual(found[f"{stop}/smallest"], expected)
      self.assertEqual(found[f"{stop}/horizon"], expected)
      self.assertIn(f"{stop}/short1", found)
      self.assertNotIn(f"{stop}/short2", found)

  def test_one_seed_makes_no_claim(self):
    """Without an interval there is no verdict."""
    rows = {"causal": [0.0]} | {
      f"horizon:{h}/{stop}": [1.0] for h in (0, 1, 4) for stop in horizon.STOPS
    }
    found = horizon_claims.claims(
      HorizonSweep(horizons=(0, 1, 4)),
      _by_seed(rows),
      9,
      None,
      unit="",
      source="",
    )
    self.assertEmpty(found)
