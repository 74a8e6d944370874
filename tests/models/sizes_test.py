"""Shapes by name, against the published parameter counts."""

import dataclasses
import math

import jax
from absl.testing import parameterized

from jaxlook.lookahead.scaling import PUBLISHED
from jaxlook.models import (
  SHAPES,
  DecoderConfig,
  init,
  named_shape,
  parameter_counts,
)
from tests.fixtures import base

# `model.num_parameters()` of the Hugging Face models; the "Non-Embedding
# Params" of the Pythia model cards are with the losses published for them.
_TOTALS = {
  "gpt2": 124_439_808,
  "gpt2-medium": 354_823_168,
  "pythia-14m": 14_067_712,
  "pythia-31m": 30_494_720,
  "pythia-70m": 70_426_624,
  "pythia-160m": 162_322_944,
  "pythia-410m": 405_334_016,
  "pythia-1b": 1_011_781_632,
  "pythia-1.4b": 1_414_647_808,
  "pythia-2.8b": 2_775_208_960,
}
_UNITS = {"k": 1e3, "M": 1e6}


class NamedTest(base.TestCase):
  def test_published_shapes_have_their_published_counts(self):
    """Counts are exact, and all published names exist."""
    self.assertContainsSubset(_TOTALS, SHAPES)
    self.assertContainsSubset(PUBLISHED, _TOTALS)
    for name, total in _TOTALS.items():
      counts = parameter_counts(named_shape(name))
      self.assertEqual(counts.total, total, name)
      if name in PUBLISHED:
        self.assertEqual(counts.non_embedding, PUBLISHED[name].size, name)

  @parameterized.parameters(
    {},
    {"layers": 1, "mlp_width": 0, "tied_head": False},
    {"positions": "none", "mlp_width": 7},
    {"vocab_size": None, "input_features": 2, "output_features": 3},
    {"output_features": 3, "positions": "rotary"},
  )
  def test_counts_are_those_of_the_decoder(self, **changes):
    """They are counted without it, so that absurd shapes cost nothing."""
    shape = DecoderConfig(
      layers=2, width=8, heads=2, max_length=5, vocab_size=11
    )
    shape = dataclasses.replace(shape, **changes)
    tree = jax.eval_shape(lambda: init(shape, jax.random.key(0)))
    self.assertEqual(
      parameter_counts(shape).total,
      sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)),
    )

  @parameterized.parameters(*sorted(set(SHAPES) - set(_TOTALS)))
  def test_a_small_shape_is_named_after_its_parameters(self, name):
    """The name is the number of parameters, rounded."""
    named = float(name[:-1]) * _UNITS[name[-1]]
    counted = parameter_counts(named_shape(name)).non_embedding
    self.assertLess(abs(counted / named - 1.0), 0.06, counted)

  def test_vocabulary_and_length_can_be_changed(self):
    """They change only the embeddings."""
    small = named_shape("0.2M", vocab_size=10, max_length=7)
    counts = parameter_counts(small)
    self.assertEqual(counts.non_embedding, 200_064)
    self.assertEqual(counts.total, 200_064 + 64 * (10 + 7))
    with self.assertRaisesRegex(
      ValueError, "^model_size must be one of .*0.2M.*, not '0.3M'"
    ):
      named_shape("0.3M")
