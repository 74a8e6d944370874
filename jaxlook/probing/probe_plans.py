"""The targets that models are probed for, and the scores without a model.

Every score of a probe has baselines: what the same probe reads in the inputs
alone, and, on text, what counts of the training text predict.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.probing import linear
from jaxlook.probing.targets import (
  AHEAD,
  Targets,
  halves,
  most_frequent,
  precache_targets,
  precache_window,
  rows,
  to_classes,
  token_positions,
  token_targets,
  token_window,
  word_targets,
)
from jaxlook.tasks.precache import Precache
from jaxlook.tasks.text import Text
from jaxlook.text.windows import stretch_numbers

R2 = "R2"
ACCURACY = "accuracy"
NATS = "nats"
LEAST_SQUARES = "accuracy by least squares"

OBSERVED = "same probe on the inputs"
"""The baseline that fits the same probe on the inputs: z_n and x_n, x_{n-1} ..
on the pre-caching task, the tokens n - 1 and n on text."""

Baselines = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By score and name of the baseline, the score of every target."""

_COUNTED = 2_000_000


@dataclasses.dataclass(frozen=True)
class ProbePlan:
  """What to probe models for, and the baselines.

  Attributes:
    inputs: see `Decoder`, [B, T, ...]; the same for all seeds.
    positions: of all targets.
    values: real-valued targets, for ridge probes at all sites; or None.
    labels: targets in classes, for logistic probes of the residual stream and
      ridge probes at all sites; or None.
    classes: number of classes of the labels, C.
    steps: optimiser steps of the logistic probes.
    baselines: by score and name, the score of every target.
  """

  inputs: jax.Array
  positions: range
  values: Targets | None
  labels: Targets | None
  classes: int
  steps: int
  baselines: Baselines


def count_accuracy(
  tokens: np.ndarray,
  windows: np.ndarray,
  ids: np.ndarray,
  positions: range,
  *,
  context: int,
  ends: np.ndarray | None = None,
) -> np.ndarray:
  """How often counts predict the token n + tau from the last tokens up to n.

  The prediction is the class seen most often tau tokens after the same last
  tokens in the training text. If these were not seen, it uses one token fewer,
  down to none. At tau = 0 it is always right, except for tokens that were not
  seen.

  Args:
    tokens: the training text, integer [n]; the first 2 million are counted.
    windows: held-out token ids, integer [B, N + 1].
    ids: the tokens that have a class of their own.
    positions: the positions n, at least `context` - 1.
    context: how many last tokens are known, at least 0; 2 are n - 1 and n.
    ends: ends of documents in `tokens`, ascending integers [S]; nothing is
      counted across them. None for one document.

  Returns:
    Accuracy for tau = 0 .. AHEAD, float64 [AHEAD + 1].
  """
  tokens = np.asarray(tokens[:_COUNTED], np.int64)
  windows = np.asarray(windows, np.int64)
  size = max(tokens.max(), windows.max()) + 1
  labels, wanted = to_classes(tokens, ids), to_classes(windows, ids)
  at = np.asarray(positions)
  numbers = stretch_numbers(
    np.array([len(tokens)]) if ends is None else ends, 0, len(tokens)
  )
  accuracies = []
  for tau in range(AHEAD + 1):
    end = len(tokens) - tau
    # From no context to the longest, so that the longest seen one decides.
    predicted = np.full((len(windows), len(at)), np.bincount(labels).argmax())
    for known in range(1, context + 1):
      counted = np.arange(known - 1, end)
      counted = counted[numbers[counted - known + 1] == numbers[counted + tau]]
      codes, best = _most_often(
        _codes(tokens, counted, known, size),
        labels[counted + tau],
        len(ids) + 1,
      )
      if not len(codes):
        continue
      wanted_codes = _codes(windows, at, known, size)
      place = np.minimum(np.searchsorted(codes, wanted_codes), len(codes) - 1)
      predicted = np.where(codes[place] == wanted_codes, best[place], predicted)
    accuracies.append(np.mean(predicted == wanted[:, at + tau]))
  return np.array(accuracies)


def _codes(
  tokens: np.ndarray, at: np.ndarray, known: int, size: int
) -> np.ndarray:
  """One number for the `known` tokens up to each place of the last axis."""
  digits = [tokens[..., at - lag] * size**lag for lag in range(known)]
  return np.sum(digits, axis=0)


def _most_often(
  codes: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
  """The codes that were seen, sorted, and the commonest label of each."""
  pairs, counts = np.unique(codes * classes + labels, return_counts=True)
  seen, label = np.divmod(pairs, classes)
  order = np.lexsort((counts, seen))
  last = np.flatnonzero(np.diff(seen[order], append=-1))
  return seen[order][last], label[order][last]


def precache_plan(task: Precache, inputs: jax.Array) -> ProbePlan:
  """`precache_targets`, and a ridge probe on the inputs that they depend on.

  Args:
    task: what the models were trained on.
    inputs: held-out x and z, float [B, T, 2].

  Raises:
    ValueError: see `precache_targets`.
  """
  values = precache_targets(task, inputs)
  window = precache_window(inputs, values.positions)
  baseline = {OBSERVED: _ridge_baseline(window, values)}
  return ProbePlan(inputs, values.positions, values, None, 0, 0, {R2: baseline})


def text_plan(
  text: Text, windows: np.ndarray, *, top: int, stride: int, steps: int
) -> ProbePlan:
  """The tokens to come, words if tokens are bytes, and counts as baselines.

  Args:
    text: what the models were trained on.
    windows: held-out token ids, integer [B, N + 1].
    top: how many of the most frequent tokens have a class of their own.
    stride: between positions; see `token_positions`.
    steps: optimiser steps of the logistic probes.

  Raises:
    ValueError: see `token_positions`.
  """
  at = token_positions(windows.shape[1] - 1, stride=stride)
  ids = most_frequent(text.train_tokens(), top)
  labels = token_targets(windows, ids, at)
  scored = windows[len(windows) // 2 :]
  counts = {}
  for context, name in enumerate(("no token", "token n", "tokens n-1, n")):
    accuracy = count_accuracy(
      text.train_tokens(),
      scored,
      ids,
      at,
      context=context,
      ends=text.train_ends(),
    )
    counts[f"counts, {name}"] = dict(
      zip(labels.names, map(float, accuracy), strict=True)
    )
  accuracies, nats = _logistic_baseline(
    token_window(windows, ids, at), labels, len(ids), steps
  )
  baselines = {
    ACCURACY: {OBSERVED: accuracies, **counts},
    NATS: {OBSERVED: nats},
    LEAST_SQUARES: counts,
  }
  values = None
  if text.train.tokenizer == "bytes":
    values = word_targets(windows, at)
    observed = _ridge_baseline(token_window(windows, ids, at), values)
    baselines[R2] = {OBSERVED: observed}
  inputs = jnp.asarray(windows[:, :-1])
  return ProbePlan(inputs, at, values, labels, len(ids) + 1, steps, baselines)


def _logistic_baseline(
  window_BxPxF: jax.Array, labels: Targets, top: int, steps: int
) -> tuple[dict[str, float], dict[str, float]]:
  """Accuracy and nats of logistic probes that see tokens n - 1 and n."""
  features, held_out_features = map(rows, halves(window_BxPxF))
  fit_labels, held_out_labels = map(rows, halves(labels.values))
  scores = jax.jit(
    jax.vmap(
      lambda fit, held_out: linear.logistic(
        features,
        fit,
        held_out_features,
        held_out,
        classes=top + 1,
        steps=steps,
      ),
      in_axes=1,
    )
  )(fit_labels, held_out_labels)
  accuracy, nats = (
    dict(zip(labels.names, map(float, score), strict=True)) for score in scores
  )
  return accuracy, nats


def _ridge_baseline(
  window_BxPxF: jax.Array, values: Targets
) -> dict[str, float]:
  """R^2 of ridge probes that see a window of the inputs and no model."""
  features, held_out_features = map(rows, halves(window_BxPxF))
  fit_values, held_out_values = map(rows, halves(values.values))
  scores = jax.jit(linear.ridge)(
    features, fit_values, held_out_features, held_out_values
  )
  return dict(zip(values.names, map(float, scores), strict=True))
