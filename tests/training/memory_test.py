"""The memory of a step: the estimate by hand, and the compiled step."""

import dataclasses
from unittest import mock

import jax
from absl.testing import absltest, parameterized

from jaxlook import machine
from jaxlook.errors import SettingError
from jaxlook.models import Decoder, DecoderConfig, named_shape
from jaxlook.tasks.induction import Induction
from jaxlook.training import TrainConfig, check_memory, step_memory, train
from jaxlook.training.memory import least_memory, stored_bytes
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

  def test_least(self):
    """No way of computing a step takes less than what is counted at least."""
    for changes in (
      {},
      {"microbatches": 4},
      {"remat": True, "loss_tokens": 32},
      {"bfloat16": True},
    ):
      config = dataclasses.replace(CONFIG, **changes)
      least = least_memory(MODEL, config, seeds=1)
      decoder = Decoder(MODEL, remat=config.remat, bfloat16=config.bfloat16)
      memory = step_memory(decoder, TASK, config)
      self.assertBetween(least.device, memory.paper / 10, memory.paper)
      self.assertLess(least.device, memory.compiled)
    # A second seed takes its state alone: a CPU computes one at a time.
    twice = least_memory(MODEL, config, seeds=2)
    self.assertEqual(twice.device - least.device, 3 * memory.params)
    with mock.patch.object(jax, "default_backend", lambda: "gpu"):
      every = [least_memory(MODEL, config, n).device for n in (1, 2)]
    self.assertEqual(every, [least.device, 2 * least.device])


class CheckMemoryTest(base.TestCase):
  def check(self, *, seeds=2, among=None, model=MODEL, **changes):
    """Checks a training in which some sizes are changed, on 16 GiB."""
    of_model = {field.name for field in dataclasses.fields(model)}
    shape = {name: x for name, x in changes.items() if name in of_model}
    rest = {name: x for name, x in changes.items() if name not in of_model}
    given = {} if among is None else {"among": among}
    with mock.patch.object(machine, "host_bytes", lambda: 16 << 30):
      check_memory(
        dataclasses.replace(model, **shape),
        dataclasses.replace(CONFIG, **rest),
        seeds,
        **given,
      )

  def test_what_fits(self):
    """Large models are not absurd ones."""
    self.check()
    self.check(model=named_shape("gpt2"), batch_size=4)
    self.check(layers=1000, steps=10**6)

  @parameterized.parameters(
    {"seeds": 2_000_000_000},
    {"layers": 1_000_000},
    {"layers": 10**30},
    {"width": 100_000_000},
    {"max_length": 10**9},
    {"vocab_size": 4_000_000_001},
    {"batch_size": 10**9},
  )
  def test_sizes_out_of_this_world(self, **changes):
    """The setting is named, with how much it takes and how much there is."""
    (name,) = changes
    with self.assertRaisesRegex(
      SettingError,
      f"^{name} is too large: the training takes at least .* GiB of memory, and"
      " this machine has 16 GiB$",
    ):
      self.check(**changes)

  def test_only_a_setting_that_was_chosen_is_blamed(self):
    """A width of a preset is not at fault for a user's number of layers."""
    with self.assertRaisesRegex(SettingError, "^layers is too large"):
      self.check(layers=200, width=2**14, among=["layers", "batch_size"])

  def test_accelerators(self):
    """Their memory holds states and activations, the host's the program."""
    with mock.patch.object(machine, "device_bytes", lambda: 20 << 20):
      with self.assertRaisesRegex(SettingError, "this machine has 0.0195"):
        self.check(batch_size=10_000)
      self.check(batch_size=64)

  def test_training_refuses_before_it_allocates(self):
    """The library does, too, where no binary has."""
    huge = dataclasses.replace(MODEL, width=10**8)
    with self.assertRaisesRegex(SettingError, "^width is too large"):
      train(Decoder(huge), TASK, CONFIG, [0])


if __name__ == "__main__":
  absltest.main()
