"""A problem: what is trained on what and how, whatever the variant."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxlook.attention import Variant
from jaxlook.attention.masks import Barrier
from jaxlook.errors import SettingError
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.task import Task
from jaxlook.training.config import TrainConfig
from jaxlook.training.initial_weights import Start
from jaxlook.training.mesh import Feed


@dataclasses.dataclass(frozen=True)
class Problem:
  """A task, a model and a training config, shared by all variants of a setting.

  Attributes:
    setting: the problem's name among those of an experiment; may be empty.
    task: makes batches and computes their loss.
    model: the decoder's shape.
    train: how the model is trained.
    seeds: each seed determines an init and a data order.
    score: maps the mean held-out loss to the metrics to report.
    about: plain data on the task for the arm's config, from which a reader can
      make the task again.
    feed: reads the data of training steps on the host; None for generated
      tasks.
    held_out: held-out data from the host, [batches, ...]; None for generated
      tasks.
    barrier: the decoder's barrier; None for none.
    start: weights that all seeds start from; by default each seed draws its
      own.

  Raises:
    SettingError: `train.loss_tokens` is given for a model without logits.
  """

  setting: str
  task: Task
  model: DecoderConfig
  train: TrainConfig
  seeds: tuple[int, ...]
  score: Callable[[float], dict[str, float]]
  about: Mapping[str, Any]
  feed: Feed | None = None
  held_out: np.ndarray | None = None
  barrier: Barrier | None = None
  start: Start | None = None

  def __post_init__(self):
    """Checks the fields."""
    if self.train.loss_tokens and self.model.output_features is not None:
      raise SettingError(
        "loss_tokens",
        "must not be given for a model without logits over tokens",
      )

  def decoder(self, variant: Variant) -> Decoder:
    """Returns the model under a variant, with the training's precision."""
    return Decoder(
      self.model,
      variant,
      barrier=self.barrier,
      bfloat16=self.train.bfloat16,
      remat=self.train.remat,
    )
