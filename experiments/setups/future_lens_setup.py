"""The text that `experiments.future_lens` decodes, and how the lens is fitted.

Not a binary.
"""

from typing import cast

import numpy as np

from experiments.common import app
from experiments.common.study import Study
from jaxlook.lookahead import lens_measures
from jaxlook.lookahead.future_pairs import LensSetup
from jaxlook.lookahead.lens_measures import LensText
from jaxlook.tasks.text import Text

SETUPS = {
  "smoke": LensSetup(
    sequences=8,
    fit_positions=4,
    prompt_length=4,
    prompt_steps=4,
    prompt_batch=8,
    map_steps=4,
    map_batch=16,
  ),
  "cpu": LensSetup(),
  "paper": LensSetup(
    sequences=8192, prompt_steps=2000, prompt_batch=128, map_steps=2000
  ),
}


def read_text(study: Study, setup: LensSetup) -> LensText:
  """The text to measure on.

  Args:
    study: the task and its held-out windows.
    setup: how the lens is fitted.

  Returns:
    Held-out sequences to fit and to score on, and counts.

  Raises:
    UsageError: the windows are too short or too few.
  """
  text = cast(Text, study.problem.task)
  if text.length < setup.least_length:
    raise app.UsageError(
      "length", f"must be at least {setup.least_length}, not {text.length}"
    )
  windows = np.concatenate(np.asarray(study.problem.held_out))
  if len(windows) < 4:
    raise app.UsageError(
      "corpus", f"must hold at least 4 held-out windows, not {len(windows)}"
    )
  return lens_measures.lens_text(
    windows,
    text.train_tokens(),
    study.problem.model.vocab_size or 0,
    setup,
    text.train_ends(),
  )
