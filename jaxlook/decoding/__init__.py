"""Decoding: continuing prompts with a model.

  sampling  greedy decoding, and sampling by temperature, top-k and top-p
  beam      beam search, and how much it gains over greedy decoding
  cache     next-token logits, with and without a key-value cache

All functions are pure, jitted and batched over prompts. Use `jax.vmap` for
several seeds.
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
