"""Added tokens of a folder are found in texts, with their ids."""

import json

import tokenizers
from absl.testing import parameterized
from tokenizers import models

from jaxlook.text.tokenizer import load_tokenizer
from tests.fixtures.corpora import CorpusTestCase

_VOCAB = {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "<|endoftext|>": 4, "<b>": 6}
_ADDED, _SPECIAL = "added_tokens.json", "special_tokens_map.json"
_CONFIG = "tokenizer_config.json"


class AddedTokensTest(CorpusTestCase):
  def setUp(self):
    super().setUp()
    self.write("pair/vocab.json", json.dumps(_VOCAB))
    self.write("pair/merges.txt", "#version: 0.2\na b\n")
    model = tokenizers.Tokenizer(
      models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])
    )
    model.add_special_tokens(["<s>"])
    self.write("one/tokenizer.json", model.to_str())

  def ids(self, folder, text):
    """Returns the tokens of a text."""
    tokenizer = load_tokenizer(self.folder / folder)
    return sum((ids.tolist() for ids in tokenizer.encode([text])), [])

  def add(self, folder, **files):
    """Writes JSON files; returns the vocabulary's size and the hash."""
    for name, value in files.items():
      self.write(f"{folder}/{name}.json", json.dumps(value))
    tokenizer = load_tokenizer(self.folder / folder)
    return tokenizer.vocab_size, tokenizer.sha256

  def test_tokens_that_no_merges_make(self):
    """An entry of vocab.json like <|endoftext|> is one token."""
    self.assertEqual(self.ids("pair", "ab<|endoftext|>a<b>"), [2, 4, 0, 6])
    self.assertEqual(
      load_tokenizer(self.folder / "pair").show([4]), ["<|endoftext|>"]
    )

  def test_added_tokens_have_their_ids(self):
    """They may be beyond the vocabulary, or in its gaps."""
    before = self.add("pair")
    size, sha256 = self.add("pair", added_tokens={"<pad>": 9, "b a": 5})
    self.assertEqual((before[0], size), (7, 10))
    self.assertNotEqual(before[1], sha256)
    self.assertEqual(self.ids("pair", "ab<pad>b ab"), [2, 9, 5, 1])
    self.assertEqual(
      self.add("pair", added_tokens={"<|endoftext|>": 4}), before
    )

  def test_special_tokens_have_their_options(self):
    """As strings, objects or lists; those without an id get the next one."""
    added = {"<x>": 7, "<y>": 8}
    options = {"content": "<y>", "lstrip": True, "rstrip": False}
    special = {"eos_token": "<x>", "mask_token": options, "pad_token": None}
    more = {"additional_special_tokens": ["<z>", {"content": "<w>"}]}
    size, _ = self.add(
      "pair", added_tokens=added, special_tokens_map=special | more
    )
    self.assertEqual(size, 11)
    self.assertEqual(
      self.ids("pair", "a<x>b  <y>a<z><w>"), [0, 7, 1, 8, 0, 9, 10]
    )

  def test_tokenizer_config(self):
    """Its tokens count as well, and so does its prefix."""
    decoder = {"7": {"content": "<x>", "rstrip": True, "special": True}}
    self.add(
      "pair",
      tokenizer_config={
        "added_tokens_decoder": decoder,
        "eos_token": "<y>",
        "add_bos_token": True,
        "add_prefix_space": True,
      },
    )
    self.assertEqual(self.ids("pair", "ab<x>  a<y>"), [3, 2, 7, 3, 0, 8])

  def test_a_folder_with_tokenizer_json(self):
    """Tokens that it has stay as they are; others are added."""
    before = self.add("one")
    self.assertEqual(
      self.add("one", special_tokens_map={"bos_token": "<s>"}), before
    )
    size, sha256 = self.add("one", added_tokens={"<pad>": 4, "<s>": 3})
    self.assertEqual((before[0], size), (4, 5))
    self.assertNotEqual(before[1], sha256)
    self.assertEqual(self.ids("one", "<s>ab<pad>"), [3, 2, 4])

  @parameterized.parameters(
    ("pair", {"added_tokens": {"<x>": 4}}, "have the same id 4"),
    (
      "pair",
      {"added_tokens": {"ab": 9}},
      "'ab' has the id 2 in vocab.json, an",
    ),
    ("one", {"added_tokens": {"<x>": 9}}, "'<x>' cannot have the id 9; it get"),
    ("one", {"added_tokens": {"<s>": 9}}, "'<s>' cannot have the id 9; it get"),
    (
      "pair",
      {"added_tokens": ["<x>"]},
      "added_tokens.json: must be a JSON obj",
    ),
    ("pair", {"added_tokens": {"<x>": "x"}}, "added tokens cannot be read: "),
    ("pair", {"added_tokens": {"<x>": -1}}, "read: '<x>' has the id -1"),
    ("pair", {"added_tokens": {"<x>": 10**30}}, "read: '<x>' has the id 1000"),
    ("one", {"added_tokens": {"<x>": 4.7}}, "read: '<x>' has the id 4.7"),
    (
      "pair",
      {"tokenizer_config": {"add_prefix_space": "false"}},
      "read: add_prefix_space is 'false'",
    ),
    (
      "pair",
      {
        "added_tokens": {"<x>": 7},
        "tokenizer_config": {"added_tokens_decoder": {"8": {"content": "<x>"}}},
      },
      "give '<x>' two ids",
    ),
  )
  def test_contradictions_are_refused(self, folder, files, message):
    """The error names the folder or the file."""
    with self.assertRaisesRegex(ValueError, f"{folder}.*{message}"):
      self.add(folder, **files)
    self.write(f"{folder}/added_tokens.json", "{")
    with self.assertRaisesRegex(
      ValueError, "added_tokens.json: not valid JSON"
    ):
      self.add(folder)
