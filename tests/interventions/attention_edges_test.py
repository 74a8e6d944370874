"""Removed edges, against loops over patterns in NumPy, and by laws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook import models
from jaxlook.interventions import attention_edges
from jaxlook.interventions.edits import patch
from jaxlook.interventions.forward import capture, run
from jaxlook.models import Decoder, DecoderConfig
from tests.fixtures import base
from tests.fixtures.checkpoints import random_params

BATCH, LENGTH = 4, 5
CONFIG = DecoderConfig(
  layers=2, width=8, heads=2, max_length=6, vocab_size=5, mlp_width=6
)
METHODS = ("renormalise", "mean")

# Rises here are of size 0.001 to 10: above this is not 0.
CLEAR = 1e-5


def _params(seed=0):
  return jax.tree.map(np.float64, random_params(CONFIG, seed))


def _tokens(seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.integers(CONFIG.vocab_size, size=(BATCH, LENGTH)))


def _loss(outputs):
  """Nonlinear, and different at every sequence and position: [B, T]."""
  weight = np.random.default_rng(3).normal(size=outputs.shape)
  return jnp.sum(jnp.sin(outputs) * weight, axis=-1)


@functools.cache
def _teacher():
  return models.collect_context(Decoder(CONFIG), _params(1), _tokens())[1]


def _given(spec):
  return _teacher() if "teacher" in spec else None


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _removal(spec, layer, method, inputs, params, teacher):
  return attention_edges.edge_removal(
    Decoder(CONFIG, spec),
    params,
    inputs,
    _loss,
    layer=layer,
    method=method,
    teacher=teacher,
  )


@functools.cache
def _rise(spec, layer, method):
  args = _tokens(), _params(), _given(spec)
  return np.asarray(_removal(spec, layer, method, *args))


def _captured(spec, layer, name):
  return _all_captured(spec)[f"block_{layer}/attention/{name}"].copy()


@functools.cache
def _all_captured(spec):
  seen = capture(
    Decoder(CONFIG, spec),
    _params(),
    _tokens(),
    models.site_names(CONFIG),
    teacher=_given(spec),
  )[1]
  return jax.tree.map(np.asarray, seen)


@functools.partial(jax.jit, static_argnums=0)
def _rise_of(spec, given):
  """The mean rise at each position, by one run with activations given."""
  args = Decoder(CONFIG, spec), _params(), _tokens()
  edits = {site: patch(x) for site, x in given.items()}
  rise = _loss(run(*args, edits, _given(spec))) - _loss(
    run(*args, {}, _given(spec))
  )
  return jnp.mean(rise, axis=0)


def _cut_rows(pattern, pairs):
  """Takes each (query, key) edge out of its row, in every head."""
  pattern = pattern.copy()
  for b, n in np.ndindex(*pattern.shape[:2]):
    for i, j in pairs:
      rest = [s for s in range(LENGTH) if s != j]
      left = sum(pattern[b, n, i, s] for s in rest)
      if left > 0:
        pattern[b, n, i, j] = 0.0
        pattern[b, n, i] /= left
  return pattern


def _averaged(spec, layer, pairs):
  """Head outputs where the value along each edge is the batch's mean."""
  pattern, value, head = (
    _captured(spec, layer, name) for name in ("pattern", "value", "head")
  )
  for i, j in pairs:
    read = value
    if i != j and "teacher" in spec:
      read = np.asarray(_teacher()[layer].value)
    for b, n in np.ndindex(*pattern.shape[:2]):
      usual = sum(read[c, j, n] for c in range(BATCH)) / BATCH
      head[b, i, n] += pattern[b, n, i, j] * (usual - read[b, j, n])
  return head


def _by_hand(spec, layer, method, pairs):
  """The rise when the edges of (query, key) pairs are removed."""
  site = f"block_{layer}/attention"
  if method == "mean":
    return _rise_of(spec, {f"{site}/head": _averaged(spec, layer, pairs)})
  cut = _cut_rows(_captured(spec, layer, "pattern"), pairs)
  return _rise_of(spec, {f"{site}/pattern": cut})


class RemovalTest(base.Float64TestCase):
  @parameterized.parameters(
    *(
      ("myopic/residual", layer, method)
      for layer in range(2)
      for method in METHODS
    ),
    ("teacher", 1, "mean"),
    ("teacher", 1, "renormalise"),
    ("window:2", 0, "mean"),
  )
  def test_brute_force(self, spec, layer, method):
    """Row d is what a loop gives that removes all edges of distance d."""
    found = _rise(spec, layer, method)
    expected = [
      _by_hand(spec, layer, method, [(i, i - d) for i in range(d, LENGTH)])
      for d in range(LENGTH)
    ]
    self.assert_close(found, np.stack(expected))
    self.assertGreater(np.abs(found).max(), CLEAR)

  @parameterized.parameters(*METHODS)
  def test_last_layer_holds_single_edges(self, method):
    """There an entry is the effect of its own edge; below it is not."""
    spec = "myopic/residual"
    differences = []
    for layer in range(2):
      one = [
        _by_hand(spec, layer, method, [(i, i - d)])[i]
        for d in range(3)
        for i in range(d, LENGTH)
      ]
      all_d = [
        _rise(spec, layer, method)[d, i]
        for d in range(3)
        for i in range(d, LENGTH)
      ]
      differences.append(np.abs(np.subtract(one, all_d)).max())
    self.assertGreater(differences[0], CLEAR)
    self.assertLess(differences[1], base.EXACT)

  @parameterized.product(layer=(0, 1), method=METHODS)
  def test_no_edge_no_rise(self, layer, method):
    """A query has no edge that is longer than its position: exactly 0."""
    rise = _rise("myopic/residual", layer, method)
    below = np.tril_indices(LENGTH, -1)
    np.testing.assert_array_equal(rise[below], 0.0)
    above = np.delete(rise[np.triu_indices(LENGTH)], 0)
    self.assertGreater(np.abs(above).min(), 0.0)

  def test_nothing_left(self):
    """Position 0 sees itself only, and keeps that edge."""
    self.assertEqual(_rise("myopic/residual", 1, "renormalise")[0, 0], 0.0)
    self.assertGreater(abs(_rise("myopic/residual", 1, "mean")[0, 0]), CLEAR)

  @parameterized.product(layer=(0, 1), method=METHODS)
  def test_self_only(self, layer, method):
    """A model that reads itself only loses nothing by other edges."""
    rise = _rise("self_only", layer, method)
    np.testing.assert_array_equal(rise[1:], 0.0)
    if method == "mean":
      self.assertGreater(np.abs(rise[0]).min(), CLEAR)
    else:
      np.testing.assert_array_equal(rise[0], 0.0)

  @parameterized.product(layer=(0, 1), method=METHODS)
  def test_hidden_edges(self, layer, method):
    """Edges beyond a window carry no weight: exactly 0."""
    rise = _rise("window:2", layer, method)
    np.testing.assert_array_equal(rise[3:], 0.0)
    self.assertGreater(np.abs(rise[2, 2:]).min(), CLEAR)

  def test_zero_context(self):
    """Zeros are their own mean; what is seen of oneself is not."""
    rise = _rise("zero_context", 1, "mean")
    np.testing.assert_array_equal(rise[1:], 0.0)
    self.assertGreater(np.abs(rise[0]).min(), CLEAR)

  @parameterized.parameters(0, 1)
  def test_equal_sequences(self, layer):
    """If all sequences are equal, a value is its own mean."""
    same = jnp.broadcast_to(_tokens()[:1], (BATCH, LENGTH))
    found = _removal("myopic/residual", layer, "mean", same, _params(), None)
    np.testing.assert_array_equal(found, 0.0)

  def test_seeds(self):
    """Vmap over seeds is a loop over seeds."""
    seeds = [_params(seed) for seed in range(2)]
    together = jax.vmap(
      lambda params: _removal(
        "myopic/residual", 1, "mean", _tokens(), params, None
      )
    )(jax.tree.map(lambda *x: np.stack(x), *seeds))
    alone = [
      _removal("myopic/residual", 1, "mean", _tokens(), params, None)
      for params in seeds
    ]
    self.assert_close(together, np.stack(alone))

  @parameterized.parameters(
    ({"layer": 2, "method": "mean"}, "layer must lie in 0..1, not 2"),
    ({"layer": -1, "method": "mean"}, "layer must lie in 0..1, not -1"),
    ({"layer": 0, "method": "zero"}, "method must be one of .*, not 'zero'"),
  )
  def test_refusals(self, settings, message):
    with self.assertRaisesRegex(ValueError, message):
      attention_edges.edge_removal(
        Decoder(CONFIG), _params(), _tokens(), _loss, **settings
      )

  def test_loss_must_be_by_position(self):
    with self.assertRaises(AssertionError):
      attention_edges.edge_removal(
        Decoder(CONFIG), _params(), _tokens(), jnp.sum, layer=0, method="mean"
      )


class UsefulnessTest(base.Float64TestCase):
  @parameterized.parameters(1, 2, 6)
  def test_loops(self, length):
    """Each edge counts once: for its key, and for its distance."""
    rise = np.random.default_rng(0).normal(size=(length, length))
    # What stands at edges that do not exist must not matter.
    found = attention_edges.usefulness(jnp.asarray(rise))
    own, future, distance = np.zeros((3, length))
    for i in range(length):
      for j in range(i + 1):
        d = i - j
        distance[d] += rise[d, i] / (length - d)
        if d:
          future[j] += rise[d, i]
        else:
          own[j] = rise[d, i]
    self.assert_close(found, attention_edges.Usefulness(own, future, distance))
    self.assertEqual(found.future[-1], 0.0)

  def test_must_be_square(self):
    with self.assertRaises(AssertionError):
      attention_edges.usefulness(jnp.zeros((2, 3)))


if __name__ == "__main__":
  absltest.main()
