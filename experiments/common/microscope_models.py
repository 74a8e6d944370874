"""Models to look at on a text: one or two arms of a run, or a pretrained one.

Not a binary: `experiments.microscope` looks at them.
"""

from pathlib import Path

import jax
import numpy as np
from absl import flags

from experiments.common import app, text_corpus, trained_models, training_flags
from jaxlook.attention import parse_variant
from jaxlook.circuits.microscope import Specimen
from jaxlook.models import Decoder, huggingface
from jaxlook.runs.store import Arm
from jaxlook.stats.myopia_gap import CAUSAL, KV
from jaxlook.text.tokenizer import Tokenizer, load_tokenizer
from jaxlook.training import SavedArm, read_arm

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
  return _of_run(folder) if (folder / "arms").is_dir() else _of_one(folder)


def _choose(folder: Path) -> list[SavedArm]:
  """The one or two arms of a run folder that the flags ask for."""
  with app.naming("model"):
    roots = sorted((folder / "arms").iterdir())
    arms = [read_arm(root) for root in roots if Arm(root).finished]
    if any("tokenizer" not in arm.about for arm in arms):
      raise ValueError(f"{folder} is no run on text")
    found = {a.variant: a for a in arms if not a.attention.needs_teacher}
    if not found:
      raise ValueError(f"{folder} holds no finished arm without a teacher")
  shape = next(iter(found.values())).model
  asked = training_flags.ATTENTION.value
  if not asked:
    asked = (CAUSAL, KV) if {CAUSAL, KV} <= set(found) else list(found)[:2]
  with app.naming("attention"):
    named = [
      parse_variant(text, shape.layers, shape.heads).name for text in asked
    ]
    if len(named) > 2 or len(set(named)) < len(named):
      raise ValueError(f"takes one arm or two different ones, not {named}")
    for name in named:
      if name not in found:
        raise ValueError(f"{folder} has no {name!r}, only {', '.join(found)}")
  return [found[name] for name in named]


def _of_run(folder: Path) -> ChosenModels:
  """The models of a run folder."""
  arms = _choose(folder)
  about = dict(arms[0].about)
  about["tokenizer"] = flags.FLAGS["tokenizer"].value or about["tokenizer"]
  tokenizer = text_corpus.tokenizer_of(about)
  with app.naming("step"):
    subjects = [trained_models.subject(arm) for arm in arms]
  specimens = [
    Specimen(arm.variant, each.decoder, each.params, each.seeds)
    for arm, each in zip(arms, subjects, strict=True)
  ]
  step = trained_models.STEP.value
  steps = arms[0].train.steps if step is None else step
  return specimens, tokenizer, f", after {steps} steps of training"


def _of_one(folder: Path) -> ChosenModels:
  """The model of a Hugging Face folder."""
  for name in ("attention", "step", "seed"):
    if flags.FLAGS[name].value is not None:
      raise app.UsageError(name, f"is given in vain: {folder} is one model")
  with app.naming("model"):
    loaded = huggingface.load(folder)
  with app.naming("tokenizer"):
    tokenizer = load_tokenizer(flags.FLAGS["tokenizer"].value or folder)
  params = jax.tree.map(lambda x: np.asarray(x)[None], loaded.params)
  specimen = Specimen(
    folder.resolve().name, Decoder(loaded.config), params, (0,)
  )
  return [specimen], tokenizer, ""
