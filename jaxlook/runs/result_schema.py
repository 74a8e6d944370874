"""The contract of result.json, its plain data, and the table of cells.

Every binary writes the same `result.json`:

    {"experiment": str, "preset": str, "config": {...},
     "environment": {"jax": str, "device": str, "commit": str or null, ...},
     "cells": [{"variant": str, "seed": int, "metrics": {name: number},
                "status": "done" or "diverged", "setting": str (optional)}],
     "claims": [{"id": str, "statement": str, "source": str,
                 "estimate": number, "unit": str, "ci95": [lo, hi], "n": int,
                 "verdict": str}]}

JSON has neither NaN nor infinity, so `plain` writes a float that is not finite
as null. A number may therefore be null: a metric that a cell lacks, or an
estimate or interval end of a claim, whose verdict is then "inconclusive".

Keys outside the contract are refused, so that the files of all experiments have
the same form. `jaxlook.runs.store` writes the file.
"""

import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import jax
import numpy as np
import pyarrow as pa

from jaxlook.stats.claims import Verdict

STATUSES = ("done", "diverged")

_RESULT_KEYS = (
  "experiment",
  "preset",
  "config",
  "environment",
  "cells",
  "claims",
)
_CLAIM_KEYS = (
  "id",
  "statement",
  "source",
  "estimate",
  "unit",
  "ci95",
  "n",
  "verdict",
)
_CELL_KEYS = ("variant", "seed", "metrics", "status")
_CELL_NAMES = ("setting", "variant", "seed", "status")


def plain(value: Any, name: str = "value", *, finite: bool = False) -> Any:
  """Returns the value in the form in which a reader of JSON gets it back.

  Mappings become dicts, sequences lists (a tuple compares equal to the list
  that JSON turns it into), NumPy and JAX arrays and scalars Python numbers.
  A float that is not finite becomes None.

  Args:
    value: mappings with string keys, sequences, arrays, str, int, float,
      bool or None, nested to any depth.
    name: of the value, for messages.
    finite: whether NaN and infinity are refused.

  Returns:
    A new structure of dict, list, str, int, float, bool and None.

  Raises:
    ValueError: a key or a value has another type, or is not finite although
      `finite` is set; the message names its path.
  """
  if value is None or isinstance(value, str | bool | int):
    return value
  if isinstance(value, np.ndarray | np.generic | jax.Array):
    return plain(np.asarray(value).tolist(), name, finite=finite)
  if isinstance(value, float):
    if math.isfinite(value):
      return value
    if finite:
      raise ValueError(f"{name}: expected a finite number, got {value}")
    return None
  if isinstance(value, Mapping):
    for key in value:
      if not isinstance(key, str):
        raise ValueError(f"{name}: expected string keys, got {key!r}")
    return {
      key: plain(each, f"{name}.{key}", finite=finite)
      for key, each in value.items()
    }
  if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
    return [
      plain(each, f"{name}[{index}]", finite=finite)
      for index, each in enumerate(value)
    ]
  raise ValueError(
    f"{name}: expected what JSON can hold, got {type(value).__name__}"
  )


def validate_result(result: Mapping[str, Any]) -> None:
  """Checks a result against the contract in this module's docstring.

  Args:
    result: the content of result.json, before writing or after reading.

  Raises:
    ValueError: the result breaks the contract; the message names the path of
      the first fault, as in "result.cells[3].metrics.loss".
  """
  tree = plain(result, "result")
  _check_keys(tree, "result", _RESULT_KEYS)
  for key in ("experiment", "preset"):
    _check_type(tree[key], f"result.{key}", str)
  for key in ("config", "environment"):
    _check_type(tree[key], f"result.{key}", dict)
  for key in ("cells", "claims"):
    _check_type(tree[key], f"result.{key}", list)
  # The commit is unknown outside a checkout; the other two are always known.
  environment = tree["environment"]
  for key in ("jax", "device", "commit"):
    if key not in environment:
      raise ValueError(f"result.environment.{key}: is missing")
    if key != "commit" or environment[key] is not None:
      _check_type(environment[key], f"result.environment.{key}", str)
  _check_cells(tree["cells"], "result.cells")
  _check_claims(tree["claims"], "result.claims")


def cells_table(cells: Sequence[Mapping[str, Any]]) -> pa.Table:
  """Returns the cells as a table, one row per cell.

  Args:
    cells: the `cells` of a result.

  Returns:
    Columns setting (where any cell has one), variant, seed and status, then one
    float64 column per metric, in order of first appearance. A metric that a
    cell lacks, or that is not finite, is null there.

  Raises:
    ValueError: the cells break the contract; the message names the path.
  """
  rows = plain(cells, "cells")
  _check_type(rows, "cells", list)
  _check_cells(rows, "cells")
  columns = {
    "variant": pa.array([row["variant"] for row in rows], pa.string()),
    "seed": pa.array([row["seed"] for row in rows], pa.int64()),
    "status": pa.array([row["status"] for row in rows], pa.string()),
  }
  if any("setting" in row for row in rows):
    settings = pa.array([row.get("setting") for row in rows], pa.string())
    columns = {"setting": settings, **columns}
  for name in dict.fromkeys(name for row in rows for name in row["metrics"]):
    values = [row["metrics"].get(name) for row in rows]
    floats = [None if value is None else float(value) for value in values]
    columns[name] = pa.array(floats, pa.float64())
  return pa.table(columns)


def _check_cells(cells: list[Any], path: str) -> None:
  """Raises ValueError where a cell breaks the contract or appears twice."""
  seen: set[tuple[str | None, str, int]] = set()
  for index, cell in enumerate(cells):
    here = f"{path}[{index}]"
    _check_keys(cell, here, _CELL_KEYS, optional=("setting",))
    for key in ("variant", "setting"):
      if key in cell:
        _check_type(cell[key], f"{here}.{key}", str)
    _check_type(cell["seed"], f"{here}.seed", int)
    _check_choice(cell["status"], f"{here}.status", STATUSES)
    _check_type(cell["metrics"], f"{here}.metrics", dict)
    for name, number in cell["metrics"].items():
      if name in _CELL_NAMES:
        raise ValueError(f"{here}.metrics.{name}: the name of another column")
      _check_number(number, f"{here}.metrics.{name}")
    identity = (cell.get("setting"), cell["variant"], cell["seed"])
    if identity in seen:
      raise ValueError(
        f"{here}: a second cell of variant {cell['variant']!r}, seed"
        f" {cell['seed']}"
      )
    seen.add(identity)


def _check_claims(claims: list[Any], path: str) -> None:
  """Raises ValueError where a claim breaks the contract or appears twice."""
  seen: set[str] = set()
  for index, claim in enumerate(claims):
    here = f"{path}[{index}]"
    _check_keys(claim, here, _CLAIM_KEYS, optional=("seeds_needed",))
    if "seeds_needed" in claim:
      _check_type(claim["seeds_needed"], f"{here}.seeds_needed", int)
    for key in ("id", "statement", "source", "unit"):
      _check_type(claim[key], f"{here}.{key}", str)
    if claim["id"] in seen:
      raise ValueError(f"{here}.id: a second claim {claim['id']!r}")
    seen.add(claim["id"])
    _check_type(claim["n"], f"{here}.n", int)
    if claim["n"] < 1:
      raise ValueError(f"{here}.n: expected at least 1, got {claim['n']}")
    _check_choice(claim["verdict"], f"{here}.verdict", get_args(Verdict))
    _check_type(claim["ci95"], f"{here}.ci95", list)
    if len(claim["ci95"]) != 2:
      raise ValueError(
        f"{here}.ci95: expected [lo, hi], got {len(claim['ci95'])} numbers"
      )
    lower, upper = claim["ci95"]
    _check_number(claim["estimate"], f"{here}.estimate")
    _check_number(lower, f"{here}.ci95[0]")
    _check_number(upper, f"{here}.ci95[1]")
    if None in (claim["estimate"], lower, upper):
      if claim["verdict"] != "inconclusive":
        raise ValueError(
          f"{here}.verdict: expected inconclusive without finite evidence, got"
          f" {claim['verdict']!r}"
        )
    elif lower > upper:
      raise ValueError(f"{here}.ci95: expected lo <= hi, got {claim['ci95']}")


def _check_keys(
  value: Any,
  path: str,
  required: tuple[str, ...],
  optional: tuple[str, ...] = (),
) -> None:
  _check_type(value, path, dict)
  for key in required:
    if key not in value:
      raise ValueError(f"{path}.{key}: is missing")
  for key in value:
    if key not in required and key not in optional:
      raise ValueError(f"{path}.{key}: is not part of the contract")


def _check_type(value: Any, path: str, kind: type) -> None:
  # bool is an int to Python, but not to a reader of the file.
  if not isinstance(value, kind) or isinstance(value, bool):
    raise ValueError(
      f"{path}: expected {kind.__name__}, got {reprlib.repr(value)}"
    )


def _check_number(value: Any, path: str) -> None:
  if value is None:
    return
  if not isinstance(value, int | float) or isinstance(value, bool):
    raise ValueError(
      f"{path}: expected a number or null, got {reprlib.repr(value)}"
    )


def _check_choice(value: Any, path: str, choices: tuple[str, ...]) -> None:
  if value not in choices:
    raise ValueError(
      f"{path}: expected one of {', '.join(choices)}, got {reprlib.repr(value)}"
    )
