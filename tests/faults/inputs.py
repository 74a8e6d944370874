"""Malformed input of every kind, for all binaries.

Cases are listed in full, in one order; a caller draws from the list. Paths that
start with `BASE` are in the folder that `prepare` fills.
"""

import dataclasses
import io
import json
import math
import pathlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from tests.fixtures import hf_folders
from tests.fixtures.checkpoints import LFS_POINTER

Flags = Mapping[str, Mapping[str, str]]


@dataclasses.dataclass(frozen=True)
class Case:
  """A command line, with the files that it names.

  Attributes:
    kind: of the fault, for counting.
    binary: such as "precache" or "benchmarks.attention".
    arguments: of the command line.
    files: content by path in the working directory.
  """

  kind: str
  binary: str
  arguments: tuple[str, ...]
  files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


BASE = "{base}"
RUNS = {"run-text": "language", "run-sums": "precache", "run-other": "deferred"}

NESTED = b"[" * 200_000
_NOT_TEXT = bytes(range(256)) * 8

# Numbers as no manual writes them, and numbers out of this world.
_ODD = ("", " ", "1_000", "+5", " 5", "5 ", "٣", "0x10", "½", "nan", "inf", "-")
_WHOLE = (*_ODD, "-1", "0", "1.5", "1e3", "1000000000", "2000000000")
_WHOLE += ("1000000", "100000000", "9223372036854775808", "9" * 20, "9" * 5000)
_REAL = (*_ODD, "-inf", "1e-400", "1e400", "-0.5", "0", "1e-50", "1e30", "1,5")
_LIST = ("", ",", "1,,2", "0.5,", "nan", "1_0,2", "٣,4", "0,1e-400", "-1,0")
_LIST += ("0," + "9" * 20, "1e9", "0,1000000000", "+1,2", " 1, 2", "1;2")
_PATHS = ("", " ", "/nowhere", "/dev/null", ".", "..", "/", "a" * 300, "\udcff")
_PATHS += ("gpt2", "openai-community/gpt2", "~nobody-of-that-name/x", "/proc")
_TEXTS = ("", " ", "\udcff", "\n", "é" * 5000, "$x$", "-", ",", "[]", "{}")

_BY_FLAG: Mapping[str, Iterable[str]] = {
  "attention": (
    *("offset:٣", "horizon:1_000", "horizon:+1", "horizon: 1", "leak:1e-400"),
    *("leak:nan", "leak:", "horizon:", "window:-1", "horizon:1.0", "leak:0x1"),
    *("leak:1_0", "myopic/", "/kv", ",", "+", "causal,", "causal+", "causal:"),
    *("horizon:" + "9" * 20, "horizon:" + "9" * 5000, "leak:٠.٥", "MYOPIC"),
  ),
  "tokenizer": (
    *("bpe:", "bpe:0", "bpe:256", "bpe:-5", "bpe:1_000", "bpe:٣٠٠", "bpe:+300"),
    *("bpe:99999999999", "bpe:" + "9" * 5000, "bpe:4000000000", "BYTES", "bpe"),
  ),
  "mesh": (
    *("seed", "seed:0", "seed:-1", "seed:٢", "seed:1,seed:1", "data:1_0"),
    *("seed:" + "9" * 20, "seed:1:1", "seed:1;data:1", "pipe:2", "seed: 1"),
  ),
  "distributed": (
    *("auto,", "localhost:1,0/0", "localhost:1,2/1", "localhost:٣,0/1"),
    *("localhost:99999,0/1", "localhost,0/1", "localhost:1,0/" + "9" * 20),
  ),
  "launcher_resources": ("cpu", "cpu:-1", "cpu:٣", "cpu:1_0", "cpu:nan"),
  "corpus": ("datasets:", "datasets:x,split=", "datasets:,", "http://x.org/t"),
  "shapes": (
    *("1x1x1", "0x1x1x1", "-1x1x1x1", "٣x1x1x1", "1_0x1x1x1", "1x1x1x1x1"),
    *("99999999999x1x1x1", "1x99999999999x2x8", "1x1x1x" + "9" * 20, "x", "1"),
    *("2147483648x2147483648x1x1", "4294967296x4294967296x1x1", ",", "1x1x1x"),
  ),
  "seed_counts": ("0", "-1", "99999999999", "9" * 20, "1,1_0", "٣", ",", ""),
  "language": ("open/", "/end_only", "shut", "open/open", ",", "open,open"),
}
_BY_FLAG = {**_BY_FLAG, "memory_shapes": _BY_FLAG["shapes"]}
_BY_TYPE: Mapping[str, Iterable[str]] = {
  "int": _WHOLE,
  "float": _REAL,
  "multi int": _WHOLE,
  "comma separated list of strings": _LIST,
  "string": _PATHS + _TEXTS,
  "multi string": _PATHS + _TEXTS,
  "bool": ("", "2", "yes please", "nan", "٣"),
}


def _npy(array: np.ndarray) -> bytes:
  with io.BytesIO() as file:
    np.save(file, array)
    return file.getvalue()


_IDS = _npy(np.zeros((2, 8), np.int32))


def write_files(base: pathlib.Path) -> None:
  """Writes a model folder with its tokenizer, a text, and token ids."""
  hf_folders.folder(base / "gpt2")
  (base / "ids.npy").write_bytes(_IDS)
  (base / "text").write_bytes(
    b"the cat sat on the mat, the dog did not\n" * 999
  )


def cases(base: pathlib.Path, flags: Flags) -> list[Case]:
  """All cases, in one order.

  Args:
    base: the folder with the files of `write_files`.
    flags: by binary, the types of the flags that it reads, by name.

  Returns:
    The cases. The arguments of those of kind "run folder" name the runs of
    `RUNS` in `base`.
  """
  found = [
    *_values(flags),
    *_flag_files(flags),
    *_models(base, flags),
    *_tokenizers(base, flags),
    *_corpora(flags),
    *_runs(flags),
  ]
  return [
    dataclasses.replace(
      each,
      arguments=tuple(word.replace(BASE, str(base)) for word in each.arguments),
    )
    for each in found
  ]


def _smoke(read: Mapping[str, str], *given: str) -> tuple[str, ...]:
  """Arguments with which a binary is otherwise ready to start."""
  words = list(given)
  names = {word.partition("=")[0].removeprefix("--") for word in given}
  for name, value in (
    ("preset", "smoke"),
    ("out", "run"),
    ("cache", f"{BASE}/cache"),
    ("corpus", f"{BASE}/text"),
  ):
    without_text = "task" in read and "task" not in names
    if name in read and name not in names:
      if name == "corpus" and without_text:
        continue
      words.append(f"--{name}={value}")
  return tuple(words)


def _values(flags: Flags) -> Iterator[Case]:
  """Every flag of every binary with every value that fits its type badly."""
  for binary, read in flags.items():
    ready: tuple[str, ...] = ()
    if binary == "microscope":
      ready = (f"--model={BASE}/gpt2", "--text=the cat")
    if binary == "gradients":
      ready = (
        f"--model={BASE}/gpt2",
        f"--tokens={BASE}/ids.npy",
        "--attention=myopic",
      )
    for name, kind in read.items():
      values = [*_BY_TYPE.get(kind, _TEXTS), *_BY_FLAG.get(name, ())]
      for value in values:
        others = [word for word in ready if not word.startswith(f"--{name}=")]
        yield Case(
          f"value of {name}",
          binary,
          _smoke(read, *others, f"--{name}={value}"),
        )


def _flag_files(flags: Flags) -> Iterator[Case]:
  files = {
    "no text": _NOT_TEXT,
    "UTF-16": "--seeds=3\n".encode("utf-16"),
    "itself": b"--flagfile=flags\n",
    "empty": b"",
    "words": b"some words\n",
    "unknown": b"--no_such_flag=1\n",
    "no number": b"--seeds=many\n",
    "a list": b'["--seeds=3"]\n',
  }
  for binary, read in flags.items():
    for content in files.values():
      yield Case(
        "flagfile", binary, _smoke(read, "--flagfile=flags"), {"flags": content}
      )
    for value in ("", ".", "/nowhere", "/dev/null", "\udcff", "~"):
      yield Case("flagfile", binary, _smoke(read, f"--flagfile={value}"))


def _readers(
  flags: Flags, name: str = "model"
) -> Iterator[tuple[str, tuple[str, ...]]]:
  """Binaries that read a model folder, and how they are asked to."""
  for binary, read in flags.items():
    if "from" in read:
      yield binary, (f"--from={name}", "--learning_rate=1e-3", "--length=8")
    elif binary == "gradients":
      yield (
        binary,
        (f"--model={name}", f"--tokens={BASE}/ids.npy", "--attention=myopic"),
      )
    elif binary == "microscope":
      yield binary, (f"--model={name}", "--text=the cat sat")
    elif "model" in read:
      yield binary, (f"--model={name}", "--length=8", f"--corpus={BASE}/text")


def _models(base: pathlib.Path, flags: Flags) -> Iterator[Case]:
  """Hugging Face folders with something wrong in one file."""
  good = {file.name: file.read_bytes() for file in (base / "gpt2").iterdir()}
  for what, files in model_folders(good):
    inside = {f"model/{name}": data for name, data in files.items()}
    for binary, arguments in _readers(flags):
      yield Case(
        f"model: {what}",
        binary,
        _smoke(flags[binary], *arguments),
        inside,
      )


def model_folders(
  good: Mapping[str, bytes],
) -> Iterator[tuple[str, dict[str, bytes]]]:
  """Folders with one fault each, by what is wrong.

  Args:
    good: a whole folder, content by file name.
  """
  settings, weights = "config.json", "model.safetensors"
  for name in (settings, weights, "tokenizer.json"):
    yield "LFS pointer", {**good, name: LFS_POINTER}
    yield "nested JSON", {**good, name: NESTED}
    yield "no text", {**good, name: _NOT_TEXT}
    yield "empty file", {**good, name: b""}
    yield "cut", {**good, name: good[name][: len(good[name]) // 2]}
    yield "missing", {key: data for key, data in good.items() if key != name}
  config = json.loads(good[settings])
  for field in ("vocab_size", "n_embd", "n_layer", "n_head", "n_positions"):
    for value in (10**11, 10**6, -1, 0, 1.5, "8", None, True, [8], 10**400):
      changed = json.dumps({**config, field: value}).encode()
      yield f"config {field}", {**good, settings: changed}
  for field in ("layer_norm_epsilon", "initializer_range", "n_inner"):
    for value in (math.nan, math.inf, -1.0, "x", 10**30):
      changed = json.dumps({**config, field: value}).encode()
      yield f"config {field}", {**good, settings: changed}
  for what, data in _weights(good[weights]):
    yield f"weights {what}", {**good, weights: data}


def _weights(good: bytes) -> Iterator[tuple[str, bytes]]:
  tensors = safetensors.numpy.load(good)
  for what, value in (
    ("NaN", math.nan),
    ("infinite", math.inf),
    ("huge", 1e30),
    ("largest", 3e38),
  ):
    for name in ("wte.weight", "h.0.mlp.c_fc.weight", "ln_f.weight"):
      (full,) = (key for key in tensors if key.endswith(name))
      changed = {key: array.copy() for key, array in tensors.items()}
      changed[full].flat[:3] = value
      yield what, safetensors.numpy.save(changed, {"format": "pt"})
  everything = {key: array * np.float32(1e12) for key, array in tensors.items()}
  yield "all huge", safetensors.numpy.save(everything, {"format": "pt"})
  size = struct.unpack("<Q", good[:8])[0]
  header = json.loads(good[8 : 8 + size])
  first = next(key for key in header if key != "__metadata__")
  for change in (
    {"shape": [10**11, 10**11]},
    {"shape": [2**63]},
    {"data_offsets": [0, 10**15]},
    {"dtype": "F64"},
    {"dtype": "X9"},
  ):
    text = json.dumps({**header, first: {**header[first], **change}}).encode()
    yield "header", struct.pack("<Q", len(text)) + text + good[8 + size :]
  yield "header size", struct.pack("<Q", 2**62) + good[8:]


def _tokenizers(base: pathlib.Path, flags: Flags) -> Iterator[Case]:
  good = json.loads((base / "gpt2" / "tokenizer.json").read_bytes())

  def changed(**model: Any) -> bytes:
    return json.dumps({**good, "model": {**good["model"], **model}}).encode()

  vocabulary = good["model"]["vocab"]
  files = [
    changed(vocab={**vocabulary, "th": 4_000_000_000}),
    changed(vocab={**vocabulary, "th": 2**32 - 1}),
    changed(vocab={**vocabulary, "th": 2**40}),
    changed(vocab={**vocabulary, "th": -1}),
    changed(vocab={}, merges=[]),
    changed(vocab=None),
    changed(merges=[["t", "x"], ["no", "such"]]),
    LFS_POINTER,
    NESTED,
    _NOT_TEXT,
    b"",
    b"{}",
  ]
  for binary, read in flags.items():
    if "tokenizer" not in read:
      continue
    own = ("--task=text",) if "task" in read else ()
    if binary == "microscope":
      own = (f"--model={BASE}/gpt2", "--text=the cat")
    for data in files:
      yield Case(
        "tokenizer file",
        binary,
        _smoke(read, *own, f"--corpus={BASE}/text", "--tokenizer=t.json")
        if "corpus" in read
        else _smoke(read, *own, "--tokenizer=t.json"),
        {"t.json": data},
      )


def _corpora(flags: Flags) -> Iterator[Case]:
  text = b"the cat sat on the mat\n" * 99
  files = {
    "corpus": [b"", b"\n", b"x", _NOT_TEXT, text * 9 + b"\xff", LFS_POINTER],
    "corpus.gz": [b"", text, b"\x1f\x8b" + _NOT_TEXT],
    "corpus.xz": [b"", text, b"\xfd7zXZ\x00" + _NOT_TEXT],
    "corpus/.hidden": [text],
    "caf\udce9": [text * 99],
    "$x$ {y} %s \\": [text * 99],
  }
  for binary, read in flags.items():
    if "corpus" not in read:
      continue
    own = ("--task=text",) if "task" in read else ()
    for name, contents in files.items():
      for data in contents:
        path = name.partition("/")[0]
        yield Case(
          "corpus", binary, _smoke(read, *own, f"--corpus={path}"), {name: data}
        )


def _runs(flags: Flags) -> Iterator[Case]:
  """Run folders of other tasks, and folders within run folders."""
  inside = ("", "/arms", "/arms/causal", "/arms/causal/checkpoints", "/figures")
  folders = [f"{BASE}/{run}{part}" for run in RUNS for part in inside]
  for folder in [*folders, f"{BASE}/cache", f"{BASE}/text"]:
    for binary, arguments in _readers(flags, folder):
      kept = [word for word in arguments if not word.startswith("--length")]
      yield Case("run folder", binary, _smoke(flags[binary], *kept))
