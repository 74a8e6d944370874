"""Text on disk, read as a stream and tokenised once into a memory-mapped file.

Left out: downloading, and any cleaning of the text. Tokens do not depend on the
chunk size: the text is cut into pieces, each starting at a line break that is
followed by a non-space character, and each piece is encoded alone. With GPT-2's
pre-tokeniser such a cut lies between two words, so that its tokens are those of
the whole text encoded at once.
"""

import codecs
import dataclasses
import gzip
import hashlib
import json
import lzma
import os
import re
import secrets
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

DOCUMENT_BREAK = "\n\n"  # Between the files of a folder.
_FORMAT = 1  # Raise it when the tokens of a given text change.
_PIECE_START = re.compile(r"(?=\n\S)")
_MAX_PIECE = 1 << 16  # Characters; bounds memory on text without line breaks.
_Encode = Callable[[Iterable[str]], Iterator[np.ndarray]]
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}


@dataclasses.dataclass(frozen=True)
class TokenFile:
  """A tokenised text on disk.

  Bits per byte need the bytes behind a set of windows. Take `num_bytes /
  length` bytes per token: exact for the whole file, and unbiased for windows
  spread evenly over it.

  Attributes:
    path: the token file, flat and without a header.
    dtype: `uint8`, `uint16` or `uint32`, the smallest that holds every id.
    length: number of tokens.
    vocab_size: number of token ids, seen or not.
    num_bytes: UTF-8 bytes of the text, document breaks included.
    tokenizer: `bytes`, or the tokenizer's path as given to `tokenize`.
    tokenizer_sha256: hash of the tokenizer's files.
    sha256: hash of the text's bytes after decompression.
  """

  path: Path
  dtype: str
  length: int
  vocab_size: int
  num_bytes: int
  tokenizer: str
  tokenizer_sha256: str
  sha256: str

  def tokens(self) -> np.memmap:
    """Maps the tokens, [length] of `dtype`, read-only."""
    return np.memmap(self.path, dtype=self.dtype, mode="r")


def read_text(
  path: str | os.PathLike[str], *, chunk_bytes: int = 1 << 20
) -> Iterator[str]:
  """Streams the text of a file or of a folder of files.

  Args:
    path: a UTF-8 file, plain or `.gz` or `.xz`; or a folder of such files,
      taken recursively in the order of their relative names. Names that start
      with a dot are ignored, and links to folders are not followed.
    chunk_bytes: how many bytes are read at a time.

  Yields:
    Consecutive parts of the text, line ends as they are. Empty files are
    skipped; between two others stands `DOCUMENT_BREAK`.

  Raises:
    FileNotFoundError: the path, or what a link in it points to, is missing.
    ValueError: something cannot be read, is neither file nor folder, is binary
      (holds a NUL byte), is not valid UTF-8, or is corrupt or truncated
      compressed data; or the folder has no files, or the text is empty.
  """
  empty = True
  for file in _list_files(Path(path)):
    lead = "" if empty else DOCUMENT_BREAK
    for text in _read_file(file, chunk_bytes):
      yield lead + text
      lead, empty = "", False
  if empty:
    raise ValueError(f"{path}: the text is empty")


def tokenize(
  path: str | os.PathLike[str],
  cache_dir: str | os.PathLike[str],
  tokenizer: str | os.PathLike[str] = "bytes",
  *,
  chunk_bytes: int = 1 << 20,
) -> TokenFile:
  """Tokenises a text into a file under `cache_dir`, or finds it there.

  The file is found again by the text's path, sizes and modification times and
  the tokenizer's hash. It is written whole or not at all, with a JSON manifest
  beside it that is written last: killed or concurrent calls leave nothing that
  a later call would mistake for a result.

  Args:
    path: the text; see `read_text`.
    cache_dir: where the token file goes; made if missing.
    tokenizer: `bytes` (256 ids), or the path of a `tokenizers` JSON file, or a
      folder with `tokenizer.json` or with GPT-2's `vocab.json` and
      `merges.txt`. No special tokens are added. Anything but `bytes` needs
      the extra `text`.
    chunk_bytes: how many bytes are read at a time; no effect on the tokens.

  Returns:
    The token file.

  Raises:
    FileNotFoundError: the text or the tokenizer is missing.
    ValueError: the text is refused by `read_text`, changed while it was read,
      or gave no tokens; the tokenizer cannot be used; or `cache_dir` lies in
      the text's folder, where it would become part of the text.
    ImportError: the extra `text` is needed and not installed.
  """
  # Not resolved: the link may have the suffix that its target lacks.
  source, cache_dir = Path(os.path.abspath(path)), Path(cache_dir)
  state = _source_state(source)
  inside = Path(os.path.realpath(cache_dir))
  if inside.is_relative_to(os.path.realpath(source)):
    raise ValueError(f"{cache_dir}: the cache may not lie inside the text")
  files = _tokenizer_files(tokenizer)
  contents = [file.read_bytes() for file in files] or [b"bytes"]
  tokenizer_sha256 = hashlib.sha256(b"".join(contents)).hexdigest()
  key = json.dumps([_FORMAT, str(source), state, tokenizer_sha256])
  stem = f"{source.name[:40]}-{hashlib.sha256(key.encode()).hexdigest()[:20]}"
  target, manifest = cache_dir / f"{stem}.tokens", cache_dir / f"{stem}.json"
  if found := _find(target, manifest):
    return dataclasses.replace(found, tokenizer=str(tokenizer))

  vocab_size, encode = _load_tokenizer(files)
  dtype = np.min_scalar_type(vocab_size - 1)
  sha256, num_bytes, length = hashlib.sha256(), 0, 0

  def measured() -> Iterator[str]:
    nonlocal num_bytes
    for text in read_text(source, chunk_bytes=chunk_bytes):
      data = text.encode()
      sha256.update(data)
      num_bytes += len(data)
      yield text

  def encoded() -> Iterator[bytes]:
    nonlocal length
    for ids in encode(measured()):
      length += len(ids)
      yield ids.astype(dtype).tobytes()
    if not length:
      raise ValueError(f"{source}: the tokenizer {tokenizer} gave no tokens")
    if _source_state(source) != state:
      raise ValueError(f"{source}: the text changed while it was read")

  cache_dir.mkdir(parents=True, exist_ok=True)
  _write_whole(target, encoded())
  made = TokenFile(
    path=target,
    dtype=dtype.name,
    length=length,
    vocab_size=vocab_size,
    num_bytes=num_bytes,
    tokenizer=str(tokenizer),
    tokenizer_sha256=tokenizer_sha256,
    sha256=sha256.hexdigest(),
  )
  fields = dataclasses.asdict(made) | {"path": target.name}
  _write_whole(manifest, [json.dumps(fields, indent=2).encode()])
  return made


def _find(target: Path, manifest: Path) -> TokenFile | None:
  try:
    fields = json.loads(manifest.read_text()) | {"path": target}
    found = TokenFile(**fields)
    num_bytes = found.length * np.dtype(found.dtype).itemsize
    return found if target.stat().st_size == num_bytes else None
  except (FileNotFoundError, ValueError, TypeError):
    return None  # Absent, or damaged from outside.


def _list_files(path: Path) -> list[Path]:
  if stat.S_ISREG(_stat(path).st_mode):
    return [path]

  def refuse(error: OSError) -> None:
    raise ValueError(f"{error.filename}: cannot be read: {error.strerror}")

  files = []
  # os.walk skips folders that it cannot list, unless told otherwise.
  for folder, subfolders, names in os.walk(path, onerror=refuse):
    subfolders[:] = [name for name in subfolders if name[0] != "."]
    files += [Path(folder, name) for name in names if name[0] != "."]
  if not files:
    raise ValueError(f"{path}: the folder holds no files")
  return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def _stat(path: Path) -> os.stat_result:
  try:
    result = path.stat()
  except (FileNotFoundError, NotADirectoryError):
    raise FileNotFoundError(f"{path}: no such file or folder") from None
  except OSError as error:
    raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
  if not (stat.S_ISREG(result.st_mode) or stat.S_ISDIR(result.st_mode)):
    raise ValueError(f"{path}: neither a file nor a folder")
  return result


def _source_state(source: Path) -> list[list[str | int]]:
  stats = {str(file): _stat(file) for file in _list_files(source)}
  return [[name, s.st_size, s.st_mtime_ns] for name, s in stats.items()]


def _read_file(path: Path, chunk_bytes: int) -> Iterator[str]:
  _stat(path)
  decoder = codecs.getincrementaldecoder("utf-8")()
  decoded = 0  # Bytes.
  try:
    with _OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
      while data := file.read(chunk_bytes):
        if b"\0" in data:
          raise ValueError(f"{path}: binary, not text: it holds a NUL byte")
        if text := decoder.decode(data):
          yield text
        decoded += len(text.encode())
      decoder.decode(b"", final=True)
  except UnicodeDecodeError as error:
    at = decoded + error.start
    raise ValueError(f"{path}: not valid UTF-8 at byte {at}") from error
  except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
    raise ValueError(f"{path}: corrupt or truncated: {error}") from error
  except OSError as error:
    raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


def _pieces(texts: Iterable[str]) -> Iterator[list[str]]:
  """Cuts a stream into pieces that do not depend on where its parts end."""
  rest = ""
  for text in texts:
    *pieces, rest = _PIECE_START.split(rest + text)
    # The last piece may go on. Its full-length cuts stand already, but for a
    # final character that the next one may turn into a piece start.
    end = max(len(rest) - 1, 0) // _MAX_PIECE * _MAX_PIECE
    yield [cut for piece in [*pieces, rest[:end]] for cut in _cuts(piece)]
    rest = rest[end:]
  yield _cuts(rest)


def _cuts(piece: str) -> list[str]:
  starts = range(0, len(piece), _MAX_PIECE)
  return [piece[start : start + _MAX_PIECE] for start in starts]


def _tokenizer_files(tokenizer: str | os.PathLike[str]) -> list[Path]:
  if tokenizer == "bytes":
    return []
  path = Path(tokenizer)
  if path.is_file():
    return [path]
  for names in (["tokenizer.json"], ["vocab.json", "merges.txt"]):
    if all((path / name).is_file() for name in names):
      return [path / name for name in names]
  if path.is_dir():
    raise ValueError(
      f"{path}: holds neither tokenizer.json nor vocab.json and merges.txt"
    )
  raise FileNotFoundError(f"{path}: no such tokenizer, and not `bytes`")


def _load_tokenizer(files: list[Path]) -> tuple[int, _Encode]:
  """Returns the vocabulary size and what turns texts into token ids."""
  if not files:
    return 256, lambda texts: (
      np.frombuffer(text.encode(), np.uint8) for text in texts
    )
  try:
    from tokenizers import Tokenizer, models, pre_tokenizers
  except ImportError as error:
    raise ImportError(
      "BPE needs tokenizers: pip install jaxlook[text]"
    ) from error
  names = [str(file) for file in files]
  try:
    if len(names) == 1:
      model = Tokenizer.from_file(*names)
    else:
      model = Tokenizer(models.BPE.from_file(*names))
      model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocab_size = max(model.get_vocab().values()) + 1
  except Exception as error:  # It raises nothing narrower.
    raise ValueError(f"{names[0]}: not a usable tokenizer: {error}") from error
  model.no_padding()
  model.no_truncation()

  def encode(texts: Iterable[str]) -> Iterator[np.ndarray]:
    for pieces in _pieces(texts):
      found = model.encode_batch_fast(pieces, add_special_tokens=False)
      ids = [token for encoding in found for token in encoding.ids]
      yield np.array(ids, np.uint32)

  return vocab_size, encode


def _write_whole(path: Path, parts: Iterable[bytes]) -> None:
  temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
  try:
    with open(temporary, "xb") as file:
      for part in parts:
        file.write(part)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
