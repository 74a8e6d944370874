"""Runs a decoder and reads or edits its activations.

An edit is a function from an activation to its replacement, given for a site
(`jaxlook.models.sites` has the table of sites). `edits` makes the usual edits,
`patching` maps effects over many sites, `attention_edges` cuts attention edges.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp

from jaxlook import models
from jaxlook.attention import Spec, Variant
from jaxlook.models import Context, Decoder
from jaxlook.models.decoder import Params
from jaxlook.models.sites import NO_EDITS, Edits, check_sites, sown

TeacherContext = tuple[Context, ...]


def forward_only(decoder: Decoder) -> Decoder:
  """The same function of the inputs, without any gradient cut.

  Under a cut at the residual stream, the context is computed separately from
  the sites `key` and `value`. Then the implementation of attention would decide
  whether an edit there reaches later queries. Without the cut, later queries
  read the sites themselves, and gradients are those of the function.

  Args:
    decoder: the model under any variant.

  Returns:
    The decoder with each cut replaced by causal attention. Variants that change
    the outputs stay: `self_only`, `window`, `zero_context`, `teacher`.
  """
  return decoder.clone(
    attention=Variant(
      tuple(
        tuple(_uncut(spec) for spec in layer) for layer in decoder.variant.specs
      )
    )
  )


def capture(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  sites: Iterable[str],
  edits: Edits = NO_EDITS,
  teacher: TeacherContext | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Runs the decoder and returns the activations at some sites.

  Runs `forward_only(decoder)`, in the reference implementation if an attention
  pattern is returned or edited. The sites are static: under `jax.jit`, other
  sites cost nothing.

  Args:
    decoder: the model.
    params: parameters of one seed.
    inputs: see `Decoder`.
    sites: names from `jaxlook.models.site_names`.
    edits: see `Decoder`.
    teacher: see `Decoder`.

  Returns:
    The outputs, and the activations by site, after the edits.

  Raises:
    ValueError: a site is unknown (the message lists all sites); an edit changes
      a shape or dtype; or see `Decoder`.
  """
  sites = tuple(sites)
  check_sites(decoder.config, sites)
  outputs, state = _runnable(decoder, {*sites, *edits}).apply(
    {"params": params}, inputs, teacher, edits, mutable=["intermediates"]
  )
  seen = sown(cast(Mapping[str, Any], state.get("intermediates", {})))
  return cast(jax.Array, outputs), {site: seen[site] for site in sites}


def run(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  edits: Edits,
  teacher: TeacherContext | None = None,
) -> jax.Array:
  """The outputs of the decoder under edits; as `capture` without sites.

  Args:
    decoder: the model.
    params: parameters of one seed.
    inputs: see `Decoder`.
    edits: see `Decoder`.
    teacher: see `Decoder`.

  Returns:
    Logits [B, T, vocab_size], or outputs [B, T, output_features].

  Raises:
    ValueError: see `capture`.
  """
  return models.apply(_runnable(decoder, edits), params, inputs, teacher, edits)


def gradients_at(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  sites: Iterable[str],
  loss: Callable[[jax.Array], jax.Array],
  teacher: TeacherContext | None = None,
) -> dict[str, jax.Array]:
  """The gradient of a loss with respect to activations.

  It is computed as the gradient with respect to zeros that are added to the
  activations. It is the full gradient of the function that the model computes
  (`forward_only`), also if the variant cuts gradients in training. If two sites
  lie on one path, each gets its full gradient.

  Args:
    decoder: the model.
    params: parameters of one seed.
    inputs: see `Decoder`.
    sites: names from `jaxlook.models.site_names`.
    loss: maps the outputs to a floating scalar.
    teacher: see `Decoder`.

  Returns:
    The gradient by site, with the shape and dtype of the activation.

  Raises:
    ValueError: see `capture`.
    TypeError: the loss is not a scalar.
  """
  sites = tuple(sites)
  shapes = jax.eval_shape(
    lambda: capture(decoder, params, inputs, sites, teacher=teacher)[1]
  )

  def total(added: dict[str, jax.Array]) -> jax.Array:
    edits = {site: functools.partial(jnp.add, x) for site, x in added.items()}
    return loss(run(decoder, params, inputs, edits, teacher))

  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.grad(total)(zeros)


def _uncut(spec: Spec) -> Spec:
  if spec.source != "own" or not spec.blocks:
    return spec
  name = "causal" if spec.reach is None else f"window:{spec.reach}"
  return Spec(name, reach=spec.reach)


def _runnable(decoder: Decoder, sites: Iterable[str]) -> Decoder:
  """The decoder without cuts, in an implementation that has the sites."""
  decoder = forward_only(decoder)
  if not any(site.endswith("/pattern") for site in sites):
    return decoder
  return decoder.clone(implementation="reference")
