"""Where a couplet's plan may be stored: the places before line 2."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxlook.tasks.couplets import Couplets

NONE = "none"
PROMPT = "prompt"


class Place(NamedTuple):
  """Positions that are edited together.

  Attributes:
    name: of the place.
    positions: of the inputs, ascending; may be empty.
  """

  name: str
  positions: tuple[int, ...]


def places(task: Couplets) -> tuple[Place, ...]:
  """All places before m1, from left to right, between two controls.

  The first place is `none`: nothing is edited, so it shows how far the model
  itself is from the planners. The last is `prompt`, all positions before m1: a
  swap there at layer 0 has the same effect as reading the donor's prompt.

  Args:
    task: the language.

  Returns:
    The places. With a lookup key, line 1 is random filler; its places are
    `line1` and `line1 first`. With a tally key, its places are `pairs`, `pair
    starts` and `pair ends`.
  """
  start = line2(task)
  found = [Place(NONE, ())]
  for name, positions in task.places.items():
    if name == "line1":
      found += _line1(task, positions)
    elif name != "BOS" and positions[0] < start:
      found.append(Place(name, positions))
  return (*found, Place(PROMPT, tuple(range(start))))


def line2(task: Couplets) -> int:
  """The position of m1, the first token that a model writes."""
  return task.places["m1"][0]


def named(task: Couplets, names: Sequence[str]) -> tuple[Place, ...]:
  """Some of the places of a task, in the order given.

  Args:
    task: the language.
    names: of the places.

  Returns:
    The places.

  Raises:
    ValueError: a name is unknown; the message lists the known places.
  """
  known = {place.name: place for place in places(task)}
  for name in names:
    if name not in known:
      raise ValueError(
        f"there is no place {name!r}; known are {', '.join(known)}"
      )
  return tuple(known[name] for name in names)


def masks(task: Couplets, chosen: Sequence[Place]) -> np.ndarray:
  """The positions that belong to each place, bool [P, T]."""
  result = np.zeros((len(chosen), task.length), bool)
  for row, place in zip(result, chosen, strict=True):
    row[list(place.positions)] = True
  return result


def _line1(task: Couplets, positions: tuple[int, ...]) -> list[Place]:
  """The places within line 1."""
  if task.key == "tally":
    return [
      Place("pairs", positions),
      Place("pair starts", positions[::2]),
      Place("pair ends", positions[1::2]),
    ]
  if not positions:
    return []
  return [Place("line1", positions), Place("line1 first", positions[:1])]
