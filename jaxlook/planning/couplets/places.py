"""Where a couplet's plan may be stored: the places before the second line."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxlook.tasks.couplets import Couplets

NONE = "none"
PROMPT = "prompt"


class Place(NamedTuple):
  """Positions that are changed together.

  Attributes:
    name: what to call it.
    positions: of the inputs, ascending; may be none.
  """

  name: str
  positions: tuple[int, ...]


def places(task: Couplets) -> tuple[Place, ...]:
  """All places before m1, from left to right, between two controls.

  The first place is `none`, where nothing is changed: it gives the floor, the
  model's own imperfection. The last is `prompt`, all that stands before m1:
  changed at layer 0, it gives what the donor's prompt itself would.

  Args:
    task: the arm.

  Returns:
    The places. Line 1 is `line1` and `line1 first` under lookup, where it is
    random filler; `pairs`, `pair starts` and `pair ends` under tally.
  """
  start = line2(task)
  found = [Place(NONE, ())]
  for name, positions in task.places.items():
    if name == "line1":
      found += _first_line(task, positions)
    elif name != "BOS" and positions[0] < start:
      found.append(Place(name, positions))
  return (*found, Place(PROMPT, tuple(range(start))))


def line2(task: Couplets) -> int:
  """The position of m1, the first that is written."""
  return task.places["m1"][0]


def named(task: Couplets, names: Sequence[str]) -> tuple[Place, ...]:
  """Some of the places of a task, in the order given.

  Args:
    task: the arm.
    names: which ones.

  Returns:
    The places.

  Raises:
    ValueError: there is no such place; the message lists them.
  """
  known = {place.name: place for place in places(task)}
  for name in names:
    if name not in known:
      raise ValueError(
        f"there is no place {name!r}; known are {', '.join(known)}"
      )
  return tuple(known[name] for name in names)


def masks(task: Couplets, chosen: Sequence[Place]) -> np.ndarray:
  """Which positions each place holds, bool [P, T]."""
  result = np.zeros((len(chosen), task.length), bool)
  for row, place in zip(result, chosen, strict=True):
    row[list(place.positions)] = True
  return result


def _first_line(task: Couplets, positions: tuple[int, ...]) -> list[Place]:
  if task.key == "tally":
    return [
      Place("pairs", positions),
      Place("pair starts", positions[::2]),
      Place("pair ends", positions[1::2]),
    ]
  if not positions:
    return []
  return [Place("line1", positions), Place("line1 first", positions[:1])]
