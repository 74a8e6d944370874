"""Deferred: a token that can be computed now is asked for d steps later.

x_t is uniform over V tokens; z_t ~ Bernoulli(p) asks, shown by a second half of
the vocabulary: the input is x_t + V z_t. The target is x_t, or, where asked,

  y_t = sum_{i=0..n-1} f(x_{t-d-i}, x_{t-d-i-1})

with a table f of values 0..C-1, drawn once, in whose rows and columns all
values are equally frequent. So f of two tokens is uniform given either, the n
summands are independent, and neither a single token nor a sum of contributions
of single tokens says anything of a summand: f must be worked out of pairs.

The pair that ends at t - d is complete there, is of no use there (if d > 0),
and is asked for exactly d steps later. With n = 1 one later position can as
well read both tokens and look the pair up itself: it pays to work ahead only
where bandwidth is short. n is that dial: n pairs must be told apart and looked
up at t, or each at its own end and then added up by attention. d says what
horizon is needed: gradient from t reaches the first block's output at t - d
through the L - 1 blocks above, so (L - 1) h >= d; to reach the keys and values
of that block, too, L h >= d + 1. With d = 0 and n = 1 nothing is deferred.

Source: ours, the discrete form of `precache` (Wu, Morris and Levine, 2024).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.errors import SettingError
from jaxlook.tasks.losses import DeferredLogits
from jaxlook.tasks.task import Batch
from jaxlook.tasks.text import cross_entropy


@dataclasses.dataclass(frozen=True)
class Deferred:
  """The task at one delay.

  Attributes:
    p: probability that a position asks, from the first that has all pairs on.
    delay: d, how many steps after its end the nearest pair is asked for.
    terms: n, how many pairs are added up.
    tokens: V, how many values x takes; a multiple of `values`.
    values: C, how many values the table has.
    length: positions a sequence.
    table_seed: which table; the same for all batches.

  Raises:
    SettingError: a field is out of range; the message names it.
  """

  p: float = 0.5
  delay: int = 4
  terms: int = 1
  tokens: int = 8
  values: int = 4
  length: int = 32
  table_seed: int = 0

  def __post_init__(self):
    """Refuses what makes no task."""
    if not 0.0 <= self.p <= 1.0:
      raise SettingError("p", f"must lie in [0, 1], not {self.p}")
    if self.delay < 0:
      raise SettingError("delay", f"must be at least 0, not {self.delay}")
    if self.terms < 1:
      raise SettingError("terms", f"must be at least 1, not {self.terms}")
    if self.values < 2:
      raise SettingError("values", f"must be at least 2, not {self.values}")
    if self.tokens < 1 or self.tokens % self.values:
      raise SettingError(
        "tokens",
        f"must be a multiple of {self.values}, the number of values,"
        f" not {self.tokens}",
      )
    if self.length <= self.first:
      raise SettingError(
        "length",
        f"must be at least {self.first + 1} for a delay of {self.delay}"
        f" and {self.terms} terms, not {self.length}",
      )
    if self.table_seed < 0:
      raise SettingError(
        "table_seed", f"must be at least 0, not {self.table_seed}"
      )

  @property
  def first(self) -> int:
    """The first position that may ask."""
    return self.delay + self.terms

  @property
  def answers(self) -> int:
    """How many values the answer has; it is one of the tokens 0, 1, .."""
    return self.terms * (self.values - 1) + 1

  @property
  def vocab_size(self) -> int:
    """Number of tokens: V that do not ask, V that do, more if answers do."""
    return max(2 * self.tokens, self.answers)

  def table(self) -> np.ndarray:
    """f(x, y), int [V, V]: a cyclic square with everything renamed, modulo C.

    Each value stands V / C times in each row and each column.
    """
    with jax.ensure_compile_time_eval():
      keys = jax.random.split(jax.random.key(self.table_seed), 3)
      rows, columns, names = (
        np.asarray(jax.random.permutation(key, self.tokens)) for key in keys
      )
    square = (rows[:, None] + columns[None, :]) % self.tokens
    return names[square] % self.values

  def batch(
    self, key: jax.Array, size: int, fed: jax.Array | None = None
  ) -> Batch:
    """Draws sequences; nothing is fed.

    Args:
      key: a PRNG key, consumed.
      size: number of sequences B.
      fed: not used.

    Returns:
      Tokens and targets, int32 [B, T].
    """
    del fed
    key_x, key_z = jax.random.split(key)
    shape = (size, self.length)
    x = jax.random.randint(key_x, shape, 0, self.tokens, jnp.int32)
    asks = jax.random.bernoulli(key_z, self.p, shape)
    asks &= jnp.arange(self.length)[None] >= self.first
    return Batch(
      inputs=x + self.tokens * asks,
      targets=jnp.where(asks, self.sums(x), x),
    )

  def asked(self, batch: Batch) -> jax.Array:
    """Where a sum is the target; bool [B, T]."""
    return batch.inputs >= self.tokens

  def pairs(self, x: jax.Array) -> jax.Array:
    """What can be worked out at each position: f(x_t, x_{t-1}), int [B, T].

    Args:
      x: tokens without the mark that asks, in 0..V-1, integer [B, T].

    Returns:
      The values; at the first position, which ends no pair, that of x_{-1} = 0.
    """
    table = jnp.asarray(self.table(), jnp.int32)
    before = jnp.pad(x, ((0, 0), (1, 0)))[:, :-1]
    return table[x, before]

  def sums(self, x: jax.Array) -> jax.Array:
    """The ground truth y_t, as if all positions asked, int [B, T].

    Args:
      x: as of `pairs`.

    Returns:
      The sums; before position `first` they miss pairs and are never asked for.
    """
    values = jnp.pad(self.pairs(x), ((0, 0), (self.first, 0)))
    # Pair t - d - i stands at t + n - i of the padded row.
    return sum(
      values[:, start : start + self.length]
      for start in range(1, self.terms + 1)
    )  # pyright: ignore[reportReturnType]

  def loss(
    self, outputs: jax.Array | DeferredLogits, batch: Batch
  ) -> jax.Array:
    """The cross-entropy, nats per token, [B, T]."""
    return cross_entropy(outputs, batch.targets)

  @property
  def asked_chance(self) -> float:
    """The loss of who knows no pair, nats per asked position.

    The entropy of a sum of n values that are uniform over 0..C-1; ln C for one.
    """
    share = np.ones(1)
    for _ in range(self.terms):
      share = np.convolve(share, np.full(self.values, 1.0 / self.values))
    return float(-(share * np.log(share)).sum())

  @property
  def chance(self) -> float:
    """The same over all positions, nats per token: the others are copied."""
    share = self.p * (self.length - self.first) / self.length
    return share * self.asked_chance

  @property
  def bound(self) -> float:
    """The loss of the optimal predictor: everything is known."""
    return 0.0
