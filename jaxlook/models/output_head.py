"""The last layer of a decoder: from the final LayerNorm to its outputs."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxlook.models.config import DecoderConfig


class Head(nn.Module):
  """Maps hidden states to logits or continuous outputs.

  Attributes:
    config: the decoder's shape.
    dtype: dtype of the factors; None for that of input and parameters. Outputs
      are float32 or wider, because the loss needs its digits.
  """

  config: DecoderConfig
  dtype: Any = None

  @nn.compact
  def __call__(
    self, x_BxTxD: jax.Array, embedding_VxD: jax.Array | None
  ) -> jax.Array:
    """Returns logits or outputs, [B, T, V].

    Args:
      x_BxTxD: the residual stream after the final LayerNorm.
      embedding_VxD: the token embedding, if the head shares it.
    """
    c = self.config
    if embedding_VxD is not None:
      kernel_DxV = embedding_VxD.T
    else:
      kernel_DxV = self.param(
        "kernel",
        nn.initializers.normal(c.init_std),
        (c.width, c.output_features or c.vocab_size or 0),
      )
    if self.dtype is None:
      out = jnp.dot(*promote_dtype(x_BxTxD, kernel_DxV))
    else:
      out = _half_precision_dot(
        x_BxTxD.astype(self.dtype), kernel_DxV.astype(self.dtype)
      )
    if c.output_features is None:
      return out
    bias_V = self.param("bias", nn.initializers.zeros, (c.output_features,))
    # Strict rank promotion needs the explicit shape.
    return out + bias_V.astype(out.dtype).reshape((1,) * (out.ndim - 1) + (-1,))


@jax.custom_vjp
def _half_precision_dot(x_BxTxD: jax.Array, kernel_DxV: jax.Array) -> jax.Array:
  """Multiplies half-precision factors; the result keeps float32 digits.

  The backward products also have half-precision factors. JAX's own derivative
  would multiply in float32.
  """
  return jnp.dot(x_BxTxD, kernel_DxV, preferred_element_type=jnp.float32)


def _half_precision_dot_forward(x_BxTxD, kernel_DxV):
  return _half_precision_dot(x_BxTxD, kernel_DxV), (x_BxTxD, kernel_DxV)


def _half_precision_dot_backward(saved, grad_BxTxV):
  x_BxTxD, kernel_DxV = saved
  grad_BxTxV = grad_BxTxV.astype(x_BxTxD.dtype)
  return (
    jnp.dot(grad_BxTxV, kernel_DxV.T),
    jnp.einsum("btd,btv->dv", x_BxTxD, grad_BxTxV),
  )


_half_precision_dot.defvjp(
  _half_precision_dot_forward, _half_precision_dot_backward
)
