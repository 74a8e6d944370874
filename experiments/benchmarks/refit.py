"""Which block sizes are fastest on this machine?

    python -m experiments.benchmarks.refit [--preset=smoke|cpu|paper]
        [--out=DIR] [--rounds=9]

Times causal and myopic attention in plain JAX, forward and backward, under
`jaxlook.attention.block_sizes.MEASURED` and under limits that differ in one
number. All take turns. The report shows by which factor each change changes the
time. Put a number whose factor is clearly below 1 at the shapes that you care
about into `MEASURED`, then run this again, since the numbers depend on each
other. `cpu` is for a processor; `paper` needs a GPU and starts from
`jaxlook.attention.dispatch.WIDE`. Two limits are not refitted: the length from
which kernels run (`jaxlook.attention.dispatch`), and which windows are narrow
(`jaxlook.attention.banded`).
"""

import dataclasses

from experiments.benchmarks import refit_report, refit_times
from experiments.benchmarks.refit_times import RefitConfig
from experiments.common import (
  app,
  presets,
  results_writer,
  shared_flags,
  train_arms,
)
from jaxlook.attention.dispatch import WIDE

shared_flags.adopt(__name__, "preset", "rounds", "out")

NAME = "benchmarks.refit"
# One panel holds a short sequence.
_SHORT = {"short_bytes": (2**19, 2**21), "lanes": (1, 4)}
_LONG = {
  "rows": (128, 512),
  "columns": (512, 2048),
  "long_bytes": (2**19, 2**21),
  "extents": (4, 16),
}
_GPU = {
  "one_panel": (256, 1024),
  "rows": (256, 1024),
  "columns": (1024, 8192),
  "short_bytes": (2**26, 2**28),
  "long_bytes": (2**26, 2**30),
}

PRESETS = {
  "smoke": RefitConfig(changes={"2x16x2x8": {"lanes": (1,)}}, rounds=2),
  "cpu": RefitConfig(
    changes={
      "64x32x2x32": _SHORT,
      "512x64x2x64": _SHORT,
      # These two lengths lie on either side of the longest panel.
      "8x256x4x64": {**_SHORT, "one_panel": (128,)},
      "8x512x4x64": {**_LONG, "one_panel": (512,)},
      "4x1024x8x64": _LONG,
      "1x4096x4x64": _LONG,
    }
  ),
  "paper": RefitConfig(
    changes={
      "512x64x2x64": _GPU,
      "8x512x12x64": _GPU,
      "8x1024x12x64": _GPU,
      "1x4096x16x64": _GPU,
    },
    limits=WIDE,
  ),
}


def main() -> None:
  """Checks the flags, then measures and reports."""
  config = presets.replaced(PRESETS, rounds=shared_flags.ROUNDS.value)
  described = {"experiment": NAME, **dataclasses.asdict(config)}
  with train_arms.open_run(NAME, described) as store:
    found = refit_times.measure(config)
    results_writer.write(
      store, refit_report.results(config.limits, found, name=NAME)
    )


if __name__ == "__main__":
  app.run(main, lambda: presets.values(PRESETS))
