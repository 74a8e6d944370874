"""The figure of an ablation: a whole file, whatever diverged."""

import pathlib
import tempfile

import numpy as np

from jaxlook.reporting.losses_figure import losses_figure
from tests.fixtures import base


class LossesFigureTest(base.TestCase):
  def test_figure_is_a_png_even_with_diverged_seeds(self):
    """Curves with NaN, variants without values: a whole PNG all the same."""
    folder = self.enterContext(tempfile.TemporaryDirectory())
    path = pathlib.Path(folder) / "figures" / "losses.png"
    losses = np.array([[0.5, 0.6], [0.4, np.nan], [np.nan, np.nan]])
    losses_figure(
      path,
      curves={"causal": (np.arange(3), losses)},
      finals={"causal": {0: 0.4}, "myopic/kv": {}},
      baselines={"zero": 1.0},
      unit="nats",
      title="title",
      setup="setup",
    )
    self.assertEqual(path.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
    self.assertEqual([p.name for p in path.parent.iterdir()], ["losses.png"])
