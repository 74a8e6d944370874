"""What hidden states are probed for, and what the inputs alone say about it.

On the pre-caching task: the input, its sine, the sines of earlier inputs, the
partial sums and the sums that would be asked for at later positions. On text:
the tokens from n to n + tau, and, where tokens are bytes, where words begin and
end. `Targets.positions` are the positions n at which all targets exist.

A `ProbePlan` has them beside the scores that need no model. Running models is
left to `probing`.
"""

import dataclasses
from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.errors import SettingError
from jaxlook.probing import linear
from jaxlook.tasks.precache import Precache
from jaxlook.tasks.text import Text

R2 = "R2"
ACCURACY = "accuracy"
NATS = "nats"
LEAST_SQUARES = "accuracy by least squares"

OBSERVED = "same probe on the inputs"
"""The baseline that is fitted as the probes are, on the inputs themselves: z_n
and x_n, x_{n-1} .. on the pre-caching task, the tokens n - 1 and n on text."""

Baselines = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By score and name of the baseline, the score of every target."""

BEYOND = 2
"""Positions after n up to which sums are probed for, and lags after a."""

AHEAD = 5
"""Tokens after n up to which text is probed for."""

WORD_TARGETS = (
  "in a word",
  "a word starts at n+1",
  "the word ends at n",
  "letters left in the word",
)
_LONGEST = 8
_COUNTED = 2_000_000


@dataclasses.dataclass(frozen=True)
class Targets:
  """What to probe for.

  Attributes:
    names: of the targets, [K].
    values: float or integer [B, P, K].
    positions: the P positions n of the values.
  """

  names: tuple[str, ...]
  values: jax.Array
  positions: range

  def shuffled(self, key: jax.Array) -> jax.Array:
    """The values [B, P, K] in random order over sequences and positions.

    A probe scores on these by chance alone, less what it fits too closely; the
    score minus this one is its selectivity. `key` is consumed.

    Source: Hewitt and Liang (2019), arXiv 1909.03368. Differs from their
    control tasks, where every word type keeps one random label, so that a probe
    can learn the types by heart; here nothing can be learned.
    """
    *rows, names = self.values.shape
    order = jax.random.permutation(key, rows[0] * rows[1])
    return self.values.reshape(-1, names)[order].reshape(*rows, names)


@dataclasses.dataclass(frozen=True)
class ProbePlan:
  """What is asked of models, and what is known without them.

  Attributes:
    inputs: as of `Decoder`, [B, T, ...]; the same for all seeds.
    positions: of all targets.
    values: real-valued targets, for ridge probes at all sites; or None.
    labels: targets in classes, for logistic probes of the residual stream and
      ridge probes at all sites; or None.
    classes: number of classes of the labels, C.
    steps: of the logistic probes.
    baselines: by score and name, the score of every target.
  """

  inputs: jax.Array
  positions: range
  values: Targets | None
  labels: Targets | None
  classes: int
  steps: int
  baselines: Baselines


def sine_name(lag: int) -> str:
  """The name of the sine of the input `lag` positions before n."""
  return f"sin(b x[n-{lag}])" if lag else "sin(b x[n])"


def sum_name(ahead: int) -> str:
  """The name of the sum that would be asked for `ahead` positions after n."""
  return f"sum asked at n+{ahead}" if ahead else "sum asked at n"


def token_name(ahead: int) -> str:
  """The name of the token `ahead` positions after n."""
  return f"token n+{ahead}" if ahead else "token n"


def precache_targets(task: Precache, inputs: jax.Array) -> Targets:
  """The quantities that a model of the pre-caching task may hold.

  The sum at n + 2 and later holds sines of inputs after n, which no state at n
  can know: with first = 1 its R^2 is at most (terms - 1) / terms.

  Args:
    task: gives b, the first lag c and the last lag a.
    inputs: x and z, float [B, T, 2].

  Returns:
    x_n; the sines at lags 0 .. a + BEYOND; the sums of lags c .. k for c < k <
    a; and the whole sums at n .. n + BEYOND.

  Raises:
    SettingError: there is no position with all lags behind it and the sums
      before it; the message names `length`.
  """
  chex.assert_shape(inputs, (None, None, 2))
  length, last = inputs.shape[1], task.terms + BEYOND
  positions = range(last, length - BEYOND)
  if not positions:
    raise SettingError(
      "length",
      f"must be at least {last + BEYOND + 1} to probe for lags up to"
      f" {last} and sums up to {BEYOND} ahead, not {length}",
    )
  x_BxT = inputs[..., 0]
  sines_BxT = jnp.sin(task.frequency * x_BxT)

  def at(values_BxT: jax.Array, offset: int) -> jax.Array:
    return values_BxT[:, positions.start + offset : positions.stop + offset]

  lags = {lag: at(sines_BxT, -lag) for lag in range(last + 1)}
  found = {"x[n]": at(x_BxT, 0)} | {sine_name(lag): lags[lag] for lag in lags}
  partial = lags[task.first]
  for lag in range(task.first + 1, task.terms):
    partial = partial + lags[lag]
    found[f"sum of lags {task.first}..{lag}"] = partial
  sums_BxT = task.sums(x_BxT)
  found |= {sum_name(ahead): at(sums_BxT, ahead) for ahead in range(BEYOND + 1)}
  return Targets(
    tuple(found), jnp.stack(list(found.values()), axis=-1), positions
  )


def precache_window(inputs: jax.Array, positions: range) -> jax.Array:
  """z_n and x_n, x_{n-1} .. x_{n-m}, [B, P, m + 2], m the first position."""
  columns = [inputs[:, positions.start : positions.stop, 1]]
  for lag in range(positions.start + 1):
    columns.append(inputs[:, positions.start - lag : positions.stop - lag, 0])
  return jnp.stack(columns, axis=-1)


def most_frequent(tokens: np.ndarray, top: int) -> np.ndarray:
  """The most frequent token ids, most frequent first, int64 [top or fewer]."""
  if top < 1:
    raise SettingError("top", f"must be at least 1, not {top}")
  counts = np.bincount(np.asarray(tokens, np.int64))
  order = np.argsort(-counts, kind="stable")[:top]
  return order[counts[order] > 0]


def to_classes(tokens: np.ndarray, ids: np.ndarray) -> np.ndarray:
  """The place of each token in `ids`, or `len(ids)` for every other token.

  A probe over a whole vocabulary would be mostly weights for tokens seen once.
  "Any other token" is a class like the rest, for probes and counts alike.

  Args:
    tokens: integer, of any shape.
    ids: distinct token ids, as of `most_frequent`.

  Returns:
    int32, of the shape of `tokens`.
  """
  tokens = np.asarray(tokens, np.int64)
  table = np.full(max(tokens.max(initial=0), ids.max()) + 1, len(ids), np.int32)
  table[ids] = np.arange(len(ids))
  return table[tokens]


def token_targets(
  windows: np.ndarray, ids: np.ndarray, positions: range
) -> Targets:
  """The classes of the tokens n .. n + AHEAD.

  Args:
    windows: token ids, integer [B, N + 1].
    ids: the tokens that are told apart; see `to_classes`.
    positions: the positions n; see `token_positions`.

  Returns:
    Classes 0 .. len(ids), int32 [B, P, AHEAD + 1].
  """
  classes = to_classes(windows, ids)
  at = np.asarray(positions)
  return Targets(
    tuple(token_name(tau) for tau in range(AHEAD + 1)),
    jnp.asarray(np.stack([classes[:, at + t] for t in range(AHEAD + 1)], -1)),
    positions,
  )


def token_positions(length: int, *, start: int = 8, stride: int = 1) -> range:
  """Every `stride`-th position with `start` tokens before and AHEAD after it.

  Args:
    length: positions a sequence, N; a window has N + 1 tokens.
    start: the first position.
    stride: between positions; neighbours say nearly the same.

  Raises:
    SettingError: there is none; the message names `length`.
  """
  positions = range(start, length + 1 - AHEAD, stride)
  if not positions:
    raise SettingError(
      "length",
      f"must be at least {start + AHEAD} to probe for tokens up to"
      f" {AHEAD} ahead, not {length}",
    )
  return positions


def word_targets(windows: np.ndarray, positions: range) -> Targets:
  """Where words begin and end, for windows whose tokens are bytes.

  A word is a run of ASCII letters. How many letters are left is counted up to
  8 or the window's end, and is 0 outside words and at a word's last letter.

  Args:
    windows: bytes, integer [B, N + 1].
    positions: the positions n, below N.

  Returns:
    `WORD_TARGETS`, float32 [B, P, 4].
  """
  bytes_BxT = np.asarray(windows)
  letter = ((bytes_BxT | 32) >= ord("a")) & ((bytes_BxT | 32) <= ord("z"))
  left = np.zeros(letter.shape, np.float32)
  for n in reversed(range(letter.shape[1] - 1)):
    goes_on = letter[:, n] & letter[:, n + 1]
    left[:, n] = np.where(goes_on, np.minimum(left[:, n + 1] + 1, _LONGEST), 0)
  at = np.asarray(positions)
  here, following = letter[:, at], letter[:, at + 1]
  columns = (here, ~here & following, here & ~following, left[:, at])
  return Targets(
    WORD_TARGETS,
    jnp.asarray(np.stack(columns, axis=-1).astype(np.float32)),
    positions,
  )


def token_window(windows: np.ndarray, ids: np.ndarray, at: range) -> jax.Array:
  """Indicators of the tokens n - 1 and n, float32 [B, P, 2 len(ids) + 2]."""
  last_two = np.asarray(at)[:, None] + np.array([[-1, 0]])
  classes = to_classes(windows, ids)[:, last_two]
  return jax.nn.one_hot(classes, len(ids) + 1).reshape(*classes.shape[:2], -1)


def count_accuracy(
  tokens: np.ndarray,
  windows: np.ndarray,
  ids: np.ndarray,
  positions: range,
  *,
  context: int,
) -> np.ndarray:
  """How often counts tell the token n + tau from the last tokens up to n.

  The prediction is the class most often seen tau after the same last tokens in
  the training text; where they were not seen, it is that of one token fewer,
  and of none in the end. tau = 0 is told always, but for tokens not seen.

  Args:
    tokens: the training text, integer [n]; the first 2 million are counted.
    windows: held-out token ids, integer [B, N + 1].
    ids: the tokens that are told apart.
    positions: the positions n, at least `context` - 1.
    context: how many last tokens are known, at least 0; 2 are n - 1 and n.

  Returns:
    Accuracy for tau = 0 .. AHEAD, float64 [AHEAD + 1].
  """
  tokens = np.asarray(tokens[:_COUNTED], np.int64)
  windows = np.asarray(windows, np.int64)
  size = max(tokens.max(), windows.max()) + 1
  labels, wanted = to_classes(tokens, ids), to_classes(windows, ids)
  at = np.asarray(positions)
  found = []
  for tau in range(AHEAD + 1):
    end = len(tokens) - tau
    # From no context to the longest, so that the longest seen one decides.
    told = np.full((len(windows), len(at)), np.bincount(labels).argmax())
    for known in range(1, context + 1):
      codes, best = _most_often(
        _codes(tokens, np.arange(known - 1, end), known, size),
        labels[known - 1 + tau :],
        len(ids) + 1,
      )
      asked_for = _codes(windows, at, known, size)
      place = np.minimum(np.searchsorted(codes, asked_for), len(codes) - 1)
      told = np.where(codes[place] == asked_for, best[place], told)
    found.append(np.mean(told == wanted[:, at + tau]))
  return np.array(found)


def _codes(
  tokens: np.ndarray, at: np.ndarray, known: int, size: int
) -> np.ndarray:
  """One number for the `known` tokens up to each place of the last axis."""
  each = [tokens[..., at - lag] * size**lag for lag in range(known)]
  return np.sum(each, axis=0)


def _most_often(
  codes: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
  """The codes seen, sorted, and the label seen most often with each."""
  pairs, counts = np.unique(codes * classes + labels, return_counts=True)
  seen, label = np.divmod(pairs, classes)
  order = np.lexsort((counts, seen))
  last = np.flatnonzero(np.diff(seen[order], append=-1))
  return seen[order][last], label[order][last]


def precache_plan(task: Precache, inputs: jax.Array) -> ProbePlan:
  """`precache_targets` beside a ridge on all inputs that they are made of.

  Args:
    task: what the models were trained on.
    inputs: held-out x and z, float [B, T, 2].

  Raises:
    ValueError: as `precache_targets`.
  """
  values = precache_targets(task, inputs)
  window = precache_window(inputs, values.positions)
  baseline = {OBSERVED: _ridge_baseline(window, values)}
  return ProbePlan(inputs, values.positions, values, None, 0, 0, {R2: baseline})


def text_plan(
  text: Text, windows: np.ndarray, *, top: int, stride: int, steps: int
) -> ProbePlan:
  """The tokens to come, and words where tokens are bytes, beside counts.

  Args:
    text: what the models were trained on.
    windows: held-out token ids, integer [B, N + 1].
    top: how many of the most frequent tokens are told apart.
    stride: between positions; see `token_positions`.
    steps: of the logistic probes.

  Raises:
    ValueError: as `token_positions`.
  """
  at = token_positions(windows.shape[1] - 1, stride=stride)
  ids = most_frequent(text.train_tokens(), top)
  labels = token_targets(windows, ids, at)
  scored = windows[len(windows) // 2 :]
  counts = {}
  for context, name in enumerate(("no token", "token n", "tokens n-1, n")):
    told = count_accuracy(text.train_tokens(), scored, ids, at, context=context)
    counts[f"counts, {name}"] = dict(
      zip(labels.names, map(float, told), strict=True)
    )
  told, nats = _logistic_baseline(
    token_window(windows, ids, at), labels, len(ids), steps
  )
  baselines = {
    ACCURACY: {OBSERVED: told, **counts},
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
  on, other = map(rows, halves(window_BxPxF))
  fit, held_out = map(rows, halves(labels.values))
  found = jax.jit(
    jax.vmap(
      lambda here, there: linear.logistic(
        on, here, other, there, classes=top + 1, steps=steps
      ),
      in_axes=1,
    )
  )(fit, held_out)
  accuracy, nats = (
    dict(zip(labels.names, map(float, scores), strict=True)) for scores in found
  )
  return accuracy, nats


def _ridge_baseline(
  window_BxPxF: jax.Array, values: Targets
) -> dict[str, float]:
  """R^2 of ridge probes that see a window of the inputs and no model."""
  on, other = map(rows, halves(window_BxPxF))
  fit, held_out = map(rows, halves(values.values))
  found = jax.jit(linear.ridge)(on, fit, other, held_out)
  return dict(zip(values.names, map(float, found), strict=True))


def halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The first half of the sequences, to fit on, and the rest, to score on."""
  return x[: len(x) // 2], x[len(x) // 2 :]


def rows(x: jax.Array) -> jax.Array:
  """All sequences and positions of [B, P, K] below each other."""
  return x.reshape(-1, x.shape[-1])
