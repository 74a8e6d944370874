"""What do one or two models compute on a text, token by token?

    python -m experiments.microscope --model=RUN --text=TEXT
        [--attention=A [--attention=B]] [--seed=N] [--step=N] [--out=FILE.html]
    python -m experiments.microscope --model=DIR --text=TEXT [--tokenizer=PATH]

Writes one HTML file that needs no server and no network. For two arms of a run
folder it shows what each token costs them and the difference (which tokens pay
for myopia?), attention patterns, next tokens by depth, neurons with what
triggers them and what they write, and the influence of every position on every
loss.

Without `--attention` it compares causal with myopic/kv if the run has both, and
else its first two arms. For a Hugging Face folder it shows the one model.
Losses are means over the seeds; the panels show one seed (`--seed`). It takes
half a minute for a small model and 128 tokens.
"""

import os
from pathlib import Path

from experiments.common import app, define_flags, shared_flags, task_setup
from experiments.setups import microscope_setup
from jaxlook.circuits import microscope, page
from jaxlook.numerals import counted
from jaxlook.runs.atomic_files import write_bytes

shared_flags.adopt(
  __name__, "model", "step", "attention", "tokenizer", "cache", "out"
)

_TEXT = define_flags.text("text", None, "Text to look at.")
_TEXT_FILE = define_flags.path(
  "text_file", None, "UTF-8 file to look at, instead of --text."
)
_SEED = define_flags.whole(
  "seed", None, "Seed of the models that the panels show. [the first]"
)


def read_text() -> tuple[str, str]:
  """The text, and the flag that it is from."""
  if (_TEXT.value is None) == (_TEXT_FILE.value is None):
    raise app.UsageError("text", "must be given, or --text_file, but not both")
  if _TEXT_FILE.value is None:
    return _TEXT.value or "", "text"
  with app.blaming("text_file"):
    # Bytes, because text files read as such lose their line ends.
    return Path(_TEXT_FILE.value).read_bytes().decode(), "text_file"


def target() -> Path:
  """The file to write; makes its folder and checks that it is writable."""
  out = Path(shared_flags.OUT.value or "runs/microscope.html")
  if out.is_dir() or out.suffix != ".html":
    out = out / "microscope.html"
  with app.blaming("out"):
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir() or not os.access(out.parent, os.W_OK):
      raise ValueError(f"{out} cannot be written")
  return out


def main() -> None:
  """Checks the flags, takes the models apart and writes the page."""
  folder = Path(app.required(shared_flags.MODEL))
  text, flag = read_text()
  found, tokenizer, trained = microscope_setup.read(folder)
  shape = found[0].decoder.config
  with app.blaming(flag):
    tokens = microscope.encode_text(shape, text, tokenizer)
  with app.blaming("model"):
    seed = microscope.choose_seed(found, _SEED.value)
  out = target()
  with app.blaming("model"):
    data = microscope.page_data(
      found,
      text,
      tokenizer,
      seed=seed,
      title=app.printable(folder.resolve().name),
      about=f"{task_setup.shape_line(shape)}{trained};"
      f" {counted(len(tokens), 'token')} ({tokenizer.name})"
      + (f"; panels of seed {seed}" if len(found[0].seeds) > 1 else ""),
    )
  written = page.html(data).encode()
  with app.blaming("out"):
    write_bytes(out, written)
  print(f"wrote {out} ({len(written) / 1e6:.1f} MB)")


if __name__ == "__main__":
  app.run(
    main,
    says={
      "model": "Folder of the models: a run on text, or a Hugging Face folder.",
      "attention": "Arm of the run to show; repeat for a second one. [causal"
      " and myopic/kv]",
      "step": "Training step of the models, with a run folder. [the last]",
      "tokenizer": "Tokenizer of the models, if it is not with them: a"
      " tokenizer.json or its folder, bytes, or bpe:N from --cache.",
      "cache": "Folder with the tokenizers bpe:N that runs have trained."
      " [~/.cache/jaxlook]",
      "out": "HTML file, or its folder. [runs/microscope.html]",
    },
  )
