"""Swaps, probes and beam searches of products: properties and known answers."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook import models
from jaxlook.decoding import generate
from jaxlook.interventions.edits import at, patch
from jaxlook.interventions.forward import capture
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.planning.products import measures as digits
from jaxlook.planning.products import plans
from jaxlook.tasks.multiplication import NAMES, Multiplication
from tests.fixtures import base

_TASK = Multiplication(digits=2, pad=3)
_SIZES = digits.ProductSizes(products=8, swaps=8, probes=32, beam=2)


def _decoder(variant="causal"):
  config = DecoderConfig(
    *(2, 16, 2, _TASK.length, _TASK.vocab_size),
    # Makes untrained models write different answers.
    init_std=1.0,
    tied_head=False,
  )
  return Decoder(config, variant)


@functools.cache
def _params():
  keys = jax.random.split(jax.random.key(3), 2)
  return jax.vmap(lambda key: models.init(_decoder().config, key))(keys)


@functools.cache
def _measured():
  return digits.measure(
    _decoder(), _TASK, _params(), jax.random.key(1), _SIZES, (True, True)
  )


class PlacesTest(base.TestCase):
  @parameterized.parameters(0, 2, 4)
  def test_parts_of_the_prompt(self, pad):
    """Places match the task's prompt, and their parts cover it once."""
    task = Multiplication(digits=2, pad=pad)
    batch = plans.full_length(task).batch(jax.random.key(0), 64)
    text = np.array(NAMES)[np.asarray(batch.inputs)]
    found = dict(plans.places(task))
    prompt = found.pop(plans.PROMPT)
    np.testing.assert_array_equal(prompt, np.concatenate([*found.values()]))
    self.assertEqual(
      found.keys() - {plans.PADDING_A, plans.PADDING_B},
      {"a", "*", "b", "="},
    )
    self.assertEqual(plans.PADDING_B in found, pad > 2)
    for name in ("*", "="):
      self.assertTrue((text[:, found[name]] == name).all())
      self.assertEqual((text == name).sum(), 64)
    for name in (plans.PADDING_A, plans.PADDING_B):
      if name in found:
        self.assertTrue((text[:, found[name]] == "0").all())
    # Numbers of full length do not end in zero.
    for name in ("a", "b"):
      self.assertFalse((text[:, found[name][-1]] == "0").any())
    last = found[plans.before_equals(task)][-1]
    self.assertEqual(last + 1, found["="][0])

  @parameterized.parameters("products", "swaps", "probes", "beam")
  def test_sizes(self, field):
    """Sizes that are too small are refused; the message has the field."""
    with self.assertRaisesRegex(ValueError, f"^{field} must be at least"):
      dataclasses.replace(_SIZES, **{field: 0})


class SwapTest(base.TestCase):
  def test_own_streams_move_nothing(self):
    """A swap with the own stream does not change what the model writes."""
    where = plans.places(_TASK)[plans.PROMPT]
    prompts = (
      plans.full_length(_TASK).batch(jax.random.key(0), 8).inputs[:, where]
    )
    params = jax.tree.map(lambda x: x[0], _params())
    site = "block_1/residual"

    @jax.jit
    def written(rows):
      _, states = capture(_decoder(), params, prompts[rows], [site])
      edits = {site: patch(states[site], at(where))}
      return generate(_decoder(), params, prompts, 4, edits=edits).tokens

    plain = generate(_decoder(), params, prompts, 4).tokens
    np.testing.assert_array_equal(written(jnp.arange(8)), plain)
    self.assertGreater((written(jnp.arange(8)[::-1]) != plain).sum(), 0)

  def test_what_layer_0_holds(self):
    """A swapped prompt gives the donor's answer; swapped padding does not."""
    found = _measured()
    self.assertGreater(found.differ.mean(), 0.2)
    names = list(plans.places(_TASK))
    for name, brought, stays in (
      (plans.PROMPT, found.moved, found.left),
      (plans.PADDING_A, found.left, found.moved),
      (plans.PADDING_B, found.left, found.moved),
      ("*", found.left, found.moved),
      ("=", found.left, found.moved),
    ):
      place = names.index(name)
      np.testing.assert_array_equal(brought[:, 0, place], found.differ)
      np.testing.assert_array_equal(stays[:, 0, place], 0.0)
    # Each operand alone moves some digits but not all.
    moved = found.effect("moved")[:, 0, [names.index("a"), names.index("b")]]
    self.assertTrue(((0 < moved) & (moved < 1)).all())
    # At layer 1 these positions have read earlier ones. Each of them matters in
    # at least one model, and at least one of them matters in each model.
    padding = [names.index(x) for x in (plans.PADDING_A, plans.PADDING_B, "=")]
    matters = found.effect("left")[:, 1, padding] < 1.0
    self.assertTrue(matters.any(axis=0).all())
    self.assertTrue(matters.any(axis=1).all())


class ProbeTest(base.TestCase):
  def test_known_digits(self):
    """A digit that the state contains is read; other digits and noise not."""
    keys = jax.random.split(jax.random.key(0), 3)
    answers = jax.random.randint(keys[0], (400, 2), 0, 10)
    noise = jax.random.normal(keys[1], (400, 10))
    states = jnp.stack([jax.nn.one_hot(answers[:, 1], 10), noise])
    found, shuffled = jax.jit(plans.probe)(states, answers, keys[2])
    self.assertEqual(found[0, 1], 1.0)
    for chance in (found[0, 0], *found[1], *shuffled.ravel()):
      # The bound is five standard errors above a tenth.
      self.assertLess(chance, 0.1 + 5 * (0.09 / 200) ** 0.5)


class MeasureTest(base.TestCase):
  def test_shapes_and_shares(self):
    """All results have the right axes; moved + left never exceeds differ."""
    found = _measured()
    places = len(plans.places(_TASK))
    chex.assert_shape(
      list(found),
      [
        *[(2, 4)] * 3,
        (2, 2, 2),
        *[(2,)] * 3,
        *[(2, 2, places, 4)] * 2,
        (2, 4),
        *[(2, 3, places, 4)] * 2,
      ],
    )
    total = found.moved + found.left
    self.assertTrue((total <= found.differ[:, None, None] + 1e-6).all())
    for values in found:
      self.assertTrue(np.isfinite(values).all())

  def test_exact_accuracy_is_that_of_greedy_decoding(self):
    """The accuracy of whole products equals that of greedy decoding."""
    decoder = _decoder()
    params = jax.tree.map(lambda x: x[0], _params())
    task = plans.full_length(_TASK)
    batch = task.batch(jax.random.key(2), 8)
    width = len(plans.places(task)[plans.PROMPT])
    prompts = batch.inputs[:, :width]
    written = generate(decoder, params, prompts, 4).tokens
    # For half of the products, the model's own answers are used as the truth.
    own = jnp.where((jnp.arange(8) < 4)[:, None], written, (written + 1) % 10)
    inputs = batch.inputs.at[:, width:].set(own[:, :-1])
    targets = batch.targets.at[:, width - 1 :].set(own)
    batch = batch._replace(inputs=inputs, targets=targets)
    best = jnp.argmax(models.apply(decoder, params, inputs), axis=-1)
    whole = jnp.all(task.correct(best, batch), axis=1)
    np.testing.assert_array_equal(whole, np.arange(8) < 4)

  def test_diverged_seeds_are_left_out(self):
    """A diverged seed becomes NaN; the other seeds do not change."""
    found = digits.measure(
      *(_decoder("myopic"), _TASK, _params(), jax.random.key(1)),
      *(_SIZES, (False, True)),
    )
    for values, before in zip(found, _measured(), strict=True):
      self.assertTrue(np.isnan(values[0]).all())
      # A gradient cut does not change the forward pass.
      np.testing.assert_array_equal(values[1], before[1])


if __name__ == "__main__":
  absltest.main()
