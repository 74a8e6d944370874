"""Values are distributions; their agreement is counted as by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from absl.testing import absltest

from jaxlook.circuits import memory_values
from jaxlook.models import DecoderConfig
from tests.fixtures import base
from tests.fixtures.random_models import perturbed_init

CONFIG = DecoderConfig(
  layers=2, width=4, heads=1, max_length=3, vocab_size=5, mlp_width=3
)


class ValuesTest(base.Float64TestCase):
  def test_distributions_and_ranks(self):
    """Each row of the second matrix goes through gain, centring and W_U."""
    params = perturbed_init(CONFIG)
    tokens = jnp.array([[0, 1, 2], [3, 4, 0]])
    found, ranks = jax.jit(
      lambda: (
        memory_values.values(CONFIG, params, top=2),
        memory_values.ranks(CONFIG, params, tokens),
      )
    )()
    gain = np.asarray(params["final_norm"]["scale"])
    read = np.asarray(params["token_embedding"]["embedding"]).T
    for layer, neuron in np.ndindex(2, 3):
      value = np.asarray(params[f"block_{layer}"]["mlp"]["down"]["kernel"])
      logits = (gain * (value[neuron] - value[neuron].mean())) @ read
      share, order = scipy.special.softmax(logits), np.argsort(-logits)
      at = (layer, neuron)
      np.testing.assert_array_equal(found.token[at], order[:2])
      self.assert_close(found.probability[at], share[order[:2]])
      self.assert_close(found.entropy[at], -np.sum(share * np.log(share)))
      place = list(order).index(tokens[at])
      self.assertEqual(ranks[at], place + 1)


class AgreementTest(base.Float64TestCase):
  def test_equals_counting(self):
    """Agreement equals counting pair by pair, for all kinds and controls."""
    rng = np.random.default_rng(0)
    neurons, top, vocab = 9, 4, 3
    tokens = rng.integers(0, vocab, neurons)
    following = rng.integers(0, vocab, (neurons, top))
    # Triggers are sorted, so those that fired come first.
    fired = np.arange(top) < np.array([0, 4, 4, 3, 2, 1, 4, 0, 4])[:, None]
    found = jax.jit(memory_values.agreement, static_argnums=4)(
      tokens, following, fired, 1, vocab
    )
    kinds = {"first": lambda hits: hits[0], "mean": np.mean, "any": np.any}
    self.assertEqual(tuple(kinds), memory_values.KINDS)
    live = np.flatnonzero(fired[:, 0])
    for kind, score in kinds.items():

      def agrees(token, other, score=score):
        return float(score(following[other][fired[other]] == token))

      own = [agrees(tokens[n], n) for n in live]
      others = [agrees(tokens[n], m) for n in live for m in live if n != m]
      commonest = [agrees(1, n) for n in live]
      self.assert_close(found[kind].own, np.mean(own))
      self.assert_close(found[kind].others, np.mean(others))
      self.assert_close(found[kind].commonest, np.mean(commonest))
      self.assert_close(found[kind].each[live], np.array(own))
      self.assert_close(found[kind].each[jnp.array([0, 7])], np.zeros(2))


if __name__ == "__main__":
  absltest.main()
