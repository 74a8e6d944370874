"""The gradient to keys and values, split by distance.

The key and value at position j receive gradient from every query i >= j. Let
z_i be the output of a head at i, dz_i the gradient to it and p_ij the attention
pattern. The pair (i, j) adds p_ij dz_i to the gradient of v_j, and ds_ij scale
q_i to that of k_j, where ds_ij = p_ij dz_i . (v_j - z_i). One forward and one
backward pass under ordinary attention give all of these. Their sums over the
pairs at distance d = i - j are g_d, d = 0 .. T - 1, for the keys, values, W_K
and W_V of one layer. The sum of g_d over d is the whole gradient. The g_d of a
layer is the gradient that it gets under `offset:d` if all other layers are
`causal`.

`inner_products` returns the Gram matrices <g_d, g_d'> of every head. Norms,
shares and cosines follow from them. The Gram matrices of disjoint parameters
add: sum them over heads (and layers) before you take shares. Not included: the
biases of W_K and W_V, and what reaches lower layers through keys and values.

Source of the question, whether the many future terms outweigh the one own term:
nostalgebraist, greaterwrong.com/posts/A5PJYKw8tw38JpbJC (the comments).
"""

import functools
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.lookahead.gradient_directions import Loss, without_cuts
from jaxlook.lookahead.influence import Moved, perturbable
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.models.attention_layer import rotate
from jaxlook.models.decoder import Params

# Shares are exact sums; reduced precision would spoil the cancellation.
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


class ByDistance(NamedTuple):
  """One layer's gradients by distance d, which is the first axis T of each.

  Attributes:
    key: to the keys as the scores read them (rotated if rotary), [T, B, S, N,
      H].
    value: to the values, [T, B, S, N, H].
    key_kernel: to the kernel of W_K, by head, [T, D, N, H].
    value_kernel: to the kernel of W_V, by head, [T, D, N, H].
  """

  key: jax.Array
  value: jax.Array
  key_kernel: jax.Array
  value_kernel: jax.Array


class InnerProducts(NamedTuple):
  """One layer's inner products <g_d, g_d'> by head, each [N, T, T].

  Attributes:
    key: of the gradients to keys, over sequences, positions and width.
    value: of the gradients to values.
    key_kernel: of the gradients to the head's columns of W_K.
    value_kernel: of the gradients to the head's columns of W_V.
  """

  key: jax.Array
  value: jax.Array
  key_kernel: jax.Array
  value_kernel: jax.Array


class _Layer(NamedTuple):
  """The activations that one layer's split needs; the first axis is B."""

  input: jax.Array
  query: jax.Array
  key: jax.Array
  value: jax.Array
  pattern: jax.Array
  head: jax.Array
  head_gradient: jax.Array


def inner_products(
  decoder: Decoder, params: Params, inputs: jax.Array, loss: Loss
) -> tuple[InnerProducts, ...]:
  """Inner products of every layer's gradients to keys and values by distance.

  Needs memory for T copies of one sequence's keys and of W_K, for any number of
  sequences.

  Args:
    decoder: the model. Gradient cuts are removed.
    params: its parameters.
    inputs: tokens [B, T] or features [B, T, F].
    loss: maps the outputs to a floating scalar.

  Returns:
    The `InnerProducts` of each layer.

  Raises:
    ValueError: the variant changes the forward pass.
  """
  config = decoder.config

  def one(layer: _Layer) -> InnerProducts:
    key, value = _activations(config, layer)
    return InnerProducts(
      _gram(key), _gram(value), *_kernels(config, layer.input, key, value)
    )

  def grams(layer: _Layer) -> InnerProducts:
    first = jax.tree.map(lambda x: x[0], layer)
    sums, _ = jax.lax.scan(
      lambda sums, sequence: (
        jax.tree.map(jnp.add, sums, one(sequence)),
        None,
      ),
      jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, first)
      ),
      layer,
    )
    return sums._replace(
      key_kernel=_gram(sums.key_kernel), value_kernel=_gram(sums.value_kernel)
    )

  return tuple(grams(x) for x in _layers(decoder, params, inputs, loss))


def by_distance(
  decoder: Decoder, params: Params, inputs: jax.Array, loss: Loss, layer: int
) -> ByDistance:
  """The gradients that `inner_products` summarises, for one layer.

  Needs memory for T copies of all keys, and B T copies of W_K.

  Args:
    decoder: see `inner_products`.
    params: see `inner_products`.
    inputs: see `inner_products`.
    loss: see `inner_products`.
    layer: 0 .. layers - 1.

  Returns:
    The gradients by distance.

  Raises:
    ValueError: the layer is out of range, or see `inner_products`.
  """
  config = decoder.config
  if not 0 <= layer < config.layers:
    raise ValueError(f"layer must lie in 0..{config.layers - 1}, not {layer}")

  def one(layer: _Layer) -> ByDistance:
    key, value = _activations(config, layer)
    return ByDistance(key, value, *_kernels(config, layer.input, key, value))

  parts = jax.vmap(one)(_layers(decoder, params, inputs, loss)[layer])
  return ByDistance(
    key=jnp.moveaxis(parts.key, 0, 1),
    value=jnp.moveaxis(parts.value, 0, 1),
    key_kernel=parts.key_kernel.sum(axis=0),
    value_kernel=parts.value_kernel.sum(axis=0),
  )


def signed_share(gram: jax.Array) -> jax.Array:
  """The contribution of each distance in the direction of the whole gradient.

  Args:
    gram: [..., T, T].

  Returns:
    <g_d, g> / |g|^2 with g the sum over d, [..., T]. Sums to one; negative
    where a distance opposes the rest; NaN where g is zero.
  """
  chex.assert_equal(gram.shape[-2], gram.shape[-1])
  along = gram.sum(axis=-1)
  return along / along.sum(axis=-1, keepdims=True)


def norm_share(gram: jax.Array) -> jax.Array:
  """The share of the squared norms at each distance.

  Args:
    gram: [..., T, T].

  Returns:
    |g_d|^2 / sum_d |g_d|^2, [..., T]. Sums to one; NaN where all are zero.
  """
  chex.assert_equal(gram.shape[-2], gram.shape[-1])
  squares = gram.diagonal(axis1=-2, axis2=-1)
  return squares / squares.sum(axis=-1, keepdims=True)


def future_share(share: jax.Array) -> jax.Array:
  """The share of all distances except 0.

  Args:
    share: from `signed_share` or `norm_share`, [..., T].

  Returns:
    [...].
  """
  return 1.0 - share[..., 0]


def distance_norms(gram: jax.Array) -> jax.Array:
  """The norm of the gradient at each distance.

  Args:
    gram: [..., T, T].

  Returns:
    |g_d|, [..., T], in units of loss per unit of the activation or parameter.
  """
  chex.assert_equal(gram.shape[-2], gram.shape[-1])
  return jnp.sqrt(jnp.diagonal(gram, axis1=-2, axis2=-1))


def self_future_cosine(gram: jax.Array) -> jax.Array:
  """The cosine between the gradients of the present and of the future.

  Args:
    gram: [..., T, T].

  Returns:
    The cosine of g_0 and the sum of g_d over d >= 1, [...]; NaN where either is
    zero.
  """
  chex.assert_equal(gram.shape[-2], gram.shape[-1])
  between = gram[..., 0, 1:].sum(axis=-1)
  # Rounding may make the square of a vanishing norm negative.
  future = jnp.maximum(gram[..., 1:, 1:].sum(axis=(-2, -1)), 0.0)
  return between / (jnp.sqrt(gram[..., 0, 0]) * jnp.sqrt(future))


def pair_counts(length: int) -> np.ndarray:
  """The number of pairs of query and key at each distance.

  Args:
    length: T, at least 1.

  Returns:
    T - d for d = 0 .. T - 1, integers [T]: T (T + 1) / 2 in all.

  Raises:
    ValueError: the length is below 1.
  """
  if length < 1:
    raise ValueError(f"length must be at least 1, not {length}")
  return length - np.arange(length)


def _layers(
  decoder: Decoder, params: Params, inputs: jax.Array, loss: Loss
) -> list[_Layer]:
  """The activations of all layers, from one forward and one backward pass."""
  at = [f"block_{n}/attention" for n in range(decoder.config.layers)]
  zeros, run = perturbable(
    without_cuts(decoder, "reference"),
    params,
    inputs,
    [f"{x}/head" for x in at],
  )

  def lossy(moved: Moved) -> tuple[jax.Array, Moved]:
    outputs, seen = run(moved)
    return loss(outputs), seen

  gradients, seen = jax.grad(lossy, has_aux=True)(zeros)
  read = [name for name in _Layer._fields if name != "head_gradient"]
  return [
    _Layer(
      **{name: seen[f"{x}/{name}"] for name in read},
      head_gradient=gradients[f"{x}/head"],
    )
    for x in at
  ]


def _activations(
  config: DecoderConfig, layer: _Layer
) -> tuple[jax.Array, jax.Array]:
  """One sequence's gradients to keys and values by distance: [T, S, N, H]."""
  scale = 1.0 / math.sqrt(config.head_width)
  dz, p_NxTxS = layer.head_gradient, layer.pattern
  own_NxT = _einsum("tnh,tnh->nt", dz, layer.head)
  all_NxTxS = _einsum("tnh,snh->nts", dz, layer.value)
  ds_NxTxS = p_NxTxS * (all_NxTxS - own_NxT[..., None])
  return _shifted(scale * ds_NxTxS, layer.query), _shifted(p_NxTxS, dz)


def _shifted(pair_NxTxS: jax.Array, at_TxNxH: jax.Array) -> jax.Array:
  """pair[j + d, j] at[j + d] by distance d and key j; 0 beyond the end."""
  length = at_TxNxH.shape[0]
  # The first axis is the distance of the query from its key.
  distance, key = np.ogrid[:length, :length]
  there_TxS = distance + key < length
  query_TxS = np.minimum(distance + key, length - 1)
  weight_NxTxS = jnp.where(there_TxS[None], pair_NxTxS[:, query_TxS, key], 0.0)
  return _einsum("nds,dsnh->dsnh", weight_NxTxS, at_TxNxH[query_TxS])


def _kernels(
  config: DecoderConfig,
  input_SxD: jax.Array,
  key_TxSxNxH: jax.Array,
  value_TxSxNxH: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """One sequence's gradients to W_K and W_V by distance: [T, D, N, H]."""
  if config.positions == "rotary":
    _, back = jax.vjp(lambda x: rotate(x, config), key_TxSxNxH)
    (key_TxSxNxH,) = back(key_TxSxNxH)
  key_TxDxNxH, value_TxDxNxH = (
    _einsum("sm,dsnh->dmnh", input_SxD, x) for x in (key_TxSxNxH, value_TxSxNxH)
  )
  return key_TxDxNxH, value_TxDxNxH


def _gram(x_TxSxNxH: jax.Array) -> jax.Array:
  """Inner products over all axes except distance and head: [N, T, T]."""
  return _einsum("dsnh,esnh->nde", x_TxSxNxH, x_TxSxNxH)
