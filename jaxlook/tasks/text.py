"""The text task: predict the next token in windows of a tokenized text.

Windows lie on a fixed grid and never overlap. If documents were tokenized
separately, no window crosses the end of a document. `grain` shuffles the
windows' *indices* in every epoch, and NumPy gathers their tokens from the
memory map; mapping `grain` over the windows took three times as long. A batch
depends only on the seed and the step. So a run can resume at any step, all
variants of a seed see the same windows in the same order, and each host can
read its part of a batch.

Speed: about 100 000 windows of 65 tokens per second on one CPU core. Below some
700 windows in all it is less than 20 000, because `grain` then steps through
2^16 numbers to stay within the range.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import chex
import jax
import numpy as np

from jaxlook.errors import SettingError
from jaxlook.tasks.losses import DeferredLogits, cross_entropy
from jaxlook.tasks.task import Batch
from jaxlook.text.token_file import TokenFile
from jaxlook.text.windows import Grid, ends_within


@dataclasses.dataclass(frozen=True)
class Text:
  """Next-token prediction on a text, with a part of it held out.

  A window has `length + 1` tokens: the inputs are all except the last, the
  targets all except the first.

  Attributes:
    train: the training text.
    valid: the held-out text; None holds out the end of the training text.
    length: positions per sequence, N.
    held_out: fraction of the training text's tokens that is held out if `valid`
      is None. Training windows end before the cut, validation windows start at
      it. The cut does not depend on `length` and may be within a document.

  Raises:
    SettingError: `length` or `held_out` is out of range; the two texts are
      equal, their tokenizers differ, or only one keeps documents separate; or
      there are fewer than two training windows or no validation window.
  """

  train: TokenFile
  valid: TokenFile | None = None
  length: int = 64
  held_out: float = 0.05

  def __post_init__(self):
    """Checks the settings and the texts."""
    if self.length < 1:
      raise SettingError("length", f"must be at least 1, not {self.length}")
    if not 0.0 < self.held_out < 1.0:
      raise SettingError("held_out", f"must lie in (0, 1), not {self.held_out}")
    train, valid = self.train, self.valid or self.train
    if self.valid and valid.sha256 == train.sha256:
      raise SettingError("valid", "must differ from the training text")
    if valid.tokenizer_sha256 != train.tokenizer_sha256:
      raise SettingError(
        "valid",
        f"must be tokenized with {train.tokenizer} like the training text, not"
        f" with {valid.tokenizer}",
      )
    if (train.documents is None) != (valid.documents is None):
      raise SettingError(
        "valid", "must keep documents separate if train does, and only then"
      )
    for field, file, grid, least in (
      ("train", train, self._train_grid, 2),
      ("valid" if self.valid else "train", valid, self._valid_grid, 1),
    ):
      if len(grid) >= least:
        continue
      if file.documents is not None:
        raise SettingError(
          field,
          f"has documents too short: {least} windows of {self.length + 1}"
          f" tokens are needed, there are {len(grid)}",
        )
      tokens = self.train_tokens() if least == 2 else self.valid_tokens()
      raise SettingError(
        field,
        f"is too short: windows of length {self.length} need"
        f" {least * (self.length + 1)} tokens, not {len(tokens)}",
      )

  def __reduce__(self):
    """Pickles the fields only; the other process maps the files again."""
    values = (getattr(self, field.name) for field in dataclasses.fields(self))
    return Text, tuple(values)

  @property
  def vocab_size(self) -> int:
    """Number of token ids."""
    return self.train.vocab_size

  @property
  def valid_bytes_per_token(self) -> float:
    """Mean UTF-8 bytes per token of the file with the held-out text."""
    file = self.valid or self.train
    return file.num_bytes / file.length

  def train_tokens(self) -> np.ndarray:
    """The training tokens, a memory map, [n]; see `TokenFile.dtype`."""
    tokens = self.train.tokens()
    return tokens if self.valid else tokens[: self._cut()]

  def train_ends(self) -> np.ndarray:
    """The positions in `train_tokens` where documents end, int64 [D]."""
    return ends_within(self.train.ends(), 0, len(self.train_tokens()))

  def valid_tokens(self) -> np.ndarray:
    """The held-out tokens, a memory map, [n]; see `TokenFile.dtype`."""
    return (
      self.valid.tokens() if self.valid else self.train.tokens()[self._cut() :]
    )

  def _cut(self) -> int:
    return self.train.length - round(self.train.length * self.held_out)

  @functools.cached_property
  def _train_grid(self) -> Grid:
    tokens = self.train_tokens()
    return Grid(tokens, self.length + 1, self.train_ends())

  @functools.cached_property
  def _valid_grid(self) -> Grid:
    file, tokens = self.valid or self.train, self.valid_tokens()
    ends = ends_within(file.ends(), file.length - len(tokens), file.length)
    return Grid(tokens, self.length + 1, ends)

  def windows(
    self,
    seed: int,
    steps: range,
    batch_size: int,
    rows: range | None = None,
  ) -> np.ndarray:
    """Reads the training windows of some steps.

    Step s has the windows s B .. (s + 1) B - 1 of an endless order, which
    depends only on the seed and visits every window once per epoch.

    Args:
      seed: seed of the order, at least 0.
      steps: the training steps to read, at least 0.
      batch_size: windows per step, B; at most the number of windows.
      rows: the rows of each step to read, in 0..B - 1; all by default.

    Returns:
      Tokens, int32 [len(steps), len(rows), N + 1].

    Raises:
      SettingError: an argument is out of range.
      ImportError: `grain` is not installed.
    """
    try:
      import grain
    except ImportError as error:
      raise ImportError(
        "text windows need grain: pip install jaxlook[text]"
      ) from error
    grid = self._train_grid
    rows = range(batch_size) if rows is None else rows
    if seed < 0:
      raise SettingError("seed", f"must be at least 0, not {seed}")
    if len(steps) and min(steps) < 0:
      raise SettingError("steps", f"must be at least 0, not {min(steps)}")
    if not 1 <= batch_size <= len(grid):
      raise SettingError(
        "batch_size",
        f"must lie in 1..{len(grid)}, the number of training"
        f" windows, not {batch_size}",
      )
    if not all(0 <= row < batch_size for row in rows):
      raise SettingError("rows", f"must lie in 0..{batch_size - 1}, not {rows}")
    # grain adds the epoch to the seed. Without a hash, epoch 1 of seed 0 would
    # equal epoch 0 of seed 1.
    hashed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    order = grain.MapDataset.range(len(grid)).shuffle(seed=hashed).repeat()
    indices = [order[step * batch_size + row] for step in steps for row in rows]
    windows = grid.read(np.array(indices, np.int64))
    return windows.reshape(len(steps), len(rows), self.length + 1)

  def feed(self, batch_size: int) -> Callable[..., np.ndarray]:
    """Returns the function by which `jaxlook.training.train` reads windows.

    Args:
      batch_size: windows per step, B.

    Returns:
      A function of steps, seeds and rows that returns tokens, int32
      [len(steps), len(seeds), len(rows), N + 1]; see `windows`.
    """
    return functools.partial(self._fed, batch_size)

  def _fed(
    self, batch_size: int, steps: range, seeds: Sequence[int], rows: range
  ) -> np.ndarray:
    by_seed = [self.windows(seed, steps, batch_size, rows) for seed in seeds]
    return np.stack(by_seed, axis=1)

  def validation_windows(self, count: int) -> np.ndarray:
    """Reads windows spread evenly over the held-out tokens.

    Args:
      count: number of windows, at least 1; all windows if there are fewer.

    Returns:
      Tokens, int32 [count or fewer, N + 1], in the order of the text.

    Raises:
      SettingError: `count` is below 1.
    """
    if count < 1:
      raise SettingError("count", f"must be at least 1, not {count}")
    grid = self._valid_grid
    count = min(count, len(grid))
    return grid.read(np.arange(count) * len(grid) // count)

  def batch(self, key: jax.Array, size: int, fed: jax.Array | None) -> Batch:
    """Splits one step of `windows` into inputs and targets; see `Task`.

    Args:
      key: not used.
      size: not used: `fed` determines B.
      fed: tokens, integer [B, N + 1].

    Returns:
      Inputs and targets, [B, N] each.

    Raises:
      ValueError: `fed` is None.
      AssertionError: `fed` has another shape.
    """
    del key, size
    if fed is None:
      raise ValueError(
        "fed is None; text batches need the windows that the host reads"
      )
    chex.assert_shape(fed, (None, self.length + 1))
    return Batch(inputs=fed[:, :-1], targets=fed[:, 1:])

  def loss(
    self, outputs: jax.Array | DeferredLogits, batch: Batch
  ) -> jax.Array:
    """`cross_entropy` of logits [B, N, V], nats per token, [B, N]."""
    return cross_entropy(outputs, batch.targets)


def bits_per_byte(nats_per_token: float, tokens: int, num_bytes: int) -> float:
  """Converts a loss into a unit that does not depend on the tokenizer.

  Args:
    nats_per_token: mean loss, or an array of them.
    tokens: number of tokens of a text; see `TokenFile` for which text.
    num_bytes: number of UTF-8 bytes of the same text.

  Returns:
    Bits per byte, a number or an array like `nats_per_token`.

  Raises:
    ValueError: a count is below 1.
  """
  if min(tokens, num_bytes) < 1:
    raise ValueError(
      f"tokens and num_bytes must be at least 1, not {tokens}, {num_bytes}"
    )
  return nats_per_token * tokens / num_bytes / float(np.log(2))
