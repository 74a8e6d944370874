"""The flags that several binaries share, by purpose.

Not a binary. A binary adopts those that it reads; any other is refused where it
is given. Flags of one binary are declared in its own file, or in the module
that sets it up. What a help line says in square brackets is the default; where
a preset decides, `--help` shows the value of the chosen preset there.
"""

import sys
from collections.abc import Collection
from typing import get_args

from absl import flags

from experiments.common import define_flags
from jaxlook.models import SHAPES
from jaxlook.models.config import Positions
from jaxlook.training.config import Optimizer, Schedule

PRESET = flags.DEFINE_enum(
  "preset",
  "cpu",
  ("smoke", "cpu", "paper"),
  "Scale: smoke takes seconds, cpu minutes, paper needs an accelerator.",
)
TASK = flags.DEFINE_enum(
  "task", "precache", ("precache", "text"), "Task that models are trained on."
)
ATTENTION = define_flags.texts(
  "attention",
  None,
  "Variant to train beside causal, such as horizon:4, or causal,myopic with one"
  " form per layer; repeat for several.",
)
SEEDS = define_flags.whole(
  "seeds", None, "Number of seeds, at least 2.", lower_bound=2
)
SEED_OFFSET = define_flags.whole(
  "seed_offset",
  None,
  "First seed, so that seeds that tuned something need not confirm it.",
  lower_bound=0,
  upper_bound=2**31,
)
MODEL = define_flags.path(
  "model",
  None,
  "Trained models to study: a run folder, or a Hugging Face folder. [trains its"
  " own]",
)
STEP = define_flags.whole(
  "step", None, "Training step to study, with --model=RUN. [the last]"
)
P = define_flags.values(
  "p", None, "Probability that the sum is asked for, or several: 1,0.3."
)
TERMS = define_flags.whole(
  "terms", None, "Farthest lag of the sum, in positions."
)
FIRST = define_flags.whole(
  "first", None, "Nearest lag of the sum, in positions."
)
FREQUENCY = define_flags.real(
  "frequency", None, "Frequency of the sines, in radians per unit of input."
)
HORIZONS = define_flags.values(
  "horizons", None, "Horizons to train, in positions, ascending from 0."
)
ROUNDS = define_flags.whole(
  "rounds",
  None,
  "Rounds of timing, at least 2; each runs every contender.",
  lower_bound=2,
  upper_bound=1_000_000,
)

LAYERS = define_flags.whole("layers", None, "Layers of the model.")
WIDTH = define_flags.whole("width", None, "Width of the residual stream.")
HEADS = define_flags.whole(
  "heads", None, "Attention heads per layer; must divide the width."
)
LENGTH = define_flags.whole("length", None, "Positions per sequence.")
POSITIONS = flags.DEFINE_enum(
  "positions", None, get_args(Positions), "How the model encodes positions."
)
MODEL_SIZE = define_flags.values(
  "model_size", None, f"Shape of the model by name: {', '.join(SHAPES)}."
)
FROM = define_flags.paths(
  "from",
  None,
  "Hugging Face folder (GPT-2, Pythia) to fine-tune: all seeds start from its"
  " weights.",
)

STEPS = define_flags.whole("steps", None, "Training steps.")
LEARNING_RATE = define_flags.real(
  "learning_rate", None, "Peak of the learning rate."
)
OPTIMIZER = flags.DEFINE_enum(
  "optimizer", None, get_args(Optimizer), "What changes the weights."
)
SCHEDULE = flags.DEFINE_enum(
  "schedule",
  None,
  get_args(Schedule),
  "Learning rate after its warm-up: a cosine to 0; or wsd, stable and then"
  " linear to 0.",
)
DECAY_MATRICES_ONLY = flags.DEFINE_bool(
  "decay_matrices_only",
  None,
  "Leave norms, biases, embeddings and head out of weight decay.",
)
BATCH_SIZE = define_flags.whole("batch_size", None, "Sequences per step.")
MICROBATCHES = define_flags.whole(
  "microbatches",
  None,
  "Parts of a batch, computed in turn: less memory, and faster on a CPU.",
)
BFLOAT16 = flags.DEFINE_bool(
  "bfloat16",
  None,
  "Multiply in bfloat16 in training and evaluation; parameters are float32.",
)
REMAT = flags.DEFINE_bool(
  "remat",
  None,
  "Recompute blocks in the backward pass: less memory, a third more work.",
)
LOSS_TOKENS = define_flags.whole(
  "loss_tokens",
  None,
  "Tokens per seed whose logits exist at a time: less memory. [all]",
)

CORPUS = define_flags.path(
  "corpus",
  None,
  "Training text: a file (plain, .gz, .xz), a folder of files, or"
  " datasets:NAME with ,config=C ,split=S ,column=K. [a generated text]",
)
VALID = define_flags.paths(
  "valid", None, "Held-out text. [the end of the corpus]"
)
DOCUMENTS = flags.DEFINE_boolean(
  "documents",
  False,
  "Keep documents apart (files of a folder, rows of a data set): no window"
  " crosses the end of one.",
)
TOKENIZER = define_flags.path(
  "tokenizer",
  None,
  "bytes, bpe:N (N tokens, trained on the corpus), a tokenizer.json or its"
  " folder. [bytes, or the model's own]",
)
CACHE = define_flags.path(
  "cache", None, "Folder for tokenised text. [~/.cache/jaxlook]"
)
WORKERS = define_flags.whole(
  "workers",
  None,
  "Processes that tokenise a large text; the tokens do not depend on it. [one"
  " per core]",
)

MESH = define_flags.text(
  "mesh",
  None,
  "Devices per axis, such as seed:2,data:2,model:2. [as many as share the seeds"
  " evenly]",
)
LAUNCHER = flags.DEFINE_enum(
  "launcher",
  None,
  ["ray"],
  "ray: train arms as tasks of Ray, on the cluster of RAY_ADDRESS or on this"
  " machine. [in turn, in this process]",
)
LAUNCHER_RESOURCES = define_flags.text(
  "launcher_resources", "cpu:1", "What each arm needs, such as cpu:2,gpu:1."
)
DISTRIBUTED = define_flags.text(
  "distributed",
  None,
  "Train together with other processes: auto (SLURM, Open MPI), or"
  " HOST:PORT,PROCESS/PROCESSES such as 10.0.0.1:1234,0/2. [one process]",
)

OUT = define_flags.path("out", None, "Run folder.")

# What `--help` shows, in order.
GROUPS = {
  "What is run": (
    "preset",
    "task",
    "attention",
    "seeds",
    "seed_offset",
    "model",
    "step",
    "p",
    "terms",
    "first",
    "frequency",
    "horizons",
    "rounds",
  ),
  "Model": (
    "layers",
    "width",
    "heads",
    "length",
    "positions",
    "model_size",
    "from",
  ),
  "Training": (
    "steps",
    "learning_rate",
    "optimizer",
    "schedule",
    "decay_matrices_only",
    "batch_size",
    "microbatches",
    "bfloat16",
    "remat",
    "loss_tokens",
  ),
  "Text": ("corpus", "valid", "documents", "tokenizer", "cache", "workers"),
  "Devices and processes": (
    "mesh",
    "launcher",
    "launcher_resources",
    "distributed",
  ),
  "Output": ("out",),
}

# What whole kinds of binaries read.
TEXT = GROUPS["Text"]
PRECACHE = ("p", "terms", "first", "frequency", "positions")
SHAPE = ("layers", "width", "heads", "length")
TRAINING = GROUPS["Training"]
TRAIN = (
  *("preset", "attention", "seeds", "seed_offset", "out"),
  *SHAPE,
  *TRAINING,
  *GROUPS["Devices and processes"],
)
STUDY_TEXT = (*TRAIN, *TEXT, "task", "model", "step")
STUDY = (*STUDY_TEXT, *PRECACHE)


def adopt(module: str, *names: str, but: Collection[str] = ()) -> None:
  """Declares which shared flags a binary reads.

  Args:
    module: the binary's `__name__`.
    *names: the flags.
    but: those among them that it does not read after all.
  """
  # absl knows the module that runs by the program's name.
  reader = sys.argv[0] if module == "__main__" else module
  left_out = set(but)
  for name in names:
    if name in left_out:
      left_out.remove(name)
    else:
      flag = flags.FLAGS[name]
      flags.FLAGS.register_key_flag_for_module(reader, flag)
  if left_out:
    raise ValueError(f"{module} does not name the flags {left_out}")
