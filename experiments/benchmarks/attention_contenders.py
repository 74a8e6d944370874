"""The contenders of the attention benchmark: our variants, and others' code.

All take arrays [batch, length, heads, head width] of the same numbers. They
return the output and, for a given cotangent, the gradients to queries, keys and
values. PyTorch is optional.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxlook
from experiments.benchmarks import machine
from jaxlook import numerals

DTYPES = ("float32", "bfloat16", "float16")

CAUSAL, MYOPIC, HORIZON = "causal", "myopic", "horizon:8"
RESIDUAL = "myopic/residual"
OURS = (CAUSAL, MYOPIC, HORIZON, "future_only", "leak:0.3", RESIDUAL)
JAX_NN, CUDNN = "jax.nn causal", "jax.nn causal (cuDNN)"
TWO_PATHS, TORCH = "myopic by definition", "torch causal"

# The reference path costs what the published form costs: scores from live and
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
class AttentionShape:
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
    """The form that the flag takes, as 1x4096x4x64."""
    return "x".join(map(str, self.sizes))

  @property
  def sizes(self) -> tuple[int, int, int, int]:
    """The sizes of the axes, in order."""
    return self.batch, self.length, self.heads, self.head_width

  def least_bytes(self, dtype: str) -> int:
    """Bytes of queries, keys, values, output and their cotangents."""
    return 8 * math.prod(self.sizes) * jnp.dtype(dtype).itemsize


def parse_shape(text: str) -> AttentionShape:
  """Reads a shape.

  Args:
    text: batch, length, heads and head width, as 1x4096x4x64.

  Returns:
    The shape.

  Raises:
    ValueError: the text is not four numbers of at least 1.
  """
  parts = text.strip().split("x")
  try:
    sizes = [numerals.read_whole(part) for part in parts]
  except ValueError:
    sizes = []
  if len(sizes) != 4 or min(sizes) < 1:
    raise ValueError(
      f"a shape is BATCHxLENGTHxHEADSxWIDTH, as 1x4096x4x64, not {text!r}"
    )
  return AttentionShape(*sizes)


def parse_shapes(text: str) -> tuple[AttentionShape, ...]:
  """Reads shapes that spaces separate, as `parse_shape`; each is taken once."""
  return tuple(dict.fromkeys(map(parse_shape, text.split())))


class Prepared(NamedTuple):
  """A contender compiled for a shape, with its inputs.

  Attributes:
    run: does one forward and backward pass and waits for it.
    temp_bytes: bytes of temporary arrays that XLA reports; None without XLA.
  """

  run: Callable[[], None]
  temp_bytes: int | None


@dataclasses.dataclass(frozen=True)
class Contender:
  """An implementation of attention that the benchmark times.

  Attributes:
    name: in tables.
    prepare: compiles it for a shape and the name of a dtype.
    scores: roughly how many float32 N x N arrays it holds at once for each
      head.
  """

  name: str
  prepare: Callable[[AttentionShape, str], Prepared]
  scores: int = 0

  def bytes_needed(self, shape: AttentionShape) -> int:
    """Roughly the memory that it takes, with inputs and gradients."""
    pairs = shape.batch * shape.heads * shape.length**2
    return 4 * (self.scores * pairs + 16 * math.prod(shape.sizes))


def contenders(dtype: str) -> dict[str, Contender]:
  """All contenders that this machine can run, by name."""
  gpu = jax.default_backend() == "gpu"
  found = [
    Contender(spec, functools.partial(prepare_jax, _ours(spec)))
    for spec in OURS
  ]
  # The numbers of score arrays are peaks measured on a CPU.
  found.append(
    Contender(JAX_NN, functools.partial(prepare_jax, _jax_nn("xla")), 8)
  )
  if gpu and dtype != "float32":
    found.append(
      Contender(CUDNN, functools.partial(prepare_jax, _jax_nn("cudnn")))
    )
  by_definition = functools.partial(
    jaxlook.attend, spec=MYOPIC, implementation="reference"
  )
  found.append(
    Contender(
      TWO_PATHS, functools.partial(prepare_jax, (by_definition, False)), 12
    )
  )
  torch = machine.torch_module()
  if torch is not None and (torch.cuda.is_available() or not gpu):
    found.append(Contender(TORCH, _prepare_torch))
  return {contender.name: contender for contender in found}


def arrays(shape: AttentionShape) -> list[np.ndarray]:
  """Queries, keys, values and a cotangent, float32; the same every time."""
  generator = np.random.default_rng(0)
  return [generator.standard_normal(shape.sizes, np.float32) for _ in range(4)]


def _ours(spec: str) -> tuple[Callable[..., jax.Array], bool]:
  """Our attention, and whether it takes context keys and values."""
  attend = functools.partial(jaxlook.attend, spec=spec, implementation="fused")
  if spec != RESIDUAL:
    return attend, False

  def with_context(query, key, value, context_key, context_value):
    return attend(query, key, value, context=(context_key, context_value))

  return with_context, True


def _jax_nn(name: Any) -> tuple[Callable[..., jax.Array], bool]:
  return functools.partial(
    jax.nn.dot_product_attention, is_causal=True, implementation=name
  ), False


def prepare_jax(
  attention: tuple[Callable[..., jax.Array], bool],
  shape: AttentionShape,
  dtype: str,
) -> Prepared:
  """Compiles an attention, forward and backward.

  Args:
    attention: the function, and whether it takes context keys and values.
    shape: of its arrays.
    dtype: of its arrays.

  Returns:
    The compiled attention with its inputs.
  """
  function, has_context = attention
  *inputs, cotangent = (jnp.asarray(x, dtype) for x in arrays(shape))
  if has_context:
    # Context keys and values equal the own ones; the gradient path differs.
    inputs += inputs[1:]

  def both(inputs, cotangent):
    out, pull = jax.vjp(function, *inputs)
    return out, pull(cotangent)

  compiled = jax.jit(both).lower(inputs, cotangent).compile()

  def run() -> None:
    jax.block_until_ready(compiled(inputs, cotangent))

  analysis = compiled.memory_analysis()
  return Prepared(run, analysis and analysis.temp_size_in_bytes)


def _prepare_torch(shape: AttentionShape, dtype: str) -> Prepared:
  torch: Any = machine.torch_module()
  on_gpu = jax.default_backend() == "gpu"
  torch.set_num_threads(machine.cores())
  *inputs, cotangent = (
    # PyTorch expects heads before positions. Models pass such a view, too.
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
