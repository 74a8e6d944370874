"""Tasks: sources of batches, with the loss at every position.

task               what every task offers to training and evaluation
losses             cross-entropy, of logits or a few tokens at a time
text               next-token prediction on a text
precache           sums of sines of earlier inputs
deferred           the answer is computable now and asked for d steps later
induction          a random segment that is repeated after a gap
multiplication     products, digit by digit
path_star          paths in star graphs that the prompt shows
path_star_weights  paths in one star graph that the model memorizes
couplets           a rhyming language; planning at the line break is useful
couplets_language  its tokens and tables
couplets_oracle    the exact losses of its planner, improviser and blind reader
"""

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
