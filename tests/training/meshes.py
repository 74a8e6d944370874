"""Trains a tiny model under several meshes; prints what came of each.

A process of its own, because the number of devices is settled when JAX starts:

    JAX_NUM_CPU_DEVICES=8 python -m tests.training.meshes
"""

import contextlib
import json
import pathlib
import sys
import tempfile

import jax
import numpy as np

from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.induction import Induction
from jaxlook.tasks.text import Text
from jaxlook.text.token_file import TokenFile
from jaxlook.training import Stopped, TrainConfig, evaluate, saved_params, train
from jaxlook.training.mesh import MeshShape

TASK = Induction(vocab_size=16, segment=4, max_gap=0, length=8)
# Keys that turn make their bias matter: without, its gradient is rounding
# alone, of which Adam makes steps of full size.
MODEL = DecoderConfig(
  layers=1,
  width=8,
  heads=2,
  max_length=8,
  vocab_size=16,
  mlp_width=0,
  positions="rotary",
  init_std=0.3,
)
DECODER = Decoder(MODEL, "myopic/residual")
# The bound is met at first, and not later.
CONFIG = TrainConfig(
  steps=50,
  batch_size=16,
  learning_rate=0.01,
  clip_norm=1.0,
  log_every=10,
  checkpoint_every=100,
  eval_batches=2,
)
SEEDS = (0, 1)
MESHES = {
  "one": MeshShape(),
  "all": MeshShape(seed=2, data=2, model=2),
  "seed": MeshShape(seed=2),
  "data": MeshShape(data=8),
  "model": MeshShape(model=8),
}


@contextlib.contextmanager
def text():
  """A random text, whose windows the host reads, while it is open."""
  tokens = np.random.default_rng(0).integers(0, 16, 5000, np.uint8)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "tokens")
    tokens.tofile(path)
    file = TokenFile(
      path=path,
      dtype="uint8",
      length=len(tokens),
      vocab_size=16,
      num_bytes=len(tokens),
      tokenizer="none",
      tokenizer_sha256="",
      sha256="",
    )
    yield Text(file, length=8)


def train_on(text: Text, mesh: MeshShape) -> tuple[list[float], list[int]]:
  """The losses on a text, and the rows of batches that were read for it."""
  read, feed = [], text.feed(CONFIG.batch_size)

  def noted(steps, seeds, rows):
    for step in steps:
      read.extend((step, seed, row) for seed in seeds for row in rows)
    return feed(steps, seeds, rows)

  trained = train(DECODER, text, CONFIG, SEEDS, feed=noted, mesh=mesh)
  return trained.losses.tolist(), sorted(read)


def measure() -> dict[str, dict[str, list[float]]]:
  """Losses of each mesh, held out and by chunk, and shares of the weights."""
  found = {}
  for name, mesh in MESHES.items():
    trained = train(DECODER, TASK, CONFIG, SEEDS, mesh=mesh)
    leaves = jax.tree.leaves(trained.params)
    found[name] = {
      "losses": trained.losses.tolist(),
      "shares": [x.addressable_shards[0].data.size / x.size for x in leaves],
    }
    if name in ("one", "all"):
      held_out = evaluate(
        *(DECODER, TASK, CONFIG, trained.params),
        key=jax.random.key(9),
        mesh=mesh,
      )
      found[name]["held out"] = held_out.tolist()
      with text() as read:
        found[name]["fed"] = train_on(read, mesh)
  return found


def resume(folder: pathlib.Path) -> dict[str, list[float]]:
  """Losses of a run that changes its mesh after 30 steps."""
  seen = []

  def run(mesh: MeshShape, stop: bool):
    return train(
      *(DECODER, TASK, CONFIG, SEEDS),
      checkpoints=folder,
      mesh=mesh,
      report=lambda step, losses: seen.append(step),
      should_stop=lambda: stop and seen[-1:] == [20],
    )

  try:
    run(MESHES["all"], True)
  except Stopped:
    # The report comes after the stop is asked for.
    assert seen[-1] == 30, seen
  trained = run(MESHES["data"], False)
  last = saved_params(folder, MODEL, CONFIG, SEEDS)
  for x, y in zip(
    jax.tree.leaves(last), jax.tree.leaves(trained.params), strict=True
  ):
    np.testing.assert_array_equal(x, y)
  return {"losses": trained.losses.tolist()}


if __name__ == "__main__":
  jax.config.update("jax_disable_most_optimizations", True)
  with tempfile.TemporaryDirectory() as root:
    json.dump(measure() | {"resumed": resume(pathlib.Path(root))}, sys.stdout)
