"""What gradient does each parameter of a pretrained model get under a variant?

    python -m experiments.gradients --model=DIR --tokens=FILE.npy
        --attention=SPEC [--teacher=DIR] --out=FILE.safetensors

DIR is a Hugging Face folder of GPT-2 or GPT-NeoX, FILE.npy integers [batch,
length]. Prints the mean next-token cross-entropy and writes its gradient for
every parameter under the checkpoint's own names. Seconds for a small model.
"""

import os
import tokenize
from pathlib import Path

import jax
import numpy as np
from absl import flags

import jaxlook
from experiments.common import app, shared_flags
from experiments.common.shared_flags import ATTENTION, MODEL, OUT
from jaxlook.attention import parse_variant
from jaxlook.models import Decoder, DecoderConfig, collect_context, huggingface
from jaxlook.models.gradients import check_tokens, loss_and_gradients
from jaxlook.models.huggingface.safetensors_files import write_tensors

shared_flags.adopt(__name__, "model", "attention", "out")

_TOKENS = flags.DEFINE_string(
  "tokens", None, "A .npy file of token ids, integers [batch, length]."
)
_TEACHER = flags.DEFINE_string(
  "teacher", None, "Folder of the model that a teacher variant reads."
)


def check_out(out: Path) -> None:
  """Refuses, by a ValueError, a path that no file can be written to."""
  if out.exists() and not out.is_file():
    raise ValueError(f"{out} exists and is not a file")
  if not (out.parent.is_dir() and os.access(out.parent, os.W_OK)):
    raise ValueError(f"{out.parent} is not a folder that can be written to")


def read_tokens(file: Path) -> np.ndarray:
  """Reads integers [batch, length], or refuses them by a ValueError."""
  try:
    # Mapped, since a broken header may ask for any amount of memory. Objects,
    # whose pickle could run code, cannot be mapped.
    tokens = np.lib.format.open_memmap(file, mode="r")
  except (ValueError, SyntaxError, tokenize.TokenError) as error:
    raise ValueError(
      f"{file} is not a .npy file of numbers: {error}"
    ) from error
  found = f"{tokens.dtype} {list(tokens.shape)}"
  if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer):
    raise ValueError(
      f"{file} is not an integer array [batch, length], but {found}"
    )
  return np.array(tokens)


def check_teacher(teacher: DecoderConfig, config: DecoderConfig) -> None:
  """Refuses, by a ValueError, a teacher of another shape than the model's."""
  for field in ("layers", "heads", "width", "vocab_size"):
    theirs, ours = getattr(teacher, field), getattr(config, field)
    if theirs != ours:
      raise ValueError(f"the teacher has {field}={theirs}, the model {ours}")


def main() -> None:
  """Checks the flags, computes and writes."""
  folder, tokens_file = app.required(MODEL), app.required(_TOKENS)
  spec, *more = app.required(ATTENTION)
  if more or not spec:
    raise app.UsageError("attention", "must be one variant")
  out = Path(app.required(OUT))
  with app.blaming("out"):
    check_out(out)
  with app.blaming("tokens"):
    tokens = read_tokens(Path(tokens_file))
  with app.blaming("model"):
    model = huggingface.load(folder)
  variant = parse_variant(spec, model.config.layers, model.config.heads)
  with app.blaming("tokens"):
    check_tokens(model.config, tokens)
  if variant.needs_teacher != bool(_TEACHER.value):
    problem = "is required" if variant.needs_teacher else "has no effect"
    raise app.UsageError("teacher", f"{problem} with --attention={spec}")

  teacher = None
  if _TEACHER.value:
    with app.blaming("teacher"):
      teacher = huggingface.load(_TEACHER.value)
      check_teacher(teacher.config, model.config)
      check_tokens(teacher.config, tokens)

  context, tokens = None, tokens.astype(np.int32)
  # Accelerators would else multiply in fewer digits than the weights have.
  with jax.default_matmul_precision("highest"):
    if teacher is not None:
      _, context = jax.jit(collect_context, static_argnums=0)(
        Decoder(teacher.config), teacher.params, tokens
      )
    loss, gradients = jax.jit(loss_and_gradients, static_argnums=0)(
      Decoder(model.config, variant), model.params, tokens, context
    )
  if not np.isfinite(loss):
    raise app.UsageError("model", f"{folder} gives a loss of {loss}")
  said = {
    "loss": f"{loss:.9g}",
    "attention": spec,
    "jaxlook": jaxlook.__version__,
  }
  with app.blaming("out"):
    write_tensors(out, huggingface.to_checkpoint(model, gradients), said)
  print(f"{loss:.7g} nats per token")


if __name__ == "__main__":
  app.run(
    main,
    says={
      "model": "Hugging Face folder of the pretrained model.",
      "attention": "Variant of all layers, or one per layer: causal,myopic/kv.",
      "out": "File to write: gradients by parameter name, as safetensors.",
    },
  )
