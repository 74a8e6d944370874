"""Which class the line 2 fits that a model wrote.

The model reads all tokens before m1 and writes the modifiers, the article and
e2 itself. The share of lines that end in the target class r' can be compared
with the injected rhymes of Lindsey et al. (2025). If the middle of the line
fits r' too, the model prepared the ending, as in Maar et al. (2026).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.planning.couplets.answers import by_genre
from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Couplets


class SecondLine(NamedTuple):
  """Line 2, read from its tokens m1 .. mL, art, e2; int32.

  A token of the wrong kind gives -1.

  Attributes:
    topics: the topic of each modifier, 0..7, [B, L].
    article: 0 or 1, [B].
    word: the number of the end word, 0..63, [B].
    end: the class of the end word, 0..15, [B].
  """

  topics: jax.Array
  article: jax.Array
  word: jax.Array
  end: jax.Array


def line_length(task: Couplets) -> int:
  """Number of tokens from m1 to e2."""
  return task.modifiers + 2


def read_line(tokens: jax.Array) -> SecondLine:
  """Parses lines from their tokens, int [B, L + 2]."""

  def number(tokens: jax.Array, first: int, count: int) -> jax.Array:
    inside = (tokens >= first) & (tokens < first + count)
    return jnp.where(inside, tokens - first, -1)

  word = number(tokens[:, -1], language.WORD, language.WORDS)
  return SecondLine(
    topics=number(tokens[:, :-2], language.MODIFIER, language.MODIFIERS)
    // language.MODIFIERS_EACH,
    article=number(tokens[:, -2], language.ARTICLE, 2),
    word=word,
    end=word // language.WORDS_EACH,
  )


def well_formed(task: Couplets, line: SecondLine) -> jax.Array:
  """Whether a line belongs to the language, rhyming or not; bool [B].

  All modifiers must have one topic, and topic and article must fit the end
  word. In an end-only language any topic and article fit.
  """
  formed = (line.word >= 0) & (line.article >= 0) & (line.topics[:, 0] >= 0)
  formed &= (line.topics == line.topics[:, :1]).all(axis=1)
  if task.end_only:
    return formed
  topic, article = (
    jnp.asarray(table.reshape(-1), jnp.int32)[line.word]
    for table in (language.TOPIC_OF, language.ARTICLE_OF)
  )
  return formed & (line.topics[:, 0] == topic) & (line.article == article)


def leads_to(line: SecondLine, key: jax.Array) -> jax.Array:
  """Whether a class has words with the first modifier's topic; bool [B].

  Args:
    line: the written lines.
    key: the class, 0..15, int [B].
  """
  possible = jnp.asarray(language.topic_posterior() > 0)[key]
  topic = line.topics[:, :1]
  return (topic[:, 0] >= 0) & jnp.take_along_axis(possible, topic, axis=1)[:, 0]


class FitShares(NamedTuple):
  """The shares of tokens that fit either class; each [..., G], with sum 1.

  The last axis is the genre: RHY, then FREE. NaN where no couplet counts.

  Attributes:
    target: fits the target class r' only.
    own: fits the couplet's own class only.
    both: fits both.
    neither: fits neither, or is a token of the wrong kind.
  """

  target: jax.Array
  own: jax.Array
  both: jax.Array
  neither: jax.Array

  @property
  def decided(self) -> jax.Array:
    """Of the tokens that fit exactly one class, the share that fits r'."""
    return self.target / (self.target + self.own)


class WrittenLines(NamedTuple):
  """How the written lines fit the classes.

  Attributes:
    ending: the class of e2; it never fits both.
    middle: the topics of all modifiers.
    article: whether the article is the one of the class for the topic of the
      last modifier. Topics come in pairs, 2j and 2j + 1. A class has one topic
      of each pair and one article for each j. So the article is checked even if
      the topic is the other one of the pair.
  """

  ending: FitShares
  middle: FitShares
  article: FitShares


def fit_shares(
  tokens: jax.Array,
  own: jax.Array,
  target: jax.Array,
  valid: jax.Array,
  rhymes: jax.Array,
) -> WrittenLines:
  """Measures which class written lines fit.

  Args:
    tokens: m1 .. mL, article and e2, int [B, L + 2].
    own: the class of each couplet's key, int [B].
    target: the target class of each couplet, int [B].
    valid: which couplets count, bool [B].
    rhymes: the genre, bool [B].

  Returns:
    Shares, each [G].
  """
  counted = by_genre(rhymes, valid)

  def shares(fits_own: jax.Array, fits_target: jax.Array) -> FitShares:
    def share(fits: jax.Array) -> jax.Array:
      by_couplet = jnp.mean(fits.reshape(len(own), -1), axis=1, dtype=float)
      total = jnp.sum(jnp.where(counted, by_couplet[None], 0.0), axis=1)
      return total / jnp.sum(counted, axis=1)

    return FitShares(
      target=share(fits_target & ~fits_own),
      own=share(fits_own & ~fits_target),
      both=share(fits_own & fits_target),
      neither=share(~fits_own & ~fits_target),
    )

  line = read_line(tokens)
  is_topic = line.topics >= 0
  topic_of, article_of = (
    jnp.asarray(table) for table in (language.TOPIC_OF, language.ARTICLE_OF)
  )
  topic_pair = jnp.where(is_topic, line.topics, 0) // 2

  def ending(r: jax.Array) -> jax.Array:
    return line.end == r

  def middle(r: jax.Array) -> jax.Array:
    return is_topic & (topic_of[r[:, None], topic_pair] == line.topics)

  def article(r: jax.Array) -> jax.Array:
    return is_topic[:, -1] & (article_of[r, topic_pair[:, -1]] == line.article)

  return WrittenLines(
    *(shares(fits(own), fits(target)) for fits in (ending, middle, article))
  )
