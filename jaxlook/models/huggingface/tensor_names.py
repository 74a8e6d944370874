"""How published checkpoints name and orient the parameters of a decoder.

A checkpoint's tensor holds one leaf of jaxlook's parameter tree, or the three
of query, key and value, in one of four forms:

  same        the leaf as it is: embeddings, biases, GPT-2's [in, out] kernels
  transposed  [out, in] kernels, as of torch's Linear
  columns     query, key and value side by side, [in, 3 out] (GPT-2's c_attn)
  heads       [heads, 3, head_dim] rows by columns `in` (NeoX)

Here are the names alone: `jaxlook.models.huggingface.convert` moves the
numbers, and `jaxlook.models.huggingface.config_json` reads and writes the same
families' config.json.
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
    form: how the leaves lie in it.
    leaves: the paths of its leaves in the parameter tree, joined by "/"; three
      (query, key, value) for the forms `columns` and `heads`, else one.
  """

  name: str
  form: Form
  leaves: tuple[str, ...]


class Family(NamedTuple):
  """The names and forms of one family.

  Attributes:
    architecture: the class that transformers loads such a folder into.
    prefix: what the names begin with, except that of the head and except in
      files of the bare model, where no name has it.
    embedding: the token embedding.
    positions: the position embedding; None where positions are rotary.
    final_norm: the last LayerNorm.
    blocks: the list of blocks.
    norms: a block's LayerNorms, ours to theirs.
    linear: a block's linear layers but query, key and value, ours to theirs.
    fused: query, key and value as one linear layer.
    head: the head; never prefixed.
    kernel: the form of kernels in `linear`.
    split: the form of `fused`.
    buffers: what old files hold besides parameters, without the prefix.
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
      # In full: `attn.c_attn.bias`, a parameter, also ends in "attn.bias".
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
  """The tensors of a checkpoint, in the order of the forward pass.

  Args:
    config: the decoder's shape, one that the family has.
    family: the family.
    prefix: `family.prefix`, or "" for files of the bare model.

  Returns:
    Every tensor; together they hold every leaf of the tree once.
  """
  found = []

  def add(theirs: str, form: Form, *leaves: str) -> None:
    found.append(Tensor(prefix + theirs, form, leaves))

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
    found.append(
      Tensor(f"{family.head}.weight", "transposed", ("head/kernel",))
    )
  return tuple(found)
