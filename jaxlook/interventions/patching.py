"""Activation patching: on which activations the model's output depends.

The model runs on `inputs`. For every place in turn, its activation is replaced
with that of a donor run, and the change of a metric is recorded. `patching_map`
gives the exact effects. `attribution_map` gives their first-order
approximation, from one backward pass for all places. The approximation is good
for small differences and for metrics that are linear in the activations.
Otherwise LayerNorm and softmax saturate, so report the exact map if you can
afford it.

Sources: Vig et al. (2020), arXiv 2004.12265, and Meng et al. (2022), arXiv
2202.05262, for patching; Syed, Rager and Conmy (2023), arXiv 2310.10348, for
attribution patching.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, get_args

import chex
import jax
import jax.numpy as jnp

from jaxlook.interventions.edits import Picks, Where, at, patch
from jaxlook.interventions.forward import (
  TeacherContext,
  capture,
  gradients_at,
  run,
)
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.models.decoder import Params
from jaxlook.models.sites import NO_EDITS, Edits, residual_sites

Metric = Callable[[jax.Array], jax.Array]
Donor = Mapping[str, jax.Array]
Over = Literal["positions", "heads"]
"""What each column of a map stands for.

  positions  the residual stream at one position; sites are `residual_sites`,
             activations [B, T, D]
  heads      the output of one head at all positions; sites are `head_sites`,
             activations [B, T, N, H]
"""


def head_sites(config: DecoderConfig) -> tuple[str, ...]:
  """The head outputs of each layer."""
  return tuple(
    f"block_{layer}/attention/head" for layer in range(config.layers)
  )


def patching_map(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  donor: Donor,
  metric: Metric,
  teacher: TeacherContext | None = None,
  *,
  over: Over = "positions",
) -> jax.Array:
  """The effect of a donor's activation at each layer and place.

  Places are patched together by `jax.vmap`, layers one after the other, so
  memory grows with the number of places but not with the depth.

  Args:
    decoder: the model.
    params: parameters of one seed.
    inputs: what the patched model reads; see `Decoder`.
    donor: activations at all sites of `over`, from `capture`. A first axis of 1
      gives all sequences the same donor.
    metric: maps the outputs to a floating scalar.
    teacher: the teacher's context for the patched model; see `Decoder`.
    over: whether to patch positions or heads.

  Returns:
    The metric with the patch minus the metric without it: [layers + 1, T] for
    positions, where row l is the stream into block l and the last row is the
    stream after the last block; [layers, N] for heads.

  Raises:
    ValueError: `over` is unknown; the donor lacks a site or does not fit; or
      see `capture`.
    AssertionError: the metric is not a scalar.
  """
  places = _places(decoder.config, inputs, over)
  donor = _at_sites(donor, places.sites)

  def value(edits: Edits) -> jax.Array:
    value = metric(run(decoder, params, inputs, edits, teacher))
    chex.assert_rank(value, 0)
    return value

  unpatched = value(NO_EDITS)

  # Site and place are traced, so one program serves all of them.
  def effect(site_index: jax.Array, place: jax.Array) -> jax.Array:
    def only(index: int) -> Where:
      return lambda x: places.where(place)(x) & (site_index == index)

    edits = {
      site: patch(activation, only(index))
      for index, (site, activation) in enumerate(donor.items())
    }
    return value(edits) - unpatched

  of_places = jax.vmap(effect, in_axes=(None, 0))
  return jax.lax.map(
    lambda index: of_places(index, jnp.arange(places.places)),
    jnp.arange(len(donor)),
  )


def attribution_map(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  donor: Donor,
  metric: Metric,
  teacher: TeacherContext | None = None,
  *,
  over: Over = "positions",
) -> jax.Array:
  """Approximates `patching_map` by gradient times (donor - own activation).

  Args:
    decoder: the model.
    params: parameters of one seed.
    inputs: see `patching_map`.
    donor: see `patching_map`.
    metric: maps the outputs to a floating scalar.
    teacher: see `patching_map`.
    over: see `patching_map`.

  Returns:
    The change of the metric to first order, with the shape of `patching_map`.

  Raises:
    ValueError: `over` is unknown; the donor lacks a site; or see `capture`.
    TypeError: the metric is not a scalar, or the donor does not fit.
  """
  places = _places(decoder.config, inputs, over)
  donor = _at_sites(donor, places.sites)
  _, own = capture(decoder, params, inputs, donor, teacher=teacher)
  gradient = gradients_at(decoder, params, inputs, donor, metric, teacher)
  changes = [gradient[site] * (donor[site] - own[site]) for site in donor]
  others = tuple(a for a in range(changes[0].ndim) if a != places.axis)
  return jnp.stack([jnp.sum(change, axis=others) for change in changes])


class _Places(NamedTuple):
  """The places of a map.

  Attributes:
    sites: the activations to patch; each is a row of the map.
    places: number of places of an activation, the columns of the map.
    axis: the axis of the places.
    where: makes the mask of one place.
  """

  sites: tuple[str, ...]
  places: int
  axis: int
  where: Callable[[Picks], Where]


def _places(config: DecoderConfig, inputs: jax.Array, over: Over) -> _Places:
  if over == "positions":
    return _Places(
      sites=residual_sites(config),
      places=inputs.shape[1],
      axis=1,
      where=lambda position: at(positions=position),
    )
  if over == "heads":
    return _Places(
      sites=head_sites(config),
      places=config.heads,
      axis=2,
      where=lambda head: at(heads=head),
    )
  raise ValueError(f"over must be one of {get_args(Over)}, not {over!r}")


def _at_sites(donor: Donor, sites: tuple[str, ...]) -> dict[str, jax.Array]:
  """The donor's activations at the sites, in their order."""
  missing = [site for site in sites if site not in donor]
  if missing:
    raise ValueError(f"the donor has no activation at {', '.join(missing)}")
  return {site: donor[site] for site in sites}
