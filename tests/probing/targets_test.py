"""Tests of what is probed for against loops, and of probing models."""

import collections
import functools
import types
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from experiments.reports import probes
from jaxlook.models import Decoder, DecoderConfig, init
from jaxlook.probing import linear, probe_models, probe_plans, targets
from jaxlook.tasks.precache import Precache
from tests.fixtures import base


def _text(seed=0, count=400, letters="ab c"):
  rng = np.random.default_rng(seed)
  return np.frombuffer("".join(rng.choice(list(letters), count)).encode(), "u1")


class PrecacheTargetsTest(base.TestCase):
  @parameterized.parameters((2, 1, 8), (4, 2, 14), (3, 3, 10), (1, 1, 6))
  def test_every_target_by_a_loop(self, terms, first, length):
    """Each target of each position, from the inputs by its name's meaning."""
    task = Precache(0.5, terms, 3.0, length, first)
    inputs = task.sample(jax.random.key(0), 3).inputs
    x = np.asarray(inputs[..., 0], np.float64)
    found = targets.precache_targets(task, inputs)
    self.assertEqual(found.positions, range(terms + 2, length - 2))
    self.assertNotEmpty(found.positions)
    self.assertLen(set(found.names), found.values.shape[-1])

    def total(row, n, lags):
      return sum(np.sin(3.0 * x[row, n - i]) for i in lags)

    for row, p in np.ndindex(3, len(found.positions)):
      n = found.positions[p]
      wanted = {"x[n]": x[row, n]}
      for lag in range(terms + 3):
        wanted[targets.sine_name(lag)] = total(row, n, [lag])
      for last in range(first + 1, terms):
        wanted[f"sum of lags {first}..{last}"] = total(
          row, n, range(first, last + 1)
        )
      for ahead in range(3):
        wanted[targets.sum_name(ahead)] = total(
          row, n + ahead, range(first, terms + 1)
        )
      self.assertEqual(tuple(wanted), found.names)
      values = np.asarray(found.values[row, p], np.float64)
      self.assert_close(values, np.array(list(wanted.values())), atol=1e-5)

  def test_window_holds_what_targets_are_made_of(self):
    """z_n, then x_n back to the farthest lag."""
    task = Precache(0.5, 2, 3.0, 9)
    inputs = task.sample(jax.random.key(1), 2).inputs
    found = targets.precache_window(inputs, range(4, 7))
    self.assertEqual(found.shape, (2, 3, 6))
    for p, n in enumerate(range(4, 7)):
      expected = [inputs[:, n, 1]] + [inputs[:, n - i, 0] for i in range(5)]
      self.assert_close(found[:, p], jnp.stack(expected, -1), atol=0.0)

  def test_refuses_short_sequences(self):
    task = Precache(0.5, 2, 3.0, 6)
    inputs = task.sample(jax.random.key(0), 1).inputs
    with self.assertRaisesRegex(ValueError, "length must be at least 7"):
      targets.precache_targets(task, inputs)

  def test_shuffling_keeps_rows_and_moves_them(self):
    """The targets of a place stay together, and nearly all move away."""
    values = jnp.arange(80.0).reshape(5, 8, 2)
    shuffled = targets.Targets(("a", "b"), values, range(8)).shuffled(
      jax.random.key(0)
    )
    before, after = (np.asarray(v).reshape(-1, 2) for v in (values, shuffled))
    self.assertCountEqual(map(tuple, before), map(tuple, after))
    self.assertLess(np.mean(before == after), 0.2)
    sequence = np.asarray(shuffled)[..., 0] // 16
    self.assertGreater(len(np.unique(sequence[0])), 1)


class TokenTargetsTest(base.TestCase):
  def test_tokens_by_a_loop(self):
    """Classes in order of frequency, and one for all other tokens."""
    windows = _text().reshape(20, 20)
    ids = targets.most_frequent(windows.reshape(-1), 2)
    counted = collections.Counter(windows.reshape(-1).tolist())
    self.assertEqual(list(ids), [i for i, _ in counted.most_common(2)])
    at = targets.token_positions(19, start=3, stride=4)
    self.assertEqual(at, range(3, 15, 4))
    found = targets.token_targets(windows, ids, at)
    classes = {token: place for place, token in enumerate(ids)}
    for row, p, tau in np.ndindex(*found.values.shape):
      token = windows[row, at[p] + tau]
      self.assertEqual(found.values[row, p, tau], classes.get(token, 2))

  def test_last_position_has_all_tokens(self):
    """The farthest token of the last position is the window's last."""
    self.assertEqual(targets.token_positions(20, start=2)[-1] + 5, 20)
    with self.assertRaisesRegex(ValueError, "length must be at least 13"):
      targets.token_positions(12)

  @parameterized.parameters(0, 1, 2)
  def test_counts_by_a_loop(self, context):
    """The most frequent class after the longest context that was seen."""
    tokens, windows = _text(1, 60), _text(2, 90, "ab cd").reshape(6, 15)
    ids = targets.most_frequent(tokens, 3)
    at = range(3, 8)
    found = probe_plans.count_accuracy(
      tokens, windows, ids, at, context=context
    )
    self.assertLen(found, targets.AHEAD + 1)
    after = targets.to_classes(tokens, ids)
    wanted = targets.to_classes(windows, ids)
    for tau, value in enumerate(found):
      right = []
      for row in range(len(windows)):
        for n in at:
          for known in range(context, -1, -1):
            ends = [
              i
              for i in range(max(known - 1, 0), len(tokens) - tau * (known > 0))
              if tuple(tokens[i + 1 - known : i + 1])
              == tuple(windows[row, n + 1 - known : n + 1])
            ]
            if ends:
              break
          counted = np.bincount(
            [after[i + (tau if known else 0)] for i in ends], minlength=4
          )
          # Among equals the last class is taken, but with no context the first.
          best = np.flatnonzero(counted == counted.max())[-1 if known else 0]
          right.append(best == wanted[row, n + tau])
      self.assertAlmostEqual(value, np.mean(right))

  def test_counts_stop_at_the_ends_of_documents(self):
    """Each document repeats a letter, so the last token tells all others."""
    tokens = np.repeat(np.arange(9), [3, 1, 5, 7, 2, 9, 4, 6, 8])
    ends = np.flatnonzero(np.diff(tokens, append=-1)) + 1
    windows = np.repeat(np.array([[3], [5], [8]]), 12, axis=1)
    ids = np.arange(9)
    for context in (1, 2):
      accuracy = functools.partial(
        probe_plans.count_accuracy, tokens, windows, ids, range(2, 6)
      )
      apart = accuracy(context=context, ends=ends)
      np.testing.assert_array_equal(apart, 1.0)
    # Two tokens never stand in one document, so nothing is counted.
    single = probe_plans.count_accuracy(
      np.arange(9), windows, ids, range(2, 6), context=1, ends=ids + 1
    )
    self.assertEqual(single[0], 1.0)
    self.assertEqual(single[1], 0.0)

  def test_words(self):
    """Letters are words; what is left of one is counted to its end."""
    text = b"I am, Zed-ly!  "
    windows = np.frombuffer(text, "u1")[None]
    at = range(len(text) - 1)
    found = np.asarray(targets.word_targets(windows, at).values[0])
    expected = {
      "in a word": "10110011101100",
      "a word starts at n+1": "01000100010000",
      "the word ends at n": "10010000100100",
      "letters left in the word": "00100021001000",
    }
    for k, name in enumerate(targets.WORD_TARGETS):
      self.assertEqual(
        "".join(str(int(value)) for value in found[:, k]), expected[name], name
      )
    long = np.frombuffer(b"a" * 20, "u1")[None]
    found = targets.word_targets(long, range(3)).values
    self.assertEqual(found[0, 0, 3], 8)


class ProbingTest(base.Float64TestCase):
  def test_equals_probes_of_one_seed_and_site(self):
    """The program over seeds and sites, as probes fitted one by one."""
    task = Precache(0.5, 2, 2.0, 8)
    config = DecoderConfig(
      layers=1,
      width=4,
      heads=2,
      max_length=8,
      input_features=2,
      output_features=1,
    )
    inputs = task.sample(jax.random.key(2), 40).inputs.astype(jnp.float64)
    plan = probe_plans.precache_plan(task, inputs)
    by_seed = [
      jax.tree.map(np.float64, init(config, jax.random.key(seed)))
      for seed in (0, 1)
    ]
    params = jax.tree.map(lambda *each: jnp.stack(each), *by_seed)
    decoder = Decoder(config)
    found = probe_models.probe_models(plan, decoder, params, jax.random.key(3))
    scores = found[probe_models.R2]
    names = ["block_0/residual", "residual", "block_0/attention/key"]
    names += ["block_0/attention/value", "block_0/mlp/neuron"]
    self.assertEqual(list(scores.sites), names)
    wanted = cast(targets.Targets, plan.values)
    shuffled = wanted.shuffled(jax.random.key(3))
    read = jax.jit(probe_models.read_sites, static_argnums=(0, 3, 4))
    ridge = jax.jit(linear.ridge)
    for e, one in enumerate(by_seed):
      groups = read(
        decoder, one, inputs, probe_models.site_groups(config), range(8)
      )
      features = [np.asarray(x) for group in groups for x in group]
      for place, x in enumerate(features):
        x = x[:, plan.positions[0] : plan.positions[-1] + 1]
        for values, expected in (
          (wanted.values, scores.probe),
          (shuffled, scores.shuffled),
        ):
          y = np.asarray(values)
          halves = (x[:20], y[:20], x[20:], y[20:])
          r2 = ridge(*(a.reshape(-1, a.shape[-1]) for a in halves))
          self.assert_close(expected[e, place], np.asarray(r2), atol=1e-8)
    by_position = cast(np.ndarray, scores.by_position)
    self.assertEqual(by_position.shape, (2, 5, 2, len(wanted.names)))

  def test_text_baselines_and_labels(self):
    """Counts of the training text; all scores of labels; a table of them."""
    train = _text(3, 4000, "ab ")
    text = cast(
      Any,
      types.SimpleNamespace(
        train=types.SimpleNamespace(tokenizer="bytes"),
        train_tokens=lambda: train,
        train_ends=lambda: np.array([len(train)]),
      ),
    )
    windows = _text(4, 40 * 15, "ab ").reshape(40, 15).astype(np.int32)
    plan = probe_plans.text_plan(text, windows, top=2, stride=1, steps=3)
    counts = plan.baselines[probe_models.ACCURACY]["counts, token n"]
    # The third letter is the class of all others.
    self.assertEqual(counts["token n"], 1.0)
    self.assertBetween(counts["token n+2"], 0.2, 0.5)
    config = DecoderConfig(
      layers=1, width=4, heads=2, max_length=14, vocab_size=256, mlp_width=0
    )
    params = jax.tree.map(lambda x: x[None], init(config, jax.random.key(0)))
    scores = probe_models.probe_models(
      plan, Decoder(config), params, jax.random.key(0)
    )
    self.assertLen(scores, 4)
    found = probe_models.ProbeResults("causal", (0,), scores)
    table = probes.score_table(
      [found], plan.baselines, probe_models.ACCURACY, ["residual"], ["token n"]
    )
    self.assertLen(table, 2)
    self.assertLen(table[0], len(table[1]))
    self.assertEmpty(
      probes.differences([found], probe_models.R2, "residual", ["in a word"])
    )
    rows = probes.measurements([found], plan.baselines).to_pylist()
    kinds = {row["kind"] for row in rows}
    self.assertEqual(kinds, {"probe", "shuffled", "baseline"})
    sites = {row["site"] for row in rows if row["score"] == probe_models.NATS}
    # The baseline is at no site.
    self.assertEqual(sites, {"block_0/residual", "residual", None})
