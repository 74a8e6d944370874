"""Tokens and tables of the rhyming language, as plain NumPy constants.

A word w(r, j) is the j-th of the 4 end words of rhyme class r. Its topic and
its article are

  topic(r, j) = 2 j + bit_j(r)          8 topics; each has a word of 8 classes
  article(r, j) = bit_{(j+1) mod 4}(r)  each topic has 4 words of each article

where bit_k(r) is the k-th bit of the class. So a class has 4 of the 8 topics,
topic and class determine the word, and topic and article leave 4 words.
"""

import numpy as np

CLASSES, WORDS_EACH = 16, 4
WORDS = CLASSES * WORDS_EACH
TOPICS, MODIFIERS_EACH = 8, 8
MODIFIERS = TOPICS * MODIFIERS_EACH
FILLERS = 16
SYMBOLS = 4  # values of a and of b in a pair of the tally key

_SPECIAL = ("BOS", "RHY", "FREE", "NL", "U", "EOS", "A0", "A1")
BOS, RHY, FREE, NL, U, EOS, ARTICLE = range(7)
WORD = len(_SPECIAL)
MODIFIER = WORD + WORDS
FILLER = MODIFIER + MODIFIERS
LEFT = FILLER + FILLERS  # a of a pair
RIGHT = LEFT + SYMBOLS  # b of a pair
VOCAB_SIZE = RIGHT + SYMBOLS

NAMES = (
  *_SPECIAL,
  *(f"w{r}.{j}" for r in range(CLASSES) for j in range(WORDS_EACH)),
  *(f"m{t}.{i}" for t in range(TOPICS) for i in range(MODIFIERS_EACH)),
  *(f"f{i}" for i in range(FILLERS)),
  *(f"a{i}" for i in range(SYMBOLS)),
  *(f"b{i}" for i in range(SYMBOLS)),
)
"""The names of the tokens, by number."""


def bits(numbers: np.ndarray) -> np.ndarray:
  """Returns the lowest 4 bits of numbers, lowest first; int [..., 4]."""
  return numbers[..., None] >> np.arange(WORDS_EACH) & 1


_BITS = bits(np.arange(CLASSES))

TOPIC_OF = 2 * np.arange(WORDS_EACH) + _BITS
"""topic(r, j), int [16, 4]."""

ARTICLE_OF = np.roll(_BITS, -1, axis=1)
"""article(r, j), int [16, 4]."""


def topic_posterior() -> np.ndarray:
  """Returns P(topic | class) in rhyming couplets; [16, 8]."""
  return (TOPIC_OF[:, :, None] == np.arange(TOPICS)).mean(axis=1)


def tally_tables() -> np.ndarray:
  """Returns the tables T_k(a, b) of the tally key.

  Read a and b as pairs of bits. T_k(a, b) = (-1)^(u_k . a + v_k . b), where a
  dot counts common bits, with u = (3, 1, 3, 2) and v = (1, 3, 2, 3). No u_k and
  no v_k is 0, so rows and columns sum to 0. The four (u_k, v_k) are linearly
  independent over the field of two elements. So the tables are orthogonal,
  (T_0, .., T_3) takes each of its 16 values at one pair (a, b), the bits of a
  tally are independent fair coins, and classes are exactly uniform.

  All a's together, or all b's, carry no information about any single bit. So
  no token does, and a logistic read-out of a bit that sums over single tokens
  cannot beat chance. Tokens must carry some information about the whole class:
  a balanced row of length 4 is, up to sign, one of only three, so in each row
  of four tables the product of two is known from a alone. Here only one pair of
  tables has this property, T_1 T_3 (and T_0 T_2 from b), which is the minimum;
  no word's topic and article use the two bits of such a pair. For K = 5 a token
  carries 0.0124 of the class's ln 16 nats, all a's 0.0890, and this information
  helps only at e2.

  Returns:
    +1 and -1, int [4, 4, 4], axes k, a, b.
  """
  u, v = np.array([3, 1, 3, 2]), np.array([1, 3, 2, 3])
  symbols = np.arange(SYMBOLS)

  def common(mask: np.ndarray) -> np.ndarray:
    return bits(mask[:, None] & symbols).sum(axis=-1)

  return 1 - 2 * ((common(u)[:, :, None] + common(v)[:, None, :]) % 2)
