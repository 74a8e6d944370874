"""What a model expects of line 2, in units of what another class would change.

Where m1, the article and e2 are predicted, a model's distribution p over the 8
topics, 2 articles or 16 classes is held against those of exact planners: p_r
of the couplet's own class r, and p_r' of a class r' that is meant. With TV for
the total variation distance,

  moved = TV(p, p_r) / TV(p_r', p_r)      left = TV(p, p_r') / TV(p_r', p_r)

so a full transfer of the plan is (1, 0), none (0, 1). Both are ratios of means
over pairs, not means of ratios. A topic has the probability of its 8 modifiers;
what a model gives to tokens of other kinds is an outcome of its own, nothing is
renormalised. On a FREE line p_r is that of who knows what stood before on line
2 and not the class, and p_r' that of a line that rhymes with r'.

What stands on line 2 is the couplet's own. The article and e2 are compared only
where it could stand in a couplet of class r', too, and the two classes ask for
different answers: where r' has the topic, but with the other article; where r'
has a word of the topic and article. In end-only couplets no class moves topic
or article, so there are no pairs to compare.
"""

from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Couplets, Truth

Part = TypeVar("Part")


class LineParts(NamedTuple, Generic[Part]):
  """One thing for each of the three that line 2 is asked.

  Attributes:
    topic: of m1.
    article: before e2.
    ending: the class of e2.
  """

  topic: Part
  article: Part
  ending: Part


class PlannerAnswers(NamedTuple):
  """What planners expect; C outcomes, the last one any other kind of token.

  Attributes:
    own: of the couplet's own class, [B, C].
    target: of the class that is meant, [B, C].
    counts: whether the two can be compared and differ, bool [B].
  """

  own: jax.Array
  target: jax.Array
  counts: jax.Array


class Effect(NamedTuple):
  """How far a change has moved what a model expects; each [..., G].

  The last axis is the genre: RHY, then FREE. NaN where there is no pair.

  Attributes:
    moved: away from the couplet's own class; 1 is all the way to r'.
    left: the way that is left to r'; 1 is all of it.
    shift: TV from what the unchanged model expects, in the same unit; 0 where
      nothing was changed.
    pairs: how many couplets count.
  """

  moved: jax.Array
  left: jax.Array
  shift: jax.Array
  pairs: jax.Array


def planner_answers(
  task: Couplets, truth: Truth, target: jax.Array
) -> LineParts[PlannerAnswers]:
  """What planners of the couplets' own and of other classes expect.

  Args:
    task: the arm.
    truth: of the batch.
    target: the class that is meant for each couplet, int [B].

  Returns:
    An `PlannerAnswers` of each part.
  """
  rhymes = truth.rhymes[:, None]
  posterior = jnp.asarray(language.topic_posterior())
  if task.end_only:
    posterior = jnp.full_like(posterior, 1.0 / language.TOPICS)
  topic = _exact(
    jnp.where(rhymes, posterior[truth.key], 1.0 / language.TOPICS),
    posterior[target],
  )
  fits = _fitting(task)[truth.topic, truth.article]
  classes = jnp.where(
    rhymes,
    jax.nn.one_hot(truth.key, language.CLASSES),
    fits / jnp.sum(fits, axis=1, keepdims=True),
  )
  ending = _exact(classes, jax.nn.one_hot(target, language.CLASSES))
  by_article = _fitting(task)[truth.topic].astype(classes.dtype)
  each = jnp.arange(len(target))
  own = by_article[each, :, truth.key]
  article = _exact(
    # What the topic alone says of the article is nothing.
    jnp.where(rhymes, _normalised(own), 0.5),
    _normalised(by_article[each, :, target]),
  )
  possible = jnp.any(by_article[each, :, target] > 0, axis=1)
  return LineParts(
    topic,
    article._replace(counts=article.counts & possible),
    ending._replace(counts=ending.counts & fits[each, target]),
  )


def model_answers(task: Couplets, logits: jax.Array) -> LineParts[jax.Array]:
  """What a model expects, from its outputs.

  Args:
    task: the arm.
    logits: [B, T, V].

  Returns:
    Its probabilities [B, C] of each part; the last is of other kinds of tokens.
  """

  def at(name: str, first: int, groups: int, each: int) -> jax.Array:
    row = jax.nn.softmax(logits[:, task.targets[name][0]], axis=-1)
    chosen = row[:, first : first + groups * each]
    shares = chosen.reshape(-1, groups, each).sum(axis=2)
    rest = 1.0 - jnp.sum(shares, axis=1, keepdims=True)
    return jnp.concatenate([shares, jnp.maximum(rest, 0.0)], axis=1)

  return LineParts(
    at("m1", language.MODIFIER, language.TOPICS, language.MODIFIERS_EACH),
    at("art", language.ARTICLE, 2, 1),
    at("e2", language.WORD, language.CLASSES, language.WORDS_EACH),
  )


def effects(
  found: LineParts[jax.Array],
  before: LineParts[jax.Array],
  truths: LineParts[PlannerAnswers],
  valid: jax.Array,
  rhymes: jax.Array,
) -> LineParts[Effect]:
  """How far a change has moved what a model expects.

  Args:
    found: what the changed model expects, [B, C] of each part.
    before: what the unchanged one does.
    truths: what planners do, an `PlannerAnswers` of each part.
    valid: which couplets count, bool [B].
    rhymes: the genre, bool [B].

  Returns:
    An `Effect` of each part, of [G].
  """
  return LineParts(
    *(
      _effect(p, q, truth, valid, rhymes)
      for p, q, truth in zip(found, before, truths, strict=True)
    )
  )


def by_genre(rhymes: jax.Array, counts: jax.Array) -> jax.Array:
  """Who counts in each genre, RHY and FREE; bool [G, B]."""
  return jnp.stack([rhymes, ~rhymes]) & counts[None]


def distance(p: jax.Array, q: jax.Array) -> jax.Array:
  """Total variation of distributions [..., C]; [...]."""
  return 0.5 * jnp.sum(jnp.abs(p - q), axis=-1)


def _effect(
  p: jax.Array,
  before: jax.Array,
  truth: PlannerAnswers,
  valid: jax.Array,
  rhymes: jax.Array,
) -> Effect:
  who = by_genre(rhymes, truth.counts & valid)

  def total(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(who, distance(a, b)[None], 0.0), axis=1)

  unit = total(truth.target, truth.own)
  return Effect(
    moved=total(p, truth.own) / unit,
    left=total(p, truth.target) / unit,
    shift=total(p, before) / unit,
    pairs=jnp.sum(who, axis=1),
  )


def _exact(own: jax.Array, target: jax.Array) -> PlannerAnswers:
  """Adds the outcome that planners never expect."""
  # Tables are of powers of 2, so classes that agree have distance 0 exactly.
  counts = distance(own, target) > 0
  own, target = (jnp.pad(p, ((0, 0), (0, 1))) for p in (own, target))
  return PlannerAnswers(own, target, counts)


def _fitting(task: Couplets) -> jax.Array:
  """Which classes may follow a topic and an article; bool [8, 2, 16]."""
  if task.end_only:
    return jnp.ones((language.TOPICS, 2, language.CLASSES), bool)
  topics = jnp.arange(language.TOPICS)[:, None, None, None]
  articles = jnp.arange(2)[None, :, None, None]
  return jnp.any(
    (jnp.asarray(language.TOPIC_OF)[None, None] == topics)
    & (jnp.asarray(language.ARTICLE_OF)[None, None] == articles),
    axis=-1,
  )


def _normalised(weights: jax.Array) -> jax.Array:
  """Rows [B, C] divided by their sum; rows of 0 stay."""
  total = jnp.sum(weights, axis=1, keepdims=True)
  return weights / jnp.where(total > 0, total, 1.0)
