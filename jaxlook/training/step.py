"""One optimiser step of one seed, and its vectorised form over seeds.

Seeds are a leading axis E of every array. A seed's parameters and data depend
on its own keys alone: the init key and the data key are split from
`jax.random.key(seed)`, and the batch of a step is drawn with
`fold_in(data_key, step)`, whatever the variant.
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
from jaxlook.models import Context, Decoder, DecoderConfig
from jaxlook.tasks.losses import DeferredLogits
from jaxlook.tasks.task import Batch, Task
from jaxlook.training.config import TrainConfig, optimizer
from jaxlook.training.mesh import Share

ALIVE = -1
_ALL = Share()


class State(NamedTuple):
  """What a seed carries from step to step.

  Attributes:
    params: the decoder's parameters.
    opt_state: the optimiser's state.
    diverged_at: the first step with a non-finite loss or gradient, from which
      on the seed is frozen; `ALIVE` until then. int32.
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
  """The keys of every seed, each [E]; equal for all variants."""
  pairs = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed)))(
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
  """The states of all seeds before their first step.

  Args:
    model: the decoder's shape.
    config: how it is trained.
    keys: the seeds' init keys [E], consumed.
    start: parameters that all seeds start from; fresh ones of each seed by
      default.

  Returns:
    Parameters and fresh optimiser states, alive; a leading seed axis E on every
    array. Compiled once for all variants.

  Raises:
    AssertionError: `start` is not of the model's shape and in float32.
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
  """A frozen model whose keys and values are the context of another's.

  Attributes:
    params: its parameters; for several seeds, with the leading axis E: each
      seed reads its own.
    decoder: the model.
    teacher: the teacher that it reads itself; None unless it needs one.
  """

  params: Any
  decoder: Decoder = flax.struct.field(pytree_node=False)
  teacher: "Teacher | None" = None

  def context(self, inputs: jax.Array) -> tuple[Context, ...]:
    """What each layer offers as context for inputs, as of `Decoder`."""
    read = None if self.teacher is None else self.teacher.context(inputs)
    _, context = models.collect_context(self.decoder, self.params, inputs, read)
    return context


def position_losses(
  decoder: Decoder,
  task: Task,
  params: Any,
  batch: Batch,
  teacher: Teacher | None = None,
  loss_tokens: int | None = None,
) -> jax.Array:
  """The task's loss of one seed at every position, [B, T].

  Args:
    decoder: the model under a variant.
    task: has the loss.
    params: the parameters.
    batch: the sequences.
    teacher: whose context the model reads; None unless the variant needs one.
    loss_tokens: how many tokens' logits there may be at a time; None for all.

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
  """The mean loss of a batch and its gradient, a part of the batch at a time.

  Activations of one part live at once, so they fit where the whole batch's do
  not: in memory, and on a CPU in its caches.

  Args:
    decoder: the model under a variant.
    task: has the loss.
    microbatches: how many equal parts the batch is split into, one after the
      other; it divides the batch's size.
    params: the parameters.
    batch: the whole batch.
    teacher: whose context the model reads; None unless the variant needs one.
    loss_tokens: how many tokens' logits there may be at a time; None for all.
    share: what this device does; the parameters are its parts, and the batch
      its own.

  Returns:
    The mean over all positions of all sequences, scalar, and its gradient, a
    tree like `params`; up to rounding those of the batch in one part.
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
  """Takes one step of one seed; a seed that is not finite stays as it was.

  Args:
    decoder: the model under a variant.
    task: makes the batch and its loss.
    config: how the model is trained.
    state: the seed's state.
    data_key: the seed's data key.
    step: which step this is, int32.
    fed: what the host read for this seed and step, the rows of this device;
      None for generated tasks.
    teacher: whose context the seed reads; None unless the variant needs one.
    share: what this device does; the state is its parts, and so is the result.

  Returns:
    The state after the step and the loss before it, scalar; NaN from the step
    on at which the seed diverged.
  """
  batch = task.batch(jax.random.fold_in(data_key, step), config.batch_size, fed)
  if fed is None:
    batch = share.batch(batch)
  loss, grads = loss_and_gradient(
    *(decoder, task, config.microbatches, state.params),
    *(batch, teacher, config.loss_tokens, share),
  )
  updates, opt_state = optimizer(config, share.norm).update(
    grads, state.opt_state, state.params
  )
  alive = state.diverged_at == ALIVE
  finite = jnp.isfinite(loss) & jnp.isfinite(share.norm(grads))
  moved = State(
    params=optax.apply_updates(state.params, updates),
    opt_state=opt_state,
    diverged_at=state.diverged_at,
  )
  frozen = state._replace(diverged_at=jnp.where(alive, step, state.diverged_at))
  kept = jax.tree.map(
    lambda new, old: jnp.where(alive & finite, new, old), moved, frozen
  )
  return kept, jnp.where(alive & finite, loss, jnp.nan)


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
    task: makes the batches and their loss.
    config: how the model is trained.
    states: the states of all seeds, a leading axis E on every array.
    data_keys: the data keys, [E].
    steps: the consecutive step numbers, int32 [K].
    fed: what the host read, [K, E, rows of this device, ...]; None for
      generated tasks.
    teacher: the seeds' teachers; None unless the variant needs them.
    share: what this device does; the states are its parts.

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
