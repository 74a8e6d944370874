"""A study: what its models are, and where what it finds goes.

Not a binary. `study_setup` makes one as the flags say; experiments with a task
of their own make theirs.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common import multiprocess, train_arms, trained_models
from experiments.common.trained_models import Subject
from jaxlook.attention import Variant
from jaxlook.runs.store import Store
from jaxlook.tasks.text import Text
from jaxlook.training import Problem, SavedArm


@dataclasses.dataclass(frozen=True)
class Study:
  """What is studied.

  Attributes:
    name: the experiment's.
    title: of report and figures.
    problem: the task, with its held-out data; what models are trained on.
    variants: of the arms to study, in order; empty with a Hugging Face folder.
    config: the resolved config, plain data.
    setup: task, model and training in a line.
    unit: of the loss.
    source: of the published claims about this task.
    saved: trained arms, in the order of `variants`, with `--model=RUN`; empty
      otherwise.
    pretrained: the model of a Hugging Face folder; None otherwise.
  """

  name: str
  title: str
  problem: Problem
  variants: tuple[Variant, ...]
  config: Mapping[str, Any]
  setup: str
  unit: str
  source: str
  saved: tuple[SavedArm, ...] = ()
  pretrained: Subject | None = None

  @property
  def on_text(self) -> bool:
    """Whether the task is text."""
    return isinstance(self.problem.task, Text)

  def with_config(self, **settings: Any) -> "Study":
    """The study with more settings in its config, plain data."""
    return dataclasses.replace(self, config={**self.config, **settings})

  def labels(self, measured: str) -> dict[str, str]:
    """Title and setup line of a figure.

    Args:
      measured: what was measured on, such as "3 seeds"; ends the setup line.
    """
    return {"title": self.title, "setup": f"{self.setup}; {measured}"}

  def open_run(self, problems: Sequence[Problem] = ()) -> Store:
    """Opens the run folder; see `train_arms.open_run`.

    Args:
      problems: what is trained, if it is more than `problem`.
    """
    names = [variant.name for variant in self.variants]
    if self.pretrained is not None:
      names = [self.pretrained.variant]
    if not problems and self.pretrained is None and not self.saved:
      problems = [self.problem]
    return train_arms.open_run(
      self.name, {"variants": names, **self.config}, problems
    )

  def subjects(self, store: Store) -> list[Subject]:
    """The models to study, trained now where they are not there yet.

    Args:
      store: from `open_run`.

    Returns:
      One subject a variant, in order.

    Raises:
      UsageError: `--step` has no checkpoint, or all seeds of an arm diverged.
      SystemExit: the run was asked to stop; the same command goes on from
        there.
    """
    if self.pretrained is not None or self.saved:
      multiprocess.end_others()
    if self.pretrained is not None:
      return [self.pretrained]
    saved = self.saved
    if not saved:
      todo = [(self.problem, variant) for variant in self.variants]
      saved = [arm.saved() for arm in train_arms.train_all(store, todo)]
    return [trained_models.trained(arm) for arm in saved]

  def subjects_and_untrained(self, store: Store) -> list[Subject]:
    """The models to study, and last the first ones before training.

    Args:
      store: from `open_run`.

    Returns:
      One subject a variant, in order, then the untrained control.

    Raises:
      UsageError: see `subjects`.
      SystemExit: see `subjects`.
    """
    subjects = self.subjects(store)
    return [*subjects, subjects[0].untrained()]
