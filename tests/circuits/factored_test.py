"""A factored matrix behaves as its dense product."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from jaxlook.circuits import Factored
from tests.fixtures import base


def _draw(key, *shape):
  return jax.random.normal(jax.random.key(key), shape)


def _factored(key, rows=7, columns=7, rank=3, leading=(2,)):
  return Factored(
    _draw(key, *leading, rows, rank), _draw(key + 1, *leading, rank, columns)
  )


class FactoredTest(base.Float64TestCase):
  def test_operations(self):
    """Products, transposes, rows and indices equal the dense matrix's."""
    a, b, m = _factored(0, 7, 5), _factored(2, 5, 6), _draw(4, 2, 5, 4)
    n = _draw(5, 2, 3, 7)
    dense, rows = a.dense(), jnp.array([4, 0])
    self.assertEqual(a.shape, dense.shape)
    for found, wanted in (
      ((a @ b).dense(), dense @ b.dense()),
      ((a @ m).dense(), dense @ m),
      ((n @ a).dense(), n @ dense),
      (a.mT.dense(), dense.mT),
      (a[1].dense(), dense[1]),
      (a.rows(rows), dense[:, rows]),
      (a.norm(), jnp.linalg.norm(dense, axis=(-2, -1))),
    ):
      self.assert_close(found, wanted)

  def test_numpy_on_the_left(self):
    """NumPy weights of a checkpoint multiply it as JAX arrays do."""
    a, n = _factored(0, leading=()), np.ones((3, 7))
    for found in (n @ a, a.mT @ n.T):
      self.assertIsInstance(found, Factored)
    self.assert_close((n @ a).dense(), n @ a.dense())

  def test_eigenvalues(self):
    """They are the nonzero eigenvalues of the dense matrix."""
    a = _factored(0)
    found = np.sort_complex(a.eigenvalues())
    for e in range(2):
      wanted = np.linalg.eigvals(np.asarray(a.dense()[e]))
      wanted = np.sort_complex(wanted[np.argsort(-np.abs(wanted))[:3]])
      np.testing.assert_allclose(found[e], wanted, atol=1e-10)
      np.testing.assert_allclose(
        a.eigen_score()[e], wanted.sum().real / np.abs(wanted).sum(), atol=1e-10
      )

  def test_eigen_score_of_known_matrices(self):
    """1 for a projection, -1 for its negative, 0 for a rotation or zeros."""
    thin = jnp.linalg.qr(_draw(0, 6, 2))[0]
    turn = jnp.array([[0.0, -1.0], [1.0, 0.0]])
    for middle, wanted in (
      (jnp.eye(2), 1.0),
      (-jnp.eye(2), -1.0),
      (turn, 0.0),
      (jnp.zeros((2, 2)), 0.0),
    ):
      score = Factored(thin @ middle, thin.T).eigen_score()
      np.testing.assert_allclose(score, wanted, atol=1e-12)

  def test_refuses_what_has_no_eigenvalues(self):
    """A matrix that is not square is refused; the message has its shape."""
    with self.assertRaisesRegex(ValueError, r"\(7, 5\) matrix has no eigen"):
      _factored(0, 7, 5).eigenvalues()


if __name__ == "__main__":
  absltest.main()
