"""Tasks: where batches come from, and the loss at every position."""

from jaxlook.tasks.couplets import Couplets
from jaxlook.tasks.deferred import Deferred
from jaxlook.tasks.induction import Induction
from jaxlook.tasks.multiplication import Multiplication
from jaxlook.tasks.path_star import PathStar
from jaxlook.tasks.path_star_weights import PathStarWeights
from jaxlook.tasks.precache import Precache
from jaxlook.tasks.task import Batch, Task
from jaxlook.tasks.text import Text

__all__ = [
  "Batch",
  "Couplets",
  "Deferred",
  "Induction",
  "Multiplication",
  "PathStar",
  "PathStarWeights",
  "Precache",
  "Task",
  "Text",
]
