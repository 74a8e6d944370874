"""Probing models: all sites, targets, positions and seeds in one program.

A program runs the models of all seeds, reads their activations at the targets'
positions, fits a probe at every site on the first half of the sequences and
scores it on the second half. Beside every score stand those with shuffled
targets, of untrained models, and of what the inputs alone say.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.models import Decoder, DecoderConfig
from jaxlook.models.sites import residual_sites, sown
from jaxlook.probing import linear
from jaxlook.probing.targets import (
  ACCURACY,
  LEAST_SQUARES,
  NATS,
  R2,
  ProbePlan,
  Targets,
  halves,
  rows,
)

PROBE = "probe"
SHUFFLED = "shuffled"
BASELINE = "baseline"


@dataclasses.dataclass(frozen=True)
class ProbeScores:
  """Held-out scores of one kind.

  Attributes:
    sites: the L sites, see `jaxlook.models.site_names`.
    targets: what was probed for, K of them.
    probe: [E, L, K].
    shuffled: the same with shuffled targets, [E, L, K].
    by_position: of the same probes at each position, [E, L, P, K]; or None.
  """

  sites: tuple[str, ...]
  targets: Targets
  probe: np.ndarray
  shuffled: np.ndarray
  by_position: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class ProbeResults:
  """What probes found in the models of a variant.

  Attributes:
    variant: the attention's flag form, or what the models are called.
    seeds: one for each model, [E].
    scores: by kind: `R2`, `ACCURACY`, `NATS`, `LEAST_SQUARES`.
    control: the untrained models of the same forward; None for those.
  """

  variant: str
  seeds: tuple[int, ...]
  scores: Mapping[str, ProbeScores]
  control: "ProbeResults | None" = None

  def values(
    self, score: str, site: str, target: str, kind: str = PROBE
  ) -> dict[int, float]:
    """One score by seed; `kind` is `PROBE` or `SHUFFLED`."""
    found = self.scores[score]
    array = found.probe if kind == PROBE else found.shuffled
    place = (found.sites.index(site), found.targets.names.index(target))
    return dict(zip(self.seeds, map(float, array[:, *place]), strict=True))


def site_groups(config: DecoderConfig) -> tuple[tuple[str, ...], ...]:
  """The sites to probe, by width: stream, keys and values; neurons."""
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
    params: of one seed.
    inputs: as of `Decoder`, [B, T, ...].
    groups: names of sites; those of a group hold equally many numbers.
    positions: the positions to read, P of them.

  Returns:
    [L, B, P, D] for each group, heads laid end to end.
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
    params: with a leading seed axis E.
    key: shuffles the targets of the control, for all seeds alike; consumed.

  Returns:
    By kind of score: `R2` of real-valued targets; `ACCURACY` and `NATS` of
    logistic probes and `LEAST_SQUARES` of ridge probes of labels.
  """
  asked = {R2: plan.values, ACCURACY: plan.labels}
  both = {
    score: jnp.concatenate([wanted.values, wanted.shuffled(key)], axis=-1)
    for score, wanted in asked.items()
    if wanted is not None
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

    def at_all(one, features):
      # In turns, so that the predictions of one site are held at a time.
      parts = [jax.lax.map(one, group) for group in features]
      return jax.tree.map(lambda *each: jnp.concatenate(each), *parts)

    if values is not None:
      found[R2] = at_all(functools.partial(_values, values), features)
    if labels is not None:
      classified = functools.partial(_labels, labels, classes)
      found[LEAST_SQUARES] = at_all(functools.partial(classified, 0), features)
      stream = features[0][: decoder.config.layers + 1]
      told = at_all(functools.partial(classified, steps), [stream])
      found[ACCURACY], found[NATS] = [(array,) for array in told]
    return found

  return jax.vmap(seed)(params)


def _values(both_BxPxK, features_BxPxD):
  """R^2 of ridge probes at one site: of all together, and by position."""
  (on, other), (fit, held_out) = halves(features_BxPxD), halves(both_BxPxK)
  told = linear.predict(linear.fit_ridge(rows(on), rows(fit)), other)
  count = both_BxPxK.shape[-1] // 2
  return linear.r_squared(told, held_out, axis=(0, 1)), linear.r_squared(
    told[..., :count], held_out[..., :count]
  )


def _labels(both_BxPxK, classes, steps, features_BxPxD):
  """Accuracy and nats of logistic probes; with no steps accuracy of ridge."""
  fit, held_out = map(rows, halves(both_BxPxK))
  on, other = map(rows, halves(features_BxPxD))
  if not steps:
    return (linear.ridge_classes(on, fit, other, held_out, classes=classes),)
  return tuple(
    jax.vmap(
      lambda here, there: linear.logistic(
        on, here, other, there, classes=classes, steps=steps
      ),
      in_axes=1,
    )(fit, held_out)
  )
