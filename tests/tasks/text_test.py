"""The text task: splits, windows, hosts, losses."""

import json
import pathlib
import pickle
import sys
import tempfile
from unittest import mock

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from hypothesis import strategies as st

from jaxlook.tasks import text
from jaxlook.text.token_file import TokenFile
from tests.fixtures import base


class TextTestCase(base.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def token_file(self, length: int, start: int = 0, **changes) -> TokenFile:
    """Writes the tokens start, start + 1, .., so each equals its position."""
    tokens = np.arange(start, start + length, dtype=np.uint32)
    path = self.folder / f"{start}-{length}.tokens"
    tokens.tofile(path)
    fields = {
      "path": path,
      "dtype": "uint32",
      "length": length,
      "vocab_size": 10**6,
      "num_bytes": 4 * length,
      "tokenizer": "bpe",
      "tokenizer_sha256": "b",
      "sha256": f"{start}-{length}",
    }
    return TokenFile(**(fields | changes))


class SplitTest(TextTestCase):
  @hypothesis.given(
    st.integers(1, 3000), st.integers(1, 9), st.floats(0.01, 0.99)
  )
  @hypothesis.settings(max_examples=50, deadline=None)
  def test_no_token_is_both_trained_on_and_held_out(
    self, tokens, length, held_out
  ):
    """The splits are disjoint and cover the text, or it is too short."""
    try:
      task = text.Text(self.token_file(tokens), None, length, held_out)
    except ValueError as error:
      self.assertIn("too short", str(error))
      return
    train, valid = task.train_tokens(), task.valid_tokens()
    self.assertEqual([*train, *valid], list(range(tokens)))
    trained = task.windows(0, range(3), 2)
    self.assertLess(trained.max(), valid[0])
    scored = task.validation_windows(10**6)
    self.assertGreater(scored.min(), train[-1])
    self.assertLen(set(scored.ravel()), scored.size)

  def test_the_cut_does_not_depend_on_the_length(self):
    """Models of other lengths are scored on the same held-out text."""
    file = self.token_file(1003)
    cuts = {len(text.Text(file, None, n).train_tokens()) for n in (1, 7, 16)}
    self.assertEqual(cuts, {953})

  def test_a_second_file_is_the_held_out_text(self):
    """With a validation text, all of the training text is used."""
    train, valid = self.token_file(40), self.token_file(20, 100, num_bytes=30)
    task = text.Text(train, valid, 4)
    self.assertEqual(task.train_tokens().tolist(), list(range(40)))
    self.assertEqual(task.valid_tokens().tolist(), list(range(100, 120)))
    self.assertEqual(task.valid_bytes_per_token, 1.5)
    self.assertEqual(text.Text(train, None, 1, 0.5).valid_bytes_per_token, 4.0)
    self.assertEqual(task.vocab_size, 10**6)

  def test_short_texts_are_refused(self):
    """At least two training windows and one validation window are needed."""
    text.Text(self.token_file(30), None, 9, 1 / 3)
    with self.assertRaisesRegex(
      ValueError, "train is too short: .* 9 need 10 tokens, not"
    ):
      text.Text(self.token_file(30), None, 9, 0.3)
    with self.assertRaisesRegex(
      ValueError, "train is too short: .* 9 need 20 tokens, not 1"
    ):
      text.Text(self.token_file(29), None, 9, 1 / 3)
    with self.assertRaisesRegex(ValueError, "valid is too short: windows"):
      text.Text(self.token_file(30), self.token_file(9, 100), 9)

  def test_settings_out_of_range_are_refused(self):
    """The error names the field and its value."""
    file = self.token_file(100)
    with self.assertRaisesRegex(ValueError, "length must be at least 1, not 0"):
      text.Text(file, length=0)
    for value in (0.0, 1.0, -0.1, float("nan")):
      with self.assertRaisesRegex(ValueError, rf"\(0, 1\), not {value}"):
        text.Text(file, held_out=value)

  def test_texts_that_do_not_match_are_refused(self):
    """The two texts must differ and share a tokenizer."""
    train, valid = self.token_file(400), self.token_file(100, 900)
    same = self.token_file(100, 900, sha256=train.sha256)
    with self.assertRaisesRegex(ValueError, "valid must differ from the tr"):
      text.Text(train, same)
    other = self.token_file(100, 900, tokenizer_sha256="c", tokenizer="gpt2")
    with self.assertRaisesRegex(ValueError, "tokenized with bpe .* with gpt2"):
      text.Text(train, other)
    text.Text(train, valid)


class WindowsTest(TextTestCase):
  def setUp(self):
    super().setUp()
    # 800 training windows of 5 tokens, 10 validation windows.
    self.train, self.valid = self.token_file(4003), self.token_file(52, 5000)
    self.task = text.Text(self.train, self.valid, 4)

  def starts(self, seed, steps, batch_size):
    return self.task.windows(seed, steps, batch_size)[..., 0].ravel().tolist()

  def test_windows_are_stretches_of_the_text(self):
    """Shape and dtype are as documented; tokens are consecutive."""
    windows = self.task.windows(3, range(5, 12), 6)
    self.assertEqual(windows.shape, (7, 6, 5))
    self.assertEqual(windows.dtype, np.int32)
    np.testing.assert_array_equal(np.diff(windows, axis=-1), 1)
    self.assertEqual(self.task.windows(3, range(0), 6).shape, (0, 6, 5))

  def test_an_epoch_visits_every_window_once(self):
    """Epochs are different permutations of the windows."""
    epochs = [self.starts(0, range(e, e + 1), 800) for e in range(3)]
    for epoch in epochs:
      self.assertEqual(sorted(epoch), list(range(0, 4000, 5)))
    self.assertLen({tuple(epoch) for epoch in epochs}, 3)

  def test_seeds_have_different_orders(self):
    """No epoch of a seed equals another epoch of another seed."""
    orders = {
      tuple(self.starts(seed, range(80 * epoch, 80 * epoch + 1), 10))
      for seed in range(5)
      for epoch in range(5)
    }
    self.assertLen(orders, 25)

  @hypothesis.given(
    st.integers(0, 2**40),
    st.integers(0, 200),
    st.integers(1, 20),
    st.integers(0, 6),
  )
  @hypothesis.settings(max_examples=30, deadline=None)
  def test_resuming_changes_nothing(self, seed, start, batch_size, cut):
    """Steps are the same if read together, separately or out of order."""
    steps = range(start, start + 6)
    whole = self.task.windows(seed, steps, batch_size)
    resumed = text.Text(self.train, self.valid, 4)
    second = resumed.windows(seed, steps[cut:], batch_size)
    first = resumed.windows(seed, steps[:cut], batch_size)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    backwards = self.task.windows(seed, steps[::-1], batch_size)
    np.testing.assert_array_equal(backwards[::-1], whole)

  def test_the_order_does_not_depend_on_the_batch_size(self):
    """For any batch size the windows have the same order."""
    self.assertEqual(self.starts(7, range(12), 3), self.starts(7, range(2), 18))

  def test_the_order_is_pinned(self):
    """A version of grain or NumPy that shuffles differently changes results."""
    self.assertEqual(
      self.starts(0, range(1), 8),
      [1165, 1885, 3270, 1230, 2035, 2140, 1215, 2450],
    )

  def test_validation_windows_are_spread_evenly(self):
    """The first is at the start; gaps differ by at most one window."""
    everything = self.task.validation_windows(10**6)
    self.assertEqual(everything.dtype, np.int32)
    self.assertEqual(everything[:, 0].tolist(), list(range(5000, 5050, 5)))
    np.testing.assert_array_equal(np.diff(everything, axis=-1), 1)
    for count in range(1, 11):
      starts = self.task.validation_windows(count)[:, 0]
      self.assertLen(starts, count)
      self.assertEqual(starts[0], 5000)
      gaps = np.diff([*starts, 5050])
      self.assertLessEqual(gaps.max() - gaps.min(), 5)
      self.assertGreaterEqual(gaps.min(), 5)

  def test_arguments_out_of_range_are_refused(self):
    """The error names the argument and its value."""
    with self.assertRaisesRegex(ValueError, "seed must be at least 0, not -1"):
      self.task.windows(-1, range(1), 2)
    with self.assertRaisesRegex(ValueError, "steps must be at least 0, not -2"):
      self.task.windows(0, range(-2, 1), 2)
    for size in (0, 801):
      with self.assertRaisesRegex(ValueError, rf"in 1\.\.800, .* not {size}"):
        self.task.windows(0, range(1), size)
    with self.assertRaisesRegex(ValueError, "count must be at least 1, not 0"):
      self.task.validation_windows(0)

  def test_pickles_without_its_tokens(self):
    """A pickled copy stores only paths and reads the same windows."""
    task = text.Text(self.token_file(50_000), None, 9)
    windows = task.windows(0, range(3), 4)
    sent = pickle.dumps(task)
    self.assertLess(len(sent), 1_000)
    copy = pickle.loads(sent)
    self.assertEqual(copy, task)
    np.testing.assert_array_equal(copy.windows(0, range(3), 4), windows)

  def test_without_grain(self):
    """Without `grain`, only validation windows can be read."""
    with mock.patch.dict(sys.modules, {"grain": None}):
      self.task.validation_windows(1)
      with self.assertRaisesRegex(ImportError, r"pip install jaxlook\[text\]"):
        self.task.windows(0, range(1), 2)

  def test_a_batch_is_shifted_by_one(self):
    """The target of a position is the next token."""
    fed = jnp.asarray(self.task.windows(0, range(1), 3)[0])
    batch = self.task.batch(jax.random.key(0), 3, fed)
    chex.assert_shape([batch.inputs, batch.targets], (3, 4))
    np.testing.assert_array_equal(batch.targets, batch.inputs + 1)
    with self.assertRaisesRegex(ValueError, "fed is None"):
      self.task.batch(jax.random.key(0), 3, None)
    with self.assertRaisesRegex(AssertionError, "shape"):
      self.task.batch(jax.random.key(0), 3, fed[:, 1:])


class DocumentsTest(TextTestCase):
  def setUp(self):
    super().setUp()
    # The documents have 2, 0, 4, 2 and 3 windows of 5 tokens.
    self.lengths = [12, 4, 20, 13, 15]
    self.file = self.documents(self.lengths)

  def documents(self, lengths, start=0):
    file = self.token_file(sum(lengths), start, documents=len(lengths))
    manifest = file.path.with_suffix(".json")
    manifest.write_text(json.dumps({"documents": lengths}))
    return file

  def test_no_window_spans_two_documents(self):
    """An epoch visits the windows of all documents, each once."""
    task = text.Text(self.file, self.documents([9, 5, 3], 100), 4)
    windows = task.windows(0, range(1), 11)[0]
    self.assertCountEqual(
      windows[:, 0], [0, 5, 16, 21, 26, 31, 36, 41, 49, 54, 59]
    )
    np.testing.assert_array_equal(np.diff(windows, axis=-1), 1)
    held_out = task.validation_windows(10)
    self.assertEqual(held_out[:, 0].tolist(), [100, 109])

  def test_the_cut_ends_a_document(self):
    """The held-out end is the same as in a text without documents."""
    task = text.Text(self.file, None, 4, 0.2)
    self.assertLen(task.train_tokens(), 51)
    trained = task.windows(0, range(1), 8)[0]
    self.assertCountEqual(trained[:, 0], [0, 5, 16, 21, 26, 31, 36, 41])
    held_out = task.validation_windows(10)
    self.assertEqual(held_out[:, 0].tolist(), [51, 56])

  def test_documents_that_do_not_match_are_refused(self):
    """Short documents, and separate documents in one text only, are errors."""
    with self.assertRaisesRegex(
      ValueError, "train has documents too short: 2 windows of 21 .* are 0"
    ):
      text.Text(self.file, self.documents([40], 100), 20)
    with self.assertRaisesRegex(
      ValueError, "valid has documents too short: 1 windows of 5 .* are 0"
    ):
      text.Text(self.file, self.documents([4, 4], 100), 4)
    with self.assertRaisesRegex(ValueError, "valid must keep documents sep"):
      text.Text(self.file, self.token_file(40, 100), 4)


class HostsTest(TextTestCase):
  def setUp(self):
    super().setUp()
    self.task = text.Text(self.token_file(4003), None, 4)

  @hypothesis.given(
    st.integers(0, 9), st.integers(0, 300), st.sampled_from([1, 2, 3, 4, 6])
  )
  @hypothesis.settings(max_examples=20, deadline=None)
  def test_hosts_read_parts_of_a_batch(self, seed, start, hosts):
    """The rows of all hosts, joined, are the batch of a single host."""
    steps = range(start, start + 3)
    whole = self.task.windows(seed, steps, 12)
    parts = [
      self.task.windows(seed, steps, 12, range(12)[first : first + 12 // hosts])
      for first in range(0, 12, 12 // hosts)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)

  def test_rows_outside_a_batch_are_refused(self):
    """The error names the rows."""
    with self.assertRaisesRegex(ValueError, r"rows must lie in 0\.\.2, not "):
      self.task.windows(0, range(1), 3, range(2, 4))


class LossTest(TextTestCase):
  def test_task_loss_is_cross_entropy(self):
    """A uniform guess costs log V at every position."""
    task = text.Text(self.token_file(153), None, 4)
    fed = jnp.asarray(task.windows(0, range(1), 3)[0])
    batch = task.batch(jax.random.key(0), 3, fed)
    np.testing.assert_allclose(
      task.loss(jnp.zeros((3, 4, 200)), batch), np.log(200.0), rtol=1e-6
    )

  def test_bits_per_byte(self):
    """A uniform guess costs 8 bits per byte, over bytes or pairs of bytes."""
    self.assertAlmostEqual(text.bits_per_byte(np.log(256), 10, 10), 8.0)
    self.assertAlmostEqual(text.bits_per_byte(np.log(65536), 5, 10), 8.0)
    np.testing.assert_allclose(
      text.bits_per_byte(np.log([2.0, 4.0]), 1, 2), [0.5, 1.0]
    )
    for counts in ((0, 1), (1, 0)):
      with self.assertRaisesRegex(ValueError, f"not {counts[0]}, {counts[1]}"):
        text.bits_per_byte(1.0, *counts)


if __name__ == "__main__":
  absltest.main()
