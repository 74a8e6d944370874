"""Couplets: do models plan the rhyme of line 2 before they write it?

Causal tests on `jaxlook.tasks.couplets`, a language for which the exact answers
are known. A model reads a couplet while its residual stream is edited at one
place and layer. What it then expects, or writes, is compared with two exact
planners: one for the couplet's own rhyme class and one for another class. All
seeds run in one program.

  places            where to edit a model
  stream_edits      runs a model under every edit, at every layer and place
  swaps, steering   the edits: the state of a donor, a direction between classes
  answers, writing  what a model expects of line 2, and what it writes
  routes            the loss when attention to a place is cut
  class_probe       whether a linear probe can read the class
  losses_and_lines  losses and written lines without any edit
  measure_all       all of these for one variant

A linear probe finds the class wherever it is stored, used or not. Only an edit
shows whether the model uses it.
"""

from jaxlook.planning.couplets import (
  answers,
  class_probe,
  losses_and_lines,
  measure_all,
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
  "losses_and_lines",
  "measure_all",
  "places",
  "routes",
  "steering",
  "stream_edits",
  "swaps",
  "writing",
]
