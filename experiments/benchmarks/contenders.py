"""Who is timed on one attention: variants of ours, and what others offer.

All get arrays [batch, length, heads, head width] of the same numbers and give
the output and, for a given cotangent, the gradients to queries, keys and
values. PyTorch is optional.
"""

import dataclasses
import functools
import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxlook

DTYPES = ("float32", "bfloat16", "float16")

CAUSAL, MYOPIC, HORIZON = "causal", "myopic", "horizon:8"
RESIDUAL = "myopic/residual"
OURS = (CAUSAL, MYOPIC, HORIZON, "future_only", "leak:0.3", RESIDUAL)
JAX_NN, CUDNN = "jax.nn causal", "jax.nn causal (cuDNN)"
TWO_PATHS, TORCH = "myopic by definition", "torch causal"

# Of the published form the reference path has the costs: scores from live and
# from stopped keys, a choice between them, two products with values.
ABOUT = {
  JAX_NN: "`jax.nn.dot_product_attention(is_causal=True)` over plain XLA",
  CUDNN: "the same over cuDNN",
  TWO_PATHS: (
    '`jaxlook.attend(spec="myopic", implementation="reference")`: the form of'
    " the published code, scores from live and from stopped keys and two"
    " products with values, each N x N; XLA merges the scores where they are"
    " equal, which the published code, in PyTorch, does not"
  ),
  TORCH: "PyTorch's `scaled_dot_product_attention(is_causal=True)`",
}


@dataclasses.dataclass(frozen=True, order=True)
class Shape:
  """The shape of one attention.

  Attributes:
    batch: number of sequences.
    length: positions N.
    heads: number of heads.
    head_width: numbers a head.
  """

  batch: int
  length: int
  heads: int
  head_width: int

  def __str__(self) -> str:
    """The form of the flag, as 1x4096x4x64."""
    return "x".join(map(str, self.sizes))

  @property
  def sizes(self) -> tuple[int, int, int, int]:
    """The sizes of the axes, in order."""
    return self.batch, self.length, self.heads, self.head_width


def parse_shape(text: str) -> Shape:
  """Reads a shape.

  Args:
    text: batch, length, heads and head width, as 1x4096x4x64.

  Returns:
    The shape.

  Raises:
    ValueError: the text is not four numbers of at least 1.
  """
  parts = text.strip().split("x")
  if len(parts) != 4 or not all(
    part.isascii() and part.isdigit() and int(part) for part in parts
  ):
    raise ValueError(
      f"a shape is BATCHxLENGTHxHEADSxWIDTH, as 1x4096x4x64, not {text!r}"
    )
  return Shape(*map(int, parts))


class Prepared(NamedTuple):
  """A contender compiled for a shape, with its inputs.

  Attributes:
    run: one forward and backward pass, to its end.
    temp_bytes: of temporary arrays, by XLA's own account; None without XLA.
  """

  run: Callable[[], None]
  temp_bytes: int | None


@dataclasses.dataclass(frozen=True)
class Contender:
  """Somebody's attention.

  Attributes:
    name: in tables.
    prepare: of a shape and a dtype's name.
    scores: how many float32 N x N arrays a head it holds at once, roughly.
  """

  name: str
  prepare: Callable[[Shape, str], Prepared]
  scores: int = 0

  def bytes_needed(self, shape: Shape) -> int:
    """A rough count of the memory it takes, inputs and gradients included."""
    pairs = shape.batch * shape.heads * shape.length**2
    return 4 * (self.scores * pairs + 16 * int(np.prod(shape.sizes)))


def contenders(dtype: str) -> dict[str, Contender]:
  """Everyone who can compete here, by name."""
  gpu = jax.default_backend() == "gpu"
  found = [
    Contender(spec, functools.partial(prepare_jax, _ours(spec)))
    for spec in OURS
  ]
  # The counts of score arrays are peaks that were seen on a CPU.
  found.append(
    Contender(JAX_NN, functools.partial(prepare_jax, _library("xla")), 8)
  )
  if gpu and dtype != "float32":
    found.append(
      Contender(CUDNN, functools.partial(prepare_jax, _library("cudnn")))
    )
  by_definition = functools.partial(
    jaxlook.attend, spec=MYOPIC, implementation="reference"
  )
  found.append(
    Contender(
      TWO_PATHS, functools.partial(prepare_jax, (by_definition, False)), 12
    )
  )
  torch = torch_module()
  if torch is not None and (torch.cuda.is_available() or not gpu):
    found.append(Contender(TORCH, _prepare_torch))
  return {contender.name: contender for contender in found}


def torch_module() -> ModuleType | None:
  """PyTorch, or None where it is not installed."""
  try:
    return importlib.import_module("torch")
  except ImportError:
    return None


def cores() -> int:
  """Processor cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def arrays(shape: Shape) -> list[np.ndarray]:
  """Queries, keys, values and a cotangent, float32; the same every time."""
  generator = np.random.default_rng(0)
  return [generator.standard_normal(shape.sizes, np.float32) for _ in range(4)]


def _ours(spec: str) -> tuple[Callable[..., jax.Array], bool]:
  """Our attention, and whether it reads a context."""
  attend = functools.partial(jaxlook.attend, spec=spec, implementation="fused")
  if spec != RESIDUAL:
    return attend, False

  def with_context(query, key, value, context_key, context_value):
    return attend(query, key, value, context=(context_key, context_value))

  return with_context, True


def _library(name: Any) -> tuple[Callable[..., jax.Array], bool]:
  return functools.partial(
    jax.nn.dot_product_attention, is_causal=True, implementation=name
  ), False


def prepare_jax(
  attention: tuple[Callable[..., jax.Array], bool], shape: Shape, dtype: str
) -> Prepared:
  """Compiles an attention, forward and backward.

  Args:
    attention: the function, and whether it reads context keys and values, too.
    shape: of its arrays.
    dtype: of its arrays.

  Returns:
    What runs it.
  """
  function, has_context = attention
  *inputs, cotangent = (jnp.asarray(x, dtype) for x in arrays(shape))
  if has_context:
    # What W_K and W_V make of the stopped input: equal values, another path.
    inputs += inputs[1:]

  def both(inputs, cotangent):
    out, pull = jax.vjp(function, *inputs)
    return out, pull(cotangent)

  compiled = jax.jit(both).lower(inputs, cotangent).compile()

  def run() -> None:
    jax.block_until_ready(compiled(inputs, cotangent))

  analysis = compiled.memory_analysis()
  return Prepared(run, analysis and analysis.temp_size_in_bytes)


def _prepare_torch(shape: Shape, dtype: str) -> Prepared:
  torch: Any = torch_module()
  on_gpu = jax.default_backend() == "gpu"
  torch.set_num_threads(cores())
  *inputs, cotangent = (
    # The layout that torch asks for, as models have it: a view, no copy.
    torch.from_numpy(x)
    .to("cuda" if on_gpu else "cpu", getattr(torch, dtype))
    .transpose(1, 2)
    for x in arrays(shape)
  )
  for x in inputs:
    x.requires_grad_()
  attend = torch.nn.functional.scaled_dot_product_attention

  def run() -> None:
    out = attend(*inputs, is_causal=True)
    torch.autograd.grad(out, inputs, cotangent)
    if on_gpu:
      torch.cuda.synchronize()

  return Prepared(run, None)
