"""JSON that others may have written."""

import pathlib
import tempfile

from jaxlook.runs.json_files import read_json
from tests.fixtures import base


class JsonFilesTest(base.TestCase):
  def test_files(self):
    """Content, or a ValueError: also for JSON that is nested without end."""
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    file = folder / "x.json"
    file.write_text('{"a": [1]}')
    self.assertEqual(read_json(file), {"a": [1]})
    for content, message in (
      (b"[" * 200_000, "^is nested too deeply$"),
      (b'{"a":' * 200_000, "^is nested too deeply$"),
      (b"", "Expecting value"),
      (b"\xff\xfe\xfa", "decode"),
      (b"9" * 5000, "digits"),
    ):
      file.write_bytes(content)
      with self.assertRaisesRegex(ValueError, message):
        read_json(file)
    with self.assertRaises(FileNotFoundError):
      read_json(folder / "nowhere")
