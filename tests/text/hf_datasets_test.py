"""Texts of the package `datasets`, and what is said without it."""

import importlib.util
import sys
import types
from unittest import mock

import pyarrow as pa
import pyarrow.feather as feather
from absl.testing import absltest, parameterized

from jaxlook.text import corpus, hf_datasets
from tests.fixtures.corpora import CorpusTestCase, tokenize

_TEXTS = ["one", "", None, "é two\n\nb", "three"]
_INSTALLED = importlib.util.find_spec("datasets") is not None


class Standing:
  """What `rows` uses of a `datasets.Dataset`, kept in a file of Arrow."""

  def __init__(self, path):
    self.path = path
    self.column_names = feather.read_table(path).column_names
    self.cache_files = [{"filename": str(path)}]

  def select_columns(self, names):
    self.names = names
    return self

  def iter(self, batch_size):
    table = feather.read_table(self.path, columns=self.names)
    for batch in table.to_batches(batch_size):
      yield batch.to_pydict()


class RowsTest(CorpusTestCase):
  def setUp(self):
    super().setUp()
    self.arrow = self.folder / "rows.arrow"
    self.save(_TEXTS)
    (self.folder / "saved").mkdir()
    self.write("saved/state.json", "{}")
    self.spec = f"datasets:{self.folder / 'saved'}"
    module = types.SimpleNamespace(
      load_from_disk=lambda name: Standing(self.arrow),
      load_dataset=mock.Mock(side_effect=ConnectionError("no\nnetwork")),
    )
    self.enter_context(mock.patch.dict(sys.modules, datasets=module))

  def save(self, texts):
    table = pa.table({"text": texts, "n": list(range(len(texts)))})
    feather.write_feather(table, str(self.arrow))

  def test_rows_are_documents(self):
    """One by one, or joined as files are; empty ones are passed over."""
    apart = tokenize(self.spec, self.cache, documents=True)
    self.assertEqual(apart.tokens().tobytes().decode(), "oneé two\n\nbthree")
    self.assertEqual(apart.ends().tolist(), [3, 12, 17])
    joined = tokenize(self.spec, self.cache)
    text = "one\n\né two\n\nb\n\nthree"
    self.assertEqual(joined.tokens().tobytes().decode(), text)
    self.assertEqual("".join(corpus.read_text(self.spec)), text)
    self.assertStartsWith(joined.path.name, "saved-")

  def test_other_rows_are_another_text(self):
    """The files that `datasets` keeps are in the key."""
    before = tokenize(self.spec, self.cache)
    with mock.patch.object(corpus, "read_text", side_effect=AssertionError):
      self.assertEqual(tokenize(self.spec, self.cache), before)
    self.save(["other"])
    after = tokenize(self.spec, self.cache)
    self.assertEqual(after.tokens().tobytes(), b"other")

  @parameterized.parameters(
    (",column=words", r"has no column 'words', only \['text', 'n'\]"),
    (",column=n", "column 'n' holds int, not text"),
    (",rows=3", "'rows=3' is none of config=, split=, column="),
    (",split", "'split' is none of"),
    (",split=test", "cannot be opened: no split 'test': the folder is of one"),
    ("/absent", "cannot be opened: no network"),
  )
  def test_refusals_are_one_line(self, more, message):
    """Each names what was asked for."""
    with self.assertRaisesRegex(ValueError, message) as caught:
      tokenize(self.spec + more, self.cache)
    self.assertIn(self.spec + more, str(caught.exception))
    self.assertNotIn("\n", str(caught.exception))

  def test_names_the_missing_extra(self):
    """Without the package a name is refused, and files go on working."""
    with mock.patch.dict(sys.modules, datasets=None):
      with self.assertRaisesRegex(
        ImportError, r"datasets:a/b needs datasets: .*jaxlook\[datasets\]"
      ):
        tokenize("datasets:a/b", self.cache)
      self.assertEqual(tokenize(self.write("t", "a"), self.cache).length, 1)


@absltest.skipUnless(_INSTALLED, "datasets, an optional package, is missing")
class RealRowsTest(CorpusTestCase):
  def test_a_folder_of_the_package_itself(self):
    """What `save_to_disk` wrote is read offline, by split and column."""
    import datasets  # pyright: ignore[reportMissingImports]

    datasets.disable_progress_bars()
    made = datasets.Dataset.from_dict({"words": _TEXTS})
    made.save_to_disk(str(self.folder / "one"))
    both = {"train": made, "test": made.select([0])}
    datasets.DatasetDict(both).save_to_disk(str(self.folder / "both"))
    for spec, wanted in (
      ("one,column=words", "one|é two\n\nb|three"),
      ("both,column=words", "one|é two\n\nb|three"),
      ("both,column=words,split=test", "one"),
    ):
      spec = f"{hf_datasets.PREFIX}{self.folder / spec}"
      source = hf_datasets.open_rows(spec)
      found = ["".join(document) for document in source.documents(1)]
      self.assertEqual("|".join(found), wanted)
      apart = tokenize(spec, self.cache, documents=True)
      self.assertEqual(apart.documents, len(found))
    with self.assertRaisesRegex(ValueError, "no split 'x', only train, test"):
      hf_datasets.open_rows(
        f"{hf_datasets.PREFIX}{self.folder / 'both'},split=x"
      )


if __name__ == "__main__":
  absltest.main()
