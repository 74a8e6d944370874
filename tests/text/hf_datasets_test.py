"""Texts of the package `datasets`, and the error without it."""

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


class FakeDataset:
  """The part of `datasets.Dataset` that `Rows` uses, on an Arrow file."""

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
      load_from_disk=lambda name: FakeDataset(self.arrow),
      load_dataset=mock.Mock(side_effect=ConnectionError("no\nnetwork")),
    )
    self.enter_context(mock.patch.dict(sys.modules, datasets=module))

  def save(self, texts):
    table = pa.table({"text": texts, "n": list(range(len(texts)))})
    feather.write_feather(table, str(self.arrow))

  def test_rows_are_documents(self):
    """Rows are kept separate or joined, without empty rows."""
    separate = tokenize(self.spec, self.cache, documents=True)
    self.assertEqual(separate.tokens().tobytes().decode(), "oneé two\n\nbthree")
    self.assertEqual(separate.ends().tolist(), [3, 12, 17])
    joined = tokenize(self.spec, self.cache)
    text = "one\n\né two\n\nb\n\nthree"
    self.assertEqual(joined.tokens().tobytes().decode(), text)
    self.assertEqual("".join(corpus.read_text(self.spec)), text)
    self.assertStartsWith(joined.path.name, "saved-")

  def test_other_rows_are_another_text(self):
    """The files on disk are part of the cache key."""
    before = tokenize(self.spec, self.cache)
    with mock.patch.object(corpus, "read_text", side_effect=AssertionError):
      self.assertEqual(tokenize(self.spec, self.cache), before)
    self.save(["other"])
    after = tokenize(self.spec, self.cache)
    self.assertEqual(after.tokens().tobytes(), b"other")

  @parameterized.parameters(
    (",column=words", r"no column 'words'; it has \['text', 'n'\]"),
    (",column=n", "column 'n' contains int, not text"),
    (",rows=3", "'rows=3' is unknown; use one of config=, split=, column="),
    (",split", "'split' is unknown"),
    (",split=test", "cannot be opened: no split 'test': the folder holds"),
    ("/absent", "cannot be opened: no network"),
  )
  def test_errors_are_one_line(self, more, message):
    """Each error names the argument."""
    with self.assertRaisesRegex(ValueError, message) as caught:
      tokenize(self.spec + more, self.cache)
    self.assertIn(self.spec + more, str(caught.exception))
    self.assertNotIn("\n", str(caught.exception))

  def test_without_the_package(self):
    """Without the package, data sets are an error and files still work."""
    with mock.patch.dict(sys.modules, datasets=None):
      with self.assertRaisesRegex(
        ImportError, r"datasets:a/b needs datasets: .*jaxlook\[datasets\]"
      ):
        tokenize("datasets:a/b", self.cache)
      self.assertEqual(tokenize(self.write("t", "a"), self.cache).length, 1)


@absltest.skipUnless(_INSTALLED, "datasets, an optional package, is missing")
class RealRowsTest(CorpusTestCase):
  def test_a_folder_written_by_the_package(self):
    """A `save_to_disk` folder is read offline, by split and column."""
    import datasets  # pyright: ignore[reportMissingImports]

    datasets.disable_progress_bars()
    made = datasets.Dataset.from_dict({"words": _TEXTS})
    made.save_to_disk(str(self.folder / "one"))
    both = {"train": made, "test": made.select([0])}
    datasets.DatasetDict(both).save_to_disk(str(self.folder / "both"))
    for spec, expected in (
      ("one,column=words", "one|é two\n\nb|three"),
      ("both,column=words", "one|é two\n\nb|three"),
      ("both,column=words,split=test", "one"),
    ):
      spec = f"{hf_datasets.PREFIX}{self.folder / spec}"
      source = hf_datasets.open_rows(spec)
      documents = ["".join(document) for document in source.documents(1)]
      self.assertEqual("|".join(documents), expected)
      separate = tokenize(spec, self.cache, documents=True)
      self.assertEqual(separate.documents, len(documents))
    with self.assertRaisesRegex(ValueError, "no split 'x'; it has train, test"):
      hf_datasets.open_rows(
        f"{hf_datasets.PREFIX}{self.folder / 'both'},split=x"
      )


if __name__ == "__main__":
  absltest.main()
