"""Cut edges act as a barrier; without a cut the loss is the plain one."""

import jax
import numpy as np
from absl.testing import absltest

from jaxlook.planning.couplets import places, routes
from tests.fixtures import base, couplets

_TASK = couplets.TASK
_NL = _TASK.places["NL"][0]
_PLACES = (
  *places.named(_TASK, ("none", "NL")),
  places.Place("before NL", tuple(range(_NL))),
)


class RoutesTest(base.Float64TestCase):
  def test_losses(self):
    """Losses by class and genre; cutting all before NL equals a barrier."""
    batch, params = couplets.batch(), couplets.params()
    by_seed = jax.tree.map(lambda x: x[None], params)
    found = routes.measure(couplets.OPEN, _TASK, by_seed, batch, _PLACES)
    rhymes = np.asarray(_TASK.truth(batch).rhymes)

    def expected(decoder):
      loss = _TASK.loss(couplets.logits(decoder, params, batch.inputs), batch)
      loss = np.asarray(loss)
      return np.array(
        [
          [
            loss[who][:, list(at)].sum(axis=1).mean()
            for at in _TASK.targets.values()
          ]
          for who in (rhymes, ~rhymes)
        ]
      )

    self.assert_close(found[0, 0], expected(couplets.OPEN))
    self.assert_close(found[0, 2], expected(couplets.BOTTLENECK))
    lost = routes.lost(_TASK, found, _PLACES)
    self.assertEqual(lost.shape, (1, 3, 2))
    self.assertEqual(np.abs(lost[:, 0]).max(), 0.0)
    self.assertGreater(np.abs(lost[:, 1:]).min(), 1e-3)
    barred = expected(couplets.BOTTLENECK) - expected(couplets.OPEN)
    second = [c for c in _TASK.targets if c[0] == "m" or c in ("art", "e2")]
    columns = [list(_TASK.targets).index(name) for name in second]
    self.assert_close(lost[0, 2], barred[:, columns].sum(axis=1))

  def test_nothing_to_compare_with(self):
    with self.assertRaisesRegex(ValueError, "must include the place 'none'"):
      routes.lost(_TASK, np.zeros((1, 2, 2, 9)), _PLACES[1:])


if __name__ == "__main__":
  absltest.main()
