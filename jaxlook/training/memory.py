"""The memory of a training step: estimated, and from the compiler.

The estimate adds the parameters, their gradient, Adam's two moments and the
activations that differentiation stores for the backward pass; it needs no
device. The compiled step needs less if the compiler recomputes arrays or works
in place, and more if a single operation needs temporary arrays. `check_memory`
refuses what cannot fit, by a lower bound that is counted without tracing.
"""

import functools
import math
from collections.abc import Collection
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxlook import machine
from jaxlook.models import Decoder, DecoderConfig, parameter_counts
from jaxlook.tasks.task import Task
from jaxlook.training import step as step_lib
from jaxlook.training.config import TrainConfig

_FLOAT = 4
# Numbers that an optimizer keeps of a weight, at least: Muon keeps one of those
# of matrices.
_MOMENTS = {"adamw": 2, "muon": 1, "sgd": 1, "lion": 1}
_PROGRAM = 4 << 20
"""Bytes of the host that tracing and compiling a block take, at least. Measured
were 39 MB on a CPU, for a block of width 8."""
_PYTHON = 64
"""Bytes of the host that a seed, or a row of the loss history, takes."""
_USUAL = MappingProxyType(
  {
    "seeds": 16,
    "layers": 32,
    "width": 2048,
    "max_length": 2048,
    "vocab_size": 65_536,
    "batch_size": 1024,
    "steps": 1_000_000,
  }
)
"""Large values that are still usual: of what is too large, the setting furthest
beyond its own is to blame."""


class Memory(NamedTuple):
  """Bytes of one seed's training step.

  Attributes:
    params: parameters; their gradient needs as many.
    optimizer: the optimizer's state.
    activations: arrays stored for the backward pass of one microbatch, without
      the parameters; with `remat` the compiler adds the needs of one block.
    compiled: the compiled step's largest need, including its state; None if
      the compiler does not report it.
  """

  params: int
  optimizer: int
  activations: int
  compiled: int | None

  @property
  def paper(self) -> int:
    """The estimate: parameters, gradient, optimizer state and activations."""
    return 2 * self.params + self.optimizer + self.activations


def stored_bytes(
  decoder: Decoder,
  task: Task,
  config: TrainConfig,
  fed: jax.ShapeDtypeStruct | None = None,
) -> int:
  """Counts the bytes stored for the backward pass, without the parameters.

  Args:
    decoder: the model under a variant, with its dtype and `remat`.
    task: makes the batch and computes its loss.
    config: has `batch_size`, `microbatches` and `loss_tokens`.
    fed: shape of the data that the host reads for a seed and step; None for
      generated tasks.

  Returns:
    Bytes for one microbatch; nothing is compiled.
  """

  def backward(params: Any, key: jax.Array, fed: jax.Array | None) -> Any:
    batch = task.batch(key, config.batch_size, fed)
    part = jax.tree.map(lambda x: x[: len(x) // config.microbatches], batch)

    def loss(params: Any) -> jax.Array:
      losses_BxT = step_lib.position_losses(
        decoder, task, params, part, loss_tokens=config.loss_tokens
      )
      return jnp.mean(losses_BxT)

    # The stored arrays are the leaves of the backward function.
    return jax.vjp(loss, params)[1]

  state, key = _state(decoder, config)
  traced = jax.make_jaxpr(backward)(state.params, key, fed).jaxpr
  # The parameters are among the stored arrays.
  inputs = {id(x) for x in traced.invars}
  return _bytes(
    {
      id(x): x.aval
      for x in traced.outvars
      if id(x) not in inputs and not isinstance(x, core.Literal)
    }
  )


def step_memory(
  decoder: Decoder,
  task: Task,
  config: TrainConfig,
  fed: jax.ShapeDtypeStruct | None = None,
) -> Memory:
  """Computes the memory of a training step without running it.

  Args:
    decoder: see `stored_bytes`.
    task: see `stored_bytes`.
    config: see `stored_bytes`.
    fed: see `stored_bytes`.

  Returns:
    Bytes, estimated and as compiled for the default device.
  """
  state, key = _state(decoder, config)
  step = functools.partial(step_lib.train_step, decoder, task, config)
  compiled = (
    jax.jit(step, donate_argnums=0)
    .lower(state, key, jax.ShapeDtypeStruct((), jnp.int32), fed)
    .compile()
    .memory_analysis()
  )
  return Memory(
    params=_bytes(state.params),
    optimizer=_bytes(state.opt_state),
    activations=stored_bytes(decoder, task, config, fed),
    compiled=None
    if compiled is None
    else compiled.temp_size_in_bytes
    + compiled.argument_size_in_bytes
    + compiled.output_size_in_bytes
    - compiled.alias_size_in_bytes,
  )


def _state(decoder: Decoder, config: TrainConfig) -> tuple[step_lib.State, Any]:
  """Returns the shapes of one seed's state and of its data key."""
  keys = jax.eval_shape(lambda: step_lib.seed_keys([0]))
  states = jax.eval_shape(
    functools.partial(step_lib.init_states, decoder.config, config), keys.init
  )
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (states, keys.data)
  )


def _bytes(tree: Any) -> int:
  """Counts the bytes of all arrays of a tree of shapes and dtypes."""
  return sum(
    math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree)
  )


class LeastMemory(NamedTuple):
  """Bytes that training takes in whatever way it is computed.

  Attributes:
    host: for the program, the seeds and the loss history.
    device: for the states of all seeds and the activations of a microbatch.
  """

  host: int
  device: int


def least_memory(
  model: DecoderConfig, config: TrainConfig, seeds: int
) -> LeastMemory:
  """Counts what training takes at least, in no time for any size.

  Args:
    model: the decoder's shape.
    config: how it is trained.
    seeds: number of seeds.

  Returns:
    Bytes, over all devices.
  """
  rows = config.steps // config.log_every
  host = model.layers * _PROGRAM + (seeds + rows) * _PYTHON
  weights = parameter_counts(model).total * _FLOAT
  kept = (1 + _MOMENTS[config.optimizer]) * weights
  tokens = config.batch_size * model.max_length
  # In the microbatch, the backward pass reads every block's input and, unless
  # blocks are recomputed, what its neurons do; and some logits exist.
  part = tokens // config.microbatches
  stored = part * model.layers * model.width * _FLOAT
  if not config.remat:
    half = 2 if config.bfloat16 else 1
    stored += part * model.layers * model.hidden_width * _FLOAT // half
  logits = min(part, config.loss_tokens or part)
  outputs = model.output_features or model.vocab_size or 0
  stored += logits * outputs * _FLOAT
  # The gradient is whole before the moments change: its norm is checked. A CPU
  # computes one seed at a time.
  at_once = 1 if jax.default_backend() == "cpu" else seeds
  working = at_once * (weights + stored + tokens * _FLOAT)
  return LeastMemory(host + seeds * rows * _FLOAT, seeds * kept + working)


def checkpoint_bytes(
  model: DecoderConfig, config: TrainConfig, seeds: int
) -> int:
  """Counts the bytes of a checkpoint before compression.

  Args:
    model: the decoder's shape.
    config: how it is trained.
    seeds: number of seeds.
  """
  # Parameters and moments; the loss history.
  state = (1 + _MOMENTS[config.optimizer]) * parameter_counts(model).total
  return seeds * (state + config.steps // config.log_every) * _FLOAT


def check_memory(
  model: DecoderConfig,
  config: TrainConfig,
  seeds: int,
  among: Collection[str] = tuple(_USUAL),
  *,
  elsewhere: bool = False,
  room: int = 1,
) -> None:
  """Refuses training that cannot fit, before anything is allocated.

  Args:
    model: the decoder's shape.
    config: how it is trained.
    seeds: number of seeds.
    among: the settings of which one is blamed, of `seeds` and fields of `model`
      and `config`.
    elsewhere: whether other machines train, of which nothing is known here.
    room: of how many times this machine's memory is spoken; more than 1 for
      training that may have been done on a larger machine.

  Raises:
    SettingError: it takes more memory than there is.
  """
  least = least_memory(model, config, seeds)
  values = {
    "seeds": seeds,
    "layers": model.layers,
    "width": model.width,
    "max_length": model.max_length,
    "vocab_size": model.output_features or model.vocab_size or 0,
    "batch_size": config.batch_size,
    "steps": config.steps,
  }
  # Whole numbers, which may be too large for a float.
  blamed = max(among, key=lambda name: 1000 * values[name] // _USUAL[name])
  what, devices = "the training", None
  if not elsewhere:
    devices = machine.device_bytes()
  host = least.host
  if devices is not None:
    machine.check_fits(blamed, least.device, what, devices, room)
  elif not elsewhere:
    host += least.device
  machine.check_fits(blamed, host, what, room=room)
