"""Models and their training steps, as the library takes them, to be timed."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import timing
from experiments.benchmarks.timing import Samples
from experiments.common import task_setup
from jaxlook import stats
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.losses import cross_entropy
from jaxlook.tasks.task import Batch, Task
from jaxlook.training import TrainConfig
from jaxlook.training import step as step_lib

CAUSAL, MYOPIC = "causal", "myopic"
RESIDUAL = "myopic/residual"
VARIANTS = (CAUSAL, MYOPIC, RESIDUAL)


@dataclasses.dataclass(frozen=True)
class RandomTokens:
  """A task whose tokens are uniformly random, for timing only.

  Attributes:
    vocab_size: number of tokens.
    length: positions a sequence.
  """

  vocab_size: int
  length: int

  def batch(
    self, key: jax.Array, size: int, fed: jax.Array | None = None
  ) -> Batch:
    """Draws `size` sequences; `fed` is not read."""
    del fed
    tokens = jax.random.randint(
      key, (size, self.length + 1), 0, self.vocab_size
    )
    return Batch(inputs=tokens[:, :-1], targets=tokens[:, 1:])

  def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
    """The cross-entropy, nats per token, [B, T]."""
    return cross_entropy(outputs, batch.targets)


@dataclasses.dataclass(frozen=True)
class StepSetting:
  """A model and its training, to be timed.

  Attributes:
    name: in tables.
    task: makes the batches.
    model: the decoder's shape.
    train: how it is trained.
    chunk: training steps in one compiled program, as in training.
    published: sequences a second of the published PyTorch code, vanilla and
      myopic, measured once on two CPU cores; None where nothing was measured.
    aimed: whether this project's targets apply to this setting.
    variants: the attentions that are timed, causal first.
  """

  name: str
  task: Task
  model: DecoderConfig
  train: TrainConfig
  chunk: int
  published: tuple[float, float] | None = None
  aimed: bool = False
  variants: tuple[str, ...] = VARIANTS

  @property
  def tokens(self) -> int:
    """Positions in a batch."""
    return self.train.batch_size * self.model.max_length

  @property
  def part(self) -> "StepSetting":
    """The setting with one of its microbatches as the batch."""
    size = self.train.batch_size // self.train.microbatches
    train = dataclasses.replace(self.train, batch_size=size, microbatches=1)
    return dataclasses.replace(self, train=train)

  def __str__(self) -> str:
    """Name and shape."""
    parts = self.train.microbatches
    return (
      f"{self.name}: {task_setup.shape_line(self.model)},"
      f" N = {self.model.max_length}, batch"
      f" {self.train.batch_size}{f' in {parts} parts' if parts > 1 else ''}"
    )


def compile_steps(
  setting: StepSetting, variant: str, seeds: int
) -> Callable[[], None]:
  """Compiles a chunk of training steps.

  Args:
    setting: what to train.
    variant: the attention.
    seeds: number of seeds, trained together.

  Returns:
    A function that trains for one chunk, from where its last call ended, and
    waits for the result.
  """
  train = setting.train
  decoder = Decoder(
    setting.model, variant, bfloat16=train.bfloat16, remat=train.remat
  )
  keys = step_lib.seed_keys(range(seeds))
  states = step_lib.init_states(setting.model, train, keys.init)
  steps = jnp.arange(setting.chunk, dtype=jnp.int32)
  compiled = (
    jax.jit(
      functools.partial(step_lib.train_chunk, decoder, setting.task, train),
      donate_argnums=0,
    )
    .lower(states, keys.data, steps, None)
    .compile()
  )

  def run() -> None:
    nonlocal states
    states, losses = compiled(states, keys.data, steps, None)
    jax.block_until_ready((states, losses))

  return run


def sequences_per_second(
  setting: StepSetting, found: Samples, seeds: int = 1
) -> stats.Interval:
  """Sequences a second, of all seeds together.

  Args:
    setting: what was trained.
    found: the times of one step.
    seeds: number of seeds.

  Returns:
    The batch over the median time, with its interval over rounds.
  """
  sequences = seeds * setting.train.batch_size
  return timing.resampled(
    lambda seconds: sequences / np.median(seconds, axis=-1), found.seconds
  )
