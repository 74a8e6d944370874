"""What makes two tasks the same, as plain data.

A finished arm is read instead of trained again. That is right only if its task
is the same, whatever a user wrote into `Problem.about`.
"""

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np


def describe(value: Any) -> Any:
  """Describes an object as plain data; equal objects give equal descriptions.

  Objects are described by the names of their classes and by their fields.
  Fields of dataclasses that have their default value are left out, so that a
  later version may add fields. Arrays are described by a hash, and objects with
  a `sha256`, such as tokenized texts, by that. Classes and functions of a
  notebook or script are also described by their source.

  Args:
    value: a task, a function, or anything in their fields.

  Returns:
    Numbers, strings, lists and dictionaries.
  """
  if value is None or isinstance(value, bool | int | str):
    return value
  if isinstance(value, float):
    return repr(value)
  if isinstance(value, np.ndarray | np.generic | jax.Array):
    return _array(np.asarray(value))
  if isinstance(value, functools.partial):
    parts = (value.func, value.args, value.keywords)
    return [describe(part) for part in parts]
  if inspect.isroutine(value):
    bound = getattr(value, "__self__", None)
    return _named(value) | ({"of": describe(bound)} if _is_plain(bound) else {})
  if isinstance(value, Mapping):
    return {str(key): describe(part) for key, part in value.items()}
  if isinstance(value, Sequence | set | frozenset):
    parts = sorted(value) if isinstance(value, set | frozenset) else value
    return [describe(part) for part in parts]
  if isinstance(value, type):
    return _named(value)
  return _named(type(value)) | {
    name: describe(part) for name, part in _fields(value).items()
  }


def _fields(value: Any) -> dict[str, Any]:
  """The fields of an object that identify it."""
  if isinstance(getattr(value, "sha256", None), str):
    names = ("sha256", "tokenizer_sha256")
    return {name: getattr(value, name, None) for name in names}
  if not dataclasses.is_dataclass(value):
    return {
      name: part
      for name, part in getattr(value, "__dict__", {}).items()
      if not name.startswith("__")
    }
  found = {}
  for field in dataclasses.fields(value):
    part = getattr(value, field.name)
    if field.default is dataclasses.MISSING or not _equal(part, field.default):
      found[field.name] = part
  return found


def _equal(one: Any, other: Any) -> bool:
  return type(one) is type(other) and describe(one) == describe(other)


def _is_plain(bound: Any) -> bool:
  """Whether a function is bound to an object that has fields of its own."""
  return bound is not None and not inspect.ismodule(bound)


def _named(what: Any) -> dict[str, Any]:
  """The name of a class or function, and in a notebook a hash of its source."""
  name = getattr(what, "__qualname__", type(what).__qualname__)
  if getattr(what, "__module__", None) != "__main__":
    return {"name": name}
  try:
    source = inspect.getsource(what)
  except (OSError, TypeError):
    return {"name": name}
  return {
    "name": name,
    "source_sha256": hashlib.sha256(source.encode()).hexdigest(),
  }


def _array(array: np.ndarray) -> dict[str, Any]:
  data = np.ascontiguousarray(array)
  return {
    "dtype": str(array.dtype),
    "shape": list(array.shape),
    "sha256": hashlib.sha256(data.view(np.uint8).data).hexdigest()
    if data.size
    else "",
  }
