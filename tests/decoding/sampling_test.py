"""Tokens are the same with and without a cache; filters work by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook import decoding, models
from jaxlook.decoding import GREEDY, Sampling, cache, sampling
from jaxlook.models import Decoder, DecoderConfig
from tests.fixtures import base
from tests.fixtures.random_models import perturbed_init

CONFIG = DecoderConfig(2, 8, 2, max_length=9, vocab_size=5)
ROTARY = DecoderConfig(2, 8, 2, 9, vocab_size=5, positions="rotary")
STEPS = 5
PROMPTS = jnp.array([[1, 2, 3, 4], [4, 0, 9, 9], [2, 9, 9, 9]]) % 5
LENGTHS = jnp.array([4, 2, 1])


@functools.cache
def _params(config=CONFIG):
  return perturbed_init(config)


def _by_hand(config, row, prompt):
  """Continues greedily; runs the model on the whole text for every token."""
  text, log_probs = [int(t) for t in prompt], []
  for _ in range(STEPS):
    padded = jnp.array([text + [0] * (config.max_length - len(text))])
    logits = _apply(config, _params(config), padded)[0, len(text) - 1]
    log_probs.append(float(jax.nn.log_softmax(logits).max()))
    text.append(int(jnp.argmax(logits)))
  return text[len(prompt) :], log_probs


@functools.partial(jax.jit, static_argnums=0)
def _apply(config, params, tokens):
  return models.apply(Decoder(config), params, tokens)


class GenerateTest(base.Float64TestCase):
  @parameterized.parameters((CONFIG, True), (ROTARY, True), (CONFIG, False))
  def test_greedy(self, config, cached):
    """Prompts of three lengths give the same tokens as each prompt alone."""
    result = decoding.generate(
      Decoder(config, "myopic"),
      _params(config),
      PROMPTS,
      STEPS,
      lengths=LENGTHS,
      cached=cached,
    )
    for row, length in enumerate(LENGTHS):
      tokens, log_probs = _by_hand(config, row, PROMPTS[row, :length])
      self.assertEqual(result.tokens[row].tolist(), tokens)
      np.testing.assert_allclose(result.log_probs[row], log_probs, atol=1e-10)
    np.testing.assert_array_equal(result.lengths, STEPS)

  @parameterized.parameters((True, None), (False, None), (True, (5, 3)))
  def test_logits(self, cached, barrier):
    """Tokens read one by one give the logits of the whole sequence."""
    tokens = jax.random.randint(jax.random.key(0), (3, 9), 0, 5)
    decoder = Decoder(CONFIG, barrier=barrier)
    expected = jax.jit(models.apply, static_argnums=0)(
      decoder, _params(), tokens
    )
    reader = cache.reader(decoder, cached)
    twos = jnp.full(3, 2)
    start = jax.jit(reader.start, static_argnums=3)
    read = jax.jit(reader.read)
    logits, state = start(_params(), tokens[:, :3], twos, 7)
    self.assert_close(logits, expected[:, 1])
    for at in range(2, 9):
      logits, state = read(_params(), state, tokens[:, at])
      self.assert_close(logits, expected[:, at])

  def test_draws(self):
    """A key draws the same tokens with a cache and without."""
    settings = {
      "sampling": Sampling(temperature=1.5),
      "key": jax.random.key(3),
      "lengths": LENGTHS,
    }
    run = functools.partial(
      decoding.generate, Decoder(CONFIG), _params(), PROMPTS, STEPS
    )
    cached, uncached = (run(**settings, cached=c) for c in (True, False))
    np.testing.assert_array_equal(cached.tokens, uncached.tokens)
    other = run(**settings | {"key": jax.random.key(4)})
    self.assertTrue(np.any(other.tokens != cached.tokens))

  @parameterized.parameters(GREEDY, Sampling(0.5))
  def test_edits_of_prompts(self, how):
    """With another prompt's residual stream, the continuation is that one's."""
    params, prompts = _params(), PROMPTS
    table = params["position_embedding"][None, :4]
    stream = params["token_embedding"]["embedding"][prompts] + table
    others = jnp.roll(prompts, 1, axis=0)
    key = jax.random.key(3)

    def change(x):
      return x.at[:, :4].set(jnp.roll(stream, 1, axis=0))

    @functools.partial(jax.jit, static_argnums=0)
    def edited(cached):
      return decoding.generate(
        *(Decoder(CONFIG), params, prompts, STEPS),
        sampling=how,
        key=key,
        cached=cached,
        edits={"block_0/residual": change},
      )

    plain, expected = (
      decoding.generate(
        *(Decoder(CONFIG), params, each, STEPS), sampling=how, key=key
      )
      for each in (prompts, others)
    )
    self.assertTrue(np.any(plain.tokens != expected.tokens))
    for cached in (True, False):
      result = edited(cached)
      np.testing.assert_array_equal(result.tokens, expected.tokens)
      self.assert_close(result.log_probs, expected.log_probs)

  def test_stop(self):
    """After the stop token nothing is counted, and log-probabilities are 0."""
    plain = decoding.generate(Decoder(CONFIG), _params(), PROMPTS, STEPS)
    stop = int(plain.tokens[0, 1])
    result = decoding.generate(
      Decoder(CONFIG), _params(), PROMPTS, STEPS, stop=stop
    )
    for row, expected in enumerate(plain.tokens.tolist()):
      end = expected.index(stop) + 1 if stop in expected else STEPS
      self.assertEqual(result.lengths[row], end)
      self.assertEqual(result.tokens[row, :end].tolist(), expected[:end])
      self.assertEqual(set(result.tokens[row, end:].tolist()) - {stop}, set())
      np.testing.assert_array_equal(result.log_probs[row, end:], 0.0)

  def test_vmap_over_seeds_is_a_loop(self):
    """Decoding several seeds equals decoding each seed alone."""
    both = [perturbed_init(CONFIG, 5), perturbed_init(CONFIG, 7)]
    run = lambda params: decoding.generate(  # noqa: E731
      Decoder(CONFIG), params, PROMPTS, STEPS
    )
    all_seeds = jax.vmap(run)(jax.tree.map(lambda *x: jnp.stack(x), *both))
    for e, params in enumerate(both):
      np.testing.assert_array_equal(all_seeds.tokens[e], run(params).tokens)

  @parameterized.parameters(True, False)
  def test_padding_changes_nothing(self, cached):
    """Not even ids outside the vocabulary, whose embedding is NaN."""
    run = functools.partial(
      decoding.generate,
      Decoder(CONFIG),
      _params(),
      steps=STEPS,
      lengths=LENGTHS,
      cached=cached,
    )
    real = jnp.arange(4)[None] < LENGTHS[:, None]
    for padding in (-1, 5, 2**31 - 1):
      other = run(jnp.where(real, PROMPTS, padding))
      np.testing.assert_array_equal(other.tokens, run(PROMPTS).tokens)
      np.testing.assert_array_equal(other.log_probs, run(PROMPTS).log_probs)

  def test_bfloat16(self):
    """The cache has the dtype of the keys; tokens are those without it."""
    decoder = Decoder(CONFIG, bfloat16=True)
    params = jax.tree.map(lambda x: x.astype(jnp.float32), _params())
    run = functools.partial(decoding.generate, decoder, params, PROMPTS, STEPS)
    np.testing.assert_array_equal(run().tokens, run(cached=False).tokens)

  @parameterized.parameters(
    ({"steps": 0}, "steps must be at least 1, not 0"),
    ({"steps": 7}, "prompts of 4 tokens and 7 steps exceed max_length=9"),
    ({"stop": 5}, "stop must lie in 0..4, not 5"),
    ({"lengths": jnp.array([4, 0, 1])}, "lengths must lie in 1..4"),
    ({"sampling": Sampling()}, "key must be given"),
    (
      {"lengths": LENGTHS, "edits": {"block_0/residual": jnp.zeros_like}},
      "edits need prompts of one length",
    ),
    ({"decoder": Decoder(CONFIG, "window:2")}, "'window:2' changes the forw"),
    ({"prompts": jnp.zeros((0, 3), int)}, "prompts must be .B, P. and not"),
    ({"prompts": PROMPTS - 1}, r"tokens must lie in 0\.\.4, not in -1"),
    ({"prompts": PROMPTS + 1}, r"tokens must lie in 0\.\.4, not in .*\.\.5"),
    (
      {"prompts": np.asarray(PROMPTS, np.int64) + 2**32},
      r"tokens must lie in 0\.\.4, not in 4294967296",
    ),
    ({"prompts": PROMPTS > 0}, "tokens must be integers, not bool"),
  )
  def test_bad_arguments_are_refused(self, changes, message):
    """The error names the bad argument."""
    given = {"decoder": Decoder(CONFIG), "prompts": PROMPTS, "steps": STEPS}
    with self.assertRaisesRegex(ValueError, message):
      decoding.generate(params=_params(), **given | changes)

  def test_a_forward_changing_variant_without_a_cache(self):
    """`window:0` decodes under its own forward pass."""
    run = functools.partial(
      decoding.generate, params=_params(), prompts=PROMPTS, steps=STEPS
    )
    narrow = run(Decoder(CONFIG, "window:0"), cached=False)
    # Each token sees only itself, so equal tokens have equal successors.
    for row in narrow.tokens.tolist():
      follows = dict(zip(row, row[1:], strict=False))
      self.assertEqual([follows[t] for t in row[:-1]], row[1:])


class FilterTest(base.Float64TestCase):
  def test_temperature_top_k_and_top_p(self):
    """Filters keep the right tokens of probabilities 8, 4, 2, 1, 1 in 16."""
    logits = jnp.log(jnp.array([1.0, 8.0, 2.0, 4.0, 1.0]))
    for setting, kept in (
      (Sampling(), [1, 8, 2, 4, 1]),
      (Sampling(top_k=2), [0, 8, 0, 4, 0]),
      (Sampling(top_k=9), [1, 8, 2, 4, 1]),
      (Sampling(top_p=0.49), [0, 8, 0, 0, 0]),
      (Sampling(top_p=0.51), [0, 8, 0, 4, 0]),
      (Sampling(top_p=0.8), [0, 8, 2, 4, 0]),
      # top_k keeps 8, 4 and 2; of these, 8 and 4 have probability 12 / 14.
      (Sampling(top_k=3, top_p=0.8), [0, 8, 0, 4, 0]),
      (Sampling(temperature=0.5), [1, 64, 4, 16, 1]),
    ):
      result = jnp.exp(sampling.filtered(logits, setting))
      self.assert_close(result, np.array(kept) / np.sum(kept))

  @parameterized.parameters((0.2, 2), (1 / 3, 3), (0.7, 7), (1e-9, 1))
  def test_top_p_keeps_the_fewest_of_tokens_that_tie(self, top_p, count):
    """Of 9 tokens of equal probability, those with the lowest ids."""
    result = sampling.filtered(jnp.zeros(9, jnp.float32), Sampling(top_p=top_p))
    expected = np.where(np.arange(9) < count, -np.log(count), -np.inf)
    np.testing.assert_allclose(result, expected, rtol=1e-6)

  @parameterized.parameters(1e-30, 1e-38, 1e-45, 1e-300)
  def test_tiny_temperatures_draw_the_most_likely(self, temperature):
    """As 0 would; of tokens that tie, any."""
    logits = jnp.array([[0.0, 3.0, 2.9, 3.0], [5.0, -9.0, 2.0, 1.0]])
    logits = jnp.tile(logits.astype(jnp.float32), (50, 1))
    setting = Sampling(temperature=temperature)
    tokens = sampling._draw(jax.random.key(0), logits, setting)
    self.assertEqual(set(tokens[::2].tolist()), {1, 3})
    self.assertEqual(set(tokens[1::2].tolist()), {0})

  def test_frequencies(self):
    """Tokens are drawn with their probabilities."""
    logits = jnp.tile(jnp.log(jnp.array([[1.0, 2.0, 5.0]])), (4000, 1))
    tokens = sampling._draw(jax.random.key(0), logits, Sampling())
    shares = np.bincount(tokens, minlength=3) / 4000
    # Four standard deviations of a share.
    np.testing.assert_allclose(shares, [0.125, 0.25, 0.625], atol=0.03)

  @parameterized.parameters(
    ({"temperature": -1.0}, "temperature must be at least 0, not -1"),
    ({"temperature": float("nan")}, "temperature must be at least 0"),
    ({"top_k": 0}, "top_k must be at least 1, not 0"),
    ({"top_p": 0.0}, r"top_p must lie in \(0, 1\], not 0"),
  )
  def test_bad_fields_are_refused(self, fields, message):
    """The error names the field that is out of range."""
    with self.assertRaisesRegex(ValueError, message):
      Sampling(**fields)

  def test_temperature_0_is_greedy(self):
    """Temperature 0 takes the largest logit."""
    logits = jnp.array([[0.0, 3.0, 2.9]])
    self.assertEqual(sampling._draw(jax.random.key(0), logits, GREEDY), 1)


if __name__ == "__main__":
  absltest.main()
