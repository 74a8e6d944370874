"""A run to look at with the microscope, and looking at it."""

import atexit
import contextlib
import dataclasses
import functools
import io
import pathlib
import sys
import tempfile

import jax
import numpy as np
import pyarrow as pa
from absl import flags
from absl.testing import flagsaver

from experiments import microscope
from jaxlook.models import DecoderConfig
from jaxlook.runs.store import open_store
from jaxlook.text.tokenizer import load_tokenizer
from jaxlook.training import TrainConfig, step
from jaxlook.training.checkpoints import Checkpoints

MODEL = DecoderConfig(layers=2, width=8, heads=2, max_length=40, vocab_size=256)
TEXT = "</script> \"'&amp;\nлов 😀\u202e."
TOKENS = np.frombuffer(TEXT.encode(), np.uint8).astype(np.int32)
ABOUT = {"tokenizer": "bytes", "tokenizer_sha256": load_tokenizer().sha256}
VARIANTS = ("causal", "myopic/kv")


def write_run(folder: pathlib.Path, about) -> pathlib.Path:
  """A run folder as training leaves it, of random parameters.

  Seed 1 has diverged in the second arm.
  """
  seeds, train = (0, 1, 2), TrainConfig(steps=1, batch_size=1, eval_batches=1)
  shapes = jax.eval_shape(
    functools.partial(step.init_states, MODEL, train),
    step.seed_keys(seeds).init,
  )
  with open_store(folder, {"experiment": "language"}) as store:
    for index, variant in enumerate(VARIANTS):
      rng = np.random.default_rng(index)
      states = jax.tree.map(
        lambda x, rng=rng: rng.normal(scale=0.5, size=x.shape).astype(x.dtype),
        shapes,
      )
      arm = store.arm(
        variant,
        {
          "variant": variant,
          "setting": "",
          "task": about,
          "model": dataclasses.asdict(MODEL),
          "train": dataclasses.asdict(train),
          "seeds": seeds,
        },
      )
      with contextlib.closing(Checkpoints(arm.checkpoints)) as saved:
        history = np.zeros((1, len(seeds)), np.float32)
        saved.save(1, {"states": states, "history": history})
      lost = {1} if index else set()
      cells = [
        {"seed": seed, "status": "diverged" if seed in lost else "done"}
        for seed in seeds
      ]
      arm.write_result({"cells": cells}, pa.table({"step": [1]}))
  return folder


def look(root: pathlib.Path, **values) -> str:
  """Runs the binary's main; returns what it printed."""
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(sys.argv[:1])
  values = {"out": str(root / "page.html"), "text": TEXT} | values
  with (
    flagsaver.flagsaver(**values),
    contextlib.redirect_stdout(io.StringIO()) as said,
  ):
    microscope.main()
  return said.getvalue()


@functools.cache
def root() -> pathlib.Path:
  """A folder with a run in `run`, for all tests of the process."""
  folder = tempfile.TemporaryDirectory()
  atexit.register(folder.cleanup)
  write_run(pathlib.Path(folder.name) / "run", ABOUT)
  return pathlib.Path(folder.name)
