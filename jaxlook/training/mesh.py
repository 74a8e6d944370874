"""How devices share training: seeds first, then the batch, then the weights.

A mesh has the axes `seed`, `data` and `model`. Devices along `seed` train
different seeds. Devices along `data` and `model` train on different sequences
of the same batch. Along `model`, parameters and optimizer state are split, too,
each along its largest axis that is divisible, and gathered when a step needs
them (Rajbhandari et al. 2020, arXiv 1910.02054, stage 3).

Everything runs under `jax.shard_map`, because the compiler cannot split
attention kernels: each kernel gets whole sequences on one device.
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
from jaxlook.numerals import counted
from jaxlook.training import multihost
from jaxlook.training.config import TrainConfig

# The axes whose devices share a batch.
_BATCH = ("data", "model")
# How data for a chunk of steps, [steps, seeds, rows, ...], is split.
FEED_SPEC = PartitionSpec(None, "seed", _BATCH)
_GATHERED = "gathered"

# Maps steps, seeds and rows of a batch to training data, [steps, seeds, rows,
# ...]. A row's data must not depend on the other rows in the call.
Feed = Callable[[range, Sequence[int], range], np.ndarray]


@dataclasses.dataclass(frozen=True)
class MeshShape:
  """The number of devices along each axis of a mesh.

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
    """Checks the fields."""
    for axis, size in dataclasses.asdict(self).items():
      if size < 1:
        raise SettingError(
          "mesh", f"axis {axis} must be at least 1, not {size}"
        )

  @property
  def parts(self) -> int:
    """The number of devices that share a batch."""
    return self.data * self.model

  def build(self) -> Mesh:
    """Builds the mesh, on local devices or on those of all processes.

    Raises:
      SettingError: there are fewer devices, or several processes have more
        devices.
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
        "mesh",
        f"must use at most the {counted(len(devices), 'device')} here, not"
        f" {count}",
      )
    return Mesh(np.asarray(devices[:count]).reshape(sizes), ("seed", *_BATCH))

  def check(self, seeds: int, train: TrainConfig) -> None:
    """Raises an error if work cannot be shared evenly.

    Args:
      seeds: number of seeds.
      train: has the batch size and the number of microbatches.

    Raises:
      SettingError: there are too few devices, or seeds or sequences are not
        divisible.
    """
    self.build()
    if seeds % self.seed:
      raise SettingError(
        "mesh",
        f"axis seed must divide the {counted(seeds, 'seed')}, not be"
        f" {self.seed}",
      )
    if train.batch_size % (self.parts * train.microbatches):
      raise SettingError(
        "mesh",
        "axes data and model must together divide a microbatch of"
        f" {train.batch_size // train.microbatches} sequences, not be"
        f" {self.parts}",
      )
    if train.optimizer == "muon" and self.model > 1:
      raise SettingError(
        "mesh",
        "axis model must be 1 with the optimizer muon, which needs whole"
        f" matrices, not {self.model}",
      )


def parse_mesh(text: str) -> MeshShape:
  """Reads a mesh's flag form.

  Args:
    text: axes with their sizes, such as `seed:2,data:4`; other axes have 1.

  Returns:
    The shape.

  Raises:
    SettingError: the text has another form, or names an axis twice.
  """
  sizes = {}
  for part in text.split(","):
    match = re.fullmatch(r"(seed|data|model):([0-9]{1,9})", part.strip())
    if match is None or match[1] in sizes:
      raise SettingError(
        "mesh",
        f"must be like seed:2,data:2,model:2, each axis once, not {text!r}",
      )
    sizes[match[1]] = int(match[2])
  return MeshShape(**sizes)


def automatic_mesh(seeds: int) -> MeshShape:
  """Chooses a mesh: as many local devices as divide the number of seeds.

  With several processes all devices are used: as many as possible share the
  seeds, and the devices of a seed share its batch.
  """
  devices = len(multihost.devices())
  divisible = [n for n in range(1, devices + 1) if seeds % n == 0]
  if not multihost.joined():
    return MeshShape(max(divisible))
  seed = max(n for n in divisible if devices % n == 0)
  return MeshShape(seed, data=devices // seed)


class Share(NamedTuple):
  """One device's share of a seed's step; by default all of it.

  If several devices share a batch, call its functions under `jax.shard_map`.

  Attributes:
    shape: the mesh's shape.
    axes: for each parameter, the axis that is split over `model`; -1 for none.
  """

  shape: MeshShape = MeshShape()
  axes: Any = None

  def batch(self, batch: Any) -> Any:
    """Returns this device's sequences; all of them if not divisible."""
    parts, size = self.shape.parts, len(jax.tree.leaves(batch)[0])
    if parts == 1 or size % parts:
      return batch
    size //= parts
    first = jax.lax.axis_index(_BATCH) * size

    def own(x: jax.Array) -> jax.Array:
      return jax.lax.dynamic_slice_in_dim(x, first, size)

    return jax.tree.map(own, batch)

  def gather_params(self, params: Any) -> Any:
    """Gathers the parameters from the parts on the devices."""
    if self.shape.model == 1:
      return params

    def gather(x: jax.Array, axis: int) -> jax.Array:
      if axis < 0:
        return x
      whole = jax.lax.all_gather(x, "model", axis=axis, tiled=True)
      return checkpoint_name(whole, _GATHERED)

    return jax.tree.map(gather, params, self.axes)

  def mean(self, tree: Any) -> Any:
    """Returns the mean over the devices that share a batch."""
    if self.shape.parts == 1:
      return tree
    return jax.lax.pmean(tree, _BATCH)

  def mean_gradient(self, grads: Any) -> Any:
    """Returns the gradient of the mean loss, split like the parameters.

    Args:
      grads: this device's gradient of the arguments of `gather_params`. For
        split parameters it is already summed over `model`, because the
        derivative of a gather is a sum.
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
    """Returns the norm of a gradient that is split like the parameters."""
    if self.shape.model == 1:
      return optax.tree.norm(grads)

    def square(x: jax.Array, axis: int) -> jax.Array:
      local = jnp.sum(jnp.square(x))
      return local if axis < 0 else jax.lax.psum(local, "model")

    squares = jax.tree.map(square, grads, self.axes)
    return jnp.sqrt(sum(jax.tree.leaves(squares)))

  def remat_gather(self, loss: Any) -> Any:
    """Makes the backward pass of a loss gather the parameters again."""
    if self.shape.model == 1:
      return loss
    keep = jax.checkpoint_policies.save_anything_except_these_names(_GATHERED)
    return jax.checkpoint(loss, policy=keep)


class Layout(NamedTuple):
  """How the arrays of a training run are spread over devices.

  Attributes:
    shape: the mesh's shape.
    mesh: the mesh.
  """

  shape: MeshShape
  mesh: Mesh

  def share(self, params: Any) -> Share:
    """Returns each device's share of a step.

    Args:
      params: parameters with a leading seed axis E.
    """
    axes = jax.tree.map(lambda x: self._axis(x.shape[1:]), params)
    return Share(self.shape, axes)

  def specs(self, tree: Any) -> Any:
    """Returns how parameters or an optimizer's state are split.

    Args:
      tree: arrays with a leading seed axis E.

    Returns:
      A tree of `PartitionSpec`.
    """

    def spec(x: jax.Array) -> PartitionSpec:
      axes: list[str | None] = [None] * (x.ndim - 1)
      axis = self._axis(x.shape[1:])
      if axis >= 0:
        axes[axis] = "model"
      return PartitionSpec("seed", *axes)

    return jax.tree.map(spec, tree)

  def put(self, tree: Any, specs: Any) -> Any:
    """Spreads arrays over the devices; a spec is for an array or a subtree."""
    return multihost.put(tree, self._shardings(specs))

  def put_all(self, trees: Sequence[Any], specs: Any) -> list[Any]:
    """Spreads each of several trees; see `put`."""
    return [self.put(tree, specs) for tree in trees]

  def like(self, shapes: Any, specs: Any) -> Any:
    """Returns shapes with the devices over which their arrays are spread."""
    return jax.tree.map(
      lambda x, sharding: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=sharding
      ),
      shapes,
      self._shardings(specs),
    )

  def make(self, function: Callable[..., Any], specs: Any, *args: Any) -> Any:
    """Calls a function, and spreads its result over the devices.

    If parameters are split, no device ever has all of them.

    Args:
      function: a pure function that returns the tree.
      specs: the tree's partition; see `specs`.
      *args: the function's arguments, equal in all processes.
    """
    if self.shape.model == 1:
      return self.put(function(*args), specs)
    args = self.put(args, PartitionSpec())
    return jax.jit(function, out_shardings=self._shardings(specs))(*args)

  def read(
    self, feed: Feed, steps: range, seeds: Sequence[int], batch_size: int
  ) -> jax.Array:
    """Reads only the data of this process's devices.

    Args:
      feed: reads the data.
      steps: the training steps.
      seeds: all seeds.
      batch_size: rows per batch.

    Returns:
      The data of all processes, split by `FEED_SPEC`.
    """
    sharding = self._shardings(FEED_SPEC)
    shape = len(steps), len(seeds), batch_size
    parts = [
      jax.device_put(feed(steps, seeds[own], range(batch_size)[rows]), device)
      for device, (_, own, rows) in (
        sharding.addressable_devices_indices_map(shape).items()
      )
    ]
    return jax.make_array_from_single_device_arrays(
      (*shape, *parts[0].shape[3:]), sharding, parts
    )

  def _shardings(self, specs: Any) -> Any:
    return jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), specs)

  def _axis(self, shape: tuple[int, ...]) -> int:
    """Returns the largest axis that `model` divides; -1 for none."""
    model = self.shape.model
    divisible = [n for n, size in enumerate(shape) if size % model == 0]
    if model == 1 or not divisible:
      return -1
    return max(divisible, key=lambda axis: shape[axis])
