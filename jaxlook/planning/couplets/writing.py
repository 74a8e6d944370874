"""Whose class fits what a model wrote as line 2.

The model reads a couplet up to m1 and writes the modifiers, the article and
e2 by itself. How often the line ends in the class r' that is meant is in the
unit of the injected rhymes of Lindsey et al. (2025); that its middle fits r'
shows that the line was led up to its end, as in Maar et al. (2026).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.planning.couplets import lines
from jaxlook.planning.couplets.answers import by_genre
from jaxlook.tasks import couplets_language as language


class Fits(NamedTuple):
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


class Written(NamedTuple):
  """How what was written fits the classes.

  Attributes:
    ending: the class of e2; never fits both.
    middle: the topics of the modifiers, over all modifiers.
    article: whether it is the one that the class has for the topic of the last
      modifier. Topics come in pairs, 2j and 2j + 1, and a class has one of
      each; the article belongs to j, so it is asked also where the topic is
      the other one.
  """

  ending: Fits
  middle: Fits
  article: Fits


def fitting(
  tokens: jax.Array,
  own: jax.Array,
  target: jax.Array,
  valid: jax.Array,
  rhymes: jax.Array,
) -> Written:
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

  def fits(to_own: jax.Array, to_target: jax.Array) -> Fits:
    def share(what: jax.Array) -> jax.Array:
      by_couplet = jnp.mean(what.reshape(len(own), -1), axis=1, dtype=float)
      total = jnp.sum(jnp.where(who, by_couplet[None], 0.0), axis=1)
      return total / jnp.sum(who, axis=1)

    return Fits(
      share(to_target & ~to_own),
      share(to_own & ~to_target),
      share(to_own & to_target),
      share(~to_own & ~to_target),
    )

  line = lines.read(tokens)
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

  return Written(*(fits(f(own), f(target)) for f in (ending, middle, articles)))
