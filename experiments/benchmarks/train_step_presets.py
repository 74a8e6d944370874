"""The settings that the training step benchmark times, and its scales."""

import dataclasses

from experiments.benchmarks.train_step_setting import (
  CAUSAL,
  MYOPIC,
  RESIDUAL,
  RandomTokens,
  StepSetting,
)
from experiments.benchmarks.train_step_times import TrainStepConfig
from experiments.common import precache_setup
from jaxlook.models import DecoderConfig
from jaxlook.training import TrainConfig


def _precaching(
  name: str, preset: str, *, chunk: int, microbatches: int = 1, **more
) -> StepSetting:
  config = precache_setup.PRESETS[preset]
  train = dataclasses.replace(config.train, microbatches=microbatches)
  return StepSetting(
    name=name,
    task=precache_setup.task(config, config.p[0]),
    model=precache_setup.model(config),
    train=train,
    chunk=chunk,
    **more,
  )


_SMALL = _precaching("width 64", "cpu", chunk=8, published=(2914.0, 2700.0))
_PUBLISHED = _precaching(
  "width 128", "paper", chunk=2, published=(584.0, 518.0), aimed=True
)
_IN_PARTS = _precaching(
  "width 128",
  "paper",
  chunk=2,
  # The activations of 64 sequences fit into the caches of a CPU.
  microbatches=8,
  published=(584.0, 518.0),
  aimed=True,
)
# Most of a smoke run is compiling, so one variant less.
_TINY = _precaching("width 8", "smoke", chunk=2, variants=(CAUSAL, RESIDUAL))
_TEXT = StepSetting(
  name="text",
  task=RandomTokens(vocab_size=4096, length=256),
  model=DecoderConfig(
    layers=4, width=256, heads=4, max_length=256, vocab_size=4096
  ),
  train=TrainConfig(steps=1000, batch_size=16, clip_norm=1.0),
  chunk=1,
)
_GPT2_SMALL = StepSetting(
  name="GPT-2 small",
  task=RandomTokens(vocab_size=50_257, length=1024),
  model=DecoderConfig(
    layers=12, width=768, heads=12, max_length=1024, vocab_size=50_257
  ),
  train=TrainConfig(steps=1000, batch_size=8),
  chunk=2,
  aimed=True,
)
PRESETS = {
  "smoke": TrainStepConfig(
    settings=(_TINY,),
    rounds=2,
    seeded=_TINY,
    seed_counts=(2,),
    seed_variants=(MYOPIC,),
  ),
  "cpu": TrainStepConfig(
    settings=(_IN_PARTS, _SMALL, _TEXT), rounds=11, seeded=_SMALL
  ),
  "paper": TrainStepConfig(
    settings=(_PUBLISHED, _SMALL, _GPT2_SMALL), rounds=21, seeded=_SMALL
  ),
}
