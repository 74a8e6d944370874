"""Which task each setting is."""

from absl.testing import parameterized

from jaxlook.planning.stars import settings as star_settings
from jaxlook.planning.stars.settings import Graphs
from jaxlook.tasks.path_star import PathStar
from jaxlook.tasks.path_star_weights import PathStarWeights
from tests.fixtures import base

GRAPHS = Graphs(2, 3, 6, 8, 4, edge_share=0.5)


class StarSettingsTest(base.TestCase):
  @parameterized.parameters(
    ("forward", "forward", "forced"),
    ("reversed", "reversed", "forced"),
    ("teacherless", "forward", "teacherless"),
    ("masked", "forward", "masked"),
  )
  def test_in_context(self, setting, direction, teacher):
    """Direction and hidden inputs are those of the setting's name."""
    self.assertEqual(
      GRAPHS.task(setting),
      PathStar(2, 3, 6, direction=direction, teacher=teacher),
    )

  @parameterized.parameters(
    ("weights", "forced"), ("weights teacherless", "teacherless")
  )
  def test_in_weights(self, setting, teacher):
    """In weights all paths go forward."""
    self.assertEqual(
      GRAPHS.task(setting),
      PathStarWeights(8, 4, edge_share=0.5, teacher=teacher),
    )

  def test_every_setting_is_tested_above(self):
    """No setting is left out of these tests, and no other one is known."""
    self.assertEqual(
      star_settings.SETTINGS,
      (
        *("forward", "reversed", "teacherless", "masked"),
        *("weights", "weights teacherless"),
      ),
    )
    with self.assertRaisesRegex(ValueError, "setting must be one of forward"):
      GRAPHS.task("sideways")
