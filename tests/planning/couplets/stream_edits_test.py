"""Properties of edited streams that hold for any parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from jaxlook import models
from jaxlook.interventions.forward import run
from jaxlook.planning.couplets import places, stream_edits
from tests.fixtures import base, couplets

_PLACES = places.places(couplets.TASK)
_NAMES = [place.name for place in _PLACES]
_U = _NAMES.index("U")
_OWN, _DONOR = 0, 1
_ROLL = 5


@functools.cache
def _swept(decoder):
  """Logits that predict m1, [K, L, P, B, V], and those without an edit.

  The kinds of edits: the couplets' own streams, and other couplets' streams.
  """
  inputs = couplets.batch().inputs
  at = places.line2(couplets.TASK) - 1

  @jax.jit
  def swept(params):
    own = stream_edits.residual_streams(decoder, params, inputs)
    streams = jnp.stack([own, jnp.roll(own, _ROLL, axis=1)])
    made = stream_edits.StreamEdits(
      lambda kind: streams[kind],
      jnp.ones((2, couplets.SIZE), bool),
      jnp.zeros(couplets.SIZE, int),
    )
    masks = jnp.asarray(places.masks(couplets.TASK, _PLACES))
    found = stream_edits.sweep(
      decoder,
      made,
      masks,
      lambda valid, edits: run(decoder, params, inputs, edits)[:, at],
    )
    return found, models.apply(decoder, params, inputs)[:, at]

  return jax.tree.map(np.asarray, swept(couplets.params()))


class StreamEditsTest(base.Float64TestCase):
  def test_no_change(self):
    """The own stream, or an edit at the place `none`, changes nothing."""
    found, clean = _swept(couplets.OPEN)
    same = [found[_OWN].reshape(-1, *clean.shape), found[_DONOR, :, 0]]
    for rows in same:
      np.testing.assert_array_equal(rows, np.broadcast_to(clean, rows.shape))

  def test_whole_prompt(self):
    """A swap of the whole prompt at any layer gives the donor's outputs."""
    for decoder in (couplets.OPEN, couplets.BOTTLENECK):
      found, clean = _swept(decoder)
      for layer in range(couplets.CONFIG.layers):
        self.assert_close(
          found[_DONOR, layer, _NAMES.index("prompt")],
          np.roll(clean, _ROLL, axis=0),
        )

  def test_what_reaches_m1(self):
    """The last layer reads only what the route lets it see."""
    for decoder, early in ((couplets.OPEN, True), (couplets.BOTTLENECK, False)):
      found, clean = _swept(decoder)
      moved = np.abs(found[_DONOR] - clean).max(axis=(-1, -2))
      for place in ("genre", "line1", "line1 first", "e1"):
        first, last = moved[:, _NAMES.index(place)]
        # On every route, NL passes on what it reads in the first layer.
        self.assertGreater(first, 1e-3)
        if early:
          self.assertGreater(last, 1e-3)
        else:
          self.assertEqual(last, 0.0)
      at_newline, at_neutral = moved[:, _NAMES.index("NL")], moved[:, _U]
      # NL and U are the same token in all couplets, so swaps at layer 0 change
      # nothing. Behind the barrier, U has read only such tokens by layer 1.
      self.assertEqual(at_newline[0], 0.0)
      self.assertEqual(at_neutral[0], 0.0)
      self.assertGreater(at_newline[1], 1e-3)
      if early:
        self.assertGreater(at_neutral[1], 1e-3)
      else:
        self.assertEqual(at_neutral[1], 0.0)


if __name__ == "__main__":
  absltest.main()
