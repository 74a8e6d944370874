"""Which of the fast paths runs where.

In plain JAX (`panels`): on CPUs, in steps that fit the cache; on accelerators,
in steps that fill the device, for float32 on a GPU (where the kernels have no
tensor cores) and float64, and for short sequences, whose few scores are cheap.
As kernels (`accelerated`; not yet run on a device): bfloat16 and float16 on
GPUs, bfloat16 and float32 on TPUs, from a length on at which scores are worth
not writing to memory.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import custom_batching, lax

from jaxlook.attention import blockwise, pallas_launch
from jaxlook.attention.block_sizes import Limits
from jaxlook.attention.masks import DistanceRanges

# Chosen by the size of the devices' memory and cores, not yet measured there.
WIDE = Limits(
  one_panel=512,
  rows=512,
  columns=4096,
  short_bytes=2**30,
  long_bytes=2**28,
  lanes=1,
)
_KERNELS_FROM = 512  # positions
_TPU_BYTES = 12 * 2**20  # of a TPU's 16 MiB, for what kernels loop over


def forward(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  pairs: DistanceRanges,
  scale: float,
) -> tuple[jax.Array, jax.Array]:
  """`panels.forward`, by the path that suits the device."""
  static = dict(pairs=pairs, scale=scale)
  return _run("forward", (query, key, value), static)


def backward(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  out: jax.Array,
  lse: jax.Array,
  grad: jax.Array,
  **static: Any,
) -> tuple[jax.Array, tuple[jax.Array, ...], tuple[jax.Array, ...]]:
  """`panels.backward`, by the path that suits the device."""
  return _run("backward", (query, key, value, out, lse, grad), static)


_ONCE = (
  "the fused path has first derivatives only; use implementation='reference'"
)


def _run(name: str, arrays: tuple[jax.Array, ...], static: dict[str, Any]):
  here = _folding(functools.partial(getattr(blockwise, name), **static))
  backend = jax.default_backend()
  if backend == "cpu":
    return here(*arrays)
  # Arrays may live on the host all the same: that is known when they compile.
  path = accelerator_path(name, backend, arrays[0])
  there = _folding(functools.partial(path, **static))
  return lax.platform_dependent(*arrays, cpu=here, default=there)


def _folding(function: Callable[..., Any]) -> Callable[..., Any]:
  """Makes `vmap` lengthen the batch, so that steps keep their size.

  Args:
    function: of arrays whose first axis is the batch, and giving such arrays.

  Returns:
    The same function; it refuses to be differentiated.
  """
  folding = custom_batching.custom_vmap(function)

  @folding.def_vmap
  def _(size: int, mapped: list[bool], *arrays: jax.Array):
    whole = [
      x if is_mapped else jnp.broadcast_to(x[None], (size, *x.shape))
      for x, is_mapped in zip(arrays, mapped, strict=True)
    ]
    outs = folding(*(x.reshape(-1, *x.shape[2:]) for x in whole))
    outs = jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), outs)
    return outs, jax.tree.map(lambda _: True, outs)

  once = jax.custom_jvp(lambda *arrays: folding(*arrays))

  @once.defjvp
  def _(primals: Any, tangents: Any):
    del primals, tangents
    raise ValueError(_ONCE)

  return once


def accelerator_path(
  name: str, backend: str, query: jax.Array
) -> Callable[..., Any]:
  """The function of that name for a device that is no CPU.

  Args:
    name: `forward` or `backward`.
    backend: `gpu` or `tpu`, as `jax.default_backend` has it.
    query: [B, T, N, H], or its shape and dtype.

  Returns:
    The function of `accelerated` or of `panels`.
  """
  _, length, _, width = query.shape
  half = jnp.finfo(query.dtype).bits == 16
  whole = 4 * length * max(width, 128) * query.dtype.itemsize
  suits = {
    "gpu": half,
    "tpu": query.dtype in (jnp.bfloat16, jnp.float32) and whole <= _TPU_BYTES,
  }
  if suits.get(backend, False) and length >= _KERNELS_FROM:
    return functools.partial(getattr(pallas_launch, name), platform=backend)
  return functools.partial(getattr(blockwise, name), limits=WIDE)
