"""Figures: whole files, one look for a label, bands that are intervals."""

import pathlib
import tempfile
from unittest import mock

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from jaxlook import stats
from jaxlook.reporting import figures
from tests.fixtures import base


class FiguresTest(base.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(folder)

  def test_band_is_the_t_interval_of_the_finite_seeds(self):
    """Row by row, the band is `mean_interval` of what did not diverge."""
    losses = np.array(
      [[1.0, 2.0, 4.0], [1.0, 3.0, np.nan], [2.0] + [np.nan] * 2]
    )
    mean, low, high = figures.band(losses)
    for row, values in enumerate(([1.0, 2.0, 4.0], [1.0, 3.0])):
      expected = stats.mean_interval(values)
      self.assertAlmostEqual(mean[row], expected.estimate)
      self.assertAlmostEqual(low[row], expected.ci95[0])
      self.assertAlmostEqual(high[row], expected.ci95[1])
    self.assertEqual((mean[2], low[2], high[2]), (2.0, 2.0, 2.0))

  def _drawn(self, rows):
    """Draws panels and returns matplotlib's figure, kept from the writer."""
    with mock.patch.object(Figure, "savefig", autospec=True) as saved:
      figures.panels_figure(
        self.folder / "f.png", rows, title="title", setup="setup " * 99
      )
    return saved.call_args.args[0]

  def test_a_label_looks_the_same_in_all_panels(self):
    """Colours follow labels, not places, and one legend has them all."""
    ones = np.ones((2, 3))
    first = figures.Curves("1", [0, 1], "x", "y", {"a": ones, "b": ones})
    second = figures.Curves(
      "2", [1, 4], "x", "y", {"b": ones, "c": ones}, {"level": 0.5}, "log"
    )
    figure = self._drawn([[first, second]])
    lines = [
      {line.get_label(): line.get_color() for line in axes.lines}
      for axes in figure.axes
    ]
    self.assertEqual(lines[0]["b"], lines[1]["b"])
    self.assertNotEqual(lines[0]["a"], lines[1]["c"])
    (legend,) = figure.legends
    texts = {text.get_text() for text in legend.get_texts()}
    self.assertEqual(texts, {"a", "b", "c", "level"})
    self.assertEqual(figure.axes[1].get_xlim()[0], 1.0)

  def test_names_are_not_joined_by_lines(self):
    """Between names on the axis there is nothing."""
    curves = {"a": np.array([[0.0, 2.0], [1.0, 1.0]])}
    named = figures.Curves("t", ["p", "q"], "x", "y", curves, scale="steps")
    (axes,) = self._drawn([[named]]).axes
    self.assertIn(axes.lines[0].get_linestyle(), ("None", "none"))
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    self.assertEqual(ticks, ["p", "q"])

  def test_sizes_are_labelled_where_they_lie(self):
    """On a logarithmic axis, in thousands, millions and billions."""
    curves = {"a": np.ones((3, 2))}
    sizes = [13_152.0, 200_064.0, 2_517_652_480.0]
    panel = figures.Curves("t", sizes, "x", "y", curves, scale="log10")
    (axes,) = self._drawn([[panel]]).axes
    self.assertEqual(axes.get_xscale(), "log")
    np.testing.assert_array_equal(axes.get_xticks(), sizes)
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    self.assertEqual(ticks, ["13k", "200k", "3B"])

  def test_names_are_not_formulas(self):
    """Whatever a name holds is shown; powers beside a log axis are formulas."""
    name = r"$a_{$ and $\sum$"
    values = {name: np.array([[1.0, 2.0], [1e3, 1e3]])}
    curves = figures.Curves(
      name, [name, "b"], name, name, values, {"$": 1.0}, "steps", "log"
    )
    shown = figures.Map(
      name, np.eye(2), name, name, name, xticks=[name, "b"], yticks=["$x$", "$"]
    )
    path = self.folder / "f.png"
    figures.panels_figure(path, [[curves, shown]], title=name, setup=name)
    self.assertTrue(path.exists())
    figure = self._drawn([[curves, shown]])
    formulas = {
      text.get_text(): text.get_parse_math()
      for text in figure.findobj(Text)
      if "$" in text.get_text() and "mathdefault" not in text.get_text()
    }
    self.assertEqual(formulas, {name: False, "$": False, "$x$": False})
    powers = figure.axes[0].get_yticklabels()
    self.assertTrue(all(text.get_parse_math() for text in powers))

  def test_a_signed_map_has_zero_in_the_middle(self):
    """And what is not a number stays blank."""
    values = np.array([[-1.0, 3.0], [np.nan, 0.0]])
    panel = figures.Map("t", values, "x", "y", "nats", signed=True)
    axes = self._drawn([[panel]]).axes[0]
    (image,) = axes.get_images()
    self.assertEqual(image.get_clim(), (-3.0, 3.0))
    self.assertTrue(np.ma.getmaskarray(image.get_array())[1, 0])

  def test_points_are_coloured_about_zero(self):
    """All points are there, and both signs have the same range."""
    x, y, values = np.array([[0.1, 0.5], [2.0, 3.0], [-1.0, 0.25]])
    panel = figures.Scatter("t", x, y, values, "x", "y", "log2")
    (points,) = self._drawn([[panel]]).axes[0].collections
    np.testing.assert_allclose(points.get_offsets(), np.stack([x, y], 1))
    self.assertEqual(points.get_clim(), (-1.0, 1.0))
    np.testing.assert_allclose(points.get_array(), values)

  def test_times_have_log_axes_and_bands_of_quartiles_or_ranges(self):
    """The x axis is labelled at its powers of two; the middle is the median."""
    rounds = np.array([[1.0, 2.0, 3.0, 4.0, 90.0], [8.0] * 4 + [np.nan]])
    for spread, low, high in (("quartiles", 2.0, 4.0), ("range", 1.0, 90.0)):
      panel = figures.Curves(
        "t",
        [16, 64],
        "x",
        "ms",
        {"a": rounds},
        scale="log2",
        yscale="log",
        spread=spread,
      )
      (axes,) = self._drawn([[panel]]).axes
      self.assertEqual((axes.get_xscale(), axes.get_yscale()), ("log", "log"))
      ticks = [label.get_text() for label in axes.get_xticklabels()]
      self.assertEqual(ticks, ["16", "64"])
      np.testing.assert_array_equal(axes.lines[0].get_ydata(), [3.0, 8.0])
      corners = axes.collections[0].get_paths()[0].vertices
      at_16 = corners[corners[:, 0] == 16, 1]
      self.assertEqual((at_16.min(), at_16.max()), (low, high))

  def test_more_labels_than_colours_still_differ(self):
    """Ten contenders have ten pairs of a colour and a marker."""
    curves = {str(label): np.ones((2, 2)) for label in range(10)}
    (axes,) = self._drawn(
      [[figures.Curves("t", [0, 1], "x", "y", curves)]]
    ).axes
    looks = {(line.get_color(), line.get_marker()) for line in axes.lines}
    self.assertLen(looks, 10)
