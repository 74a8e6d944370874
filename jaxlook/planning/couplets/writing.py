"""Whose class fits what a model wrote as line 2.

The model reads a couplet up to m1 and writes the modifiers, the article and
e2 by itself. How often the line ends in the class r' that is meant is in the
unit of the injected rhymes of Lindsey et al. (2025); that its middle fits r'
shows that the line was led up to its end, as in Maar et al. (2026).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.planning.couplets.answers import by_genre
from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Couplets


class SecondLine(NamedTuple):
  """A second line read from its tokens m1 .. mL, art, e2; int32, -1 for none.

  Attributes:
    topics: of each modifier, 0..7, [B, L].
    article: 0 or 1, [B].
    word: the end word's number, 0..63, [B].
    end: its class, 0..15, [B].
  """

  topics: jax.Array
  article: jax.Array
  word: jax.Array
  end: jax.Array


def line_length(task: Couplets) -> int:
  """Number of tokens from m1 to e2."""
  return task.modifiers + 2


def read_line(tokens: jax.Array) -> SecondLine:
  """Reads second lines, int [B, L + 2]."""

  def part(tokens: jax.Array, first: int, count: int) -> jax.Array:
    inside = (tokens >= first) & (tokens < first + count)
    return jnp.where(inside, tokens - first, -1)

  word = part(tokens[:, -1], language.WORD, language.WORDS)
  return SecondLine(
    topics=part(tokens[:, :-2], language.MODIFIER, language.MODIFIERS)
    // language.MODIFIERS_EACH,
    article=part(tokens[:, -2], language.ARTICLE, 2),
    word=word,
    end=word // language.WORDS_EACH,
  )


def well_formed(task: Couplets, line: SecondLine) -> jax.Array:
  """Whether a line is one that the language has, rhyme or not; bool [B].

  Modifiers are of one topic, and topic and article are those of the end word;
  in an end-only language topic and article may be any.
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
  """Whether the first modifier's topic holds a word of a class; bool [B].

  Args:
    line: what was written.
    key: the class, 0..15, int [B].
  """
  possible = jnp.asarray(language.topic_posterior() > 0)[key]
  topic = line.topics[:, :1]
  return (topic[:, 0] >= 0) & jnp.take_along_axis(possible, topic, axis=1)[:, 0]


class FitShares(NamedTuple):
  """What share of the tokens fits which class; each [..., G], sum 1.

  The last axis is the genre: RHY, then FREE. NaN where there is no couplet.

  Attributes:
    target: fits the class r' that is meant, and not the couplet's own.
    own: fits the couplet's own class, and not r'.
    both: fits both.
    neither: fits none, or is not even a token of the kind that belongs there.
  """

  target: jax.Array
  own: jax.Array
  both: jax.Array
  neither: jax.Array

  @property
  def decided(self) -> jax.Array:
    """Of the tokens that fit just one class, the share that fits r'."""
    return self.target / (self.target + self.own)


class WrittenLines(NamedTuple):
  """How what was written fits the classes.

  Attributes:
    ending: the class of e2; never fits both.
    middle: the topics of the modifiers, over all modifiers.
    article: whether it is the one that the class has for the topic of the last
      modifier. Topics come in pairs, 2j and 2j + 1, and a class has one of
      each; the article belongs to j, so it is asked also where the topic is
      the other one.
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
  """Tells whose class written lines fit.

  Args:
    tokens: m1 .. mL, article and e2, int [B, L + 2].
    own: the class of each couplet's key, int [B].
    target: the class that is meant, int [B].
    valid: which couplets count, bool [B].
    rhymes: the genre, bool [B].

  Returns:
    Shares, each [G].
  """
  who = by_genre(rhymes, valid)

  def fits(to_own: jax.Array, to_target: jax.Array) -> FitShares:
    def share(what: jax.Array) -> jax.Array:
      by_couplet = jnp.mean(what.reshape(len(own), -1), axis=1, dtype=float)
      total = jnp.sum(jnp.where(who, by_couplet[None], 0.0), axis=1)
      return total / jnp.sum(who, axis=1)

    return FitShares(
      share(to_target & ~to_own),
      share(to_own & ~to_target),
      share(to_own & to_target),
      share(~to_own & ~to_target),
    )

  line = read_line(tokens)
  is_topic = line.topics >= 0
  topic_of, article_of = (
    jnp.asarray(table) for table in (language.TOPIC_OF, language.ARTICLE_OF)
  )
  place = jnp.where(is_topic, line.topics, 0) // 2

  def ending(r: jax.Array) -> jax.Array:
    return line.end == r

  def middle(r: jax.Array) -> jax.Array:
    return is_topic & (topic_of[r[:, None], place] == line.topics)

  def articles(r: jax.Array) -> jax.Array:
    return is_topic[:, -1] & (article_of[r, place[:, -1]] == line.article)

  return WrittenLines(
    *(fits(f(own), f(target)) for f in (ending, middle, articles))
  )
