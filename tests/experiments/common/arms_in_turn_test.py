"""Arms that other runs hold come later."""

from unittest import mock

from experiments.common import arms_in_turn
from jaxlook import parse_variant
from jaxlook.runs.folder import InUse
from tests.fixtures import base
from tests.fixtures.precache_problem import problem

NAMES = ("causal", "myopic/kv", "myopic/residual")
TODO = [(problem(), parse_variant(name, layers=1, heads=2)) for name in NAMES]


class InTurnTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(mock.patch.object(arms_in_turn.time, "sleep"))
    self.warn = self.enterContext(mock.patch.object(arms_in_turn, "_warn"))
    self.asked = []

  def train(self, busy):
    """Trains arms that are in use so many times; returns them in order."""
    left = dict(busy)

    def one(_, variant, teacher):
      self.asked.append(variant.name)
      if left.get(variant.name, 0) > 0:
        left[variant.name] -= 1
        raise InUse("held by another run")
      return variant.name, teacher

    return arms_in_turn._as_they_are_free(TODO, [None, 1, 2], one)

  def test_a_held_arm_comes_later(self):
    """Each gets its own teacher, and the result has the order of the arms."""
    found = self.train({"causal": 2, "myopic/residual": 1})
    self.assertEqual(found, list(zip(NAMES, [None, 1, 2], strict=True)))
    causal, kv, residual = NAMES
    self.assertEqual(
      self.asked, [causal, kv, residual, causal, residual, causal]
    )

  def test_it_says_once_for_what_it_waits(self):
    """With the arm's name and who holds it."""
    self.train({"causal": 3})
    self.warn.assert_called_once_with(
      "causal: waiting, since held by another run"
    )
