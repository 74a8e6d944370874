"""Multiplication by digits: a model can compute while it reads the operands.

  a_0 a_1 .. * b_0 b_1 .. = c_0 c_1 .. c_{2n-1}

Numbers are written lowest digit first. The answer has 2n digits, including
zeros at its end, and only the answer has a loss. With `pad` each operand is
padded with zeros: they carry no information, but they are positions at which
the model can compute ahead. Myopic training cannot use them: in the published
runs padding helps ordinary training and harms myopic training.

Source: Wu, Morris and Levine (2024), arXiv 2404.00859, and the code
FutureGPT2-public: operands of 1..5 digits, their number of digits uniform,
padded to 5 or 10, answers of 10 digits. The tokens and separators are ours.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxlook.errors import SettingError
from jaxlook.tasks.losses import DeferredLogits, cross_entropy
from jaxlook.tasks.task import Batch

TIMES, EQUALS, BLANK = 10, 11, 12
VOCAB_SIZE = 13
NAMES = (*"0123456789", "*", "=", "_")


@dataclasses.dataclass(frozen=True)
class Multiplication:
  """Products of numbers of given lengths.

  Attributes:
    digits: n, the largest number of digits of an operand.
    pad: number of digits to which operands are padded with zeros, at least
      `digits`; 0 for no padding: the sequence ends with blanks instead, which
      have no loss.
    lengths: numbers of digits of a and of b, to evaluate on one kind of
      product; by default each is uniform over 1..n.

  Raises:
    SettingError: a field is out of range.
  """

  digits: int = 5
  pad: int = 10
  lengths: tuple[int, int] | None = None

  def __post_init__(self):
    """Checks the fields."""
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
    """Number of tokens; see `NAMES`."""
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
    """Draws products.

    An operand of one digit is uniform over 0..9; the highest digit of a longer
    operand is not 0.

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
    """Draws digits of a (0) or b (1), [B, n], zero-padded; number, [B]."""
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
    """Writes a sequence, int32 [T + 1], from digits [n], [n] and [2n]."""
    if self.pad:
      a_count = b_count = jnp.int32(self.pad)
      a, b = (jnp.pad(x, (0, self.pad - self.digits)) for x in (a, b))
    tokens = jnp.full((self.length + 1,), BLANK, jnp.int32)
    # Each part overwrites the padding of the part before it.
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
    """Marks targets that are digits of the answer; bool [B, T], 2n per row."""
    after = jnp.cumsum(batch.inputs == EQUALS, axis=1) > 0
    return after & (batch.targets != BLANK)

  def loss(
    self, outputs: jax.Array | DeferredLogits, batch: Batch
  ) -> jax.Array:
    """The cross-entropy at the answer, 0 elsewhere, [B, T].

    It is multiplied by T / 2n, so that the mean over all positions, which
    training and evaluation use, is in nats per digit of the answer.
    """
    asked = self.asked(batch)
    losses = cross_entropy(outputs, batch.targets)
    return jnp.where(asked, losses, 0.0) * (self.length / self.answer_digits)

  def answer(self, tokens: jax.Array, batch: Batch) -> jax.Array:
    """Selects the answer from targets or predictions.

    Args:
      tokens: targets, or a model's predictions of them, [B, T].
      batch: from `batch`.

    Returns:
      [B, 2n], the lowest digit first.
    """
    first = jnp.argmax(self.asked(batch), axis=1)
    places = first[:, None] + jnp.arange(self.answer_digits)[None]
    return jnp.take_along_axis(tokens, places, axis=1)

  def correct(self, tokens: jax.Array, batch: Batch) -> jax.Array:
    """Marks the digits of the answer that are right; bool [B, 2n].

    The mean over products is the accuracy of each digit; the mean of `all` over
    digits is the accuracy of whole products. If `tokens` are the most likely
    ones given the true earlier digits, a whole product is right exactly if
    greedy decoding gets it right.

    Args:
      tokens: a model's predictions of the targets, [B, T].
      batch: from `batch`.
    """
    return self.answer(tokens, batch) == self.answer(batch.targets, batch)

  def frequency_loss(self, batch: Batch) -> jax.Array:
    """The loss of a predictor that knows only each place's digit frequencies.

    Args:
      batch: many products. The frequencies are theirs, so the loss is too low
        by about 9 / 2B.

    Returns:
      Nats per digit of the answer, [2n], the lowest digit first.
    """
    answers = self.answer(batch.targets, batch)
    share = jnp.mean(jax.nn.one_hot(answers, 10), axis=0)
    return -jnp.sum(jax.scipy.special.xlogy(share, share), axis=-1)

  @property
  def chance(self) -> float:
    """The loss of a uniform guess among ten digits, nats per answer digit.

    High digits are mostly zeros, so `frequency_loss` is lower.
    """
    return math.log(10)

  @property
  def bound(self) -> float:
    """The loss of the optimal predictor, which knows the product."""
    return 0.0


def _integers(
  key: jax.Array, shape: tuple[int, ...], low: int, high: int
) -> jax.Array:
  return jax.random.randint(key, shape, low, high, jnp.int32)


def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
  """Multiplies digit by digit, without integers as large as the product.

  Args:
    a: digits, lowest first, integer [B, n].
    b: the same.

  Returns:
    The digits of a * b, lowest first, int32 [B, 2n].
  """
  digits = a.shape[1]
  columns = jnp.zeros((a.shape[0], 2 * digits), jnp.int32)
  for place in range(digits):
    here = slice(place, place + digits)
    columns = columns.at[:, here].add((a[:, place, None] * b).astype(jnp.int32))

  carry, answer = 0, []
  for place in range(2 * digits):
    total = carry + columns[:, place]
    carry = total // 10
    answer.append(total % 10)
  return jnp.stack(answer, axis=1)
