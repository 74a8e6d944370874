"""Scales of a binary, and how flags change them."""

import dataclasses

from absl.testing import flagsaver

from experiments.common import precache_setup, presets
from jaxlook.training import Problem
from tests.fixtures import base


def _problem(**flags) -> Problem:
  with flagsaver.flagsaver(preset="smoke", **flags):
    config = precache_setup.build_config()
  return precache_setup.problem(config, 0.5)


class PresetsTest(base.TestCase):
  def test_flags_replace_fields(self):
    """Of the scale and of its training; the others stay."""
    with flagsaver.flagsaver(preset="smoke", width=4, steps=7):
      config = precache_setup.build_config()
    plain = precache_setup.PRESETS["smoke"]
    self.assertEqual(
      config,
      dataclasses.replace(
        plain, width=4, train=dataclasses.replace(plain.train, steps=7)
      ),
    )

  def test_seeds(self):
    """From 0, or from an offset, so that two runs share none."""
    self.assertEqual(_problem(seeds=3).seeds, (0, 1, 2))
    self.assertEqual(_problem(seeds=2, seed_offset=3).seeds, (3, 4))
    self.assertEqual(list(presets.Seeded(seeds=2).seed_range), [0, 1])

  def test_a_run_that_grows(self):
    """It keeps its seeds, its settings and, under wsd, its steps."""

    def build(held, **flags):
      with flagsaver.flagsaver(preset="smoke", **flags):
        return precache_setup.build_config(held=held)

    held = {"seeds": 4, "p": [0.3], "train": {"steps": 50}}
    kept = build(held)
    self.assertEqual((kept.seeds, kept.p), (4, (0.3,)))
    self.assertEqual(kept.train, precache_setup.PRESETS["smoke"].train)
    more = build(held, seeds=5, p=["0.7"])
    self.assertEqual((more.seeds, more.p), (5, (0.3, 0.7)))
    with self.assertRaisesRegex(ValueError, "^seeds must be at least the 4 of"):
      build(held, seeds=3)
    self.assertEqual(build(held, schedule="wsd").train.steps, 50)

  def test_the_warm_up_does_not_grow_with_the_steps(self):
    """Under wsd it takes the preset's number of steps."""
    with flagsaver.flagsaver(preset="cpu", schedule="wsd", steps=1600):
      train = precache_setup.build_config().train
    self.assertEqual(train.warmup_steps, 8)
