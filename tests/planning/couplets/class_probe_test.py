"""The probe finds the class only where the stream contains it."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from jaxlook.planning.couplets import class_probe, places
from jaxlook.tasks import couplets_language as language
from tests.fixtures import base, couplets

_PLACES = places.named(couplets.TASK, ("none", "line1 first", "e1", "NL"))


class ClassProbeTest(base.Float64TestCase):
  def test_known_answer(self):
    """Embeddings give the class: the probe reads it at e1, not at a filler."""
    batch = couplets.batch(dataclasses.replace(couplets.TASK, p=1.0), 600)
    params = jax.tree.map(lambda x: x, couplets.params())
    query = params["block_0"]["attention"]["query"]
    # With queries of zero, attention is even over all visible positions.
    params["block_0"]["attention"]["query"] = jax.tree.map(
      jnp.zeros_like, query
    )
    table = params["token_embedding"]["embedding"]
    words = slice(language.WORD, language.WORD + language.WORDS)
    named = np.repeat(np.eye(16), 4, axis=0)
    params["token_embedding"] = {"embedding": table.at[words].set(named)}
    found = class_probe.measure(
      couplets.OPEN,
      couplets.TASK,
      jax.tree.map(lambda x: x[None], params),
      batch,
      _PLACES,
    )
    accuracy, nats = (np.asarray(x)[0] for x in found)
    self.assertEqual(accuracy.shape, (2, 2, 4))
    probe, shuffled = accuracy
    self.assertEqual(probe[0, 2], 1.0)
    self.assertLess(nats[0, 0, 2], 0.2)
    # A position after e1 reads e1 in the first layer, so only the input of the
    # second layer has the class.
    self.assertGreater(probe[1, 3], 0.3)
    for guess in (*probe[:, 0], probe[0, 1], probe[0, 3], *shuffled.ravel()):
      self.assertLess(guess, 0.15)
    self.assertLess(abs(nats[0, 0, 0] - math.log(16)), 0.05)

  def test_free_lines(self):
    with self.assertRaisesRegex(ValueError, "FREE couplets"):
      class_probe.measure(
        couplets.OPEN,
        couplets.TASK,
        couplets.params(),
        couplets.batch(),
        _PLACES,
      )


if __name__ == "__main__":
  absltest.main()
