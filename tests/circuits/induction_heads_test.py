"""The measures of a built circuit and of simple curves are as expected."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from jaxlook import models
from jaxlook.circuits import induction_heads
from jaxlook.models import Decoder
from jaxlook.tasks.induction import Induction
from tests.fixtures import base, built_circuits

TASK = Induction(
  built_circuits.VOCAB, segment=6, max_gap=3, length=built_circuits.LENGTH
)


class InductionHeadsTest(base.TestCase):
  def test_built_circuit(self):
    """The circuit copies all copied tokens; a random model does not.

    Measures two seeds in one call, under a gradient-only variant.
    """
    fresh = models.init(built_circuits.CONFIG, jax.random.key(0))
    params = jax.tree.map(
      lambda *x: jnp.stack(x), built_circuits.induction_params(), fresh
    )
    batch = TASK.batch(jax.random.key(1), 32)
    found = induction_heads.measure_induction(
      Decoder(built_circuits.CONFIG, "myopic"), TASK, params, batch
    )
    numbers = induction_heads.summary(found)
    # A filler may hold the token too: then two positions are attended.
    self.assertGreater(numbers["accuracy"][0], 0.9)
    self.assertLess(numbers["accuracy"][1], 0.4)
    # It also attends to the query itself if that follows an equal token.
    self.assertGreater(numbers["prefix"][0], 0.95)
    self.assertGreater(numbers["induction"][0], 0.8)
    self.assertLess(numbers["induction"][1], 0.2)
    self.assertAlmostEqual(numbers["previous"][0], 1.0, places=5)
    np.testing.assert_allclose(
      numbers["loss"], found.losses.mean(axis=1), rtol=1e-5
    )
    np.testing.assert_allclose(numbers["loss"][1], TASK.chance, rtol=0.05)
    # Weighted by the number of copied tokens at each position.
    copied = np.asarray(TASK.copied(batch)).sum(axis=0)
    np.testing.assert_array_equal(np.isnan(found.accuracies[0]), copied == 0)
    np.testing.assert_allclose(
      np.nansum(found.accuracies * copied, axis=1) / copied.sum(),
      numbers["accuracy"],
      rtol=1e-5,
    )
    half = built_circuits.LENGTH // 2
    np.testing.assert_allclose(
      numbers["in_context"],
      found.losses[:, half:].mean(1) - found.losses[:, :half].mean(1),
      rtol=1e-4,
      atol=1e-5,
    )

  def test_phase(self):
    """Known for a late jump, a line, and an exponential from the start."""
    steps = np.arange(0, 1001, 10)
    jump = np.interp(steps, [0, 500, 600, 1000], [0.0, 0.0, -2.0, -2.0])
    values = np.stack([jump, 3.0 - steps, np.exp(-steps / 50)], axis=1)
    found = induction_heads.phase_change(steps, values)
    np.testing.assert_allclose(found.start[:2], [510, 100])
    np.testing.assert_allclose(found.end[:2], [590, 900])
    np.testing.assert_allclose(found.abruptness[:2], [80 / 510, 8.0])
    # Recorded steps are a fifth of the time constant apart.
    self.assertBetween(found.abruptness[2], 18, 24)
    half = induction_heads.step_reached(steps, values, 0.5)
    np.testing.assert_allclose(half[:2], [550, 500])

  def test_phase_of_a_diverged_seed(self):
    """A diverged seed has no phase change; the other seed keeps its own."""
    values = np.array([[0.0, 0.0], [0.0, np.nan], [1.0, np.nan]])
    found = induction_heads.phase_change(np.array([0, 10, 20]), values)
    np.testing.assert_allclose(found.start, [11.0, np.nan])


if __name__ == "__main__":
  absltest.main()
