"""What a model expects of line 2, on a scale from one class to another.

Three predictions are measured: m1, the article and e2. There the distribution p
of a model over the 8 topics, 2 articles or 16 classes is compared with two
exact planners: p_r for the couplet's own class r and p_r' for a target class
r'. TV is the total variation distance:

  moved = TV(p, p_r) / TV(p_r', p_r)      left = TV(p, p_r') / TV(p_r', p_r)

A full transfer of the plan gives (1, 0), no transfer gives (0, 1). Both are
ratios of means over couplets, not means of ratios. The probability of a topic
is the sum over its 8 modifiers. Tokens of other kinds together are one more
outcome; nothing is renormalised. On a FREE line, p_r is the distribution of a
predictor that knows the tokens of line 2 so far but not the class, and p_r' is
the distribution of a line that rhymes with r'.

The model reads the couplet's own line 2. So the article and e2 are compared
only if the tokens so far could also occur in a couplet of class r', and the two
classes give different answers. For the article this means: r' has the topic
with the other article. For e2: r' has a word of the topic and article. In
end-only couplets the class decides neither topic nor article, so these two
cannot be compared.
"""

from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Couplets, Truth

Part = TypeVar("Part")


class LineParts(NamedTuple, Generic[Part]):
  """One item for each of the three parts of line 2 that depend on the class.

  Attributes:
    topic: for the topic of m1, the first modifier.
    article: for the article before the end word.
    ending: for the class of e2, the end word.
  """

  topic: Part
  article: Part
  ending: Part


class PlannerAnswers(NamedTuple):
  """What planners expect: C outcomes; the last is any other token.

  Attributes:
    own: the planner for the couplet's own class, [B, C].
    target: the planner for the target class, [B, C].
    counts: whether the two can be compared and differ, bool [B].
  """

  own: jax.Array
  target: jax.Array
  counts: jax.Array


class Effect(NamedTuple):
  """How far an edit moves what a model expects; each [..., G].

  The last axis is the genre: RHY, then FREE. NaN where no couplet counts.

  Attributes:
    moved: the distance from the planner for the own class. The unit is the
      distance between the two planners.
    left: the distance from the planner for r', in the same unit.
    shift: the distance from what the unedited model expects, in the same unit;
      0 where nothing was edited.
    pairs: how many couplets count.
  """

  moved: jax.Array
  left: jax.Array
  shift: jax.Array
  pairs: jax.Array


def planner_answers(
  task: Couplets, truth: Truth, target: jax.Array
) -> LineParts[PlannerAnswers]:
  """What the planners for the own class and for the target class expect.

  Args:
    task: the language.
    truth: the true properties of the batch.
    target: the target class of each couplet, int [B].

  Returns:
    The `PlannerAnswers` of each part.
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
  couplet = jnp.arange(len(target))
  own = by_article[couplet, :, truth.key]
  article = _exact(
    # The topic alone does not decide the article.
    jnp.where(rhymes, _normalised(own), 0.5),
    _normalised(by_article[couplet, :, target]),
  )
  possible = jnp.any(by_article[couplet, :, target] > 0, axis=1)
  return LineParts(
    topic,
    article._replace(counts=article.counts & possible),
    ending._replace(counts=ending.counts & fits[couplet, target]),
  )


def model_answers(task: Couplets, logits: jax.Array) -> LineParts[jax.Array]:
  """What a model expects, from its logits.

  Args:
    task: the language.
    logits: [B, T, V].

  Returns:
    Probabilities [B, C] for each part; the last is of any other token.
  """

  def shares_at(name: str, first: int, groups: int, size: int) -> jax.Array:
    row = jax.nn.softmax(logits[:, task.targets[name][0]], axis=-1)
    chosen = row[:, first : first + groups * size]
    shares = chosen.reshape(-1, groups, size).sum(axis=2)
    rest = 1.0 - jnp.sum(shares, axis=1, keepdims=True)
    return jnp.concatenate([shares, jnp.maximum(rest, 0.0)], axis=1)

  return LineParts(
    shares_at(
      "m1", language.MODIFIER, language.TOPICS, language.MODIFIERS_EACH
    ),
    shares_at("art", language.ARTICLE, 2, 1),
    shares_at("e2", language.WORD, language.CLASSES, language.WORDS_EACH),
  )


def effects(
  edited: LineParts[jax.Array],
  unedited: LineParts[jax.Array],
  planners: LineParts[PlannerAnswers],
  valid: jax.Array,
  rhymes: jax.Array,
) -> LineParts[Effect]:
  """How far an edit moves what a model expects.

  Args:
    edited: what the edited model expects, [B, C] for each part.
    unedited: what the model expects without the edit, [B, C] for each part.
    planners: what planners expect.
    valid: which couplets count, bool [B].
    rhymes: the genre, bool [B].

  Returns:
    The `Effect` of each part, arrays of [G].
  """
  return LineParts(
    *(
      _effect(p, q, planner, valid, rhymes)
      for p, q, planner in zip(edited, unedited, planners, strict=True)
    )
  )


def by_genre(rhymes: jax.Array, counts: jax.Array) -> jax.Array:
  """Which couplets count in each genre, RHY and FREE; bool [G, B]."""
  return jnp.stack([rhymes, ~rhymes]) & counts[None]


def distance(p: jax.Array, q: jax.Array) -> jax.Array:
  """Total variation distance of distributions [..., C]; [...]."""
  return 0.5 * jnp.sum(jnp.abs(p - q), axis=-1)


def _effect(
  p: jax.Array,
  unedited: jax.Array,
  planner: PlannerAnswers,
  valid: jax.Array,
  rhymes: jax.Array,
) -> Effect:
  counted = by_genre(rhymes, planner.counts & valid)

  def total(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(counted, distance(a, b)[None], 0.0), axis=1)

  unit = total(planner.target, planner.own)
  return Effect(
    moved=total(p, planner.own) / unit,
    left=total(p, planner.target) / unit,
    shift=total(p, unedited) / unit,
    pairs=jnp.sum(counted, axis=1),
  )


def _exact(own: jax.Array, target: jax.Array) -> PlannerAnswers:
  """Adds the outcome "any other token", which planners never expect."""
  # The tables hold powers of 2, so equal classes have a distance of exactly 0.
  counts = distance(own, target) > 0
  own, target = (jnp.pad(p, ((0, 0), (0, 1))) for p in (own, target))
  return PlannerAnswers(own, target, counts)


def _fitting(task: Couplets) -> jax.Array:
  """Which classes can follow a topic and an article, bool [8, 2, 16]."""
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
  """Rows [B, C] divided by their sum; rows of zeros stay."""
  total = jnp.sum(weights, axis=1, keepdims=True)
  return weights / jnp.where(total > 0, total, 1.0)
