"""Tests of tokenizers."""

import pathlib
import sys
import tempfile
from unittest import mock

import hypothesis
import tokenizers
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors, trainers

from jaxlook.text import tokenizer
from tests.fixtures.corpora import SAMPLE, TEXTS, CorpusTestCase, tokenize

_GPT2 = pathlib.Path(__file__).parents[3] / "shared/data/gpt2-bpe"


def _byte_level_bpe() -> tokenizers.Tokenizer:
  """Trains a small BPE with GPT-2's pre-tokeniser; it can spell any text."""
  model = tokenizers.Tokenizer(models.BPE())
  model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  trainer = trainers.BpeTrainer(
    vocab_size=300,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    special_tokens=["<end>"],
    show_progress=False,
  )
  # Runs of spaces and line breaks become tokens: a cut within one would show.
  spaces = "a\n\n\nb\n \n c\n\n\n\nd  \n  e \n\n f\t\t\tg\n  \n  \n" * 3
  model.train_from_iterator([SAMPLE * 3, spaces], trainer)
  return model


class BpeTest(CorpusTestCase):
  def setUp(self):
    super().setUp()
    self.model = _byte_level_bpe()
    self.json = self.folder / "bpe.json"
    self.model.save(str(self.json))

  @hypothesis.given(TEXTS, st.integers(1, 8))
  @hypothesis.settings(max_examples=50, deadline=None)
  def test_tokens_are_those_of_the_whole_text(self, text, chunk_bytes):
    """With GPT-2's pre-tokeniser no cut is ever seen in the tokens."""
    with tempfile.TemporaryDirectory() as cache:
      path = self.write("text", text)
      found = tokenize(path, cache, self.json, chunk_bytes=chunk_bytes)
      self.assertEqual(found.tokens().tolist(), self.model.encode(text).ids)
      self.assertEqual(found.num_bytes, len(text.encode()))

  @hypothesis.given(
    st.text(st.sampled_from("ab \n"), max_size=20),
    st.integers(1, 4),
    st.integers(1, 4),
  )
  @hypothesis.settings(max_examples=200, deadline=None)
  def test_pieces_do_not_depend_on_chunks(self, text, chunk, max_piece):
    """Nor where pieces are cut for their length."""
    parts = [text[i : i + chunk] for i in range(0, len(text), chunk)]
    with mock.patch.object(tokenizer, "_MAX_PIECE", max_piece):
      cut = [
        piece for pieces in tokenizer.split_pieces(parts) for piece in pieces
      ]
      whole = [
        piece for pieces in tokenizer.split_pieces([text]) for piece in pieces
      ]
    self.assertEqual(cut, whole)
    self.assertEqual("".join(cut), text)
    self.assertLessEqual(max(map(len, cut), default=1), max_piece)

  def test_vocab_and_merges_are_the_same_tokenizer(self):
    """GPT-2's two files give the tokens of the JSON; so does its folder."""
    path = self.write("text", SAMPLE)
    wanted = tokenize(path, self.cache, self.json)
    (self.folder / "pair").mkdir()
    self.model.model.save(str(self.folder / "pair"))
    (self.folder / "one").mkdir()
    self.model.save(str(self.folder / "one/tokenizer.json"))
    for name in ("pair", "one"):
      found = tokenize(path, self.cache, str(self.folder / name))
      self.assertEqual(found.tokens().tolist(), wanted.tokens().tolist())
      self.assertEqual(found.vocab_size, wanted.vocab_size)
      self.assertEqual(found.tokenizer, str(self.folder / name))
    self.assertEqual(wanted.dtype, "uint16")
    self.assertEqual(wanted.vocab_size, self.model.get_vocab_size())

  def test_padding_truncation_and_special_tokens_are_off(self):
    """What a tokenizer file says about single inputs does not apply."""
    self.model.enable_padding(length=1000)
    self.model.enable_truncation(4)
    self.model.post_processor = processors.TemplateProcessing(
      single="<end> $A <end>", special_tokens=[("<end>", 0)]
    )
    self.model.save(str(self.folder / "other.json"))
    path = self.write("text", SAMPLE)
    wanted = tokenize(path, self.cache, self.json)
    found = tokenize(path, self.cache, self.folder / "other.json")
    self.assertEqual(found.tokens().tolist(), wanted.tokens().tolist())

  def test_dtype_holds_the_largest_id(self):
    """Ids may have gaps: the vocabulary ends after the largest."""
    for largest, dtype in (
      (255, "uint8"),
      (65535, "uint16"),
      (65536, "uint32"),
    ):
      model = tokenizers.Tokenizer(
        models.WordLevel({"a": 0, "b": largest}, unk_token="a")
      )
      model.pre_tokenizer = pre_tokenizers.Whitespace()
      file = self.folder / f"{largest}.json"
      model.save(str(file))
      found = tokenize(self.write("text", "b a b"), self.cache, file)
      self.assertEqual(found.dtype, dtype)
      self.assertEqual(found.vocab_size, largest + 1)
      self.assertEqual(found.tokens().tolist(), [largest, 0, largest])

  def test_refuses_what_is_no_tokenizer(self):
    """The error names the path."""
    path = self.write("text", "b")
    with self.assertRaisesRegex(FileNotFoundError, "absent: no such tokenizer"):
      tokenize(path, self.cache, self.folder / "absent")
    (self.folder / "nothing").mkdir()
    with self.assertRaisesRegex(ValueError, "nothing: holds neither tokenizer"):
      tokenize(path, self.cache, self.folder / "nothing")
    for content in ("{}", "text"):
      bad = self.write("bad.json", content)
      with self.assertRaisesRegex(ValueError, "bad.json: not a usable tokeniz"):
        tokenize(path, self.cache, bad)

  def test_refuses_a_text_without_tokens(self):
    """A tokenizer that knows no word of the text leaves nothing to train on."""
    model = tokenizers.Tokenizer(models.BPE({"a": 0}, []))
    model.save(str(self.folder / "a.json"))
    with self.assertRaisesRegex(ValueError, "text: no tokens by tokenizer"):
      tokenize(self.write("text", "b"), self.cache, self.folder / "a.json")

  def test_names_the_missing_extra(self):
    """Without `tokenizers` the bytes tokenizer works and BPE says why not."""
    path = self.write("text", "b")
    with mock.patch.dict(sys.modules, {"tokenizers": None}):
      self.assertEqual(tokenize(path, self.cache).length, 1)
      with self.assertRaisesRegex(ImportError, r"pip install jaxlook\[text\]"):
        tokenize(path, self.cache, self.json)

  def test_gpt2(self):
    """GPT-2's own files: ids as published, 50257 of them, as a whole text."""
    if not _GPT2.is_dir():
      self.skipTest(f"GPT-2's BPE files are not at {_GPT2}")
    path = self.write("text", "Hello world\n\nHello\n\n\n  world")
    found = tokenize(path, self.cache, _GPT2, chunk_bytes=3)
    self.assertEqual(found.vocab_size, 50257)
    self.assertEqual(
      found.tokens().tolist(),
      [15496, 995, 198, 198, 15496, 628, 198, 220, 995],
    )
