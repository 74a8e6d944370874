"""Small decoders of both families, for the tests of checkpoints."""

import jax
import numpy as np

from jaxlook.models import DecoderConfig, init

GPT2 = DecoderConfig(layers=2, width=12, heads=3, max_length=10, vocab_size=17)
NEOX = DecoderConfig(
  layers=2,
  width=24,
  heads=3,
  max_length=10,
  vocab_size=17,
  activation="gelu",
  positions="rotary",
  rotary_fraction=0.5,
  parallel_residual=True,
  tied_head=False,
)


def random_params(config: DecoderConfig, seed: int = 0):
  """Parameters that are nowhere zero or one, float32 in NumPy."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(lambda: init(config, jax.random.key(0)))
  return jax.tree.map(
    lambda x: rng.normal(scale=0.5, size=x.shape).astype(np.float32), shapes
  )
