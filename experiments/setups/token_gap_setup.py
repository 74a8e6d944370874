"""The arms of `experiments.token_gap`: causal, and others to compare with it.

Not a binary.
"""

import dataclasses

from experiments.common import (
  app,
  shared_flags,
  study_setup,
)
from experiments.common.study import Study
from jaxlook.stats import myopia_gap

ARMS = (myopia_gap.CAUSAL, myopia_gap.RESIDUAL, myopia_gap.KV)


def build_study() -> Study:
  """The study, with causal first and at least one arm beside it.

  Raises:
    UsageError: the flags give no two arms to compare.
  """
  study = study_setup.build(
    "token_gap",
    "Where in text the myopia gap lies",
    ARMS,
    precache=None,
  )
  if study.pretrained is not None:
    raise app.UsageError("model", "must be a run with two arms, not one model")
  if shared_flags.STEP.value == 0:
    raise app.UsageError("step", "must be above 0: arms start equal")
  names = [each.name for each in study.variants]
  if myopia_gap.CAUSAL not in names or len(names) < 2:
    flag = "attention" if shared_flags.ATTENTION.value else "model"
    raise app.UsageError(
      flag, f"gives {', '.join(names)}; causal and another are needed"
    )

  def later(name: str) -> bool:
    return name != myopia_gap.CAUSAL

  return dataclasses.replace(
    study,
    variants=tuple(sorted(study.variants, key=lambda v: later(v.name))),
    saved=tuple(sorted(study.saved, key=lambda arm: later(arm.variant))),
  )
