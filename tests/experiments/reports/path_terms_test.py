"""Measures of path terms go into tables, claims and panels unchanged."""

import math

import numpy as np
from absl.testing import absltest

from experiments.reports import path_terms
from jaxlook.circuits import term_losses
from jaxlook.circuits.term_losses import TermLosses
from tests.fixtures import base


def measured(variant, orders):
  """Two seeds with given losses by order; layers take halves of order 1."""
  orders = np.array(orders)
  half = (orders[:, :1] + orders[:, 1:2]) / 2
  layers = np.concatenate([half, half], axis=1)
  return term_losses.PathTermResults(
    variant,
    (0, 1),
    TermLosses(orders, orders[:, 1:] + 0.01, layers, layers),  # pyright: ignore
    {"value composition": np.array([0.5, 0.7])},
  )


class PathReportTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.found = [
      measured("causal", [[3.0, 2.0, 1.95], [3.2, 2.1, 2.06]]),
      measured("myopic/kv", [[3.0, 2.5, 2.49], [3.2, 2.7, 2.71]]),
    ]

  def test_measures(self):
    """Every fall is a difference of two losses."""
    found = term_losses.named_values(self.found, vocab_size=64)
    self.assert_close(
      {name: found[name]["causal"] for name in found},
      {
        "direct path": {0: math.log(64) - 3.0, 1: math.log(64) - 3.2},
        "single heads": {0: 1.0, 1: 1.1},
        "virtual heads of two": {0: 0.05, 1: 0.04},
        "single heads, at their position": {0: 0.99, 1: 1.09},
        "virtual heads of two, at their position": {0: 0.04, 1: 0.03},
        "single heads, from earlier positions": {0: 0.01, 1: 0.01},
        "virtual heads of two, from earlier positions": {0: 0.01, 1: 0.01},
        **{
          f"layer {layer} {how}": {0: 0.5, 1: 0.55}
          for layer in (1, 2)
          for how in ("alone", "on top of the other layers")
        },
        "loss up to order 0": {0: 3.0, 1: 3.2},
        "loss up to order 1": {0: 2.0, 1: 2.1},
        "loss up to order 2": {0: 1.95, 1: 2.06},
        "value composition": {0: 0.5, 1: 0.7},
      },
    )

  def test_claims(self):
    """Differences by seed: of the orders, and of the variants."""
    claims = {c.id: c for c in path_terms.claims(self.found, 64)}
    estimates = {id: claim.estimate for id, claim in claims.items()}
    self.assert_close(
      estimates,
      {
        "E2/order": 1.005,
        "E2/tenth": (0.05 + 0.04 / 1.1) / 2,
        "asked/single/kv": 0.0,
        "asked/virtual/kv": 0.0,
      },
    )
    self.assertEqual(claims["E2/order"].verdict, "supported")
    self.assertEqual(claims["asked/single/kv"].n, 2)
    self.assertEmpty(path_terms.claims(self.found[1:], 64))

  def test_tables_and_panels(self):
    """Every measure is in one table; panels show the same numbers."""
    tables = path_terms.tables(self.found, 64)
    rows = [row[0] for rows in tables.values() for row in rows[1:]]
    measures = term_losses.named_values(self.found, 64)
    self.assertContainsSubset(set(measures), set(rows))
    differences = tables["Paired differences"]
    self.assertEqual(
      differences[4][0], "virtual heads of two: causal - myopic/kv"
    )
    losses, orders, layers = path_terms.panels(self.found, 64)[0]
    self.assert_close(losses.curves["causal"][:, 1], np.array([3.2, 2.1, 2.06]))
    self.assertEqual(orders.x, ["1, here", "1, before", "2, here", "2, before"])
    self.assert_close(
      orders.curves["myopic/kv"],
      np.array([[0.49, 0.49], [0.01, 0.01], [0, -0.02], [0.01, 0.01]]),
    )
    self.assertLen(layers.x, 4)


if __name__ == "__main__":
  absltest.main()
