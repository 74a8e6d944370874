"""Names and forms of a decoder's parameters in published checkpoints.

A checkpoint's tensor holds one leaf of jaxlook's parameter tree, or the three
of query, key and value, in one of four forms:

  same        the leaf as it is: embeddings, biases, GPT-2's [in, out] kernels
  transposed  [out, in] kernels, as in torch's Linear
  columns     query, key and value side by side, [in, 3 out] (GPT-2's c_attn)
  heads       [heads, 3, head_dim] rows by columns `in` (NeoX)

This module has only the names. `jaxlook.models.huggingface.convert` moves the
numbers, and `jaxlook.models.huggingface.config_json` reads and writes
config.json.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from jaxlook.models.config import DecoderConfig

Form = Literal["same", "transposed", "columns", "heads"]


class Tensor(NamedTuple):
  """One tensor of a checkpoint.

  Attributes:
    name: its name in the file.
    form: how it holds the leaves.
    leaves: paths of its leaves in the parameter tree, joined by "/"; three
      (query, key, value) for the forms `columns` and `heads`, else one.
  """

  name: str
  form: Form
  leaves: tuple[str, ...]


class Family(NamedTuple):
  """The names and forms of one family.

  Attributes:
    architecture: the class of transformers for such a folder.
    prefix: prefix of all names, except the head's; files of the bare model
      have no prefix.
    embedding: the token embedding.
    positions: the position embedding; None for rotary positions.
    final_norm: the last LayerNorm.
    blocks: the list of blocks.
    norms: a block's LayerNorms, by jaxlook's name.
    linear: a block's linear layers except query, key and value, by jaxlook's
      name.
    fused: query, key and value as one linear layer.
    head: the head; never prefixed.
    kernel: the form of kernels in `linear`.
    split: the form of `fused`.
    buffers: names in old files that are not parameters, without the prefix.
  """

  architecture: str
  prefix: str
  embedding: str
  positions: str | None
  final_norm: str
  blocks: str
  norms: Mapping[str, str]
  linear: Mapping[str, str]
  fused: str
  head: str
  kernel: Form
  split: Form
  buffers: re.Pattern[str]


FAMILIES: Mapping[str, Family] = MappingProxyType(
  {
    "gpt2": Family(
      architecture="GPT2LMHeadModel",
      prefix="transformer.",
      embedding="wte",
      positions="wpe",
      final_norm="ln_f",
      blocks="h",
      norms={"attention_norm": "ln_1", "mlp_norm": "ln_2"},
      linear={
        "attention/out": "attn.c_proj",
        "mlp/up": "mlp.c_fc",
        "mlp/down": "mlp.c_proj",
      },
      fused="attn.c_attn",
      head="lm_head",
      kernel="same",
      split="columns",
      # The parameter `attn.c_attn.bias` must not match.
      buffers=re.compile(r"h\.\d+\.attn\.(masked_)?bias"),
    ),
    "gpt_neox": Family(
      architecture="GPTNeoXForCausalLM",
      prefix="gpt_neox.",
      embedding="embed_in",
      positions=None,
      final_norm="final_layer_norm",
      blocks="layers",
      norms={
        "attention_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
      },
      linear={
        "attention/out": "attention.dense",
        "mlp/up": "mlp.dense_h_to_4h",
        "mlp/down": "mlp.dense_4h_to_h",
      },
      fused="attention.query_key_value",
      head="embed_out",
      kernel="transposed",
      split="heads",
      buffers=re.compile(
        r"layers\.\d+\.attention\.(masked_)?bias"
        r"|(layers\.\d+\.attention\.)?rotary_emb\.inv_freq"
      ),
    ),
  }
)


def tensors(
  config: DecoderConfig, family: Family, prefix: str
) -> tuple[Tensor, ...]:
  """Lists the tensors of a checkpoint, in the order of the forward pass.

  Args:
    config: the decoder's shape, which the family must have.
    family: the family.
    prefix: `family.prefix`, or "" for files of the bare model.

  Returns:
    All tensors; each leaf of the tree is in exactly one.
  """
  result = []

  def add(theirs: str, form: Form, *leaves: str) -> None:
    result.append(Tensor(prefix + theirs, form, leaves))

  def norm(theirs: str, ours: str) -> None:
    add(f"{theirs}.weight", "same", f"{ours}/scale")
    add(f"{theirs}.bias", "same", f"{ours}/bias")

  add(f"{family.embedding}.weight", "same", "token_embedding/embedding")
  if family.positions is not None:
    add(f"{family.positions}.weight", "same", "position_embedding")
  for layer in range(config.layers):
    block, here = f"block_{layer}", f"{family.blocks}.{layer}"
    for ours, theirs in family.norms.items():
      norm(f"{here}.{theirs}", f"{block}/{ours}")
    for end, leaf in (("weight", "kernel"), ("bias", "bias")):
      add(
        f"{here}.{family.fused}.{end}",
        family.split,
        *(f"{block}/attention/{p}/{leaf}" for p in ("query", "key", "value")),
      )
    for ours, theirs in family.linear.items():
      add(f"{here}.{theirs}.weight", family.kernel, f"{block}/{ours}/kernel")
      add(f"{here}.{theirs}.bias", "same", f"{block}/{ours}/bias")
  norm(family.final_norm, "final_norm")
  if not config.shares_embedding:
    result.append(
      Tensor(f"{family.head}.weight", "transposed", ("head/kernel",))
    )
  return tuple(result)
