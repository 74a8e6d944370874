"""Law 8 of DESIGN.md, section 3: seeds side by side are seeds on their own."""

import collections
import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest, parameterized

from jaxlook import models
from jaxlook.models import Decoder
from jaxlook.tasks.precache import Precache
from jaxlook.tasks.task import Batch
from jaxlook.training import TrainConfig, step
from tests.fixtures import base

MODEL = models.DecoderConfig(
  layers=1,
  width=8,
  heads=2,
  max_length=6,
  input_features=2,
  output_features=1,
  mlp_width=0,
  # Keys that turn make their bias matter: without, its gradient is rounding
  # alone, of which Adam makes steps of full size.
  positions="rotary",
  init_std=0.2,
)
STEPS = 6
CONFIG = TrainConfig(
  steps=STEPS, batch_size=2, learning_rate=0.01, warmup_fraction=0.0
)
# Products over a batch of seeds round differently in the last bit, which Adam
# scales up with the gradient: a thousandth of one of its steps of 0.01.
ROUNDING = 1e-5

SEEDS = (3, 1, 4)

# What is fed to a seed and step that is to diverge, and to one that is not.
CALM = (0.0, 0.0)
INFINITE_LOSS = (np.inf, 0.0)
# Four of these to each parameter of the head are beyond float32.
INFINITE_GRADIENT = (0.0, 3e38)


@dataclasses.dataclass(frozen=True)
class Fragile:
  """The pre-caching task, whose loss or gradient is broken by what is fed."""

  task: Precache = Precache(p=0.5, terms=2, frequency=3.0, length=6)

  def batch(self, key, size, fed) -> Batch:
    batch = self.task.batch(key, size)
    shift, steep = jnp.broadcast_to(fed, (size, 2)).T[..., None, None]
    # The second number is carried to the loss as one more target.
    steep = jnp.broadcast_to(steep, batch.targets.shape)
    return batch._replace(
      targets=jnp.concatenate([batch.targets + shift, steep], axis=-1)
    )

  def loss(self, outputs, batch):
    plain = batch._replace(targets=batch.targets[..., :1])
    still = outputs - jax.lax.stop_gradient(outputs)
    return self.task.loss(outputs, plain) + jnp.sum(
      batch.targets[..., 1:] * still, axis=-1
    )


TASK = Fragile()


_TRACES = collections.Counter()


@functools.cache
def _chunk(attention="causal"):
  def counted(states, data_keys, steps, fed):
    _TRACES[attention, len(data_keys), len(steps)] += 1
    return step.train_chunk(
      Decoder(MODEL, attention), TASK, CONFIG, states, data_keys, steps, fed
    )

  return jax.jit(counted)


def _init(seeds):
  return step.init_states(MODEL, CONFIG, step.seed_keys(seeds).init)


def _feed(count, broken):
  fed = np.tile(np.float32(CALM), (STEPS, count, 1))
  for (at, seed), values in broken.items():
    fed[at, seed] = values
  return fed


def _run(seeds, broken=None, attention="causal", steps=range(STEPS)):
  """Trains step by step; the states and losses after each step."""
  data_keys = step.seed_keys(seeds).data
  states, fed = _init(seeds), _feed(len(seeds), broken or {})
  history = []
  for at in steps:
    states, loss = _chunk(attention)(
      states, data_keys, jnp.asarray([at], jnp.int32), fed[at][None]
    )
    history.append(jax.tree.map(np.asarray, (states, loss)))
  return history


@functools.cache
def _calm():
  return _run(SEEDS)


def calm_chunk(length):
  """The states and mean loss after some steps of which none is broken."""
  history = _calm()[:length]
  return history[-1][0], np.mean([loss for _, loss in history], axis=0)


def _member(tree, e):
  return jax.tree.map(lambda x: x[e], tree)


class SeedsTest(base.TestCase):
  def test_keys(self):
    """A seed's keys are its own, whoever stands beside it; none is shared."""
    keys = step.seed_keys(SEEDS)
    data = np.stack([jax.random.key_data(k) for k in keys])
    self.assertLen({x.tobytes() for x in data.reshape(-1, data.shape[-1])}, 6)
    for e, seed in enumerate(SEEDS):
      (init,), (draw,) = step.seed_keys([seed])
      np.testing.assert_array_equal(jax.random.key_data(init), data[0, e])
      np.testing.assert_array_equal(jax.random.key_data(draw), data[1, e])

  def test_init(self):
    """A seed starts from its own parameters, bit for bit, and all differ."""
    states = _init(SEEDS)
    np.testing.assert_array_equal(states.diverged_at, step.ALIVE)
    for e, seed in enumerate(SEEDS):
      alone = _init([seed])
      chex.assert_trees_all_equal(_member(states, e), _member(alone, 0))
    kernels = np.asarray(states.params["block_0"]["attention"]["key"]["kernel"])
    self.assertGreater(np.abs(kernels[0] - kernels[1]).max(), 1e-3)

  def test_law_8_seeds_alone(self):
    """Each of several seeds trains as it does alone."""
    states, losses = _calm()[-1]
    for e, seed in enumerate(SEEDS):
      alone, loss = _run([seed])[-1]
      self.assert_close(
        _member(states.params, e), _member(alone.params, 0), atol=ROUNDING
      )
      np.testing.assert_allclose(losses[e], loss[0], rtol=1e-6)

  def test_law_8_members_differ(self):
    """The twin: no two seeds train to the same parameters or loss."""
    states, losses = _calm()[-1]
    self.assertLen(set(losses.tolist()), len(SEEDS))
    for x in jax.tree.leaves(states.params):
      for a, b in ((0, 1), (1, 2), (0, 2)):
        self.assertGreater(np.abs(x[a] - x[b]).max(), 1e-3)

  def test_law_8_order_is_nothing(self):
    """Permuted seeds train to permuted states, bit for bit."""
    order = (2, 0, 1)
    permuted = _run([SEEDS[e] for e in order])[-1]
    chex.assert_trees_all_equal(permuted, _member(_calm()[-1], np.array(order)))

  @parameterized.product(
    broken=[INFINITE_LOSS, INFINITE_GRADIENT], at=[0, 3, STEPS - 1]
  )
  def test_law_8_a_neighbour_diverges(self, broken, at):
    """A seed that diverges stays as it was, marked; others notice nothing."""
    lost, others = 1, np.array([0, 2])
    calm = _calm()
    found = _run(SEEDS, {(at, lost): broken})
    for now, ((states, loss), (wanted, wanted_loss)) in enumerate(
      zip(found, calm, strict=True)
    ):
      chex.assert_trees_all_equal(
        _member((states, loss), others), _member((wanted, wanted_loss), others)
      )
      np.testing.assert_array_equal(wanted.diverged_at, step.ALIVE)
      if now < at:
        chex.assert_trees_all_equal(states, wanted)
        self.assertTrue(np.isfinite(loss).all())
        continue
      self.assertEqual(states.diverged_at[lost], at)
      self.assertTrue(np.isnan(loss[lost]))
      before, _ = calm[at - 1] if at else (_init(SEEDS), None)
      chex.assert_trees_all_equal(
        _member((states.params, states.opt_state), lost),
        _member((before.params, before.opt_state), lost),
      )
      chex.assert_tree_all_finite(states.params)

  def test_several_diverge(self):
    """Each is frozen at its own step, even when it would be finite again."""
    broken = {(1, 0): INFINITE_LOSS, (4, 2): INFINITE_GRADIENT}
    states, _ = _run(SEEDS, broken)[-1]
    np.testing.assert_array_equal(states.diverged_at, [1, step.ALIVE, 4])


class ChunkTest(base.TestCase):
  def test_data_order_is_fixed(self):
    """Step s of a seed is on the batch of fold_in(data key, s)."""
    states = _init(SEEDS)
    position_losses = jax.jit(step.position_losses, static_argnums=(0, 1))
    for at in (0, 5):
      ((_, losses),) = _run(SEEDS, steps=[at])
      for e, seed in enumerate(SEEDS):
        _, data = jax.random.split(jax.random.key(seed))
        batch = TASK.batch(
          jax.random.fold_in(data, at), CONFIG.batch_size, np.float32(CALM)
        )
        wanted = position_losses(
          Decoder(MODEL), TASK, _member(states.params, e), batch
        ).mean()
        np.testing.assert_allclose(losses[e], wanted, rtol=1e-6)

  def test_variants_are_paired(self):
    """Variants start from the same parameters on the same data, then part."""
    myopic = _run(SEEDS, attention="myopic")
    np.testing.assert_allclose(myopic[0][1], _calm()[0][1], rtol=1e-6)
    last = [
      run[-1][0].params["block_0"]["attention"] for run in (myopic, _calm())
    ]
    for name in ("key", "value"):
      change = last[0][name]["kernel"] - last[1][name]["kernel"]
      self.assertGreater(np.abs(change).max(), 1e-3)

  def test_chunks_are_steps(self):
    """A chunk of steps is the steps one by one, and its loss their mean."""
    states, losses = _chunk()(
      _init(SEEDS),
      step.seed_keys(SEEDS).data,
      jnp.arange(STEPS, dtype=jnp.int32),
      _feed(len(SEEDS), {}),
    )
    wanted, mean = calm_chunk(STEPS)
    chex.assert_trees_all_equal(states, wanted)
    np.testing.assert_allclose(losses, mean, rtol=1e-6)

  def test_a_chunk_with_a_divergence_has_no_loss(self):
    """The mean over a chunk is NaN for a seed lost on its last step."""
    states, losses = _chunk()(
      _init(SEEDS),
      step.seed_keys(SEEDS).data,
      jnp.arange(STEPS, dtype=jnp.int32),
      _feed(len(SEEDS), {(STEPS - 1, 1): INFINITE_GRADIENT}),
    )
    np.testing.assert_array_equal(np.isnan(losses), [False, True, False])
    np.testing.assert_array_equal(states.diverged_at, [-1, STEPS - 1, -1])

  def test_a_program_for_each_shape(self):
    """Steps, seeds and divergence are data: no shape is traced twice."""
    _run(SEEDS, {(1, 0): INFINITE_LOSS})
    _run((7, 8, 9))
    self.assertEqual(_TRACES["causal", 3, 1], 1)
    self.assertEqual(set(_TRACES.values()), {1})


class MicrobatchesTest(base.TestCase):
  def _measured(self, microbatches):
    """The loss and gradient of a batch of 32, compiled, and its memory."""
    task, decoder = TASK.task, Decoder(MODEL, "myopic")
    batch = task.batch(jax.random.key(1), 32)
    params = models.init(MODEL, jax.random.key(2))
    function = functools.partial(
      step.loss_and_gradient, decoder, task, microbatches
    )
    compiled = jax.jit(function).lower(params, batch).compile()
    return (
      compiled(params, batch),
      compiled.memory_analysis().temp_size_in_bytes,
    )

  def test_parts_are_the_whole_in_less_memory(self):
    """A batch in parts has the loss and gradient of the whole, for less."""
    whole, memory = self._measured(1)
    parts, less = self._measured(8)
    self.assert_close(parts, whole, atol=ROUNDING)
    self.assertLess(less, memory / 2)
    self.assertGreater(optax.tree.norm(whole[1]), 1e-2)


if __name__ == "__main__":
  absltest.main()
