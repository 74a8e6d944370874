"""The scales of `experiments.skip_trigrams`, and the text that it counts.

Not a binary.
"""

import dataclasses
from typing import cast

import numpy as np

from experiments.common import app, study_setup, text_setup
from experiments.common.study import Study
from jaxlook.circuits import trigram_check
from jaxlook.circuits.trigram_check import TrigramPlan, TrigramScale
from jaxlook.tasks.text import Text
from jaxlook.training import held_out_batch

SCALES = {
  "smoke": TrigramScale(
    windows=4096, sequences=8, floor=1e-3, sources=4, entries=3, drawn=64
  ),
  "cpu": TrigramScale(
    windows=32_768, sequences=128, floor=1e-3, sources=16, entries=8, drawn=8192
  ),
  "paper": TrigramScale(
    windows=131_072,
    sequences=128,
    floor=2e-4,
    sources=64,
    entries=8,
    drawn=32_768,
  ),
}
TEXT = {
  preset: text_setup.attention_only(config, layers=1)
  for preset, config in study_setup.TEXT.items()
}
# A claim is about the majority of heads: more heads, and more steps.
TEXT["cpu"] = dataclasses.replace(
  TEXT["cpu"],
  heads=8,
  train=dataclasses.replace(TEXT["cpu"].train, steps=800),
)


def count_text(study: Study, scale: TrigramScale) -> TrigramPlan:
  """Counts the text that the tables are compared with."""
  text, batch = cast(Text, study.problem.task), study.problem.train.batch_size
  # No window twice.
  count = min(scale.windows, len(text.train_tokens()) // (text.length + 1))
  windows = text.windows(0, range(count // batch), batch)
  held_out = held_out_batch(study.problem, scale.sequences)
  with app.blaming("corpus"):
    return trigram_check.make_plan(
      np.concatenate([held_out.inputs, held_out.targets[:, -1:]], axis=1),
      windows.reshape(-1, windows.shape[-1]),
      text.vocab_size,
      scale,
    )
