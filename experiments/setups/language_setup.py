"""Language modelling as `experiments.language` trains it.

Not a binary: its model, its precisions, the texts it is evaluated on, and what
identifies a run.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.common import (
  compare_variants,
  model_sizes,
  presets,
  text_corpus,
  text_setup,
)
from experiments.common.model_sizes import Size
from experiments.common.text_setup import TextConfig
from jaxlook.tasks.text import Text
from jaxlook.training import Problem

PRECISIONS = ("float32", "bfloat16")


def build_config(
  held: presets.Held = presets.NEW_RUN,
) -> tuple[TextConfig, Size | None]:
  """The config with the flags' values, and the model size that they name.

  Args:
    held: see `presets.resolve`.

  Raises:
    UsageError: a flag's value cannot be used.
  """
  config = text_setup.build_config(held=held)
  # Refuses a shape that is impossible before a size is read.
  text_setup.shape(config, vocab_size=2)
  size = model_sizes.chosen_one()
  return (model_sizes.fitted(config, size) if size else config), size


def problem(config: TextConfig, text: Text, size: Size | None) -> Problem:
  """A text with a model of the named size, or of the config's shape."""
  if size is None:
    return text_setup.problem(config, text)
  return dataclasses.replace(
    model_sizes.problem(config, size, text), setting=""
  )


def in_both_precisions(problem: Problem) -> list[Problem]:
  """The problem in float32 and in bfloat16, as two settings."""
  return [
    dataclasses.replace(
      problem,
      setting=name,
      train=dataclasses.replace(problem.train, bfloat16=name == "bfloat16"),
    )
    for name in PRECISIONS
  ]


def baselines(
  text: Text, problem: Problem, elsewhere: Mapping[str, Problem]
) -> dict[str, dict[str, float]]:
  """Counts of the text's n-grams, scored on every held-out text.

  Args:
    text: what is trained on.
    problem: the same with its held-out windows.
    elsewhere: by name, the problem with other held-out windows.

  Returns:
    Metrics by name of the baseline.
  """
  counts = text_setup.count(text)
  found = text_setup.baselines(counts, problem)
  for name, other in elsewhere.items():
    for count, metrics in text_setup.baselines(counts, other).items():
      found[count] |= compare_variants.named(metrics, name)
  return found


def run_config(
  config: TextConfig,
  text: Text,
  size: Size | None,
  elsewhere: Mapping[str, Problem],
  *,
  both_precisions: bool,
) -> dict[str, Any]:
  """What identifies a run, as config.json keeps it.

  Args:
    config: the scale.
    text: what is trained on.
    size: the named size of the model; None for the config's shape.
    elsewhere: by name, the problem with other held-out windows.
    both_precisions: whether every arm is trained in both precisions.

  Returns:
    Plain data.
  """
  others = {
    name: each.about["valid_sha256"] for name, each in elsewhere.items()
  }
  return {
    "experiment": "language",
    "text": text_corpus.about(text),
    "elsewhere": others or None,
    "model_size": size.name if size else None,
    "start": size.start.about if size and size.start else None,
    **({"precisions": list(PRECISIONS)} if both_precisions else {}),
    **dataclasses.asdict(config),
  }


def setup(config: TextConfig, text: Text, size: Size | None) -> str:
  """Text, model and training in a line, for figures and reports."""
  named = ""
  if size is not None:
    named = f"{'fine-tuned from ' if size.start else ''}{size.name}; "
  return f"{named}{text_setup.setup(config, text)}"
