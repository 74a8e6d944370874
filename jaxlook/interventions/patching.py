"""Where a decoder's answer comes from: maps of effects of swapped activations.

The model runs on `inputs`; at one place its activation is replaced by a donor
run's, and the change of a metric is recorded, for every place in turn. The
attribution maps are the first-order approximation of the same numbers, from one
backward pass in all. They are right for small differences and for metrics
linear in the activations; LayerNorms and softmaxes saturate otherwise, so quote
the exact maps where they are affordable.

Sources: Vig et al. (2020), arXiv 2004.12265, and Meng et al. (2022), arXiv
2202.05262, for patching; Syed, Rager and Conmy (2023), arXiv 2310.10348, for
attribution patching.
"""

from collections.abc import Callable, Mapping

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
from jaxlook.models.sites import NO_EDITS, residual_sites

Metric = Callable[[jax.Array], jax.Array]
Donor = Mapping[str, jax.Array]


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
) -> jax.Array:
  """The effect of a donor's residual stream at one layer and position.

  Positions are patched together by `jax.vmap`, layers one after the other, so
  memory grows with the length and not with the depth.

  Args:
    decoder: the model.
    params: its parameters, of one seed.
    inputs: what the patched model reads, as of `Decoder`.
    donor: activations at all of `residual_sites`, each [B, T, D], from
      `capture`; a first axis of 1 gives all sequences the same donor.
    metric: from the outputs to a floating scalar.
    teacher: as of `Decoder`, for the patched model.

  Returns:
    The metric with the patch minus that without, [layers + 1, T]. Row l is the
    stream into block l, the last row the stream after the last block.

  Raises:
    ValueError: the donor lacks a site or does not fit, or as `capture`.
    AssertionError: the metric is no scalar.
  """
  return _effects(
    decoder,
    params,
    inputs,
    _needed(donor, residual_sites(decoder.config)),
    metric,
    teacher,
    places=inputs.shape[1],
    where=lambda position: at(positions=position),
  )


def head_patching_map(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  donor: Donor,
  metric: Metric,
  teacher: TeacherContext | None = None,
) -> jax.Array:
  """The effect of a donor's output of one head, at all positions.

  Args:
    decoder: the model.
    params: its parameters, of one seed.
    inputs: what the patched model reads, as of `Decoder`.
    donor: activations at all of `head_sites`, each [B, T, N, H]; as of
      `patching_map`.
    metric: from the outputs to a floating scalar.
    teacher: as of `Decoder`, for the patched model.

  Returns:
    The metric with the patch minus that without, [layers, N].

  Raises:
    ValueError: the donor lacks a site or does not fit, or as `capture`.
    AssertionError: the metric is no scalar.
  """
  return _effects(
    decoder,
    params,
    inputs,
    _needed(donor, head_sites(decoder.config)),
    metric,
    teacher,
    places=decoder.config.heads,
    where=lambda head: at(heads=head),
  )


def attribution_map(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  donor: Donor,
  metric: Metric,
  teacher: TeacherContext | None = None,
) -> jax.Array:
  """`patching_map` to first order: gradient times (donor - own activation).

  Args:
    decoder: the model.
    params: its parameters, of one seed.
    inputs: as of `patching_map`.
    donor: as of `patching_map`.
    metric: from the outputs to a floating scalar.
    teacher: as of `Decoder`.

  Returns:
    The metric's change to first order, [layers + 1, T].

  Raises:
    ValueError: the donor lacks a site, or as `capture`.
    TypeError: the metric is no scalar, or the donor does not fit.
  """
  donor = _needed(donor, residual_sites(decoder.config))
  parts = _first_order(decoder, params, inputs, donor, metric, teacher)
  return jnp.stack([jnp.sum(part, axis=(0, 2)) for part in parts])


def head_attribution_map(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  donor: Donor,
  metric: Metric,
  teacher: TeacherContext | None = None,
) -> jax.Array:
  """`head_patching_map` to first order.

  Args:
    decoder: the model.
    params: its parameters, of one seed.
    inputs: as of `head_patching_map`.
    donor: as of `head_patching_map`.
    metric: from the outputs to a floating scalar.
    teacher: as of `Decoder`.

  Returns:
    The metric's change to first order, [layers, N].

  Raises:
    ValueError: the donor lacks a site, or as `capture`.
    TypeError: the metric is no scalar, or the donor does not fit.
  """
  donor = _needed(donor, head_sites(decoder.config))
  parts = _first_order(decoder, params, inputs, donor, metric, teacher)
  return jnp.stack([jnp.sum(part, axis=(0, 1, 3)) for part in parts])


def _needed(donor: Donor, sites: tuple[str, ...]) -> dict[str, jax.Array]:
  """The donor's activations at the sites, in their order."""
  missing = [site for site in sites if site not in donor]
  if missing:
    raise ValueError(f"the donor has no activation at {', '.join(missing)}")
  return {site: donor[site] for site in sites}


def _effects(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  donor: dict[str, jax.Array],
  metric: Metric,
  teacher: TeacherContext | None,
  *,
  places: int,
  where: Callable[[Picks], Where],
) -> jax.Array:
  """The metric's change for each site of the donor and place, [sites, places].

  Which site and place is traced, so that one program serves all.
  """

  def measured(edits) -> jax.Array:
    value = metric(run(decoder, params, inputs, edits, teacher))
    chex.assert_rank(value, 0)
    return value

  clean = measured(NO_EDITS)

  def effect(chosen: jax.Array, place: jax.Array) -> jax.Array:
    def only(index: int) -> Where:
      return lambda x: where(place)(x) & (chosen == index)

    edits = {
      site: patch(value, only(index))
      for index, (site, value) in enumerate(donor.items())
    }
    return measured(edits) - clean

  along = jax.vmap(effect, in_axes=(None, 0))
  return jax.lax.map(
    lambda chosen: along(chosen, jnp.arange(places)), jnp.arange(len(donor))
  )


def _first_order(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  donor: dict[str, jax.Array],
  metric: Metric,
  teacher: TeacherContext | None,
) -> list[jax.Array]:
  """Gradient times difference for each site, of the activations' shapes."""
  _, clean = capture(decoder, params, inputs, donor, teacher=teacher)
  slope = gradients_at(decoder, params, inputs, donor, metric, teacher)
  return [slope[site] * (donor[site] - clean[site]) for site in donor]
