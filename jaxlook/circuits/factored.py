"""A product of two thin matrices that is never multiplied out.

A circuit of a head is such a product. Its outer axes have the width D or the
size V of the vocabulary, its inner axis only the head's width H. Eigenvalues,
norms and further products need only matrices of H x H.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class Factored:
  """The matrix left @ right, with any number of leading axes.

  Attributes:
    left: [..., M, R].
    right: [..., R, K], with R small.
  """

  left: jax.Array
  right: jax.Array

  # Makes NumPy call __rmatmul__ if a NumPy matrix is on the left.
  __array_ufunc__ = None

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of the product, [..., M, K]."""
    return (*self.left.shape[:-1], self.right.shape[-1])

  @property
  def mT(self) -> "Factored":  # noqa: N802 - the name that arrays have.
    """The transpose, [..., K, M]."""
    return Factored(self.right.mT, self.left.mT)

  def __getitem__(self, index) -> "Factored":
    """Indexes the leading axes; the last two stay whole."""
    return Factored(self.left[index], self.right[index])

  def __matmul__(self, other: "Factored | jax.Array") -> "Factored":
    """The product with a matrix or a factored one on the right."""
    if isinstance(other, Factored):
      return Factored(self.left, (self.right @ other.left) @ other.right)
    return Factored(self.left, self.right @ other)

  def __rmatmul__(self, other: jax.Array) -> "Factored":
    """The product with a matrix on the left."""
    return Factored(other @ self.left, self.right)

  def dense(self) -> jax.Array:
    """The product as an array [..., M, K], which can be as large as V x V."""
    return self.left @ self.right

  def rows(self, index: jax.Array) -> jax.Array:
    """Some rows of the product.

    Args:
      index: of the rows, integer [I].

    Returns:
      [..., I, K].
    """
    return jnp.take(self.left, index, axis=-2) @ self.right

  def norm(self) -> jax.Array:
    """The Frobenius norm [...], from two R x R matrices."""
    grams = (self.left.mT @ self.left) * (self.right @ self.right.mT)
    return jnp.sqrt(jnp.maximum(jnp.sum(grams, axis=(-2, -1)), 0.0))

  def eigenvalues(self) -> np.ndarray:
    """The R eigenvalues that may differ from zero, in float64 on the host.

    They are those of right @ left, an R x R matrix.

    Returns:
      Complex [..., R], unordered.

    Raises:
      ValueError: the product is not square.
    """
    if self.shape[-2] != self.shape[-1]:
      raise ValueError(f"a {self.shape[-2:]} matrix has no eigenvalues")
    left, right = (
      np.asarray(factor, np.float64) for factor in (self.left, self.right)
    )
    return np.linalg.eigvals(right @ left).astype(np.complex128)

  def eigen_score(self) -> np.ndarray:
    """How positive the eigenvalues are: 1 all, 0 balanced, -1 none.

    It is the sum of the eigenvalues over the sum of their absolute values. For
    an OV circuit from tokens to tokens it is the copying score. It does not
    prove copying, because the eigenvectors need not be orthogonal.

    Returns:
      Float64 [...]; 0 where all eigenvalues are 0.

    Raises:
      ValueError: the product is not square.

    Source: Elhage et al. (2021), "Copying / primacy: eigenvalue analysis".
    """
    values = self.eigenvalues()
    moduli = np.abs(values).sum(axis=-1)
    return values.sum(axis=-1).real / np.where(moduli > 0.0, moduli, 1.0)
