"""Maps of effects, compared with one edited run at a time."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook import models
from jaxlook.interventions import patching
from jaxlook.interventions.forward import capture, run
from jaxlook.models import Decoder, DecoderConfig
from tests.fixtures import base
from tests.fixtures.checkpoints import random_params

BATCH, LENGTH = 2, 5
# As many heads as neither layers nor positions, so that no axis is mistaken.
CONFIG = DecoderConfig(
  layers=2,
  width=12,
  heads=3,
  max_length=6,
  vocab_size=5,
  mlp_width=6,
  parallel_residual=True,
  positions="rotary",
)
SPECS = ("myopic/residual", "teacher")

# Effects here are of size 0.01 to 10: above this is not 0.
CLEAR = 1e-3


def _metric(outputs):
  """Nonlinear, and different at every position."""
  weight = np.random.default_rng(3).normal(size=outputs.shape)
  return jnp.mean(jnp.sin(outputs) * weight)


@functools.cache
def _case(spec):
  """A decoder, its parameters and inputs, and its teacher if it has one."""
  params, other = (
    jax.tree.map(np.float64, random_params(CONFIG, seed)) for seed in (0, 1)
  )
  inputs = _tokens(0)
  teacher = None
  if spec == "teacher":
    _, teacher = models.collect_context(Decoder(CONFIG), other, inputs)
  return Decoder(CONFIG, spec), params, inputs, teacher


def _tokens(seed):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.integers(CONFIG.vocab_size, size=(BATCH, LENGTH)))


@functools.cache
def _activations(spec, seed):
  """Those of a run on other tokens, at the sites of both maps."""
  decoder, params, _, teacher = _case(spec)
  sites = patching.residual_sites(CONFIG) + patching.head_sites(CONFIG)
  return capture(decoder, params, _tokens(seed), sites, teacher=teacher)[1]


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="over")
def _map(name, spec, donor, params=None, *, over="positions"):
  """One of the maps, compiled once for all donors."""
  decoder, own, inputs, teacher = _case(spec)
  params = own if params is None else params
  return getattr(patching, name)(
    decoder, params, inputs, donor, _metric, teacher, over=over
  )


@functools.partial(jax.jit, static_argnums=0)
def _effect(spec, donor, chosen):
  """The metric's change when donor activations are put where chosen."""
  decoder, params, inputs, teacher = _case(spec)
  edits = {
    site: lambda x, site=site: jnp.where(chosen[site], donor[site], x)
    for site in donor
  }
  changed, clean = (
    _metric(run(decoder, params, inputs, given, teacher))
    for given in (edits, {})
  )
  return changed - clean


def _one_by_one(spec, donor, sites, axis):
  """The effects by a loop: each place of each site in a run of its own."""
  rows = []
  for site in sites:
    row = []
    for place in range(donor[site].shape[axis]):
      chosen = {s: np.zeros(x.shape, bool) for s, x in donor.items()}
      np.moveaxis(chosen[site], axis, 0)[place] = True
      row.append(_effect(spec, donor, chosen))
    rows.append(row)
  return np.array(rows)


class MapsTest(base.Float64TestCase):
  @parameterized.parameters(*SPECS)
  def test_residual(self, spec):
    """Each entry is the effect of one edit; all layers and positions."""
    donor = _activations(spec, 1)
    found = _map("patching_map", spec, donor)
    self.assertEqual(found.shape, (CONFIG.layers + 1, LENGTH))
    sites = patching.residual_sites(CONFIG)
    self.assert_close(found, _one_by_one(spec, donor, sites, axis=1))
    self.assertGreater(np.abs(found).max(), CLEAR)

  @parameterized.parameters(*SPECS)
  def test_heads(self, spec):
    """The same for heads, at all positions together."""
    donor = _activations(spec, 1)
    found = _map("patching_map", spec, donor, over="heads")
    self.assertEqual(found.shape, (CONFIG.layers, CONFIG.heads))
    sites = patching.head_sites(CONFIG)
    self.assert_close(found, _one_by_one(spec, donor, sites, axis=2))
    self.assertGreater(np.abs(found).max(), CLEAR)

  @parameterized.product(
    name=["patching_map", "attribution_map"], over=["positions", "heads"]
  )
  def test_own_donor(self, name, over):
    """A donor with the model's own activations changes nothing."""
    found = _map(name, SPECS[0], _activations(SPECS[0], 0), over=over)
    self.assert_close(found, np.zeros(found.shape))

  def test_seeds(self):
    """Vmap over seeds is a loop over seeds."""
    own, donor = _case(SPECS[0])[1], _activations(SPECS[0], 1)
    seeds = [own, jax.tree.map(lambda x: 0.9 * x, own)]
    of = functools.partial(_map, "patching_map", SPECS[0], donor)
    together = jax.vmap(of)(jax.tree.map(lambda *x: np.stack(x), *seeds))
    alone = [of(params) for params in seeds]
    self.assert_close(together, np.stack(alone))


class AttributionTest(base.Float64TestCase):
  @parameterized.product(spec=SPECS, over=["positions", "heads"])
  def test_first_order(self, spec, over):
    """As the donor comes closer, the ratio to the effect goes to 1.

    What is missing shrinks with the square of the difference.
    """
    own, other = _activations(spec, 0), _activations(spec, 1)
    missing = []
    for size in (1e-2, 1e-3):
      donor = {site: x + size * (other[site] - x) for site, x in own.items()}
      effect = _map("patching_map", spec, donor, over=over)
      approximation = _map("attribution_map", spec, donor, over=over)
      self.assertEqual(effect.shape, approximation.shape)
      clear = np.abs(effect) > 1e-3 * size
      self.assertGreater(clear.sum(), 2)
      ratio = approximation[clear] / effect[clear]
      self.assertLess(np.abs(ratio - 1).max(), 30 * size)
      missing.append(np.abs(effect - approximation).max())
    self.assertBetween(missing[0] / missing[1], 80, 125)

  def test_linear_metric(self):
    """Where the metric is linear in the heads, the two maps are equal.

    A LayerNorm whose epsilon is far above any variance divides by a constant,
    and in the last layer nothing else is nonlinear.
    """
    config = dataclasses.replace(
      CONFIG, layers=1, mlp_width=0, norm_epsilon=1e8
    )
    params = jax.tree.map(np.float64, random_params(config))
    shape = BATCH, LENGTH, config.heads, config.head_width
    noise = np.random.default_rng(4).normal(size=shape)
    donor = dict.fromkeys(patching.head_sites(config), jnp.asarray(noise))
    effect, first = (
      map_of(
        Decoder(config),
        params,
        _tokens(0),
        donor,
        lambda x: 1e4 * x.sum(),
        over="heads",
      )
      for map_of in (patching.patching_map, patching.attribution_map)
    )
    self.assertGreater(np.abs(effect).min(), 0.1)
    self.assert_close(effect, first, atol=1e-4)


class RefusalsTest(base.Float64TestCase):
  @parameterized.product(
    name=["patching_map", "attribution_map"], over=["positions", "heads"]
  )
  def test_missing_sites(self, name, over):
    donor = dict(_activations(SPECS[0], 1))
    del donor["block_1/residual"], donor["block_1/attention/head"]
    with self.assertRaisesRegex(ValueError, "no activation at block_1/"):
      _map(name, SPECS[0], donor, over=over)

  def test_unknown_places(self):
    donor = _activations(SPECS[0], 1)
    with self.assertRaisesRegex(ValueError, "over must be one of .* not 'x'"):
      _map("patching_map", SPECS[0], donor, over="x")

  def test_donor_of_another_length(self):
    donor = {site: x[:, 1:] for site, x in _activations(SPECS[0], 1).items()}
    with self.assertRaisesRegex(ValueError, "does not fit"):
      _map("patching_map", SPECS[0], donor)

  def test_metric_must_be_scalar(self):
    decoder, params, inputs, _ = _case(SPECS[0])
    donor = _activations(SPECS[0], 1)
    with self.assertRaises(AssertionError):
      patching.patching_map(decoder, params, inputs, donor, lambda x: x)
    with self.assertRaisesRegex(TypeError, "scalar"):
      patching.attribution_map(decoder, params, inputs, donor, lambda x: x)


if __name__ == "__main__":
  absltest.main()
