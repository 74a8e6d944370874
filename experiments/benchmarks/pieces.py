"""What a training step consists of, compiled piece by piece.

A piece is timed alone, on random numbers of the step's own shapes, and counted
as often as a step does it. Inside a step the compiler may fuse pieces, so that
their sum is no bound on the step; what they leave unexplained is biases and
residual sums, the check for divergence, and what passing arrays on costs.
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
from experiments.benchmarks.stepping import MYOPIC, Setting
from jaxlook import models
from jaxlook.models import DecoderConfig
from jaxlook.training.config import optimizer


class Product(NamedTuple):
  """A matrix product of a model, [rows, inner] @ [inner, columns]."""

  rows: int
  inner: int
  columns: int
  repeats: int

  @property
  def flops(self) -> float:
    """Of the product and the two of its gradient."""
    return 3.0 * 2.0 * self.rows * self.inner * self.columns


def products(setting: Setting) -> list[Product]:
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


def attention_flops(setting: Setting, variant: str) -> float:
  """Of one layer, forward and backward, over the pairs that are visible.

  Two products forward. Backward two for the queries' gradient, and two for
  those of keys and values where they learn from all pairs. That the scores are
  computed again is no work that was asked for.
  """
  c = setting.model
  pairs = c.max_length * (c.max_length + 1) / 2
  one = 2.0 * setting.train.batch_size * c.heads * pairs * c.head_width
  return (4 if variant == MYOPIC else 6) * one


def step_flops(setting: Setting, variant: str) -> float:
  """Of the matrix products of a whole step."""
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
    name: in tables; the part before a colon says which kind.
    repeats: how often a step does it.
    run: does it once and waits.
    flops: floating-point operations of matrix products, each time.
  """

  name: str
  repeats: int
  run: Callable[[], None]
  flops: float = 0.0


def pieces(setting: Setting) -> list[Piece]:
  """All pieces of a step, those of attention for each variant."""
  parts = setting.train.microbatches
  return [
    *(p._replace(repeats=parts * p.repeats) for p in _of_part(setting.part)),
    *_ends(setting),
  ]


def _of_part(setting: Setting) -> list[Piece]:
  """What is done for every microbatch, here the whole batch of a setting."""
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
  """Plain products of a size that suits the machine, for its rate.

  A step does none of them, so they count 0 times.
  """

  def square(dtype: str) -> Callable[[], None]:
    a, b = _draw((_SIDE, _SIDE), (_SIDE, _SIDE))
    return _compiled(jnp.matmul, a.astype(dtype), b.astype(dtype))

  # A CPU that has no half precision emulates it, slowly.
  dtypes = ["float32"] if jax.default_backend() == "cpu" else list(SQUARES)
  return [
    Piece(SQUARES[dtype], 0, square(dtype), SQUARE_FLOPS) for dtype in dtypes
  ]


def _draw(*shapes: tuple[int, ...]) -> Iterator[jax.Array]:
  # By numpy, since JAX would compile a program for every shape.
  generator = np.random.default_rng(0)
  for shape in shapes:
    yield jnp.asarray(generator.standard_normal(shape, np.float32))


def _zeros(function: Callable[..., Any], *given: Any) -> Any:
  """Zeros in the form of what a function gives, which does not run."""
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


def _attention(setting: Setting, variant: str) -> Callable[[], None]:
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
  """The pure products: forward, to the input and to the weights."""
  x, weights, cotangent = _draw(
    (p.rows, p.inner), (p.inner, p.columns), (p.rows, p.columns)
  )
  return _compiled(
    lambda x, w, g: (x @ w, g @ w.T, x.T @ g), x, weights, cotangent
  )


def _norm(c: DecoderConfig, stream: tuple[int, ...]) -> Callable[[], None]:
  norm = nn.LayerNorm(epsilon=c.norm_epsilon, use_fast_variance=False)
  (x,) = _draw(stream)
  params = _zeros(norm.init, jax.random.key(0), x)

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


def _loss(setting: Setting) -> Callable[[], None]:
  c, task, size = setting.model, setting.task, setting.train.batch_size
  batch = _zeros(lambda key: task.batch(key, size, None), jax.random.key(0))
  columns = c.output_features or c.vocab_size or 0
  (outputs,) = _draw((size, c.max_length, columns))
  loss = jax.value_and_grad(lambda out, batch: jnp.mean(task.loss(out, batch)))
  return _compiled(loss, outputs, batch)


def _ends(setting: Setting) -> list[Piece]:
  """What a step does once, whatever the parts: the batch, the optimiser."""
  c, task, train = setting.model, setting.task, setting.train
  key = jax.random.key(0)
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
