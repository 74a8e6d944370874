"""A tiny task, a decoder and random parameters that the tests share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook import models
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.couplets import Couplets

TASK = Couplets(p=0.5, fillers=2, modifiers=2)
CONFIG = DecoderConfig(
  layers=2,
  width=16,
  heads=2,
  max_length=TASK.length,
  vocab_size=TASK.vocab_size,
  mlp_width=8,
)
OPEN, BOTTLENECK = Decoder(CONFIG), Decoder(CONFIG, barrier=TASK.barrier)
SIZE = 48


@functools.cache
def params(key=0):
  """Of one seed, none 0 or 1; float64."""
  draw = np.random.default_rng(key)
  shapes = jax.eval_shape(lambda: models.init(CONFIG, jax.random.key(0)))

  def drawn(path, leaf):
    gain = float(path[-1].key == "scale")
    return jnp.asarray(gain + 0.5 * draw.normal(size=leaf.shape))

  return jax.tree_util.tree_map_with_path(drawn, shapes)


@functools.cache
def batch(task=TASK, size=SIZE, key=3):
  """Couplets of a task."""
  draw = jax.jit(functools.partial(task.batch, size=size))
  return draw(jax.random.key(key))


@functools.partial(jax.jit, static_argnums=0)
def logits(decoder, params, inputs):
  """What a decoder gives, [B, T, V]."""
  return models.apply(decoder, params, inputs)
