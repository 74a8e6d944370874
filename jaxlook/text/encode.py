"""Encodes a stream of text into tokens, in this process or in several.

The tokens are the same for every number of processes: this process cuts the
text into pieces, and each piece is encoded separately.
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
from jaxlook.text.pieces import split_pieces
from jaxlook.text.tokenizer import BYTES, EncodePieces, Tokenizer

_BATCH = 1 << 20  # Characters sent to a process at a time.
_WAITING = 2  # Batches that wait per process; bounds memory.


class Batch(NamedTuple):
  """Consecutive pieces of a text.

  Attributes:
    pieces: their texts.
    ends: for each end of a document, the number of pieces before it.
  """

  pieces: list[str]
  ends: list[int]


class Encoded(NamedTuple):
  """The tokens of a batch.

  Attributes:
    ids: token ids, [n].
    ends: for each end of a document, the number of tokens before it.
  """

  ids: np.ndarray
  ends: list[int]


def encode(
  documents: Iterable[Iterable[str]],
  tokenizer: Tokenizer,
  dtype: np.dtype,
  workers: int = 1,
) -> Iterator[Encoded]:
  """Encodes documents separately, as a stream.

  Args:
    documents: consecutive parts of each document's text.
    tokenizer: the tokenizer.
    dtype: dtype of the tokens.
    workers: number of processes; 1 to use only this one. The byte tokenizer is
      so fast that it always uses only this one.

  Yields:
    Tokens in order, with the ends of documents.

  Raises:
    ValueError: a process died.
  """
  batches = _batches(documents, tokenizer)
  if workers == 1 or tokenizer.name == BYTES:
    for batch in batches:
      yield _encode(tokenizer.encode_pieces, dtype, batch)
    return
  # Spawned, not forked: a fork would lack JAX's threads.
  pool = ProcessPoolExecutor(
    workers,
    mp_context=multiprocessing.get_context("spawn"),
    initializer=_set_up_worker,
    initargs=(tokenizer.encode_pieces, dtype),
  )
  waiting: collections.deque[Future[Encoded]] = collections.deque()
  try:
    for batch in batches:
      waiting.append(pool.submit(_encode_in_worker, batch))
      if len(waiting) > _WAITING * workers:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  except BrokenProcessPool as error:
    raise SettingError(
      "workers",
      f"must be below {workers}, because a tokenizing process was killed",
    ) from error
  finally:
    pool.shutdown(cancel_futures=True)


def _batches(
  documents: Iterable[Iterable[str]], tokenizer: Tokenizer
) -> Iterator[Batch]:
  """Cuts documents into pieces; no piece spans two documents."""
  pieces, ends, size = [], [], 0
  for document in documents:
    if tokenizer.name == BYTES:
      parts = ([text] for text in document)
    else:
      parts = split_pieces(document, tokenizer.cut)
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


_worker_state: tuple[EncodePieces, np.dtype]


def _set_up_worker(encode_pieces: EncodePieces, dtype: np.dtype) -> None:
  """Sets up a process: one thread, and Ctrl-C is left to its parent."""
  global _worker_state
  os.environ["TOKENIZERS_PARALLELISM"] = "false"
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  _worker_state = (encode_pieces, dtype)


def _encode_in_worker(batch: Batch) -> Encoded:
  return _encode(*_worker_state, batch)
