"""Encoding a stream of text, in this process or in several.

The tokens are the same for every number of processes: the text is cut into
pieces here, and each piece is encoded alone.
"""

import collections
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import numpy as np

from jaxlook.errors import SettingError
from jaxlook.text.tokenizer import BYTES, EncodePieces, Tokenizer, split_pieces

_BATCH = 1 << 20  # Characters that a process is given at a time.
_WAITING = 2  # Batches a process that wait for it; bounds memory.


class Batch(NamedTuple):
  """Consecutive pieces of a text.

  Attributes:
    pieces: the text of each.
    ends: how many of them come before each end of a document.
  """

  pieces: list[str]
  ends: list[int]


class Encoded(NamedTuple):
  """The tokens of a batch.

  Attributes:
    ids: token ids, [n].
    ends: how many of them come before each end of a document.
  """

  ids: np.ndarray
  ends: list[int]


def encode(
  documents: Iterable[Iterable[str]],
  tokenizer: Tokenizer,
  dtype: np.dtype,
  workers: int = 1,
) -> Iterator[Encoded]:
  """Encodes documents, each by itself, as a stream.

  Args:
    documents: consecutive parts of each document's text.
    tokenizer: makes the tokens.
    dtype: of the tokens.
    workers: processes; 1 for none but this one. The byte tokenizer, which has
      nothing to do, takes no others.

  Yields:
    Tokens in order, and where documents end among them.

  Raises:
    ValueError: a process died.
  """
  batches = _batches(documents, tokenizer)
  if workers == 1 or tokenizer.name == BYTES:
    for batch in batches:
      yield _encode(tokenizer.encode_pieces, dtype, batch)
    return
  # Not forked: JAX has threads, which a copy of this process would lack.
  pool = ProcessPoolExecutor(
    workers,
    mp_context=multiprocessing.get_context("spawn"),
    initializer=_start,
    initargs=(tokenizer.encode_pieces, dtype),
  )
  waiting: collections.deque[Future[Encoded]] = collections.deque()
  try:
    for batch in batches:
      waiting.append(pool.submit(_encode_there, batch))
      if len(waiting) > _WAITING * workers:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  except BrokenProcessPool as error:
    raise SettingError(
      "workers", f"must be below {workers}: a process that tokenised was killed"
    ) from error
  finally:
    pool.shutdown(cancel_futures=True)


def _batches(
  documents: Iterable[Iterable[str]], tokenizer: Tokenizer
) -> Iterator[Batch]:
  """Cuts documents into pieces; no piece holds parts of two."""
  pieces, ends, size = [], [], 0
  for document in documents:
    if tokenizer.name == BYTES:
      parts = ([text] for text in document)
    else:
      parts = split_pieces(document)
    for part in parts:
      pieces += part
      size += sum(map(len, part))
      if size >= _BATCH:
        yield Batch(pieces, ends)
        pieces, ends, size = [], [], 0
    ends.append(len(pieces))
  yield Batch(pieces, ends)


def _encode(
  encode_pieces: EncodePieces, dtype: np.dtype, batch: Batch
) -> Encoded:
  ids, counts = encode_pieces(batch.pieces)
  before = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
  return Encoded(ids.astype(dtype), before[batch.ends].tolist())


_here: tuple[EncodePieces, np.dtype]


def _start(encode_pieces: EncodePieces, dtype: np.dtype) -> None:
  """Makes a process ready: one thread, and deaf to what stops its parent."""
  global _here
  os.environ["TOKENIZERS_PARALLELISM"] = "false"
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  _here = (encode_pieces, dtype)


def _encode_there(batch: Batch) -> Encoded:
  return _encode(*_here, batch)
