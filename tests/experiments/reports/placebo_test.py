"""How many seeds a finished run would need."""

import json
import pathlib
import tempfile

from experiments.reports import placebo
from jaxlook import stats
from tests.fixtures import base


def _cell(variant, seed, loss, setting):
  return {
    "variant": variant,
    "seed": seed,
    "metrics": {"loss": loss},
    "status": "done",
    "setting": setting,
  }


class PlannedTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def write(self, cells):
    """Writes a result with these cells."""
    result = {
      "experiment": "test",
      "preset": "smoke",
      "config": {},
      "environment": {"jax": "0", "device": "cpu", "commit": None},
      "cells": cells,
      "claims": [],
    }
    (self.root / "result.json").write_text(json.dumps(result))

  def test_every_difference_of_every_setting(self):
    """The number is that of `seeds_needed`."""
    losses = {"causal": [0.1, 0.2, 0.1], "myopic/kv": [0.3, 0.2, 0.4]}
    self.write(
      [
        _cell(variant, seed, loss, setting)
        for setting in ("a", "b")
        for variant, values in losses.items()
        for seed, loss in enumerate(values)
      ]
    )
    head, *rows = placebo.planned(self.root)
    self.assertEqual([row[0] for row in rows], ["a", "b"])
    found = stats.compare(
      dict(enumerate(losses["myopic/kv"])), dict(enumerate(losses["causal"]))
    )
    needed = stats.seeds_needed(found, low=0.0)
    for row in rows:
      self.assertEqual(row[head.index("seeds")], str(needed))
      self.assertEqual(row[head.index("n")], "3")

  def test_refusals(self):
    """Folders without the finished run of two variants."""
    with self.assertRaisesRegex(
      ValueError, "has no result.json; give the fold"
    ):
      placebo.planned(self.root)
    (self.root / "result.json").write_text("[]")
    with self.assertRaisesRegex(ValueError, "is not the result of a run: "):
      placebo.planned(self.root)
    self.write([_cell("causal", seed, 0.1, "") for seed in range(3)])
    with self.assertRaisesRegex(ValueError, "no losses of two variants"):
      placebo.planned(self.root)
