"""Beam search equals an enumeration of all sentences."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook import decoding, models
from jaxlook.models import Decoder, DecoderConfig
from tests.fixtures import base
from tests.fixtures.random_models import perturbed_init

VOCAB, STEPS, STOP = 3, 4, 2
CONFIG = DecoderConfig(2, 8, 2, max_length=7, vocab_size=VOCAB)
PROMPTS = jnp.array([[0, 1, 1], [1, 0, 0]])
LENGTHS = jnp.array([3, 1])


@functools.cache
def _params():
  return perturbed_init(CONFIG, 3)


@functools.cache
def _all_sentences(stop, penalty):
  """Lists each prompt's (score, tokens, log-probability, length), sorted."""
  apply = jax.jit(lambda text: models.apply(Decoder(CONFIG), _params(), text))
  every = np.array(list(itertools.product(range(VOCAB), repeat=STEPS)))
  result = []
  for row, length in enumerate(LENGTHS):
    prompt = np.tile(PROMPTS[row, :length], (len(every), 1))
    text = np.concatenate([prompt, every], axis=1)
    text = np.pad(text, ((0, 0), (0, CONFIG.max_length - text.shape[1])))
    log_probs = jax.nn.log_softmax(apply(text))
    sentences = {}
    for at, tokens in enumerate(every):
      end = STEPS
      if stop is not None and stop in tokens:
        end = tokens.tolist().index(stop) + 1
      total = sum(log_probs[at, length + i - 1, tokens[i]] for i in range(end))
      fill = [stop] * (STEPS - end)
      shown = (*tokens[:end].tolist(), *fill)
      sentences[shown] = float(total) / end**penalty, shown, float(total), end
    result.append(sorted(sentences.values(), reverse=True))
  return result


class BeamTest(base.Float64TestCase):
  @parameterized.parameters(
    (None, 0.0, True), (STOP, 0.0, True), (STOP, 1.0, True), (STOP, 1.0, False)
  )
  def test_full_width_is_an_exhaustive_search(self, stop, penalty, cached):
    """A full-width beam returns all sentences in order, with their scores."""
    width = VOCAB**STEPS
    beams = decoding.beam_search(
      Decoder(CONFIG, "myopic"),
      _params(),
      PROMPTS,
      STEPS,
      width=width,
      lengths=LENGTHS,
      stop=stop,
      length_penalty=penalty,
      cached=cached,
    )
    for row, expected in enumerate(_all_sentences(stop, penalty)):
      count = len(expected)
      scores, tokens, log_probs, lengths = zip(*expected, strict=True)
      np.testing.assert_allclose(beams.scores[row, :count], scores, atol=1e-9)
      self.assertEqual(
        [tuple(each) for each in beams.tokens[row, :count].tolist()],
        list(tokens),
      )
      np.testing.assert_allclose(
        beams.log_probs[row, :count], log_probs, atol=1e-9
      )
      self.assertEqual(beams.lengths[row, :count].tolist(), list(lengths))
      # Beams beyond the number of sentences stay empty.
      np.testing.assert_array_equal(beams.scores[row, count:], -np.inf)

  def test_narrow_beams(self):
    """Width 1 is greedy, full width finds the best, width 3 scores right."""
    run = functools.partial(
      decoding.beam_search, Decoder(CONFIG), _params(), PROMPTS, STEPS
    )
    greedy = decoding.generate(
      Decoder(CONFIG), _params(), PROMPTS, STEPS, lengths=LENGTHS
    )
    one = run(width=1, lengths=LENGTHS)
    np.testing.assert_array_equal(one.tokens[:, 0], greedy.tokens)
    np.testing.assert_allclose(
      one.log_probs[:, 0], greedy.log_probs.sum(1), atol=1e-9
    )
    np.testing.assert_allclose(decoding.beam_gain(one, greedy), 0.0, atol=1e-9)
    full = run(width=VOCAB**STEPS, lengths=LENGTHS)
    best = np.array([each[0][0] for each in _all_sentences(None, 0.0)])
    np.testing.assert_allclose(
      decoding.beam_gain(full, greedy),
      best - greedy.log_probs.sum(1),
      atol=1e-9,
    )
    three = run(width=3, lengths=LENGTHS)
    for row, every in enumerate(_all_sentences(None, 0.0)):
      scores = {tokens: score for score, tokens, *_ in every}
      for beam in range(3):
        tokens = tuple(three.tokens[row, beam].tolist())
        np.testing.assert_allclose(
          three.scores[row, beam], scores[tokens], atol=1e-9
        )

  def test_vmap_over_seeds_is_a_loop(self):
    """Beam search over several seeds equals one search per seed."""
    both = [perturbed_init(CONFIG, 5), perturbed_init(CONFIG, 7)]
    run = lambda params: decoding.beam_search(  # noqa: E731
      Decoder(CONFIG), params, PROMPTS, STEPS, width=3, stop=STOP
    )
    all_seeds = jax.vmap(run)(jax.tree.map(lambda *x: jnp.stack(x), *both))
    for e, params in enumerate(both):
      np.testing.assert_array_equal(all_seeds.tokens[e], run(params).tokens)

  @parameterized.parameters(
    ({"width": 0}, "width must be at least 1, not 0"),
    ({"width": 2, "length_penalty": -1.0}, "length_penalty must be at least 0"),
    ({"width": 2, "stop": 3}, "stop must lie in 0..2, not 3"),
  )
  def test_bad_settings_are_refused(self, given, message):
    """The error names the setting."""
    with self.assertRaisesRegex(ValueError, message):
      decoding.beam_search(Decoder(CONFIG), _params(), PROMPTS, STEPS, **given)


if __name__ == "__main__":
  absltest.main()
