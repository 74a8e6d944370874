"""The pieces of a training step, each compiled by itself.

A piece is timed alone, on random numbers of the step's own shapes, and counted
as often as a step does it. Inside a step the compiler may fuse pieces, so their
sum is not a bound on the step. Not among the pieces are biases and residual
sums, the check for divergence, and the cost of passing arrays on.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxlook
from experiments.benchmarks.train_step_setting import MYOPIC, StepSetting
from jaxlook import models
from jaxlook.keys import make_key
from jaxlook.models import DecoderConfig
from jaxlook.training.optimizers import optimizer


class Product(NamedTuple):
  """A matrix product of a model, [rows, inner] @ [inner, columns]."""

  rows: int
  inner: int
  columns: int
  repeats: int

  @property
  def flops(self) -> float:
    """FLOP of the product and the two products of its gradient."""
    return 3.0 * 2.0 * self.rows * self.inner * self.columns


def products(setting: StepSetting) -> list[Product]:
  """The matrix products with weights, of all layers."""
  c, rows = setting.model, setting.tokens
  found = [Product(rows, c.width, c.width, 4 * c.layers)]
  if c.hidden_width:
    found += [
      Product(rows, c.width, c.hidden_width, c.layers),
      Product(rows, c.hidden_width, c.width, c.layers),
    ]
  if c.input_features:
    found.append(Product(rows, c.input_features, c.width, 1))
  columns = c.output_features or c.vocab_size or 0
  return [*found, Product(rows, c.width, columns, 1)]


def attention_flops(setting: StepSetting, variant: str) -> float:
  """FLOP of one layer, forward and backward, over the visible pairs.

  Two products forward. Backward there are two for the queries' gradient, and
  two for those of keys and values where they learn from all pairs. Computing
  the scores again does not count.
  """
  c = setting.model
  pairs = c.max_length * (c.max_length + 1) / 2
  one = 2.0 * setting.train.batch_size * c.heads * pairs * c.head_width
  return (4 if variant == MYOPIC else 6) * one


def step_flops(setting: StepSetting, variant: str) -> float:
  """FLOP of the matrix products of a whole step."""
  return setting.model.layers * attention_flops(setting, variant) + sum(
    product.repeats * product.flops for product in products(setting)
  )


ATTENTION = "attention"
MATMULS = "matmuls"
SQUARES = {
  "float32": "1024 x 1024 x 1024",
  "bfloat16": "1024 x 1024 x 1024, bfloat16",
}
_SIDE = 1024
SQUARE_FLOPS = 2.0 * _SIDE**3


class Piece(NamedTuple):
  """A part of a step.

  Attributes:
    name: in tables; the part before a colon is the kind.
    repeats: how often a step does it.
    run: does it once and waits.
    flops: floating-point operations of its matrix products, each time.
  """

  name: str
  repeats: int
  run: Callable[[], None]
  flops: float = 0.0


def pieces(setting: StepSetting) -> list[Piece]:
  """All pieces of a step, those of attention for each variant."""
  parts = setting.train.microbatches
  return [
    *(p._replace(repeats=parts * p.repeats) for p in _of_part(setting.part)),
    *_ends(setting),
  ]


def _of_part(setting: StepSetting) -> list[Piece]:
  """The pieces of one microbatch, here the whole batch of a setting."""
  c = setting.model
  norms = c.layers * (2 if c.hidden_width else 1) + 1
  stream = (setting.train.batch_size, c.max_length, c.width)
  found = [
    Piece(
      f"{ATTENTION}: {variant}",
      c.layers,
      _attention(setting, variant),
      attention_flops(setting, variant),
    )
    for variant in setting.variants
  ]
  found += [
    Piece(
      f"{MATMULS}: {p.rows} x {p.inner} x {p.columns}",
      p.repeats,
      _matmul(p),
      p.flops,
    )
    for p in products(setting)
  ]
  found.append(Piece("LayerNorm", norms, _norm(c, stream)))
  if c.hidden_width:
    hidden = (*stream[:2], c.hidden_width)
    found.append(
      Piece(f"activation, {c.activation}", c.layers, _activation(c, hidden))
    )
  return [*found, Piece("loss", 1, _loss(setting))]


def squares() -> list[Piece]:
  """Square products of a size that runs well, for the machine's rate.

  They are not part of a step, so they count 0 times.
  """

  def square(dtype: str) -> Callable[[], None]:
    a, b = _draw((_SIDE, _SIDE), (_SIDE, _SIDE))
    return _compiled(jnp.matmul, a.astype(dtype), b.astype(dtype))

  # A CPU without half precision emulates it slowly.
  dtypes = ["float32"] if jax.default_backend() == "cpu" else list(SQUARES)
  return [
    Piece(SQUARES[dtype], 0, square(dtype), SQUARE_FLOPS) for dtype in dtypes
  ]


def _draw(*shapes: tuple[int, ...]) -> Iterator[jax.Array]:
  # With NumPy, since JAX would compile a program for every shape.
  generator = np.random.default_rng(0)
  for shape in shapes:
    yield jnp.asarray(generator.standard_normal(shape, np.float32))


def _zeros(function: Callable[..., Any], *given: Any) -> Any:
  """Zeros in the shape of what a function returns, without running it."""
  return jax.tree.map(
    lambda like: jnp.asarray(np.zeros(like.shape, like.dtype)),
    jax.eval_shape(function, *given),
  )


def _compiled(function: Callable[..., Any], *given: Any) -> Callable[[], None]:
  compiled = jax.jit(function).lower(*given).compile()

  def run() -> None:
    jax.block_until_ready(compiled(*given))

  return run


def _both(
  function: Callable[..., jax.Array], *inputs: jax.Array
) -> Callable[[], None]:
  """Forward and backward, for a cotangent."""
  (cotangent,) = _draw(jax.eval_shape(function, *inputs).shape)

  def both(cotangent, *inputs):
    out, pull = jax.vjp(function, *inputs)
    return out, pull(cotangent)

  return _compiled(both, cotangent, *inputs)


def _attention(setting: StepSetting, variant: str) -> Callable[[], None]:
  c = setting.model
  shape = (setting.train.batch_size, c.max_length, c.heads, c.head_width)
  query, key, value = _draw(shape, shape, shape)
  if not variant.endswith("/residual"):
    return _both(
      functools.partial(jaxlook.attend, spec=variant), query, key, value
    )

  def attend(query, key, value, *context):
    return jaxlook.attend(query, key, value, spec=variant, context=context)

  return _both(attend, query, key, value, key, value)


def _matmul(p: Product) -> Callable[[], None]:
  """The product alone, forward, to its input and to its weights."""
  x, weights, cotangent = _draw(
    (p.rows, p.inner), (p.inner, p.columns), (p.rows, p.columns)
  )
  return _compiled(
    lambda x, w, g: (x @ w, g @ w.T, x.T @ g), x, weights, cotangent
  )


def _norm(c: DecoderConfig, stream: tuple[int, ...]) -> Callable[[], None]:
  norm = nn.LayerNorm(epsilon=c.norm_epsilon, use_fast_variance=False)
  (x,) = _draw(stream)
  params = _zeros(norm.init, make_key(0), x)

  def both(params, x, g):
    out, pull = jax.vjp(norm.apply, params, x)
    return out, pull(g)

  return _compiled(both, params, x, x)


def _activation(
  c: DecoderConfig, hidden: tuple[int, ...]
) -> Callable[[], None]:
  functions = {
    "relu": nn.relu,
    "gelu": functools.partial(nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
  }
  return _both(functions[c.activation], *_draw(hidden))


def _loss(setting: StepSetting) -> Callable[[], None]:
  c, task, size = setting.model, setting.task, setting.train.batch_size
  batch = _zeros(lambda key: task.batch(key, size, None), make_key(0))
  columns = c.output_features or c.vocab_size or 0
  (outputs,) = _draw((size, c.max_length, columns))
  loss = jax.value_and_grad(lambda out, batch: jnp.mean(task.loss(out, batch)))
  return _compiled(loss, outputs, batch)


def _ends(setting: StepSetting) -> list[Piece]:
  """The pieces that a step does once, however many microbatches it has."""
  c, task, train = setting.model, setting.task, setting.train
  key = make_key(0)
  params = _zeros(functools.partial(models.init, c), key)
  rule = optimizer(train)

  def update(grads, state, params):
    updates, state = rule.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  return [
    Piece(
      "optimiser",
      1,
      _compiled(update, params, _zeros(rule.init, params), params),
    ),
    Piece(
      "drawing the batch",
      1,
      _compiled(lambda key: task.batch(key, train.batch_size, None), key),
    ),
  ]
