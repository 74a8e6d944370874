"""Decoding: sampling and beam search, with and without a cache.

All of it is pure and jitted, batched over prompts, and over the models of
several seeds by `jax.vmap`.
"""

from jaxlook.decoding.beam import Beams, beam_gain, beam_search
from jaxlook.decoding.sampling import GREEDY, Generated, Sampling, generate

__all__ = [
  "Beams",
  "GREEDY",
  "Generated",
  "Sampling",
  "beam_gain",
  "beam_search",
  "generate",
]
