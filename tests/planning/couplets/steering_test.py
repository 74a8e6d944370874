"""Directions of steering, recomputed; a strength of 0 changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from jaxlook.planning.couplets import places, steering, stream_edits
from tests.fixtures import base, couplets

_STRENGTHS = (0.0, 2.0)
_PLACES = places.named(couplets.TASK, ("e1", "prompt"))


class SteeringTest(base.Float64TestCase):
  def test_directions(self):
    """Directions are class mean differences; the random one is as long."""
    batch, reference = couplets.batch(), couplets.batch(key=9)
    params = couplets.params()

    @jax.jit
    def both(key):
      made = steering.Steering(reference, jnp.asarray(_STRENGTHS), key)
      steered = made.edits(couplets.OPEN, couplets.TASK, params, batch)
      return (
        jnp.stack([steered.values(jnp.asarray(k)) for k in range(4)]),
        steered.valid.reshape(4, -1),
        steered.target,
        stream_edits.residual_streams(couplets.OPEN, params, batch.inputs),
        stream_edits.residual_streams(couplets.OPEN, params, reference.inputs),
      )

    values, valid, target, own, read = map(np.asarray, both(jax.random.key(0)))
    known = jax.tree.map(np.asarray, couplets.TASK.truth(reference))
    key = np.asarray(couplets.TASK.truth(batch).key)
    members = [
      np.flatnonzero(known.rhymes & (known.key == r)) for r in range(16)
    ]
    there = np.array([len(m) > 0 for m in members])
    for kind in range(4):
      np.testing.assert_array_equal(valid[kind], there[key] & there[target])
    self.assertTrue(valid[0].any() and not valid[0].all())
    for kind in (0, 2):
      np.testing.assert_array_equal(values[kind], own)
    rows = np.flatnonzero(valid[0])
    means = [read[:, m].mean(axis=1) if len(m) else None for m in members]
    for row in rows:
      direction = means[target[row]] - means[key[row]]
      self.assert_close(values[1, :, row] - own[:, row], 2.0 * direction)
    length = [
      np.linalg.norm(values[kind][:, rows] - own[:, rows], axis=-1)
      for kind in (1, 3)
    ]
    self.assert_close(length[1], length[0])
    self.assertGreater(np.abs(values[3] - values[1])[:, rows].max(), 0.1)

  def test_strengths(self):
    """Strength 0 shifts nothing, strength 2 does; axes have the right order."""
    params = jax.tree.map(lambda x: x[None], couplets.params())
    found = stream_edits.expectations(
      steering.Steering(
        couplets.batch(key=9), jnp.asarray(_STRENGTHS), jax.random.key(0)
      ),
      couplets.OPEN,
      couplets.TASK,
      params,
      couplets.batch(),
      _PLACES,
    )
    shift = np.asarray(found.topic.shift)
    self.assertEqual(shift.shape, (1, 2, 2, 2, 2, 2))
    self.assertEqual(shift[:, :, 0].max(), 0.0)
    self.assertGreater(shift[:, :, 1].min(), 1e-4)


if __name__ == "__main__":
  absltest.main()
