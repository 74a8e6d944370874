"""Floating-point operations of a training step, those of matrix products."""

from typing import NamedTuple

from experiments.benchmarks.stepping import MYOPIC, Setting


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
