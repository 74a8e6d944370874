"""Swaps, cell by cell, from the model's outputs on other prompts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from jaxlook.planning.couplets import places, swaps
from jaxlook.tasks import couplets_language as language
from tests.fixtures import base, couplets

_PLACES = places.named(couplets.TASK, ("none", "NL", "prompt"))


@functools.cache
def _measured():
  params = jax.tree.map(
    lambda *x: jnp.stack(x), couplets.params(0), couplets.params(5)
  )
  found = swaps.measure(
    couplets.BOTTLENECK, couplets.TASK, params, couplets.batch(), _PLACES
  )
  return params, jax.tree.map(np.asarray, found)


def _topics(logits):
  """Shares of topics and of the rest where m1 is predicted, [B, 9]."""
  row = np.exp(logits[:, places.line2(couplets.TASK) - 1])
  row /= row.sum(axis=1, keepdims=True)
  first = language.MODIFIER
  shares = [row[:, first + 8 * t : first + 8 * t + 8].sum(1) for t in range(8)]
  return np.stack([*shares, 1.0 - sum(shares)], axis=1)


class SwapsTest(base.Float64TestCase):
  def test_of_whole_prompts(self):
    """A swapped prompt at layer 0 reads as the donor's own outputs do."""
    params, found = _measured()
    batch = couplets.batch()
    truth = jax.tree.map(np.asarray, couplets.TASK.truth(batch))
    chosen = jax.tree.map(np.asarray, swaps.donors(truth))
    posterior = np.pad(language.topic_posterior(), ((0, 0), (0, 1)))
    blind = np.array([1 / 8] * 8 + [0.0])
    for seed in range(2):
      single = jax.tree.map(lambda x, e=seed: x[e], params)
      logits = couplets.logits(couplets.BOTTLENECK, single, batch.inputs)
      clean = _topics(np.asarray(logits))
      for kind in range(len(swaps.KINDS)):
        for genre, of_genre in enumerate((truth.rhymes, ~truth.rhymes)):
          rows = np.flatnonzero(of_genre & chosen.valid[kind])
          own = posterior[truth.key[rows]] if genre == 0 else blind[None]
          target = posterior[chosen.target[rows]]
          swapped = clean[chosen.donor[kind, rows]]

          def total(a, b):
            return np.abs(a - b).sum() / 2

          at = (seed, kind, 0, 2, genre)
          unit = total(target, own)
          self.assertEqual(found.topic.pairs[at], len(rows))
          self.assert_close(found.topic.moved[at], total(swapped, own) / unit)
          self.assert_close(found.topic.left[at], total(swapped, target) / unit)
          shift = total(swapped, clean[rows]) / unit
          self.assert_close(found.topic.shift[at], shift)
          self.assertGreater(shift, 1e-3)

  def test_of_nothing(self):
    """The place `none`, and NL where it is but a token, shift nothing."""
    _, found = _measured()
    for part in found:
      self.assertEqual(np.nanmax(part.shift[..., 0, :]), 0.0)
      self.assertEqual(np.nanmax(part.shift[:, :, 0, 1]), 0.0)
      self.assertGreater(np.nanmin(part.shift[:, :, 1, 1]), 1e-5)

  def test_written(self):
    """Shares sum to 1; layers agree on no change and on whole prompts."""
    params, _ = _measured()
    found = swaps.write(
      *(couplets.BOTTLENECK, couplets.TASK, params, couplets.batch(), _PLACES),
      key=jax.random.key(0),
    )
    for fits in found:
      for share in fits:
        self.assertEqual(share.shape, (2, 3, 2, 3, 2))
      self.assert_close(sum(fits), np.ones((2, 3, 2, 3, 2)))
      for place in (0, 2):
        self.assert_close(fits.own[:, :, 0, place], fits.own[:, :, 1, place])


if __name__ == "__main__":
  absltest.main()
