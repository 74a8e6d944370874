"""Settings of run configs: which are on, and in which runs differ."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlook.runs import folder
from jaxlook.runs.inventory import Run, Training

# Of a run's config, what does not decide on which data a seed is trained.
_NOT_DATA = ("experiment", "variants", "seeds", "seed_offset", "train")
# Of how a model is trained, what decides which data a seed sees.
_DATA_OF_TRAIN = ("batch_size", "eval_batches")


def flattened(config: Any, path: str = "") -> dict[str, Any]:
  """Flattens a config to dotted names; settings that are off are left out.

  Args:
    config: plain data.
    path: name of the config within another one.

  Returns:
    By name, such as "train.steps", numbers, strings, true, or lists of them.
  """
  if isinstance(config, list) and any(
    isinstance(each, dict | list) for each in config
  ):
    config = {str(place): each for place, each in enumerate(config)}
  if not isinstance(config, dict):
    return {path: config} if config else {}
  found = {}
  for key, value in config.items():
    found |= flattened(value, f"{path}.{key}" if path else key)
  return found


def changed_settings(
  configs: Sequence[Mapping[str, Any]],
) -> dict[str, list[Any]]:
  """Returns the settings in which configs differ.

  Args:
    configs: plain data.

  Returns:
    By dotted name, the value in each config; None where it is off or absent. A
    setting that an older version did not have does not differ if it says what
    that version did.
  """
  flat = [flattened(dict(config)) for config in configs]
  found = {}
  for name in dict.fromkeys(itertools.chain(*flat)):
    values = [each.get(name) for each in flat]
    known = [value for value in values if value is not None]
    parent, _, key = name.rpartition(".")
    as_before = not any(folder.differences({}, {key: known[0]}, parent))
    if any(value != known[0] for value in known) or (
      len(known) < len(values) and not as_before
    ):
      found[name] = values
  return found


def pairing_faults(
  a: tuple[Run, Training], b: tuple[Run, Training]
) -> list[str]:
  """Says why equal seeds of two trainings do not start and learn alike.

  Args:
    a: a training and its run.
    b: the other one.

  Returns:
    The settings of task, data and model that differ, by dotted name; empty if
    equal seeds are pairs.
  """
  if a[1].config and b[1].config:
    configs = [_data_of_training(each.config) for _, each in (a, b)]
    if any("identity" not in each for each in configs):
      # Of an earlier version.
      for each in configs:
        each.pop("identity", None)
  else:
    configs = [_data_of_run(run.config) for run, _ in (a, b)]
  return list(changed_settings(configs))


def _data_of_training(config: Mapping[str, Any]) -> dict[str, Any]:
  names = ("task", "model", "barrier", "start", "identity")
  data = {name: config[name] for name in names if name in config}
  return data | {"train": _data_of_train(config)}


def _data_of_run(config: Mapping[str, Any]) -> dict[str, Any]:
  data = {key: config[key] for key in config if key not in _NOT_DATA}
  return data | {"train": _data_of_train(config)}


def _data_of_train(config: Mapping[str, Any]) -> dict[str, Any]:
  train = config.get("train")
  if not isinstance(train, dict):
    return {}
  return {name: train[name] for name in _DATA_OF_TRAIN if name in train}
