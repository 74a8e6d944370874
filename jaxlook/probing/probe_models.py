"""Probes models: all sites, targets, positions and seeds in one program.

The program runs the models of all seeds, reads their activations at the
positions of the targets, fits a probe at every site on the first half of the
sequences and scores it on the second half. Every score has three controls:
shuffled targets, untrained models, and the same probe on the inputs alone.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.errors import check_ids
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.models.sites import residual_sites, sown
from jaxlook.probing import linear
from jaxlook.probing.probe_plans import (
  ACCURACY,
  LEAST_SQUARES,
  NATS,
  R2,
  ProbePlan,
)
from jaxlook.probing.targets import Targets, halves, rows

PROBE = "probe"
SHUFFLED = "shuffled"
BASELINE = "baseline"


@dataclasses.dataclass(frozen=True)
class ProbeScores:
  """Held-out scores of one kind.

  Attributes:
    sites: the L sites; see `jaxlook.models.site_names`.
    targets: what was probed for, K of them.
    probe: [E, L, K].
    shuffled: the same with shuffled targets, [E, L, K].
    by_position: of the same probes, at each position, [E, L, P, K]; or None.
  """

  sites: tuple[str, ...]
  targets: Targets
  probe: np.ndarray
  shuffled: np.ndarray
  by_position: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class ProbeResults:
  """The scores of probes in the models of a variant.

  Attributes:
    variant: the attention as flags write it, or another name of the models.
    seeds: one for each model, [E].
    scores: by kind: `R2`, `ACCURACY`, `NATS`, `LEAST_SQUARES`.
    control: untrained models with the same forward pass; None for these.
  """

  variant: str
  seeds: tuple[int, ...]
  scores: Mapping[str, ProbeScores]
  control: "ProbeResults | None" = None

  def values(
    self, score: str, site: str, target: str, kind: str = PROBE
  ) -> dict[int, float]:
    """One score by seed; `kind` is `PROBE` or `SHUFFLED`."""
    scores = self.scores[score]
    array = scores.probe if kind == PROBE else scores.shuffled
    index = (scores.sites.index(site), scores.targets.names.index(target))
    return dict(zip(self.seeds, map(float, array[:, *index]), strict=True))


def site_groups(config: DecoderConfig) -> tuple[tuple[str, ...], ...]:
  """The sites to probe, grouped by width: stream, keys and values; neurons."""
  blocks = [f"block_{layer}" for layer in range(config.layers)]
  wide = residual_sites(config) + tuple(
    f"{block}/attention/{name}" for name in ("key", "value") for block in blocks
  )
  neurons = tuple(f"{block}/mlp/neuron" for block in blocks)
  return (wide, neurons) if config.hidden_width else (wide,)


def read_sites(
  decoder: Decoder,
  params: Any,
  inputs: jax.Array,
  groups: Sequence[Sequence[str]],
  positions: range,
) -> list[jax.Array]:
  """Runs one model and reads its activations.

  Args:
    decoder: the model.
    params: parameters of one seed.
    inputs: see `Decoder`, [B, T, ...].
    groups: names of sites; those of a group have the same width.
    positions: the positions to read, P of them.

  Returns:
    [L, B, P, D] for each group, with the heads end to end.
  """
  _, state = decoder.apply({"params": params}, inputs, mutable="intermediates")
  seen = sown(cast(Mapping[str, Any], state["intermediates"]))
  at = slice(positions.start, positions.stop, positions.step)

  def read(site: str) -> jax.Array:
    x = seen[site][:, at]
    return x.reshape(*x.shape[:2], -1)

  return [jnp.stack([read(site) for site in group]) for group in groups]


def probe_models(
  plan: ProbePlan, decoder: Decoder, params: Any, key: jax.Array
) -> dict[str, ProbeScores]:
  """Fits and scores all probes in the models of all seeds.

  Args:
    plan: what to probe for.
    decoder: the model.
    params: parameters with a leading seed axis E.
    key: a PRNG key, consumed; shuffles the targets of the control in the same
      way for all seeds.

  Returns:
    By kind of score: `R2` for real-valued targets; `ACCURACY` and `NATS` of
    logistic probes and `LEAST_SQUARES` of ridge probes for labels.
  """
  check_ids(decoder.config.vocab_size, plan.inputs)
  both = {
    score: jnp.concatenate([targets.values, targets.shuffled(key)], axis=-1)
    for score, targets in ((R2, plan.values), (ACCURACY, plan.labels))
    if targets is not None
  }
  found = _program(
    decoder,
    params,
    plan.inputs,
    both.get(R2),
    both.get(ACCURACY),
    positions=plan.positions,
    classes=plan.classes,
    steps=plan.steps,
  )
  everywhere = sum(site_groups(decoder.config), ())
  stream = residual_sites(decoder.config)
  scores = {}
  for score, (scored, *by_position) in found.items():
    probe, shuffled = np.split(np.asarray(scored, np.float64), 2, axis=-1)
    scores[score] = ProbeScores(
      stream if score in (ACCURACY, NATS) else everywhere,
      cast(Targets, plan.values if score == R2 else plan.labels),
      probe,
      shuffled,
      np.asarray(by_position[0], np.float64) if by_position else None,
    )
  return scores


@functools.partial(
  jax.jit, static_argnames=("decoder", "positions", "classes", "steps")
)
def _program(
  decoder, params, inputs, values, labels, *, positions, classes, steps
):
  """All scores of all seeds, [E, L, 2 K], and by position, [E, L, P, K].

  Targets `values` and `labels`, [B, P, 2 K], have the shuffled ones last.
  """

  def seed(params):
    groups = site_groups(decoder.config)
    features = read_sites(decoder, params, inputs, groups, positions)
    found = {}

    def at_all(probe, features):
      # One site after the other, so that only its predictions are in memory.
      parts = [jax.lax.map(probe, group) for group in features]
      return jax.tree.map(lambda *groups: jnp.concatenate(groups), *parts)

    if values is not None:
      found[R2] = at_all(functools.partial(_values, values), features)
    if labels is not None:
      classified = functools.partial(_labels, labels, classes)
      found[LEAST_SQUARES] = at_all(functools.partial(classified, 0), features)
      stream = features[0][: decoder.config.layers + 1]
      logistic = at_all(functools.partial(classified, steps), [stream])
      found[ACCURACY], found[NATS] = [(array,) for array in logistic]
    return found

  return jax.vmap(seed)(params)


def _values(both_BxPxK, features_BxPxD):
  """R^2 of ridge probes at one site: over all positions, and by position."""
  features, held_out_features = halves(features_BxPxD)
  values, held_out_values = halves(both_BxPxK)
  predicted = linear.predict(
    linear.fit_ridge(rows(features), rows(values)), held_out_features
  )
  count = both_BxPxK.shape[-1] // 2
  return (
    linear.r_squared(predicted, held_out_values, axis=(0, 1)),
    linear.r_squared(predicted[..., :count], held_out_values[..., :count]),
  )


def _labels(both_BxPxK, classes, steps, features_BxPxD):
  """Accuracy and nats of logistic probes; with 0 steps, accuracy of ridge."""
  labels, held_out_labels = map(rows, halves(both_BxPxK))
  features, held_out_features = map(rows, halves(features_BxPxD))
  if not steps:
    return (
      linear.ridge_classes(
        features, labels, held_out_features, held_out_labels, classes=classes
      ),
    )
  return tuple(
    jax.vmap(
      lambda fit, held_out: linear.logistic(
        features,
        fit,
        held_out_features,
        held_out,
        classes=classes,
        steps=steps,
      ),
      in_axes=1,
    )(labels, held_out_labels)
  )
