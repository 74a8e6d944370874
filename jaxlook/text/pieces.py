"""Cuts a text into pieces whose tokens, joined, are those of the whole text.

A place is safe to cut if no step of the tokenizer looks across it:

* No added token spans it, and the normalizer acts on both sides separately.
* The pre-tokenizer always splits there, or the model never joins the two
  characters. Both sides are split in the same way with and without the other.

`safe_cut` proves this for the parts of tokenizers that it knows. For others it
returns None: the text must be encoded whole.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

# Before a space; before another blank; after the end of a line. There is a
# visible character on the other side. `_MARK` stands for a space in Llama.
_SPACE, _BLANK, _LINE = "space", "blank", "line"
_MARK = "▁"
_BEFORE = rf"(?<=[^\s{_MARK}])"
_PATTERNS = {
  _SPACE: rf"{_BEFORE}(?= )",
  _BLANK: rf"{_BEFORE}(?=[\t\r\n])",
  _LINE: r"(?<=[\r\n])(?=\S)",
}
GPT2_CUT = re.compile(f"{_PATTERNS[_SPACE]}|{_PATTERNS[_BLANK]}")
ANYWHERE = re.compile("")

_LEAST = 2048  # Characters of a piece; shorter ones take longer to encode.
_MOST = 1 << 27  # Encoding takes about 100 bytes per character of a piece.

# The last of these matches every blank, so every blank begins or continues a
# match. None matches a visible character and a space after it, and none looks
# behind. So a match ends before a space that follows a visible character.
_ENDS_LINES, _BLANKS = r"\s*[\r\n]+", r"\s+"
_LOOKS_AHEAD = r"\s+(?!\S)"
_ALTERNATIVES = {
  *("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"),
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
  "'(?:[sdmt]|ll|ve|re)",
  "'(?i:[sdmt]|ll|ve|re)",
  *(r"\p{L}+", r" ?\p{L}+", r"[^\r\n\p{L}\p{N}]?\p{L}+"),
  *(r"\p{N}", r"\p{N}+", r" ?\p{N}+", r"\p{N}{1,3}"),
  r" ?[^\s\p{L}\p{N}]+",
  *(_ENDS_LINES, _LOOKS_AHEAD, _BLANKS),
}
# Like them, but these join a visible character and the line ends after it.
_TO_LINE_END = {r" ?[^\s\p{L}\p{N}]+[\r\n]*"}
_ALTERNATIVE = re.compile(
  r"(?:\\.|\[(?:\\.|[^\]\\])*\]|\([^()]*\)|[^|()\[\\])+"
)
_LOCAL_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase"}
_LOCAL_PRE_TOKENIZERS = {"Digits", "Punctuation"}
_AT_ALL_BLANKS = {"Whitespace", "WhitespaceSplit", "BertPreTokenizer"}


def split_pieces(
  texts: Iterable[str], cut: re.Pattern[str] | None
) -> Iterator[list[str]]:
  """Cuts a stream into pieces that do not depend on its parts.

  Args:
    texts: consecutive parts of a text.
    cut: where a piece may end; what it matches is left out. It looks at most
      one character ahead. None makes the text one piece.

  Yields:
    Pieces in order, none of them empty.

  Raises:
    ValueError: a piece would be too long to encode.
  """
  rest, seen = "", 0
  for text in texts:
    rest += text
    pieces, start = [], 0
    # The last character may look different once the next one is known.
    end = len(rest) - 1
    while cut and (found := cut.search(rest, max(start + _LEAST, seen))):
      if found.end() > end:
        break
      pieces.append(rest[start : found.start()])
      start = found.end()
    rest, seen = rest[start:], max(end - start, 0)
    if len(rest) > _MOST:
      raise ValueError(
        f"has more than {_MOST} characters that this tokenizer must encode at"
        " once; split it into files and keep these apart as documents"
      )
    yield pieces
  if rest:
    yield [rest]


def safe_cut(model: Any) -> re.Pattern[str] | None:
  """Finds where texts may be cut without a change of their tokens.

  Args:
    model: a `tokenizers.Tokenizer`.

  Returns:
    A pattern for `split_pieces`; None if no place is known to be safe.
  """
  normalizers = _steps(model.normalizer, "normalizers")
  # A prefix that every piece would get: it stands for the space before it.
  prefix = None
  if normalizers and normalizers[0]["type"] == "Prepend":
    prefix = normalizers.pop(0)["prepend"]
  space = _normalized_space(normalizers)
  if space is None or prefix not in (None, " ", space):
    return None
  steps = _steps(model.pre_tokenizer, "pretokenizers")
  tokens = list(model.get_added_tokens_decoder().values())
  kinds = _pre_tokenized(steps, space, model) & _between(tokens, model)
  if not kinds:
    return None
  if prefix is None:
    return re.compile("|".join(_PATTERNS[kind] for kind in sorted(kinds)))
  # A piece gets the prefix instead of the space before it, which is left out.
  # Only text gets it, and not the start of a piece that is an added token.
  # The text after an added token has both, the prefix and the space.
  first = any(step.get("prepend_scheme") == "first" for step in steps)
  if first or any(token.content[:1].isspace() for token in tokens):
    return None
  starts = "".join(re.escape(token.content[:1]) for token in tokens)
  ends = "".join(re.escape(token.content[-1:]) for token in tokens)
  return re.compile(rf"(?<=[^\s{_MARK}{ends}]) (?=[^\s{_MARK}{starts}])")


def _between(tokens: list[Any], model: Any) -> set[str]:
  """Returns the kinds of places that no added token can span."""
  kinds = {_SPACE, _BLANK, _LINE}
  blank, other = rf"[\s{_MARK}]", rf"[^\s{_MARK}]"
  for token in tokens:
    forms = [token.content]
    if token.normalized and model.normalizer:
      forms.append(model.normalizer.normalize_str(token.content))
    behind = token.single_word and any(re.match(blank, x) for x in forms)
    starts = any(re.match(f"{blank}+{other}", form) for form in forms)
    spans = any(re.search(other + blank, form) for form in forms)
    # `rstrip` joins the space after a token, `single_word` looks behind.
    if spans or behind or token.rstrip:
      return set()
    if starts or token.lstrip:
      kinds = kinds - {_LINE}
  return kinds


def _steps(component: Any, several: str) -> list[dict[str, Any]]:
  """Returns the settings of a component, or of those in a sequence."""
  if component is None:
    return []
  settings = json.loads(component.__getstate__())
  found, waiting = [], [settings]
  while waiting:
    each = waiting.pop(0)
    if each["type"] == "Sequence":
      waiting[:0] = each[several]
    else:
      found.append(each)
  return found


def _normalized_space(steps: list[dict[str, Any]]) -> str | None:
  """Returns what a space becomes; None if a step may look across a cut."""
  space = " "
  contents = []
  for step in steps:
    if step["type"] in _LOCAL_NORMALIZERS:
      continue
    pattern = step.get("pattern", {}).get("String")
    if step["type"] != "Replace" or pattern is None:
      return None
    if pattern == " " == space and step["content"] == _MARK:
      space = _MARK
    elif re.search(rf"[\s{_MARK}]", pattern):
      return None
    else:
      contents.append(step["content"])
  if any(not re.fullmatch(rf"[^\s{_MARK}]+", each) for each in contents):
    return None
  return space


def _pre_tokenized(
  steps: list[dict[str, Any]], space: str, model: Any
) -> set[str]:
  """Returns the kinds of places that are safe for the steps and the model."""
  kinds, split = {_SPACE, _BLANK, _LINE}, False
  for step in steps:
    kind = step["type"]
    if kind == "Metaspace":
      if space not in (" ", _MARK) or step["replacement"] != _MARK:
        return set()
      # A piece that starts with a space gets no prefix.
      kinds, split = kinds & {_SPACE}, split or step.get("split", True)
      space = _MARK
    elif kind == "ByteLevel":
      if space != " " and not split:
        return set()
      if step["add_prefix_space"]:
        kinds = kinds & {_SPACE}
      if step.get("use_regex", True) and not split:
        kinds, split = kinds & {_SPACE, _BLANK}, True
      space = "Ġ"
    elif split or kind in _LOCAL_PRE_TOKENIZERS:
      continue
    elif kind in _AT_ALL_BLANKS and space == " ":
      split = True
    elif kind == "Split":
      safe, split = _split_at(step, space)
      kinds = kinds & safe
    else:
      return set()
  if split:
    return kinds
  return kinds & {_SPACE} if _never_joins(model, space) else set()


def _split_at(step: dict[str, Any], space: str) -> tuple[set[str], bool]:
  """Returns the safe kinds of a `Split`, and whether it splits there."""
  behavior, invert = step["behavior"], step["invert"]
  if step["pattern"].get("String") == " " and not invert:
    # Once spaces are replaced, there is nothing to split at.
    return {_SPACE}, space == " " and behavior != "MergedWithPrevious"
  pattern = step["pattern"].get("Regex", "")
  known = _ALTERNATIVE.findall(pattern)
  if (
    space != " "
    or "|".join(known) != pattern
    or not set(known) <= _ALTERNATIVES | _TO_LINE_END
    or _BLANKS not in known
    or (behavior != "Isolated" and not (behavior == "Removed" and invert))
  ):
    return set(), False
  kinds = {_SPACE}
  if not _TO_LINE_END & set(known):
    kinds.add(_BLANK)
  blanks = [each for each in known if each in (_ENDS_LINES, _LOOKS_AHEAD)]
  if blanks[:1] == [_ENDS_LINES] and known.index(_ENDS_LINES) < known.index(
    _BLANKS
  ):
    kinds.add(_LINE)
  return kinds, True


def _never_joins(model: Any, space: str) -> bool:
  """Whether no token has a space after another character."""
  bpe = model.model
  if type(bpe).__name__ != "BPE" or bpe.ignore_merges:
    return False
  if bpe.dropout or bpe.continuing_subword_prefix or bpe.end_of_word_suffix:
    return False
  vocab = model.get_vocab(with_added_tokens=False)
  inside = re.compile(f"[^{space}]{space}")
  return space in vocab and not any(map(inside.search, vocab))
