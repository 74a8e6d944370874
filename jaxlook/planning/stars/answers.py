"""How models answer path-star questions, and what their answers depend on.

All seeds of a variant are measured in one program, compiled once for all
variants with the same forward pass. Answers are written greedily: the model
reads each token before it writes the next. A model that was trained without
seeing its answer (`teacherless`) writes the whole answer at once.
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
  """Results of models of E seeds, for the l - 1 steps of the answer in order.

  "Forced" means: the model reads the true earlier steps, or none if it was
  trained without them.

  Attributes:
    losses: forced loss of each step, nats per token, [E, l - 1].
    correct: forced share of right steps, [E, l - 1].
    paths: forced share of answers with all steps right, [E].
    written: share of right steps if the model reads its own steps, [E, l - 1].
    whole: share of right answers if the model reads its own steps, [E].
    beam_gain: log-probability of the best beam minus that of the greedy answer,
      mean nats, [E]; NaN if the model writes the whole answer at once.
    beamed: share of right answers among the best beams, [E]; NaN if the model
      writes the whole answer at once.
    first_probe: accuracy of a linear probe for the first step after the start,
      [E, L + 1]. It reads the stream at the position where the answer begins,
      before each block and after the last block.
    first_shuffled: the same, fitted to shuffled first steps.
    arm_probe: accuracy of a linear probe for the arm, [E, L + 1]; NaN if there
      is one question for each arm.
    arm_shuffled: the same, fitted to shuffled arms.
    moved: share of written steps that are the donor's, after a swap at place k
      before block j; the last entry is the share of whole answers,
      [E, K, L + 1, l].
    left: the same share for steps that are those of the true answer.
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
  test: Questions,
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
    decoder: the model; a gradient cut has no effect.
    params: parameters with a leading seed axis E.
    fit: questions that probes are fitted on.
    test: questions for everything else, and to score probes on.
    key: a PRNG key, consumed; shuffles the labels of the probes' control.
    dummy: the token that replaces every token of the answer in the input, for
      models trained in this way; None for models that read what they write.
    labels: number of node labels, the classes of the probe for the first step.
      None if the labels of `test` do not occur in `fit`: the probe then maps to
      the model's token embedding and chooses the nearest token.
    arms: number of arms in a prompt, the classes of the probe for the arm. None
      leaves this probe out.
    width: width of the beam.
    alive: for each seed, False if it diverged; by default no seed diverged.

  Returns:
    Arrays on the host; NaN for seeds that diverged.

  Raises:
    ValueError: the width is not positive; or see `decoding.generate`.
  """
  results = _measure(
    forward_only(decoder), dummy, labels, arms, width, params, fit, test, key
  )
  return by_seed(results, alive)


def accuracy(
  decoder: Decoder,
  params: Any,
  questions: Questions,
  dummy: int | None = None,
) -> np.ndarray:
  """Measures only `correct` and `paths` of `AnswerResults`.

  Args:
    decoder: see `measure`.
    params: see `measure`.
    questions: the questions to answer.
    dummy: see `measure`.

  Returns:
    `correct` and, as the last entry, `paths`, [E, l].
  """
  shares = _accuracy(forward_only(decoder), dummy, params, questions)
  return np.array(shares, np.float64)


@functools.partial(jax.jit, static_argnums=(0, 1))
@functools.partial(jax.vmap, in_axes=(None, None, 0, None))
def _accuracy(decoder, dummy, params, questions):
  logits = _forced_logits(decoder, params, questions, dummy)
  return _agreement(jnp.argmax(logits, axis=-1), questions.answers)


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
  test: Questions,
  key: jax.Array,
) -> AnswerResults:
  logits = _forced_logits(decoder, params, test, dummy)
  right = jnp.argmax(logits, axis=-1) == test.answers
  if dummy is None:
    written, gain, beamed = _searched(decoder, params, test, width)
  else:
    # Beam search needs a model that writes token by token.
    written = jnp.argmax(logits, axis=-1)
    gain = beamed = jnp.full((), jnp.nan)
  moved, left = swap_shares(decoder, params, test, dummy)
  return AnswerResults(
    losses=jnp.mean(cross_entropy(logits, test.answers), axis=0),
    correct=jnp.mean(right, axis=0),
    paths=jnp.mean(right.all(axis=1)),
    written=_agreement(written, test.answers)[:-1],
    whole=_agreement(written, test.answers)[-1],
    beam_gain=gain,
    beamed=beamed,
    **_probes(decoder, labels, arms, params, fit, test, key),
    moved=moved,
    left=left,
  )


def _probes(
  decoder: Decoder,
  labels: int | None,
  arms: int | None,
  params: Any,
  fit: Questions,
  test: Questions,
  key: jax.Array,
) -> dict[str, jax.Array]:
  """The four fields of `AnswerResults` on probes, each [L + 1]."""
  first_key, arm_key = jax.random.split(key)
  fit_streams, test_streams = (
    _streams(decoder, params, questions.prompts) for questions in (fit, test)
  )
  accuracy_of = functools.partial(probe_accuracy, fit_streams, test_streams)
  codes = params["token_embedding"]["embedding"]
  if labels is not None:
    codes = jnp.eye(labels, dtype=codes.dtype)
  arm_probe = arm_shuffled = jnp.full(len(fit_streams), jnp.nan)
  if arms is not None:
    arm_probe, arm_shuffled = accuracy_of(
      fit.arm, test.arm, jnp.eye(arms), arm_key
    )
  first_probe, first_shuffled = accuracy_of(
    fit.first, test.first, codes, first_key
  )
  return {
    "first_probe": first_probe,
    "first_shuffled": first_shuffled,
    "arm_probe": arm_probe,
    "arm_shuffled": arm_shuffled,
  }


def write(
  decoder: Decoder,
  params: Any,
  prompts: jax.Array,
  steps: int,
  edits: Edits = NO_EDITS,
  dummy: int | None = None,
) -> jax.Array:
  """Writes greedily under edits, or the whole answer at once.

  Args:
    decoder: the model.
    params: parameters of one seed.
    prompts: int [B, P].
    steps: number of tokens to write, S.
    edits: of activations [B, T, ...]; see `decoding.generate`.
    dummy: see `measure`.

  Returns:
    Tokens, int32 [B, S].

  Raises:
    ValueError: see `decoding.generate`.
  """
  if dummy is None:
    return decoding.generate(
      decoder, params, prompts, steps, edits=edits
    ).tokens
  text = _inputs(prompts, jnp.zeros((len(prompts), steps), jnp.int32), dummy)
  logits = run(decoder, params, text, edits)[:, prompts.shape[1] - 1 :]
  return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def swap_shares(
  decoder: Decoder, params: Any, questions: Questions, dummy: int | None = None
) -> tuple[jax.Array, jax.Array]:
  """Writes answers after swapping the residual stream, place by place.

  At the masked positions of the prompt, the stream into one block is replaced
  with that of a donor. From that block on, later positions read only the
  donor's state at these positions.

  Args:
    decoder: the model.
    params: parameters of one seed.
    questions: questions with donors and places.
    dummy: see `measure`.

  Returns:
    `moved` and `left` of `AnswerResults`, [K, L + 1, l].

  Raises:
    ValueError: see `interventions.capture`.
  """
  sites = residual_sites(decoder.config)
  steps = questions.answers.shape[1]
  padding = ((0, 0), (0, steps - 1))

  def at_place(place):
    donors, donor_answers, mask = place
    _, streams = capture(decoder, params, donors, sites)
    streams = {
      site: jnp.pad(x, (*padding, (0, 0))) for site, x in streams.items()
    }
    swapped = jnp.pad(mask, padding)[..., None]

    def at_layer(layer: jax.Array):
      def edit_of(index: int, site: str):
        def edit(x: jax.Array) -> jax.Array:
          read = slice(0, x.shape[1])
          donor = streams[site][:, read].astype(x.dtype)
          return jnp.where(swapped[:, read] & (layer == index), donor, x)

        return edit

      edits = {site: edit_of(index, site) for index, site in enumerate(sites)}
      text = write(decoder, params, questions.prompts, steps, edits, dummy)
      return (
        _agreement(text, donor_answers),
        _agreement(text, questions.answers),
      )

    return jax.lax.map(at_layer, jnp.arange(len(sites)))

  return jax.lax.map(
    at_place, (questions.donors, questions.donor_answers, questions.masks)
  )


def _inputs(prompts: jax.Array, answers: jax.Array, dummy: int | None):
  """Prompts followed by answers without the last token, or by dummies."""
  shown = answers[:, :-1]
  if dummy is not None:
    shown = jnp.full_like(shown, dummy)
  return jnp.concatenate([prompts, shown], axis=1)


def _agreement(text: jax.Array, answers: jax.Array) -> jax.Array:
  """The share of equal tokens by step; last, of equal answers, [l]."""
  same = text == answers
  whole = same.all(axis=1, keepdims=True)
  return jnp.mean(jnp.concatenate([same, whole], axis=1), axis=0)


def _forced_logits(decoder, params, questions: Questions, dummy: int | None):
  """Logits of every step given the true earlier steps, [B, l - 1, V]."""
  text = _inputs(questions.prompts, questions.answers, dummy)
  first = questions.prompts.shape[1] - 1
  return run(decoder, params, text, NO_EDITS)[:, first:]


def _searched(decoder, params, questions: Questions, width: int):
  """Greedy answers, the mean beam gain, and the share of best beams right."""
  steps = questions.answers.shape[1]
  greedy = decoding.generate(decoder, params, questions.prompts, steps)
  beams = decoding.beam_search(
    decoder, params, questions.prompts, steps, width=width
  )
  right = (beams.tokens[:, 0] == questions.answers).all(axis=1)
  gain = jnp.mean(decoding.beam_gain(beams, greedy))
  return greedy.tokens, gain, jnp.mean(right)


def _streams(decoder, params, prompts) -> jax.Array:
  """The stream at the position where the answer begins, [L + 1, B, D]."""
  _, seen = capture(decoder, params, prompts, residual_sites(decoder.config))
  return jnp.stack([x[:, -1] for x in seen.values()])


def probe_accuracy(
  fit_features: jax.Array,
  test_features: jax.Array,
  fit_labels: jax.Array,
  test_labels: jax.Array,
  codes: jax.Array,
  key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Accuracy of linear probes, and of probes fitted to shuffled labels.

  Ridge regression maps features to the codes of labels. The prediction is the
  label of the nearest code, so a probe can predict labels that it was not
  fitted on. With unit vectors as codes it is the usual ridge classifier.

  Args:
    fit_features: features to fit on, at each of several sites, [L, n, D].
    test_features: features to score on, [L, m, D].
    fit_labels: integer [n].
    test_labels: integer [m].
    codes: the code of each label, [V, C].
    key: a PRNG key, consumed; shuffles the labels of the control.

  Returns:
    The accuracy of the probe and of the control on the test labels, each [L].
  """
  both = jnp.stack([fit_labels, jax.random.permutation(key, fit_labels)])
  half_norms = jnp.sum(codes**2, axis=1)[None] / 2

  def at_site(features):
    fitted, held_out = features

    def score(labels):
      probe = linear.fit_ridge(fitted, codes[labels])
      scores = linear.predict(probe, held_out) @ codes.T - half_norms
      return linear.accuracy(scores, test_labels)

    return jax.lax.map(score, both)

  accuracies = jax.lax.map(at_site, (fit_features, test_features))
  return accuracies[:, 0], accuracies[:, 1]
