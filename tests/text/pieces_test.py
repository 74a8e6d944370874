"""Pieces give the tokens of the whole text, for every kind of tokenizer."""

import dataclasses
import pickle
import re
import tempfile
from unittest import mock

import hypothesis
import numpy as np
import tokenizers
from absl.testing import parameterized
from hypothesis import strategies as st
from tokenizers import (
  AddedToken,
  Regex,
  models,
  normalizers,
  pre_tokenizers,
  processors,
  trainers,
)

from jaxlook.text import encode, pieces
from jaxlook.text.tokenizer import load_tokenizer
from tests.fixtures.corpora import SAMPLE, CorpusTestCase

_GPT2 = (
  r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
_LLAMA3 = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
  r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
_TO_MARK = normalizers.Replace(" ", "▁")
_LLAMA2 = normalizers.Sequence([normalizers.Prepend("▁"), _TO_MARK])


def _split(pattern: str):
  return pre_tokenizers.Sequence(
    [pre_tokenizers.Split(Regex(pattern), "isolated"), _BYTES]
  )


def _metaspace(scheme: str, split: bool = True):
  return pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)


# By name: the pre-tokenizer, the normalizer, and whether texts are cut.
_KINDS = {
  "byte_level": (pre_tokenizers.ByteLevel(), None, True),
  "gpt2": (pre_tokenizers.ByteLevel(add_prefix_space=False), None, True),
  "gpt_neox": (
    pre_tokenizers.ByteLevel(add_prefix_space=False),
    normalizers.NFC(),
    True,
  ),
  "gpt2_regex": (_split(_GPT2), None, True),
  "llama3": (_split(_LLAMA3), None, True),
  "qwen": (_split(_LLAMA3.replace("{1,3}", "")), normalizers.NFC(), True),
  "any_regex": (_split(r"\w+\s|.|\n"), None, False),
  "metaspace": (_metaspace("always"), None, True),
  "metaspace_first": (_metaspace("first"), None, True),
  "metaspace_never": (_metaspace("never"), None, True),
  "llama2": (None, _LLAMA2, True),
  "llama2_first": (_metaspace("first", split=False), None, True),
  "gemma": (pre_tokenizers.Split(" ", "merged_with_previous"), _TO_MARK, True),
  "words": (
    pre_tokenizers.Sequence(
      [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.WhitespaceSplit(),
        _metaspace("first"),
      ]
    ),
    normalizers.Lowercase(),
    True,
  ),
  "scripts": (
    pre_tokenizers.Sequence([pre_tokenizers.UnicodeScripts(), _BYTES]),
    None,
    False,
  ),
  "strip": (pre_tokenizers.ByteLevel(), normalizers.Strip(), False),
  "prepend": (pre_tokenizers.ByteLevel(), normalizers.Prepend("x"), False),
  "nothing": (None, None, False),
}
_WORDS = (
  *("the", "s", "'s", "1.", "2345", "漢", "é🙂", "e\u0301", "ﬁ", "ﷺ", "¨"),
  *(".", "..", "!/", "A", "▁", "Ġ", "<s>", "<m>", "\u200b", "\x01"),
  *(" ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\v", "\x1c"),
  *("\x85", "\xa0", "\u2028", "\u3000"),
)
_TEXTS = st.lists(st.sampled_from(_WORDS), max_size=25).map("".join)


def _build(kind: str) -> tokenizers.Tokenizer:
  """Trains a small tokenizer in which spaces and line ends are merged."""
  pre_tokenizer, normalizer, _ = _KINDS[kind]
  model = tokenizers.Tokenizer(
    models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
  )
  # Without a pre-tokenizer, words must not be joined while it is trained.
  spaced = normalizer is not None and "▁" in str(normalizer)
  model.pre_tokenizer = _metaspace("always") if spaced else pre_tokenizer
  if kind == "llama2_first":
    model.pre_tokenizer = _metaspace("first")
  text = (
    "the the  the s\n\nthe\n \n a\n\n\n\nab 123 .\n!\n the's  \r\n  e\n" * 3
  )
  model.train_from_iterator(
    [text, SAMPLE * 3, "".join(_WORDS)],
    trainers.BpeTrainer(
      vocab_size=400,
      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
      special_tokens=["<unk>", "<s>"],
      show_progress=False,
    ),
  )
  model.pre_tokenizer = pre_tokenizer
  if normalizer is not None:
    model.normalizer = normalizer
  if kind in ("gpt_neox", "llama3", "metaspace_first", "nothing"):
    model.add_tokens([AddedToken("  ", normalized=True)])
  model.add_tokens([AddedToken("<m>", lstrip=True, special=True)])
  model.post_processor = processors.TemplateProcessing(
    single="<s> $A <s>", special_tokens=[("<s>", model.token_to_id("<s>"))]
  )
  return model


class PiecesTest(CorpusTestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(pieces, "_LEAST", 1))

  @parameterized.parameters(*_KINDS)
  def test_tokens_equal_those_of_the_whole_text(self, kind):
    """For texts with all kinds of blanks, in all chunks."""
    model = _build(kind)
    path = self.folder / "tokenizer.json"
    model.save(str(path))
    tokenizer = load_tokenizer(path)
    self.assertEqual(tokenizer.cut is not None, _KINDS[kind][2])

    @hypothesis.given(_TEXTS, st.integers(1, 9))
    @hypothesis.settings(max_examples=60, deadline=None)
    def check(text, chunk):
      parts = [text[at : at + chunk] for at in range(0, len(text), chunk)]
      ids = [ids.tolist() for ids in tokenizer.encode(parts)]
      whole = model.encode(text, add_special_tokens=False).ids
      self.assertEqual(sum(ids, []), whole)

    check()
    # A text that is cut, unless its tokenizer forbids it.
    cut = sum(map(len, pieces.split_pieces([SAMPLE], tokenizer.cut)))
    self.assertEqual(cut > 1, _KINDS[kind][2])

  @parameterized.parameters(
    (AddedToken("the sea", normalized=False),),
    (AddedToken("ship,", rstrip=True),),
    (AddedToken(" the", single_word=True),),
  )
  def test_added_tokens_that_reach_over_a_cut(self, token):
    """A text is then encoded whole."""
    model = _build("gpt2")
    self.assertIsNotNone(pieces.safe_cut(model))
    model.add_tokens([token])
    self.assertIsNone(pieces.safe_cut(model))

  @parameterized.parameters(
    {"ignore_merges": True},
    {"continuing_subword_prefix": "##"},
    {"end_of_word_suffix": "</w>"},
  )
  def test_models_that_must_see_a_whole_word(self, **settings):
    """Without a pre-tokenizer, the text is one word."""
    model = tokenizers.Tokenizer(models.BPE({"▁": 0}, [], **settings))
    model.normalizer = _LLAMA2
    self.assertIsNone(pieces.safe_cut(model))
    for vocab, cut in (({"▁": 0}, True), ({"▁": 0, "a▁": 1}, False)):
      model.model = models.BPE(vocab, [])
      self.assertEqual(pieces.safe_cut(model) is not None, cut)

  def test_documents_are_encoded_apart(self):
    """Each has the tokens of its whole text, also in another process."""
    model = _build("llama2")
    model.save(str(self.folder / "tokenizer.json"))
    tokenizer = load_tokenizer(self.folder)
    sent = pickle.loads(pickle.dumps(tokenizer.encode_pieces))
    documents = [SAMPLE, "a", "\n b\n", SAMPLE * 2]
    expected = [
      model.encode(text, add_special_tokens=False).ids for text in documents
    ]
    cut = [[text[:7], text[7:]] for text in documents]
    for encode_pieces in (tokenizer.encode_pieces, sent):
      each = dataclasses.replace(tokenizer, encode_pieces=encode_pieces)
      with mock.patch.object(encode, "_BATCH", 50):
        found = list(encode.encode(cut, each, np.dtype("u2")))
      ids = np.concatenate([batch.ids for batch in found])
      self.assertEqual(ids.tolist(), sum(expected, []))
      self.assertEqual(sum(len(batch.ends) for batch in found), 4)

  def test_dropout_is_off(self):
    """The tokens of a text are always the same."""
    model = _build("gpt2")
    model.model.dropout = 0.5
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
      model.save(file.name)
      tokenizer = load_tokenizer(file.name)
    model.model.dropout = None
    (ids,) = tokenizer.encode_pieces([SAMPLE])[:1]
    self.assertEqual(
      ids.tolist(), model.encode(SAMPLE, add_special_tokens=False).ids
    )

  @hypothesis.given(
    st.text(st.sampled_from("ab \n"), max_size=20),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from(("", "(?<=[^ ])(?= )", "(?<=a) (?=[^ ])", None)),
  )
  @hypothesis.settings(max_examples=200, deadline=None)
  def test_pieces_do_not_depend_on_chunks(self, text, chunk, least, cut):
    """Pieces are as short as the cuts and `_LEAST` allow."""
    cut = None if cut is None else re.compile(cut)
    parts = [text[at : at + chunk] for at in range(0, len(text), chunk)]
    with mock.patch.object(pieces, "_LEAST", least):
      found, whole = (
        sum(pieces.split_pieces(each, cut), []) for each in (parts, [text])
      )
    self.assertEqual(found, whole)
    self.assertNotIn("", found)
    if cut is None or cut.pattern != "(?<=a) (?=[^ ])":
      self.assertEqual("".join(found), text)

  def test_a_text_that_is_too_long_to_encode_at_once(self):
    """It is refused, as encoding it would fill the memory."""
    with mock.patch.object(pieces, "_MOST", 10):
      list(pieces.split_pieces(["word "] * 10, pieces.GPT2_CUT))
      for cut in (None, pieces.GPT2_CUT):
        with self.assertRaisesRegex(ValueError, "more than 10 characters that"):
          list(pieces.split_pieces(["漢字"] * 10, cut))
