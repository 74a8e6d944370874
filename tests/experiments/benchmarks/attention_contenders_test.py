"""Shapes as flags take them, and what contenders need."""

from absl.testing import parameterized

from experiments.benchmarks import attention_contenders
from experiments.benchmarks.attention_contenders import AttentionShape
from tests.fixtures import base


class ShapeTest(base.TestCase):
  def test_shapes_are_read_as_they_are_written(self):
    """The flag's form goes there and back."""
    shape = attention_contenders.parse_shape(" 1x4096x4x64 ")
    self.assertEqual(shape, AttentionShape(1, 4096, 4, 64))
    self.assertEqual(str(shape), "1x4096x4x64")

  @parameterized.parameters(
    "",
    "1x2x3",
    "1x2x3x4x5",
    "1x2x3x0",
    "1x2x-3x4",
    "axbxcxd",
    "1 2 3 4",
    "²x1x1x1",
  )
  def test_malformed(self, text):
    """Anything but four positive numbers is refused with the form."""
    with self.assertRaisesRegex(ValueError, "BATCHxLENGTHxHEADSxWIDTH"):
      attention_contenders.parse_shape(text)


class ContenderTest(base.TestCase):
  def test_quadratic_ones_are_estimated_so(self):
    """Naive attention at N = 16384 needs tens of GiB, ours does not."""
    shape = AttentionShape(1, 16384, 2, 64)
    everyone = attention_contenders.contenders("float32")
    naive = everyone[attention_contenders.TWO_PATHS].bytes_needed(shape)
    self.assertGreater(naive, 20 * 2**30)
    self.assertLess(everyone["myopic"].bytes_needed(shape), 2**28)
