"""Shapes by name, against the published parameter counts."""

from absl.testing import parameterized

from jaxlook.models import SHAPES, named_shape, parameter_counts
from tests import base

# Published: `model.num_parameters()` of the Hugging Face models, and the
# "Non-Embedding Params" of the Pythia model cards.
_PUBLISHED = {
  "gpt2": (124_439_808, None),
  "gpt2-medium": (354_823_168, None),
  "pythia-14m": (14_067_712, 1_189_888),
  "pythia-31m": (30_494_720, 4_739_072),
  "pythia-70m": (70_426_624, 18_915_328),
  "pythia-160m": (162_322_944, 85_056_000),
  "pythia-410m": (405_334_016, 302_311_424),
  "pythia-1b": (1_011_781_632, 805_736_448),
  "pythia-1.4b": (1_414_647_808, 1_208_602_624),
  "pythia-2.8b": (2_775_208_960, 2_517_652_480),
}
_UNITS = {"k": 1e3, "M": 1e6}


class NamedTest(base.TestCase):
  def test_published_shapes_have_their_published_counts(self):
    """To the last parameter; the names are all there."""
    self.assertContainsSubset(_PUBLISHED, SHAPES)
    for name, (total, non_embedding) in _PUBLISHED.items():
      counts = parameter_counts(named_shape(name))
      self.assertEqual(counts.total, total, name)
      if non_embedding is not None:
        self.assertEqual(counts.non_embedding, non_embedding, name)

  @parameterized.parameters(*sorted(set(SHAPES) - set(_PUBLISHED)))
  def test_a_small_name_says_how_many_parameters(self, name):
    """To the digits of the name."""
    said = float(name[:-1]) * _UNITS[name[-1]]
    counted = parameter_counts(named_shape(name)).non_embedding
    self.assertLess(abs(counted / said - 1.0), 0.06, counted)

  def test_tokens_and_length_are_those_of_the_training(self):
    """The tokenizer and windows change the embeddings alone."""
    small = named_shape("0.2M", vocab_size=10, max_length=7)
    counts = parameter_counts(small)
    self.assertEqual(counts.non_embedding, 200_064)
    self.assertEqual(counts.total, 200_064 + 64 * (10 + 7))
    with self.assertRaisesRegex(
      ValueError, "^model_size must be one of .*0.2M.*, not '0.3M'"
    ):
      named_shape("0.3M")
