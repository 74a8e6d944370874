"""Models to look at on a text: one or two arms of a run, or a pretrained one.

Not a binary: `experiments.microscope` looks at them.
"""

from pathlib import Path

from absl import flags

from experiments.common import app, shared_flags, text_corpus, trained_models
from jaxlook.circuits.microscope import Specimen
from jaxlook.numerals import counted
from jaxlook.stats.myopia_gap import CAUSAL, KV
from jaxlook.text.tokenizer import Tokenizer, load_tokenizer
from jaxlook.training import SavedArm

ChosenModels = tuple[list[Specimen], Tokenizer, str]


def read(folder: Path) -> ChosenModels:
  """The models that the flags ask for.

  Args:
    folder: a run folder or a Hugging Face folder.

  Returns:
    One or two variants, their tokenizer, and what to add to a line about them.

  Raises:
    UsageError: a flag's value cannot be used, or not with this folder.
  """
  return _of_run(folder) if trained_models.is_run(folder) else _of_one(folder)


def _choose(folder: Path) -> list[SavedArm]:
  """The one or two arms of a run folder that the flags ask for."""
  arms = trained_models.finished_arms(folder)
  known = {
    a.variant: a.attention for a in arms if not a.attention.needs_teacher
  }
  with app.blaming("model"):
    if any("tokenizer" not in arm.about for arm in arms):
      raise ValueError(f"{folder} is not a run on text")
    if not known:
      raise ValueError(f"{folder} holds no finished arm without a teacher")
  default = (CAUSAL, KV) if {CAUSAL, KV} <= set(known) else list(known)[:2]
  found = trained_models.chosen_arms(
    arms, folder, default=[known[name] for name in default]
  )
  asked = shared_flags.ATTENTION.value or default
  if len(found) > 2 or len(found) < len(asked):
    raise app.UsageError(
      "attention", f"must be one arm or two different ones, not {list(asked)}"
    )
  return found


def _of_run(folder: Path) -> ChosenModels:
  """The models of a run folder."""
  arms = _choose(folder)
  about = dict(arms[0].about)
  about["tokenizer"] = shared_flags.TOKENIZER.value or about["tokenizer"]
  tokenizer = text_corpus.tokenizer_of(about)
  specimens = []
  for arm in arms:
    subject = trained_models.trained(arm)
    specimens.append(
      Specimen(arm.variant, subject.decoder, subject.params, subject.seeds)
    )
  step = shared_flags.STEP.value
  steps = arms[0].train.steps if step is None else step
  return specimens, tokenizer, f", after {counted(steps, 'step')} of training"


def _of_one(folder: Path) -> ChosenModels:
  """The model of a Hugging Face folder."""
  for name in ("attention", "step", "seed"):
    if flags.FLAGS[name].value is not None:
      raise app.UsageError(name, f"has no effect: {folder} holds one model")
  subject = trained_models.pretrained(folder)
  with text_corpus.blaming_tokenizer("model"):
    tokenizer = load_tokenizer(shared_flags.TOKENIZER.value or folder)
  specimen = Specimen(
    app.printable(folder.resolve().name),
    subject.decoder,
    subject.params,
    subject.seeds,
  )
  return [specimen], tokenizer, ""
