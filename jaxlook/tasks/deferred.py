"""Deferred: a value that can be computed now is asked for d steps later.

x_t is uniform over V tokens. z_t ~ Bernoulli(p) asks for a sum; the second half
of the vocabulary shows it: the input is x_t + V z_t. The target is x_t, or,
where a sum is asked for,

  y_t = sum_{i=0..n-1} f(x_{t-d-i}, x_{t-d-i-1})

with a table f of values 0..C-1, drawn once, whose rows and columns contain all
values equally often. So f of two tokens is uniform given either token, the n
summands are independent, and no single token, and no sum over single tokens,
carries information about a summand: f must be computed from pairs.

The pair that ends at t - d is complete there, is not useful there (if d > 0),
and is asked for exactly d steps later. With n = 1 the later position can read
both tokens and look up the pair itself, so computing it early pays only if
bandwidth is short. n controls this: n pairs must be distinguished and looked up
at t, or each is looked up where it ends, and attention adds them. d sets the
horizon that is needed: gradient from t reaches the first block's output at
t - d through the L - 1 blocks above, so (L - 1) h >= d; to reach the keys and
values of that block as well, L h >= d + 1. With d = 0 and n = 1 nothing is
deferred.

Source: ours, the discrete form of `precache` (Wu, Morris and Levine, 2024).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.errors import SettingError
from jaxlook.keys import make_key
from jaxlook.numerals import counted
from jaxlook.tasks.losses import DeferredLogits, cross_entropy
from jaxlook.tasks.task import Batch


@dataclasses.dataclass(frozen=True)
class Deferred:
  """The task at one delay.

  Attributes:
    p: probability that a position asks for a sum; positions before `first`
      never do.
    delay: d, the steps from the end of the nearest pair to the position that
      asks for it.
    terms: n, the number of pairs in a sum.
    tokens: V, the number of values of x; a multiple of `values`.
    values: C, the number of values in the table.
    length: positions per sequence.
    table_seed: seed of the table, which is the same for all batches.

  Raises:
    SettingError: a field is out of range.
  """

  p: float = 0.5
  delay: int = 4
  terms: int = 1
  tokens: int = 8
  values: int = 4
  length: int = 32
  table_seed: int = 0

  def __post_init__(self):
    """Checks the fields."""
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
        f" and {counted(self.terms, 'term')}, not {self.length}",
      )
    if self.table_seed < 0:
      raise SettingError(
        "table_seed", f"must be at least 0, not {self.table_seed}"
      )

  @property
  def first(self) -> int:
    """The first position that may ask for a sum: all its pairs exist."""
    return self.delay + self.terms

  @property
  def answers(self) -> int:
    """The number of values of a sum, which is one of the tokens 0, 1, .."""
    return self.terms * (self.values - 1) + 1

  @property
  def vocab_size(self) -> int:
    """Number of tokens: V that do not ask, V that do, or more for sums."""
    return max(2 * self.tokens, self.answers)

  def table(self) -> np.ndarray:
    """Returns f(x, y), int [V, V].

    It is the table (x + y) mod V with rows, columns and entries permuted,
    modulo C. Each value occurs V / C times in each row and each column.
    """
    with jax.ensure_compile_time_eval():
      keys = jax.random.split(make_key(self.table_seed), 3)
      rows, columns, names = (
        np.asarray(jax.random.permutation(key, self.tokens)) for key in keys
      )
    square = (rows[:, None] + columns[None, :]) % self.tokens
    return names[square] % self.values

  def batch(
    self, key: jax.Array, size: int, fed: jax.Array | None = None
  ) -> Batch:
    """Draws sequences.

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
    """Marks positions whose target is a sum; bool [B, T]."""
    return batch.inputs >= self.tokens

  def pairs(self, x: jax.Array) -> jax.Array:
    """Returns the value of the pair at each position, f(x_t, x_{t-1}).

    Args:
      x: tokens x_t in 0..V-1, integer [B, T].

    Returns:
      Int [B, T]; at the first position, which has no pair, x_{-1} counts as 0.
    """
    table = jnp.asarray(self.table(), jnp.int32)
    before = jnp.pad(x, ((0, 0), (1, 0)))[:, :-1]
    return table[x, before]

  def sums(self, x: jax.Array) -> jax.Array:
    """Returns the sums y_t of all positions.

    Args:
      x: see `pairs`.

    Returns:
      Int [B, T]; sums before position `first` lack pairs and are never asked
      for.
    """
    values = jnp.pad(self.pairs(x), ((0, 0), (self.first, 0)))
    # Pair t - d - i is at t + n - i of the padded row.
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
    """The loss of a predictor that ignores all pairs, nats per asked position.

    This is the entropy of a sum of n values, uniform over 0..C-1; ln C for one.
    """
    share = np.ones(1)
    for _ in range(self.terms):
      share = np.convolve(share, np.full(self.values, 1.0 / self.values))
    return float(-(share * np.log(share)).sum())

  @property
  def chance(self) -> float:
    """`asked_chance` over all positions, nats per token; others are copied."""
    share = self.p * (self.length - self.first) / self.length
    return share * self.asked_chance

  @property
  def bound(self) -> float:
    """The loss of the optimal predictor, which knows every target."""
    return 0.0
