"""Properties of answers to path-star questions, on random float64 models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook import models
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.planning.stars import answers as star_answers
from jaxlook.planning.stars import questions as stars
from jaxlook.tasks.path_star import PathStar
from tests.fixtures import base

TASK = PathStar(2, 3, 5)
PLACE = {name: k for k, name in enumerate(stars.IN_CONTEXT)}


class StarAnswersTest(base.Float64TestCase):
  def setUp(self):
    super().setUp()
    config = DecoderConfig(
      *(1, 8, 2, TASK.length), vocab_size=TASK.vocab_size, init_std=2.0
    )
    self.decoder = Decoder(config, "myopic/kv")
    params = models.init(config, jax.random.key(1))
    self.params = jax.tree.map(lambda x: x[None].astype(float), params)
    self.fit = stars.context_questions(TASK, jax.random.key(2), 8)

  def answered(self):
    """Questions with the model's own answers as the truth, except the first."""
    questions = stars.context_questions(TASK, jax.random.key(3), 32)
    one = jax.tree.map(lambda x: x[0], self.params)
    write = functools.partial(
      star_answers.write, self.decoder, one, steps=TASK.steps
    )
    texts = jax.jit(jax.vmap(write))(
      jnp.concatenate([questions.prompts[None], questions.donors])
    )
    own, others = texts[0], texts[1:]
    wrong = own.at[0, 0].set((own[0, 0] + 1) % TASK.vocab_size)
    return questions._replace(answers=wrong, donor_answers=others), own

  def test_laws(self):
    """Written answers, forced answers and swaps are consistent."""
    questions, own = self.answered()
    found = star_answers.measure(
      self.decoder,
      self.params,
      self.fit,
      questions,
      jax.random.key(0),
      labels=5,
      arms=2,
      width=TASK.vocab_size**TASK.steps,
    )
    alone = star_answers.accuracy(self.decoder, self.params, questions)
    np.testing.assert_array_equal(alone[:, :-1], found.correct)
    np.testing.assert_array_equal(alone[:, -1], found.paths)
    self.assertEqual(found.whole[0], 31 / 32)
    self.assertEqual(found.paths[0], found.whole[0])
    self.assertEqual(found.written[0, 0], 31 / 32)
    self.assertGreaterEqual(found.beam_gain[0], -base.EXACT)
    moved, left = found.moved[0], found.left[0]
    # Nothing moves where the streams are equal.
    for place in (stars.SELF, stars.BEFORE):
      self.assertTrue((left[PLACE[place], :, -1] == 31 / 32).all())
    self.assertTrue((moved[PLACE[stars.SELF], :, -1] == 1.0).all())
    # A swap of the whole prompt gives the donor's answer.
    self.assertEqual(moved[PLACE[stars.EVERYWHERE], 0, -1], 1.0)
    # The answer mark predicts the first step, so a swap there after the last
    # block decides it. At the goal, a swap after the last block has no effect.
    self.assertEqual(moved[PLACE[stars.ANSWER], -1, 0], 1.0)
    self.assertEqual(left[PLACE[stars.GOAL], -1, -1], 31 / 32)
    # Some donors have other answers, so the checks above are not empty.
    for place in (stars.EVERYWHERE, "leaves: edges of both"):
      same = (questions.donor_answers[PLACE[place]] == own).all(axis=1)
      self.assertFalse(same.all())
    self.assertLess(moved[PLACE[stars.GOAL], -1, -1], 1.0)

  def test_probe_of_unseen_labels(self):
    """A linear map to codes predicts labels that it was not fitted on."""
    key_codes, key_map, key = jax.random.split(jax.random.key(0), 3)
    codes = jax.random.normal(key_codes, (40, 3))
    features = codes @ jax.random.normal(key_map, (3, 6))
    fit, test = jnp.arange(30), jnp.arange(30, 40)
    true, shuffled = star_answers.probe_accuracy(
      features[None, fit], features[None, test], fit, test, codes, key
    )
    self.assertEqual(true[0], 1.0)
    self.assertLess(shuffled[0], 0.5)
