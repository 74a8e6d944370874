"""The microscope's page in a browser: it shows the library's numbers."""

import itertools
import json
import re
import unittest

import jax
import numpy as np
from absl.testing import absltest

from jaxlook import models
from jaxlook.circuits import inside, page, weights
from jaxlook.interventions.forward import forward_only
from jaxlook.models import Decoder, huggingface
from jaxlook.tasks.losses import cross_entropy
from jaxlook.training import read_arm
from tests.fixtures import base
from tests.fixtures.browser import CHROMIUM, Browser
from tests.fixtures.microscope_pages import MODEL, TEXT, TOKENS, look, root

ROUNDED = 1e-4
# The ends of the scale on light and on dark pages, red green blue.
DARKEST, BRIGHTEST = [8, 29, 88, 255], [253, 231, 37, 255]


@unittest.skipUnless(CHROMIUM, "needs Chromium: apt-get install chromium")
class PageTest(base.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root, cls.run_folder = root(), root() / "run"
    cls.said = look(cls.root, model=str(cls.run_folder))
    cls.params = [
      read_arm(cls.run_folder / "arms" / arm).params()
      for arm in ("causal", "myopic+kv")
    ]
    # Seed 1 has diverged in one of the two.
    decoder = forward_only(Decoder(MODEL))
    losses = jax.jit(
      jax.vmap(
        lambda params: cross_entropy(
          models.apply(decoder, params, TOKENS[None, :-1]), TOKENS[None, 1:]
        )[0]
      )
    )
    cls.losses = [np.asarray(losses(params))[[0, 2]] for params in cls.params]
    cls.paid = cls.losses[1] - cls.losses[0]
    cls.first = [jax.tree.map(lambda x: x[0], each) for each in cls.params]
    cls.seen = [
      jax.tree.map(
        np.asarray, inside.observe_model(decoder, each, TOKENS[None], 6)
      )
      for each in cls.first
    ]
    cls.browser = Browser()
    cls.addClassCleanup(cls.browser.close)

  def setUp(self):
    super().setUp()
    self.scheme("light")
    self.open(self.root / "page.html")

  def open(self, file):
    """Opens a page; when the test ends, it has not complained nor loaded."""
    self.browser.open(file)
    self.addCleanup(self._check_quiet)

  def _check_quiet(self):
    loud = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    self.assertEmpty(self.browser.of(*loud, "Log.entryAdded"))
    asked = self.browser.of("Network.requestWillBeSent")
    urls = {each["request"]["url"].partition(":")[0] for each in asked}
    self.assertContainsSubset(urls, {"file", "data"})

  def scheme(self, name):
    feature = {"name": "prefers-color-scheme", "value": name}
    self.browser.call("Emulation.setEmulatedMedia", features=[feature])

  def each(self, selector, of="textContent"):
    """A property of all elements that a selector finds."""
    return self.browser.run(
      f"[...document.querySelectorAll({selector!r})].map(e => e.{of})"
    )

  def one(self, selector, of="textContent"):
    (found,) = self.each(selector, of)
    return found

  def selected(self):
    """The place of the selected token, the same in every strip."""
    (place,) = set(
      self.each("[role=option][aria-selected=true]", "dataset.place")
    )
    return int(place)

  def pixel(self, query, key):
    """The colour of a cell of the large pattern."""
    return self.browser.run(
      "(() => {"
      "const pen = document.createElement('canvas').getContext('2d');"
      "pen.drawImage(document.querySelector('#attention .map canvas'), 0, 0);"
      f"return [...pen.getImageData({key}, {query}, 1, 1).data]; }})()"
    )

  def focus(self, selector):
    self.browser.run(f"document.querySelector({selector!r}).focus()")

  def strips(self, of):
    """A property of every token, by strip."""
    return np.reshape(self.each(".token", of), (-1, len(TOKENS))).tolist()

  def test_text_is_shown_as_text(self):
    """Marks, quotes, scripts and bytes that are no character."""
    signs = {" ": "·", "\n": "↵"}
    expected = [
      f"<{token:02X}>" if token > 127 else signs.get(chr(token), chr(token))
      for token in TOKENS
    ]
    self.assertEqual(self.strips("textContent"), 3 * [expected])
    self.assertEqual(self.one("#given pre"), TEXT)
    self.assertEqual(self.browser.run("document.scripts.length"), 2)
    self.assertEqual(self.one("#title"), "run")
    self.assertIn("33 tokens (bytes); panels of seed 0", self.one("#about"))
    self.assertRegex(self.said, r"^wrote .*page.html \(0\.\d MB\)")

  def test_losses_and_their_difference(self):
    """What the strips hold is the library's; the third is second - first."""
    shown = self.strips("dataset.value")
    self.assertEqual([strip[0] for strip in shown], ["", "", ""])
    first, second, paid = np.array([s[1:] for s in shown], np.float64)
    self.assert_close(first, self.losses[0].mean(axis=0), ROUNDED)
    self.assert_close(second, self.losses[1].mean(axis=0), ROUNDED)
    self.assert_close(paid, second - first, 2 * ROUNDED)
    # It begins at the token that costs the second most.
    self.assertEqual(self.selected(), 1 + np.argmax(paid))
    most = paid.max()
    self.assertIn(f"difference +{most:.2f} [", self.one("#selected"))
    shown, mean = self.each(".strip h2 span")[2], self.paid.mean()
    self.assertAlmostEqual(number(shown.split()[1]), mean, delta=1e-3)
    self.focus("[data-key=losses] [aria-checked=true]")
    self.browser.press("ArrowRight")
    shown = np.array([s[1:] for s in self.strips("dataset.value")], np.float64)
    self.assert_close(shown[1], self.losses[1][0], ROUNDED)
    self.assert_close(shown[2], shown[1] - shown[0], 2 * ROUNDED)
    self.assertIn("(seed 0)", self.one("#selected"))

  def test_arrow_keys_move_the_selection_and_the_panels_follow(self):
    """The lens ends in the model's own likeliest token, wherever one is."""
    self.focus(".token[aria-selected=true]")
    self.browser.press("Home")
    for place in range(3):
      self.assertEqual(self.selected(), place)
      self.assertStartsWith(self.one("#selected"), f"Token {place} ")
      self._check_panels(0, 0, 0, place)
      self.browser.press("ArrowRight")
    self.browser.press("ArrowLeft")
    self.assertEqual(self.selected(), 2)
    self.browser.press("End")
    self.browser.press("ArrowRight")
    self.assertEqual(self.selected(), len(TOKENS) - 1)
    self.assertIn("Nothing follows", self.one("#lens .note"))
    # The focus has gone along.
    self.assertEqual(
      self.browser.run("document.activeElement.dataset.place"),
      str(len(TOKENS) - 1),
    )
    # One line up; the lines end in line breaks.
    self.browser.press("ArrowUp")
    self.assertLess(self.selected(), TEXT.index("\n") + 1)

  def _check_panels(self, variant, layer, head, place):
    """All panels show the library's numbers."""
    seen, params = self.seen[variant], self.first[variant]
    row = "#lens tbody tr:last-child .guess"
    self.assertEqual(
      self.each(row, "dataset.id"), [str(t) for t in seen.top[-1, place, :4]]
    )
    shares = np.array(self.each(row, "dataset.value"), np.float64)
    self.assert_close(shares, seen.share[-1, place, :4], ROUNDED)
    pattern = seen.pattern[layer, head, place, : place + 1]
    weight = np.array(self.each(".reads li", "dataset.value"), np.float64)
    self.assert_close(weight, np.sort(pattern)[::-1][:5], 1e-3)
    neuron = int(np.argmax(seen.neurons[layer, place]))
    found = self.each("#neurons [role=radio]", "dataset.neuron")
    self.assertEqual(found[0], str(neuron))
    value = params[f"block_{layer}"]["mlp"]["down"]["kernel"][neuron]
    reads = weights.unembedding(MODEL, params, fold_norms=True)
    writes = np.argmax(value @ reads)
    self.assertEqual(self.each(".writes li", "dataset.id")[0], str(writes))
    trigger = np.argmax(seen.neurons[layer, :, neuron])
    jumps = self.each("#neurons li button", "dataset.place")
    self.assertEqual(jumps[0], str(trigger))
    for readout, each in zip(
      self.each("#influence .readout"), self.seen, strict=True
    ):
      expected = each.influence[layer, place, place]
      np.testing.assert_allclose(told(readout), expected, rtol=1e-2)

  def test_another_head_layer_and_model(self):
    """By keys and by buttons: the drawn pattern is the chosen head's."""
    self.focus(".token[aria-selected=true]")
    self.browser.press("Home")
    self.browser.press("ArrowRight", 6)
    before = self.pixel(6, 2)
    self.browser.press("h")
    self._check_panels(0, 0, 1, 6)
    self.assertNotEqual(self.pixel(6, 2), before)
    self.browser.press("l")
    self._check_panels(0, 1, 1, 6)
    self.focus("[data-key=variant] [aria-checked=true]")
    self.browser.press("ArrowRight")
    self._check_panels(1, 1, 1, 6)
    chosen = self.each("#controls [aria-checked=true]")
    self.assertEqual(chosen[:3], ["myopic/kv", "1", "1"])
    # A pixel a cell: darker for more, nothing above the diagonal.
    pattern = self.seen[1].pattern[1, 1]
    self.assertEqual(self.pixel(0, 0), DARKEST)
    self.assertEqual(self.pixel(0, 1)[3], 0)
    most, least = np.argmax(pattern[6, :7]), np.argmin(pattern[6, :7])
    self.assertLess(
      sum(self.pixel(6, most)), sum(self.pixel(6, least)), pattern[6]
    )

  def test_maps_by_keys_and_pointer(self):
    """Arrows on a map choose row and column; the pointer tells a cell."""
    self.focus(".token[aria-selected=true]")
    self.browser.press("Home")
    self.focus("#attention .map")
    self.browser.press("ArrowDown", 5)
    self.browser.press("ArrowRight", 4)
    self.browser.press("ArrowLeft")
    self.assertEqual(self.selected(), 5)
    said = self.one("#attention .readout")
    self.assertStartsWith(said, "5 “i” reads 3 “c”: ")
    self.assert_close(told(said), self.seen[0].pattern[0, 0, 5, 3], 1e-3)
    said = self.each("#influence .readout")[1]
    self.assertStartsWith(said, "loss on 6 “p” from the stream at 3 “c”: ")
    reached = self.seen[1].influence[0, 5, 3]
    self.assertGreater(reached, 0.0)
    np.testing.assert_allclose(told(said), reached, rtol=1e-2)
    box = self.browser.run(
      "(({x, y, width}) => [x, y, width])(document.querySelector("
      "'#attention .map canvas').getBoundingClientRect())"
    )
    x, y, width = box
    cell = width / len(TOKENS)
    self.browser.move(x + 2.5 * cell, y + 8.5 * cell)
    said = self.one("#hint")
    self.assertStartsWith(said, "8 “>” reads 2 “s”: ")
    self.assert_close(told(said), self.seen[0].pattern[0, 0, 8, 2], 1e-3)
    bars = self.browser.run(
      "[...document.querySelectorAll('.token')].map("
      "t => +t.style.getPropertyValue('--read'))"
    )
    bars = np.reshape(bars, (3, -1))
    for shown, seen in zip(bars, self.seen, strict=False):
      expected = np.sqrt(seen.pattern[0, 0, 8])
      np.testing.assert_allclose(shown**2, expected**2, atol=2e-3)
    self.assertEqual(bars[2].max(), 0.0)
    self.assertEqual(self.selected(), 5)

  def test_hover_over_a_token(self):
    """Its numbers, and the character that it is a part of."""
    place = len(TOKENS) - 7
    x, y = self.browser.run(
      "(({x, y}) => [x, y])(document.querySelectorAll('.token')"
      f"[{place}].getBoundingClientRect())"
    )
    self.browser.move(x + 3, y + 3)
    lost = [each[:, place - 1].mean() for each in self.losses]
    said = self.one("#hint")
    self.assertStartsWith(said, f"{place} “<9F>” (part of 😀)")
    self.assertIn(f"causal {lost[0]:.2f}, myopic/kv {lost[1]:.2f} nats", said)

  def test_everything_is_reached_by_tab(self):
    """Each control once, in order, with a focus that is seen."""
    stops = []
    while True:
      self.browser.press("Tab")
      stop = self.browser.run(
        "(e => e === document.body ? null :"
        " [e.id || e.dataset.key || e.closest('[data-key]')?.dataset.key"
        " || e.className || e.getAttribute('aria-label') || e.tagName,"
        " getComputedStyle(e).outlineStyle])(document.activeElement)"
      )
      if stop is None:
        break
      stops.append(stop)
      self.assertLess(len(stops), 40)
    self.assertEqual({style for _, style in stops}, {"solid"})
    names = [re.sub("^go to .*", "trigger", name) for name, _ in stops]
    self.assertEqual(
      [name for name, _ in itertools.groupby(names)],
      [
        *("help-open", "token", "variant", "layer", "head", "losses"),
        *("SUMMARY", "map", "neuron", "trigger", "map"),
      ],
    )
    self.assertEqual(names.count("token"), 3)

  def test_help(self):
    """A question mark opens it, Escape closes it."""
    self.browser.press("?")
    self.assertTrue(self.one("#help", "open"))
    self.browser.press("Escape")
    self.assertFalse(self.one("#help", "open"))

  def test_dark_and_printed(self):
    """Dark pages have a scale of their own; paper is light."""
    # Its listener comes after the page's own.
    self.browser.run(
      "void (window.turned = new Promise(done => matchMedia("
      "'(prefers-color-scheme: dark)').addEventListener('change', done)))"
    )
    self.scheme("dark")
    self.browser.run("turned.then(() => true)")
    self.assertEqual(self.pixel(0, 0), BRIGHTEST)
    self.browser.run("dispatchEvent(new Event('beforeprint'))")
    self.assertEqual(self.pixel(0, 0), DARKEST)
    self.browser.run("dispatchEvent(new Event('afterprint'))")
    self.assertEqual(self.pixel(0, 0), BRIGHTEST)

  def test_fits_a_laptop(self):
    """Nothing is wider than 1366 pixels, and all panels begin above 768."""
    self.assertEqual(
      self.browser.run("[innerWidth, document.body.scrollWidth <= 1366]"),
      [1366, True],
    )
    self.assertLess(max(self.each(".panel", "offsetTop")), 400)

  def test_one_pretrained_model(self):
    """A Hugging Face folder: one strip, no difference, no choice of model."""
    folder = self.root / "gpt2"
    if not folder.exists():
      huggingface.save(folder, MODEL, self.first[0])
    out = self.root / "single.html"
    look(self.root, model=str(folder), tokenizer="bytes", out=str(out))
    self.open(out)
    (shown,) = self.strips("dataset.value")
    found = np.array(shown[1:], np.float64)
    self.assert_close(found, self.losses[0][0], ROUNDED)
    keys = self.each("#controls [role=radiogroup]", "dataset.key")
    self.assertEqual(keys, ["layer", "head"])
    self.assertLen(self.each("#influence canvas", "width"), 2)

  def test_without_feed_forward_layers(self):
    """An attention-only model's page says that there are no neurons."""
    data = json.loads(self.one("#data"))
    for variant in data["variants"]:
      none = {"top": [], "activation": [], "found": {}}
      variant["neurons"] = [none for _ in range(MODEL.layers)]
    file = self.root / "attention_only.html"
    file.write_text(page.html(data | {"hidden": 0}), "utf-8")
    self.open(file)
    self.assertIn("no feed-forward layers", self.one("#neurons"))
    self.focus(".token[aria-selected=true]")
    self.browser.press("Home")
    self.assertEqual(self.selected(), 0)


def number(text: str) -> float:
  """A number as the page writes it."""
  return float(text.replace("−", "-"))


def told(readout: str) -> float:
  """The number that a readout ends in."""
  return number(readout.rpartition(": ")[2])


if __name__ == "__main__":
  absltest.main()
