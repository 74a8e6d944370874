"""The decoder's shape: checks of its fields, and derived widths."""

import dataclasses

from absl.testing import absltest, parameterized

from jaxlook.models import DecoderConfig, scaled_init_std
from tests.fixtures import base

_CONFIG = DecoderConfig(layers=2, width=12, heads=3, max_length=8, vocab_size=5)


class DecoderConfigTest(base.TestCase):
  @parameterized.parameters(
    ({"layers": 0}, "layers must be at least 1, not 0"),
    ({"width": 0}, "width must be at least 1, not 0"),
    ({"heads": -1}, "heads must be at least 1, not -1"),
    ({"max_length": 0}, "max_length must be at least 1, not 0"),
    ({"heads": 5}, "heads must divide width=12, .* not 5"),
    # Not all its divisors are listed: finding them would take hours.
    ({"width": 10**15, "heads": 7}, "heads must .* 1000, 1024, not 7$"),
    ({"vocab_size": None}, "input_features must be given if and only if voc"),
    ({"input_features": 2}, "input_features must be given if and only if voc"),
    (
      {"vocab_size": None, "input_features": 2},
      "output_features must be given if vocab_size is None",
    ),
    ({"mlp_width": -1}, "mlp_width must be at least 0, not -1"),
    ({"activation": "tanh"}, "activation must be one of .*gelu.*, not 'tanh'"),
    ({"positions": "alibi"}, "positions must be one of .*, not 'alibi'"),
    ({"rotary_fraction": 0.0}, r"rotary_fraction must lie in \(0, 1\], not 0"),
    (
      {"rotary_fraction": 1.5},
      r"rotary_fraction must lie in \(0, 1\], not 1.5",
    ),
    (
      {"positions": "rotary", "rotary_fraction": 0.8},
      "positions must be learned or none, .* per head is odd or 0: it is 3",
    ),
    (
      {"positions": "rotary", "rotary_fraction": 0.2},
      "positions must be learned or none, .* per head is odd or 0: it is 0",
    ),
  )
  def test_bad_fields_are_refused(self, changes, message):
    """The error names the field."""
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(_CONFIG, **changes)

  def test_a_spread_of_no_width(self):
    """It is refused as the config would."""
    with self.assertRaisesRegex(ValueError, "^width must be at least 1, not 0"):
      scaled_init_std(0)

  @parameterized.parameters(
    {"layers": 1, "heads": 1, "width": 1, "max_length": 1},
    {"mlp_width": 0},
    {"activation": "relu"},
    {"positions": "none", "rotary_fraction": 0.2},
    {"positions": "rotary", "rotary_fraction": 0.5},
    {"vocab_size": None, "input_features": 1, "output_features": 1},
  )
  def test_good_fields_are_accepted(self, **changes):
    """Extreme values are accepted; the rotary width is checked only if used."""
    config = dataclasses.replace(_CONFIG, **changes)
    self.assertEqual(config, dataclasses.replace(config))

  def test_widths(self):
    """Derived widths follow from the fields; the MLP's default is 4 * width."""
    self.assertEqual(_CONFIG.head_width, 4)
    self.assertEqual(_CONFIG.hidden_width, 48)
    for width in (0, 7):
      config = dataclasses.replace(_CONFIG, mlp_width=width)
      self.assertEqual(config.hidden_width, width)
    for fraction, width in ((1.0, 4), (0.5, 2), (0.25, 1), (0.99, 3)):
      config = dataclasses.replace(_CONFIG, rotary_fraction=fraction)
      self.assertEqual(config.rotary_width, width)

  @parameterized.parameters(
    ({}, True),
    ({"tied_head": False}, False),
    ({"output_features": 2}, False),
    (
      {"vocab_size": None, "input_features": 2, "output_features": 1},
      False,
    ),
  )
  def test_shares_embedding(self, changes, shared):
    """Only a tied model from tokens to logits shares the embedding."""
    config = dataclasses.replace(_CONFIG, **changes)
    self.assertEqual(config.shares_embedding, shared)

  def test_equal_configs_have_equal_hashes(self):
    """Jit caches a program by the config's hash."""
    same = dataclasses.replace(_CONFIG)
    self.assertEqual(hash(same), hash(_CONFIG))
    self.assertNotEqual(dataclasses.replace(_CONFIG, layers=3), _CONFIG)


if __name__ == "__main__":
  absltest.main()
