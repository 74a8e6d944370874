"""The logit lens: what the residual stream predicts after each block.

Source: nostalgebraist (2020), "interpreting GPT: the logit lens".
"""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlook.circuits.weights import unembedding
from jaxlook.interventions.forward import capture
from jaxlook.models import Decoder, DecoderConfig, residual_sites
from jaxlook.models.decoder import Params


def stream_logits(
  config: DecoderConfig, params: Params, stream: jax.Array
) -> jax.Array:
  """Applies the final LayerNorm and W_U to a residual stream.

  Args:
    config: the decoder's shape.
    params: its parameters, of one seed.
    stream: [..., D].

  Returns:
    Logits, [..., V].
  """
  norm = nn.LayerNorm(epsilon=config.norm_epsilon, use_fast_variance=False)
  normed = norm.apply({"params": params["final_norm"]}, stream)
  return cast(jax.Array, normed) @ unembedding(config, params)


def logit_lens(
  decoder: Decoder, params: Params, tokens: jax.Array
) -> jax.Array:
  """The logit lens before each block and after the last one.

  Args:
    decoder: the model, over tokens.
    params: its parameters, of one seed.
    tokens: integer [B, T].

  Returns:
    Logits, [L + 1, B, T, V]; the last are the model's own logits.

  Raises:
    ValueError: see `Decoder`.
  """
  sites = residual_sites(decoder.config)
  _, seen = capture(decoder, params, tokens, sites)
  stream = jnp.stack([seen[site] for site in sites])
  return stream_logits(decoder.config, params, stream)
