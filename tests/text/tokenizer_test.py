"""Tokenizers: files, refusals, how tokens are shown, GPT-2."""

import pathlib
import sys
import tempfile
from unittest import mock

import hypothesis
import tokenizers
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from jaxlook.text import tokenizer
from tests.fixtures.checkpoints import LFS_POINTER
from tests.fixtures.corpora import SAMPLE, TEXTS, CorpusTestCase, tokenize

_GPT2 = pathlib.Path(__file__).parents[3] / "shared/data/gpt2-bpe"


def _byte_level_bpe() -> tokenizers.Tokenizer:
  """Trains a small BPE with GPT-2's pre-tokenizer and all bytes."""
  model = tokenizers.Tokenizer(models.BPE())
  model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  trainer = trainers.BpeTrainer(
    vocab_size=300,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    special_tokens=["<end>"],
    show_progress=False,
  )
  # Runs of spaces and line breaks become tokens, so a cut within one shows.
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
  def test_tokens_equal_those_of_the_whole_text(self, text, chunk_bytes):
    """With GPT-2's pre-tokenizer, cuts do not change the tokens."""
    with tempfile.TemporaryDirectory() as cache:
      path = self.write("text", text)
      file = tokenize(path, cache, self.json, chunk_bytes=chunk_bytes)
      self.assertEqual(file.tokens().tolist(), self.model.encode(text).ids)
      self.assertEqual(file.num_bytes, len(text.encode()))

  def test_all_file_formats_give_the_same_tokens(self):
    """GPT-2's two files, a JSON file and its folder give equal tokens."""
    path = self.write("text", SAMPLE)
    expected = tokenize(path, self.cache, self.json)
    (self.folder / "pair").mkdir()
    self.model.model.save(str(self.folder / "pair"))
    (self.folder / "one").mkdir()
    self.model.save(str(self.folder / "one/tokenizer.json"))
    for name in ("pair", "one"):
      file = tokenize(path, self.cache, str(self.folder / name))
      self.assertEqual(file.tokens().tolist(), expected.tokens().tolist())
      self.assertEqual(file.vocab_size, expected.vocab_size)
      self.assertEqual(file.tokenizer, str(self.folder / name))
    self.assertEqual(expected.dtype, "uint16")
    self.assertEqual(expected.vocab_size, self.model.get_vocab_size())

  def test_padding_truncation_and_special_tokens_are_off(self):
    """Such settings of a tokenizer file are ignored."""
    self.model.enable_padding(length=1000)
    self.model.enable_truncation(4)
    self.model.post_processor = processors.TemplateProcessing(
      single="<end> $A <end>", special_tokens=[("<end>", 0)]
    )
    self.model.save(str(self.folder / "other.json"))
    path = self.write("text", SAMPLE)
    expected = tokenize(path, self.cache, self.json)
    file = tokenize(path, self.cache, self.folder / "other.json")
    self.assertEqual(file.tokens().tolist(), expected.tokens().tolist())

  def test_dtype_holds_the_largest_id(self):
    """Ids may have gaps: the vocabulary size is the largest id plus 1."""
    for largest, dtype in (
      (255, "uint8"),
      (65535, "uint16"),
      (65536, "uint32"),
    ):
      model = tokenizers.Tokenizer(
        models.WordLevel({"a": 0, "b": largest}, unk_token="a")
      )
      model.pre_tokenizer = pre_tokenizers.Whitespace()
      path = self.folder / f"{largest}.json"
      model.save(str(path))
      file = tokenize(self.write("text", "b a b"), self.cache, path)
      self.assertEqual(file.dtype, dtype)
      self.assertEqual(file.vocab_size, largest + 1)
      self.assertEqual(file.tokens().tolist(), [largest, 0, largest])

  def test_tokens_are_shown_as_they_read_after_others(self):
    """With the space before a word, and the bytes of a part of a character."""
    vocab = ["<unk>", "<s>", "▁", "▁the", "re", "a", "\n", "<0xC3>", "<0xA9>"]
    model = tokenizers.Tokenizer(
      models.BPE({token: place for place, token in enumerate(vocab)}, [])
    )
    model.decoder = decoders.Sequence(
      [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
      ]
    )
    shown = [*vocab[:2], " ", " the", "re", "a", "\n", "<C3>", "<A9>"]
    for decoder in (model.decoder, decoders.Metaspace()):
      model.decoder = decoder
      model.save(str(self.json))
      show = tokenizer.load_tokenizer(self.json).show
      self.assertEqual(show(range(7)), shown[:7])
    model.decoder = decoders.ByteFallback()
    model.save(str(self.json))
    show = tokenizer.load_tokenizer(self.json).show
    self.assertEqual(show([7, 8]), shown[7:])

    model = tokenizers.Tokenizer(
      models.WordPiece({"the": 0, "##re": 1, ".": 2}, unk_token="the")
    )
    model.decoder = decoders.WordPiece()
    model.save(str(self.json))
    show = tokenizer.load_tokenizer(self.json).show
    self.assertEqual("".join(show([0, 1, 0, 2])), " there the.")

  def test_bad_tokenizer_files_are_refused(self):
    """The error names the path."""
    path = self.write("text", "b")
    with self.assertRaisesRegex(FileNotFoundError, "absent: no such tokenizer"):
      tokenize(path, self.cache, self.folder / "absent")
    (self.folder / "nothing").mkdir()
    with self.assertRaisesRegex(ValueError, "nothing: has neither tokenizer"):
      tokenize(path, self.cache, self.folder / "nothing")
    for content in ("{}", "text"):
      bad = self.write("bad.json", content)
      with self.assertRaisesRegex(ValueError, "bad.json: not a usable tokeniz"):
        tokenize(path, self.cache, bad)
    with self.assertRaisesRegex(ValueError, "bad.json is a Git LFS pointer"):
      tokenize(path, self.cache, self.write("bad.json", LFS_POINTER))

  def test_a_text_without_tokens_is_refused(self):
    """A tokenizer may give no tokens for a text."""
    model = tokenizers.Tokenizer(models.BPE({"a": 0}, []))
    model.save(str(self.folder / "a.json"))
    with self.assertRaisesRegex(ValueError, "text: no tokens by tokenizer"):
      tokenize(self.write("text", "b"), self.cache, self.folder / "a.json")

  def test_without_the_package(self):
    """Without `tokenizers`, bytes work, and BPE's error names the extra."""
    path = self.write("text", "b")
    with mock.patch.dict(sys.modules, {"tokenizers": None}):
      self.assertEqual(tokenize(path, self.cache).length, 1)
      with self.assertRaisesRegex(ImportError, r"pip install jaxlook\[text\]"):
        tokenize(path, self.cache, self.json)

  def test_gpt2(self):
    """GPT-2's files give the published ids, 50257 of them."""
    if not _GPT2.is_dir():
      self.skipTest(f"GPT-2's BPE files are not at {_GPT2}")
    path = self.write("text", "Hello world\n\nHello\n\n\n  world<|endoftext|>")
    file = tokenize(path, self.cache, _GPT2, chunk_bytes=3)
    self.assertEqual(file.vocab_size, 50257)
    self.assertEqual(
      file.tokens().tolist(),
      [15496, 995, 198, 198, 15496, 628, 198, 220, 995, 50256],
    )
