"""Losses and lines of models with a known answer."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.models import Decoder, DecoderConfig
from jaxlook.planning.couplets import losses_and_lines, writing
from jaxlook.tasks.couplets import Couplets
from tests.fixtures import base
from tests.fixtures.random_models import perturbed_init

TASK = Couplets(p=0.5, modifiers=1, fillers=1)


class MeasureTest(base.Float64TestCase):
  def test_by_genre_and_seed(self):
    """Losses are means by genre; seeds do not affect each other."""
    config = DecoderConfig(
      1, 8, 2, max_length=TASK.length, vocab_size=TASK.vocab_size
    )
    decoder = Decoder(config, "myopic/kv", barrier=TASK.barrier)
    params = jax.tree.map(
      lambda a, b: jnp.stack([a, b]),
      perturbed_init(config, 0),
      perturbed_init(config, 1),
    )
    batch = jax.jit(TASK.batch, static_argnums=1)(jax.random.key(2), 12)
    rhymes = np.asarray(jax.jit(TASK.truth)(batch).rhymes)
    found = losses_and_lines.measure(
      decoder, TASK, params, batch, jax.random.key(3)
    )
    losses = np.asarray(losses_and_lines._losses(decoder, TASK, params, batch))
    for seed in range(2):
      self.assert_close(found.rhyming[seed], losses[seed][rhymes].mean(axis=0))
      self.assert_close(found.free[seed], losses[seed][~rhymes].mean(axis=0))
    self.assertNotEqual(*found.rhyming[:, 0])
    # Random models do not write such lines.
    np.testing.assert_array_equal(found.right, 0.0)
    self.assertTrue(np.isfinite(found.beam_gain).all())
    nothing = jax.tree.map(lambda x: x[~rhymes], batch)
    with self.assertRaisesRegex(ValueError, "no couplet of the batch rhymes"):
      losses_and_lines.measure(
        decoder, TASK, params, nothing, jax.random.key(3)
      )

  def test_sums_of_the_oracle(self):
    """A planner's loss on line 2 is ln 16 below the blind reader's."""
    readers = [
      TASK.expected(reader, True)[None] for reader in ("planner", "blind")
    ]
    planner, blind = (
      losses_and_lines.second_line(TASK, each) for each in readers
    )
    self.assert_close(blind - planner, np.log([16.0]))
    by_class = losses_and_lines.by_class(TASK, readers[0])
    self.assert_close(by_class["m1"], np.log([32.0]))
    self.assertEqual(writing.line_length(TASK), 3)
