"""Running a decoder while its activations are looked at or changed.

An edit is a function from an activation to the one to go on with. It is given
for a site (`jaxlook.models.sites` has the table); `edits` makes the usual ones.
Maps of effects over many sites are in `patching`, attention edges in `edges`.
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

  A context from a stopped residual stream is computed beside the sites `key`
  and `value`, so whether an edit there reaches later queries would depend on
  the path of attention; without the cut they read the site itself. Gradients
  are then those of the function.

  Args:
    decoder: the model under any variant.

  Returns:
    The decoder with each cut spec made causal. What decides the value of the
    outputs stays: `self_only`, `window`, `zero_context`, `teacher`.
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
  """Runs the decoder and returns the activations asked for.

  Runs `forward_only(decoder)`, by the reference path if an attention pattern is
  asked for or edited. Which sites are returned is static: under `jax.jit` the
  others cost nothing.

  Args:
    decoder: the model.
    params: its parameters, of one seed.
    inputs: as of `Decoder`.
    sites: names of `jaxlook.models.site_names`.
    edits: as of `Decoder`.
    teacher: as of `Decoder`.

  Returns:
    The outputs, and the activations by site, as they are after the edits.

  Raises:
    ValueError: a name is no site (the message lists them), an edit changed a
      shape or dtype, or as `Decoder`.
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
  """The outputs of the decoder under edits; as `capture` of no site.

  Args:
    decoder: the model.
    params: its parameters, of one seed.
    inputs: as of `Decoder`.
    edits: as of `Decoder`.
    teacher: as of `Decoder`.

  Returns:
    Logits [B, T, vocab_size], or outputs [B, T, output_features].

  Raises:
    ValueError: as `capture`.
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
  """The gradient to activations, that is to zeros added to them.

  It is the gradient of what the model computes (`forward_only`), whatever the
  variant cuts in training. Of two sites on one path, each gets its own full
  gradient.

  Args:
    decoder: the model.
    params: its parameters, of one seed.
    inputs: as of `Decoder`.
    sites: names of `jaxlook.models.site_names`.
    loss: from the outputs to a floating scalar.
    teacher: as of `Decoder`.

  Returns:
    Gradients by site, each of the activation's shape and dtype.

  Raises:
    ValueError: as `capture`.
    TypeError: the loss is no scalar.
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
  """The decoder without cuts, on a path that computes the sites."""
  decoder = forward_only(decoder)
  if not any(site.endswith("/pattern") for site in sites):
    return decoder
  return decoder.clone(implementation="reference")
