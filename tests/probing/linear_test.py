"""Tests of the probes against closed forms, direct optima and loops."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.special
from absl.testing import parameterized

from jaxlook.probing import linear
from tests.fixtures import base

_ridge = jax.jit(linear.ridge, static_argnames="penalty")
_logistic = jax.jit(
  linear.logistic, static_argnames=("classes", "steps", "penalty")
)


def _data(seed, rows=60, width=5, targets=3, noise=0.5):
  """Correlated features off the origin, and noisy linear targets, twice."""
  rng = np.random.default_rng(seed)
  mix = rng.normal(size=(width, width))
  weights = rng.normal(size=(width, targets))
  sets = []
  for _ in range(2):
    x = rng.normal(size=(rows, width)) @ mix + 3.0
    sets += [x, x @ weights + noise * rng.normal(size=(rows, targets)) + 1.0]
  return sets


class RidgeTest(base.Float64TestCase):
  @parameterized.parameters(1e-3, 0.5)
  def test_equals_least_squares_with_extra_rows(self, penalty):
    """Ridge is least squares with sqrt(n penalty) rows that ask for zero."""
    x, y, other, wanted = _data(0)
    mean, std, n, width = x.mean(0), x.std(0), *x.shape
    rows = np.concatenate(
      [(x - mean) / std, np.sqrt(n * penalty) * np.eye(width)]
    )
    right = np.concatenate([y - y.mean(0), np.zeros((width, y.shape[1]))])
    weights = np.linalg.lstsq(rows, right)[0]
    told = (other - mean) / std @ weights + y.mean(0)
    expected = 1 - ((told - wanted) ** 2).mean(0) / wanted.var(0)
    found = _ridge(x, y, other, wanted, penalty=penalty)
    self.assert_close(found, expected, atol=1e-10)
    self.assertLess(found.max(), 1.0)

  def test_linear_targets_are_explained_and_noise_is_not(self):
    """R^2 is 1 for a linear function, and near 0 for shuffled targets."""
    x, y, other, wanted = _data(1, rows=4000, noise=0.0)
    found = _ridge(x, y, other, wanted, penalty=1e-9)
    self.assert_close(found, np.ones(3), atol=1e-6)
    rng = np.random.default_rng(2)
    shuffled = _ridge(x, rng.permutation(y), other, rng.permutation(wanted))
    self.assertLess(np.abs(shuffled).max(), 0.02)
    # Fitted to the wrong sign, the mean would have been better.
    self.assertLess(_ridge(x, -y, other, wanted).max(), -1.0)

  def test_units_of_features_do_not_matter(self):
    """Scaling and shifting features leaves the score."""
    x, y, other, wanted = _data(3)
    scale = np.array([[1e3, 1e-3, -1.0, 7.0, 0.1]])
    self.assert_close(
      _ridge(x * scale + 2.0, y, other * scale + 2.0, wanted),
      _ridge(x, y, other, wanted),
      atol=1e-8,
    )

  def test_constant_features_and_targets(self):
    """A constant feature is as if it were not there; a constant target 0."""
    x, y, other, wanted = _data(4)
    one = np.full((len(x), 1), 0.1)
    self.assert_close(
      _ridge(np.hstack([x, one]), y, np.hstack([other, one + 5]), wanted),
      _ridge(x, y, other, wanted),
    )
    self.assert_close(_ridge(x, one, other, one), np.zeros(1))

  def test_by_position_scores_the_same_predictions(self):
    """R^2 over an axis is R^2 of each slice around the slice's own mean."""
    rng = np.random.default_rng(5)
    told, y = rng.normal(size=(2, 7, 3, 2))
    found = linear.r_squared(told, y)
    for p, k in np.ndindex(3, 2):
      residual = np.sum((told[:, p, k] - y[:, p, k]) ** 2)
      expected = 1 - residual / (7 * y[:, p, k].var())
      self.assert_close(found[p, k], expected)

  def test_vmap_is_a_loop(self):
    """Seeds under vmap, as one after the other; ridge and logistic."""
    sets = [np.stack(each) for each in zip(_data(6), _data(7), strict=True)]
    found = jax.vmap(linear.ridge)(*sets)
    by_seed = [_ridge(*(each[s] for each in sets)) for s in (0, 1)]
    self.assert_close(found, jnp.stack(by_seed), atol=1e-10)
    labels = [(each[..., 0] > 0).astype(np.int32) for each in sets[1::2]]
    inputs = (sets[0], labels[0], sets[2], labels[1])

    def fit(*arrays):
      return jnp.stack(_logistic(*arrays, classes=2, steps=5))

    found = jax.vmap(fit)(*inputs)
    by_seed = [fit(*(each[s] for each in inputs)) for s in (0, 1)]
    self.assert_close(found, jnp.stack(by_seed), atol=1e-10)

  @parameterized.parameters(0.0, -1.0, np.inf)
  def test_refuses_penalties(self, penalty):
    with self.assertRaisesRegex(ValueError, "penalty must be positive"):
      linear.ridge(*_data(0), penalty=penalty)


class Float32Test(base.TestCase):
  @parameterized.parameters((256, 1e-4), (768, 1e-6))
  def test_collinear_features_are_safe(self, width, penalty):
    """Many features of rank 3 off the origin: float32 agrees with float64.

    A penalty below rounding is raised, else the Cholesky factor is NaN.
    """
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(3000, 3))
    x = hidden @ rng.normal(size=(3, width)) + 30.0
    y = hidden @ rng.normal(size=(3, 2)) + rng.normal(size=(3000, 2))
    halves = [x[:1500], y[:1500], x[1500:], y[1500:]]
    single = [a.astype(np.float32) for a in halves]
    found = np.asarray(_ridge(*single, penalty=penalty), np.float64)
    with jax.enable_x64(True):
      expected = np.asarray(_ridge(*halves, penalty=penalty))
    self.assertGreater(expected.min(), 0.1)
    # Some hundred float32 roundings of numbers of size one.
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=2e-5)


def _massive(rng, size):
  """Normal, but for one row; as the first token of a language model."""
  x = rng.normal(size=size)
  x[7] *= 1e4
  return x


def _neurons(rng, size):
  """Neurons that fire in 1 of 740 rows."""
  return np.maximum(rng.normal(size=size) - 3, 0)


_HEAVY = {
  "exponential": lambda rng, size: rng.exponential(size=size),
  "shifted": lambda rng, size: np.maximum(rng.normal(size=size) - 1, 0),
  "t": lambda rng, size: rng.standard_t(5, size=size),
  "log-normal": lambda rng, size: np.exp(2 * rng.normal(size=size)),
  "massive": _massive,
  "neurons": _neurons,
  "indicators": lambda rng, size: rng.uniform(size=size) < 0.004,
}


class HeavyTailTest(base.TestCase):
  """Rare and heavy-tailed features are used like any others."""

  SIZE = (20_000, 3)

  def _halves(self, kind):
    x = np.float32(_HEAVY[kind](np.random.default_rng(0), self.SIZE))
    return x[: len(x) // 2], x[len(x) // 2 :]

  @parameterized.parameters(*_HEAVY)
  def test_a_feature_explains_itself(self, kind):
    """R^2 of each feature as the target is 1."""
    fit, held_out = self._halves(kind)
    found = _ridge(fit, fit, held_out, held_out)
    self.assertGreater(found.min(), 0.99)

  @parameterized.parameters(*_HEAVY)
  def test_a_feature_tells_whether_it_is_large(self, kind):
    """A logistic probe separates what one feature separates."""
    fit, held_out = self._halves(kind)
    median = np.median(fit[:, 0])
    labels = [(x[:, 0] > median).astype(np.int32) for x in (fit, held_out)]
    found = _logistic(fit, labels[0], held_out, labels[1], classes=2)
    common = max(labels[1].mean(), 1 - labels[1].mean())
    self.assertGreater(found.accuracy, common + 0.6 * (1 - common))

  def test_a_row_of_noise_weighs_little(self):
    """What one row of a rare feature says is not applied in full.

    The feature is 1 in one row of the fit, where the target is 8, and 5 in one
    held-out row. With the deviation as the scale, the probe would say 40 there.
    """
    rng = np.random.default_rng(0)
    x = np.zeros((2, 2000, 1), np.float32)
    x[0, 3], x[1, 4] = 1.0, 5.0
    y = rng.normal(size=(2000, 1)).astype(np.float32)
    y[3] = 8.0
    told = linear.predict(linear.fit_ridge(x[0], y), x[1])[4, 0]
    self.assertBetween(told, 20.0, 36.0)

  def test_constant_targets_score_zero(self):
    """Also where the mean of many equal numbers is not quite that number."""
    targets = np.full((5000, 1), 0.1, np.float32)
    told = targets + np.float32(0.5)
    self.assert_close(linear.r_squared(told, targets), np.zeros(1))

  @parameterized.parameters(
    (1e-30, 0.0), (1e-20, 0.0), (1e18, 0.0), (1e30, 0.0), (1.0, 1e5)
  )
  def test_units_and_offsets(self, unit, offset):
    """No unit and no offset hides a feature or a target that varies."""
    x = np.random.default_rng(0).normal(size=(4_000, 3))
    x = np.float32(unit * x + offset)
    plain = np.float32((x - offset) / unit)
    for features, targets in ((x, plain), (plain, x)):
      found = _ridge(features[:2_000], targets[:2_000], features, targets)
      self.assertGreater(found.min(), 0.99)

  @parameterized.parameters(0.0, 0.01)
  def test_massive_rows_are_fitted_as_in_float64(self, noise):
    """Rows that are far away in all features at once."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 3))
    y = np.float32(x)
    rows = x[::1_000].shape
    x[::1_000] = 1e4 * (1 + noise * rng.normal(size=rows))
    found = jax.jit(linear.fit_ridge)(np.float32(x), y)
    z = np.float64(found.scaling(np.float32(x)))
    gram = z.T @ z / len(z) + linear.PENALTY * np.eye(z.shape[1])
    expected = np.linalg.solve(gram, z.T @ (y - y.mean(0)) / len(z))
    loss, least = (
      np.mean((z @ w - (y - y.mean(0))) ** 2)
      for w in (np.float64(found.weights), expected)
    )
    self.assertLess(loss, 1.001 * least)

  def test_massive_rows_and_classes(self):
    """The probe stays better than chance."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 50, 20_000)
    x = np.float32(3 * np.eye(50)[labels] + rng.normal(size=(20_000, 50)))
    x[::256] *= 1e3
    found = _logistic(
      x[:10_000], labels[:10_000], x[10_000:], labels[10_000:], classes=50
    )
    self.assertLess(found.nats, np.log(50))


class LogisticTest(base.Float64TestCase):
  def _labels(self):
    """Three noisy classes of two features."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 2)) * np.array([[1.0, 20.0]])
    scores = x @ np.array([[1.0, -1.0, 0.0], [0.05, 0.0, -0.1]])
    return x, (scores + rng.gumbel(size=scores.shape)).argmax(1)

  def test_separable_labels_are_told(self):
    x, _ = self._labels()
    two = (x[:, 0] > 0.2).astype(np.int32)
    found = _logistic(x, two, x, two, classes=2, steps=300, penalty=1e-6)
    self.assertEqual(found.accuracy, 1.0)
    self.assertLess(found.nats, 0.1)

  def test_reaches_the_optimum(self):
    """The penalised loss that a quasi-Newton method finds, to 1e-4 nats."""
    x, y = self._labels()
    z, penalty = (x - x.mean(0)) / x.std(0), 0.05

    def nats(flat):
      weights, bias = flat[:6].reshape(2, 3), flat[6:]
      log_probs = scipy.special.log_softmax(z @ weights + bias, axis=1)
      return -log_probs[np.arange(len(y)), y].mean()

    best = scipy.optimize.minimize(
      lambda flat: nats(flat) + penalty / 2 * np.sum(flat[:6] ** 2), np.zeros(9)
    )
    found = _logistic(x, y, x, y, classes=3, steps=500, penalty=penalty)
    self.assertAlmostEqual(float(found.nats), nats(best.x), delta=1e-4)

  def test_ridge_on_indicators(self):
    """Predicts the class with the largest regression on its indicator."""
    x, y = self._labels()
    labels = np.stack([y, 2 - y], axis=1)
    found = linear.ridge_classes(
      x[:50], labels[:50], x[50:], labels[50:], classes=3
    )
    for k in range(2):
      probe = linear.fit_ridge(x[:50], np.eye(3)[labels[:50, k]])
      told = np.argmax(linear.predict(probe, x[50:]), axis=1)
      self.assertAlmostEqual(float(found[k]), np.mean(told == labels[50:, k]))

  @parameterized.parameters(
    ({"classes": 1}, "classes must be at least 2, not 1"),
    ({"classes": 3, "steps": 0}, "steps must be at least 1, not 0"),
    ({"classes": 3, "learning_rate": 0.0}, "learning_rate must be positive"),
    ({"classes": 3, "penalty": -1.0}, "penalty must be positive"),
  )
  def test_refusals(self, settings, message):
    x, y = self._labels()
    with self.assertRaisesRegex(ValueError, message):
      linear.logistic(x, y, x, y, **settings)
