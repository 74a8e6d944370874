"""Donors are checked one by one; swaps match outputs on other prompts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from jaxlook.planning.couplets import places, swaps
from jaxlook.planning.couplets.stream_edits import (
  expectations,
  written_lines,
)
from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Truth
from tests.fixtures import base, couplets

_PLACES = places.named(couplets.TASK, ("none", "NL", "prompt"))


@functools.cache
def _measured():
  params = jax.tree.map(
    lambda *x: jnp.stack(x), couplets.params(0), couplets.params(5)
  )
  found = expectations(
    swaps.Swaps(),
    couplets.BOTTLENECK,
    couplets.TASK,
    params,
    couplets.batch(),
    _PLACES,
  )
  return params, jax.tree.map(np.asarray, found)


def _topics(logits):
  """Probabilities of the topics of m1 and of any other token, [B, 9]."""
  row = np.exp(logits[:, places.line2(couplets.TASK) - 1])
  row /= row.sum(axis=1, keepdims=True)
  first = language.MODIFIER
  shares = [row[:, first + 8 * t : first + 8 * t + 8].sum(1) for t in range(8)]
  return np.stack([*shares, 1.0 - sum(shares)], axis=1)


class SwapsTest(base.Float64TestCase):
  def test_whole_prompts(self):
    """A swap of the prompt at layer 0 gives the outputs of the donor."""
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

  def test_nothing_swapped(self):
    """Swaps at `none`, and at NL at layer 0, shift nothing."""
    _, found = _measured()
    for part in found:
      self.assertEqual(np.nanmax(part.shift[..., 0, :]), 0.0)
      self.assertEqual(np.nanmax(part.shift[:, :, 0, 1]), 0.0)
      self.assertGreater(np.nanmin(part.shift[:, :, 1, 1]), 1e-5)

  def test_written(self):
    """Shares sum to 1; all layers agree at `none` and at `prompt`."""
    params, _ = _measured()
    found = written_lines(
      swaps.Swaps(),
      couplets.BOTTLENECK,
      couplets.TASK,
      params,
      couplets.batch(),
      _PLACES,
      key=jax.random.key(0),
    )
    for fits in found:
      for share in fits:
        self.assertEqual(share.shape, (2, 3, 2, 3, 2))
      self.assert_close(sum(fits), np.ones((2, 3, 2, 3, 2)))
      for place in (0, 2):
        self.assert_close(fits.own[:, :, 0, place], fits.own[:, :, 1, place])


_SIZE = 512


def _truth(rhymes, key):
  rest = np.zeros_like(key)
  return Truth(rhymes, key, rest, rest, rest)


class DonorsTest(base.TestCase):
  def test_kinds(self):
    """Each kind of donor is the next couplet that fits its description."""
    draw = np.random.default_rng(0)
    rhymes = draw.random(_SIZE) < 0.4
    key = draw.integers(16, size=_SIZE)
    found = jax.jit(swaps.donors)(_truth(rhymes, key))
    donor, valid, target = map(np.asarray, found)
    self.assertTrue(valid.all())
    np.testing.assert_array_equal(target, key[donor[0]])

    def following(after, fits):
      order = [(after + step) % _SIZE for step in range(1, _SIZE + 1)]
      return next(index for index in order if fits[index])

    for i in range(_SIZE):
      for kind in range(3):
        self.assertEqual(rhymes[donor[kind, i]], rhymes[i])
        self.assertNotEqual(donor[kind, i], i)
      self.assertNotEqual(key[donor[0, i]], key[i])
      self.assertEqual(key[donor[1, i]], key[i])
      alike = rhymes == rhymes[i]
      other = following(i, alike & (key != key[i]))
      self.assertEqual(donor[0, i], other)
      shuffled = following(other, alike & (np.arange(_SIZE) != i))
      self.assertEqual(donor[2, i], shuffled)
    # A shuffled donor has the target class as often as any other class.
    hits = np.mean(key[donor[2]] == target)
    self.assertLess(abs(hits - 1 / 16), 0.04)
    self.assertGreater(hits, 0.0)

  def test_without_donors(self):
    """Couplets without a donor are not valid."""
    rhymes = np.array([True, True, True, False, False, False])
    key = np.array([1, 1, 2, 5, 5, 5])
    valid = np.asarray(jax.jit(swaps.donors)(_truth(rhymes, key)).valid)
    np.testing.assert_array_equal(
      valid,
      [
        [True, True, True, False, False, False],
        [True, True, False, False, False, False],
        [True, True, True, False, False, False],
      ],
    )


if __name__ == "__main__":
  absltest.main()
