"""Skip-trigrams match the V x V circuits; counts match a loop."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from absl.testing import absltest, parameterized

from jaxlook import interventions
from jaxlook.circuits import skip_trigrams, trigram_counts
from jaxlook.circuits.skip_trigrams import Trigrams
from jaxlook.models import Decoder
from tests.fixtures import base
from tests.fixtures.random_models import CONFIG, perturbed_init, tokens

ONE = dataclasses.replace(CONFIG, layers=1)
PROBABILITY = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.06, 0.04])
FLOOR = 0.05


class SkipTrigramsTest(base.Float64TestCase):
  def test_tables_are_the_explicit_circuits(self):
    """Tables of every head match V x V matrices with LayerNorm unfolded."""
    decoder, params, inputs = Decoder(ONE), perturbed_init(ONE), tokens(ONE)

    @jax.jit
    def found(params, inputs):
      circuits = skip_trigrams.head_circuits(
        decoder, params, inputs, jnp.asarray(PROBABILITY), floor=FLOOR, block=3
      )
      table = skip_trigrams.strongest_entries(circuits, 2, block=3)
      every = jnp.meshgrid(*[jnp.arange(7)] * 3, indexing="ij")
      flat = [x.reshape(-1) for x in every]
      return (
        table,
        skip_trigrams.top_trigrams(table, circuits.kept, 3),
        skip_trigrams.effect_parts(circuits, *flat),
        interventions.capture(decoder, params, inputs, ["residual"])[1],
      )

    table, listed, parts, seen = jax.tree.map(np.asarray, found(params, inputs))
    params: Any = jax.tree.map(np.asarray, params)
    deviation = np.sqrt(seen["residual"].var(-1) + ONE.norm_epsilon).mean()
    x = params["token_embedding"]["embedding"]
    x = x + params["position_embedding"].mean(0)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(
      x.var(1, keepdims=True) + ONE.norm_epsilon
    )
    block = params["block_0"]
    x = x * block["attention_norm"]["scale"] + block["attention_norm"]["bias"]
    out = params["token_embedding"]["embedding"].T
    out = params["final_norm"]["scale"][:, None] * out
    for head in range(2):
      own = slice(3 * head, 3 * head + 3)
      q, k, v = (
        x @ block["attention"][name]["kernel"][:, own]
        + block["attention"][name]["bias"][own]
        for name in ("query", "key", "value")
      )
      weight = np.exp(q @ k.T / np.sqrt(3))
      # A destination sees 5 // 2 tokens: this source and a typical one.
      look = weight / (weight + weight @ PROBABILITY[:, None])
      wrote = v @ block["attention"]["out"]["kernel"][own]
      wrote = wrote - wrote.mean(1, keepdims=True)
      write = wrote @ out / deviation
      write = write - PROBABILITY @ write
      write = write - (write @ PROBABILITY)[:, None]
      self.assert_close(
        parts[0][head].reshape(7, 7, 7), np.tile(look.T[:, :, None], (1, 1, 7))
      )
      self.assert_close(
        parts[1][head].reshape(7, 7, 7), np.tile(write[:, None], (1, 7, 1))
      )
      # The last token is too rare; no source is its own destination.
      np.fill_diagonal(look, -np.inf)
      best = np.argsort(-look.T[:, :6], axis=1)[:, :2]
      self.assert_close(table.destinations[head], best)
      self.assert_close(
        table.looks[head], np.take_along_axis(look.T, best, axis=1)
      )
      best = np.argsort(-write[:, :6], axis=1)[:, :2]
      self.assert_close(table.outputs[head], best)
      self.assert_close(
        table.writes[head], np.take_along_axis(write, best, axis=1)
      )
      strongest = look.T[:6, :6].max(1) * write[:6, :6].max(1)
      mine = listed.head == head
      self.assert_close(
        listed.source[mine], np.repeat(np.argsort(-strongest)[:3], 4)
      )
      s, d, o = (each[mine] for each in listed[1:4])
      self.assert_close(listed.effect[mine], look[d, s] * write[s, o])
    self.assertLen(set(zip(*listed[:4], strict=True)), 2 * 3 * 4)

  @parameterized.parameters(
    ({}, "^layers must be 1 for skip-trigrams, not 2"),
    ({"layers": 1, "mlp_width": 4}, "^hidden_width must be 0 .* not 4"),
    ({"layers": 1, "output_features": 3}, "^skip-trigrams need a model"),
  )
  def test_refuses_other_models(self, fields, message):
    config = dataclasses.replace(CONFIG, **fields)
    with self.assertRaisesRegex(ValueError, message):
      skip_trigrams.head_circuits(
        Decoder(config), {}, tokens(config), jnp.asarray(PROBABILITY)
      )


class TrigramCountsTest(base.TestCase):
  def test_counts_are_those_of_a_loop(self):
    """Compares all triples of four tokens in random windows."""
    windows = np.random.default_rng(0).integers(0, 4, (6, 9))
    triples = np.array(np.meshgrid(*[range(4)] * 3)).reshape(3, -1)
    found = trigram_counts.count_trigrams(windows, *triples)
    expected = np.zeros((4, triples.shape[1]), int)
    for row, (source, destination, output) in enumerate(triples.T):
      for window in windows:
        for t in range(8):
          if window[t] == destination:
            followed = window[t + 1] == output
            earlier = source in window[:t]
            expected[:, row] += [1, followed, earlier, earlier and followed]
    self.assert_close(tuple(found), tuple(expected))

  def test_lift(self):
    """Twice the base rate, with 1 added; without evidence the lift is 1."""
    found = trigram_counts.Counts(
      *(
        np.array(x)
        for x in ([100, 100, 0], [10, 10, 0], [90, 0, 0], [19, 0, 0])
      )
    )
    np.testing.assert_allclose(found.base, [0.1, 0.1, 0.0])
    np.testing.assert_allclose(found.rate, [19 / 90, 0.0, 0.0])
    np.testing.assert_allclose(found.lift, [20 / 10, 1.0, 1.0])
    self.assertEqual(found.testable.tolist(), [True, False, False])
    self.assertAlmostEqual(found.pooled(), 19 / 9)
    self.assertTrue(np.isnan(found.some(np.array([1, 2])).pooled()))

  def test_bugs(self):
    """After source s the text has A -> X and B -> Y, never A -> Y or B -> X.

    The tokens are s, A, B, X, Y. A follows s nine times, B eighteen times.
    """
    windows = np.array([[0, 1, 3], [1, 0, 3], [0, 2, 4], [0, 2, 4]] * 9)
    windows = np.concatenate([windows, np.array([[1, 4, 4], [2, 3, 3]] * 20)])
    grid = np.array([[1, 3], [1, 4], [2, 3], [2, 4]])
    effect = np.array([3.0, 2.0, 1.0, 4.0])
    trigrams = Trigrams(
      np.zeros(4), np.zeros(4, int), grid[:, 0], grid[:, 1], effect, np.ones(4)
    )
    counts = trigram_counts.count_trigrams(windows, *trigrams[1:4])
    self.assert_close(counts.true, np.array([9, 0, 0, 18]))
    found = trigram_counts.find_bugs(trigrams, counts, 2, enough=9)
    self.assert_close(np.stack(found), np.array(([1, 2], [0, 3], [3, 0])))
    found = trigram_counts.find_bugs(trigrams, counts, 2, enough=10)
    self.assert_close(np.stack(found), np.array(([2], [3], [0])))
    found = trigram_counts.find_bugs(trigrams, counts, 2, enough=9, least=10)
    self.assertEmpty(found.forced)

  def test_bugs_come_with_the_strongest_true_entries(self):
    """Same destination: the entries of a row; same output: of a column."""
    true = np.array([[9, 9, 0], [9, 0, 4], [0, 9, 9]]).ravel()
    many = np.full(9, 900)
    counts = trigram_counts.Counts(many, many // 300, many, true)
    effect = np.array([[8.0, 1, 3], [5, 7, 9], [4, 2, 6]]).ravel()
    trigrams = Trigrams(*np.zeros((4, 9), int), effect, np.ones(9))
    found = trigram_counts.find_bugs(trigrams, counts, 3)
    # Forced by effect: (1, 1), (2, 0) and (0, 2); (1, 2) is too rare.
    self.assert_close(
      np.stack(found), np.array([[4, 6, 2], [3, 8, 0], [7, 0, 8]])
    )

  def test_rank_correlation(self):
    x = np.array([1.0, 2.0, 3.0, 10.0])
    self.assertAlmostEqual(trigram_counts.rank_correlation(x, x**3), 1.0)
    self.assertAlmostEqual(trigram_counts.rank_correlation(x, -x), -1.0)
    self.assertTrue(np.isnan(trigram_counts.rank_correlation(x, np.ones(4))))
    ties = np.array([1.0, 1.0, 2.0, 3.0])
    expected = scipy.stats.spearmanr(ties, x[::-1])[0]
    self.assertAlmostEqual(
      trigram_counts.rank_correlation(ties, x[::-1]), expected
    )

  def test_mixed(self):
    """Shuffling keeps the tokens of each column and combines them anew."""
    columns = np.arange(90).reshape(6, 15)
    found = trigram_counts.shuffled_tokens(Trigrams(*columns), seed=0)
    for name in ("head", "source", "look", "write"):
      np.testing.assert_array_equal(
        getattr(found, name), getattr(Trigrams(*columns), name)
      )
    for mixed, column in ((found.destination, 2), (found.output, 3)):
      self.assertTrue((mixed != columns[column]).any())
      np.testing.assert_array_equal(np.sort(mixed), columns[column])
    self.assertTrue((found.destination + 15 != found.output).any())


if __name__ == "__main__":
  absltest.main()
