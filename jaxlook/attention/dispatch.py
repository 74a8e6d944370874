"""Chooses the fast path for a device, dtype and length.

`blockwise` (plain JAX) runs on CPUs, in steps that fit the cache. On
accelerators it runs in larger steps: for float32 on GPUs, where the kernels
cannot use tensor cores; for float64; and for short sequences, whose scores are
cheap. `pallas_launch` (kernels, not yet run on a device) runs longer sequences:
bfloat16 and float16 on GPUs, bfloat16 and float32 on TPUs.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import custom_batching, lax

from jaxlook.attention import blockwise, pallas_launch
from jaxlook.attention.block_sizes import BlockLimits
from jaxlook.attention.masks import DistanceRanges

# Chosen from the memory and cores of accelerators; not yet measured on one.
WIDE = BlockLimits(
  one_panel=512,
  rows=512,
  columns=4096,
  short_bytes=2**30,
  long_bytes=2**28,
  lanes=1,
)
_KERNELS_FROM = 512  # positions
_TPU_BYTES = 12 * 2**20  # of a TPU's 16 MiB, for arrays that kernels loop over


def forward(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  ranges: DistanceRanges,
  scale: float,
) -> tuple[jax.Array, jax.Array]:
  """Runs `blockwise.forward`, or its kernel, on this device."""
  static = dict(ranges=ranges, scale=scale)
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
  """Runs `blockwise.backward`, or its kernels, on this device."""
  return _run("backward", (query, key, value, out, lse, grad), static)


_FIRST_DERIVATIVES_ONLY = (
  "the fused path supports first derivatives only; use"
  " implementation='reference' for others"
)


def _run(name: str, arrays: tuple[jax.Array, ...], static: dict[str, Any]):
  on_cpu = _fold_vmap(functools.partial(getattr(blockwise, name), **static))
  backend = jax.default_backend()
  if backend == "cpu":
    return on_cpu(*arrays)
  # The arrays may still be on the CPU; that is known only at compile time.
  path = accelerator_path(name, backend, arrays[0])
  on_device = _fold_vmap(functools.partial(path, **static))
  return lax.platform_dependent(*arrays, cpu=on_cpu, default=on_device)


def _fold_vmap(function: Callable[..., Any]) -> Callable[..., Any]:
  """Makes `vmap` fold its axis into the batch, so that steps keep their size.

  Args:
    function: maps arrays whose first axis is the batch to such arrays.

  Returns:
    The same function; differentiating it raises ValueError.
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
    raise ValueError(_FIRST_DERIVATIVES_ONLY)

  return once


def accelerator_path(
  name: str, backend: str, query: jax.Array
) -> Callable[..., Any]:
  """Chooses the function for an accelerator.

  Args:
    name: `forward` or `backward`.
    backend: `gpu` or `tpu`, from `jax.default_backend`.
    query: [B, T, N, H], or its shape and dtype.

  Returns:
    The function `name` of `pallas_launch` or of `blockwise`.
  """
  _, length, _, width = query.shape
  half = jnp.finfo(query.dtype).bits == 16
  whole = 4 * length * max(width, 128) * query.dtype.itemsize
  has_kernel = {
    "gpu": half,
    "tpu": query.dtype in (jnp.bfloat16, jnp.float32) and whole <= _TPU_BYTES,
  }
  if has_kernel.get(backend, False) and length >= _KERNELS_FROM:
    return functools.partial(getattr(pallas_launch, name), platform=backend)
  return functools.partial(getattr(blockwise, name), limits=WIDE)
