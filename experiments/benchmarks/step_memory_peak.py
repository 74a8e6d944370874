"""The memory of training steps, each measured in a fresh process.

    python -m experiments.benchmarks.step_memory_peak JSON

prints one JSON object for one step. `experiments.benchmarks.step_memory` starts
it.
"""

import dataclasses
import functools
import gc
import json
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.benchmarks import peak_memory
from experiments.benchmarks.peak_memory import GIB
from experiments.benchmarks.train_step_setting import RandomTokens
from experiments.common import progress, task_setup
from jaxlook.attention.attend import Implementation
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.training import TrainConfig
from jaxlook.training import step as step_lib
from jaxlook.training.memory import step_memory

_MODULE = "experiments.benchmarks.step_memory_peak"


@dataclasses.dataclass(frozen=True)
class Way:
  """How a step is computed.

  Attributes:
    name: in tables.
    implementation: of attention.
    loss_tokens: as in `TrainConfig`.
    remat: as in `Decoder`.
  """

  name: str
  implementation: Implementation = "auto"
  loss_tokens: int | None = None
  remat: bool = False


@dataclasses.dataclass(frozen=True)
class StepShape:
  """A model of text and a batch.

  Attributes:
    layers: of the model.
    width: of its residual stream.
    heads: a layer.
    length: positions a sequence.
    vocab_size: number of tokens.
    batch: sequences.
  """

  layers: int
  width: int
  heads: int
  length: int
  vocab_size: int
  batch: int

  def __str__(self) -> str:
    """The shape in words, as reports and cells name it."""
    return (
      f"{task_setup.shape_line(self)}, N = {self.length}, vocabulary of"
      f" {self.vocab_size}, batch {self.batch}"
    )

  @property
  def model(self) -> DecoderConfig:
    """The decoder's shape."""
    return DecoderConfig(
      layers=self.layers,
      width=self.width,
      heads=self.heads,
      max_length=self.length,
      vocab_size=self.vocab_size,
    )

  def train(self, way: "Way") -> TrainConfig:
    """How its steps are taken."""
    return TrainConfig(
      steps=2, batch_size=self.batch, loss_tokens=way.loss_tokens
    )


class Case(NamedTuple):
  """A step to measure.

  Attributes:
    way: how it is computed.
    size: of which model and batch.
  """

  way: Way
  size: StepShape


@dataclasses.dataclass(frozen=True)
class StepBytes:
  """The bytes of a step.

  Attributes:
    params: of the parameters; as many of their gradient.
    optimizer: of the optimiser's state.
    activations: that are kept for the backward pass, on paper.
    paper: the sum of these, gradient included.
    compiled: the peak that the compiler reports; None where it reports none.
    peak: the measured peak, state included; None where the step did not run.
    method: how the peak was measured, or why it was not.
  """

  params: int
  optimizer: int
  activations: int
  paper: int
  compiled: int | None
  peak: int | None
  method: str


@dataclasses.dataclass(frozen=True)
class StepMemoryConfig:
  """A scale of the benchmark of step memory.

  Attributes:
    sizes: models with a common window.
    long: a model with a long one.
    ways: how steps are computed.
  """

  sizes: tuple[StepShape, ...]
  long: StepShape
  ways: tuple[Way, ...]


StepPeaks = dict[tuple[StepShape, str], StepBytes | str]
"""By size and name of the way, the bytes of a step or why there are none."""


def measure_all(config: StepMemoryConfig, limit: float) -> StepPeaks:
  """Measures every size in every way, each in a fresh process.

  Args:
    config: what to measure.
    limit: as in `measure`.

  Returns:
    What was found.
  """
  cases = [
    Case(way, size)
    for size in (*config.sizes, config.long)
    for way in config.ways
  ]
  found: StepPeaks = {}
  with progress.count("memory", len(cases), "steps") as tick:
    for done, case in enumerate(cases, start=1):
      found[case.size, case.way.name] = measure(case, limit)
      tick(done)
  return found


def measure(case: Case, limit: float) -> StepBytes | str:
  """Starts a process that runs the step, if it fits.

  Args:
    case: the step.
    limit: bytes that a step may take; one for which the compiler reports more
      is compiled but does not run.

  Returns:
    The bytes, or why there are none.
  """
  found, error = peak_memory.run_module(_MODULE, [to_json(case, limit)])
  return error if found is None else StepBytes(**found)


def measure_here(case: Case, limit: float) -> StepBytes:
  """Measures in this process, which should be fresh; arguments as `measure`."""
  way, size = case
  decoder = Decoder(size.model, "causal", way.implementation, remat=way.remat)
  train = size.train(way)
  task = RandomTokens(size.vocab_size, size.length)
  found = step_memory(decoder, task, train)
  needed = found.compiled or found.paper
  if needed > limit:
    peak = None
    method = f"not run: needs {needed / GIB:.3g} of {limit / GIB:.3g} GiB"
  else:
    above, method = peak_memory.peak_bytes(_compile(decoder, task, train))
    peak = None if above is None else above + found.params + found.optimizer
  return StepBytes(
    params=found.params,
    optimizer=found.optimizer,
    activations=found.activations,
    paper=found.paper,
    compiled=found.compiled,
    peak=peak,
    method=method,
  )


def _compile(decoder: Decoder, task: RandomTokens, train: TrainConfig) -> Any:
  """Compiles one step of one seed; its initial state exists."""
  keys = step_lib.seed_keys([0])
  states = step_lib.init_states(decoder.config, train, keys.init)
  state, key = jax.tree.map(lambda x: x[0], (states, keys.data))
  step = functools.partial(step_lib.train_step, decoder, task, train)
  compiled = (
    jax.jit(step, donate_argnums=0)
    .lower(state, key, jnp.int32(0), None)
    .compile()
  )
  jax.block_until_ready(state)
  del states
  gc.collect()

  def run() -> None:
    jax.block_until_ready(compiled(state, key, jnp.int32(0), None))

  return run


def to_json(case: Case, limit: float) -> str:
  """The arguments of `measure` as text, for the other process."""
  way, size = (dataclasses.asdict(each) for each in case)
  return json.dumps({"way": way, "size": size, "limit": limit})


def from_json(text: str) -> tuple[Case, float]:
  """Reads what `to_json` has written."""
  given = json.loads(text)
  return Case(Way(**given["way"]), StepShape(**given["size"])), given["limit"]


if __name__ == "__main__":
  print(json.dumps(dataclasses.asdict(measure_here(*from_json(sys.argv[1])))))
