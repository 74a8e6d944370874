"""Places contain the tokens that their names say."""

import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.planning.couplets import places
from jaxlook.tasks.couplets import Couplets
from tests.fixtures import base


class PlacesTest(base.TestCase):
  @parameterized.parameters(
    (
      Couplets(fillers=3),
      {
        "none": "",
        "genre": "1",
        "line1": "234",
        "line1 first": "2",
        "e1": "5",
        "NL": "6",
        "U": "7",
        "prompt": "01234567",
      },
    ),
    (
      Couplets(key="tally", pairs=1, late_genre=True, route="open"),
      {
        "none": "",
        "U": "1",
        "pairs": "23",
        "pair starts": "2",
        "pair ends": "3",
        "e1": "4",
        "NL": "5",
        "genre": "6",
        "prompt": "0123456",
      },
    ),
  )
  def test_positions(self, task, expected):
    found = places.places(task)
    self.assertEqual([place.name for place in found], list(expected))
    for place in found:
      digits = tuple(int(digit) for digit in expected[place.name])
      self.assertEqual(place.positions, digits)
    masks = places.masks(task, found)
    self.assertEqual(masks.shape, (len(found), task.length))
    for mask, place in zip(masks, found, strict=True):
      self.assertEqual(tuple(np.flatnonzero(mask)), place.positions)

  def test_without_fillers(self):
    """If line 1 consists of e1 only, it has no other places."""
    names = [place.name for place in places.places(Couplets(fillers=0))]
    self.assertEqual(names, ["none", "genre", "e1", "NL", "U", "prompt"])

  def test_named(self):
    task = Couplets()
    found = places.named(task, ("NL", "none"))
    self.assertEqual(found, (("NL", task.places["NL"]), ("none", ())))
    with self.assertRaisesRegex(ValueError, "no place 'pairs'; known are none"):
      places.named(task, ("pairs",))


if __name__ == "__main__":
  absltest.main()
