"""Each setting gives the right task."""

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
    """The setting's name decides direction and hidden inputs."""
    self.assertEqual(
      GRAPHS.task(setting),
      PathStar(2, 3, 6, direction=direction, teacher=teacher),
    )

  @parameterized.parameters(
    ("weights", "forced"), ("weights teacherless", "teacherless")
  )
  def test_in_weights(self, setting, teacher):
    """In the weights, all paths go forward."""
    self.assertEqual(
      GRAPHS.task(setting),
      PathStarWeights(8, 4, edge_share=0.5, teacher=teacher),
    )

  def test_every_setting_is_tested_above(self):
    """These tests cover all settings; an unknown setting is refused."""
    self.assertEqual(
      star_settings.SETTINGS,
      (
        *("forward", "reversed", "teacherless", "masked"),
        *("weights", "weights teacherless"),
      ),
    )
    with self.assertRaisesRegex(ValueError, "setting must be one of forward"):
      GRAPHS.task("sideways")
