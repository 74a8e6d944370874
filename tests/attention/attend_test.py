"""The laws of `attend`, on both implementations."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxlook
from tests.fixtures import attention_cases, base

PATHS = ("reference", "fused")

# One shape, so that each program compiles once for many draws.
SHAPE = (2, 6, 2, 3)
few = settings(max_examples=4, deadline=None)


def both(cases):
  """Pairs every case with every implementation."""
  return [(case, path) for case in cases for path in PATHS]


class LawsTest(base.Float64TestCase):
  @parameterized.parameters(*both(base.GRADIENT_ONLY))
  def test_law_1_forward_value_is_causal(self, spec, path):
    """A gradient-only variant has the output of causal attention."""
    arrays = attention_cases.inputs(1, (2, 7, 3, 4))
    out, _ = attention_cases.value_and_grads(spec, arrays, path)
    self.assert_close(out, attention_cases.by_loop("causal", arrays, scale=0.5))

  @parameterized.parameters(*PATHS)
  @few
  @given(seed=st.integers(0, 99))
  def test_law_2_narrowest_and_widest_windows(self, path, seed):
    """The widest window equals causal; the narrowest windows equal myopic."""
    arrays = attention_cases.inputs(seed, SHAPE)
    run = functools.partial(
      attention_cases.value_and_grads, arrays=arrays, implementation=path
    )
    whole = run("causal")
    for spec in (f"horizon:{SHAPE[1] - 1}", "horizon:99", "leak:1"):
      self.assert_close(run(spec), whole)
    for stop in ("", "/residual"):
      myopic = run("myopic" + stop)
      for variant in ("horizon:0", "offset:0", "leak:0"):
        self.assert_close(run(variant + stop), myopic)

  @parameterized.parameters(*PATHS)
  @few
  @given(seed=st.integers(0, 99))
  def test_law_3_self_only_is_linear(self, path, seed):
    """`self_only` returns the values; queries and keys get no gradient."""
    arrays = attention_cases.inputs(seed, SHAPE)
    out, grads = attention_cases.value_and_grads("self_only", arrays, path)
    self.assert_close(out, arrays["value"])
    self.assert_close(grads["value"], arrays["weight"])
    for name in ("query", "key"):
      self.assertEqual(float(jnp.abs(grads[name]).max()), 0.0)

  @parameterized.parameters(*both(["myopic", "horizon:2", "offset:1"]))
  def test_law_4_no_gradient_outside_the_window(self, spec, path):
    """Gradients of keys and values are 0 outside the window, not inside."""
    length = 6
    jacobians = _jacobians(spec, path, length)
    inside = jaxlook.attention.masks.window(jaxlook.parse(spec), length)
    for name, norm_TxS in jacobians.items():
      self.assertEqual(norm_TxS[~inside].max(), 0.0)
      # The first query's only key has weight 1 at any score.
      moves = inside & (np.arange(length)[:, None] > 0)
      lowest = norm_TxS[moves if name == "key" else inside].min()
      self.assertGreater(lowest, 1e-6)

  @parameterized.parameters(
    *((path, suffix) for path in PATHS for suffix in ("", "/residual"))
  )
  @few
  @given(seed=st.integers(0, 99))
  def test_law_6_offsets_add_up(self, path, suffix, seed):
    """Gradients of all offsets sum to causal's; so do those of two halves."""
    arrays = attention_cases.inputs(seed, SHAPE)

    def own(spec):
      _, grads = attention_cases.value_and_grads(spec, arrays, path)
      return {name: grads[name] for name in ("key", "value")}

    def add(specs):
      return jax.tree.map(lambda *terms: sum(terms), *map(own, specs))

    whole = own("causal")
    offsets = [f"offset:{d}{suffix}" for d in range(SHAPE[1])]
    self.assert_close(add(offsets), whole)
    self.assert_close(add([f"{v}{suffix}" for v in HALVES]), whole)

  @parameterized.parameters(*PATHS)
  def test_law_7_one_self_term_and_many_future_terms(self, path):
    """The value at j gets 1 term from query j and N-1-j from later queries."""
    length = 6
    terms = {
      spec: _jacobians(spec, path, length)["value"] > 0
      for spec in ("causal", *HALVES)
    }
    future = length - 1 - np.arange(length)
    np.testing.assert_array_equal(terms["myopic"].sum(axis=0), 1)
    np.testing.assert_array_equal(terms["future_only"].sum(axis=0), future)
    self.assertEqual(terms["causal"].sum(), length * (length + 1) // 2)

  @parameterized.parameters("horizon:2", "teacher")
  def test_law_9_auto_is_the_reference(self, spec):
    """`auto` gives the reference's values and gradients."""
    arrays = attention_cases.inputs(3, (2, 13, 2, 4))
    self.assert_close(
      attention_cases.value_and_grads(spec, arrays, "auto"),
      attention_cases.value_and_grads(spec, arrays, "reference"),
    )


HALVES = ("myopic", "future_only")


def _jacobians(spec, path, length):
  """Returns norms of d out_i / d key_j and d value_j: {name: [T, S]}."""
  arrays = attention_cases.inputs(5, (1, length, 1, 3))

  def out(key, value):
    return jaxlook.attend(
      arrays["query"], key, value, spec=spec, implementation=path
    )[0, :, 0]

  jacobian = jax.jacobian(out, argnums=(0, 1))(arrays["key"], arrays["value"])
  return {
    name: np.abs(np.asarray(j[:, :, 0, :, 0])).max(axis=(1, 3))
    for name, j in zip(("key", "value"), jacobian, strict=True)
  }


class FormsTest(base.Float64TestCase):
  @parameterized.parameters(
    *both(["causal", "myopic", "horizon:2/residual/keys", "leak:0.3"]),
    *both(["future_only", "teacher", "window:2", "self_only"]),
  )
  def test_law_8_vmap_over_seeds_is_a_loop(self, spec, path):
    """`vmap` over seeds, compiled, equals a loop over seeds, not compiled."""
    seeds = [attention_cases.inputs(seed, (1, 5, 2, 3)) for seed in range(2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *seeds)
    run = functools.partial(
      attention_cases.value_and_grads, spec, implementation=path
    )
    all_seeds = jax.vmap(run)(stacked)
    for e, arrays in enumerate(seeds):
      one = jax.tree.map(lambda x, e=e: x[e], all_seeds)
      with jax.disable_jit():
        self.assert_close(one, run(arrays))

  @parameterized.parameters(*base.VARIANTS)
  def test_causality(self, spec):
    """Under no variant does the output depend on later keys or values."""
    arrays = attention_cases.inputs(7, (1, 6, 2, 3))
    needs = jaxlook.parse(spec).needs_context

    def out(arrays):
      context = (arrays["other_key"], arrays["other_value"])
      return jaxlook.attend(
        *(arrays[name] for name in ("query", "key", "value")),
        spec=spec,
        context=context if needs else None,
        implementation="reference",
      )

    moved = {name: x.at[:, 4:].add(1.0) for name, x in arrays.items()}
    change = jnp.abs(out(moved) - out(arrays))
    self.assertLess(float(change[:, :4].max()), base.EXACT)
    self.assertGreater(float(change[:, 4:].min()), 0.0)

  @parameterized.parameters(*PATHS)
  def test_one_spec_per_head(self, path):
    """Each head's result equals that of the head alone under its spec."""
    names = ("myopic", "causal", "myopic/residual", "myopic")
    specs = [jaxlook.parse(name) for name in names]
    arrays = attention_cases.inputs(11, (2, 6, 4, 3))

    def mixed(given):
      context = (given["key"], given["value"])
      out = jaxlook.attend(
        given["query"],
        given["key"],
        given["value"],
        spec=specs,
        context=context,
        implementation=path,
      )
      return jnp.sum(out * given["weight"]), out

    (_, out), grads = jax.value_and_grad(mixed, has_aux=True)(arrays)
    for head, spec in enumerate(specs):
      one = {name: x[:, :, head : head + 1] for name, x in arrays.items()}
      expected, expected_grads = attention_cases.value_and_grads(
        spec, one, path
      )
      self.assert_close(out[:, :, head : head + 1], expected)
      # The context is the own pair here, so both gradients add up.
      for name in ("key", "value"):
        total = expected_grads[name] + expected_grads[f"other_{name}"]
        self.assert_close(grads[name][:, :, head : head + 1], total)

  def test_window_hides_distant_keys(self):
    """`window:w` is causal attention over the last w + 1 positions."""
    arrays = attention_cases.inputs(13, (2, 7, 2, 3))
    out, _ = attention_cases.value_and_grads("window:2", arrays, "auto")
    for i in range(7):
      near = slice(max(0, i - 2), i + 1)
      last = {name: x[:, near] for name, x in arrays.items()}
      expected, _ = attention_cases.value_and_grads("causal", last, "auto")
      self.assert_close(out[:, i], expected[:, -1])

  def test_zero_context_sees_only_itself(self):
    """out_i = v_i exp(s_ii) / (exp(s_ii) + i): i zero keys score 0 each."""
    arrays = attention_cases.inputs(17, (1, 5, 1, 4))
    out, _ = attention_cases.value_and_grads("zero_context", arrays, "auto")
    score = jnp.sum(arrays["query"] * arrays["key"], -1, keepdims=True) / 2.0
    others = jnp.arange(5.0).reshape(1, 5, 1, 1)
    share = jnp.exp(score) / (jnp.exp(score) + others)
    self.assert_close(out, share * arrays["value"])

  def test_teacher_context_is_read_and_stopped_at_kv(self):
    """The output depends on the teacher; `kv` stops its gradient."""
    arrays = attention_cases.inputs(19, (1, 5, 2, 3))
    out, grads = attention_cases.value_and_grads("teacher", arrays, "auto")
    other = arrays | {"other_value": arrays["other_value"] + 1.0}
    moved, _ = attention_cases.value_and_grads("teacher", other, "auto")
    self.assertGreater(float(jnp.abs(moved - out)[:, 1:].min()), 1e-3)
    self.assert_close(moved[:, 0], out[:, 0])
    self.assertEqual(float(jnp.abs(grads["other_value"]).max()), 0.0)
    _, grads = attention_cases.value_and_grads(
      "teacher/residual", arrays, "auto"
    )
    self.assertGreater(float(jnp.abs(grads["other_value"]).max()), 1e-3)

  @parameterized.parameters(
    *both(["causal", "myopic", "horizon:40", "zero_context", "teacher"])
  )
  def test_half_precision(self, spec, path):
    """bfloat16 inputs give bfloat16 outputs; the softmax is float32."""
    # Half a unit in the last place of 8 mantissa bits, for outputs below 4.
    tolerance = 2**-6
    arrays = attention_cases.inputs(23, (1, 6, 2, 4))
    low = {name: x.astype(jnp.bfloat16) for name, x in arrays.items()}
    high = {name: x.astype(jnp.float64) for name, x in low.items()}
    out, _ = attention_cases.value_and_grads(spec, low, path)
    chex.assert_type(out, jnp.bfloat16)
    expected, _ = attention_cases.value_and_grads(spec, high, path)
    self.assert_close(out.astype(jnp.float64), expected, atol=tolerance)

  def test_second_derivatives_of_the_reference(self):
    """The reference is twice differentiable: its Hessian is symmetric."""
    arrays = attention_cases.inputs(29, (1, 3, 1, 2))

    def scalar(query):
      out = jaxlook.attend(
        query,
        arrays["key"],
        arrays["value"],
        spec="causal",
        implementation="reference",
      )
      return jnp.sum(out**2)

    hessian = jax.hessian(scalar)(arrays["query"]).reshape(6, 6)
    self.assertGreater(float(jnp.abs(hessian).max()), 1e-3)
    self.assert_close(hessian, hessian.T)


class RefusalTest(base.TestCase):
  @parameterized.parameters(
    ({"query": jnp.zeros((2, 3, 4))}, r"query must be \[batch, length"),
    ({"key": jnp.zeros((1, 3, 2, 4))}, "key must be float32"),
    ({"value": jnp.zeros((1, 4, 2, 4), jnp.bfloat16)}, "value must be float32"),
    ({"spec": "teacher"}, "'teacher/kv' needs context keys and values"),
    ({"spec": "myopic/residual"}, "needs context"),
    ({"context": (1, 2)}, "'causal' reads no context"),
    ({"spec": "horizon:-1"}, "needs h, an integer >= 0"),
    ({"spec": [jaxlook.parse("causal")] * 3}, "3 entries for 2 heads"),
    ({"implementation": "magic"}, "implementation 'magic' is unknown"),
    (
      dict.fromkeys(("query", "key", "value"), jnp.zeros((0, 4, 2, 4))),
      r"query must not be empty, not \[0, 4, 2, 4\]",
    ),
    (
      {
        "spec": "teacher",
        "context": (jnp.zeros((1, 5, 2, 4)), jnp.zeros((1, 4, 2, 4))),
      },
      "context key must be float32",
    ),
  )
  def test_bad_arguments(self, changes, message):
    """Every bad argument raises an error that names it."""
    x = jnp.zeros((1, 4, 2, 4))
    arguments = {"query": x, "key": x, "value": x, "spec": "causal"} | changes
    positional = [arguments.pop(name) for name in ("query", "key", "value")]
    with self.assertRaisesRegex(ValueError, message):
      jaxlook.attend(*positional, **arguments)

  def test_integers_are_refused(self):
    """Integer inputs are an error."""
    x = jnp.zeros((1, 4, 2, 4), jnp.int32)
    with self.assertRaisesRegex(ValueError, "must be floating"):
      jaxlook.attend(x, x, x, spec="causal")
