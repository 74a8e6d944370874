"""What `experiments.probes` probes for, and on how much held-out data.

Not a binary.
"""

import dataclasses
from typing import cast

import numpy as np

from experiments.common import study_setup
from experiments.common.study import Study
from jaxlook.probing import probe_plans
from jaxlook.probing.probe_models import ProbePlan
from jaxlook.tasks.precache import Precache
from jaxlook.tasks.text import Text
from jaxlook.training import held_out_batch


@dataclasses.dataclass(frozen=True)
class ProbeScale:
  """How many held-out sequences are probed, and how on text.

  Attributes:
    precache: sequences of the pre-caching task.
    text: windows of text.
    stride: positions of text from one probed position to the next.
    top: most frequent tokens that are told apart.
    steps: of fitting the logistic probes.
  """

  precache: int
  text: int
  stride: int
  top: int
  steps: int


SCALES = {
  "smoke": ProbeScale(precache=32, text=32, stride=1, top=8, steps=10),
  "cpu": ProbeScale(precache=1024, text=1024, stride=4, top=32, steps=50),
  "paper": ProbeScale(precache=4096, text=2048, stride=4, top=64, steps=100),
}
PRECACHE = study_setup.PRECACHE | {
  # The untrained control differs much from seed to seed.
  "cpu": dataclasses.replace(study_setup.PRECACHE["cpu"], seeds=8)
}


def plan(study: Study, scale: ProbeScale) -> ProbePlan:
  """What to probe for on the study's task.

  Args:
    study: the task and its held-out data.
    scale: how much of it.

  Returns:
    Inputs, positions and targets.

  Raises:
    SettingError: the sequences are too short.
  """
  task = study.problem.task
  count = scale.text if study.on_text else scale.precache
  batch = held_out_batch(study.problem, count)
  if isinstance(task, Precache):
    return probe_plans.precache_plan(task, batch.inputs)
  return probe_plans.text_plan(
    cast(Text, task),
    np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1),
    top=scale.top,
    stride=scale.stride,
    steps=scale.steps,
  )
