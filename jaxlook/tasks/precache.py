"""The pre-caching task: sums of sines of earlier inputs.

x_n ~ N(0, 1), z_n ~ Bernoulli(p), and

  y_n = z_n sum_{i=c..a} sin(b x_{n-i}) + (1 - z_n) x_n

with inputs (x_n, z_n) and Huber loss. sin(b x_n) is not needed at n but at
n + c .. n + a, so a model that computes it at n is pre-caching. The published
task has c = 1. With c > 1 and a horizon h < c / layers, no gradient from the
positions that need it reaches n.

Source: Wu, Morris and Levine (2024), arXiv 2404.00859, section 4. Before the
start of a sequence x counts as 0, as in the published code.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax

from jaxlook.errors import SettingError
from jaxlook.tasks.task import Batch


@dataclasses.dataclass(frozen=True)
class Precache:
  """The task at one difficulty.

  Attributes:
    p: probability that the sum is asked for, z_n = 1.
    terms: a, the distance to the farthest sine of the sum, in steps.
    frequency: b, radians per unit of x.
    length: positions per sequence.
    first: c, the distance to the nearest sine of the sum, in steps.

  Raises:
    SettingError: a field is out of range.
  """

  p: float = 1.0
  terms: int = 10
  frequency: float = 10.0
  length: int = 64
  first: int = 1

  def __post_init__(self):
    """Checks the fields."""
    if not 0.0 <= self.p <= 1.0:
      raise SettingError("p", f"must lie in [0, 1], not {self.p}")
    if not 0.0 < self.frequency < math.inf:
      raise SettingError(
        "frequency", f"must be positive and finite, not {self.frequency}"
      )
    if self.length < 1:
      raise SettingError("length", f"must be at least 1, not {self.length}")
    if not 1 <= self.terms < max(self.length, 2):
      raise SettingError(
        "terms",
        f"must lie in 1..{max(self.length, 2) - 1} for length"
        f" {self.length}, not {self.terms}",
      )
    if not 1 <= self.first <= self.terms:
      raise SettingError(
        "first",
        f"must lie in 1..{self.terms}, the number of terms, not {self.first}",
      )

  def sample(self, key: jax.Array, size: int) -> Batch:
    """Draws sequences.

    Args:
      key: a PRNG key, consumed.
      size: number of sequences B.

    Returns:
      Inputs [B, T, 2] holding (x, z) and targets [B, T, 1], float32.
    """
    key_x, key_z = jax.random.split(key)
    x_BxT = jax.random.normal(key_x, (size, self.length), jnp.float32)
    z_BxT = jax.random.bernoulli(key_z, self.p, (size, self.length))
    y_BxT = jnp.where(z_BxT, self.sums(x_BxT), x_BxT)
    return Batch(
      inputs=jnp.stack([x_BxT, z_BxT.astype(x_BxT.dtype)], axis=-1),
      targets=y_BxT[..., None],
    )

  def batch(
    self, key: jax.Array, size: int, fed: jax.Array | None = None
  ) -> Batch:
    """Calls `sample`; the form that training needs."""
    del fed
    return self.sample(key, size)

  def sums(self, x_BxT: jax.Array) -> jax.Array:
    """Returns sum_{i=c..a} sin(b x_{n-i}) at each n, [B, T]."""
    sines_BxT = jnp.sin(self.frequency * x_BxT)
    padded = jnp.pad(sines_BxT, ((0, 0), (self.terms, 0)))
    return sum(
      padded[:, self.terms - i : padded.shape[1] - i]
      for i in range(self.first, self.terms + 1)
    )  # pyright: ignore[reportReturnType]

  def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
    """Huber loss with threshold 1 at every position, [B, T]."""
    return optax.huber_loss(outputs[..., 0], batch.targets[..., 0])

  def zero_loss(self, batch: Batch) -> jax.Array:
    """The loss of predicting 0 everywhere; [B, T]."""
    return self.loss(jnp.zeros_like(batch.targets), batch)

  def trivial_loss(self, batch: Batch) -> jax.Array:
    """The chance level: predicts x if z = 0, else 0; [B, T]."""
    x_BxTx1, z_BxTx1 = jnp.split(batch.inputs, 2, axis=-1)
    return self.loss((1.0 - z_BxTx1) * x_BxTx1, batch)
