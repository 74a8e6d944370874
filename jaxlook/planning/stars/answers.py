"""How models answer path-star questions, and what their answers hang on.

All seeds of a variant are measured in one program, compiled once for all
variants of one forward pass. Answers are written greedily: each token is read
with those before it, but where a model was trained without seeing its answer
(`teacherless`), all of it is read off at once.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook import decoding
from jaxlook.interventions.forward import capture, forward_only, run
from jaxlook.models import Decoder, residual_sites
from jaxlook.models.sites import NO_EDITS, Edits
from jaxlook.planning.stars.questions import Questions
from jaxlook.probing import linear
from jaxlook.stats.claims import by_seed
from jaxlook.tasks.losses import cross_entropy


class AnswerResults(NamedTuple):
  """What the models of E seeds do; l - 1 steps in the order of the answer.

  Attributes:
    losses: given the true steps before, nats per token, [E, l - 1]; without
      them where the model was trained so.
    correct: share of right steps given the same, [E, l - 1].
    paths: share of answers with all steps right given the same, [E].
    written: share of right steps in free writing, [E, l - 1].
    whole: share of right answers in free writing, [E].
    beam_gain: mean nats that the best beam is likelier than the greedy answer,
      [E]; NaN where an answer is not read token by token.
    beamed: share of right answers among the best beams, [E]; NaN likewise.
    first_probe: accuracy of a linear probe for the first step out of the start,
      in the stream where the answer starts, before each block and after the
      last, [E, L + 1].
    first_shuffled: the same, fitted to shuffled first steps.
    arm_probe: accuracy of a linear probe for the arm, [E, L + 1]; NaN where
      every arm is asked about once.
    arm_shuffled: the same, fitted to shuffled arms.
    moved: with a donor's stream put in at place k before block j, the share of
      written steps that are the donor's, and last of whole answers,
      [E, K, L + 1, l].
    left: the share that are still the own ones.
  """

  losses: Any
  correct: Any
  paths: Any
  written: Any
  whole: Any
  beam_gain: Any
  beamed: Any
  first_probe: Any
  first_shuffled: Any
  arm_probe: Any
  arm_shuffled: Any
  moved: Any
  left: Any


def measure(
  decoder: Decoder,
  params: Any,
  fit: Questions,
  asked: Questions,
  key: jax.Array,
  *,
  dummy: int | None = None,
  labels: int | None = None,
  arms: int | None = None,
  width: int = 8,
  alive: Sequence[bool] | None = None,
) -> AnswerResults:
  """Measures the models of one variant.

  Args:
    decoder: the model; a cut of gradient is left out.
    params: parameters with a leading seed axis E.
    fit: questions that probes are fitted to.
    asked: all else is measured on these, and probes are scored.
    key: shuffles the labels of the probes' control; consumed.
    dummy: the token in the place of every answer, for models that were trained
      so; None for those that read what they write.
    labels: node labels, as classes of the probe for the first step. None where
      no label to tell was one to fit: a probe then maps to the model's token
      embedding, and the nearest one is told.
    arms: how many arms a prompt shows, as classes; None for no such probe.
    width: of the beam.
    alive: by seed, whether it did not diverge; all by default.

  Returns:
    Arrays on the host; NaN for seeds that diverged.

  Raises:
    ValueError: as `decoding.generate`, or the width is no width.
  """
  found = _measure(
    *(forward_only(decoder), dummy, labels, arms, width),
    *(params, fit, asked, key),
  )
  return by_seed(found, alive)


def accuracy(
  decoder: Decoder,
  params: Any,
  asked: Questions,
  dummy: int | None = None,
) -> np.ndarray:
  """`correct` and, last, `paths` of `AnswerResults` and nothing else, [E, l].

  Args:
    decoder: as of `measure`.
    params: as of `measure`.
    asked: as of `measure`.
    dummy: as of `measure`.
  """
  found = _accuracy(forward_only(decoder), dummy, params, asked)
  return np.array(found, np.float64)


@functools.partial(jax.jit, static_argnums=(0, 1))
@functools.partial(jax.vmap, in_axes=(None, None, 0, None))
def _accuracy(decoder, dummy, params, asked):
  logits = _forced(decoder, params, asked, dummy)
  return _agreement(jnp.argmax(logits, axis=-1), asked.answers)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
@functools.partial(jax.vmap, in_axes=(*(None,) * 5, 0, None, None, None))
def _measure(
  decoder: Decoder,
  dummy: int | None,
  labels: int | None,
  arms: int | None,
  width: int,
  params: Any,
  fit: Questions,
  asked: Questions,
  key: jax.Array,
) -> AnswerResults:
  key_first, key_arm = jax.random.split(key)
  logits = _forced(decoder, params, asked, dummy)
  right = jnp.argmax(logits, axis=-1) == asked.answers
  on, there = (_streams(decoder, params, each.prompts) for each in (fit, asked))
  codes = params["token_embedding"]["embedding"]
  if labels is not None:
    codes = jnp.eye(labels, dtype=codes.dtype)
  of_streams = functools.partial(probe_accuracy, on, there)
  nothing = jnp.full(len(on), jnp.nan)
  arm_probe = arm_shuffled = nothing
  if arms is not None:
    arm_probe, arm_shuffled = of_streams(
      fit.arm, asked.arm, jnp.eye(arms), key_arm
    )
  first_probe, first_shuffled = of_streams(
    fit.first, asked.first, codes, key_first
  )
  if dummy is None:
    own, gain, beamed = _searched(decoder, params, asked, width)
  else:
    # What is read off at once has no search.
    own = jnp.argmax(logits, axis=-1)
    gain = beamed = jnp.full((), jnp.nan)
  moved, left = swap_shares(decoder, params, asked, dummy)
  return AnswerResults(
    losses=jnp.mean(cross_entropy(logits, asked.answers), axis=0),
    correct=jnp.mean(right, axis=0),
    paths=jnp.mean(right.all(axis=1)),
    written=_agreement(own, asked.answers)[:-1],
    whole=_agreement(own, asked.answers)[-1],
    beam_gain=gain,
    beamed=beamed,
    first_probe=first_probe,
    first_shuffled=first_shuffled,
    arm_probe=arm_probe,
    arm_shuffled=arm_shuffled,
    moved=moved,
    left=left,
  )


def write(
  decoder: Decoder,
  params: Any,
  prompts: jax.Array,
  steps: int,
  edits: Edits = NO_EDITS,
  dummy: int | None = None,
) -> jax.Array:
  """Writes greedily under edits, or reads all off at once.

  Args:
    decoder: the model.
    params: of one seed.
    prompts: int [B, P].
    steps: tokens to write, S.
    edits: of activations [B, T, ...], as of `decoding.generate`.
    dummy: as of `measure`.

  Returns:
    Tokens, int32 [B, S].

  Raises:
    ValueError: as `decoding.generate`.
  """
  if dummy is None:
    made = decoding.generate(decoder, params, prompts, steps, edits=edits)
    return made.tokens
  text = _read(prompts, jnp.zeros((len(prompts), steps), jnp.int32), dummy)
  logits = run(decoder, params, text, edits)[:, prompts.shape[1] - 1 :]
  return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def swap_shares(
  decoder: Decoder, params: Any, asked: Questions, dummy: int | None = None
) -> tuple[jax.Array, jax.Array]:
  """Writes answers with a donor's residual stream put in, place by place.

  The stream into one block is replaced at the masked positions of the prompt,
  so that all that these positions hand on from that block on is the donor's.

  Args:
    decoder: the model.
    params: of one seed.
    asked: questions with donors and places.
    dummy: as of `measure`.

  Returns:
    `moved` and `left` of `AnswerResults`, [K, L + 1, l].

  Raises:
    ValueError: as `interventions.capture`.
  """
  sites = residual_sites(decoder.config)
  steps = asked.answers.shape[1]
  rest = ((0, 0), (0, steps - 1))

  def place(one):
    donors, others, mask = one
    _, streams = capture(decoder, params, donors, sites)
    streams = {site: jnp.pad(x, (*rest, (0, 0))) for site, x in streams.items()}
    here = jnp.pad(mask, rest)[..., None]

    def layer(chosen: jax.Array):
      def edit(index: int, site: str):
        def change(x: jax.Array) -> jax.Array:
          read = slice(0, x.shape[1])
          donor = streams[site][:, read].astype(x.dtype)
          return jnp.where(here[:, read] & (chosen == index), donor, x)

        return change

      edits = {site: edit(index, site) for index, site in enumerate(sites)}
      text = write(decoder, params, asked.prompts, steps, edits, dummy)
      return _agreement(text, others), _agreement(text, asked.answers)

    return jax.lax.map(layer, jnp.arange(len(sites)))

  return jax.lax.map(place, (asked.donors, asked.others, asked.masks))


def _read(prompts: jax.Array, answers: jax.Array, dummy: int | None):
  """What is read: prompts, and answers but for their last token, or dummies."""
  shown = answers[:, :-1]
  if dummy is not None:
    shown = jnp.full_like(shown, dummy)
  return jnp.concatenate([prompts, shown], axis=1)


def _agreement(text: jax.Array, answers: jax.Array) -> jax.Array:
  """The share of equal tokens by step, and last of equal answers, [l]."""
  same = text == answers
  whole = same.all(axis=1, keepdims=True)
  return jnp.mean(jnp.concatenate([same, whole], axis=1), axis=0)


def _forced(decoder, params, asked: Questions, dummy: int | None):
  """Logits of every step given the true ones before, [B, l - 1, V]."""
  text = _read(asked.prompts, asked.answers, dummy)
  first = asked.prompts.shape[1] - 1
  return run(decoder, params, text, NO_EDITS)[:, first:]


def _searched(decoder, params, asked: Questions, width: int):
  """Greedy answers, mean beam gain, and the share of best beams right."""
  steps = asked.answers.shape[1]
  greedy = decoding.generate(decoder, params, asked.prompts, steps)
  beams = decoding.beam_search(
    decoder, params, asked.prompts, steps, width=width
  )
  right = (beams.tokens[:, 0] == asked.answers).all(axis=1)
  gain = jnp.mean(decoding.beam_gain(beams, greedy))
  return greedy.tokens, gain, jnp.mean(right)


def _streams(decoder, params, prompts) -> jax.Array:
  """The residual stream where the answer starts, [L + 1, B, D]."""
  _, seen = capture(decoder, params, prompts, residual_sites(decoder.config))
  return jnp.stack([x[:, -1] for x in seen.values()])


def probe_accuracy(
  on: jax.Array,
  there: jax.Array,
  fit: jax.Array,
  asked: jax.Array,
  codes: jax.Array,
  key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Accuracy of linear probes, and of such fitted to shuffled labels.

  Ridge regression to the codes of labels tells the label of the nearest code,
  so labels that were none to fit can be told; with unit vectors it is the usual
  ridge classifier.

  Args:
    on: features to fit on at each of several sites, [L, n, D].
    there: to be scored on, [L, m, D].
    fit: labels, integer [n].
    asked: labels, integer [m].
    codes: of each label, [V, C].
    key: shuffles the labels to fit; consumed.

  Returns:
    Both accuracies on the labels asked for, [L].
  """
  both = jnp.stack([fit, jax.random.permutation(key, fit)])
  half = jnp.sum(codes**2, axis=1)[None] / 2

  def site(features):
    fitted, held_out = features

    def one(labels):
      probe = linear.fit_ridge(fitted, codes[labels])
      scores = linear.predict(probe, held_out) @ codes.T - half
      return linear.accuracy(scores, asked)

    return jax.lax.map(one, both)

  found = jax.lax.map(site, (on, there))
  return found[:, 0], found[:, 1]
