"""Tests of the binary that writes a pretrained model's gradients."""

import contextlib
import dataclasses
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import safetensors
import safetensors.numpy
from absl.testing import absltest, flagsaver, parameterized

import jaxlook
from experiments import gradients
from experiments.common import app
from jaxlook.models import Decoder, collect_context, huggingface
from jaxlook.models.gradients import loss_and_gradients
from tests.fixtures import base, binaries
from tests.fixtures.checkpoints import (
  GPT2,
  LFS_POINTER,
  NEOX,
  random_params,
)

_ROOT = Path(__file__).parents[2]
_TOKENS = np.random.default_rng(2).integers(0, 17, (2, 7))

# Two float32 programs, compiled with different surroundings.
RTOL = 1e-5


def run(*arguments):
  """Runs the binary as its users do."""
  return subprocess.run(
    [sys.executable, "-m", "experiments.gradients", *arguments],
    cwd=_ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
  )


class GradientsTest(base.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = tempfile.TemporaryDirectory()
    cls.addClassCleanup(folder.cleanup)
    cls.models = Path(folder.name)
    narrow = dataclasses.replace(GPT2, width=6)
    short = dataclasses.replace(GPT2, max_length=6)
    for name, config in (
      ("gpt2", GPT2),
      ("neox", NEOX),
      ("narrow", narrow),
      ("short", short),
    ):
      huggingface.save(cls.models / name, config, random_params(config))
    huggingface.save(cls.models / "other", GPT2, random_params(GPT2, seed=1))
    np.save(cls.models / "tokens.npy", _TOKENS)

  def setUp(self):
    super().setUp()
    self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.out = self.root / "out.safetensors"

  def arguments(self, **changes):
    """The flags of a good run, with changes."""
    return {
      "model": str(self.models / "gpt2"),
      "tokens": str(self.models / "tokens.npy"),
      "attention": "causal",
      "teacher": None,
      "out": str(self.out),
    } | changes

  def main(self, **changes):
    """Runs the binary in this process; returns what it prints."""
    values = self.arguments(**changes)
    if values["attention"] is not None:
      values["attention"] = [values["attention"]]
    printed = io.StringIO()
    with (
      flagsaver.flagsaver(**values),
      contextlib.redirect_stdout(printed),
    ):
      binaries.run_main(gradients)
    return printed.getvalue()

  def assert_written(self, model, attention, teacher=None):
    """The file holds the library's loss and gradients; returns the loss."""
    context = None
    if teacher is not None:
      _, context = jax.jit(collect_context, static_argnums=0)(
        Decoder(teacher.config), teacher.params, _TOKENS
      )
    loss, wanted = jax.jit(loss_and_gradients, static_argnums=0)(
      Decoder(model.config, attention), model.params, _TOKENS, context
    )
    with safetensors.safe_open(self.out, framework="np") as file:
      said = file.metadata()
    self.assertEqual(set(said), {"loss", "attention", "jaxlook"})
    self.assertEqual(said["attention"], attention)
    self.assertEqual(said["jaxlook"], jaxlook.__version__)
    np.testing.assert_allclose(float(said["loss"]), loss, rtol=RTOL)
    found = safetensors.numpy.load_file(self.out)
    wanted = huggingface.to_checkpoint(model, wanted)
    self.assertEqual(set(found), set(wanted))
    for name, array in wanted.items():
      np.testing.assert_allclose(
        found[name], array, rtol=RTOL, atol=RTOL * np.abs(array).max()
      )
      self.assertGreater(np.abs(array).max(), 0.0)
    self.assertEqual(list(self.root.iterdir()), [self.out])
    return loss

  def test_binary(self):
    """Run as documented it prints the loss and writes the gradients."""
    flags_ = self.arguments(model=str(self.models / "neox"), attention="myopic")
    done = run(*(f"--{name}={x}" for name, x in flags_.items() if x))
    self.assertEqual(done.returncode, 0, done.stderr)
    model = huggingface.load(self.models / "neox")
    loss = self.assert_written(model, "myopic")
    self.assertRegex(done.stdout, r"^\d\.\d+ nats per token\n$")
    self.assertAlmostEqual(float(done.stdout.split()[0]), loss, delta=1e-5)

  def test_names(self):
    """The written names and shapes are those of the model's own file."""
    self.main(attention="causal,horizon:1/residual")
    found = safetensors.numpy.load_file(self.out)
    wanted = safetensors.numpy.load_file(
      self.models / "gpt2" / "model.safetensors"
    )
    self.assertEqual(
      {name: x.shape for name, x in found.items()},
      {name: x.shape for name, x in wanted.items()},
    )

  def test_teacher(self):
    """The teacher's keys and values are read; an old file is replaced."""
    self.out.write_text("old")
    self.main(attention="teacher", teacher=str(self.models / "other"))
    model, teacher = (
      huggingface.load(self.models / name) for name in ("gpt2", "other")
    )
    self.assert_written(model, "teacher", teacher)

  def test_bad_input(self):
    """Bad input ends with one line that names the flag, and status 2."""
    np.save(self.root / "float.npy", np.zeros(3))
    changes = self.arguments(tokens=self.root / "float.npy")
    done = run(*(f"--{name}={x}" for name, x in changes.items() if x))
    self.assertEqual(
      (done.returncode, done.stdout, done.stderr),
      (
        2,
        "",
        f"--tokens: {self.root}/float.npy must be an integer array [batch,"
        " length], not float64 [3]\n",
      ),
    )

  def test_missing_flag(self):
    """Without flags it says in one line which is required."""
    done = run()
    self.assertEqual(
      (done.returncode, done.stdout, done.stderr),
      (2, "", "--model: is required\n"),
    )

  @parameterized.named_parameters(
    ("no_tokens", {"tokens": None}, "--tokens: is required"),
    ("no_attention", {"attention": None}, "--attention: is required"),
    ("empty_attention", {"attention": ""}, "--attention: must be one variant"),
    ("no_out", {"out": None}, "--out: is required"),
    ("spec", {"attention": "mopic"}, "--attention: 'mopic' is unknown"),
    (
      "layers",
      {"attention": "causal,causal,causal"},
      "--attention: .* gives 3 layers, the model has 2",
    ),
    (
      "heads",
      {"attention": "causal+myopic"},
      "--attention: .* the model has 3",
    ),
    ("no_model", {"model": "{models}/no"}, "--model: .*/no is not a folder"),
    (
      "model_file",
      {"model": "{models}/tokens.npy"},
      "--model: .* not a folder",
    ),
    ("not_a_model", {"model": "{models}"}, "--model: .*config.json is missing"),
    (
      "too_long",
      {"model": "{models}/short"},
      "--tokens: sequences of length 7 exceed the model's 6 positions",
    ),
    (
      "no_teacher",
      {"attention": "causal,teacher/residual"},
      "--teacher: is required with --attention=causal,teacher/residual",
    ),
    (
      "vain_teacher",
      {"teacher": "{models}/other"},
      "--teacher: has no effect with --attention=causal",
    ),
    (
      "bad_teacher",
      {"attention": "teacher", "teacher": "{models}"},
      "--teacher: .*config.json is missing",
    ),
    (
      "other_teacher",
      {"attention": "teacher", "teacher": "{models}/narrow"},
      "--teacher: the teacher has width=6, the model 12",
    ),
    (
      "short_teacher",
      {"attention": "teacher", "teacher": "{models}/short"},
      "--teacher: sequences of length 7 exceed the model's 6 positions",
    ),
    ("out_folder", {"out": "{models}"}, "--out: .* exists and is not a file"),
    (
      "out_nowhere",
      {"out": "{models}/no/out"},
      "--out: .*/no is not a folder that can be written to",
    ),
    ("out_device", {"out": "/dev/null"}, "--out: .* exists and is not a file"),
  )
  def test_refuses(self, changes, message):
    """What the flags ask for is refused by the flag's name, and no file."""
    changes = {
      name: value and value.format(models=self.models)
      for name, value in changes.items()
    }
    self.assert_refused(message, **changes)

  @parameterized.named_parameters(
    ("float", np.zeros((2, 3)), r"must be an integer .* not float64 \[2, 3\]"),
    ("bool", np.ones((2, 3), bool), "must be an integer array .* not bool"),
    ("flat", np.zeros(3, int), r"must be an integer array .* not int64 \[3\]"),
    ("scalar", np.array(1), r"must be an integer array .* not int64 \[\]"),
    ("negative", np.array([[0, -1]]), r"tokens must lie in 0\.\.16, not in -1"),
    (
      "beyond",
      np.array([[0, 17]]),
      r"tokens must lie in 0\.\.16, not in 0\.\.17",
    ),
    ("one", np.array([[1], [2]]), "at least 2 tokens, not 2 of 1"),
    ("none", np.zeros((0, 3), int), "at least 1 sequence .* not 0 of 3"),
    ("pickle", np.array([[{}, 1]]), "is not a .npy file of numbers: .*objects"),
    ("text", b"1 2 3", "is not a .npy file of numbers: "),
    ("pointer", LFS_POINTER, "is a Git LFS pointer"),
    ("empty", b"", "is not a .npy file of numbers: "),
    ("npz", b"PK\3\4 and so on", "is not a .npy file of numbers: "),
    ("header", b"\x93NUMPY\1\0\2\0{\n", "is not a .npy file of numbers: "),
    (
      "truncated",
      b"\x93NUMPY\1\0\x48\0{'descr': '<i8', 'fortran_order': False,"
      b" 'shape': (9, 1000000000000), }\n",
      "is not a .npy file of numbers: ",
    ),
    ("missing", None, "No such file"),
  )
  def test_refuses_tokens(self, content, message):
    """Files that are no integers [batch, length] of the model are refused."""
    file = self.root / "tokens.npy"
    if isinstance(content, bytes):
      file.write_bytes(content)
    elif content is not None:
      np.save(file, content, allow_pickle=True)
    self.assert_refused(f"--tokens: .*{message}", tokens=str(file))

  def assert_refused(self, message, **changes):
    """Refused in one line, before anything is compiled or written."""
    compiled = mock.Mock(side_effect=AssertionError("compiled"))
    with mock.patch.object(jax, "jit", compiled):
      with self.assertRaisesRegex(app.UsageError, message) as caught:
        self.main(**changes)
    self.assertNotIn("\n", str(caught.exception))
    self.assertFalse(self.out.exists())

  def test_not_finite(self):
    """A model with NaN, or that overflows, is refused; nothing is written."""
    params = random_params(GPT2)
    params["position_embedding"][0] = np.nan
    huggingface.save(self.root / "nan", GPT2, params)
    with self.assertRaisesRegex(
      app.UsageError, "--model: .* numbers that are NaN or infinite"
    ):
      self.main(model=str(self.root / "nan"))
    shutil.rmtree(self.root / "nan")
    params = random_params(GPT2)
    params["final_norm"]["scale"][:] = 3e38
    huggingface.save(self.root / "huge", GPT2, params)
    with self.assertRaisesRegex(app.UsageError, "--model: .* a loss of"):
      self.main(model=str(self.root / "huge"))
    shutil.rmtree(self.root / "huge")
    self.assertEmpty(list(self.root.iterdir()))

  def test_disk_full(self):
    """A failed write is blamed on --out; what was there stays."""
    self.out.write_text("old")
    with mock.patch.object(os, "replace", side_effect=OSError("disk full")):
      with self.assertRaisesRegex(app.UsageError, "--out: disk full"):
        self.main()
    self.assertEqual(self.out.read_text(), "old")
    self.assertEqual(list(self.root.iterdir()), [self.out])


if __name__ == "__main__":
  absltest.main()
