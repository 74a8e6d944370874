"""A tiny task, a decoder and random parameters that the tests share."""

import functools

import jax

from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.couplets import Couplets
from tests.circuits import weights_test

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
  """Of one seed, none 0 or 1; in the precision of the first who asks."""
  return weights_test.drawn(CONFIG, key)


@functools.cache
def batch(task=TASK, size=SIZE, key=3):
  """Couplets of a task."""
  draw = jax.jit(functools.partial(task.batch, size=size))
  return draw(jax.random.key(key))
