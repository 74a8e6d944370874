"""Targets of the attention benchmark; samples are made up."""

import numpy as np
from absl.testing import parameterized

from experiments.benchmarks import (
  attention,
  attention_contenders,
  attention_targets,
  peak_memory,
  timing_tables,
)
from experiments.benchmarks.attention_contenders import AttentionShape
from tests.fixtures import base
from tests.fixtures.benchmarks import samples, samples_around


class TargetsTest(base.TestCase):
  @parameterized.parameters(
    (0.5, "supported"), (0.6, "inconclusive"), (0.9, "contradicted")
  )
  def test_verdict_follows_the_numbers(self, share, verdict):
    """Below, on and above the bound of 0.6."""
    shape = AttentionShape(1, 4096, 4, 64)
    times = {
      shape: {
        "causal": samples_around(2.0),
        "myopic": samples(
          samples_around(2.0 * share, spread=0.02).seconds[::-1]
        ),
      }
    }
    claims = attention_targets.time_claims(times, "float32", "cpu")
    self.assertLen(claims, 1)
    self.assertEqual(claims[0].verdict, verdict)
    self.assertIn("1x4096x4x64", claims[0].id)
    words = {
      "supported": "reached",
      "contradicted": "missed",
      "inconclusive": "open",
    }
    self.assertEqual(timing_tables.target_table(claims)[1][-1], words[verdict])

  def test_targets_speak_of_their_device_and_length(self):
    """All of a CPU in float32 at four shapes; cuDNN on a GPU in bfloat16."""
    everyone = (
      *attention_contenders.OURS,
      attention_contenders.JAX_NN,
      attention_contenders.TORCH,
    )
    names = dict.fromkeys(
      (*everyone, attention_contenders.CUDNN), samples_around(1.0)
    )
    times = {shape: names for shape in attention.PRESETS["cpu"].shapes}
    claims = attention_targets.time_claims(times, "float32", "cpu")
    # 4 myopic / causal, 3 and 3 over jax.nn, 4 and 4 over torch, 2 horizons.
    self.assertLen(claims, 20)
    self.assertLen({claim.id for claim in claims}, 20)
    self.assertEmpty(attention_targets.time_claims(times, "bfloat16", "cpu"))
    self.assertEmpty(attention_targets.time_claims(times, "float32", "gpu"))
    self.assertLen(attention_targets.time_claims(times, "bfloat16", "gpu"), 1)

  @parameterized.parameters(
    (200.0, 100.0, "supported", "supported"),
    (511.0, 500.0, "supported", "contradicted"),
    (900.0, 450.0, "contradicted", "supported"),
  )
  def test_memory(self, mib, half, bounded, linear):
    """Under 512 MiB, and twice that of half the length."""
    jitter = np.array([1.0, 1.0001, 0.9999]) * peak_memory.MIB
    peaks = {
      AttentionShape(1, 16384, 2, 64): {"myopic": mib * jitter},
      AttentionShape(1, 8192, 2, 64): {"myopic": half * jitter},
    }
    verdicts = [
      claim.verdict
      for claim in attention_targets.memory_claims(peaks, "float32", "cpu")
    ]
    self.assertEqual(verdicts, [bounded, linear])
    once = {shape: {"myopic": by["myopic"][:1]} for shape, by in peaks.items()}
    self.assertEmpty(attention_targets.memory_claims(once, "float32", "cpu"))

  def test_few_rounds_prove_nothing(self):
    """Five rounds that agree leave a target open, six reach it."""
    for rounds, verdict in ((5, "inconclusive"), (6, "supported")):
      shape = AttentionShape(1, 4096, 4, 64)
      pair = {
        "causal": samples_around(2.0, rounds),
        "myopic": samples_around(1.0, rounds),
      }
      (claim,) = attention_targets.time_claims({shape: pair}, "float32", "cpu")
      self.assertAlmostEqual(claim.estimate, 0.5, delta=0.01)
      self.assertEqual(claim.verdict, verdict)
      self.assertIn(
        "few samples" if rounds < 6 else "[",
        timing_tables.target_table([claim])[1][2],
      )
