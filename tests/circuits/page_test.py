"""The page holds its data unchanged and loads no other files."""

import json
import re

from absl.testing import absltest

from jaxlook.circuits import page
from tests.fixtures import base

DATA = {
  "title": "</script><!-- <script> %%DATA%% %%STYLE%% $& \\u003c",
  "text": "\u2028 \U0001f600 \x00 \" '",
  "loss": [None, 0.5, -1e-9],
}


class PageTest(base.TestCase):
  def test_data_come_back(self):
    """No text in the data ends the element that holds the data."""
    _, _, rest = page.html(DATA).partition('type="application/json" id="data">')
    encoded, _, rest = rest.partition("</script>")
    self.assertEqual(json.loads(encoded), DATA)
    self.assertNotIn("<", encoded)
    self.assertEqual(rest.count("</script>"), 1)

  def test_nothing_is_left_to_fill_in_or_to_load(self):
    """No placeholder remains; no other file or host is named."""
    found = page.html({"title": "x"})
    self.assertNotIn("%%", found)
    self.assertIn("default-src 'none'", found)
    self.assertNotRegex(found, r"https?:|//[a-z]+\.|@import|url\(|import\(")
    self.assertEqual(re.findall(r"(?:src|href)=\S+", found), ['href="data:,">'])

  def test_numbers_must_be_finite(self):
    """JSON has no NaN, and a page that contains NaN would not open."""
    with self.assertRaisesRegex(ValueError, "not JSON compliant"):
      page.html({"loss": float("nan")})


if __name__ == "__main__":
  absltest.main()
