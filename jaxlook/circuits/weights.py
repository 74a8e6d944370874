"""The weights of a decoder, by layer and head.

Activations are row vectors here. So the circuit from what a head reads to what
it writes is W_V W_O, and the score of a query and a key is
x_query W_Q W_K^T x_key^T. Elhage et al. (2021) use column vectors.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.models import DecoderConfig


class HeadWeights(NamedTuple):
  """The weights of the heads of all layers.

  Attributes:
    query: W_Q, [L, N, D, H].
    key: W_K, [L, N, D, H].
    value: W_V, [L, N, D, H].
    out: W_O, [L, N, H, D].
    query_bias: [L, N, H].
    key_bias: [L, N, H].
    value_bias: [L, N, H].
    out_bias: one bias for all heads of a layer together, [L, D].
  """

  query: jax.Array
  key: jax.Array
  value: jax.Array
  out: jax.Array
  query_bias: jax.Array
  key_bias: jax.Array
  value_bias: jax.Array
  out_bias: jax.Array


def head_weights(
  config: DecoderConfig, params: Any, *, fold_norms: bool = False
) -> HeadWeights:
  """The weights of every head of a decoder.

  Args:
    config: the decoder's shape.
    params: its parameters, of one seed.
    fold_norms: whether to fold the linear part of the LayerNorm into the
      weights that read the residual stream; see `fold_norm`. If False, the
      weights are as they are stored.

  Returns:
    The weights, with axes for layer L and head N.
  """
  c = config

  def one(layer: int) -> HeadWeights:
    block = params[f"block_{layer}"]
    kernels, biases = {}, {}
    for name in ("query", "key", "value"):
      part = block["attention"][name]
      kernel, bias = part["kernel"], part["bias"]
      if fold_norms:
        kernel, bias = fold_norm(block["attention_norm"], kernel, bias)
      kernels[name] = jnp.moveaxis(
        kernel.reshape(c.width, c.heads, c.head_width), 1, 0
      )
      biases[f"{name}_bias"] = bias.reshape(c.heads, c.head_width)
    out = block["attention"]["out"]
    return HeadWeights(
      **kernels,
      **biases,
      out=out["kernel"].reshape(c.heads, c.head_width, c.width),
      out_bias=out["bias"],
    )

  layers = [one(layer) for layer in range(c.layers)]
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)


def fold_norm(
  norm: Any, kernel: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Folds the linear part of a LayerNorm into the kernel after it.

  LayerNorm subtracts the mean, divides by the deviation, multiplies by its
  gain and adds its bias. Everything except the division is linear and moves
  into the kernel and bias. The division changes only the size of what is read,
  not its direction.

  Args:
    norm: the LayerNorm's parameters, `scale` and `bias`, each [D].
    kernel: the kernel that reads the LayerNorm's output, [D, K].
    bias: the bias added after the kernel, [K].

  Returns:
    Kernel and bias such that (x / deviation of x) @ kernel + bias equals the
    given kernel and bias applied to LayerNorm(x).
  """
  scaled = norm["scale"][:, None] * kernel
  centred = scaled - jnp.mean(scaled, axis=0, keepdims=True)
  return centred, bias + norm["bias"] @ kernel


def embedding(params: Any) -> jax.Array:
  """W_E, [V, D]: what each token adds to the residual stream."""
  return params["token_embedding"]["embedding"]


def unembedding(
  config: DecoderConfig, params: Any, *, fold_norms: bool = False
) -> jax.Array:
  """W_U: from the residual stream after the last block to logits.

  Args:
    config: the decoder's shape.
    params: its parameters, of one seed.
    fold_norms: whether to fold in the linear part of the final LayerNorm.

  Returns:
    [D, V].
  """
  if config.shares_embedding:
    kernel = embedding(params).T
  else:
    kernel = params["head"]["kernel"]
  if fold_norms:
    zero = jnp.zeros(kernel.shape[1], kernel.dtype)
    kernel, _ = fold_norm(params["final_norm"], kernel, zero)
  return kernel
