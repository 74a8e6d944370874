"""Trains a tiny model in two processes of one device each.

Started once for each process, as a user starts a binary:

    python -m tests.training.together --out=DIR --distributed=HOST:PORT,0/2

At the first start the second process stalls half way through the last training,
to be killed. Started again, both go on from there.
"""

import dataclasses
import json
import pathlib
import time

import jax
import numpy as np
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec

from experiments.common import app, multiprocess
from jaxlook.training import Stopped, evaluate, multihost, saved_params, train
from jaxlook.training.mesh import MeshShape, automatic_mesh
from tests.training import meshes

flags.adopt_module_key_flags(multiprocess)
OUT = flags.DEFINE_string("out", None, "A folder that the processes share.")

DECODER, TASK, SEEDS = meshes.DECODER, meshes.TASK, meshes.SEEDS
CONFIG = dataclasses.replace(meshes.CONFIG, checkpoint_every=20)
ALONE = MeshShape()


def write(name: str, found: object) -> None:
  """Keeps what was found, whole, in the process that writes."""
  if multihost.leads():
    path = pathlib.Path(OUT.value) / name
    path.with_suffix(".part").write_text(json.dumps(found))
    path.with_suffix(".part").rename(path)


def refusal(function, *arguments) -> str:
  """What a function refuses to do."""
  try:
    function(*arguments)
  except ValueError as error:
    return str(error)
  return ""


def talk() -> dict[str, object]:
  """What processes do together beside training."""
  index = jax.process_index()
  mesh = MeshShape(seed=2).build()
  here = NamedSharding(mesh, PartitionSpec("seed"))
  everywhere = NamedSharding(mesh, PartitionSpec())
  keys = jax.random.split(jax.random.key(3), 4)
  numbers = np.arange(12.0).reshape(2, 6)
  keys, (numbers, _) = multihost.put(
    (keys, (numbers, None)), (here, everywhere)
  )
  refused = refusal(multihost.led, lambda: int("none"), lambda: 0)
  return {
    "devices": [device.process_index for device in multihost.devices()],
    "most": multihost.most(index + 5),
    "drawn": multihost.get(jax.vmap(jax.random.bits)(keys)).tolist(),
    "numbers": multihost.get(numbers).tolist(),
    "led": multihost.led(lambda: "leads", lambda: "follows"),
    "refused": refused,
    "refusals": multihost.most((index + 1) * ("none" in refused)),
    "left over": refusal(ALONE.build),
    "automatic": [
      dataclasses.astuple(automatic_mesh(seeds)) for seeds in (1, 2, 3, 4)
    ],
  }


def interrupted(first: bool):
  """The run with checkpoints, and the steps that it reports."""
  seen: list[int] = []
  folder = pathlib.Path(OUT.value)

  def report(step: int, losses: np.ndarray) -> None:
    seen.append(step)
    if first and seen == [10, 20, 30] and not multihost.leads():
      (folder / "stalled").touch()
      time.sleep(600)

  def run(stop: bool = False):
    return train(
      *(DECODER, TASK, CONFIG, SEEDS),
      checkpoints=folder / "checkpoints",
      report=report,
      should_stop=lambda: stop and not multihost.leads(),
    )

  if first:
    try:
      run(stop=True)
    except Stopped as stopped:
      # Only the other process was asked to, and both have stopped.
      write("stopped", multihost.most(stopped.step))
    seen.clear()
  return run(), seen


def main() -> None:
  """Trains together, at last alone."""
  first = not (pathlib.Path(OUT.value) / "stopped").exists()
  if first:
    write("talk", talk())
    trained = train(DECODER, TASK, CONFIG, SEEDS, mesh=MeshShape(model=2))
    write("model", trained.losses.tolist())
    with meshes.text() as text:
      losses, read = meshes.train_on(text, MeshShape(data=2))
    write("fed", losses)
    path = pathlib.Path(OUT.value, f"read by {jax.process_index()}")
    path.write_text(json.dumps(read))
  trained, seen = interrupted(first)
  folder = pathlib.Path(OUT.value) / "checkpoints"
  saved = saved_params(folder, DECODER.config, CONFIG, SEEDS)
  for x, y in zip(
    jax.tree.leaves(saved), jax.tree.leaves(trained.params), strict=True
  ):
    np.testing.assert_array_equal(x, multihost.get(y))
  held_out = evaluate(
    *(DECODER, TASK, CONFIG, trained.params), key=jax.random.key(9)
  )
  write("resumed", [seen, trained.losses.tolist(), held_out.tolist()])
  multiprocess.go_alone()
  trained = train(DECODER, TASK, CONFIG, SEEDS, mesh=ALONE)
  held_out = evaluate(
    *(DECODER, TASK, CONFIG),
    saved_params(folder, DECODER.config, CONFIG, SEEDS),
    key=jax.random.key(9),
    mesh=ALONE,
  )
  write("alone", [trained.losses.tolist(), held_out.tolist()])
  with meshes.text() as text:
    write("fed alone", meshes.train_on(text, ALONE)[0])


if __name__ == "__main__":
  jax.config.update("jax_disable_most_optimizations", True)
  app.run(main)
