"""Planners match an enumeration; planners as models get known effects."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.planning.couplets import answers
from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Couplets, Truth
from tests.fixtures import base

_SIZE = 400


def _drawn(seed=0):
  """Random couplets: topic and article fit a word of the class."""
  draw = np.random.default_rng(seed)
  rhymes = draw.random(_SIZE) < 0.5
  key, target = draw.integers(16, size=(2, _SIZE))
  target = np.where(target == key, (target + 1) % 16, target)
  end = np.where(rhymes, key, draw.integers(16, size=_SIZE))
  j = draw.integers(4, size=_SIZE)
  truth = Truth(
    rhymes, key, end, language.TOPIC_OF[end, j], language.ARTICLE_OF[end, j]
  )
  return truth, target


def _shares(words, feature, size):
  """The share of each value of a feature among equally likely words (class, j).

  None if no word is given; the last outcome is for other tokens.
  """
  if not words:
    return None
  return np.bincount([feature(w) for w in words], minlength=size + 1) / len(
    words
  )


def _by_enumeration(truth, target, row):
  """Own and target distributions of topic, article and class for one line."""
  every = list(itertools.product(range(16), range(4)))

  def topic(word):
    return language.TOPIC_OF[word]

  def article(word):
    return language.ARTICLE_OF[word]

  own = [w for w in every if not truth.rhymes[row] or w[0] == truth.key[row]]
  meant = [w for w in every if w[0] == target[row]]
  result = []
  for feature, size in ((topic, 8), (article, 2), (lambda w: w[0], 16)):
    result.append(tuple(_shares(w, feature, size) for w in (own, meant)))
    if feature is topic:
      own, meant = (
        [w for w in words if topic(w) == truth.topic[row]]
        for words in (own, meant)
      )
    else:
      own, meant = (
        [w for w in words if article(w) == truth.article[row]]
        for words in (own, meant)
      )
  return result


class AnswersTest(base.Float64TestCase):
  def test_exact(self):
    """Topic, then article given topic, then class given both."""
    truth, target = _drawn()
    found = jax.jit(lambda *x: answers.planner_answers(Couplets(), *x))(
      truth, target
    )
    found = jax.tree.map(np.asarray, found)
    for row in range(_SIZE):
      for part, (own, meant) in zip(
        found, _by_enumeration(truth, target, row), strict=True
      ):
        self.assert_close(part.own[row], own)
        differs = meant is not None and bool(np.any(meant != own))
        self.assertEqual(part.counts[row], differs)
        if differs:
          self.assert_close(part.target[row], meant)
    for part in found:
      self.assertTrue(part.counts[truth.rhymes].any())
      self.assertTrue(part.counts[~truth.rhymes].any())

  def test_planners_are_the_ends_of_the_scale(self):
    """The own planner gives (0, 1), the other (1, 0), a mixture is between."""
    truth, target = _drawn()

    @jax.jit
    def measured(valid):
      truths = answers.planner_answers(Couplets(), truth, target)
      own = answers.LineParts(*(part.own for part in truths))
      meant = answers.LineParts(*(part.target for part in truths))
      mixed = jax.tree.map(lambda p, q: 0.75 * p + 0.25 * q, own, meant)
      nothing = jax.tree.map(lambda p: jnp.eye(p.shape[1])[-1:] + 0 * p, own)
      return [
        answers.effects(found, own, truths, valid, truth.rhymes)
        for found in (own, meant, mixed, nothing)
      ]

    valid = np.arange(_SIZE) % 3 > 0
    own, meant, mixed, nothing = measured(valid)
    for name in answers.LineParts._fields:
      for found, moved in ((own, 0.0), (meant, 1.0), (mixed, 0.25)):
        effect = getattr(found, name)
        self.assert_close(effect.moved, np.full(2, moved))
        self.assert_close(effect.left, np.full(2, 1.0 - moved))
        self.assert_close(effect.shift, np.full(2, moved))
      # Tokens of other kinds are far from both planners.
      effect = getattr(nothing, name)
      self.assertGreaterEqual(float(effect.moved.min()), 1.0 - base.EXACT)
      self.assertGreaterEqual(float(effect.left.min()), 1.0 - base.EXACT)
    who = [truth.rhymes & valid, ~truth.rhymes & valid]
    self.assertEqual(own.topic.pairs.tolist(), [int(w.sum()) for w in who])
    self.assertLess(int(own.ending.pairs[0]), int(own.article.pairs[0]))

  def test_end_only(self):
    """The class decides neither topic nor article; any class may end a line."""
    truth, target = _drawn()
    task = Couplets(end_only=True)
    truths = jax.jit(lambda *x: answers.planner_answers(task, *x))(
      truth, target
    )
    self.assertFalse(np.any(truths.topic.counts | truths.article.counts))
    self.assertTrue(np.all(truths.ending.counts))
    free = np.asarray(truths.ending.own)[~truth.rhymes]
    self.assert_close(free[:, :16], np.full_like(free[:, :16], 1 / 16))

  @parameterized.parameters(Couplets(), Couplets(modifiers=1, fillers=0))
  def test_expected(self, task):
    """Probabilities of tokens are summed by topic, article and class."""
    draw = np.random.default_rng(1)
    logits = draw.normal(size=(3, task.length, task.vocab_size))
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    found = jax.jit(lambda x: answers.model_answers(task, x))(logits)
    for part, name, letter, groups in (
      (found.topic, "m1", "m", 8),
      (found.article, "art", "A", 2),
      (found.ending, "e2", "w", 16),
    ):
      row = p[:, task.places[name][0] - 1]
      sums = np.zeros((3, groups + 1))
      for token in range(task.vocab_size):
        shown = language.NAMES[token] if token < len(language.NAMES) else ""
        head = shown[1:].split(".")[0]
        is_kind = shown[:1] == letter and head.isdigit()
        sums[:, int(head) if is_kind else -1] += row[:, token]
      self.assert_close(part, sums)

  def test_distance_of_classes(self):
    """The distance of two classes is the share of their 4 bits that differ."""
    posterior = language.topic_posterior()
    a, b = np.divmod(np.arange(256), 16)
    bits = np.array([int(x).bit_count() for x in a ^ b])
    found = answers.distance(posterior[a], posterior[b])
    self.assert_close(found, bits / 4)


if __name__ == "__main__":
  absltest.main()
