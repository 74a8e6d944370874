"""How devices share training: seeds first, then the batch, then the weights.

One mesh has the axes `seed`, `data` and `model`. Devices along `seed` train
different seeds; those along `data` and `model` different sequences of the same
batch. Along `model` parameters and optimiser state are split as well, each by
its largest axis that divides, and put together where a step needs them
(Rajbhandari et al. 2020, arXiv 1910.02054, stage 3).

All of it runs under `jax.shard_map`, so attention kernels, which the compiler
cannot split, see whole sequences of one device.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxlook.errors import SettingError
from jaxlook.training import multihost
from jaxlook.training.config import TrainConfig

# The axes whose devices work on one batch.
_BATCH = ("data", "model")
# How what is read for a chunk of steps is split, [steps, seeds, rows, ...].
FED = PartitionSpec(None, "seed", _BATCH)
_GATHERED = "gathered"

# Of some steps, seeds and rows of a batch: what they are trained on,
# [steps, seeds, rows, ...]. A row does not depend on what else is asked for.
Feed = Callable[[range, Sequence[int], range], np.ndarray]


@dataclasses.dataclass(frozen=True)
class MeshShape:
  """How many devices there are along each axis of a mesh.

  Attributes:
    seed: devices that share the seeds.
    data: devices that share a batch.
    model: devices that share a batch and the weights.

  Raises:
    SettingError: a number is below 1.
  """

  seed: int = 1
  data: int = 1
  model: int = 1

  def __post_init__(self):
    """Refuses an axis without devices."""
    for axis, size in dataclasses.asdict(self).items():
      if size < 1:
        raise SettingError(
          "mesh", f"axis {axis} must be at least 1, not {size}"
        )

  @property
  def parts(self) -> int:
    """How many devices work on one batch."""
    return self.data * self.model

  def build(self) -> Mesh:
    """The mesh over the first local devices, or over those of all processes.

    Raises:
      SettingError: there are not so many, or some of those of several processes
        are left over.
    """
    devices, sizes = multihost.devices(), dataclasses.astuple(self)
    count = self.seed * self.parts
    if multihost.joined() and count < len(devices):
      raise SettingError(
        "mesh",
        f"must use all {len(devices)} devices of all processes, not {count}",
      )
    if count > len(devices):
      raise SettingError(
        "mesh", f"must use at most the {len(devices)} devices here, not {count}"
      )
    return Mesh(np.asarray(devices[:count]).reshape(sizes), ("seed", *_BATCH))

  def check(self, seeds: int, train: TrainConfig) -> None:
    """Refuses what cannot be shared evenly.

    Args:
      seeds: how many there are.
      train: gives the batch and its parts.

    Raises:
      SettingError: devices are missing, or seeds or sequences left over.
    """
    self.build()
    if seeds % self.seed:
      raise SettingError(
        "mesh", f"axis seed must divide the {seeds} seeds, not be {self.seed}"
      )
    if train.batch_size % (self.parts * train.microbatches):
      raise SettingError(
        "mesh",
        "axes data and model must together divide a microbatch of"
        f" {train.batch_size // train.microbatches} sequences, not be"
        f" {self.parts}",
      )


def parse_mesh(text: str) -> MeshShape:
  """Reads a mesh's flag form.

  Args:
    text: axes with their sizes, as `seed:2,data:4`; those left out have 1.

  Returns:
    The shape.

  Raises:
    SettingError: it is no such text, or names an axis twice.
  """
  sizes = {}
  for part in text.split(","):
    found = re.fullmatch(r"(seed|data|model):(\d+)", part.strip())
    if found is None or found[1] in sizes:
      raise SettingError(
        "mesh",
        f"must be like seed:2,data:2,model:2, each axis once, not {text!r}",
      )
    sizes[found[1]] = int(found[2])
  return MeshShape(**sizes)


def automatic_mesh(seeds: int) -> MeshShape:
  """As many local devices as share the seeds evenly; nothing else is split.

  Those of several processes are all used: as many devices as can share the
  seeds, and those of a seed share its batch.
  """
  devices = len(multihost.devices())
  fits = [n for n in range(1, devices + 1) if seeds % n == 0]
  if not multihost.joined():
    return MeshShape(max(fits))
  seed = max(n for n in fits if devices % n == 0)
  return MeshShape(seed, data=devices // seed)


class Share(NamedTuple):
  """What one device does of a seed's step; by default all of it.

  Where several devices work on one batch, its functions are to be called under
  `jax.shard_map`.

  Attributes:
    shape: the mesh's.
    axes: of every parameter the axis that is split over `model`, -1 for none.
  """

  shape: MeshShape = MeshShape()
  axes: Any = None

  def batch(self, batch: Any) -> Any:
    """This device's sequences; all of them where they cannot be split."""
    parts, size = self.shape.parts, len(jax.tree.leaves(batch)[0])
    if parts == 1 or size % parts:
      return batch
    size //= parts
    first = jax.lax.axis_index(_BATCH) * size

    def own(x: jax.Array) -> jax.Array:
      return jax.lax.dynamic_slice_in_dim(x, first, size)

    return jax.tree.map(own, batch)

  def gather_params(self, params: Any) -> Any:
    """The parameters from the parts that devices have."""
    if self.shape.model == 1:
      return params

    def gather(x: jax.Array, axis: int) -> jax.Array:
      if axis < 0:
        return x
      whole = jax.lax.all_gather(x, "model", axis=axis, tiled=True)
      return checkpoint_name(whole, _GATHERED)

    return jax.tree.map(gather, params, self.axes)

  def mean(self, tree: Any) -> Any:
    """The mean over the devices of a batch, of what each has of its part."""
    if self.shape.parts == 1:
      return tree
    return jax.lax.pmean(tree, _BATCH)

  def mean_gradient(self, grads: Any) -> Any:
    """The gradient of the mean loss, split as the parameters are.

    Args:
      grads: this device's, by what `gather_params` was given: what is split
      holds the
        sum over `model` already, which is the derivative of putting together.
    """
    if self.shape.parts == 1:
      return grads
    model = self.shape.model

    def mean(x: jax.Array, axis: int) -> jax.Array:
      if axis < 0:
        return jax.lax.pmean(x, _BATCH)
      return jax.lax.pmean(x, "data") / model

    return jax.tree.map(mean, grads, self.axes)

  def norm(self, grads: Any) -> jax.Array:
    """The norm of a gradient that is split as the parameters are."""
    if self.shape.model == 1:
      return optax.tree.norm(grads)

    def square(x: jax.Array, axis: int) -> jax.Array:
      here = jnp.sum(jnp.square(x))
      return here if axis < 0 else jax.lax.psum(here, "model")

    squares = jax.tree.map(square, grads, self.axes)
    return jnp.sqrt(sum(jax.tree.leaves(squares)))

  def remat_gather(self, loss: Any) -> Any:
    """A loss whose backward pass puts parameters together again."""
    if self.shape.model == 1:
      return loss
    keep = jax.checkpoint_policies.save_anything_except_these_names(_GATHERED)
    return jax.checkpoint(loss, policy=keep)


class Layout(NamedTuple):
  """Where the arrays of a training run are.

  Attributes:
    shape: the mesh's.
    mesh: the mesh.
  """

  shape: MeshShape
  mesh: Mesh

  def share(self, params: Any) -> Share:
    """What each device does of a step.

    Args:
      params: with their leading seed axis E.
    """
    axes = jax.tree.map(lambda x: self._axis(x.shape[1:]), params)
    return Share(self.shape, axes)

  def specs(self, tree: Any) -> Any:
    """How parameters or an optimiser's state are split.

    Args:
      tree: arrays with the leading seed axis E.

    Returns:
      The partition of each, a tree of `PartitionSpec`.
    """

    def spec(x: jax.Array) -> PartitionSpec:
      axes: list[str | None] = [None] * (x.ndim - 1)
      axis = self._axis(x.shape[1:])
      if axis >= 0:
        axes[axis] = "model"
      return PartitionSpec("seed", *axes)

    return jax.tree.map(spec, tree)

  def put(self, tree: Any, specs: Any) -> Any:
    """Moves arrays to where `specs` says, of each or of a whole subtree."""
    return multihost.put(tree, self._shardings(specs))

  def make(self, function: Callable[..., Any], specs: Any, *args: Any) -> Any:
    """What a function gives, put to where `specs` says.

    Where parameters are split, no device ever holds them whole.

    Args:
      function: pure; gives the tree.
      specs: of the tree, as of `specs`.
      *args: its arguments, equal in all processes.
    """
    if self.shape.model == 1:
      return self.put(function(*args), specs)
    args = self.put(args, PartitionSpec())
    return jax.jit(function, out_shardings=self._shardings(specs))(*args)

  def read(
    self, feed: Feed, steps: range, seeds: Sequence[int], batch_size: int
  ) -> jax.Array:
    """Reads what the devices of this process work on, and nothing else.

    Args:
      feed: what reads.
      steps: the training steps.
      seeds: all seeds.
      batch_size: rows a batch.

    Returns:
      What all processes have read, split as `FED` says.
    """
    sharding, shape = self._shardings(FED), (len(steps), len(seeds), batch_size)
    parts = [
      jax.device_put(feed(steps, seeds[mine], range(batch_size)[rows]), device)
      for device, (_, mine, rows) in (
        sharding.addressable_devices_indices_map(shape).items()
      )
    ]
    return jax.make_array_from_single_device_arrays(
      (*shape, *parts[0].shape[3:]), sharding, parts
    )

  def _shardings(self, specs: Any) -> Any:
    return jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), specs)

  def _axis(self, shape: tuple[int, ...]) -> int:
    """The largest axis that `model` divides; -1 for none."""
    model = self.shape.model
    fits = [n for n, size in enumerate(shape) if size % model == 0]
    if model == 1 or not fits:
      return -1
    return max(fits, key=lambda axis: shape[axis])
