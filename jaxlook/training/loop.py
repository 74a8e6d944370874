"""Trains all seeds of one variant: chunks of steps, devices, resumption."""

import contextlib
import functools
import math
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec, SingleDeviceSharding

from jaxlook.errors import DamagedError, RunFolderError, SettingError
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.numerals import counted
from jaxlook.tasks.task import Batch, Task
from jaxlook.training import multihost, optimizers
from jaxlook.training import step as step_lib
from jaxlook.training.checkpoints import Checkpoints
from jaxlook.training.config import TrainConfig
from jaxlook.training.memory import check_memory
from jaxlook.training.mesh import (
  FEED_SPEC,
  Feed,
  Layout,
  MeshShape,
  Share,
  automatic_mesh,
)
from jaxlook.training.step import Teacher


class Stopped(Exception):  # noqa: N818 - not an error: a rerun continues.
  """Training has stopped on request, and its state is saved."""

  def __init__(self, step: int):
    """Keeps the number of steps taken."""
    super().__init__(f"stopped after {counted(step, 'step')}")
    self.step = step


class Earlier(NamedTuple):
  """A shorter training of the same seeds, from which a longer one goes on.

  Attributes:
    checkpoints: its folder of checkpoints.
    config: how it was trained; see `optimizers.can_go_on`.
    about: what its checkpoints are of; see `train`.
  """

  checkpoints: pathlib.Path
  config: TrainConfig
  about: str


class Trained(NamedTuple):
  """All seeds of a variant after training.

  Attributes:
    params: parameters with a leading seed axis E.
    steps: the step count at the end of each row of `losses`, int [R].
    losses: mean training loss over the steps of a row, float32 [R, E]; NaN from
      the row in which a seed diverged.
    diverged_at: the step at which each seed diverged, int [E]; -1 if it did
      not.
  """

  params: Any
  steps: np.ndarray
  losses: np.ndarray
  diverged_at: np.ndarray


def train(
  decoder: Decoder,
  task: Task,
  config: TrainConfig,
  seeds: Sequence[int],
  *,
  teacher: Teacher | None = None,
  start: Any = None,
  feed: Feed | None = None,
  checkpoints: pathlib.Path | None = None,
  about: str = "",
  earlier: Sequence[Earlier] = (),
  warn: Callable[[str], None] = warnings.warn,
  report: Callable[[int, np.ndarray], None] = lambda step, losses: None,
  should_stop: Callable[[], bool] = lambda: False,
  mesh: MeshShape | None = None,
) -> Trained:
  """Trains one variant with all its seeds.

  Accelerators train all seeds at once. A CPU trains them in turn, chunk by
  chunk, which takes no longer there: so a seed ends bit-identical whichever
  other seeds are trained beside it.

  Args:
    decoder: the model under the variant.
    task: makes batches and computes their loss on the device.
    config: how to train.
    seeds: each determines an init and a data order, the same for all variants.
    teacher: a frozen model for each seed, whose context the variant reads.
    start: parameters from which all seeds start; by default each seed draws
      its own.
    feed: reads the data of training steps on the host; each process reads the
      part of its own devices. None for generated tasks.
    checkpoints: a folder to save to and resume from; None to do neither. A
      resumed run ends bit-identical to a run that was never stopped. A damaged
      checkpoint is renamed, and training goes on from the one before.
    about: identifies the run in its checkpoints; those of another are damaged.
    earlier: shorter trainings. The first with a checkpoint from before its
      learning rate fell, if any, is where training starts.
    warn: called with one line for each damaged checkpoint.
    report: called after each chunk with the step count and the losses [E].
    should_stop: called after each chunk; if it is true in one process, all
      stop.
    mesh: how the devices are used; by default as many as divide the seeds. A
      run may resume under another mesh, then equal up to rounding.

  Returns:
    Parameters, loss history and the seeds that diverged.

  Raises:
    Stopped: `should_stop` returned true; the state is saved if `checkpoints`
      is set.
    SettingError: the mesh does not match the devices, seeds or batch, or the
      training needs more memory than there is.
    RunFolderError: the newest checkpoint is of another training.
    OSError: a checkpoint cannot be read or written.
    AssertionError: `start` does not match the decoder.
  """
  check_memory(decoder.config, config, len(seeds))
  layout = _layout(mesh, len(seeds), config)
  draw = functools.partial(step_lib.init_states, decoder.config, config)
  keys = step_lib.seed_keys(seeds)
  shapes = jax.eval_shape(draw, keys.init, start)
  specs, share = layout.specs(shapes), layout.share(shapes.params)
  by_seed = PartitionSpec("seed")
  turns = _turns(layout, len(seeds))
  data_keys = layout.put_all(_parts(keys.data, turns), by_seed)
  teachers = layout.put_all(_parts(teacher, turns), by_seed)
  ends = _chunk_ends(config)
  history = np.full((len(ends), len(seeds)), np.nan, np.float32)
  kept = _kept_steps(config)
  run_chunk = _compiled_chunk(decoder, task, config, layout, specs, share)

  def read(row: int) -> list[jax.Array | None]:
    if feed is None or row >= len(ends):
      return [None for _ in turns]
    return [
      layout.read(feed, _steps(ends, row), seeds[turn], config.batch_size)
      for turn in turns
    ]

  with contextlib.closing(Checkpoints(checkpoints, kept, of=about)) as saved:
    like = layout.like(shapes, specs)
    resumed = _resume(saved, ends, like, history, warn)
    for each in earlier if resumed is None else ():
      resumed = resumed or _go_on(each, config, ends, like, history, warn)
    if resumed is None and earlier:
      warn("no checkpoint of the shorter training serves; training starts anew")
    if resumed is None:
      first, make = 0, functools.partial(layout.make, draw, specs)
      blocks = [make(init, start) for init in _parts(keys.init, turns)]
    else:
      first, states, history = resumed
      blocks = layout.put_all(_parts(states, turns), specs)
      del states, resumed
      report(ends[first - 1], history[first - 1])
    fed = read(first)
    for row in range(first, len(ends)):
      steps = _steps(ends, row)
      numbers = np.asarray(steps, np.int32)
      losses = []
      for place, inputs in enumerate(
        zip(data_keys, fed, teachers, strict=True)
      ):
        key, data, taught = inputs
        blocks[place], loss = run_chunk(
          blocks[place], key, numbers, data, taught
        )
        losses.append(loss)
      # The device runs this chunk while the host reads the data of the next.
      fed = read(row + 1)
      history[row] = np.concatenate([multihost.get(loss) for loss in losses])
      last = row + 1 == len(ends)
      stop = multihost.max_over_processes(should_stop()) and not last
      every = config.checkpoint_every
      due = steps.start // every < steps.stop // every
      if stop or last or due or steps.stop in kept:
        saved.save(
          steps.stop,
          {"states": _joined(layout, blocks, specs), "history": history},
        )
      report(steps.stop, history[row])
      if stop:
        raise Stopped(steps.stop)
    saved.drop_old()
  states = _joined(layout, blocks, specs)
  return Trained(
    params=states.params,
    steps=np.asarray(ends),
    losses=history,
    diverged_at=multihost.get(states.diverged_at),
  )


def _turns(layout: Layout, seeds: int) -> list[slice]:
  """Returns which seeds are computed together, in order.

  On CPUs, arithmetic over several seeds rounds differently from that over one,
  so each device computes one seed at a time. Processes and devices that share a
  batch compute all at once: their sums round differently anyway.
  """
  one_by_one = (
    jax.default_backend() == "cpu"
    and not multihost.joined()
    and layout.shape.parts == 1
  )
  width = layout.shape.seed if one_by_one else seeds
  return [slice(first, first + width) for first in range(0, seeds, width)]


def _parts(tree: Any, turns: Sequence[slice]) -> list[Any]:
  """Cuts arrays with a leading seed axis E into those of the turns.

  The host does: operations on what several devices of a CPU hold can hang.
  """
  if len(turns) == 1:
    return [tree]
  leaves, shape = jax.tree.flatten(tree)
  leaves = [
    leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    else np.asarray(leaf)
    for leaf in leaves
  ]
  return [shape.unflatten([leaf[turn] for leaf in leaves]) for turn in turns]


def _joined(layout: Layout, blocks: Sequence[Any], specs: Any) -> Any:
  """Joins what `_parts` cuts, on the host as well."""
  if len(blocks) == 1:
    return blocks[0]
  whole = jax.tree.map(
    lambda *parts: np.concatenate([np.asarray(part) for part in parts]),
    *blocks,
  )
  return layout.put(whole, specs)


def _resume(
  saved: Checkpoints,
  ends: Sequence[int],
  like: step_lib.State,
  history: np.ndarray,
  warn: Callable[[str], None],
) -> tuple[int, step_lib.State, np.ndarray] | None:
  """Returns the next row and what the newest whole checkpoint holds, if any."""
  restored = saved.restore_newest({"states": like, "history": history}, warn)
  if restored is None:
    return None
  done, tree = restored
  if done not in ends:
    raise RunFolderError(
      f"the checkpoint after {done} steps is of another run: this one saves"
      f" after {', '.join(map(str, ends[:3]))}, ... steps"
    )
  return ends.index(done) + 1, tree["states"], np.array(tree["history"])


def _kept_steps(config: TrainConfig) -> list[int]:
  """Returns the steps whose checkpoints stay, besides the newest ones."""
  before_decay = optimizers.steps_before_decay(config)
  kept = {*config.keep_steps}
  return sorted(kept if before_decay is None else kept | {before_decay})


def _go_on(
  earlier: Earlier,
  config: TrainConfig,
  ends: Sequence[int],
  like: step_lib.State,
  history: np.ndarray,
  warn: Callable[[str], None],
) -> tuple[int, step_lib.State, np.ndarray] | None:
  """Returns what `_resume` does, from a shorter training; None if it cannot."""
  last = optimizers.steps_before_decay(earlier.config)
  # What must be kept of the first steps, the shorter one may not have kept.
  if last is None or any(step <= last for step in config.keep_steps):
    return None
  rows = len(_chunk_ends(earlier.config))
  before = np.zeros((rows, history.shape[1]), np.float32)
  with contextlib.closing(
    Checkpoints(
      earlier.checkpoints, _kept_steps(earlier.config), of=earlier.about
    )
  ) as saved:
    if last not in saved.steps():
      return None
    try:
      tree = saved.restore({"states": like, "history": before}, last)
    except DamagedError as error:
      warn(f"{error}; training goes on without it")
      return None
  done = ends.index(last) + 1
  history[:done] = tree["history"][:done]
  return done, tree["states"], history


def _compiled_chunk(
  decoder: Decoder,
  task: Task,
  config: TrainConfig,
  layout: Layout,
  specs: Any,
  share: Share,
) -> Callable[..., Any]:
  """Returns `step.train_chunk` of these arguments, over the mesh's devices.

  Seeds do not interact, so each device runs its own seeds under `shard_map`:
  the compiler cannot split attention kernels.
  """
  by_seed = PartitionSpec("seed")
  return jax.jit(
    jax.shard_map(
      functools.partial(
        step_lib.train_chunk, decoder, task, config, share=share
      ),
      mesh=layout.mesh,
      in_specs=(specs, by_seed, PartitionSpec(), FEED_SPEC, by_seed),
      out_specs=(specs, by_seed),
      check_vma=False,
    ),
    donate_argnums=0,
  )


def _layout(mesh: MeshShape | None, seeds: int, config: TrainConfig) -> Layout:
  """Returns the layout of the given mesh, or of the automatic one."""
  shape = mesh or automatic_mesh(seeds)
  shape.check(seeds, config)
  return Layout(shape, shape.build())


def _chunk_ends(config: TrainConfig) -> list[int]:
  """Returns the step count after each chunk; the last chunk may be short."""
  count = math.ceil(config.steps / config.log_every)
  return [
    min((row + 1) * config.log_every, config.steps) for row in range(count)
  ]


def _steps(ends: Sequence[int], row: int) -> range:
  return range(ends[row - 1] if row else 0, ends[row])


def saved_params(
  folder: pathlib.Path,
  model: DecoderConfig,
  config: TrainConfig,
  seeds: Sequence[int],
  step: int | None = None,
  about: str = "",
) -> Any:
  """Reads the parameters of a checkpoint that `train` has saved.

  Args:
    folder: the `checkpoints` folder of `train`.
    model: the decoder's shape.
    config: how it was trained.
    seeds: the seeds of the training.
    step: the checkpoint's step, by default the last one; 0 draws the initial
      parameters again.
    about: see `train`.

  Returns:
    Parameters with a leading seed axis E.

  Raises:
    SettingError: there is no checkpoint of that step; the message lists the
      steps.
    RunFolderError: the folder has no checkpoint, or a damaged one.
    OSError: it cannot be read.
  """
  keys = step_lib.seed_keys(seeds)
  if step == 0:
    return step_lib.init_states(model, config, keys.init).params
  # One device reads all, even if several devices have written it.
  one_device = SingleDeviceSharding(jax.local_devices()[0])
  like = {
    "states": jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one_device),
      jax.eval_shape(
        functools.partial(step_lib.init_states, model, config), keys.init
      ),
    ),
    "history": np.zeros((len(_chunk_ends(config)), len(seeds)), np.float32),
  }
  with contextlib.closing(
    Checkpoints(folder, config.keep_steps, of=about, alone=True)
  ) as saved:
    steps = saved.steps()
    if not steps:
      raise RunFolderError(f"{folder} has no checkpoint")
    if step is not None and step not in steps:
      raise SettingError(
        "step",
        f"must be 0 or a step with a checkpoint in {folder},"
        f" {steps}, not {step}",
      )
    restored = saved.restore(like, steps[-1] if step is None else step)
  return restored["states"].params


def evaluate(
  decoder: Decoder,
  task: Task,
  config: TrainConfig,
  params: Any,
  *,
  key: jax.Array,
  fed: np.ndarray | None = None,
  teacher: Teacher | None = None,
  mesh: MeshShape | None = None,
) -> np.ndarray:
  """Computes the loss on held-out batches, equal for every seed and variant.

  Args:
    decoder: the model under a variant.
    task: makes the batches and computes their loss.
    config: has the size and number of batches.
    params: parameters with a leading seed axis E.
    key: a PRNG key for the batches of generated tasks, consumed.
    fed: held-out data from the host, [batches, ...]; None for generated tasks.
    teacher: the seeds' teachers; None unless the variant needs them.
    mesh: see `train`.

  Returns:
    Mean loss by seed and position, float32 [E, T].
  """
  seeds = len(jax.tree.leaves(params)[0])
  layout = _layout(mesh, seeds, config)
  share = layout.share(params)

  def one(seed: Any, batch: Batch) -> jax.Array:
    params, teacher = seed
    losses_BxT = step_lib.position_losses(
      decoder,
      task,
      share.gather_params(params),
      share.batch(batch),
      teacher,
      loss_tokens=config.loss_tokens,
    )
    return share.mean(jnp.mean(losses_BxT, axis=0))

  def over_batches(seeds: Any, key: jax.Array, fed: Any) -> jax.Array:
    return mean_over_batches(
      task, config, jax.vmap(one, in_axes=(0, None)), seeds, key=key, fed=fed
    )

  specs, by_seed = layout.specs(params), PartitionSpec("seed")
  everywhere = PartitionSpec()
  mean_losses = jax.jit(
    jax.shard_map(
      over_batches,
      mesh=layout.mesh,
      in_specs=((specs, by_seed), everywhere, everywhere),
      out_specs=by_seed,
      check_vma=False,
    )
  )
  key, fed = layout.put((key, fed), everywhere)
  turns = _turns(layout, seeds)
  blocks = zip(
    layout.put_all(_parts(params, turns), specs),
    layout.put_all(_parts(teacher, turns), by_seed),
    strict=True,
  )
  losses = [mean_losses(block, key, fed) for block in blocks]
  return np.concatenate([multihost.get(each) for each in losses])


def mean_over_batches(
  task: Task,
  config: TrainConfig,
  measure: Callable[[Any, Batch], jax.Array],
  params: Any,
  *,
  key: jax.Array,
  fed: Any = None,
) -> jax.Array:
  """Returns the mean of a measure over the held-out batches.

  Args:
    task: makes the batches.
    config: has the size and number of batches.
    measure: maps parameters and a batch to an array.
    params: parameters for the measure.
    key: a PRNG key for the batches of generated tasks, consumed.
    fed: held-out data from the host, [batches, ...]; None for generated tasks.

  Returns:
    The mean, an array of the measure's shape.
  """

  def body(xs):
    key, fed = xs
    return measure(params, task.batch(key, config.batch_size, fed))

  count = config.eval_batches if fed is None else fed.shape[0]
  return jnp.mean(
    jax.lax.map(body, (jax.random.split(key, count), fed)), axis=0
  )
