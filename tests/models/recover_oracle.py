"""Recovers the tensors that the oracle's checkpoint has lost.

    python -m tests.models.recover_oracle

`testdata/gpt2/model.safetensors` lacks `attn.c_attn.bias` of every layer. Its
gradients are there, and they and the loss (4.7021) belong to a model in which
it is not zero (with zeros the loss is 4.7083, in transformers too): whoever
wrote the file dropped all names that contain "attn.bias", a buffer's name.

The published gradients determine what is lost. This solves for it by
Gauss-Newton in float64, from the `vanilla` gradients of the biases, LayerNorms
and `attn.c_proj` alone: 8640 equations for 288 unknowns. Everything else is
left for the test to compare: the loss, the other vanilla gradients, and all of
`myopic_kv` and `myopic_residual`. The key's third of the bias adds the same to
all scores of a query, so nothing depends on it; it is written as zero.

Takes a minute, prints the residual of each step (the last is the rounding of
the published float32) and writes `testdata/gpt2_lost.safetensors`.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from jaxlook.models import Decoder, DecoderConfig
from jaxlook.models.gradients import next_token_loss
from jaxlook.models.huggingface.convert import from_checkpoint, layout_for
from jaxlook.models.huggingface.safetensors_files import write_tensors

_DATA = Path(__file__).parents[1] / "testdata"
_LAYERS, _WIDTH, _STEPS = 3, 48, 6
_CONFIG = DecoderConfig(
  layers=_LAYERS, width=_WIDTH, heads=4, max_length=24, vocab_size=61
)


def _lost(layer: int) -> str:
  return f"transformer.h.{layer}.attn.c_attn.bias"


def main() -> None:
  """Solves and writes."""
  known = safetensors.numpy.load_file(_DATA / "gpt2" / "model.safetensors")
  published = np.load(_DATA / "gpt2" / "gradients.npz")
  decoder = Decoder(_CONFIG, "causal", "reference")
  zeros = {_lost(i): np.zeros(3 * _WIDTH, np.float32) for i in range(_LAYERS)}
  layout = layout_for(_CONFIG)

  def chosen(tree, take):
    """The equations' share of a tree of gradients."""
    kept = []
    for layer in range(_LAYERS):
      block = tree[f"block_{layer}"]
      attention = block["attention"]
      kept += [attention["out"]["kernel"], attention["out"]["bias"]]
      kept += [attention[name]["bias"] for name in ("query", "value")]
      kept += jax.tree.leaves([block["attention_norm"], block["mlp_norm"]])
      kept += [block["mlp"][name]["bias"] for name in ("up", "down")]
    return take([x.ravel() for x in kept])

  base = jax.tree.map(
    lambda x: jnp.asarray(x, jnp.float64),
    from_checkpoint(layout, known | zeros),
  )

  def with_biases(bias):
    blocks = {
      f"block_{layer}": base[f"block_{layer}"]
      | {
        "attention": base[f"block_{layer}"]["attention"]
        | {
          name: {
            "kernel": base[f"block_{layer}"]["attention"][name]["kernel"],
            "bias": bias.reshape(_LAYERS, 2, _WIDTH)[layer, i],
          }
          for i, name in enumerate(("query", "value"))
        }
      }
      for layer in range(_LAYERS)
    }
    return base | blocks

  def equations(bias):
    gradients = jax.grad(next_token_loss, argnums=1)(
      decoder, with_biases(bias), published["input_ids"]
    )
    return chosen(gradients, jnp.concatenate)

  wanted = chosen(
    from_checkpoint(
      layout,
      {
        name.removeprefix("vanilla/"): np.float64(published[name])
        for name in published.files
        if name.startswith("vanilla/")
      },
    ),
    np.concatenate,
  )
  bias = np.zeros(2 * _LAYERS * _WIDTH)
  evaluate, jacobian = jax.jit(equations), jax.jit(jax.jacfwd(equations))
  for step in range(_STEPS):
    residual = np.asarray(evaluate(bias)) - wanted
    print(step, np.linalg.norm(residual) / np.linalg.norm(wanted))
    bias -= np.linalg.lstsq(np.asarray(jacobian(bias)), residual)[0]

  query, value = np.moveaxis(bias.reshape(_LAYERS, 2, _WIDTH), 1, 0)
  fused = np.concatenate([query, np.zeros_like(query), value], axis=1)
  lost = {_lost(i): np.float32(fused[i]) for i in range(_LAYERS)}
  write_tensors(_DATA / "gpt2_lost.safetensors", lost, {"format": "pt"})


if __name__ == "__main__":
  jax.config.update("jax_enable_x64", True)
  main()
