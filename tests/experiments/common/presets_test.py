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
