"""What hidden states are probed for.

On the pre-caching task: the input, its sine, the sines of earlier inputs,
partial sums, and the sums that may be asked for at later positions. On text:
the tokens from n to n + tau, and, if tokens are bytes, where words begin and
end. `Targets.positions` are the positions n at which all targets exist.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.errors import SettingError
from jaxlook.tasks.precache import Precache

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

    A probe for these scores at chance, or below if it overfits. The score of
    the true targets minus this score is the selectivity. `key` is consumed.

    Source: Hewitt and Liang (2019), arXiv 1909.03368. In their control tasks
    every word type keeps one random label, which a probe can learn by heart;
    here there is nothing to learn.
    """
    *rows, names = self.values.shape
    order = jax.random.permutation(key, rows[0] * rows[1])
    return self.values.reshape(-1, names)[order].reshape(*rows, names)


def sine_name(lag: int) -> str:
  """The name of the sine of the input `lag` positions before n."""
  return f"sin(b x[n-{lag}])" if lag else "sin(b x[n])"


def sum_name(ahead: int) -> str:
  """The name of the sum that may be asked for `ahead` positions after n."""
  return f"sum asked at n+{ahead}" if ahead else "sum asked at n"


def token_name(ahead: int) -> str:
  """The name of the token `ahead` positions after n."""
  return f"token n+{ahead}" if ahead else "token n"


def precache_targets(task: Precache, inputs: jax.Array) -> Targets:
  """The quantities that a model of the pre-caching task may store.

  The sum at n + 2 and later contains sines of inputs after n, which no state at
  n can know: with first = 1 its R^2 is at most (terms - 1) / terms.

  Args:
    task: gives b, the first lag c and the last lag a.
    inputs: x and z, float [B, T, 2].

  Returns:
    x_n; the sines at lags 0 .. a + BEYOND; the sums of lags c .. k for c < k <
    a; and the whole sums at n .. n + BEYOND.

  Raises:
    SettingError: `length` leaves no position with all lags before it and all
      sums after it.
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
  """The index of each token in `ids`, or `len(ids)` for any other token.

  A probe over the whole vocabulary would mostly have weights for tokens seen
  once. "Any other token" is one class, for probes and for counts.

  Args:
    tokens: integer, of any shape.
    ids: distinct token ids, from `most_frequent`.

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
    ids: the tokens that have a class of their own; see `to_classes`.
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
    length: positions of a sequence, N; a window has N + 1 tokens.
    start: the first position.
    stride: between positions; neighbouring positions are nearly redundant.

  Raises:
    SettingError: `length` leaves no such position.
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

  A word is a run of ASCII letters. The number of letters left is counted up to
  8 or the end of the window. It is 0 outside words and at the last letter.

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


def halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The first half of the sequences, to fit on, and the rest, to score on."""
  return x[: len(x) // 2], x[len(x) // 2 :]


def rows(x: jax.Array) -> jax.Array:
  """All sequences and positions of [B, P, K] as rows, [B P, K]."""
  return x.reshape(-1, x.shape[-1])
