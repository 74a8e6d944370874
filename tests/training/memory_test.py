"""The memory of a step: the estimate by hand, and the compiled step."""

import dataclasses

from absl.testing import absltest

from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.induction import Induction
from jaxlook.training import TrainConfig, step_memory
from jaxlook.training.memory import stored_bytes
from tests.fixtures import base

TASK = Induction(vocab_size=64, segment=8, max_gap=0, length=16)
MODEL = DecoderConfig(
  layers=2, width=8, heads=2, max_length=16, vocab_size=64, mlp_width=16
)
CONFIG = TrainConfig(steps=2, batch_size=64)


class MemoryTest(base.TestCase):
  def _activations(self, *, remat=False, bfloat16=False, **changes):
    return stored_bytes(
      Decoder(MODEL, remat=remat, bfloat16=bfloat16),
      TASK,
      dataclasses.replace(CONFIG, **changes),
    )

  def test_activations(self):
    """Each memory-saving setting reduces the stored activations."""
    whole = self._activations()
    # At least the logits of every token are stored.
    self.assertGreater(whole, 64 * 16 * 64 * 4)
    # Half the batch needs half, except for arrays that sequences share.
    self.assertAlmostEqual(
      self._activations(microbatches=2) / whole, 0.5, places=2
    )
    self.assertLess(self._activations(loss_tokens=32), whole - 64 * 16 * 64 * 4)
    self.assertLess(self._activations(remat=True), 0.7 * whole)
    self.assertLess(self._activations(bfloat16=True), 0.9 * whole)

  def test_step(self):
    """Parameters and moments are counted; the compiled size is similar."""
    memory = step_memory(Decoder(MODEL), TASK, CONFIG)
    d, f = 8, 16
    block = 4 * (d * d + d) + d * f + f + f * d + d + 4 * d
    params = 64 * d + 16 * d + 2 * block + 2 * d
    self.assertEqual(memory.params, 4 * params)
    # Two moments per parameter, and step counters.
    self.assertBetween(memory.optimizer - 2 * memory.params, 4, 16)
    self.assertEqual(memory.activations, self._activations())
    self.assertEqual(
      memory.paper,
      2 * memory.params + memory.optimizer + memory.activations,
    )
    self.assertBetween(memory.compiled / memory.paper, 0.3, 3.0)


if __name__ == "__main__":
  absltest.main()
