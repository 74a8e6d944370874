"""Tiles cover every visible key once, and there are few of them."""

import numpy as np
from absl.testing import parameterized

from jaxlook.attention.block_sizes import BlockLimits
from jaxlook.attention.blocks import Panels
from jaxlook.attention.masks import in_ranges
from tests.fixtures import base


def visited(panels):
  """Returns (row, start, columns) of every tile of all panels."""
  tiles = []

  def note(tile, carry):
    tiles.append((int(tile.row), int(tile.start), tile.columns))
    return carry

  def step(panel, carry):
    return panels.over(note, panel, carry)

  # `note` runs once per tile only if loops are not compiled.
  with base.loops_unrolled():
    panels.sweep(step, 0)
  return tiles


class TilesTest(base.TestCase):
  @parameterized.product(
    length=(521, 1280, 2000, 2048, 4095),
    ends=((0, 10**4), (1, 10**4), (0, 100), (300, 1327)),
  )
  def test_every_visible_key_is_in_one_wide_tile(self, length, ends):
    """This holds also where the number of keys seen is prime, such as 1279."""
    ranges = ((ends[0], min(ends[1], length - 1)),)
    limits = BlockLimits()
    rows = -(-length // -(-length // limits.rows))
    panels = Panels(length, rows, ranges, limits)
    tiles = visited(panels)
    count = np.zeros((panels.padded, panels.padded), np.int8)
    for row, start, columns in tiles:
      self.assertLessEqual(columns, limits.columns)
      self.assertGreaterEqual(columns, min(rows, panels.padded))
      count[row : row + rows, start : start + columns] += 1
    self.assertEqual(count.max(), 1)
    place = np.arange(length)
    seen = in_ranges(place[:, None] - place[None], ranges)
    self.assertTrue((count[:length, :length][seen] == 1).all())

  @parameterized.parameters(2048, 4096, 8192)
  def test_tiles_of_a_band_are_linear_in_the_length(self, length):
    """For 100 distances, each panel visits 512 keys at every length."""
    panels = Panels(length, 256, ((0, 99),), BlockLimits())
    self.assertTrue(panels.pays_alone(((0, 99),)))
    keys = sum(columns for _, _, columns in visited(panels))
    self.assertEqual(keys, 512 * length // 256)
