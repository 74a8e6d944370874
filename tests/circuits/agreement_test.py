"""Circuits and activations agree with TransformerLens on the same weights.

`record_references` wrote the two random models and the expected numbers; its
docstring describes them.
"""

import functools
from pathlib import Path
from typing import get_args

import jax
import numpy as np
from absl.testing import absltest, parameterized
from scipy.optimize import linear_sum_assignment

from jaxlook import interventions
from jaxlook.circuits import behaviour, composition, lens, qk_ov, weights
from jaxlook.models import Decoder, huggingface
from tests.fixtures import base

_DATA = Path(__file__).parents[1] / "testdata" / "circuits"
_MODELS = ("gpt2", "gpt_neox")

# For float32. The observed errors are below 5e-6; the largest are at
# eigenvalues of size 35.
ATOL = 2e-5


@functools.cache
def recorded(name):
  """The reference numbers of a model, read once."""
  with np.load(_DATA / name / "references.npz") as arrays:
    return dict(arrays)


@functools.cache
def measured(name):
  """Our logits, patterns [L, B, N, T, S] and logit lens on the same tokens."""
  model = huggingface.load(_DATA / name)
  decoder = Decoder(model.config, implementation="reference")
  tokens = recorded(name)["tokens"]
  sites = [
    f"block_{layer}/attention/pattern" for layer in range(model.config.layers)
  ]

  @jax.jit
  def both(params):
    logits, seen = interventions.capture(decoder, params, tokens, sites)
    return logits, seen, lens.logit_lens(decoder, params, tokens)

  logits, seen, by_layer = both(model.params)
  return logits, np.stack([seen[site] for site in sites]), by_layer


def paired(found, wanted):
  """Eigenvalues [..., R], each moved to its closest reference value."""
  rows = []
  for each, other in zip(
    found.reshape(-1, found.shape[-1]),
    wanted.reshape(-1, found.shape[-1]),
    strict=True,
  ):
    _, order = linear_sum_assignment(abs(other[:, None] - each))
    rows.append(each[order])
  return np.reshape(rows, found.shape)


class AgreementTest(base.TestCase):
  @parameterized.product(name=_MODELS)
  def test_activations(self, name):
    """Logits, attention patterns and the logit lens at every depth agree."""
    logits, pattern, by_layer = measured(name)
    wanted = recorded(name)
    self.assertGreater(np.std(wanted["pattern"]), 1000 * ATOL)
    self.assert_close(logits, wanted["logits"], ATOL)
    self.assert_close(pattern, wanted["pattern"], ATOL)
    self.assert_close(by_layer, wanted["lens"], ATOL)

  @parameterized.product(name=_MODELS)
  def test_head_scores(self, name):
    """Our scores follow from those of `head_detector`.

    `head_detector` divides the attention to such positions by all attention to
    positions other than the query's own, one sequence at a time. Our scores are
    means over queries.
    """
    wanted, tokens = recorded(name), recorded(name)["tokens"]
    pattern = measured(name)[1]
    own = np.eye(tokens.shape[1], dtype=bool)
    others_LxBxN = (wanted["pattern"] * ~own).sum(axis=(-2, -1))
    for head, found in (
      ("previous_token_head", behaviour.previous_token(pattern)),
      ("duplicate_token_head", behaviour.duplicate_token(pattern, tokens)),
      ("induction_head", behaviour.prefix_matching(pattern, tokens)),
    ):
      with self.subTest(head):
        share_LxBxN = np.moveaxis(wanted[head], 0, 1)
        asked = (wanted[f"{head}_pattern"] & ~own).any(axis=-1).sum()
        score = (share_LxBxN * others_LxBxN).sum(axis=1) / asked
        self.assert_close(found, score, ATOL)

  @parameterized.product(name=_MODELS)
  def test_eigenvalues(self, name):
    """Eigenvalues of all circuits, as stored and with LayerNorms folded in."""
    model, wanted = huggingface.load(_DATA / name), recorded(name)
    stored = weights.head_weights(model.config, model.params)
    folded = weights.head_weights(model.config, model.params, fold_norms=True)
    full = (model.config, model.params)
    full_ov = qk_ov.full_ov(*full)
    for circuit, product in (
      ("qk", qk_ov.qk(stored)),
      ("ov", qk_ov.ov(stored)),
      ("full_qk", qk_ov.full_qk(*full)),
      ("full_ov", full_ov),
      ("folded_ov", qk_ov.ov(folded)),
      ("folded_full_ov", qk_ov.full_ov(*full, fold_norms=True)),
    ):
      with self.subTest(circuit):
        found = paired(product.eigenvalues(), wanted[circuit])
        self.assert_close(found, wanted[circuit], ATOL)
    self.assert_close(full_ov.eigen_score(), wanted["copying"], ATOL)

  @parameterized.product(name=_MODELS)
  def test_composition(self, name):
    """E3 of CLAIMS: the scores of all pairs of heads, of every kind."""
    model, kinds = (
      huggingface.load(_DATA / name),
      get_args(composition.CompositionKind),
    )

    @jax.jit
    def scores(params):
      found = weights.head_weights(model.config, params)
      return [composition.composition(found, kind) for kind in kinds]

    for kind, found in zip(kinds, scores(model.params), strict=True):
      self.assert_close(found, recorded(name)[f"composition_{kind}"], ATOL)


if __name__ == "__main__":
  absltest.main()
