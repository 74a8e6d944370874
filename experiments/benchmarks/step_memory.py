"""How much memory does a training step take, on paper and measured?

    python -m experiments.benchmarks.step_memory [--preset=smoke|cpu|paper]
        [--out=DIR] [--length=8192]

Measures the bytes of one step of one seed, for three sizes of a model of text
and for a long window. On paper: parameters, gradient, the optimiser's state and
the activations that the backward pass keeps. Also the peak that the compiler
reports, and the peak that a fresh process measures. The step is computed
plainly, with the reference attention and all logits; with jaxlook's own
attention; with the logits of few tokens at a time; and with blocks computed
again. A step that needs more than the free memory is compiled but does not run,
and the report says so. Random tokens; causal, float32. `cpu` takes about 4
minutes on two cores.
"""

import dataclasses

from experiments.benchmarks import machine, step_memory_peak, step_memory_report
from experiments.benchmarks.peak_memory import GIB
from experiments.benchmarks.step_memory_peak import (
  StepMemoryConfig,
  StepShape,
  Way,
)
from experiments.common import (
  app,
  memory_check,
  presets,
  results_writer,
  shared_flags,
  train_arms,
)

shared_flags.adopt(__name__, "preset", "length", "out")

NAME = "benchmarks.step_memory"
# Leaves memory for other programs.
_FREE_SHARE = 0.9
_LOSS_TOKENS = 512

PLAIN = Way("plain", "reference")
OWN = Way("own attention")
FEW_LOGITS = Way("and few logits", loss_tokens=_LOSS_TOKENS)
AGAIN = Way("and blocks again", loss_tokens=_LOSS_TOKENS, remat=True)
WAYS = (PLAIN, OWN, FEW_LOGITS, AGAIN)
"""How a step is computed; each way takes less memory than the one before."""

_SMOKE = StepShape(layers=1, width=8, heads=2, length=8, vocab_size=11, batch=2)
_CPU = StepShape(
  layers=6, width=256, heads=8, length=256, vocab_size=4096, batch=16
)
# GPT-2 small.
_PAPER = StepShape(
  layers=12, width=768, heads=12, length=1024, vocab_size=50_257, batch=8
)


def _size(like: StepShape, layers: int, width: int) -> StepShape:
  """Another size with heads as wide."""
  heads = width * like.heads // like.width
  return dataclasses.replace(like, layers=layers, width=width, heads=heads)


PRESETS = {
  "smoke": StepMemoryConfig(
    sizes=(_SMOKE,),
    long=dataclasses.replace(_SMOKE, length=64, batch=1),
    # Every way starts a process for each size.
    ways=(AGAIN,),
  ),
  "cpu": StepMemoryConfig(
    sizes=(_size(_CPU, 2, 64), _size(_CPU, 4, 128), _CPU),
    long=dataclasses.replace(_CPU, length=8192, batch=1),
    ways=WAYS,
  ),
  "paper": StepMemoryConfig(
    sizes=(_size(_PAPER, 6, 512), _PAPER, _size(_PAPER, 24, 1024)),
    long=dataclasses.replace(_PAPER, length=8192, batch=1),
    ways=WAYS,
  ),
}


def build_config() -> StepMemoryConfig:
  """The preset with the flag's value."""
  config = presets.chosen(PRESETS)
  length = shared_flags.LENGTH.value
  if length is None:
    return config
  if length < 1:
    raise app.UsageError("length", f"must be at least 1, not {length}")
  long = dataclasses.replace(config.long, length=length)
  # In the way that takes least: a step that fits in no way tells nothing.
  train = dataclasses.replace(long.train(AGAIN), remat=True)
  memory_check.check_training(long.model, train, seeds=1)
  return dataclasses.replace(config, long=long)


def main() -> None:
  """Checks the flags, then measures and reports."""
  config = build_config()
  described = {"experiment": NAME, **dataclasses.asdict(config)}
  with train_arms.open_run(NAME, described) as store:
    limit = machine.free_bytes(_FREE_SHARE)
    results = step_memory_report.results(
      step_memory_peak.measure_all(config, limit),
      name=NAME,
      setup=f"causal, float32, one seed, {machine.description()},"
      f" {limit / GIB:.3g} GiB free",
      loss_tokens=_LOSS_TOKENS,
      limit=limit,
    )
    results_writer.write(store, results)


if __name__ == "__main__":
  app.run(
    main,
    lambda: {"length": presets.chosen(PRESETS).long.length},
    says={"length": "Positions of the long window."},
  )
