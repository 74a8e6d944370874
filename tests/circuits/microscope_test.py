"""The microscope's data equal what the models compute."""

from typing import Any, NamedTuple

import jax
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook import interventions, stats
from jaxlook.circuits import lens, microscope, weights
from jaxlook.lookahead import influence
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.losses import cross_entropy
from jaxlook.text.tokenizer import load_tokenizer
from tests.fixtures import base
from tests.fixtures.checkpoints import random_params

CONFIG = DecoderConfig(
  layers=2, width=6, heads=2, max_length=16, vocab_size=256, mlp_width=9
)
TEXT = "Ah, é\n</b>"
BYTES = load_tokenizer()
TOKENS = np.frombuffer(TEXT.encode(), np.uint8).astype(np.int32)[None]
SHOWN = microscope.TOP
# Half of the last decimal, plus a little because numbers are rounded twice.
NATS = 0.51e-4
THREE_DIGITS = 0.51e-2


def stacked(keys):
  """Parameters with a seed axis."""
  each = [random_params(CONFIG, key) for key in keys]
  return jax.tree.map(lambda *x: np.stack(x).astype(np.float64), *each)


def specimens():
  """Two variants; the second has no seed 1."""
  return [
    microscope.Specimen(
      "causal", Decoder(CONFIG), stacked((0, 1, 2)), (0, 1, 2)
    ),
    microscope.Specimen(
      "myopic/kv", Decoder(CONFIG, "myopic"), stacked((3, 4)), (0, 2)
    ),
  ]


def one(specimen, seed):
  """The parameters of a seed."""
  at = specimen.seeds.index(seed)
  return jax.tree.map(lambda x: x[at], specimen.params)


class Seen(NamedTuple):
  losses: Any
  pattern: Any
  neuron: Any
  share: Any
  influence: Any


@jax.jit
def _seen(params):
  """The library's numbers for each panel, at layer 1."""
  decoder = Decoder(CONFIG)
  sites = ["block_1/attention/pattern", "block_1/mlp/neuron"]
  _, seen = interventions.capture(decoder, params, TOKENS, sites)
  logits_RxTxV = lens.logit_lens(decoder, params, TOKENS)[:, 0]
  # The last loss has no target, so it must not count.
  counted = np.append(np.ones(TOKENS.shape[1] - 1), 0.0)[None]
  targets = np.roll(TOKENS, -1, axis=1)
  return Seen(
    cross_entropy(logits_RxTxV[-1:, :-1], TOKENS[:, 1:])[0],
    *(seen[site][0] for site in sites),
    jax.nn.softmax(logits_RxTxV),
    influence.influence(
      decoder, params, TOKENS, lambda x: counted * cross_entropy(x, targets)
    )[1],
  )


def oracle(params):
  """The same as NumPy arrays."""
  return jax.tree.map(np.asarray, _seen(params))


def square(flat):
  """The lower triangle as a matrix."""
  length = TOKENS.shape[1]
  found = np.zeros((length, length))
  found[np.tril_indices(length)] = flat
  return found


class MicroscopeTest(base.Float64TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    with jax.enable_x64(True):
      cls.specimens = specimens()
      cls.data = microscope.page_data(
        cls.specimens, TEXT, BYTES, seed=2, title="a", about="b"
      )

  def test_text(self):
    """Tokens, their spelling, and characters of more than one token."""
    data = self.data
    self.assertEqual(data["text"], TEXT)
    self.assertEqual(data["ids"], TOKENS[0].tolist())
    shown = [data["spelling"][str(token)] for token in data["ids"]]
    self.assertEqual(shown, [*"Ah, ", "<C3>", "<A9>", *"\n</b>"])
    self.assertEqual(data["parts"], {"4": "é", "5": "é"})
    self.assertEqual(data["seeds"], [0, 2])

  def test_losses_and_difference(self):
    """Differences are paired by common seeds; intervals are from `stats`."""
    losses = [
      np.stack([oracle(one(each, seed)).losses for seed in (0, 2)])
      for each in self.specimens
    ]
    for found, expected in zip(self.data["variants"], losses, strict=True):
      self.assertIsNone(found["loss"][0])
      self.assert_close(np.array(found["loss"][1:]), expected[1], NATS)
      mean = np.array(found["loss_mean"][1:])
      self.assert_close(mean, expected.mean(axis=0), NATS)
    paid, found = losses[1] - losses[0], self.data["difference"]
    self.assert_close(np.array(found["mean"][1:]), paid.mean(axis=0), NATS)
    low, high = stats.mean_interval(paid[:, 3]).ci95
    self.assert_close([found["low"][4], found["high"][4]], [low, high], NATS)
    total = stats.mean_interval(paid.mean(axis=1))
    self.assert_close(found["total"]["mean"], total.estimate, NATS)
    self.assert_close(found["total"]["high"], total.ci95[1], NATS)

  def test_inside(self):
    """Patterns, lens, neurons and influence of the seed, for both variants."""
    for each, found in zip(self.specimens, self.data["variants"], strict=True):
      params = one(each, 2)
      seen = oracle(params)
      for head in range(2):
        kept = square(found["pattern"][1][head]) / 1000
        self.assert_close(kept, seen.pattern[head], 0.51e-3)
      order = np.argsort(-seen.share, axis=-1)
      self.assertEqual(found["lens"]["top"], order[..., :SHOWN].tolist())
      came = seen.share[1, 3, TOKENS[0, 4]]
      self.assert_close(found["lens"]["next_share"][1][3], came, NATS)
      rank = found["lens"]["next_rank"][1][3]
      self.assertEqual(order[1, 3, rank - 1], TOKENS[0, 4])
      self._check_neurons(found["neurons"][1], seen.neuron, params)
      kept = square(found["influence"][1])
      # Influence ignores the cuts of `myopic`.
      self.assertGreater(np.tril(kept, -1)[:-1].max(), 0.0)
      np.testing.assert_allclose(kept, seen.influence, rtol=THREE_DIGITS)

  def _check_neurons(self, found, neuron_TxF, params):
    order = np.argsort(-neuron_TxF, axis=1)[:, :SHOWN]
    self.assertEqual(found["top"], order.tolist())
    top = found["top"][2][0]
    np.testing.assert_allclose(
      found["activation"][2][0], neuron_TxF[2, top], rtol=THREE_DIGITS
    )
    told = found["found"][str(top)]
    places = np.argsort(-neuron_TxF[:, top])[:SHOWN]
    self.assertEqual(told["places"], places.tolist())
    value = params["block_1"]["mlp"]["down"]["kernel"][top]
    reads = weights.unembedding(CONFIG, params, fold_norms=True)
    logits = np.asarray(value @ reads)
    self.assertEqual(told["writes"], np.argsort(-logits)[:SHOWN].tolist())
    np.testing.assert_allclose(
      told["logits"], np.sort(logits)[::-1][:SHOWN], rtol=THREE_DIGITS
    )

  @parameterized.parameters(
    ("", "has 0 tokens; the model reads 2 to 16"),
    ("a", "has 1 token; the model reads 2 to 16"),
    (17 * "a", "has 17 tokens; the model reads 2 to 16"),
    ("a\udcff", "is not Unicode text: surrogates not allowed"),
  )
  def test_texts_that_cannot_be_read(self, text, message):
    """A text that is too short, too long or not Unicode is refused."""
    with self.assertRaisesRegex(ValueError, message):
      microscope.encode_text(CONFIG, text, BYTES)

  def test_another_vocabulary(self):
    """The error names the tokenizer if its ids exceed the model's."""
    few = DecoderConfig(1, 4, 1, max_length=4, vocab_size=9)
    with self.assertRaisesRegex(ValueError, "^tokenizer makes the token 98,"):
      microscope.encode_text(few, "ab", BYTES)

  def test_seeds(self):
    """The first common seed is the default; a missing seed is refused."""
    both = self.specimens
    self.assertEqual(microscope.choose_seed(both, None), 0)
    self.assertEqual(microscope.choose_seed(both, 2), 2)
    with self.assertRaisesRegex(ValueError, r"one of \[0, 2\], not 1"):
      microscope.choose_seed(both, 1)
    apart = [both[0], microscope.Specimen("x", both[1].decoder, None, (5,))]
    with self.assertRaisesRegex(ValueError, "no seed in common"):
      microscope.choose_seed(apart, None)

  def test_losses_must_be_finite(self):
    """The error names a model whose losses are not finite."""
    broken = jax.tree.map(lambda x: x * np.nan, self.specimens[1].params)
    gone = microscope.Specimen("broken", Decoder(CONFIG), broken, (0, 2))
    with self.assertRaisesRegex(ValueError, "^broken gives losses"):
      microscope.page_data([gone], TEXT, BYTES, seed=None, title="", about="")

  def test_numbers_must_be_finite(self):
    """Losses may be where influence is not; JSON has no such numbers."""
    params = jax.tree.map(np.array, self.specimens[1].params)
    params["block_0"]["mlp"]["up"]["kernel"] *= 1e160
    gone = microscope.Specimen("broken", Decoder(CONFIG), params, (0, 2))
    with self.assertRaisesRegex(
      ValueError, "^broken gives influence of which .* weights are too large$"
    ):
      microscope.page_data([gone], TEXT, BYTES, seed=None, title="", about="")


if __name__ == "__main__":
  absltest.main()
