"""What the gradient anatomy says: verdicts follow the numbers."""

import numpy as np

from experiments.reports import gradient_anatomy, gradient_anatomy_claims
from jaxlook.lookahead.gradient_anatomy import (
  CUT_METHODS,
  KINDS,
  AnatomyResults,
)
from tests.fixtures import base

LENGTH = 4


def _found(future, useful, seeds=3):
  """Models whose gradients and keys serve the future as much as asked for."""
  squares = np.array([1.0 - future] + [future / (LENGTH - 1)] * (LENGTH - 1))
  noise = 1.0 + 0.001 * np.arange(seeds)
  gram = np.diag(squares)[None] * noise[:, None, None]
  distance, query = np.ogrid[:LENGTH, :LENGTH]
  # Rows are distances; the own edge costs 1, each later one `useful`.
  rise = np.where(distance == 0, 1.0, useful) * (query >= distance)
  maps = np.ones((seeds, LENGTH, LENGTH))
  return AnatomyResults(
    grams={kind: gram[:, None, None] for kind in KINDS},
    influence=maps[:, None],
    parameter_influence=maps,
    rises={
      how: rise[None, None] * noise[:, None, None, None] for how in CUT_METHODS
    },
  )


def _directions(cosine, seeds=3):
  noise = 0.001 * np.arange(seeds)
  names = ("cos_myopic_future", "ratio_mixed")
  return {
    f"{stop}/{name}": cosine + noise
    for stop in ("kv", "residual")
    for name in names
  }


def _verdicts(found, early=-0.5, late=0.5):
  claims = gradient_anatomy_claims.claims(
    {"causal": found},
    "causal",
    "untrained",
    {1: _directions(early), 9: _directions(late)},
    1,
    "nats",
  )
  return {claim.id: claim.verdict for claim in claims}


class ClaimsTest(base.TestCase):
  def test_the_future_side_is_supported_where_it_is_larger(self):
    """Shares above a half, and later positions that lose more."""
    verdicts = _verdicts(_found(future=0.9, useful=2.0))
    self.assertEqual(verdicts["L1/causal/W_K/layer0"], "supported")
    self.assertEqual(verdicts["L1/useful/mean"], "supported")

  def test_and_contradicted_where_it_is_smaller(self):
    """Shares below a half, and keys that serve themselves."""
    verdicts = _verdicts(_found(future=0.1, useful=0.01))
    self.assertEqual(verdicts["L1/causal/W_V/layer0"], "contradicted")
    self.assertEqual(verdicts["L1/useful/renormalise"], "contradicted")

  def test_the_cosine_must_fall_below_zero_and_rise_again(self):
    """Each of early, late and rise has its own direction."""
    wanted = ("early", "late", "rise")
    there = _verdicts(_found(0.5, 1.0))
    self.assertEqual(
      {there[f"W13/kv/{name}"] for name in wanted}, {"supported"}
    )
    other = _verdicts(_found(0.5, 1.0), early=0.5, late=-0.5)
    self.assertEqual(
      {other[f"W13/kv/{name}"] for name in wanted}, {"contradicted"}
    )

  def test_one_seed_makes_no_claim(self):
    """Without an interval there is no verdict."""
    self.assertEmpty(_verdicts(_found(0.9, 2.0, seeds=1)))

  def test_measurements_hold_every_share(self):
    """One row a seed, kind, head and distance; shares sum to one."""
    found = {"causal": _found(0.9, 2.0)}
    table = gradient_anatomy.measurements(found, {"causal": (4, 5, 6)})
    self.assertEqual(table.num_rows, 3 * len(KINDS) * LENGTH)
    self.assertEqual(set(table["seed"].to_pylist()), {4, 5, 6})
    total = sum(table["norm_share"].to_pylist())
    self.assertAlmostEqual(total, 3 * len(KINDS))
