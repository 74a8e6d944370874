"""Sizes that no machine holds are refused by the flag that asks for them."""

import json
import pathlib
from unittest import mock

from absl.testing import flagsaver, parameterized

from experiments import (
  deferred,
  gradient_anatomy,
  horizon,
  induction,
  language,
  multiplication,
  path_star,
  placebo,
  planning,
  precache,
  scaling,
)
from experiments.benchmarks import attention, step_memory, train_step
from experiments.common import app, precache_setup, train_arms
from jaxlook import machine
from tests.fixtures import binaries, hf_folders

_HUGE = 99_999_999_999
_ABSURD = (
  (precache, {"seeds": 2_000_000_000}),
  (precache, {"width": 100_000_000}),
  (precache, {"layers": 1_000_000}),
  (precache, {"length": 10**9}),
  (precache, {"batch_size": 10**9}),
  (horizon, {"layers": 2**63}),
  (deferred, {"length": _HUGE}),
  (induction, {"seeds": 10**30}),
  (path_star, {"width": 10**8}),
  (planning, {"pairs": _HUGE, "key": "tally"}),
  (multiplication, {"pad": [2, _HUGE]}),
  (placebo, {"repetitions": 10**20}),
  (placebo, {"seeds": 2_000_000_000}),
  (language, {"width": 10**8}),
  (language, {"tokenizer": f"bpe:{_HUGE}"}),
  (scaling, {"batch_size": 10**9}),
  (gradient_anatomy, {"sequences": 10**20}),
  (train_step, {"seed_counts": ["1", str(_HUGE)]}),
  (attention, {"shapes": [f"{_HUGE}x1x1x1"]}),
  (attention, {"memory_shapes": ["4294967296x4294967296x1x1"]}),
  (step_memory, {"length": _HUGE}),
)


class MemoryCheckTest(binaries.RefusalTestCase):
  def refuse(self, binary, message, **values):
    """With a text and a cache of tokens of its own."""
    if binary in (language, scaling):
      text = self.root / "text"
      text.write_bytes(b"some words to read\n" * 999)
      values |= {"corpus": str(text), "cache": str(self.root / "cache")}
    super().refuse(binary, message, **values)
    # Not even a folder is made.
    self.assertFalse((self.root / "run").exists())

  @parameterized.parameters(*_ABSURD)
  def test_sizes_out_of_this_world(self, binary, values):
    """One line with how much it takes and how much there is, at once."""
    flag = next(iter(values))
    self.refuse(
      binary,
      f"^--{flag}: is too large: .* at least .* GiB of memory, and this machine"
      " has .* GiB$",
      **values,
    )

  def test_a_preset_may_be_too_large(self):
    """It is named where no flag asks for more."""
    with mock.patch.object(machine, "host_bytes", lambda: 1 << 20):
      self.refuse(precache, "^--preset: is too large: ", preset="paper")

  def test_a_vocabulary_of_a_tokenizer(self):
    """Before the text is read; one id is enough."""
    folder = pathlib.Path(hf_folders.folder(self.root / "model"))
    file = folder / "tokenizer.json"
    settings = json.loads(file.read_text())
    settings["model"]["vocab"]["th"] = 4_000_000_000
    file.write_text(json.dumps(settings))
    message = "is too large: a vocabulary of 4000000001 tokens takes at least"
    self.refuse(language, f"^--tokenizer: {message}", tokenizer=str(file))
    self.refuse(
      language,
      f"^--from: {message} .*; --tokenizer can name another$",
      **{"from": [str(folder)], "learning_rate": 1e-3, "length": 8},
    )

  def test_a_run_that_is_trained_can_be_reported(self):
    """On any machine: only unfinished arms need the memory."""
    arm = self.root / "run" / "arms" / "causal"
    config = precache_setup.PRESETS["smoke"]
    problem = precache_setup.problem(config, 0.5)
    for finished, refusal in ((False, "--preset: is"), (True, "--out: .*/run")):
      if finished:
        arm.mkdir(parents=True)
        (arm / "result.json").write_text("{}")
      with (
        flagsaver.flagsaver(out=str(self.root / "run")),
        mock.patch.object(machine, "host_bytes", lambda: 1 << 20),
        self.assertRaisesRegex(app.UsageError, refusal),
      ):
        train_arms.open_run("test", {"a": 1}, [problem])
