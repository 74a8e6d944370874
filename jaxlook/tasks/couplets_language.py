"""Tokens and tables of the rhyming language, as plain NumPy constants.

A word w(r, j) is the j-th of the 4 end words of rhyme class r; its topic and
its article are spread over j such that

  topic(r, j) = 2 j + bit_j(r)        8 topics, one word of 8 classes in each
  article(r, j) = bit_{(j+1) mod 4}(r)  4 words of each article in a topic

where bit_k(r) is the k-th bit of the class. So the class leaves 4 of 8 topics,
topic and class leave one word, and topic and article leave 4 words.
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
"""What to show for a token, by its number."""


def bits(numbers: np.ndarray) -> np.ndarray:
  """The lowest 4 bits of numbers, the lowest first; int [..., 4]."""
  return numbers[..., None] >> np.arange(WORDS_EACH) & 1


_BITS = bits(np.arange(CLASSES))

TOPIC_OF = 2 * np.arange(WORDS_EACH) + _BITS
"""topic(r, j), int [16, 4]."""

ARTICLE_OF = np.roll(_BITS, -1, axis=1)
"""article(r, j), int [16, 4]."""


def topic_posterior() -> np.ndarray:
  """The chance of each topic on a rhyming line, by its class; [16, 8]."""
  return (TOPIC_OF[:, :, None] == np.arange(TOPICS)).mean(axis=1)


def tally_tables() -> np.ndarray:
  """The tables T_k(a, b) of the tally key.

  Read a and b as pairs of bits. T_k(a, b) = (-1)^(u_k . a + v_k . b), where a
  dot counts common bits, with u = (3, 1, 3, 2) and v = (1, 3, 2, 3). No u_k and
  no v_k is 0, so rows and columns sum to 0. The four (u_k, v_k) are linearly
  independent over the field of two elements, so the tables are orthogonal,
  (T_0, .., T_3) takes each of its 16 values at one pair (a, b), and the bits of
  a tally are independent fair coins: classes are exactly uniform.

  All a's together, or all b's, say nothing about any one bit; so no token does,
  and no logistic read-out of a bit that adds up contributions of single tokens
  gains anything. About the class as a whole tokens cannot be silent: balanced
  rows of length 4 are equal, opposite or one of only three kinds, so in each
  row of four tables the product of two is known from a alone. Here it is one
  pair of tables, T_1 T_3 (and T_0 T_2 from b), the fewest possible, and not
  one that the topic or the article of a word joins. For K = 5 a token tells
  0.0124 nats of the class's ln 16, all a's 0.0890, and all of that at e2.

  Returns:
    +1 and -1, int [4, 4, 4], axes k, a, b.
  """
  u, v = np.array([3, 1, 3, 2]), np.array([1, 3, 2, 3])
  symbols = np.arange(SYMBOLS)

  def common(mask: np.ndarray) -> np.ndarray:
    return bits(mask[:, None] & symbols).sum(axis=-1)

  return 1 - 2 * ((common(u)[:, :, None] + common(v)[:, None, :]) % 2)
