"""What a written second line says: its end word, its topics, its article.

A model may write anything, so every part may be something else: then it is -1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Couplets


class Line(NamedTuple):
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


def read(tokens: jax.Array) -> Line:
  """Reads second lines, int [B, L + 2]."""

  def part(tokens: jax.Array, first: int, count: int) -> jax.Array:
    inside = (tokens >= first) & (tokens < first + count)
    return jnp.where(inside, tokens - first, -1)

  word = part(tokens[:, -1], language.WORD, language.WORDS)
  return Line(
    topics=part(tokens[:, :-2], language.MODIFIER, language.MODIFIERS)
    // language.MODIFIERS_EACH,
    article=part(tokens[:, -2], language.ARTICLE, 2),
    word=word,
    end=word // language.WORDS_EACH,
  )


def well_formed(task: Couplets, line: Line) -> jax.Array:
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


def leads_to(line: Line, key: jax.Array) -> jax.Array:
  """Whether the first modifier's topic holds a word of a class; bool [B].

  Args:
    line: what was written.
    key: the class, 0..15, int [B].
  """
  possible = jnp.asarray(language.topic_posterior() > 0)[key]
  topic = line.topics[:, :1]
  return (topic[:, 0] >= 0) & jnp.take_along_axis(possible, topic, axis=1)[:, 0]
