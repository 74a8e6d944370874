"""What gradient does each parameter of a pretrained model get under a variant?

    python -m experiments.gradients --model=DIR --tokens=FILE.npy
        --attention=SPEC [--teacher=DIR] --out=FILE.safetensors

DIR is a Hugging Face folder of GPT-2 or GPT-NeoX, FILE.npy integers [batch,
length]. Prints the mean next-token cross-entropy and writes its gradient for
every parameter under the checkpoint's own names. Seconds for a small model.
"""

from pathlib import Path

import numpy as np

import jaxlook
from experiments.common import app, define_flags, shared_flags, trained_models
from experiments.common.shared_flags import ATTENTION, MODEL, OUT
from experiments.setups import gradients_setup
from jaxlook.attention import parse_variant
from jaxlook.models import Decoder, huggingface
from jaxlook.models.gradients import check_tokens, precise_loss_and_gradients
from jaxlook.models.huggingface.safetensors_files import write_tensors

shared_flags.adopt(__name__, "model", "attention", "out")

_TOKENS = define_flags.path(
  "tokens", None, "A .npy file of token ids, integers [batch, length]."
)
_TEACHER = define_flags.path(
  "teacher", None, "Folder of the model that a teacher variant reads."
)


def main() -> None:
  """Checks the flags, computes and writes."""
  folder, tokens_file = app.required(MODEL), app.required(_TOKENS)
  spec, *more = app.required(ATTENTION)
  if more or not spec:
    raise app.UsageError("attention", "must be one variant")
  out = Path(app.required(OUT))
  with app.blaming("out"):
    gradients_setup.check_out(out)
  with app.blaming("tokens"):
    tokens = gradients_setup.read_tokens(Path(tokens_file))
  with trained_models.reading_weights("model", Path(folder)):
    model = huggingface.load(folder)
  variant = parse_variant(spec, model.config.layers, model.config.heads)
  with app.blaming("tokens"):
    check_tokens(model.config, tokens)
  if variant.needs_teacher != bool(_TEACHER.value):
    problem = "is required" if variant.needs_teacher else "has no effect"
    raise app.UsageError("teacher", f"{problem} with --attention={spec}")
  teacher = None
  if _TEACHER.value:
    with trained_models.reading_weights("teacher", Path(_TEACHER.value)):
      loaded = huggingface.load(_TEACHER.value)
      gradients_setup.check_teacher(loaded.config, model.config)
      check_tokens(loaded.config, tokens)
    teacher = (Decoder(loaded.config), loaded.params)

  loss, gradients = precise_loss_and_gradients(
    Decoder(model.config, variant), model.params, tokens, teacher
  )
  if not np.isfinite(loss):
    raise app.UsageError("model", f"{folder} gives a loss of {loss}")
  metadata = {
    "loss": f"{loss:.9g}",
    "attention": spec,
    "jaxlook": jaxlook.__version__,
  }
  with app.blaming("out"):
    write_tensors(out, huggingface.to_checkpoint(model, gradients), metadata)
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
