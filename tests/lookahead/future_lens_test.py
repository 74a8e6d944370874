"""The future lens: linear maps, soft prompts and their controls."""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from jaxlook import models
from jaxlook.interventions.forward import capture
from jaxlook.lookahead import future_lens as lens
from jaxlook.lookahead import future_maps, future_pairs, soft_prompt
from jaxlook.models import Decoder, DecoderConfig, residual_site
from jaxlook.tasks.losses import cross_entropy
from tests.fixtures import base

CONFIG = DecoderConfig(
  layers=2, width=8, heads=2, max_length=8, vocab_size=12, init_std=0.5
)
LAYERS = CONFIG.layers + 1
# Rounding of some hundred float64 operations on logits of size ten.
LOGITS_ATOL = 1e-11


@functools.cache
def params_of(seed: int):
  """Weights, in numpy, large enough that attention and biases matter."""
  shapes = jax.eval_shape(lambda: models.init(CONFIG, jax.random.key(0)))
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: rng.normal(0.0, 0.4, x.shape), shapes)


def windows_of(seed: int, count: int) -> jax.Array:
  """Sequences in which no token comes twice, so that it tells its place."""
  rng = np.random.default_rng(seed)
  orders = [rng.permutation(CONFIG.vocab_size or 0) for _ in range(count)]
  return jnp.asarray(np.stack(orders)[:, : CONFIG.max_length + 1], jnp.int32)


def states_of(seed: int, *shape: int) -> jax.Array:
  """Random states or prompts."""
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=(*shape, CONFIG.width)))


def head_of(params, states: np.ndarray) -> np.ndarray:
  """Final norm and tied head, in numpy."""
  centred = states - states.mean(-1, keepdims=True)
  scale = np.sqrt((centred**2).mean(-1, keepdims=True) + CONFIG.norm_epsilon)
  params = jax.tree.map(np.asarray, params)
  norm = params["final_norm"]
  normed = centred / scale * norm["scale"] + norm["bias"]
  return normed @ params["token_embedding"]["embedding"].T


class SkipBigramTest(base.TestCase):
  @parameterized.parameters(1, 2, 3)
  def test_table_is_the_one_of_a_loop(self, offset):
    """The commonest token `offset` later, the smaller on ties."""
    rng = np.random.default_rng(offset)
    tokens = rng.integers(0, 7, 60).astype(np.uint16)
    seen = collections.defaultdict(collections.Counter)
    for at in range(len(tokens) - offset):
      seen[int(tokens[at])][int(tokens[at + offset])] += 1
    commonest = np.bincount(tokens).argmax()
    expected = [
      max(seen[token], key=lambda t: (seen[token][t], -t))
      if seen[token]
      else commonest
      for token in range(9)
    ]
    found = future_pairs.skip_bigram(tokens, offset, 9)
    self.assertEqual(found.tolist(), expected)

  def test_pairs_across_the_ends_of_documents(self):
    """They are not counted; 2 has nothing after it in its document."""
    tokens, ends = np.array([0, 1, 0, 1, 2, 3, 2, 1, 1]), np.array([5, 6, 7, 9])
    self.assertEqual(
      future_pairs.skip_bigram(tokens, 1, 4, ends).tolist(), [1, 0, 1, 1]
    )
    self.assertEqual(
      future_pairs.skip_bigram(tokens, 1, 4).tolist(), [1, 0, 1, 2]
    )

  @parameterized.parameters(0, 4)
  def test_offset_outside_the_text_is_refused(self, offset):
    with self.assertRaisesRegex(ValueError, r"offset must lie in 1\.\.3"):
      future_pairs.skip_bigram(np.arange(4), offset, 4)


class OtherStatesTest(base.TestCase):
  @parameterized.parameters(2, 3, 6, 7)
  def test_every_pair_gets_another_sequence(self, sequences):
    """And every state is used once."""
    owner = jnp.repeat(jnp.arange(sequences), 3)
    states = jnp.stack([owner, jnp.arange(3 * sequences)], axis=1)
    found = np.asarray(future_pairs.other_states(states, 3))
    self.assertTrue(np.all(found[:, 0] != owner))
    self.assertLen(set(found[:, 1].tolist()), 3 * sequences)

  def test_one_sequence_is_refused(self):
    with self.assertRaisesRegex(ValueError, "two sequences are needed, not 1"):
      future_pairs.other_states(jnp.zeros((3, 1)), 3)


class SetupTest(base.TestCase):
  @parameterized.parameters(
    ({"sequences": 1}, "sequences must be at least 2, not 1"),
    ({"horizon": 0}, "horizon must be at least 1, not 0"),
    ({"prompt_length": 0}, "prompt_length must be at least 1, not 0"),
    ({"fit_positions": 3}, "fit_positions must be a multiple"),
    ({"offsets": ()}, r"offsets must lie in 1\.\.3"),
    ({"offsets": (4,)}, r"offsets must lie in 1\.\.3"),
  )
  def test_bad_settings_are_refused(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(future_pairs.LensSetup(), **fields)


class ChosenTest(base.TestCase):
  def test_layer_is_chosen_where_it_was_fitted(self):
    """Not where it is scored; controls of the prompt follow the prompt."""
    rng = np.random.default_rng(0)

    def scores() -> lens.MethodScores:
      return lens.MethodScores(*rng.uniform(size=(2, 5, 3, 2)))

    fitted = {lens.LOGITS: scores(), lens.LEARNED: scores()}
    scored = {
      name: scores()
      for name in (lens.LOGITS, lens.LEARNED, lens.FED, lens.COUNTED)
    }
    measured = lens.LensResults(fitted, scored)
    for method, chooser in (
      (lens.LOGITS, lens.LOGITS),
      (lens.LEARNED, lens.LEARNED),
      (lens.FED, lens.LEARNED),
    ):
      for tau in (1, 2):
        means = [
          np.mean(
            [fitted[chooser].accuracy[e, layer, tau - 1] for e in range(5)]
          )
          for layer in range(3)
        ]
        layer = means.index(max(means))
        found = lens.at_best_layer(measured, method, tau)
        self.assertEqual(found.layer, layer)
        for value, of in zip(found[1:], scored[method], strict=True):
          self.assert_close(value, of[:, layer, tau - 1])
    self.assertIsNone(lens.at_best_layer(measured, lens.COUNTED, 1).layer)


class CollectTest(base.Float64TestCase):
  def test_pairs_are_those_of_the_plain_model(self):
    """States, later states, tokens and predictions, found again by token."""
    params, windows = params_of(0), windows_of(0, 5)
    decoder, horizon = Decoder(CONFIG, "myopic/kv"), 3
    pairs = jax.jit(
      lambda p, w: future_pairs.collect_pairs(
        jax.random.key(1), decoder, p, w, 4, horizon
      )
    )(params, windows)
    sites = [residual_site(CONFIG, layer) for layer in range(LAYERS)]
    logits, seen = jax.jit(
      lambda p, w: capture(Decoder(CONFIG), p, w[:, :-1], sites)
    )(params, windows)
    # In numpy, for a hundred lookups.
    pairs, logits, seen, windows = jax.tree.map(
      np.asarray, (pairs, logits, seen, windows)
    )
    places = collections.Counter()
    for row in range(20):
      window = row // 4
      (at,) = np.flatnonzero(windows[window] == pairs.current[row])
      places[window, at] += 1
      for layer, site in enumerate(sites):
        self.assert_close(pairs.states[row, layer], seen[site][window, at])
      for tau in range(1, horizon + 1):
        later = at + tau - 1
        self.assert_close(
          pairs.later[row, tau - 1], seen["residual"][window, later]
        )
        self.assertEqual(pairs.tokens[row, tau - 1], windows[window, at + tau])
        self.assertEqual(
          pairs.predicted[row, tau - 1], logits[window, later].argmax()
        )
    self.assertEqual(set(places.values()), {1})

  @parameterized.parameters(0, 7)
  def test_more_positions_than_there_are_is_refused(self, positions):
    with self.assertRaisesRegex(ValueError, r"positions must lie in 1\.\.6"):
      future_pairs.collect_pairs(
        jax.random.key(0),
        Decoder(CONFIG),
        {},
        windows_of(0, 2),
        positions,
        3,
      )


class LinearTest(base.Float64TestCase):
  def test_map_to_the_later_state_is_numpys(self):
    """Ridge on standardised states, then norm and head, all in numpy."""
    params, decoder = params_of(0), Decoder(CONFIG)
    fitted, others = (
      future_pairs.StatePairs(
        states=states_of(seed, 40, LAYERS),
        later=states_of(seed + 1, 40, 3),
        current=jnp.zeros(40, jnp.int32),
        tokens=jnp.zeros((40, 3), jnp.int32),
        predicted=jnp.zeros((40, 3), jnp.int32),
      )
      for seed in (1, 3)
    )
    penalty = 0.05
    guess = jax.jit(
      functools.partial(future_maps.hidden_guesses, decoder, penalty=penalty)
    )
    for layer in range(LAYERS):
      found = guess(params, fitted, others, layer)
      x = np.asarray(fitted.states[:, layer])
      mean, std = x.mean(0), x.std(0)
      z, z_others = (
        (np.asarray(each.states[:, layer]) - mean) / std
        for each in (fitted, others)
      )
      gram = z.T @ z / len(z) + penalty * np.eye(z.shape[1])
      for tau in range(3):
        y = np.asarray(fitted.later[:, tau])
        weights = np.linalg.solve(gram, z.T @ (y - y.mean(0)) / len(z))
        expected = head_of(params, z_others @ weights + y.mean(0)).argmax(-1)
        self.assertEqual(found[:, tau].tolist(), expected.tolist())

  def test_descent_finds_least_squares(self):
    """On a quadratic it is numpy's, up to the noise of the batches."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=6)
    x_here, y_here = jnp.asarray(x), jnp.asarray(y)
    found = soft_prompt.minimise(
      lambda w, picks: jnp.mean((x_here[picks] @ w - y_here[picks]) ** 2),
      jnp.zeros(2),
      jax.random.key(0),
      rows=6,
      adam=soft_prompt.AdamSettings(400, 600, 0.1),
    )
    self.assert_close(found, np.linalg.lstsq(x, y)[0], atol=0.05)

  @parameterized.parameters("rows", "steps", "batch_size")
  def test_counts_below_one_are_refused(self, name):
    counts = {"rows": 1, "steps": 1, "batch_size": 1, name: 0}
    with self.assertRaisesRegex(ValueError, f"{name} must be at least 1"):
      adam = soft_prompt.AdamSettings(
        counts["steps"], counts["batch_size"], 0.1
      )
      soft_prompt.minimise(
        lambda w, picks: w,
        jnp.zeros(()),
        jax.random.key(0),
        rows=counts["rows"],
        adam=adam,
      )


@functools.partial(jax.jit, static_argnames="variant")
def transplanted(prompt, layer, states, tokens, variant="causal"):
  """Logits of the model of seed 3."""
  return soft_prompt.transplanted_logits(
    Decoder(CONFIG, variant), params_of(3), prompt, layer, states, tokens
  )


class SoftPromptTest(base.Float64TestCase):
  def setUp(self):
    super().setUp()
    self.tokens = windows_of(4, 5)
    self.states = states_of(5, 5)
    self.prompt = states_of(6, 4)
    # One compilation serves all tests: shapes are the same.
    self.fed = self.tokens[:, 4:7]

  def test_state_after_the_last_block_is_read_by_the_head_alone(self):
    """At layer L the prompt does not matter, nor does what is fed."""
    expected = head_of(params_of(3), np.asarray(self.states))
    for prompt in (self.prompt, states_of(7, 4)):
      found = transplanted(prompt, CONFIG.layers, self.states, self.fed)
      self.assert_close(found[:, 0], expected, atol=LOGITS_ATOL)

  def test_own_state_in_the_own_prefix_changes_nothing(self):
    """For every layer, traced, and for no transplant."""
    decoder, size = Decoder(CONFIG, "myopic/residual"), len(self.prompt)
    sites = [residual_site(CONFIG, layer) for layer in range(LAYERS)]
    # The same prefix for all: one prompt stands for all rows.
    tokens = jnp.concatenate(
      [jnp.broadcast_to(self.tokens[:1, :size], (5, size)), self.fed], axis=1
    )
    logits, seen = jax.jit(lambda p, t: capture(decoder, p, t, sites))(
      params_of(3), tokens
    )
    prompt = soft_prompt.prompt_from_text(
      decoder, params_of(3), tokens[0, :size]
    )
    for layer, site in enumerate(sites):
      found = transplanted(prompt, layer, seen[site][:, size - 1], self.fed)
      self.assert_close(found, logits[:, size - 1 :], atol=LOGITS_ATOL)
    found = transplanted(prompt, soft_prompt.NO_LAYER, self.states, self.fed)
    self.assert_close(found, logits[:, size - 1 :], atol=LOGITS_ATOL)

  def test_state_matters_at_its_layer(self):
    """The twin of the above: another state gives other logits."""
    plain = transplanted(
      self.prompt, soft_prompt.NO_LAYER, self.states, self.fed
    )
    for layer in range(LAYERS):
      found = transplanted(self.prompt, layer, self.states, self.fed)
      moved = jnp.abs(found - plain).max(axis=(0, 2))
      self.assertGreater(moved[0], 1e-3)
      # After the last block no later position reads it.
      self.assertEqual(bool(moved[1] > 1e-3), layer < CONFIG.layers)

  def test_prompts_learn_through_cut_attention(self):
    """The gradient is that of the function, whatever the variant cuts."""
    gradient = jax.grad(
      lambda prompt: transplanted(
        prompt, 1, self.states, self.fed, "myopic/kv"
      )[..., 0].sum()
    )(self.prompt)
    step = 1e-5
    for place in ((0, 0), (2, 5)):
      moved = self.prompt.at[place].add(step)
      rise = jnp.sum(
        transplanted(moved, 1, self.states, self.fed)[..., 0]
        - transplanted(self.prompt, 1, self.states, self.fed)[..., 0]
      )
      self.assertGreater(abs(rise / step), 1e-3)
      self.assert_close(gradient[place], rise / step, atol=1e-3)

  def test_decoding_feeds_back_what_it_says(self):
    """The same as a loop that writes one token at a time."""
    decode = jax.jit(
      functools.partial(soft_prompt.decode, Decoder(CONFIG), params_of(3)),
      static_argnums=3,
    )
    layer, horizon = 1, 4
    found = decode(self.prompt, layer, self.states, horizon)
    tokens = np.zeros((5, horizon), np.int32)
    for step in range(horizon):
      logits = transplanted(self.prompt, layer, self.states, tokens[:, :-1])
      tokens[:, step] = jnp.argmax(logits[:, step], axis=-1)
    self.assertEqual(found.tolist(), tokens.tolist())
    fed = self.tokens[:, :horizon]
    said = decode(self.prompt, layer, self.states, horizon, fed)
    logits = transplanted(self.prompt, layer, self.states, fed[:, :-1])
    self.assertEqual(said.tolist(), jnp.argmax(logits, axis=-1).tolist())
    self.assertNotEqual(said.tolist(), found.tolist())

  def test_too_long_prompts_and_bad_offsets_are_refused(self):
    decoder = Decoder(CONFIG)
    with self.assertRaisesRegex(ValueError, "length 9 exceed max_length=8"):
      transplanted(states_of(0, 6), 0, self.states, self.fed)
    with self.assertRaisesRegex(ValueError, "horizon must be at least 1"):
      soft_prompt.decode(decoder, {}, self.prompt, 0, self.states, 0)
    with self.assertRaisesRegex(ValueError, r"offsets must lie in 1\.\.3"):
      soft_prompt.train_prompt(
        jax.random.key(0),
        decoder,
        {},
        self.prompt,
        0,
        self.states,
        self.fed,
        offsets=(4,),
        adam=soft_prompt.AdamSettings(1, 1, 0.1),
      )


CYCLE = 8
CYCLE_CONFIG = DecoderConfig(
  layers=1, width=16, heads=2, max_length=8, vocab_size=CYCLE, init_std=0.3
)
CYCLE_SETUP = future_pairs.LensSetup(
  fit_positions=4,
  score_positions=2,
  prompt_length=3,
  prompt_steps=60,
  prompt_batch=32,
  map_steps=60,
  map_batch=64,
)


class CycleTest(base.TestCase):
  """A model of 0, 1, ... 7, 0, ...: whatever follows is settled by a state."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    rng = np.random.default_rng(0)
    starts = rng.integers(0, CYCLE, (2, 24, 1))
    fit_on, score_on = jnp.asarray((starts + np.arange(9)) % CYCLE, jnp.int32)
    decoder, adam = Decoder(CYCLE_CONFIG), optax.adam(1e-2)
    counted = jnp.stack(
      [
        jnp.asarray(future_pairs.skip_bigram(np.arange(80) % CYCLE, tau, CYCLE))
        for tau in (1, 2, 3)
      ]
    )

    def loss(params):
      logits = models.apply(decoder, params, fit_on[:, :-1])
      return jnp.mean(cross_entropy(logits, fit_on[:, 1:]))

    def step(state, _):
      params, moments = state
      updates, moments = adam.update(jax.grad(loss)(params), moments)
      return (optax.apply_updates(params, updates), moments), None

    def train(key):
      params = models.init(CYCLE_CONFIG, key)
      start = (params, adam.init(params))
      return jax.lax.scan(step, start, length=150)[0][0]

    def prepare(params):
      key = jax.random.key(1)
      return future_pairs.prepare_pairs(
        key, decoder, params, fit_on, score_on, CYCLE_SETUP
      )

    def linear(params, data):
      key = jax.random.key(2)
      return lens.measure_linear(
        key, decoder, params, data, counted, CYCLE_SETUP
      ).scored

    def prompts(params, data):
      key, tokens = jax.random.key(3), fit_on[0, :3]
      return lens.measure_prompts(
        key, decoder, params, data, tokens, CYCLE_SETUP
      ).scored

    @jax.jit
    def of_all(keys):
      params = jax.vmap(train)(keys)
      data = jax.vmap(prepare)(params)
      found = jax.vmap(linear)(params, data), jax.vmap(prompts)(params, data)
      return params, data, found

    keys = jax.random.split(jax.random.key(0), 2)
    params, data, (cls.linear, cls.prompts) = of_all(keys)
    params, data = jax.tree.map(lambda x: x[1], (params, data))
    one = jax.jit(prompts)
    cls.alone = one(params, data)
    lost = data.fitted._replace(states=data.fitted.states * np.nan)
    cls.disturbed = one(params, data._replace(fitted=lost))

  def test_what_a_state_settles_is_decoded(self):
    """All methods find it; without the state, or with another, none does."""
    scores = self.linear | self.prompts
    for method in (
      lens.LOGITS,
      lens.HIDDEN,
      lens.LEARNED,
      lens.COUNTED,
      lens.ON_TEXT,
    ):
      best = scores[method].accuracy.max(axis=1)
      self.assertGreater(best.min(), 0.95, method)
    for method in (lens.SHUFFLED, lens.NO_STATE):
      self.assertLess(scores[method].accuracy.max(), 0.5, method)
    self.assert_close(scores[lens.ON_TEXT].agreement, jnp.ones((2, 2, 3)))

  def test_seeds_together_are_seeds_alone(self):
    """And the scores of every method have layer and tau for axes."""
    self.assertEqual({*self.linear, *self.prompts}, {*lens.METHODS})
    for scores in (self.linear | self.prompts).values():
      self.assertEqual(scores.accuracy.shape, (2, 2, 3))
    # A pair of the 48 may fall to the other side of a near tie.
    self.assert_close(
      jax.tree.map(lambda x: x[1], self.prompts), self.alone, atol=1.5 / 48
    )

  def test_prompts_without_a_state_learn_nothing_of_states(self):
    """Where the states to fit on are NaN, they say the same as before."""
    without = (lens.NO_STATE, lens.FED_NO_STATE, lens.FIXED)
    for method in (lens.LEARNED, *without):
      same = map(np.array_equal, self.alone[method], self.disturbed[method])
      self.assertEqual(all(same), method in without, method)
