"""Influence: the derivative of the loss at each position to each position.

The loss at i trains the computation at j where dL_i/dx_j (x_j is the residual
stream at j) or dL_i/dtheta_j (theta_j are the parameters as used by the
computation at j) is not zero. The variant decides which gradients flow: under
`myopic` everything off the diagonal is exactly 0; under `horizon:h` everything
with i - j > h D is, where D is the number of layers above.

Source: Wu, Morris and Levine (2024), arXiv 2404.00859, section 2, for
dL_i/dtheta_j.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from jaxlook.models import Decoder, residual_site, residual_sites
from jaxlook.models.decoder import Params
from jaxlook.models.output_head import Head
from jaxlook.models.sites import check_sites, sown

Losses = Callable[[jax.Array], jax.Array]
Moved = Mapping[str, jax.Array]

REST = "rest"
_TABLE = "position_embedding"
# These modules, and only these, treat each position separately.
_POINTWISE = (nn.Dense, nn.LayerNorm, nn.Embed, Head)


def influence(
  decoder: Decoder, params: Params, inputs: jax.Array, losses: Losses
) -> jax.Array:
  """How much the loss at each position depends on the stream at each position.

  Args:
    decoder: the model; its variant decides which gradients flow.
    params: its parameters.
    inputs: tokens [B, T] or features [B, T, F].
    losses: maps the outputs to the loss at every position, [B, T]. The losses
      of a sequence depend on its own outputs only.

  Returns:
    [layers + 1, T, T], by layer (as `residual_site` counts them), i and j: the
    norm of dL_i/dx_j over the width, in units of loss per unit of the stream,
    mean over sequences. Exactly 0 for j > i.

  Raises:
    ValueError: see `Decoder`.
    AssertionError: the losses are not [B, T].
  """
  config = decoder.config
  sites = residual_sites(config)
  zeros, run = perturbable(decoder, params, inputs, sites)

  def lossy(moved: Moved) -> jax.Array:
    losses_BxT = losses(run(moved)[0])
    chex.assert_shape(losses_BxT, inputs.shape[:2])
    return losses_BxT

  losses_BxT, pull = jax.vjp(lossy, zeros)

  def of_loss(row_T: jax.Array) -> jax.Array:
    # Sequences are independent, so one pull serves the i-th loss of all.
    (gradient,) = pull(jnp.broadcast_to(row_T[None], losses_BxT.shape))
    x_RxBxTxD = jnp.stack([gradient[site] for site in sites])
    return jnp.sqrt((x_RxBxTxD**2).sum(axis=-1)).mean(axis=1)

  rows = jnp.eye(inputs.shape[1], dtype=losses_BxT.dtype)
  return jnp.moveaxis(jax.lax.map(of_loss, rows), 0, 1)


def parameter_influence(
  decoder: Decoder, params: Params, inputs: jax.Array, losses: Losses
) -> dict[str, jax.Array]:
  """How much the loss at each position depends on each position's parameters.

  Every position has its own copy of every parameter, all equal, and the
  derivative is to these copies. Computation at j uses theta_j, so a key uses
  the W_K of its own position, not of the query's. Needs memory for T copies of
  the parameters.

  Args:
    decoder: the model; its variant decides which gradients flow.
    params: its parameters.
    inputs: tokens [B, T] or features [B, T, F].
    losses: maps the outputs to the loss at every position, [B, T].

  Returns:
    By group of parameters, the norm of dL_i/dtheta_j over the group, [T, T] by
    i and j, where L_i is the mean over sequences. The groups are
    `block_L/attention`, `block_L/mlp`, and `rest` for LayerNorms, embeddings
    and head. `total_influence` combines them.

  Raises:
    ValueError: see `Decoder`.
    AssertionError: the losses are not [B, T].
  """
  batch, length = inputs.shape[:2]
  copies = jax.tree.map(
    lambda x: jnp.broadcast_to(x[None], (length, *x.shape)),
    {name: x for name, x in params.items() if name != _TABLE},
  )
  # Only position j uses row j of the table, so its derivative is that of the
  # stream at j.
  entry = residual_site(decoder.config, 0)
  zeros, _ = perturbable(decoder, params, inputs, [entry])
  moved_TxD = zeros[entry][0]

  def lossy(copies: Params, moved_TxD: jax.Array) -> jax.Array:
    losses_BxT = losses(
      _apply_copies(
        decoder, params, copies, inputs, {entry: lambda x: x + moved_TxD[None]}
      )
    )
    chex.assert_shape(losses_BxT, (batch, length))
    return losses_BxT.mean(axis=0)

  losses_T, pull = jax.vjp(lossy, copies, moved_TxD)

  def of_loss(row_T: jax.Array) -> dict[str, jax.Array]:
    gradient, moved = pull(row_T)
    if _TABLE in params:
      gradient = {**gradient, _TABLE: moved}
    squares: dict[str, jax.Array] = {}
    leaves: dict[Any, Any] = flatten_dict(gradient)
    for path, x in leaves.items():
      square_T = (x**2).reshape(length, -1).sum(axis=1)
      name = _group(path)
      squares[name] = squares[name] + square_T if name in squares else square_T
    return {name: jnp.sqrt(x) for name, x in squares.items()}

  return jax.lax.map(of_loss, jnp.eye(length, dtype=losses_T.dtype))


def total_influence(groups: Mapping[str, jax.Array]) -> jax.Array:
  """The norm over all groups of parameters.

  Args:
    groups: from `parameter_influence`, or some of its groups.

  Returns:
    The root of the sum of squares, [T, T].
  """
  return jnp.sqrt(sum((x**2 for x in groups.values()), jnp.zeros(())))


def perturbable(
  decoder: Decoder, params: Params, inputs: jax.Array, sites: Iterable[str]
) -> tuple[dict[str, jax.Array], Callable[[Moved], tuple[jax.Array, Moved]]]:
  """The decoder as a function of perturbations of some activations.

  Args:
    decoder: the model.
    params: its parameters.
    inputs: see `Decoder`.
    sites: names of activations.

  Returns:
    Zeros by site, and a function that adds perturbations to the activations and
    returns the outputs and all activations by site. Its derivative at the zeros
    is the derivative to the activations.

  Raises:
    ValueError: there is no such site, or see `Decoder`.
  """
  sites = tuple(sites)
  check_sites(
    decoder.config, sites, patterns=decoder.implementation == "reference"
  )

  def run(moved: Moved) -> tuple[jax.Array, Moved]:
    outputs, state = decoder.apply(
      {"params": params},
      inputs,
      edits={site: (lambda x, by=by: x + by) for site, by in moved.items()},
      mutable=["intermediates"],
    )
    return cast(jax.Array, outputs), sown(
      cast(dict[str, Any], state["intermediates"])
    )

  _, seen = jax.eval_shape(run, {})
  zeros = {
    site: jnp.zeros(seen[site].shape, seen[site].dtype) for site in sites
  }
  return zeros, run


def _group(path: tuple[str, ...]) -> str:
  inside = path[0].startswith("block_") and path[1] in ("attention", "mlp")
  return "/".join(path[:2]) if inside else REST


def _apply_copies(
  decoder: Decoder,
  params: Params,
  copies: Params,
  inputs: jax.Array,
  edits: Mapping[str, Callable[[jax.Array], jax.Array]],
) -> jax.Array:
  """Applies a decoder whose modules use the j-th copy at position j."""

  def by_position(
    call: Callable[..., Any], args: Any, kwargs: Any, context: Any
  ) -> Any:
    module = context.module
    # A module without a path is one that `plain.apply` below runs.
    if not isinstance(module, _POINTWISE) or not module.path:
      return call(*args, **kwargs)
    if context.method_name == "setup":
      return None  # It would need parameters that are not given.
    x, *rest = args
    own = copies
    for name in module.path:
      own = own[name]
    plain = module.clone(parent=None)
    return jax.vmap(
      lambda copy, at: plain.apply(
        {"params": copy}, at, *rest, method=context.method_name, **kwargs
      ),
      in_axes=(0, 1),
      out_axes=1,
    )(own, x)

  # Parameters with copies are left out, so that a module that is not
  # intercepted fails instead of seeming to have no influence.
  given = {name: x for name, x in params.items() if name == _TABLE}
  with nn.intercept_methods(by_position):
    return cast(
      jax.Array, decoder.apply({"params": given}, inputs, edits=edits)
    )
