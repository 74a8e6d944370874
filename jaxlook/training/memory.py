"""The memory of a training step: on paper, and as the compiler has it.

On paper a step holds the parameters, their gradient, Adam's two moments and the
activations that the backward pass needs: what differentiation keeps, which no
device need be asked for. The compiler keeps less where it computes something
again or in place, and more where a single operation needs room to work.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxlook.models import Decoder
from jaxlook.tasks.task import Task
from jaxlook.training import step as step_lib
from jaxlook.training.config import TrainConfig


class Memory(NamedTuple):
  """Bytes of one seed's training step.

  Attributes:
    params: of the parameters; their gradient takes as many.
    optimizer: of the optimiser's state.
    activations: what differentiation keeps of one part of a batch, beside the
      parameters; under `remat` the compiler adds what one block needs.
    compiled: the most that the compiled step holds at once, its state included;
      None where the compiler does not say.
  """

  params: int
  optimizer: int
  activations: int
  compiled: int | None

  @property
  def paper(self) -> int:
    """Parameters, gradient, optimiser state and kept activations."""
    return 2 * self.params + self.optimizer + self.activations


def kept_bytes(
  decoder: Decoder,
  task: Task,
  config: TrainConfig,
  fed: jax.ShapeDtypeStruct | None = None,
) -> int:
  """What differentiation keeps of one part of a batch, beside the parameters.

  Args:
    decoder: the model under a variant, with its dtype and `remat`.
    task: makes the batch and its loss.
    config: gives the batch, its parts and the tokens whose logits exist.
    fed: shape of what the host reads for a seed and step; None for generated
      tasks.

  Returns:
    Bytes; nothing is compiled.
  """

  def backward(params: Any, key: jax.Array, fed: jax.Array | None) -> Any:
    batch = task.batch(key, config.batch_size, fed)
    part = jax.tree.map(lambda x: x[: len(x) // config.microbatches], batch)

    def loss(params: Any) -> jax.Array:
      losses_BxT = step_lib.position_losses(
        decoder, task, params, part, loss_tokens=config.loss_tokens
      )
      return jnp.mean(losses_BxT)

    # The arrays that the backward pass needs are the leaves of its function.
    return jax.vjp(loss, params)[1]

  state, key = _state(decoder, config)
  traced = jax.make_jaxpr(backward)(state.params, key, fed).jaxpr
  # The parameters themselves are among them.
  given = {id(x) for x in traced.invars}
  return _bytes(
    {
      id(x): x.aval
      for x in traced.outvars
      if id(x) not in given and not isinstance(x, core.Literal)
    }
  )


def step_memory(
  decoder: Decoder,
  task: Task,
  config: TrainConfig,
  fed: jax.ShapeDtypeStruct | None = None,
) -> Memory:
  """Measures a training step without taking it; no array is made.

  Args:
    decoder: as of `kept_bytes`.
    task: as of `kept_bytes`.
    config: as of `kept_bytes`.
    fed: as of `kept_bytes`.

  Returns:
    Bytes on paper, and as compiled for the default device.
  """
  state, key = _state(decoder, config)
  step = functools.partial(step_lib.train_step, decoder, task, config)
  found = (
    jax.jit(step, donate_argnums=0)
    .lower(state, key, jax.ShapeDtypeStruct((), jnp.int32), fed)
    .compile()
    .memory_analysis()
  )
  return Memory(
    params=_bytes(state.params),
    optimizer=_bytes(state.opt_state),
    activations=kept_bytes(decoder, task, config, fed),
    compiled=None
    if found is None
    else found.temp_size_in_bytes
    + found.argument_size_in_bytes
    + found.output_size_in_bytes
    - found.alias_size_in_bytes,
  )


def _state(decoder: Decoder, config: TrainConfig) -> tuple[step_lib.State, Any]:
  """The shapes of one seed's state and of its data key."""
  keys = jax.eval_shape(lambda: step_lib.seed_keys([0]))
  states = jax.eval_shape(
    functools.partial(step_lib.init_states, decoder.config, config), keys.init
  )
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (states, keys.data)
  )


def _bytes(tree: Any) -> int:
  """The bytes of all arrays of a tree, given by shape and dtype."""
  return sum(
    math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree)
  )
