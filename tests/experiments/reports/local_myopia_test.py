"""The claims of local myopia on losses that are known."""

from experiments.reports import local_myopia
from tests.fixtures import base


def _claims(losses):
  return local_myopia.claims(
    losses, "kv", unit="nats", gap_source="test", bonus_source="test"
  )


class ClaimsTest(base.TestCase):
  def test_gap_and_bonus_have_their_signs(self):
    """Myopic above vanilla is a gap, local below vanilla a bonus."""
    losses = {
      "causal": {0: 1.0, 1: 1.1},
      "myopic/kv": {0: 2.0, 1: 2.11},
      "teacher/kv": {0: 0.9, 1: 0.99},
    }
    found = {claim.id: claim for claim in _claims(losses)}
    self.assertAlmostEqual(found["kv/gap"].estimate, 1.005)
    self.assertAlmostEqual(found["kv/bonus"].estimate, 0.105)
    self.assertAlmostEqual(found["kv/bonus_below_gap"].estimate, 0.9)
    self.assertEqual(found["kv/gap"].verdict, "supported")

  def test_one_common_seed_makes_no_claim(self):
    """Without an interval there is no verdict."""
    losses = {
      "causal": {0: 1.0, 1: 1.1},
      "myopic/kv": {0: 2.0},
      "teacher/kv": {0: 0.9, 1: 0.99},
    }
    self.assertEmpty(_claims(losses))
