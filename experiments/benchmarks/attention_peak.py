"""Peak memory of one attention, forward and backward, in a fresh process.

    python -m experiments.benchmarks.attention_peak CONTENDER SHAPE DTYPE

prints one JSON object. `experiments.benchmarks.attention` starts it.
"""

import gc
import json
import sys
from typing import Any

import jax

from experiments.benchmarks import attention_contenders, machine, peak_memory
from experiments.benchmarks.attention_contenders import AttentionShape, Prepared

_MODULE = "experiments.benchmarks.attention_peak"
_WARM_UP = AttentionShape(batch=1, length=8, heads=1, head_width=8)


def measure(name: str, shape: AttentionShape, dtype: str) -> dict[str, Any]:
  """Starts a process that measures.

  Args:
    name: the contender's.
    shape: of the attention.
    dtype: of the arrays.

  Returns:
    `peak_bytes` and `temp_bytes`, each None where unknown, and `method`: how
    the peak was measured, or why it was not.
  """
  found, error = peak_memory.run_module(_MODULE, [name, str(shape), dtype])
  return found or {"peak_bytes": None, "temp_bytes": None, "method": error}


def measure_here(
  name: str, shape: AttentionShape, dtype: str
) -> dict[str, Any]:
  """Measures in this process, which should be fresh; returns as `measure`."""
  contender = attention_contenders.contenders(dtype)[name]
  # Starts threads and loads libraries, which the measured call must not count.
  contender.prepare(_WARM_UP, dtype).run()
  prepared = contender.prepare(shape, dtype)
  gc.collect()
  if name == attention_contenders.TORCH and jax.default_backend() == "gpu":
    peak, method = _torch_peak(prepared), "torch.cuda's peak"
  else:
    peak, method = peak_memory.peak_bytes(prepared.run)
  return {
    "peak_bytes": peak,
    "temp_bytes": prepared.temp_bytes,
    "method": method,
  }


def _torch_peak(prepared: Prepared) -> int:
  torch: Any = machine.torch_module()
  torch.cuda.reset_peak_memory_stats()
  before = torch.cuda.memory_allocated()
  prepared.run()
  return torch.cuda.max_memory_allocated() - before


if __name__ == "__main__":
  print(
    json.dumps(
      measure_here(
        sys.argv[1], attention_contenders.parse_shape(sys.argv[2]), sys.argv[3]
      )
    )
  )
