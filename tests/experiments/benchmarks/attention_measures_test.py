"""Which contenders are measured; nothing is timed here."""

import contextlib
import io

from experiments.benchmarks import attention_measures
from experiments.benchmarks.attention_contenders import (
  AttentionShape,
  Contender,
  Prepared,
)
from tests.fixtures import base


class AttentionMeasuresTest(base.TestCase):
  def test_who_does_not_fit_is_left_out_with_a_note(self):
    """By the estimate before anything runs, or by the failure itself."""

    def fail(shape, dtype):
      raise RuntimeError("RESOURCE_EXHAUSTED: no memory\nand more")

    ran = []

    def prepare(shape, dtype):
      return Prepared(lambda: ran.append(dtype), None)

    competing = {
      "small": Contender("small", prepare),
      "large": Contender("large", fail, scores=8),
      "unlucky": Contender("unlucky", fail),
    }
    shape = AttentionShape(1, 1024, 1, 1)
    config = attention_measures.AttentionConfig((shape,), rounds=2)
    with contextlib.redirect_stdout(io.StringIO()):
      found = attention_measures.measure(config, competing, limit=4.0 * 1024**2)
    self.assertEqual(list(found.times[shape]), ["small"])
    self.assertNotEmpty(ran)
    self.assertLen(found.notes, 2)
    self.assertIn("large is left out at 1x1024x1x1", found.notes[0])
    self.assertIn("RESOURCE_EXHAUSTED: no memory", found.notes[1])
