"""Converts a decoder's parameters to a checkpoint's tensors and back.

Conversions only move numbers, so they are exact. They work for gradients and
optimizer moments as well as for weights.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from jaxlook.errors import SettingError
from jaxlook.keys import make_key
from jaxlook.models.config import DecoderConfig
from jaxlook.models.decoder import Params, init
from jaxlook.models.huggingface import tensor_names
from jaxlook.models.huggingface.config_json import check_shape
from jaxlook.models.huggingface.tensor_names import FAMILIES, Form

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Layout:
  """A checkpoint's layout of a decoder's parameters.

  Attributes:
    config: the decoder's shape.
    family: `gpt2` or `gpt_neox`.
    prefix: prefix of the tensors' names: the family's, or "" for files of the
      bare model.

  Raises:
    ValueError: the family is unknown, or has no such decoder or prefix.
  """

  config: DecoderConfig
  family: str
  prefix: str

  def __post_init__(self):
    """Checks the fields."""
    check_shape(self.config, self.family)
    if self.prefix not in ("", FAMILIES[self.family].prefix):
      raise SettingError(
        "prefix",
        f"must be '' or {FAMILIES[self.family].prefix!r} in the family"
        f" {self.family}, not {self.prefix!r}",
      )

  @property
  def tensors(self) -> tuple[tensor_names.Tensor, ...]:
    """The tensors of the checkpoint, in the order of the forward pass."""
    return tensor_names.tensors(self.config, FAMILIES[self.family], self.prefix)


def layout_for(config: DecoderConfig) -> Layout:
  """Chooses the layout of a decoder that does not come from a checkpoint.

  Args:
    config: the decoder's shape.

  Returns:
    GPT-NeoX's layout for rotary positions, else GPT-2's.

  Raises:
    ValueError: no family has such a decoder.
  """
  family = "gpt_neox" if config.positions == "rotary" else "gpt2"
  return Layout(config, family, FAMILIES[family].prefix)


def to_checkpoint(layout: Layout, tree: Params) -> dict[str, np.ndarray]:
  """Converts a tree to a checkpoint's tensors; inverse of `from_checkpoint`.

  Args:
    layout: the checkpoint's layout, for example a `Pretrained`.
    tree: a tree with the parameters' structure and shapes: weights, gradients
      or optimizer moments, of any dtype.

  Returns:
    The tensors by name, bit for bit, in row-major memory for safetensors.

  Raises:
    ValueError: the tree has another structure or other shapes.
  """
  leaves = {path: np.asarray(leaf) for path, leaf in _paths(tree).items()}
  compare(
    {path: leaf.shape for path, leaf in leaves.items()},
    _leaf_shapes(layout.config),
    "the tree",
  )
  return {
    tensor.name: _pack(
      tensor.form,
      [leaves[path] for path in tensor.leaves],
      layout.config.heads,
    )
    for tensor in layout.tensors
  }


def from_checkpoint(
  layout: Layout, tensors: Mapping[str, np.ndarray]
) -> Params:
  """Converts a checkpoint's tensors to a tree; inverse of `to_checkpoint`.

  Args:
    layout: the checkpoint's layout, for example a `Pretrained`.
    tensors: the checkpoint's tensors by name.

  Returns:
    The tree in NumPy, bit for bit. Leaves may share memory with the tensors.

  Raises:
    ValueError: a tensor is missing, unexpected or has a wrong shape.
  """
  compare(
    {name: tensor.shape for name, tensor in tensors.items()},
    tensor_shapes(layout),
    "the checkpoint",
  )
  leaves = {}
  for tensor in layout.tensors:
    array = tensors[tensor.name]
    unpacked = _unpack(tensor.form, array, layout.config.heads)
    leaves |= zip(tensor.leaves, unpacked, strict=True)
  return traverse_util.unflatten_dict(leaves, sep="/")


def _paths(tree: Params) -> dict[str, Any]:
  """Returns the leaves of a tree by path, joined by "/"."""
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


@functools.cache
def _leaf_shapes(config: DecoderConfig) -> Shapes:
  tree = jax.eval_shape(lambda: init(config, make_key(0)))
  return {path: leaf.shape for path, leaf in _paths(tree).items()}


def tensor_shapes(layout: Layout) -> dict[str, tuple[int, ...]]:
  """Returns the shape of each tensor of the checkpoint, by name."""
  leaves = _leaf_shapes(layout.config)
  return {
    tensor.name: _packed_shape(tensor.form, leaves[tensor.leaves[0]])
    for tensor in layout.tensors
  }


def compare(actual: Shapes, expected: Shapes, where: str) -> None:
  """Raises an error if names or shapes differ from the expected ones.

  Args:
    actual: the shapes by name.
    expected: the expected shapes by name.
    where: begins the error message.

  Raises:
    ValueError: a name is missing or unexpected, or has another shape.
  """
  for what, names in (
    ("lacks", [name for name in expected if name not in actual]),
    ("has unexpected", [name for name in actual if name not in expected]),
  ):
    if names:
      more = f" and {len(names) - 1} more" if names[1:] else ""
      raise ValueError(f"{where} {what} {names[0]}{more}")
  for name, shape in expected.items():
    if actual[name] != shape:
      raise ValueError(
        f"{where} has {name} of shape {list(actual[name])}, not {list(shape)}"
      )


def _packed_shape(form: Form, shape: tuple[int, ...]) -> tuple[int, ...]:
  """Returns the shape of a tensor whose leaves each have the given shape."""
  if form == "columns":
    return (*shape[:-1], 3 * shape[-1])
  if form == "heads":
    return (3 * shape[-1], *shape[:-1])
  return shape if form == "same" else shape[::-1]


def _pack(form: Form, leaves: Sequence[np.ndarray], heads: int) -> np.ndarray:
  """Packs leaves into a checkpoint's tensor; the inverse of `_unpack`."""
  if form == "columns":
    tensor = np.concatenate(leaves, axis=-1)
  elif form == "heads":
    # Leaves are [out, in] or [out]; stacked they are [heads, 3, head_dim, in].
    rows = [leaf.T for leaf in leaves]
    stacked = np.stack([r.reshape(heads, -1, *r.shape[1:]) for r in rows], 1)
    tensor = stacked.reshape(-1, *rows[0].shape[1:])
  else:
    tensor = leaves[0] if form == "same" else leaves[0].T
  return np.ascontiguousarray(tensor)


def _unpack(form: Form, tensor: np.ndarray, heads: int) -> list[np.ndarray]:
  """Unpacks the leaves of a checkpoint's tensor; the inverse of `_pack`."""
  if form == "columns":
    leaves = np.split(tensor, 3, axis=-1)
  elif form == "heads":
    stacked = tensor.reshape(heads, 3, -1, *tensor.shape[1:])
    leaves = [stacked[:, i].reshape(-1, *tensor.shape[1:]).T for i in range(3)]
  else:
    leaves = [tensor if form == "same" else tensor.T]
  return [np.ascontiguousarray(leaf) for leaf in leaves]
