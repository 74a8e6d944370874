"""Recovers the tensors that the oracle's checkpoint lacks.

    python -m tests.models.recover_oracle

`testdata/gpt2/model.safetensors` lacks `attn.c_attn.bias` of every layer. Its
gradients are published. They and the loss (4.7021) come from a model whose
biases are not zero (with zeros the loss is 4.7083, also in transformers). The
file's writer dropped all names that contain "attn.bias", a buffer's name.

The published gradients determine the biases. This program solves for them by
Gauss-Newton in float64, only from the `vanilla` gradients of the biases,
LayerNorms and `attn.c_proj`: 8640 equations for 288 unknowns. The test compares
everything else: the loss, the other vanilla gradients, and all of `myopic_kv`
and `myopic_residual`. The key's third of the bias shifts all scores of a query
equally, so nothing depends on it; it is written as zero.

It takes a minute, prints the residual of each step (the last is float32
rounding of the published numbers) and writes
`testdata/gpt2_lost.safetensors`.
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
  """Solves for the biases, and writes them."""
  known = safetensors.numpy.load_file(_DATA / "gpt2" / "model.safetensors")
  published = np.load(_DATA / "gpt2" / "gradients.npz")
  decoder = Decoder(_CONFIG, "causal", "reference")
  zeros = {_lost(i): np.zeros(3 * _WIDTH, np.float32) for i in range(_LAYERS)}
  layout = layout_for(_CONFIG)

  def equation_terms(tree, join):
    """Selects the gradients that the equations use."""
    selected = []
    for layer in range(_LAYERS):
      block = tree[f"block_{layer}"]
      attention = block["attention"]
      selected += [attention["out"]["kernel"], attention["out"]["bias"]]
      selected += [attention[name]["bias"] for name in ("query", "value")]
      selected += jax.tree.leaves([block["attention_norm"], block["mlp_norm"]])
      selected += [block["mlp"][name]["bias"] for name in ("up", "down")]
    return join([x.ravel() for x in selected])

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
    return equation_terms(gradients, jnp.concatenate)

  expected = equation_terms(
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
    residual = np.asarray(evaluate(bias)) - expected
    print(step, np.linalg.norm(residual) / np.linalg.norm(expected))
    bias -= np.linalg.lstsq(np.asarray(jacobian(bias)), residual)[0]

  query, value = np.moveaxis(bias.reshape(_LAYERS, 2, _WIDTH), 1, 0)
  fused = np.concatenate([query, np.zeros_like(query), value], axis=1)
  lost = {_lost(i): np.float32(fused[i]) for i in range(_LAYERS)}
  write_tensors(_DATA / "gpt2_lost.safetensors", lost, {"format": "pt"})


if __name__ == "__main__":
  jax.config.update("jax_enable_x64", True)
  main()
