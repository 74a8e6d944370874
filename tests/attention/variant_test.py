"""Variants of whole models, and their names."""

import dataclasses

from absl.testing import parameterized
from hypothesis import given
from hypothesis import strategies as st

from jaxlook.attention import Spec, Variant, parse, parse_variant
from tests.fixtures import base


@st.composite
def variants(draw):
  """Draws variants of a few layers and heads."""
  layers, heads = draw(st.integers(1, 4)), draw(st.integers(1, 4))
  # Few forms, so that some heads and layers are equal.
  spec = st.sampled_from(
    draw(st.lists(st.sampled_from(base.VARIANTS), min_size=1))
  )
  layer = st.tuples(*[spec] * heads)
  specs = draw(st.tuples(*[layer] * layers))
  return Variant(tuple(tuple(map(parse, layer)) for layer in specs))


class VariantTest(base.TestCase):
  @given(variants())
  def test_name_round_trips(self, variant):
    """A variant's name parses to an equal variant with an equal hash."""
    read = parse_variant(str(variant), variant.layers, variant.heads)
    self.assertEqual(read, variant)
    self.assertEqual(hash(read), hash(variant))
    self.assertEqual(read.name, variant.name)

  @given(variants())
  def test_properties_are_those_of_some_or_all_heads(self, variant):
    """`needs_teacher` needs any head, `keeps_forward` all heads."""
    every = [spec for layer in variant.specs for spec in layer]
    self.assertLen(every, variant.layers * variant.heads)
    self.assertEqual(set(variant.distinct), set(every))
    self.assertLen(variant.distinct, len(set(every)))
    self.assertEqual(
      variant.needs_teacher, any("teacher" in spec.name for spec in every)
    )
    self.assertEqual(
      variant.keeps_forward, all(spec.keeps_forward for spec in every)
    )

  @parameterized.parameters(
    ("causal", False, True),
    ("myopic/residual", False, True),
    ("window:2", False, False),
    ("self_only,causal", False, False),
    ("zero_context", False, False),
    ("teacher", True, False),
    ("causal,myopic+teacher/residual", True, False),
  )
  def test_needs_teacher_and_keeps_forward(self, text, teacher, forward):
    """Both properties are right for known variants."""
    variant = parse_variant(text, layers=2, heads=2)
    self.assertEqual(variant.needs_teacher, teacher)
    self.assertEqual(variant.keeps_forward, forward)

  def test_variants_differ_by_head_and_shape(self):
    """Another spec in one head, or another shape, is another variant."""
    one = parse_variant("causal,myopic+causal", layers=2, heads=2)
    for text, layers in (
      ("causal,myopic", 2),
      ("causal,myopic+causal,causal", 3),
    ):
      self.assertNotEqual(parse_variant(text, layers, heads=2), one)
    self.assertNotEqual(
      parse_variant("causal", 1, 2), parse_variant("causal", 2, 2)
    )

  def test_frozen(self):
    """A variant's fields cannot be changed."""
    with self.assertRaises(dataclasses.FrozenInstanceError):
      parse_variant("causal", 1, 1).specs = ()

  @given(layers=st.integers(1, 4), heads=st.integers(1, 4))
  def test_one_form_covers_the_model(self, layers, heads):
    """A single form is the spec of every layer and head."""
    variant = parse_variant("myopic", layers, heads)
    self.assertEqual(variant, Variant.uniform(parse("myopic"), layers, heads))
    self.assertEqual((variant.layers, variant.heads), (layers, heads))
    self.assertEqual(variant.name, "myopic/kv")

  def test_layers_and_heads_mix(self):
    """Commas separate layers, pluses heads."""
    self.assertEqual(
      parse_variant("causal,myopic+horizon:2", layers=2, heads=2).specs,
      (
        (parse("causal"), parse("causal")),
        (parse("myopic"), parse("horizon:2")),
      ),
    )

  @parameterized.parameters(
    "causal",
    "causal,myopic/kv",
    "myopic/kv+causal,causal",
    "offset:1/kv+causal",
  )
  def test_name_of_a_mixed_model_is_its_shortest_form(self, text):
    """Equal heads and equal layers are written once."""
    self.assertEqual(parse_variant(text, layers=2, heads=2).name, text)

  @parameterized.parameters(
    ("causal,causal,causal", "gives 3 layers, the model has 2"),
    ("causal+causal+causal", "gives 3 heads, the model has 2"),
    ("causal,", "attention '' is unknown"),
    ("causal,magic", "attention 'magic' is unknown"),
  )
  def test_wrong_forms_are_refused(self, text, message):
    """Wrong numbers of forms, and unknown forms, are errors."""
    with self.assertRaisesRegex(ValueError, message):
      parse_variant(text, layers=2, heads=2)

  @parameterized.parameters(
    ((),),
    (((),),),
    (((Spec("causal"),), (Spec("causal"),) * 2),),
  )
  def test_impossible_shapes_are_refused(self, specs):
    """No layers, no heads, and unequal numbers of heads are errors."""
    with self.assertRaisesRegex(ValueError, "equally many heads"):
      Variant(specs)

  @parameterized.parameters((0, 1), (1, 0))
  def test_an_empty_uniform_variant_is_refused(self, layers, heads):
    """There must be at least one layer and one head."""
    with self.assertRaisesRegex(ValueError, "at least 1"):
      Variant.uniform(Spec("causal"), layers, heads)
