"""What makes two tasks the same, as plain data.

A finished arm is read instead of trained again. That is right only if its task
is the same, whatever a user wrote into `Problem.about`.
"""

import copyreg
import dataclasses
import functools
import hashlib
import inspect
import json
import sys
import sysconfig
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Their code is the same as long as their names are, up to the version.
_LIBRARIES = ("jaxlook", "experiments")
_INSTALLED = tuple(
  Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")
)
# What Python and dataclasses write into a class.
_GENERATED = frozenset(
  "__dict__ __weakref__ __module__ __qualname__ __doc__ __annotations__"
  " __annotate__ __annotate_func__ __annotations_cache__ __firstlineno__"
  " __static_attributes__ __slots__ __orig_bases__ __parameters__"
  " __abstractmethods__ _abc_impl __match_args__ __hash__"
  " __dataclass_fields__ __dataclass_params__".split()
)
_OF_DATACLASSES = frozenset(
  "__init__ __repr__ __eq__ __setattr__ __delattr__ __getstate__ __setstate__"
  " __replace__ __lt__ __le__ __gt__ __ge__".split()
)


def describe(value: Any) -> Any:
  """Describes an object as plain data; equal objects give equal descriptions.

  Objects are described by their classes and by their fields, arrays by a hash,
  and objects with a `sha256`, such as tokenized texts, by that. Classes and
  functions of installed packages and of this project are described by name;
  of their objects, fields with the default value are left out, so that a later
  version may add fields. Other classes and functions are also described by
  their code, and by what the code reads: its closure, its defaults, and the
  globals of its module.

  Args:
    value: a task, a function, or anything in their fields.

  Returns:
    Numbers, strings, lists and dictionaries.

  Raises:
    ValueError: something in it is not made of data, such as a lock or an open
      file.
  """
  return _described(value, ())


def _described(value: Any, within: tuple[int, ...]) -> Any:
  """Describes a value; `within` are the ids of what it is a part of."""
  if value is None or isinstance(value, bool | int | str):
    return value
  if isinstance(value, float | complex):
    return repr(value)
  if isinstance(value, bytes | bytearray):
    return {"sha256": hashlib.sha256(value).hexdigest()}
  if id(value) in within:
    return {"again": len(within) - within.index(id(value))}
  within = (*within, id(value))
  if isinstance(value, np.ndarray | np.generic | jax.Array):
    return _array(value, within)
  if isinstance(value, functools.partial):
    parts = (value.func, value.args, value.keywords)
    return [_described(part, within) for part in parts]
  if isinstance(value, types.ModuleType):
    return {"name": value.__name__}
  if isinstance(value, type):
    return _class(value, within)
  if inspect.isroutine(value) or hasattr(value, "__wrapped__"):
    return _function(value, within)
  if isinstance(value, Mapping):
    return {
      key if isinstance(key, str) else repr(key): _described(part, within)
      for key, part in value.items()
    }
  if isinstance(value, set | frozenset):
    return sorted((_described(part, within) for part in value), key=json.dumps)
  if isinstance(value, list | tuple):
    return [_described(part, within) for part in value]
  fields = _fields(value)
  return _class(type(value), within) | {
    name: _described(part, within) for name, part in fields.items()
  }


def _fields(value: Any) -> dict[str, Any]:
  """The fields of an object that identify it."""
  kind = type(value)
  if isinstance(getattr(value, "sha256", None), str):
    names = ("sha256", "tokenizer_sha256")
    return {name: getattr(value, name, None) for name in names}
  if dataclasses.is_dataclass(value):
    return {
      field.name: getattr(value, field.name)
      for field in dataclasses.fields(value)
      if not (_by_name(kind) and _is_default(value, field))
    }
  if _top(kind) in _LIBRARIES or not _by_name(kind):
    return _own_fields(value)
  # Objects of other packages may keep in fields what they have computed.
  reduce = copyreg.dispatch_table.get(kind)
  try:
    reduced = reduce(value) if reduce else value.__reduce_ex__(4)
  except (TypeError, AttributeError) as error:
    raise ValueError(f"a {kind.__qualname__} is not made of data") from error
  if isinstance(reduced, str):
    return {"of": reduced}
  made_from, state, *items = (*reduced[1:], None, None, None)[:4]
  # Iterators over what a container holds, if it is one.
  return {"of": [made_from, state, *(list(each or ()) for each in items)]}


def _own_fields(value: Any) -> dict[str, Any]:
  """What an object keeps in slots and in its dictionary."""
  slots = [
    name
    for each in type(value).__mro__
    for name in _names(each.__dict__.get("__slots__", ()))
  ]
  found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
  found |= getattr(value, "__dict__", {})
  return {
    name: part for name, part in found.items() if not name.startswith("__")
  }


def _names(slots: Any) -> tuple[str, ...]:
  return (slots,) if isinstance(slots, str) else tuple(slots)


def _is_default(value: Any, field: "dataclasses.Field[Any]") -> bool:
  part, default = getattr(value, field.name), field.default
  if default is dataclasses.MISSING or type(part) is not type(default):
    return False
  return describe(part) == describe(default)


def _by_name(what: Any) -> bool:
  """Whether the name of a class or function tells what its code is."""
  name, top = getattr(what, "__module__", None), _top(what)
  # Notebooks and scripts, whatever file runs them.
  if top == "__main__":
    return False
  if name is None or top in _LIBRARIES or top in sys.stdlib_module_names:
    return True
  file = getattr(sys.modules.get(name), "__file__", None)
  if file is None:
    return top == "builtins"
  path = Path(file).resolve()
  return any(path.is_relative_to(folder) for folder in _INSTALLED)


def _top(what: Any) -> str:
  """The package that a class or function is from."""
  return str(getattr(what, "__module__", None)).partition(".")[0]


def _class(kind: type, within: tuple[int, ...]) -> dict[str, Any]:
  """The name of a class, and its code unless the name tells it."""
  named = {"name": kind.__qualname__}
  if _by_name(kind):
    return named
  left_out = set(_GENERATED)
  if dataclasses.is_dataclass(kind):
    # Objects have the values of fields, which say what defaults do.
    left_out |= {field.name for field in dataclasses.fields(kind)}
    left_out |= _OF_DATACLASSES
  slots = _names(kind.__dict__.get("__slots__", ()))
  parts = {
    name: _attribute(part, (*within, id(kind)))
    for name, part in vars(kind).items()
    if name not in left_out and name not in slots
  }
  bases = [
    _described(base, (*within, id(kind)))
    for base in kind.__bases__
    if base is not object
  ]
  return named | {"code": _digest([parts, bases])}


def _attribute(part: Any, within: tuple[int, ...]) -> Any:
  """Describes what a class holds; some of it wraps functions."""
  if isinstance(part, staticmethod | classmethod):
    part = part.__func__
  if isinstance(part, property):
    part = [part.fget, part.fset]
  if isinstance(part, functools.cached_property):
    part = part.func
  return _loosely(part, within)


def _loosely(value: Any, within: tuple[int, ...]) -> Any:
  """Describes what code reads; locks, files and the like by their class."""
  try:
    return _described(value, within)
  except ValueError:
    return {"name": type(value).__qualname__}


def _function(value: Any, within: tuple[int, ...]) -> dict[str, Any]:
  """The name of a function, and its code unless the name tells it."""
  bound = getattr(value, "__self__", None)
  named: dict[str, Any] = {
    "name": getattr(value, "__qualname__", type(value).__qualname__)
  }
  if bound is not None and not inspect.ismodule(bound):
    named["of"] = _described(bound, within)
  if _by_name(value):
    return named
  function = inspect.unwrap(value)
  function = getattr(function, "__func__", function)
  code = getattr(function, "__code__", None)
  if code is None:
    return named
  reads = {
    name: function.__globals__[name]
    for name in sorted(_global_names(code))
    if name in function.__globals__
  }
  parts = {
    "python": list(sys.version_info[:2]),
    "code": _code(code, function.__doc__),
    "defaults": _described(
      [function.__defaults__, function.__kwdefaults__], within
    ),
    "closure": [
      _described(_content(cell), within) for cell in function.__closure__ or ()
    ],
    "globals": {name: _loosely(part, within) for name, part in reads.items()},
  }
  return named | {"code": _digest(parts)}


def _content(cell: "types.CellType") -> Any:
  try:
    return cell.cell_contents
  except ValueError:  # It is set later.
    return None


def _global_names(code: types.CodeType) -> set[str]:
  """The names that code, and the code within it, may read from its module."""
  names = set(code.co_names)
  for part in code.co_consts:
    if isinstance(part, types.CodeType):
      names |= _global_names(part)
  return names


def _code(code: types.CodeType, doc: str | None = None) -> list[Any]:
  """What code does, without its place in the file and its docstring."""
  constants = [
    _code(part) if isinstance(part, types.CodeType) else repr(part)
    for part in code.co_consts
    if doc is None or part != doc
  ]
  variables = [code.co_varnames, code.co_freevars, code.co_cellvars]
  return [code.co_code.hex(), list(code.co_names), constants, *variables]


def _digest(value: Any) -> str:
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _array(value: Any, within: tuple[int, ...]) -> dict[str, Any]:
  """The type, the shape and a hash of an array."""
  kind, shape = str(value.dtype), list(value.shape)
  if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
    value = jax.random.key_data(value)
  data = np.ascontiguousarray(value)
  if data.dtype.hasobject:
    items = [_described(part, within) for part in data.reshape(-1)]
    return {"dtype": kind, "shape": shape, "items": items}
  digest = hashlib.sha256(data.view(np.uint8).data) if data.size else None
  return {
    "dtype": kind,
    "shape": shape,
    "sha256": digest.hexdigest() if digest else "",
  }
