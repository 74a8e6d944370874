"""The models of `experiments.gradient_anatomy`, along their training.

Not a binary.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from experiments.common import app, study_setup
from experiments.common.shared_flags import STEP
from experiments.common.trained_models import Subject
from jaxlook.stats import myopia_gap

ARMS = (myopia_gap.CAUSAL, myopia_gap.KV)
# Windows of text are longer, and have a logit for each token.
SEQUENCES = {"precache": 128, "text": 32}

# Steps that are kept: twice as far each time, since most changes early.
_KEPT = {
  "smoke": (5, 10, 20),
  "cpu": (10, 20, 40, 80, 160, 320, 600),
  "paper": (50, 100, 200, 400, 800, 1600, 3200, 6400),
}
_EARLY = 16
"""The share of training that counts as early: a sixteenth, which is past the
warm-up and far from the end."""


def _keeping(by_preset: Mapping) -> dict:
  """The presets with checkpoints along training."""
  return {
    name: dataclasses.replace(
      config,
      train=dataclasses.replace(
        config.train, log_every=min(_KEPT[name]), keep_steps=_KEPT[name]
      ),
    )
    for name, config in by_preset.items()
  }


PRECACHE = _keeping(study_setup.PRECACHE)
TEXT = _keeping(study_setup.TEXT)


def only_cut(
  subjects: Sequence[Subject],
) -> tuple[list[Subject], list[str]]:
  """The subjects whose variants cut gradient and change nothing else.

  The measures take gradients of the function that a model computes. Under a
  variant that changes the forward pass, ordinary attention is another function.

  Args:
    subjects: trained models.

  Returns:
    Those that can be measured, in order; and the variants of the others.

  Raises:
    UsageError: there is none.
  """
  kept, left_out = [], []
  for each in subjects:
    if each.decoder.variant.keeps_forward:
      kept.append(each)
    else:
      left_out.append(each.variant)
  if not kept:
    raise app.UsageError(
      "attention", "must include a variant that keeps the forward pass"
    )
  return kept, left_out


def course(
  subject: Subject, *, before: Subject
) -> tuple[dict[int, Subject], int | None]:
  """A subject's models along training.

  Args:
    subject: the models, after training or after `--step`.
    before: the same models before training.

  Returns:
    Models by step; and the step that counts as early, None if there is only
    one step of training.
  """
  found = {0: before}
  if subject.arm is None or STEP.value is not None:
    found[STEP.value or 0] = subject
    return found, None
  train = subject.arm.train
  found |= {step: subject.at(step) for step in train.keep_steps}
  found[train.steps] = subject
  return found, min(step for step in found if step * _EARLY >= train.steps)
