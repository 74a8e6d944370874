"""A decoder with one copy of every parameter per position, by brute force.

With theta_j the copy that the computation at position j uses and L_i the loss
at position i, dL_i/dtheta_j can be had for every pair, which is what the terms
of DESIGN.md, section 1, mean. It is a second implementation of the decoder in
plain jnp, under causal attention by the definition, with nothing stopped.
"""

import math

import jax
import jax.numpy as jnp

import jaxlook
from jaxlook.attention.reference import attend_reference
from jaxlook.models import DecoderConfig
from jaxlook.models.attention_layer import rotate

_ACTIVATIONS = {
  "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "relu": jax.nn.relu,
}


def copies(params, length: int):
  """One equal copy of every parameter for each position: leaves [T, ...]."""
  return jax.tree.map(lambda x: jnp.broadcast_to(x, (length, *x.shape)), params)


def apply(config: DecoderConfig, params, inputs: jax.Array) -> jax.Array:
  """The outputs of a decoder, position t under the t-th copy.

  Args:
    config: the shape.
    params: the decoder's tree with a leading axis T on every leaf.
    inputs: as of `jaxlook.Decoder`, of length T.

  Returns:
    As `jaxlook.Decoder`.
  """
  c, length = config, inputs.shape[1]
  positions = jnp.arange(length)
  if c.vocab_size is not None:
    x = params["token_embedding"]["embedding"][positions[None], inputs]
  else:
    x = _dense(params["input"], inputs)
  if c.positions == "learned":
    x = x + params["position_embedding"][positions, positions][None]
  for layer in range(c.layers):
    block = params[f"block_{layer}"]
    normed = norm(c, block["attention_norm"], x)
    after = x + _attention(c, block["attention"], normed)
    if c.hidden_width > 0:
      read = norm(c, block["mlp_norm"], x if c.parallel_residual else after)
      hidden = _ACTIVATIONS[c.activation](_dense(block["mlp"]["up"], read))
      after = after + _dense(block["mlp"]["down"], hidden)
    x = after
  x = norm(c, params["final_norm"], x)
  if c.shares_embedding:
    table = params["token_embedding"]["embedding"]
    return jnp.einsum("btd,tvd->btv", x, table)
  return _dense(params["head"], x)


def _dense(params, x):
  x = jnp.einsum("btd,tdf->btf", x, params["kernel"])
  return x + params["bias"][None] if "bias" in params else x


def norm(config, params, x):
  """LayerNorm of [B, T, D], position t under the t-th copy."""
  x = x - x.mean(-1, keepdims=True)
  x = x / jnp.sqrt((x**2).mean(-1, keepdims=True) + config.norm_epsilon)
  return x * params["scale"][None] + params["bias"][None]


def _attention(config, params, x):
  c = config

  def heads(name, turn):
    y = _dense(params[name], x)
    y = y.reshape(*y.shape[:2], c.heads, c.head_width)
    return rotate(y, c) if turn and c.positions == "rotary" else y

  out = attend_reference(
    heads("query", True),
    heads("key", True),
    heads("value", False),
    spec=jaxlook.parse("causal"),
    context=None,
    scale=1.0 / math.sqrt(c.head_width),
  )
  return _dense(params["out"], out.reshape(x.shape))


def jacobian(config: DecoderConfig, params, inputs: jax.Array, losses):
  """The derivative dL_i / dtheta_j of every loss to every parameter copy.

  Args:
    config: the shape.
    params: the decoder's tree.
    inputs: as of `jaxlook.Decoder`.
    losses: maps the outputs to the loss at every position, [T].

  Returns:
    The decoder's tree with two leading axes, i and j, on every leaf.
  """
  _, pull = jax.vjp(
    lambda p: losses(apply(config, p, inputs)),
    copies(params, inputs.shape[1]),
  )
  rows = [pull(row)[0] for row in jnp.eye(inputs.shape[1])]
  return jax.tree.map(lambda *x: jnp.stack(x), *rows)
