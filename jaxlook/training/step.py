"""One optimizer step of one seed, and its vectorized form over seeds.

Seeds are a leading axis E of every array. A seed's parameters and data depend
only on its own keys: init key and data key are split from
`make_key(seed)`, and the batch of a step is drawn with
`fold_in(data_key, step)` for every variant.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxlook import models
from jaxlook.keys import make_key
from jaxlook.models import Context, Decoder, DecoderConfig
from jaxlook.tasks.losses import DeferredLogits
from jaxlook.tasks.task import Batch, Task
from jaxlook.training.config import TrainConfig
from jaxlook.training.mesh import Share
from jaxlook.training.optimizers import optimizer

ALIVE = -1
_ALL = Share()


class State(NamedTuple):
  """The training state of a seed.

  Attributes:
    params: the decoder's parameters.
    opt_state: the optimizer's state.
    diverged_at: the first step with a non-finite loss or gradient, after which
      the seed is frozen; `ALIVE` until then. int32.
  """

  params: Any
  opt_state: Any
  diverged_at: jax.Array


class SeedKeys(NamedTuple):
  """The PRNG keys of a seed.

  Attributes:
    init: draws the parameters.
    data: draws the batches of all steps.
  """

  init: jax.Array
  data: jax.Array


def seed_keys(seeds: Sequence[int]) -> SeedKeys:
  """Returns the keys of every seed, each [E]; equal for all variants."""
  pairs = jax.vmap(lambda seed: jax.random.split(make_key(seed)))(
    jnp.asarray(seeds, jnp.uint32)
  )
  return SeedKeys(init=pairs[:, 0], data=pairs[:, 1])


@functools.partial(jax.jit, static_argnums=(0, 1))
def init_states(
  model: DecoderConfig,
  config: TrainConfig,
  keys: jax.Array,
  start: Any = None,
) -> State:
  """Returns the states of all seeds before their first step.

  It is compiled once for all variants.

  Args:
    model: the decoder's shape.
    config: how it is trained.
    keys: the seeds' init keys [E], consumed.
    start: parameters from which all seeds start; by default each seed draws
      its own.

  Returns:
    Parameters and new optimizer states; a leading seed axis E on every array.

  Raises:
    AssertionError: `start` has not the model's shapes, or is not float32.
  """
  if start is not None:
    chex.assert_trees_all_equal_shapes_and_dtypes(
      start, jax.eval_shape(functools.partial(models.init, model), keys[0])
    )

  def one(key: jax.Array) -> State:
    params = models.init(model, key) if start is None else start
    return State(
      params=params,
      opt_state=optimizer(config).init(params),
      diverged_at=jnp.int32(ALIVE),
    )

  return jax.vmap(one)(keys)


@flax.struct.dataclass
class Teacher:
  """A frozen model whose keys and values are another model's context.

  Attributes:
    params: parameters; for several seeds with a leading axis E, one teacher per
      seed.
    decoder: the model.
    teacher: this model's own teacher; None unless it needs one.
  """

  params: Any
  decoder: Decoder = flax.struct.field(pytree_node=False)
  teacher: "Teacher | None" = None

  def context(self, inputs: jax.Array) -> tuple[Context, ...]:
    """Returns each layer's context for inputs; see `Decoder`."""
    own = None if self.teacher is None else self.teacher.context(inputs)
    _, context = models.collect_context(self.decoder, self.params, inputs, own)
    return context


def position_losses(
  decoder: Decoder,
  task: Task,
  params: Any,
  batch: Batch,
  teacher: Teacher | None = None,
  loss_tokens: int | None = None,
) -> jax.Array:
  """Computes the task's loss of one seed at every position, [B, T].

  Args:
    decoder: the model under a variant.
    task: has the loss.
    params: the parameters.
    batch: the sequences.
    teacher: its context is read; None unless the variant needs one.
    loss_tokens: number of tokens whose logits exist at a time; None for all.

  Returns:
    The loss in the task's unit.
  """
  context = None if teacher is None else teacher.context(batch.inputs)
  if loss_tokens is None:
    return task.loss(
      models.apply(decoder, params, batch.inputs, context), batch
    )
  hidden = models.apply(decoder, params, batch.inputs, context, headless=True)
  head = functools.partial(models.apply_head, decoder, params)
  return task.loss(DeferredLogits(hidden, head, loss_tokens), batch)


def loss_and_gradient(
  decoder: Decoder,
  task: Task,
  microbatches: int,
  params: Any,
  batch: Batch,
  teacher: Teacher | None = None,
  loss_tokens: int | None = None,
  share: Share = _ALL,
) -> tuple[jax.Array, Any]:
  """Computes the mean loss of a batch and its gradient, in microbatches.

  Only one microbatch's activations exist at a time, so they fit into memory,
  and on CPUs into caches, where those of the whole batch do not.

  Args:
    decoder: the model under a variant.
    task: has the loss.
    microbatches: number of equal parts of the batch, computed one after
      another; it divides the batch's size.
    params: the parameters, or this device's parts of them.
    batch: the whole batch, or this device's sequences.
    teacher: its context is read; None unless the variant needs one.
    loss_tokens: number of tokens whose logits exist at a time; None for all.
    share: this device's share of the step.

  Returns:
    The mean over all positions of all sequences, scalar, and its gradient, a
    tree like `params`. Up to rounding they do not depend on `microbatches`.
  """

  @jax.value_and_grad
  @share.remat_gather
  def loss(params: Any, batch: Batch) -> jax.Array:
    whole = share.gather_params(params)
    return jnp.mean(
      position_losses(decoder, task, whole, batch, teacher, loss_tokens)
    )

  if microbatches == 1:
    value, grads = loss(params, batch)
    return share.mean(value), share.mean_gradient(grads)
  parts = jax.tree.map(
    lambda leaf: leaf.reshape(microbatches, -1, *leaf.shape[1:]), batch
  )
  sums, _ = jax.lax.scan(
    lambda sums, part: (jax.tree.map(jnp.add, sums, loss(params, part)), None),
    jax.tree.map(
      lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
      jax.eval_shape(loss, params, batch),
    ),
    parts,
  )
  value, grads = jax.tree.map(lambda leaf: leaf / microbatches, sums)
  return share.mean(value), share.mean_gradient(grads)


def train_step(
  decoder: Decoder,
  task: Task,
  config: TrainConfig,
  state: State,
  data_key: jax.Array,
  step: jax.Array,
  fed: jax.Array | None,
  teacher: Teacher | None = None,
  share: Share = _ALL,
) -> tuple[State, jax.Array]:
  """Takes one step of one seed; a diverged seed keeps its state.

  Args:
    decoder: the model under a variant.
    task: makes the batch and computes its loss.
    config: how the model is trained.
    state: the seed's state.
    data_key: the seed's data key.
    step: index of this step, int32.
    fed: data from the host for this seed and step, the rows of this device;
      None for generated tasks.
    teacher: its context is read; None unless the variant needs one.
    share: this device's share of the step; state and result are its parts.

  Returns:
    The state after the step and the loss before it, scalar; NaN from the step
    at which the seed diverged.
  """
  batch = task.batch(jax.random.fold_in(data_key, step), config.batch_size, fed)
  if fed is None:
    batch = share.batch(batch)
  loss, grads = loss_and_gradient(
    decoder,
    task,
    config.microbatches,
    state.params,
    batch,
    teacher,
    loss_tokens=config.loss_tokens,
    share=share,
  )
  updates, opt_state = optimizer(config, share.norm).update(
    grads, state.opt_state, state.params
  )
  alive = state.diverged_at == ALIVE
  finite = jnp.isfinite(loss) & jnp.isfinite(share.norm(grads))
  updated = State(
    params=optax.apply_updates(state.params, updates),
    opt_state=opt_state,
    diverged_at=state.diverged_at,
  )
  frozen = state._replace(diverged_at=jnp.where(alive, step, state.diverged_at))
  after = jax.tree.map(
    lambda new, old: jnp.where(alive & finite, new, old), updated, frozen
  )
  return after, jnp.where(alive & finite, loss, jnp.nan)


def train_chunk(
  decoder: Decoder,
  task: Task,
  config: TrainConfig,
  states: State,
  data_keys: jax.Array,
  steps: jax.Array,
  fed: jax.Array | None,
  teacher: Teacher | None = None,
  share: Share = _ALL,
) -> tuple[State, jax.Array]:
  """Takes several steps of all seeds in one program.

  Args:
    decoder: the model under a variant.
    task: makes the batches and computes their loss.
    config: how the model is trained.
    states: the states of all seeds, a leading axis E on every array.
    data_keys: the data keys, [E].
    steps: indices of consecutive steps, int32 [K].
    fed: data from the host, [K, E, rows of this device, ...]; None for
      generated tasks.
    teacher: the seeds' teachers; None unless the variant needs them.
    share: this device's share of the steps; the states are its parts.

  Returns:
    The states after the steps, and the mean loss over them, float32 [E].
  """

  def body(states: State, xs):
    step, fed_E = xs
    return jax.vmap(
      lambda state, key, fed, teacher: train_step(
        decoder, task, config, state, key, step, fed, teacher, share
      )
    )(states, data_keys, fed_E, teacher)

  states, losses_KxE = jax.lax.scan(body, states, (steps, fed))
  return states, jnp.mean(losses_KxE, axis=0)
