"""Every site can be seen, edited and differentiated; edits do what they say.

The models run op by op, so that all tests share the compiled operations.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import jaxlook
from jaxlook import models
from jaxlook.interventions.edits import (
  at,
  at_edges,
  mean,
  patch,
  resample,
  steer,
  zero,
)
from jaxlook.interventions.forward import (
  capture,
  forward_only,
  gradients_at,
  run,
)
from jaxlook.models import Decoder, DecoderConfig, residual_site, site_names
from tests.fixtures import base
from tests.fixtures.checkpoints import random_params

BATCH, LENGTH = 3, 5
GPT2 = DecoderConfig(
  layers=2, width=8, heads=2, max_length=6, vocab_size=5, mlp_width=6
)
NEOX = dataclasses.replace(
  GPT2,
  activation="gelu",
  positions="rotary",
  rotary_fraction=0.5,
  parallel_residual=True,
  tied_head=False,
)
SHAPES = {
  "gpt2": GPT2,
  "neox": NEOX,
  "attention_only": dataclasses.replace(GPT2, mlp_width=0),
}
RESIDUAL = "myopic/residual"

# Effects here are of size 0.01 to 10: above this is not 0.
CLEAR = 1e-4
# Central differences of step h are off by h^2 and by rounding / h.
STEP, DIFFERENCE = 1e-5, 1e-7


def _params(config, seed=0):
  return jax.tree.map(np.float64, random_params(config, seed))


def _inputs(config, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.integers(config.vocab_size, size=(BATCH, LENGTH)))


def _noise(shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@functools.cache
def _captured(shape, spec="causal", seed=0):
  """Outputs and all activations, by the reference path."""
  config = SHAPES[shape]
  return capture(
    Decoder(config, spec),
    _params(config),
    _inputs(config, seed),
    site_names(config),
  )


def _run(shape, edits, spec="causal"):
  config = SHAPES[shape]
  return run(Decoder(config, spec), _params(config), _inputs(config), edits)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _steered(shape, spec, added, size):
  """Outputs with an array added at each site; one program for all of them."""
  edits = {site: steer(size * x) for site, x in added.items()}
  return _run(shape, edits, spec)


@jax.jit
def _loss(outputs):
  """Nonlinear, and different everywhere."""
  return jnp.sum(jnp.sin(outputs) * _noise(outputs.shape, 5))


def _one_at_a_time(shape, path):
  """Each site of a path, and zeros for all sites with noise at that one."""
  _, seen = _captured(shape)
  still = {
    site: jnp.zeros_like(x)
    for site, x in seen.items()
    if path == "reference" or not site.endswith("/pattern")
  }
  for site, x in still.items():
    yield site, {**still, site: _noise(x.shape, 6)}


def _teacher(config):
  return models.collect_context(
    Decoder(config), _params(config, 1), _inputs(config)
  )[1]


def _largest(x):
  return float(np.abs(x).max())


class SitesTest(base.Float64TestCase):
  @parameterized.parameters(*SHAPES)
  def test_every_site_is_there(self, shape):
    """All names are captured, with the shapes of the table."""
    config = SHAPES[shape]
    _, seen = _captured(shape)
    self.assertEqual(tuple(seen), site_names(config))
    b, t, n = BATCH, LENGTH, config.heads
    shapes = {
      "residual": (b, t, config.width),
      "input": (b, t, config.width),
      "pattern": (b, n, t, t),
      "neuron": (b, t, config.hidden_width),
    }
    for site, x in seen.items():
      name = site.split("/")[-1]
      self.assertEqual(x.shape, shapes.get(name, (b, t, n, config.head_width)))
    self.assertEqual("block_0/mlp/neuron" in seen, config.hidden_width > 0)

  @parameterized.parameters(
    *itertools.product(SHAPES, ("auto", "reference"), ["causal"]),
    ("gpt2", "reference", RESIDUAL),
  )
  def test_every_edit_changes_the_outputs(self, shape, path, spec):
    """No edit does silently nothing: adding noise at a site is seen."""
    plain, _ = _captured(shape)
    for site, added in _one_at_a_time(shape, path):
      with self.subTest(site):
        change = _steered(shape, spec, added, 1.0) - plain
        self.assertGreater(_largest(change), CLEAR)

  @parameterized.parameters(*SHAPES)
  def test_looking_changes_nothing(self, shape):
    """Capturing, and giving back what was seen, keeps every bit."""
    config = SHAPES[shape]
    auto, reference = (
      models.apply(
        Decoder(config, implementation=path), _params(config), _inputs(config)
      )
      for path in ("auto", "reference")
    )
    outputs, seen = _captured(shape)
    np.testing.assert_array_equal(outputs, reference)
    same = dict.fromkeys(seen, lambda x: x)
    np.testing.assert_array_equal(_run(shape, same), reference)
    given = {site: patch(x) for site, x in seen.items()}
    np.testing.assert_array_equal(_run(shape, given), reference)
    for site in [site for site in seen if site.endswith("/pattern")]:
      np.testing.assert_array_equal(_run(shape, {site: same[site]}), reference)
      del same[site]
    np.testing.assert_array_equal(_run(shape, same), auto)

  @parameterized.parameters(*SHAPES)
  def test_paths_agree(self, shape):
    """The reference path and the one for training compute the same."""
    config = SHAPES[shape]
    sites = [s for s in site_names(config) if not s.endswith("/pattern")]
    outputs, seen = capture(
      Decoder(config), _params(config), _inputs(config), sites
    )
    expected, all_seen = _captured(shape)
    self.assert_close(outputs, expected)
    self.assert_close(seen, {site: all_seen[site] for site in sites})

  def test_only_what_is_asked_for(self):
    """Sites are chosen while tracing; with none, it is the plain program."""

    def text(function):
      return jax.jit(lambda params: function(params)).lower(params).as_text()

    params, inputs, decoder = _params(GPT2), _inputs(GPT2), Decoder(GPT2)
    sites = ("block_1/mlp/neuron", "residual")
    _, seen = capture(decoder, params, inputs, sites)
    self.assertEqual(tuple(seen), sites)
    self.assertEqual(capture(decoder, params, inputs, ())[1], {})
    plain = text(lambda params: models.apply(decoder, params, inputs))
    none = text(lambda params: capture(decoder, params, inputs, ())[0])
    self.assertEqual(none, plain)
    self.assertNotEqual(
      text(lambda params: capture(decoder, params, inputs, sites)), plain
    )

  def test_captured_after_the_edit(self):
    """What is seen is what the model goes on with."""
    site = "block_1/residual"
    _, seen = capture(
      Decoder(GPT2), _params(GPT2), _inputs(GPT2), (site,), {site: zero()}
    )
    np.testing.assert_array_equal(seen[site], 0.0)


class RefusalsTest(base.Float64TestCase):
  @parameterized.parameters("capture", "edit", "gradient")
  def test_unknown_site(self, how):
    """The message names the site and lists those that there are."""
    args = Decoder(GPT2), _params(GPT2), _inputs(GPT2)
    with self.assertRaisesRegex(ValueError, "'block_7/residual'.*mlp/neuron"):
      match how:
        case "capture":
          capture(*args, ("block_7/residual",))
        case "edit":
          run(*args, {"block_7/residual": zero()})
        case _:
          gradients_at(*args, ("block_7/residual",), jnp.sum)

  def test_no_neurons_without_a_feed_forward_layer(self):
    with self.assertRaisesRegex(ValueError, "no site 'block_0/mlp/neuron'"):
      _run("attention_only", {"block_0/mlp/neuron": zero()})

  @parameterized.parameters(
    (lambda x: x[:, :-1], "must keep float64"),
    (lambda x: x.astype(jnp.float32), "must keep float64"),
    (patch(jnp.zeros((BATCH, LENGTH + 1, 8))), "does not fit"),
    (patch(jnp.zeros((LENGTH, 8))), "does not fit"),
    (patch(jnp.zeros((BATCH, 2, 8)), at(positions=0)), "does not fit"),
    (steer(jnp.zeros(7)), "does not fit"),
    (zero(at(positions=LENGTH)), "position must be an integer in 0..4, not 5"),
    (zero(at(positions=-1)), "in 0..4, not -1"),
    (zero(at(positions=[True, False])), "position must be an integer"),
    (zero(at(heads=0)), "no head axis"),
    (zero(at_edges(queries=0)), "no query axis"),
    (zero(lambda x: jnp.zeros((1, 2), bool)), "does not fit"),
  )
  def test_edits_that_do_not_fit(self, edit, message):
    with self.assertRaisesRegex(ValueError, message):
      _run("gpt2", {"block_0/residual": edit})

  def test_resampling_one_sequence(self):
    with self.assertRaisesRegex(ValueError, "at least 2 sequences, not 1"):
      resample(jax.random.key(0))(jnp.zeros((1, 2, 3)))


class ForwardOnlyTest(base.Float64TestCase):
  @parameterized.parameters(*base.VARIANTS)
  def test_no_cut_is_left(self, spec):
    """Cut specs become causal; those with another forward pass stay."""
    uncut = forward_only(Decoder(GPT2, spec))
    given = jaxlook.parse(spec)
    expected = jaxlook.parse("causal") if given.keeps_forward else given
    self.assertEqual(uncut.variant.distinct, (expected,))

  @parameterized.parameters(
    RESIDUAL, "offset:2/values", "window:2", "zero_context/keys", "teacher"
  )
  def test_same_function(self, spec):
    """The outputs stay."""
    decoder = Decoder(GPT2, spec)
    params, inputs = _params(GPT2), _inputs(GPT2)
    teacher = _teacher(GPT2) if spec == "teacher" else None
    self.assert_close(
      run(decoder, params, inputs, {}, teacher),
      models.apply(decoder, params, inputs, teacher),
    )

  def test_mixed_models_and_windows(self):
    """Each head is treated by itself; what a spec hides stays hidden."""
    uncut = forward_only(Decoder(GPT2, f"{RESIDUAL}+self_only,window:2"))
    names = [[s.name for s in layer] for layer in uncut.variant.specs]
    self.assertEqual(names, [["causal", "self_only"], ["window:2"] * 2])
    cut = jaxlook.attention.Spec("cut window", high=0, reach=2)
    uncut = forward_only(Decoder(GPT2, jaxlook.Variant.uniform(cut, 2, 2)))
    self.assertEqual(uncut.variant.distinct, (jaxlook.parse("window:2"),))

  @parameterized.parameters("key", "value")
  def test_edits_reach_later_queries(self, name):
    """An edit of a key under a stopped context acts as under `causal`."""
    site = f"block_0/attention/{name}"
    shape = (BATCH, LENGTH, 2, 4)
    edits = {site: steer(_noise(shape), at(positions=1))}
    expected = _run("gpt2", edits)
    self.assert_close(_run("gpt2", edits, RESIDUAL), expected)
    # The twin: without `forward_only`, by the definition of attention, only the
    # key's own query sees it.
    decoder = Decoder(GPT2, RESIDUAL, "reference")
    beside = models.apply(decoder, _params(GPT2), _inputs(GPT2), None, edits)
    self.assertGreater(_largest((beside - expected)[:, 2:]), CLEAR)


class GradientsTest(base.Float64TestCase):
  @parameterized.parameters(
    ("gpt2", RESIDUAL),
    ("neox", "zero_context"),
    ("attention_only", "self_only"),
  )
  def test_finite_differences(self, shape, spec):
    """The gradient at every site is the slope in a random direction."""
    config = SHAPES[shape]

    gradients = jax.jit(
      lambda params: gradients_at(
        Decoder(config, spec),
        params,
        _inputs(config),
        site_names(config),
        _loss,
      )
    )(_params(config))
    for site, way in _one_at_a_time(shape, "reference"):
      with self.subTest(site):
        self.assertEqual(gradients[site].shape, way[site].shape)
        up, down = (_loss(_steered(shape, spec, way, h)) for h in (STEP, -STEP))
        slope = jnp.sum(gradients[site] * way[site])
        self.assert_close(slope, (up - down) / (2 * STEP), DIFFERENCE)
        if spec != "self_only" or not site.endswith(("query", "key")):
          self.assertGreater(_largest(gradients[site]), CLEAR)

  def test_loss_must_be_scalar(self):
    with self.assertRaisesRegex(TypeError, "scalar"):
      gradients_at(
        Decoder(GPT2), _params(GPT2), _inputs(GPT2), ("residual",), lambda x: x
      )


class PatchTest(base.Float64TestCase):
  @parameterized.parameters(*itertools.product(SHAPES, range(3)))
  def test_whole_stream(self, shape, layer):
    """With all of the stream from a donor, the outputs are the donor's."""
    site = residual_site(SHAPES[shape], layer)
    donor, seen = _captured(shape, seed=1)
    self.assertGreater(_largest(donor - _captured(shape)[0]), CLEAR)
    self.assert_close(_run(shape, {site: patch(seen[site])}), donor)

  def test_part_of_the_stream(self):
    """Only the chosen positions change, and only later ones can tell."""
    _, donor = _captured("gpt2", seed=1)
    plain, _ = _captured("gpt2")
    edits = {"block_1/residual": patch(donor["block_1/residual"], at([2, 3]))}
    change = np.abs(_run("gpt2", edits) - plain).max(axis=(0, 2))
    self.assertLess(change[:2].max(), base.EXACT)
    self.assertGreater(change[2:].min(), CLEAR)

  def test_one_donor_for_all(self):
    """An axis of size 1 is spread over the batch."""
    x = _noise((BATCH, LENGTH, 8))
    value = _noise((1, LENGTH, 8), 1)
    edited = patch(value, at(positions=0))(x)
    for b in range(BATCH):
      np.testing.assert_array_equal(edited[b, 0], value[0, 0])
    np.testing.assert_array_equal(edited[:, 1:], x[:, 1:])


class EditsTest(base.Float64TestCase):
  @parameterized.parameters(*itertools.product(SHAPES, range(2)))
  def test_zero_heads_is_no_attention(self, shape, layer):
    """All heads zeroed = W_O zeroed: attention adds its bias alone."""
    config = SHAPES[shape]
    params = _params(config)
    out = params[f"block_{layer}"]["attention"]["out"]
    out["kernel"] = np.zeros_like(out["kernel"])
    expected = models.apply(Decoder(config), params, _inputs(config))
    self.assertGreater(_largest(expected - _captured(shape)[0]), CLEAR)
    site = f"block_{layer}/attention/head"
    for where in (None, at(heads=range(config.heads)), at()):
      self.assert_close(_run(shape, {site: zero(where)}), expected)

  def test_zero_one_head(self):
    """One head zeroed = its rows of W_O zeroed."""
    params = _params(NEOX)
    out = params["block_1"]["attention"]["out"]
    out["kernel"][NEOX.head_width :] = 0.0
    expected = models.apply(Decoder(NEOX), params, _inputs(NEOX))
    edits = {"block_1/attention/head": zero(at(heads=1))}
    self.assert_close(_run("neox", edits), expected)

  @parameterized.parameters(0, ((0, 1),))
  def test_mean(self, axes):
    """The mean over the batch, the same for all; twice is once."""
    x = np.asarray(_noise((BATCH, LENGTH, 2, 4)))
    once = mean(axes)(jnp.asarray(x))
    for b, t in itertools.product(range(BATCH), range(LENGTH)):
      own = x[:, t] if axes == 0 else x.reshape(-1, 2, 4)
      self.assert_close(once[b, t], sum(own) / len(own))
    self.assert_close(mean(axes)(once), once)
    part = mean(axes, at(heads=1))(jnp.asarray(x))
    np.testing.assert_array_equal(part[:, :, 0], x[:, :, 0])
    np.testing.assert_array_equal(part[:, :, 1], once[:, :, 1])

  def test_resample(self):
    """Each sequence takes another's activation, in one rotation."""
    x = _noise((4, LENGTH, 8))
    steps = set()
    for seed in range(12):
      taken = resample(jax.random.key(seed))(x)
      whose = [
        [np.array_equal(taken[b], x[other]) for other in range(4)].index(True)
        for b in range(4)
      ]
      self.assertEqual(sorted(whose), [0, 1, 2, 3])
      self.assertTrue(all(b != other for b, other in enumerate(whose)), whose)
      steps.add((0 - whose[0]) % 4)
      other_site = resample(jax.random.key(seed))(x[:, :, :3])
      np.testing.assert_array_equal(other_site, taken[:, :, :3])
    self.assertEqual(steps, {1, 2, 3})

  def test_resample_one_position(self):
    """Where nothing is chosen, every sequence keeps its own."""
    x = _noise((4, LENGTH, 8))
    taken = resample(jax.random.key(0), at(positions=2))(x)
    whole = resample(jax.random.key(0))(x)
    np.testing.assert_array_equal(taken[:, 2], whole[:, 2])
    np.testing.assert_array_equal(
      np.delete(taken, 2, axis=1), np.delete(x, 2, axis=1)
    )

  def test_steer(self):
    """A vector is added at each chosen place, and nowhere else."""
    x = np.asarray(_noise((BATCH, LENGTH, 2, 4)))
    vector = np.asarray(_noise((4,), 1))
    moved = steer(jnp.asarray(vector), at(positions=1, heads=0))(jnp.asarray(x))
    expected = x.copy()
    for b in range(BATCH):
      expected[b, 1, 0] += vector
    np.testing.assert_array_equal(moved, expected)
    by_head = _noise((1, 1, 2, 4), 2)
    moved = steer(by_head)(jnp.asarray(x))
    np.testing.assert_array_equal(moved[:, :, 1], x[:, :, 1] + by_head[:, :, 1])


class WhereTest(base.Float64TestCase):
  def _mask(self, where, shape):
    x = jnp.zeros(shape)
    mask = where(x)
    self.assertEqual(mask.dtype, bool)
    self.assertEqual(mask.ndim, x.ndim)
    return np.broadcast_to(mask, shape)

  @parameterized.parameters(
    (None, None), (2, None), (None, 1), ([0, 4], 2), (3, (0, 2))
  )
  def test_at(self, positions, heads):
    """The mask holds at the product of what is chosen, for all else."""
    shape = (2, LENGTH, 3, 4)
    ts = range(LENGTH) if positions is None else np.ravel(positions)
    ns = range(3) if heads is None else np.ravel(heads)
    expected = np.zeros(shape, bool)
    for t, n in itertools.product(ts, ns):
      expected[:, t, n] = True
    np.testing.assert_array_equal(
      self._mask(at(positions, heads), shape), expected
    )
    if heads is None:
      np.testing.assert_array_equal(
        self._mask(at(positions), shape[:2] + (4,)), expected[:, :, 0]
      )

  def test_at_edges(self):
    """Queries and keys are the last two axes of a pattern."""
    shape = (2, 3, LENGTH, LENGTH)
    expected = np.zeros(shape, bool)
    for t, s in itertools.product([3, 4], [0, 1]):
      expected[:, 2, t, s] = True
    np.testing.assert_array_equal(
      self._mask(at_edges(queries=[3, 4], keys=(0, 1), heads=2), shape),
      expected,
    )
    self.assertTrue(self._mask(at_edges(), shape).all())

  def test_traced(self):
    """Positions and heads may be traced: one program, vmapped over them."""
    x = _noise((BATCH, LENGTH, 2, 4))
    ts, ns = np.divmod(np.arange(LENGTH * 2), 2)
    edited = jax.vmap(lambda t, n: zero(at(t, n))(x))(
      jnp.asarray(ts), jnp.asarray(ns)
    )
    for row, t, n in zip(edited, ts, ns, strict=True):
      np.testing.assert_array_equal(row, zero(at(int(t), int(n)))(x))
      self.assertEqual(np.count_nonzero(row == 0), BATCH * 4)

  def test_cut_edge_of_a_pattern(self):
    """An edit of one edge of the pattern moves that query's head alone."""
    site = "block_0/attention/head"
    edits = {
      "block_0/attention/pattern": zero(at_edges(queries=3, keys=1, heads=1))
    }
    _, seen = _captured("gpt2")
    _, found = capture(
      Decoder(GPT2), _params(GPT2), _inputs(GPT2), (site,), edits
    )
    weight = seen["block_0/attention/pattern"][:, 1, 3, 1]
    value = seen["block_0/attention/value"][:, 1, 1]
    change = np.zeros(found[site].shape)
    change[:, 3, 1] = -weight[:, None] * value
    self.assert_close(found[site] - seen[site], change)


if __name__ == "__main__":
  absltest.main()
