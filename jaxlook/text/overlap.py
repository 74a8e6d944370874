"""How much of a held-out text occurs in the training text.

The held-out text is cut into windows of 64 bytes. A window counts if the same
bytes stand anywhere in the training text. Windows are compared by hashes of 64
bits: two that differ have the same hash with a probability of about 2^-64.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxlook.runs.atomic_files import write_bytes
from jaxlook.text.corpus import Source
from jaxlook.text.token_file import TokenFile

WINDOW = 64  # Bytes; a power of 2.
_FORMAT = 1  # Raise it when the fraction of two given texts changes.
_CHUNK = 1 << 18  # Bytes hashed at a time; the arrays fit into a cache.
# The hash of bytes b is the sum of _VALUES[b[i]] _BASE^(WINDOW - 1 - i), modulo
# 2^64.
_BASE = np.uint64(0x9E3779B97F4A7C15)
_VALUES = np.random.Generator(np.random.PCG64(0)).integers(
  2**64, size=256, dtype=np.uint64
)


def shared_files(
  train: Source, train_file: TokenFile, valid: Source, valid_file: TokenFile
) -> tuple[Path, Path] | None:
  """Finds a file that two texts have in common, under any name.

  Args:
    train: the training text.
    train_file: its tokens.
    valid: the held-out text.
    valid_file: its tokens.

  Returns:
    The file of the training text and the one of the held-out text; None if they
    have none in common. Empty files do not count.

  Raises:
    OSError: a manifest cannot be read.
  """
  known = {}
  for path, size, sha256 in _hashed(train, train_file):
    if size:
      known[sha256] = path
  for path, _, sha256 in _hashed(valid, valid_file):
    if sha256 in known:
      return known[sha256], path
  return None


def _hashed(source: Source, file: TokenFile) -> list[tuple[Path, int, str]]:
  """Returns path, size and hash of each of a text's files."""
  # A part of a file may be held out while another part is trained on.
  if source.selection:
    return []
  found = zip(source.files(), file.sources(), strict=True)
  return [(path, each["bytes"], each["sha256"]) for path, each in found]


def shared_fraction(
  train: Source,
  train_file: TokenFile,
  valid: Source,
  valid_file: TokenFile,
  cache_dir: Path,
) -> float:
  """Measures the overlap of two texts, or finds it in `cache_dir`.

  Args:
    train: the training text.
    train_file: its tokens.
    valid: the held-out text.
    valid_file: its tokens.
    cache_dir: the folder where the result is kept.

  Returns:
    The fraction of the held-out text's windows that occur in the training text;
    0 if it has no window.

  Raises:
    ValueError: a text cannot be read.
  """
  known = find_fraction(train_file, valid_file, cache_dir)
  if known is not None:
    return known
  found = measure_fraction(train, valid)
  path = _path(train_file, valid_file, cache_dir)
  write_bytes(path, json.dumps({"shared_fraction": found}).encode())
  return found


def find_fraction(
  train_file: TokenFile, valid_file: TokenFile, cache_dir: Path
) -> float | None:
  """Finds what `shared_fraction` has measured; None if it has not."""
  try:
    fields = json.loads(_path(train_file, valid_file, cache_dir).read_bytes())
    return float(fields["shared_fraction"])
  except (OSError, ValueError, TypeError, KeyError):
    return None


def _path(
  train_file: TokenFile, valid_file: TokenFile, cache_dir: Path
) -> Path:
  key = json.dumps([_FORMAT, WINDOW, train_file.sha256, valid_file.sha256])
  digest = hashlib.sha256(key.encode()).hexdigest()[:20]
  return cache_dir / f"overlap-{digest}.json"


def measure_fraction(train: Source, valid: Source) -> float:
  """Measures the overlap of two texts; see `shared_fraction`.

  Memory is bounded for the training text, and an eighth of the held-out text.

  Args:
    train: the training text.
    valid: the held-out text.

  Returns:
    The fraction.
  """
  windows = [
    hashes[::WINDOW]
    for document in valid.documents(_CHUNK)
    for hashes in _window_hashes(document, WINDOW)
  ]
  if not windows:
    return 0.0
  wanted, counts = np.unique(np.concatenate(windows), return_counts=True)
  del windows
  # Most hashes of the training text are none of these: a table of 32 places
  # for each tells quickly.
  bits = min(int(len(wanted) * 32).bit_length(), 32)
  shift = np.uint64(64 - bits)
  maybe = np.zeros(1 << bits, bool)
  maybe[wanted >> shift] = True
  seen = np.zeros(len(wanted), bool)
  for document in train.documents(_CHUNK):
    for hashes in _window_hashes(document, 1):
      hashes = hashes[maybe[hashes >> shift]]
      places = np.searchsorted(wanted, hashes)
      places = np.minimum(places, len(wanted) - 1)
      seen[places[wanted[places] == hashes]] = True
  return float(counts[seen].sum() / counts.sum())


def _window_hashes(
  document: Iterator[str], stride: int
) -> Iterator[np.ndarray]:
  """Yields the hashes of a document's windows, uint64 [n].

  Args:
    document: consecutive parts of its text.
    stride: the first place of each part is a multiple of it.

  Yields:
    The hash of the window at every place; parts are joined to `_CHUNK` bytes.
  """
  rest = b""
  for data in _chunks(document):
    data = rest + data
    count = max(len(data) - WINDOW + 1, 0)
    if count:
      yield _hash(np.frombuffer(data, np.uint8))
    # The next part starts at the first place that has no hash yet.
    rest = data[-(-count // stride) * stride :]


def _chunks(document: Iterator[str]) -> Iterator[bytes]:
  """Joins short parts, and cuts long ones, to about `_CHUNK` bytes."""
  waiting, size = [], 0
  for text in document:
    data = text.encode()
    for start in range(0, len(data), _CHUNK):
      part = data[start : start + _CHUNK]
      waiting.append(part)
      size += len(part)
      if size >= _CHUNK:
        yield b"".join(waiting)
        waiting, size = [], 0
  yield b"".join(waiting)


def _hash(data: np.ndarray) -> np.ndarray:
  """Returns the hash of the window at every place, uint64 [n - WINDOW + 1]."""
  hashes, base, width = _VALUES[data], _BASE, 1
  with np.errstate(over="ignore"):
    while width < WINDOW:
      hashes = hashes[:-width] * base + hashes[width:]
      base, width = base * base, width * 2
  return hashes
