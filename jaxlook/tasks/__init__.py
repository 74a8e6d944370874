"""Tasks: where batches come from, and the loss at every position."""

from jaxlook.tasks.precache import Precache
from jaxlook.tasks.task import Batch, Task
from jaxlook.tasks.text import Text

__all__ = ["Batch", "Precache", "Task", "Text"]
