"""Multiplication by digits: work that can be done while operands are read.

  a_0 a_1 .. * b_0 b_1 .. = c_0 c_1 .. c_{2n-1}

Numbers are written with the lowest digit first; the answer has 2n digits, zeros
at its end included, and only it is asked for. With `pad` each operand is filled
up with zeros: they say nothing, but give the model positions at which to work
ahead. Training that asks nothing of a position for the sake of later ones
cannot use them: in the published runs padding helps ordinary training and harms
the myopic one.

Source: Wu, Morris and Levine (2024), arXiv 2404.00859, and the code
FutureGPT2-public: operands of 1..5 digits, their number of digits uniform,
padded to 5 or 10, answers of 10 digits. The tokens and separators are ours.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxlook.errors import SettingError
from jaxlook.tasks.losses import DeferredLogits
from jaxlook.tasks.task import Batch
from jaxlook.tasks.text import cross_entropy

TIMES, EQUALS, BLANK = 10, 11, 12
VOCAB_SIZE = 13
NAMES = (*"0123456789", "*", "=", "_")


@dataclasses.dataclass(frozen=True)
class Multiplication:
  """Products of numbers of given lengths.

  Attributes:
    digits: n, the most digits of an operand.
    pad: how many digits operands are filled up to with zeros, at least
      `digits`; 0 leaves them as long as they are, and fills the end of the
      sequence with blanks that are not asked for.
    lengths: the digits of a and of b, to evaluate on one kind of products; by
      default each is drawn evenly from 1..n.

  Raises:
    SettingError: a field is out of range; the message names it.
  """

  digits: int = 5
  pad: int = 10
  lengths: tuple[int, int] | None = None

  def __post_init__(self):
    """Refuses lengths that do not fit."""
    if self.digits < 1:
      raise SettingError("digits", f"must be at least 1, not {self.digits}")
    if self.pad != 0 and self.pad < self.digits:
      raise SettingError(
        "pad",
        f"must be 0 or at least {self.digits}, the number of digits, not"
        f" {self.pad}",
      )
    if self.lengths is not None and not all(
      1 <= length <= self.digits for length in self.lengths
    ):
      raise SettingError(
        "lengths", f"must lie in 1..{self.digits}, not {self.lengths}"
      )

  @property
  def vocab_size(self) -> int:
    """Number of tokens; `NAMES` shows them."""
    return VOCAB_SIZE

  @property
  def answer_digits(self) -> int:
    """2n, the number of digits of every answer."""
    return 2 * self.digits

  @property
  def length(self) -> int:
    """T, the number of input positions."""
    return 2 * (self.pad or self.digits) + 2 + self.answer_digits - 1

  def batch(
    self, key: jax.Array, size: int, fed: jax.Array | None = None
  ) -> Batch:
    """Draws products; nothing is fed.

    An operand of one digit is uniform over 0..9; a longer one does not end, at
    its highest digit, in a zero.

    Args:
      key: a PRNG key, consumed.
      size: number of products B.
      fed: not used.

    Returns:
      Tokens and next tokens, int32 [B, T].
    """
    del fed
    key_a, key_b = jax.random.split(key)
    a, a_count = self._operand(key_a, size, 0)
    b, b_count = self._operand(key_b, size, 1)
    tokens = jax.vmap(self._write)(a, b, a_count, b_count, multiply(a, b))
    return Batch(inputs=tokens[:, :-1], targets=tokens[:, 1:])

  def _operand(
    self, key: jax.Array, size: int, which: int
  ) -> tuple[jax.Array, jax.Array]:
    """Digits of a (0) or b (1), [B, n], zeros above, and their number, [B]."""
    key_count, key_any, key_high = jax.random.split(key, 3)
    if self.lengths is None:
      count = _integers(key_count, (size,), 1, self.digits + 1)
    else:
      count = jnp.full((size,), self.lengths[which], jnp.int32)
    above = jnp.arange(self.digits)[None] - count[:, None]
    drawn = _integers(key_any, (size, self.digits), 0, 10)
    high = _integers(key_high, (size, 1), 1, 10)
    drawn = jnp.where((above == -1) & (count[:, None] > 1), high, drawn)
    return jnp.where(above < 0, drawn, 0), count

  def _write(
    self,
    a: jax.Array,
    b: jax.Array,
    a_count: jax.Array,
    b_count: jax.Array,
    answer: jax.Array,
  ) -> jax.Array:
    """One sequence, int32 [T + 1], from digits [n], [n], and [2n]."""
    if self.pad:
      a_count = b_count = jnp.int32(self.pad)
      a, b = (jnp.pad(x, (0, self.pad - self.digits)) for x in (a, b))
    tokens = jnp.full((self.length + 1,), BLANK, jnp.int32)
    # Each part covers what the one before wrote beyond its end.
    start = jnp.int32(0)
    for part, count in (
      (a, a_count),
      (jnp.array([TIMES], jnp.int32), 1),
      (b, b_count),
      (jnp.array([EQUALS], jnp.int32), 1),
      (answer, self.answer_digits),
    ):
      tokens = jax.lax.dynamic_update_slice(tokens, part, (start,))
      start += count
    return tokens

  def asked(self, batch: Batch) -> jax.Array:
    """Where a digit of the answer is the target; bool [B, T], 2n a row."""
    after = jnp.cumsum(batch.inputs == EQUALS, axis=1) > 0
    return after & (batch.targets != BLANK)

  def loss(
    self, outputs: jax.Array | DeferredLogits, batch: Batch
  ) -> jax.Array:
    """The cross-entropy at the answer, 0 elsewhere, [B, T].

    It is multiplied by T / 2n, so that the mean over all positions, which is
    what training and evaluation take, is in nats per digit of the answer.
    """
    asked = self.asked(batch)
    losses = cross_entropy(outputs, batch.targets)
    return jnp.where(asked, losses, 0.0) * (self.length / self.answer_digits)

  def answer(self, tokens: jax.Array, batch: Batch) -> jax.Array:
    """The part of tokens that stands where the answer is asked for.

    Args:
      tokens: targets, or what a model predicts in their place, [B, T].
      batch: from `batch`.

    Returns:
      [B, 2n], the lowest digit first.
    """
    first = jnp.argmax(self.asked(batch), axis=1)
    places = first[:, None] + jnp.arange(self.answer_digits)[None]
    return jnp.take_along_axis(tokens, places, axis=1)

  def correct(self, tokens: jax.Array, batch: Batch) -> jax.Array:
    """Which digits of the answer are right; bool [B, 2n].

    The mean over products is the accuracy of each digit, that of `all` over
    digits the accuracy of the whole product. With the most likely tokens given
    the true digits before, a whole product is right exactly if greedy decoding
    gets it right.

    Args:
      tokens: what a model predicts in the place of the targets, [B, T].
      batch: from `batch`.
    """
    return self.answer(tokens, batch) == self.answer(batch.targets, batch)

  def frequency_loss(self, batch: Batch) -> jax.Array:
    """The loss of who knows how often each digit stands at each place only.

    Args:
      batch: many products; their own frequencies are taken, so few products
        make it too low, by about 9 / 2B.

    Returns:
      Nats per digit of the answer, [2n], the lowest digit first.
    """
    answers = self.answer(batch.targets, batch)
    share = jnp.mean(jax.nn.one_hot(answers, 10), axis=0)
    return -jnp.sum(jax.scipy.special.xlogy(share, share), axis=-1)

  @property
  def chance(self) -> float:
    """The loss of a guess among ten digits, nats per digit of the answer.

    High digits are mostly zeros, so `frequency_loss` is lower.
    """
    return math.log(10)

  @property
  def bound(self) -> float:
    """The loss of the optimal predictor: products are known."""
    return 0.0


def _integers(
  key: jax.Array, shape: tuple[int, ...], low: int, high: int
) -> jax.Array:
  return jax.random.randint(key, shape, low, high, jnp.int32)


def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
  """Products by digits, with no integer as large as the product.

  Args:
    a: digits, the lowest first, integer [B, n].
    b: the same.

  Returns:
    The digits of a * b, the lowest first, int32 [B, 2n].
  """
  digits = a.shape[1]
  columns = jnp.zeros((a.shape[0], 2 * digits), jnp.int32)
  for place in range(digits):
    here = slice(place, place + digits)
    columns = columns.at[:, here].add((a[:, place, None] * b).astype(jnp.int32))

  carried, answer = 0, []
  for place in range(2 * digits):
    total = carried + columns[:, place]
    carried = total // 10
    answer.append(total % 10)
  return jnp.stack(answer, axis=1)
