"""Linear probes: ridge regression and multinomial logistic regression.

A probe is fitted on some sequences and scored on others. Features are divided
by their scale over the first, so that one penalty means the same at every site;
see `scaling`. All functions take one set of features; use `jax.vmap` or
`jax.lax.map` for layers, sites and seeds. `targets` and `probe_plans` hold what
is probed for and the baselines.

Source: Alain and Bengio (2016), arXiv 1610.01644, for linear probes of hidden
layers.
"""

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

PENALTY = 1e-4
"""The penalty of ridge probes, as in Wu et al. (2024)."""

_HIGHEST = jax.lax.Precision.HIGHEST
PENALTY_LOGISTIC = 1e-3
"""The penalty of logistic probes."""

# A value whose deviation is below this many rounding errors of its size is
# constant.
_ROUNDINGS = 8.0
# The rows outside these quantiles do not decide the scale of a feature alone.
_TAILS = (0.005, 0.995)
# How far, in units of the range between these quantiles, a row may lie outside
# before it is moved there to compute the scale.
_FAR = 5.0
# Larger values would make the Gram matrix too ill-conditioned for float32.
_SMALLEST = 1 / 30
# The weight of a feature that is constant in most rows is shrunk as by so many
# more rows, at its largest value, that say 0. Chosen on the tokens n - 1 and n
# of text: the nats of the tokens from n to n + 5 are lower than with these
# features left out, and with none or four times as many they are higher.
_ROWS_OF_ZERO = 0.25


class Scaling(NamedTuple):
  """Standardises features.

  Attributes:
    mean: of each feature, [D].
    inverse: one over its scale; 0 for a constant feature, [D].
  """

  mean: jax.Array
  inverse: jax.Array

  def __call__(self, features: jax.Array) -> jax.Array:
    """The distance of features [..., D] from their mean, in scales."""
    # Reshaped by hand, because rank promotion may be forbidden.
    shape = (1,) * (features.ndim - 1) + self.mean.shape
    return (features - self.mean.reshape(shape)) * self.inverse.reshape(shape)


class Ridge(NamedTuple):
  """A fitted ridge probe.

  Attributes:
    scaling: of the features.
    weights: per scale of a feature, [D, K].
    mean: of the targets; the prediction at the mean features, [K].
  """

  scaling: Scaling
  weights: jax.Array
  mean: jax.Array


class ClassScores(NamedTuple):
  """How well a probe predicts labels.

  Attributes:
    accuracy: share of labels with the largest logit.
    nats: mean cross-entropy, nats per label.
  """

  accuracy: jax.Array
  nats: jax.Array


def scaling(features: jax.Array, penalty: float) -> Scaling:
  """Means and scales of features.

  The scale of a feature is its standard deviation (divisor n), except for:

  - Few massive rows: a row far outside the others is moved nearer before the
    deviation is taken. Otherwise one row could make all others look constant.
  - Rare features, such as neurons that fire in fewer than 1 of 100 rows: the
    scale is raised, so that the penalty counts as a quarter of a row. Otherwise
    a weight that is fitted to one row would be applied in full to others.

  No feature is left out unless it is constant.

  Args:
    features: float [n, D].
    penalty: of the probe, per squared weight and in units of the mean loss.

  Returns:
    The scaling, [D].
  """
  chex.assert_rank(features, 2)
  # In units in which no square is too large or too small for the dtype.
  _, unit = jnp.frexp(jnp.max(jnp.abs(features), axis=0))
  features = jnp.ldexp(features, -unit[None])
  mean = jnp.mean(features, axis=0)
  mean += jnp.mean(features - mean[None], axis=0)
  std = jnp.std(features, axis=0)
  low, high = (
    jnp.quantile(features, tail, axis=0, method=method)
    for tail, method in zip(_TAILS, ("higher", "lower"), strict=True)
  )
  reach = _FAR * (high - low)
  near = jnp.clip(features, (low - reach)[None], (high + reach)[None])
  common = jnp.maximum(jnp.std(near, axis=0), _SMALLEST * std)
  most = jnp.max(jnp.abs(features - mean[None]), axis=0)
  rows_of_zero = math.sqrt(_ROWS_OF_ZERO / (len(features) * penalty))
  rare = jnp.maximum(std, rows_of_zero * most)
  least = _rounding(features)
  scale = jnp.where(high - low > least, common, rare)
  varies = std > least
  inverse = jnp.where(varies, 1.0 / jnp.where(varies, scale, 1.0), 0.0)
  return Scaling(jnp.ldexp(mean, unit), jnp.ldexp(inverse, -unit))


def _rounding(x: jax.Array, axis: int | tuple[int, ...] = 0) -> jax.Array:
  """The deviation that rounding may leave of a constant x over some axes."""
  size = jnp.sqrt(jnp.mean(x**2, axis=axis))
  return _ROUNDINGS * float(jnp.finfo(x.dtype).eps) * size


def fit_ridge(
  features: jax.Array, targets: jax.Array, *, penalty: float = PENALTY
) -> Ridge:
  """Fits all targets with one QR factor.

  Minimises mean |z w + mean - y|^2 + penalty |w|^2 for standardised features z;
  the mean is not penalised. The normal equations of the factor are solved, and
  the solution is corrected once by what is left of the targets (Bjorck, 1987).

  Args:
    features: float [n, D].
    targets: float [n, K].
    penalty: per squared weight of a scaled feature; positive.

  Returns:
    The probe, in the dtype of the features.

  Raises:
    ValueError: `penalty` is not positive and finite.
    AssertionError: the shapes do not fit.
  """
  _check("penalty", penalty)
  chex.assert_rank([features, targets], 2)
  chex.assert_equal_shape_prefix([features, targets], 1)
  scale = scaling(features, penalty)
  z_nxD, mean_K = scale(features), jnp.mean(targets, axis=0)
  rows, width = z_nxD.shape
  # The Gram matrix itself would have twice the digits, which float32 has not
  # where few rows are far from the others.
  shrink = math.sqrt(rows * penalty) * jnp.eye(width, dtype=z_nxD.dtype)
  root_DxD = jnp.linalg.qr(jnp.concatenate([z_nxD, shrink]), mode="r")

  def solve(right_DxK: jax.Array) -> jax.Array:
    return jax.scipy.linalg.cho_solve((root_DxD, False), right_DxK)

  def times_z(x_nxK: jax.Array) -> jax.Array:
    return jnp.matmul(z_nxD.T, x_nxK, precision=_HIGHEST)

  centred_nxK = targets - mean_K[None]
  weights = solve(times_z(centred_nxK))
  left_nxK = centred_nxK - jnp.matmul(z_nxD, weights, precision=_HIGHEST)
  weights += solve(times_z(left_nxK) - rows * penalty * weights)
  return Ridge(scale, weights, mean_K)


def predict(probe: Ridge, features: jax.Array) -> jax.Array:
  """Applies a probe to features [..., D]; [..., K]."""
  out = jnp.matmul(probe.scaling(features), probe.weights, precision=_HIGHEST)
  return out + probe.mean.reshape((1,) * (out.ndim - 1) + probe.mean.shape)


def r_squared(
  predictions: jax.Array, targets: jax.Array, axis: int | tuple[int, ...] = 0
) -> jax.Array:
  """The explained share of the variance around the mean of the targets.

  Args:
    predictions: float, of the shape of `targets`.
    targets: float.
    axis: the axes to score over; the others are kept.

  Returns:
    1 - residual / variance: at most 1, and negative where the mean would be a
    better prediction. 0 for targets that are constant up to rounding.
  """
  chex.assert_equal_shape([predictions, targets])
  # In units in which no square is too large or too small for the dtype.
  _, unit = jnp.frexp(jnp.max(jnp.abs(targets), axis=axis, keepdims=True))
  targets, predictions = (jnp.ldexp(x, -unit) for x in (targets, predictions))
  centred = targets - jnp.mean(targets, axis=axis, keepdims=True)
  total = jnp.sum(centred**2, axis=axis)
  left = jnp.sum((targets - predictions) ** 2, axis=axis)
  deviation = jnp.sqrt(jnp.mean(centred**2, axis=axis))
  varies = deviation > _rounding(targets, axis)
  return jnp.where(varies, 1.0 - left / jnp.where(varies, total, 1.0), 0.0)


def ridge(
  features: jax.Array,
  targets: jax.Array,
  held_out_features: jax.Array,
  held_out_targets: jax.Array,
  *,
  penalty: float = PENALTY,
) -> jax.Array:
  """Fits a ridge probe and scores it on held-out rows.

  Args:
    features: to fit on, float [n, D].
    targets: to fit, float [n, K].
    held_out_features: float [m, D].
    held_out_targets: float [m, K].
    penalty: see `fit_ridge`.

  Returns:
    Centred R^2 of each target on the held-out rows, [K]; see `r_squared`.

  Raises:
    ValueError: `penalty` is not positive and finite.
    AssertionError: the shapes do not fit.

  Source: Wu, Morris and Levine (2024), arXiv 2404.00859, section 4. We centre
  the targets and score on other sequences; the paper does neither.
  """
  probe = fit_ridge(features, targets, penalty=penalty)
  return r_squared(predict(probe, held_out_features), held_out_targets)


def logistic(
  features: jax.Array,
  labels: jax.Array,
  held_out_features: jax.Array,
  held_out_labels: jax.Array,
  *,
  classes: int,
  steps: int = 100,
  learning_rate: float = 0.1,
  penalty: float = PENALTY_LOGISTIC,
) -> ClassScores:
  """Fits a multinomial logistic probe and scores it on held-out rows.

  Minimises the mean cross-entropy + penalty / 2 |w|^2 (not on the bias) over
  standardised features from zero weights, with full batches and Adam. The
  learning rate falls to 0 along a cosine. Of all steps, the weights with the
  lowest objective are kept.

  Args:
    features: to fit on, float [n, D].
    labels: to fit, integer [n], below `classes`.
    held_out_features: float [m, D].
    held_out_labels: integer [m].
    classes: number of classes C.
    steps: of the optimiser.
    learning_rate: at the first step, per step.
    penalty: positive.

  Returns:
    Accuracy and nats on the held-out rows, scalars.

  Raises:
    ValueError: a setting is out of range.
    AssertionError: the shapes or types do not fit.
  """
  for name, count, least in (("classes", classes, 2), ("steps", steps, 1)):
    if count < least:
      raise ValueError(f"{name} must be at least {least}, not {count}")
  _check("learning_rate", learning_rate)
  _check("penalty", penalty)
  chex.assert_rank([features, labels], [2, 1])
  chex.assert_equal_shape_prefix([features, labels], 1)
  chex.assert_type([features, labels], [float, int])
  scale = scaling(features, penalty)
  params = _fit_logistic(
    scale(features), labels, classes, steps, learning_rate, penalty
  )
  logits_mxC = _logits(params, scale(held_out_features))
  return ClassScores(
    accuracy=accuracy(logits_mxC, held_out_labels),
    nats=_cross_entropy(logits_mxC, held_out_labels),
  )


def _fit_logistic(
  z_nxD: jax.Array,
  labels: jax.Array,
  classes: int,
  steps: int,
  learning_rate: float,
  penalty: float,
) -> Any:
  """Weights [D, C] and biases [C] for standardised features; see `logistic`."""
  params = (
    jnp.zeros((z_nxD.shape[1], classes), z_nxD.dtype),
    jnp.zeros((classes,), z_nxD.dtype),
  )
  adam = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

  def objective(params):
    nats = _cross_entropy(_logits(params, z_nxD), labels)
    return nats + penalty / 2 * jnp.sum(params[0] ** 2)

  def better(best, value, params):
    return jax.tree.map(
      lambda old, new: jnp.where(value < best[0], new, old),
      best,
      (value, params),
    )

  def step(state, _):
    params, moments, best = state
    value, gradient = jax.value_and_grad(objective)(params)
    best = better(best, value, params)
    updates, moments = adam.update(gradient, moments)
    return (optax.apply_updates(params, updates), moments, best), None

  # Massive rows can make steps too large.
  start = (params, adam.init(params), (jnp.asarray(jnp.inf), params))
  (params, _, best), _ = jax.lax.scan(step, start, length=steps)
  return better(best, objective(params), params)[1]


def ridge_classes(
  features: jax.Array,
  labels: jax.Array,
  held_out_features: jax.Array,
  held_out_labels: jax.Array,
  *,
  classes: int,
  penalty: float = PENALTY,
) -> jax.Array:
  """Classifies by ridge regression on one-hot labels: cheap, no probabilities.

  Args:
    features: to fit on, float [n, D].
    labels: to fit, integer [n, K], below `classes`.
    held_out_features: float [m, D].
    held_out_labels: integer [m, K].
    classes: number of classes of every target, C.
    penalty: see `fit_ridge`.

  Returns:
    Accuracy of each target on the held-out rows, [K].

  Raises:
    ValueError: `penalty` is not positive and finite.
    AssertionError: the shapes do not fit.
  """
  chex.assert_rank(labels, 2)
  one_hot = jax.nn.one_hot(labels, classes, dtype=features.dtype)
  probe = fit_ridge(
    features, one_hot.reshape(len(features), -1), penalty=penalty
  )
  scores_mxKC = predict(probe, held_out_features)
  scores = scores_mxKC.reshape(*held_out_labels.shape, classes)
  return jax.vmap(accuracy, in_axes=1)(scores, held_out_labels)


def accuracy(scores: jax.Array, labels: jax.Array) -> jax.Array:
  """Share of labels [n] with the largest score [n, C]; a scalar."""
  return jnp.mean((jnp.argmax(scores, axis=-1) == labels).astype(scores.dtype))


def _logits(params: Any, z_nxD: jax.Array) -> jax.Array:
  return jnp.matmul(z_nxD, params[0], precision=_HIGHEST) + params[1][None]


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  return jnp.mean(
    optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  )


def _check(name: str, value: float) -> None:
  if not 0.0 < value < math.inf:
    raise ValueError(f"{name} must be positive and finite, not {value}")
