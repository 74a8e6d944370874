"""Numbers as flags and variants write them."""

from absl.testing import parameterized

from jaxlook import numerals
from tests.fixtures import base


class NumeralsTest(base.TestCase):
  @parameterized.parameters(("0", 0), ("-7", -7), ("007", 7))
  def test_whole_numbers(self, text, value):
    """Digits and a minus."""
    self.assertEqual(numerals.read_whole(text), value)

  @parameterized.parameters(
    *("", " ", "1_000", "+1", " 1", "1 ", "1\n", "٣", "½", "0x1", "1.0", "1e3"),
    *("nan", "inf", "-", "9" * 5000),
  )
  def test_other_whole_numbers_are_refused(self, text):
    """Python would read several of them."""
    with self.assertRaises(ValueError):
      numerals.read_whole(text)

  @parameterized.parameters(
    *(("0", 0.0), ("-0.5", -0.5), (".5", 0.5), ("5.", 5.0), ("1e-3", 1e-3)),
    *(("0e-999", 0.0), ("1E+3", 1000.0), ("0.1", 0.1)),
  )
  def test_real_numbers(self, text, value):
    """Digits, point and exponent; the value is Python's."""
    self.assertEqual(numerals.read_real(text), value)

  @parameterized.parameters(
    *("", "nan", "inf", "-inf", "infinity", "1_0.5", "+1", " 1", "٠.٥", "1,5"),
    *("1e", ".", "0x1p3"),
  )
  def test_other_real_numbers_are_refused(self, text):
    """Python would read several of them."""
    with self.assertRaisesRegex(ValueError, "^must be a number$"):
      numerals.read_real(text)

  @parameterized.parameters("1e-400", "1e400", "1e-50", "4e38", "-1e-60")
  def test_numbers_beyond_float32_are_refused(self, text):
    """They would be 0 or infinite without a word."""
    with self.assertRaisesRegex(ValueError, "that float32 can hold$"):
      numerals.read_real(text)

  def test_counted(self):
    """One thing is not many."""
    self.assertEqual(
      [numerals.counted(count, "layer") for count in (0, 1, 2)],
      ["0 layers", "1 layer", "2 layers"],
    )
