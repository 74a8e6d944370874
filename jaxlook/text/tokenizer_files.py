"""Reads a tokenizer of the package `tokenizers`, and its added tokens."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxlook import git_lfs

_ONE_FILE = ("tokenizer.json",)
_TWO_FILES = ("vocab.json", "merges.txt")
_ADDED = "added_tokens.json"
_SPECIAL = "special_tokens_map.json"
_CONFIG = "tokenizer_config.json"
_MOST_ID = 2**31 - 1  # Token files and models have 32-bit integers.
_OPTIONS = ("lstrip", "rstrip", "single_word", "normalized")
_LOOKS_SPECIAL = re.compile(r"<.+>|\[.+\]")


def load_model(path: Path) -> tuple[Any, bytes]:
  """Reads a tokenizer.

  Tokens that a folder's `added_tokens.json`, `special_tokens_map.json` or
  `tokenizer_config.json` names are found in texts as such, and never cut. So
  are entries of `vocab.json`, such as `<|endoftext|>`, that no merges make.

  Args:
    path: a `tokenizers` JSON file, or a folder with `tokenizer.json` or with
      `vocab.json` and `merges.txt`.

  Returns:
    The `tokenizers.Tokenizer`, without padding, truncation and dropout, and
    the content that fixes its tokens.

  Raises:
    FileNotFoundError: the path does not exist.
    ValueError: the files are not a tokenizer, or contradict each other.
    ImportError: `tokenizers` is not installed.
  """
  files = _files(path)
  for file in files:
    git_lfs.check_fetched(file)
  content = b"".join(file.read_bytes() for file in files)
  try:
    import tokenizers
  except ImportError as error:
    raise ImportError(
      "BPE needs tokenizers: pip install jaxlook[text]"
    ) from error
  added, prefix = _added(path) if path.is_dir() else ({}, False)
  names = [str(file) for file in files]
  try:
    if len(files) == 1:
      model = tokenizers.Tokenizer.from_file(*names)
      own = {}
    else:
      vocab, merges = tokenizers.models.BPE.read_file(*names)
      _check_distinct(vocab)
      own = _never_made(vocab, merges)
      _set_ids(vocab, added)
      model = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges))
      model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=prefix
      )
      model.decoder = tokenizers.decoders.ByteLevel()
    if not model.get_vocab():
      raise ValueError("it has no tokens")
  except _ContradictionError as error:
    raise ValueError(f"{path}: {error}") from error
  except Exception as error:  # The package raises plain Exception.
    raise ValueError(f"{names[0]}: not a usable tokenizer: {error}") from error
  used = _add(model, path, own, added)
  if used or (prefix and len(files) == 2):
    # The hash of a tokenizer without such files is that of its files alone.
    content += json.dumps([used, prefix], sort_keys=True).encode()
  model.no_padding()
  model.no_truncation()
  if getattr(model.model, "dropout", None):
    model.model.dropout = None
  return model, content


class _ContradictionError(ValueError):
  """Two files of a tokenizer disagree."""


def _files(path: Path) -> list[Path]:
  if path.is_file():
    return [path]
  for names in (_ONE_FILE, _TWO_FILES):
    if all((path / name).is_file() for name in names):
      return [path / name for name in names]
  if path.is_dir():
    raise ValueError(
      f"{path}: has neither tokenizer.json nor vocab.json and merges.txt"
    )
  raise FileNotFoundError(f"{path}: no such tokenizer; give a path or `bytes`")


def _never_made(
  vocab: Mapping[str, int], merges: list[tuple[str, str]]
) -> dict[str, dict[str, Any]]:
  """Returns entries that look special and that no text would give."""
  made = {left + right for left, right in merges}
  return {
    token: {}
    for token in sorted(vocab, key=lambda token: vocab[token])
    if token not in made and _LOOKS_SPECIAL.fullmatch(token)
  }


def _added(folder: Path) -> tuple[dict[str, dict[str, Any]], bool]:
  """Reads a folder's added tokens.

  Args:
    folder: the tokenizer's folder.

  Returns:
    By content, options and, where it is given, `id`; and whether a text gets a
    space as its prefix.

  Raises:
    ValueError: a file cannot be read, or has another form.
  """
  added = _object(folder / _ADDED)
  config, special = _object(folder / _CONFIG), _object(folder / _SPECIAL)
  found: dict[str, dict[str, Any]] = {}
  try:
    for token, place in added.items():
      found[token] = {"id": _id(token, place)}
    for place, options in config.get("added_tokens_decoder", {}).items():
      token = options["content"]
      place = _id(token, int(place))
      if found.setdefault(token, {"id": place})["id"] != place:
        raise ValueError(f"{_ADDED} and {_CONFIG} give {token!r} two ids")
      found[token] |= _options(options)
    for token, options in _special(config, special):
      found[token] = options | found.get(token, {})
    prefix = config.get("add_prefix_space", False) or False
    if not isinstance(prefix, bool):
      raise ValueError(f"add_prefix_space is {prefix!r}")
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f"{folder}: its added tokens cannot be read: {error}"
    ) from error
  found.pop("", None)
  # Those without an id go last: they get the next free ids.
  order = sorted(found, key=lambda token: "id" not in found[token])
  return {token: found[token] for token in order}, prefix


def _id(token: str, place: Any) -> int:
  """An id, or raises ValueError."""
  if type(place) is not int or not 0 <= place <= _MOST_ID:
    raise ValueError(f"{token!r} has the id {place!r}")
  return place


def _object(file: Path) -> dict[str, Any]:
  """Reads a JSON object; an empty one if there is no file."""
  if not file.exists():
    return {}
  try:
    value = json.loads(file.read_bytes())
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{file}: not valid JSON: {error}") from error
  if not isinstance(value, dict):
    raise ValueError(f"{file}: must be a JSON object")
  return value


def _special(
  *files: Mapping[str, Any],
) -> Iterator[tuple[str, dict[str, bool]]]:
  """Yields the special tokens that files name, and their options."""
  for name, entry in itertools.chain(*(file.items() for file in files)):
    if not name.endswith(("_token", "special_tokens")):
      continue
    if isinstance(entry, dict) and "content" not in entry:
      entry = list(entry.values())
    for each in entry if isinstance(entry, list) else [entry]:
      if isinstance(each, str):
        yield each, {}
      elif isinstance(each, dict):
        yield each["content"], _options(each)


def _options(entry: Mapping[str, Any]) -> dict[str, bool]:
  return {name: bool(entry[name]) for name in _OPTIONS if name in entry}


def _check_distinct(vocab: Mapping[str, int]) -> None:
  """Raises _ContradictionError if two tokens have one id."""
  tokens: dict[int, str] = {}
  for token, place in vocab.items():
    if place in tokens:
      raise _ContradictionError(
        f"{tokens[place]!r} and {token!r} have the same id {place}"
      )
    tokens[place] = token


def _set_ids(vocab: dict[str, int], added: Mapping[str, Any]) -> None:
  """Adds tokens to a vocabulary: with their ids, or else at its end."""
  tokens = {place: token for token, place in vocab.items()}
  for token, options in added.items():
    place = options.get("id", vocab.get(token, max(tokens, default=-1) + 1))
    if vocab.get(token, place) != place:
      raise _ContradictionError(
        f"{token!r} has the id {vocab[token]} in vocab.json, and {place} among"
        " the added tokens"
      )
    if tokens.get(place, token) != token:
      raise _ContradictionError(
        f"{token!r} and {tokens[place]!r} have the same id {place}"
      )
    vocab[token] = place
    tokens[place] = token


def _add(
  model: Any,
  path: Path,
  own: Mapping[str, Any],
  added: Mapping[str, dict[str, Any]],
) -> list[Any]:
  """Makes a tokenizer find added tokens in texts.

  Args:
    model: a `tokenizers.Tokenizer`.
    path: its path, for errors.
    own: tokens that its main files imply, and their options.
    added: those of other files.

  Returns:
    Content, options and id of those of other files that it did not have.

  Raises:
    ValueError: a token cannot get its id.
  """
  import tokenizers

  known = {each.content for each in model.get_added_tokens_decoder().values()}
  used = []
  for token in {**own, **added}:
    options = added.get(token, {})
    given = {name: options[name] for name in _OPTIONS if name in options}
    if token not in known:
      each = tokenizers.AddedToken(
        token, special=True, **{"normalized": False, **given}
      )
      model.add_tokens([each])
      if given or token not in own:
        used.append([token, given, model.token_to_id(token)])
    place = model.token_to_id(token)
    if options.get("id", place) != place or model.id_to_token(place) != token:
      raise ValueError(
        f"{path}: the added token {token!r} cannot have the id"
        f" {options.get('id', place)}; it gets {place}"
      )
  return used
