"""The laws of attention for whole decoders, and the decoder's structure.

Most tests run op by op: all variants then share the compiled operations. A
compiled program per variant would take much longer.
"""

import dataclasses
import functools
import itertools
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest, parameterized

import jaxlook
from jaxlook import models
from jaxlook.attention import Variant, parse, parse_variant
from jaxlook.errors import SettingError
from jaxlook.models import Decoder, DecoderConfig, collect_context
from jaxlook.models.attention_layer import Attention, rotate
from tests.fixtures import base, position_copies
from tests.fixtures.checkpoints import random_params

LENGTH = 6
GPT2 = DecoderConfig(
  layers=2, width=16, heads=4, max_length=8, vocab_size=5, mlp_width=16
)
NEOX = dataclasses.replace(
  GPT2,
  activation="gelu",
  positions="rotary",
  rotary_fraction=0.5,
  parallel_residual=True,
  tied_head=False,
)
CONTINUOUS = dataclasses.replace(
  GPT2,
  vocab_size=None,
  input_features=2,
  output_features=1,
  activation="relu",
)
SHAPES = {"gpt2": GPT2, "neox": NEOX, "continuous": CONTINUOUS}

# Jacobians and gradients have sizes of 0.01 to 10, so more than this is not 0.
NOT_ZERO = 1e-6


def _params(config, seed=0):
  return jax.tree.map(np.float64, random_params(config, seed))


def _inputs(config):
  rng = np.random.default_rng(0)
  if config.vocab_size is not None:
    return jnp.asarray(rng.integers(config.vocab_size, size=(2, LENGTH)))
  return jnp.asarray(rng.normal(size=(2, LENGTH, config.input_features)))


def _apply(config, spec, params, inputs, teacher=None):
  return Decoder(config, spec).apply({"params": params}, inputs, teacher)


@functools.cache
def _outputs(config, spec):
  return _apply(config, spec, _params(config), _inputs(config))


def _losses(config, outputs):
  """Returns the loss at every position, averaged over the batch: [T]."""
  rng = np.random.default_rng(9)
  if config.output_features is not None:
    target = rng.normal(size=outputs.shape)
    return jnp.mean(jnp.sum((outputs - target) ** 2, axis=-1), axis=0)
  labels = rng.integers(config.vocab_size, size=outputs.shape[:2])
  loss = optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
  return jnp.mean(loss, axis=0)


@functools.cache
def _gradient(config, spec):
  """Returns the gradient of the summed loss, by parameter path."""
  return _by_path(jax.grad(_total)(_params(config), config, spec))


def _total(params, config, spec, teacher=None):
  outputs = _apply(config, spec, params, _inputs(config), teacher)
  return jnp.sum(_losses(config, outputs))


def _by_path(tree):
  leaves, _ = jax.tree.flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in leaves
  }


def _largest(x):
  return float(jnp.abs(x).max())


class GradientLawsTest(base.Float64TestCase):
  @parameterized.parameters(
    *itertools.product(
      ["gpt2", "neox"],
      [
        "myopic",
        "myopic/residual",
        "horizon:2/residual/keys",
        "offset:2/values",
        "future_only",
        "leak:0.3/residual",
        "horizon:2/keys+myopic/residual+causal+myopic,offset:1/residual",
      ],
    ),
    ("continuous", "myopic"),
    ("continuous", "myopic/residual"),
  )
  def test_law_1_forward_value_is_causal(self, shape, spec):
    """A gradient-only variant has the output of the causal model."""
    config = SHAPES[shape]
    self.assert_close(_outputs(config, spec), _outputs(config, "causal"))

  @parameterized.parameters("gpt2", "neox")
  def test_law_3_self_only_is_linear(self, shape):
    """`self_only` attention is W_O W_V; queries and keys do not learn."""
    config = SHAPES[shape]
    params = _params(config)["block_0"]["attention"]
    x = jax.random.normal(jax.random.key(1), (2, LENGTH, config.width))
    attention = Attention(config, (jaxlook.parse("self_only"),) * config.heads)
    value, out = params["value"], params["out"]
    bias = value["bias"] @ out["kernel"] + out["bias"]
    self.assert_close(
      attention.apply({"params": params}, x, None, None),
      x @ (value["kernel"] @ out["kernel"]) + bias[None, None],
    )
    for name, gradient in _gradient(config, "self_only").items():
      if "/query/" in name or "/key/" in name:
        self.assertEqual(_largest(gradient), 0.0, name)
      else:
        self.assertGreater(_largest(gradient), NOT_ZERO, name)

  @parameterized.parameters(
    ("gpt2", "myopic", 0),
    ("gpt2", "myopic/residual", 0),
    ("gpt2", "horizon:1", 1),
    ("gpt2", "horizon:1/residual", 1),
    ("gpt2", "causal", LENGTH),
    ("neox", "myopic", 0),
    ("neox", "horizon:1/residual", 1),
  )
  def test_law_4_myopic_jacobian(self, shape, spec, horizon):
    """dL_i/dx_j is 0 only at distances above `horizon` * the layers above."""
    distance = np.subtract.outer(np.arange(LENGTH), np.arange(LENGTH))
    for layer, norm_TxS in enumerate(_stream_jacobian(SHAPES[shape], spec)):
      above = SHAPES[shape].layers - layer
      inside = (distance >= 0) & (distance <= horizon * above)
      self.assertTrue((~inside).any())
      self.assertEqual(norm_TxS[~inside].max(), 0.0)
      self.assertGreater(norm_TxS[inside].min(), NOT_ZERO)

  @parameterized.parameters("gpt2", "neox", "continuous")
  def test_law_5_copies_compute_the_same(self, shape):
    """With equal parameter copies, brute force gives the decoder's outputs."""
    config = SHAPES[shape]
    params, inputs = _params(config), _inputs(config)
    self.assert_close(
      position_copies.apply(
        config, position_copies.copies(params, LENGTH), inputs
      ),
      _outputs(config, "causal"),
    )

  @parameterized.parameters("gpt2", "neox")
  def test_law_5_definition(self, shape):
    """The myopic gradient is sum_i dL_i/dtheta_i; causal's sums all terms."""
    config = SHAPES[shape]
    terms = _terms(config)
    diagonal = {n: jnp.einsum("ii...->...", x) for n, x in terms.items()}
    self.assert_close(_gradient(config, "myopic"), diagonal)
    whole = {name: x.sum(axis=(0, 1)) for name, x in terms.items()}
    self.assert_close(_gradient(config, "causal"), whole)

  @parameterized.parameters("gpt2", "neox")
  def test_law_5_off_diagonal_terms(self, shape):
    """Off-diagonal terms exist only for parameters below the last context.

    Parameters used after the last layer's keys and values, or only by queries
    there, have none. No parameter has a term with j > i.
    """
    config = SHAPES[shape]
    after = ("final_norm", "head", "block_1/mlp")
    after += ("block_1/attention/query", "block_1/attention/out")
    ahead = np.triu(np.ones((LENGTH, LENGTH), bool), 1)
    for name, x in _terms(config).items():
      norm_TxS = np.abs(x).max(axis=tuple(range(2, x.ndim)))
      self.assertEqual(norm_TxS[ahead].max(), 0.0, name)
      off_diagonal = norm_TxS[ahead.T]
      if name.startswith(after):
        self.assertEqual(off_diagonal.max(), 0.0, name)
      else:
        self.assertGreater(off_diagonal.max(), 1e-3, name)

  @parameterized.parameters("gpt2", "neox")
  def test_residual_stops_below_the_projections(self, shape):
    """Stop point `residual` adds terms only to W_K and W_V.

    In the last layer these are causal's terms; in the first layer they are the
    terms that reach the loss through a myopic second layer.
    """
    config = SHAPES[shape]
    residual, kv, causal, below = (
      _gradient(config, spec)
      for spec in ("myopic/residual", "myopic", "causal", "causal,myopic")
    )
    for name, gradient in residual.items():
      if "/key/" not in name and "/value/" not in name:
        self.assert_close(gradient, kv[name])
        continue
      self.assert_close(gradient, (below if "_0/" in name else causal)[name])
      # A key's bias shifts all scores of a query equally if keys do not rotate.
      if not name.endswith("key/bias"):
        self.assertGreater(_largest(gradient - kv[name]), 1e-3, name)
    first = "block_0/attention/value/kernel"
    self.assertGreater(_largest(causal[first] - below[first]), 1e-3)


@functools.cache
def _init():
  return models.init(GPT2, jax.random.key(5))


@functools.cache
def _terms(config):
  """Returns the derivatives dL_i / dtheta_j by parameter path: [T, T, ...]."""
  losses = functools.partial(_losses, config)
  return _by_path(
    position_copies.jacobian(config, _params(config), _inputs(config), losses)
  )


def _stream_jacobian(config, spec):
  """Returns the largest |dL_i / dx_j| at each block's input: list of [T, T]."""
  variables = {"params": _params(config)}

  def losses(moved):
    edits = {
      f"block_{layer}/residual": functools.partial(jnp.add, x)
      for layer, x in enumerate(moved)
    }
    outputs = Decoder(config, spec).apply(
      variables, _inputs(config), edits=edits
    )
    return _losses(config, outputs)

  still = [jnp.zeros((2, LENGTH, config.width))] * config.layers
  # Row by row, because a gradient's operations are compiled already.
  _, pull = jax.vjp(losses, still)
  rows = [pull(row)[0] for row in jnp.eye(LENGTH)]
  return [
    np.abs(np.stack([row[layer] for row in rows])).max(axis=(1, 3))
    for layer in range(config.layers)
  ]


class TeacherTest(base.Float64TestCase):
  config = dataclasses.replace(GPT2, layers=1)
  mixed = "myopic+teacher+teacher/residual+myopic/residual"

  def _context(self, config, seed=0):
    return collect_context(
      Decoder(config), _params(config, seed), _inputs(config)
    )[1]

  @parameterized.parameters(
    ("gpt2", "teacher"),
    ("gpt2", "teacher/residual"),
    ("gpt2", "teacher/values"),
    ("neox", "teacher"),
    ("neox", "teacher/keys+teacher/residual+causal+myopic/residual,teacher"),
  )
  def test_a_model_as_its_own_teacher(self, shape, spec):
    """A model that is its own teacher has the outputs of the causal model."""
    config = SHAPES[shape]
    context = self._context(config)
    self.assert_close(
      _apply(config, spec, _params(config), _inputs(config), context),
      _outputs(config, "causal"),
    )

  @parameterized.parameters("teacher", "teacher/residual")
  def test_another_teacher(self, spec):
    """Another teacher changes all outputs except the first."""
    other = self._context(GPT2, seed=1)
    moved = _apply(GPT2, spec, _params(GPT2), _inputs(GPT2), other)
    change = np.abs(moved - _outputs(GPT2, "causal")).max(axis=(0, 2))
    self.assertLess(change[0], base.EXACT)
    self.assertGreater(change[1:].min(), 1e-3)

  def test_collect_context(self):
    """The context is each layer's input, keys and values; outputs are equal."""
    params, inputs = _params(NEOX), _inputs(NEOX)
    outputs, context = collect_context(Decoder(NEOX), params, inputs)
    np.testing.assert_array_equal(outputs, _outputs(NEOX, "causal"))
    self.assertLen(context, 2)
    for layer in context:
      chex.assert_shape(layer.residual, (2, LENGTH, 16))
      chex.assert_shape([layer.key, layer.value], (2, LENGTH, 4, 4))
    embedding = params["token_embedding"]["embedding"]
    np.testing.assert_array_equal(context[0].residual, embedding[inputs])
    # Keys are rotated, except at position 0.
    block = params["block_0"]
    x = position_copies.norm(
      NEOX,
      position_copies.copies(block["attention_norm"], LENGTH),
      context[0].residual,
    )
    for name, actual in (("key", context[0].key), ("value", context[0].value)):
      layer = block["attention"][name]
      plain = (x @ layer["kernel"] + layer["bias"][None, None]).reshape(
        actual.shape
      )
      rotated = rotate(plain, NEOX) if name == "key" else plain
      self.assert_close(actual, rotated)
      self.assert_close(actual[:, 0], plain[:, 0])

  def test_heads_read_their_own_context(self):
    """Each head's output equals that of a layer with only its variant."""
    config = self.config
    params = dict(_params(config)["block_0"]["attention"])
    # With this W_O, each head's output has its own columns.
    params["out"] = {"kernel": np.eye(16), "bias": np.zeros(16)}
    x, other = jax.random.normal(jax.random.key(1), (2, 2, LENGTH, 16))
    (teacher,) = self._context(config, seed=1)

    def heads(specs):
      specs = tuple(jaxlook.parse(spec) for spec in specs)
      attention = Attention(config, specs)
      out = attention.apply({"params": params}, x, other, teacher)
      return out.reshape(2, LENGTH, 4, 4)

    names = self.mixed.split("+")
    alone = [heads([name] * 4) for name in names]
    out = heads(names)
    for n in range(4):
      self.assert_close(out[:, :, n], alone[n][:, :, n])
    for a, b in ((0, 1), (1, 2), (0, 2)):
      self.assertGreater(_largest(alone[a] - alone[b]), 1e-2)

  def test_heads_learn_under_their_own_variant(self):
    """W_Q, W_K and W_V of a head get the gradient of the head's variant."""
    mixed = _by_path(
      jax.jit(jax.grad(_total), static_argnums=(1, 2))(
        _params(self.config),
        self.config,
        self.mixed,
        self._context(self.config),
      )
    )
    alone = [_gradient(self.config, f"myopic{s}") for s in ("", "/residual")]
    for name in ("query", "key", "value"):
      path = f"block_0/attention/{name}/kernel"
      by_head = [x[path].reshape(16, 4, 4) for x in (mixed, *alone)]
      self.assert_close(by_head[0][:, :2], by_head[1][:, :2])
      self.assert_close(by_head[0][:, 2:], by_head[2][:, 2:])
      if name != "query":
        for n in range(4):
          change = by_head[1][:, n] - by_head[2][:, n]
          self.assertGreater(_largest(change), 1e-3)

  def test_the_teacher_learns_nothing(self):
    """The teacher's context gets no gradient at either stop point."""
    for spec in ("teacher", "teacher/residual"):
      gradients = jax.grad(
        lambda teacher, spec=spec: jnp.sum(
          _apply(GPT2, spec, _params(GPT2), _inputs(GPT2), teacher) ** 2
        )
      )(self._context(GPT2, seed=1))
      for gradient in jax.tree.leaves(gradients):
        self.assertEqual(_largest(gradient), 0.0)


class RotaryTest(base.Float64TestCase):
  # 4 of the 8 dimensions of a head rotate.
  config = dataclasses.replace(NEOX, heads=2, rotary_base=100.0)

  def setUp(self):
    super().setUp()
    keys = jax.random.split(jax.random.key(3))
    # The same vector at every position.
    self.query, self.key = (
      jnp.broadcast_to(jax.random.normal(k, (1, 1, 2, 8)), (1, LENGTH, 2, 8))
      for k in keys
    )

  def test_definition(self):
    """Dimensions i, i + 2 form a complex number, rotated by t base^(-i / 2)."""
    rotated = np.asarray(rotate(self.query, self.config))
    x = np.asarray(self.query)
    angle = np.outer(np.arange(LENGTH), [1.0, 100.0**-0.5])[None, :, None]
    pairs = (x[..., :2] + 1j * x[..., 2:4]) * np.exp(1j * angle)
    self.assert_close(rotated[..., :2], pairs.real)
    self.assert_close(rotated[..., 2:4], pairs.imag)
    np.testing.assert_array_equal(rotated[..., 4:], x[..., 4:])
    np.testing.assert_array_equal(rotated[:, 0], x[:, 0])

  def test_norms_are_unchanged(self):
    """Rotation changes neither norms nor the dtype."""
    rotated = rotate(self.query, self.config)
    self.assert_close(
      jnp.linalg.norm(rotated, axis=-1), jnp.linalg.norm(self.query, axis=-1)
    )
    self.assertGreater(
      _largest(rotated[:, 1:, :, :4] - self.query[:, 1:, :, :4]), 0.1
    )
    half = rotate(self.query.astype(jnp.bfloat16), self.config)
    chex.assert_type(half, jnp.bfloat16)

  def test_scores_are_relative(self):
    """Scores of equal vectors depend only on the distance i - j."""
    scores = jnp.einsum(
      "btnh,bsnh->bnts",
      rotate(self.query, self.config),
      rotate(self.key, self.config),
    )
    self.assert_close(scores[:, :, 1:, 1:], scores[:, :, :-1, :-1])
    self.assertGreater(
      _largest(scores[:, :, 1:, 0] - scores[:, :, :-1, 0]), 0.1
    )

  def test_absolute_positions_do_not_matter(self):
    """If the sequence is shifted, a rotary model's outputs shift with it."""
    params, inputs = _params(NEOX), _inputs(NEOX)
    run = functools.partial(_apply, NEOX, "window:1", params)
    # Two layers of reach 1: the output at i depends on tokens i - 2 .. i.
    later = run(jnp.roll(inputs, 1, axis=1))
    self.assert_close(later[:, 3:], run(inputs)[:, 2:-1])
    self.assertGreater(_largest(later[:, 2] - run(inputs)[:, 1]), NOT_ZERO)


class DecoderTest(base.Float64TestCase):
  @parameterized.parameters(
    ("gpt2", "causal"),
    ("gpt2", "self_only"),
    ("gpt2", "window:2"),
    ("gpt2", "zero_context"),
    ("neox", "causal"),
    ("neox", "myopic/residual"),
    ("continuous", "causal"),
    ("continuous", "myopic"),
  )
  def test_causality(self, shape, spec):
    """Later inputs do not change earlier outputs, but their own."""
    config = SHAPES[shape]
    inputs = _inputs(config)
    if config.vocab_size is None:
      later = inputs.at[:, 4:].add(1.0)
    else:
      later = inputs.at[:, 4:].set((inputs[:, 4:] + 1) % config.vocab_size)
    out = _outputs(config, spec)
    moved = _apply(config, spec, _params(config), later)
    np.testing.assert_array_equal(moved[:, :4], out[:, :4])
    self.assertGreater(np.abs(moved - out)[:, 4:].max(axis=2).min(), NOT_ZERO)

  def test_compiled_fused_equals_the_reference(self):
    """The compiled gradient of the fused path equals the reference's."""
    config = dataclasses.replace(NEOX, layers=1)
    params, inputs = _params(config), _inputs(config)
    spec = "horizon:1/residual"

    def total(implementation, params):
      decoder = Decoder(config, spec, implementation)
      outputs = decoder.apply({"params": params}, inputs)
      return jnp.sum(_losses(config, outputs))

    fast = jax.jit(jax.grad(functools.partial(total, "auto")))(params)
    plain = jax.grad(functools.partial(total, "reference"))(params)
    self.assert_close(fast, plain)

  def test_init_does_not_depend_on_the_variant(self):
    """Every variant draws the same parameters, also float32 under x64."""
    params = _init()
    chex.assert_trees_all_equal_dtypes(params, jax.tree.map(np.float32, params))
    for spec in ("myopic/residual", "self_only"):
      drawn = Decoder(GPT2, spec).init(
        jax.random.key(5), jnp.zeros((1, 1), jnp.int32)
      )
      chex.assert_trees_all_equal(drawn["params"], params)

  def test_init_spread(self):
    """Kernels have GPT-2's standard deviations, smaller for output kernels."""
    kernels = []
    for name, x in _by_path(_init()).items():
      if name.endswith("bias"):
        self.assertEqual(_largest(x), 0.0, name)
      elif name.endswith("scale"):
        np.testing.assert_array_equal(x, 1.0)
      else:
        # sqrt(2 * layers) = 2.
        expected = 0.02 / (2 if "/out/" in name or "/down/" in name else 1)
        # The relative error of a standard deviation of 80 numbers is 8 percent.
        self.assertBetween(float(x.std()) / expected, 0.7, 1.3, name)
        kernels.append(float(x.reshape(-1)[0]))
    self.assertLen(set(kernels), 14)

  @parameterized.parameters(
    ({}, {"position_embedding", "token_embedding"}),
    ({"positions": "none"}, {"token_embedding"}),
    ({"positions": "rotary"}, {"token_embedding"}),
    (
      {"tied_head": False},
      {"position_embedding", "token_embedding", "head"},
    ),
    (
      {"output_features": 3},
      {"position_embedding", "token_embedding", "head"},
    ),
    (
      {"vocab_size": None, "input_features": 2, "output_features": 3},
      {"position_embedding", "input", "head"},
    ),
  )
  def test_structure(self, changes, expected):
    """A model has exactly the parameters of its shape."""
    config = dataclasses.replace(GPT2, **changes)
    shapes = jax.eval_shape(lambda: models.init(config, jax.random.key(0)))
    blocks = {"block_0", "block_1", "final_norm"}
    self.assertEqual(set(shapes), expected | blocks)
    if "head" in expected:
      # Logits have no bias; continuous outputs have one.
      head = {"kernel"} | ({"bias"} if config.output_features else set())
      self.assertEqual(set(shapes["head"]), head)
    outputs = jax.eval_shape(
      functools.partial(_apply, config, "causal"), shapes, _inputs(config)
    )
    width = config.output_features or config.vocab_size
    self.assertEqual(outputs.shape, (2, LENGTH, width))

  def test_attention_only(self):
    """A model without MLP has no MLP parameters, and runs."""
    config = dataclasses.replace(GPT2, mlp_width=0)
    params = _params(config)
    self.assertEqual(set(params["block_0"]), {"attention", "attention_norm"})
    inputs = _inputs(config)
    self.assert_close(
      _apply(config, "causal", params, inputs),
      position_copies.apply(
        config, position_copies.copies(params, LENGTH), inputs
      ),
    )

  def test_bad_arguments_are_refused(self):
    """Long sequences, missing teachers and wrong variants are errors."""
    params = _params(GPT2)
    for spec, length, message in (
      ("causal", 9, "length 9 exceed max_length=8"),
      ("teacher", LENGTH, "'teacher.*' needs a teacher's context"),
      (
        "causal,teacher/residual",
        LENGTH,
        "'teacher/residual' needs a teacher's",
      ),
      ("causal,causal,causal", 4, "gives 3 layers, the model has 2"),
      ("causal+causal+causal", 4, "gives 3 heads, the model has 4"),
      ("magic", 4, "attention 'magic' is unknown"),
      (
        parse_variant("causal", 1, 4),
        4,
        "for 1 layer of 4 heads, the model has 2 of 4",
      ),
      (
        parse_variant("myopic", 2, 2),
        4,
        "'myopic/kv' is for 2 layers of 2 heads, the model has 2 of 4",
      ),
    ):
      with self.assertRaisesRegex(ValueError, message):
        _apply(GPT2, spec, params, jnp.zeros((2, length), jnp.int64))

  @parameterized.parameters("causal", "myopic", "causal,myopic/residual")
  def test_a_flag_form_is_parsed_once(self, form):
    """The module holds a `Variant`, also if it was given a flag form."""
    decoder = Decoder(GPT2, form)
    variant = parse_variant(form, GPT2.layers, GPT2.heads)
    self.assertIsInstance(decoder.attention, Variant)
    self.assertEqual(decoder.attention, variant)
    self.assertEqual(decoder, Decoder(GPT2, variant))
    self.assertEqual(hash(decoder), hash(Decoder(GPT2, variant)))
    params, inputs = _params(GPT2), _inputs(GPT2)
    with mock.patch.object(
      models.decoder, "parse_variant", side_effect=AssertionError
    ):
      self.assertEqual(decoder.clone(remat=True).variant, variant)
      decoder.apply({"params": params}, inputs)

  def test_specs_become_the_variant(self):
    """One for all heads, or one for each layer; anything else is refused."""
    one, other = parse("myopic"), parse("causal")
    for given, form in (
      (one, "myopic"),
      ([one, other], "myopic,causal"),
      ((other, one), "causal,myopic"),
    ):
      self.assertEqual(Decoder(GPT2, given), Decoder(GPT2, form))
      hash(Decoder(GPT2, given))
    for bad, message in (
      ([one], "is for 1 layer of 4 heads"),
      ([], "at least 1 layer"),
      (["causal", "myopic"], "must be a Variant, .* not list"),
      (None, "must be a Variant, .* not NoneType"),
      (3, "must be a Variant, .* not int"),
    ):
      with self.assertRaisesRegex(SettingError, message):
        Decoder(GPT2, bad)

  def test_longest_sequence(self):
    """`max_length` is the longest sequence, also for rotary positions."""
    for config in (GPT2, NEOX):
      run = functools.partial(_apply, config, "causal", _params(config))
      jax.eval_shape(run, jnp.zeros((1, 8), jnp.int32))
      with self.assertRaisesRegex(ValueError, "length 9 exceed max_length=8"):
        run(jnp.zeros((1, 9), jnp.int32))


if __name__ == "__main__":
  absltest.main()
