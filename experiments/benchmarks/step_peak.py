"""The memory of one training step, in a process of its own.

    python -m experiments.benchmarks.step_peak JSON

prints one JSON object. `experiments.benchmarks.step_memory` starts it; there is
no need to do so by hand.
"""

import dataclasses
import functools
import gc
import json
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.benchmarks import memory
from experiments.benchmarks.stepping import RandomTokens
from jaxlook.attention.attend import Implementation
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.training import TrainConfig
from jaxlook.training import step as step_lib
from jaxlook.training.memory import step_memory


@dataclasses.dataclass(frozen=True)
class Way:
  """How a step is taken.

  Attributes:
    name: in tables.
    implementation: of attention.
    loss_tokens: as of `TrainConfig`.
    remat: as of `TrainConfig`.
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
    """The shape, in words."""
    return (
      f"{self.layers} layers, width {self.width}, {self.heads} heads,"
      f" N = {self.length}, vocabulary of {self.vocab_size}, batch {self.batch}"
    )


class Case(NamedTuple):
  """A step to take.

  Attributes:
    way: how.
    size: of what.
  """

  way: Way
  size: StepShape


@dataclasses.dataclass(frozen=True)
class Step:
  """The bytes of a step.

  Attributes:
    params: of the parameters, and of their gradient.
    optimizer: of the optimiser's state.
    activations: that are kept for the backward pass, on paper.
    paper: the sum of these, gradient included.
    compiled: what the compiler says that the step holds at most; None where it
      does not say.
    peak: what it held at most, state included; None where it was not taken.
    method: how the peak was had, or why not.
  """

  params: int
  optimizer: int
  activations: int
  paper: int
  compiled: int | None
  peak: int | None
  method: str


def measure(case: Case, most: float) -> Step | str:
  """Starts a process that takes the step, if it fits.

  Args:
    case: the step.
    most: bytes that a step may take by the compiler's account; one that takes
      more is compiled, and not run.

  Returns:
    What was found, or why there is nothing.
  """
  found, error = memory.started(
    "experiments.benchmarks.step_peak",
    [told(case, most)],
  )
  return error if found is None else Step(**found)


def measure_here(case: Case, most: float) -> Step:
  """Measures in this process, which should be fresh; arguments as `measure`."""
  way, size = case
  model = DecoderConfig(
    *(size.layers, size.width, size.heads, size.length),
    vocab_size=size.vocab_size,
  )
  decoder = Decoder(model, "causal", way.implementation, remat=way.remat)
  train = TrainConfig(
    steps=2, batch_size=size.batch, loss_tokens=way.loss_tokens
  )
  task = RandomTokens(size.vocab_size, size.length)
  found = step_memory(decoder, task, train)
  held = found.params + found.optimizer
  if (found.compiled or found.paper) > most:
    needed, here = (found.compiled or found.paper) / 2**30, most / 2**30
    peak, method = None, f"not taken: needs {needed:.3g} of {here:.3g} GiB"
  else:
    above, method = memory.peak_of(_step(decoder, task, train))
    peak = None if above is None else above + held
  return Step(
    found.params,
    found.optimizer,
    found.activations,
    found.paper,
    found.compiled,
    peak,
    method,
  )


def _step(decoder: Decoder, task: RandomTokens, train: TrainConfig) -> Any:
  """One compiled step of one seed, with its state at hand."""
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


def told(case: Case, most: float) -> str:
  """What `measure` passes on, for `parse`."""
  way, size = (dataclasses.asdict(each) for each in case)
  return json.dumps({"way": way, "size": size, "most": most})


def parse(text: str) -> tuple[Case, float]:
  """Reads what `told` has written."""
  given = json.loads(text)
  return Case(Way(**given["way"]), StepShape(**given["size"])), given["most"]


if __name__ == "__main__":
  print(json.dumps(dataclasses.asdict(measure_here(*parse(sys.argv[1])))))
