"""The logit lens: what the residual stream would predict at every depth.

Source: nostalgebraist (2020), "interpreting GPT: the logit lens".
"""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlook.circuits.weights import unembedding
from jaxlook.lookahead.interventions import capture
from jaxlook.models import Decoder, residual_sites
from jaxlook.models.decoder import Params


def logit_lens(
  decoder: Decoder, params: Params, tokens: jax.Array
) -> jax.Array:
  """Logits read from the stream before each block and after the last one.

  Each goes through the final LayerNorm and the unembedding.

  Args:
    decoder: the model, over tokens.
    params: its parameters, of one seed.
    tokens: integer [B, T].

  Returns:
    [L + 1, B, T, V]; the last are the model's own logits.

  Raises:
    ValueError: as `Decoder`.
  """
  sites = residual_sites(decoder.config)
  _, seen = capture(decoder, params, tokens, sites)
  stream = jnp.stack([seen[site] for site in sites])
  norm = nn.LayerNorm(
    epsilon=decoder.config.norm_epsilon, use_fast_variance=False
  )
  normed = cast(jax.Array, norm.apply({"params": params["final_norm"]}, stream))
  return normed @ unembedding(decoder.config, params)
