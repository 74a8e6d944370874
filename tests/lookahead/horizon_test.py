"""The horizon sweep: its arms, and what its losses show."""

import math

import numpy as np
from absl.testing import parameterized

from jaxlook.attention import parse_variant
from jaxlook.lookahead import horizon
from jaxlook.lookahead.horizon import HorizonSweep
from tests.fixtures import base

SMALL = HorizonSweep(
  horizons=(0, 1, 4), leaks=(0.5,), offsets=(2,), part_horizons=(0,)
)


class DialTest(base.TestCase):
  @parameterized.parameters(1, 2, 3)
  def test_arms_are_distinct_and_canonical(self, layers):
    """Every arm parses back to its own name, and none is there twice."""
    variants = SMALL.variants(layers, heads=2)
    self.assertLen({each.name for each in variants}, len(variants))
    for each in variants:
      self.assertEqual(parse_variant(each.name, layers, 2), each)
    per_stop = 3 + 1 + 1 + 2 + {1: 0, 2: 2, 3: 6}[layers]
    self.assertLen(variants, 1 + 2 * per_stop)

  @parameterized.parameters(1, 2, 3)
  def test_reports_find_single_layers_by_their_names(self, layers):
    """The names that reports look up are those of the arms."""
    names = {each.name for each in SMALL.variants(layers, heads=2)}
    for stop in horizon.STOPS:
      for arms in (horizon.blocked_layers, horizon.open_layers):
        self.assertLessEqual(set(arms(layers, stop).values()), names)

  def test_blocked_and_open_layers_are_each_others_mirror(self):
    """In the one the layer is myopic, in the other all the others are."""
    self.assertEqual(horizon.blocked_layers(2, "kv")[0], "horizon:0/kv,causal")
    self.assertEqual(horizon.open_layers(2, "kv")[0], "causal,horizon:0/kv")

  def test_within_drops_what_a_sequence_cannot_have(self):
    """Horizon N - 1 is causal, and no distance exceeds N - 1."""
    short = SMALL.within(3)
    self.assertEqual(short.horizons, (0, 1))
    self.assertEqual(short.offsets, (2,))
    self.assertEqual(SMALL.within(2).offsets, ())

  @parameterized.parameters(((1, 2),), ((0, 2, 1),), ((),))
  def test_refuses_other_horizons(self, horizons):
    """A sweep begins at 0 and ascends."""
    with self.assertRaisesRegex(ValueError, "^horizons must"):
      HorizonSweep(horizons=horizons)

  def test_closed_is_measured_within_a_seed(self):
    """0 at myopic, 1 at causal, and nothing where there is no gap."""
    losses = np.array([[1.0, 3.0, 1.0], [0.75, 2.0, 1.0], [0.5, 1.0, 1.5]])
    np.testing.assert_allclose(
      horizon.gap_closed(losses),
      [[0.0, 0.0, math.nan], [0.5, 0.5, math.nan], [1.0, 1.0, math.nan]],
    )

  def test_smallest_closing_stops_at_what_is_missing(self):
    """The first h that closes the share; unknown below a missing loss."""
    shares = np.array([[0.0, 0.0, 0.0], [0.95, 0.5, math.nan], [1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(
      horizon.smallest_closing((0, 1, 7), shares), [1.0, 7.0, math.nan]
    )

  def test_crossing_lies_on_the_line(self):
    """Half way from 1 to 7 the line from 0.8 to 1 reaches 0.9."""
    shares = np.array([[0.0, 0.0, 0.0], [0.8, 1.2, math.nan], [1.0, 1.0, 1.0]])
    np.testing.assert_allclose(
      horizon.interpolated_closing((0, 1, 7), shares), [4.0, 0.75, math.nan]
    )
    with self.assertRaisesRegex(ValueError, "^share must lie in"):
      horizon.interpolated_closing((0, 1, 7), shares, 0.0)

  def test_losses_keep_the_seeds_in_their_columns(self):
    """A seed that diverged in one arm leaves a hole, not a shift."""
    values = {"causal": {0: 1.0, 1: 2.0}, "horizon:0/kv": {1: 3.0}}
    np.testing.assert_array_equal(
      horizon.loss_array(values, ["horizon:0/kv", "causal", "leak:0.5/kv"]),
      [[math.nan, 3.0], [1.0, 2.0], [math.nan, math.nan]],
    )
