"""Couplets: do models write line 2 of a couplet towards a stored rhyme?

Causal tests on `jaxlook.tasks.couplets`, whose truth is known exactly. A model
reads a couplet while its residual stream is changed at one place and layer;
what it then expects, or writes, is held against what a planner of its own
class and one of another class would. All seeds run in one program.

  places            where to change a model
  answers, writing  what a changed model expects, and what it writes
  swaps, steering   the changes: a donor's state, a direction between families
  changes           runs a model under each change at each layer and place
  routes            the loss when attention to a place is cut
  class_probe       whether the class can be read off linearly
  lines, measures   what is written and lost without any change
  examination       all of it for one variant -> report

A linear probe finds the class wherever it is stored, used or not; only a swap
tells whether it is used.
"""

from jaxlook.planning.couplets import (
  answers,
  class_probe,
  places,
  routes,
  steering,
  stream_edits,
  swaps,
  writing,
)

__all__ = [
  "answers",
  "class_probe",
  "places",
  "routes",
  "steering",
  "stream_edits",
  "swaps",
  "writing",
]
