"""Where tiles are: every pair in one tile, few tiles, none without a pair."""

import numpy as np
from absl.testing import parameterized

from jaxlook.attention.block_sizes import Limits
from jaxlook.attention.blocks import Panels
from jaxlook.attention.masks import chosen
from tests.fixtures import base


def visited(panels):
  """The tiles of all panels: first row, start and columns of each."""
  found = []

  def note(tile, carry):
    found.append((int(tile.row), int(tile.start), tile.columns))
    return carry

  def step(panel, carry):
    return panels.over(note, panel, carry)

  # Out of a compiled loop nothing comes out one by one.
  with base.loops_unrolled():
    panels.sweep(step, 0)
  return found


class TilesTest(base.TestCase):
  @parameterized.product(
    length=(521, 1280, 2000, 2048, 4095),
    ends=((0, 10**4), (1, 10**4), (0, 100), (300, 1327)),
  )
  def test_every_pair_is_in_one_tile_and_tiles_are_few(self, length, ends):
    """Also where the number of keys that are seen is prime, as 1279 is."""
    pairs = ((ends[0], min(ends[1], length - 1)),)
    limits = Limits()
    rows = -(-length // -(-length // limits.rows))
    panels = Panels(length, rows, pairs, limits)
    tiles = visited(panels)
    count = np.zeros((panels.padded, panels.padded), np.int8)
    for row, start, columns in tiles:
      self.assertLessEqual(columns, limits.columns)
      self.assertGreaterEqual(columns, min(rows, panels.padded))
      count[row : row + rows, start : start + columns] += 1
    self.assertEqual(count.max(), 1)
    place = np.arange(length)
    seen = chosen(place[:, None] - place[None], pairs)
    self.assertTrue((count[:length, :length][seen] == 1).all())

  @parameterized.parameters(2048, 4096, 8192)
  def test_a_band_takes_tiles_in_proportion_to_the_length(self, length):
    """A set of 100 distances: so many keys a row, however long it is."""
    panels = Panels(length, 256, ((0, 99),), Limits())
    self.assertTrue(panels.pays_alone(((0, 99),)))
    keys = sum(columns for _, _, columns in visited(panels))
    self.assertEqual(keys, 512 * length // 256)
