"""A decoder's weights as circuits read them: by layer and head.

Activations are rows here, so the circuit of a head from what it reads to what
it writes is W_V W_O, and its score of a query against a key is
x_query W_Q W_K^T x_key^T; Elhage et al. (2021) write columns.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.models import DecoderConfig


class HeadWeights(NamedTuple):
  """What the heads of all layers multiply with.

  Attributes:
    query: W_Q, [L, N, D, H].
    key: W_K, [L, N, D, H].
    value: W_V, [L, N, D, H].
    out: W_O, [L, N, H, D].
    query_bias: [L, N, H].
    key_bias: [L, N, H].
    value_bias: [L, N, H].
    out_bias: of all heads of a layer together, [L, D].
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
    fold_norms: whether what reads the residual stream takes over the linear
      part of the LayerNorm before it, see `fold_norm`. Off, the weights are as
      they are stored.

  Returns:
    Arrays with axes for layer L and head N.
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
  """A kernel that reads the stream without the LayerNorm before it.

  LayerNorm subtracts the mean, divides by the deviation, multiplies by its
  gain and adds its bias. All but the division is linear and moves into the
  kernel; the division changes the size of what is read, not its direction.

  Args:
    norm: the LayerNorm's parameters, `scale` and `bias`, each [D].
    kernel: what reads its output, [D, K].
    bias: added to that, [K].

  Returns:
    Kernel and bias such that (x / deviation of x) @ kernel + bias is what
    LayerNorm and the given kernel and bias make of x.
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
    fold_norms: whether the final LayerNorm's linear part is taken in.

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
