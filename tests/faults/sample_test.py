"""Malformed input of every kind: refused in one line, before any training.

A small part of what `tests/faults/abuse.py` tries, in this process.
"""

import contextlib
import importlib
import io
import pathlib
import random
import tempfile
from unittest import mock

from absl import app as absl_app
from absl import flags
from absl.testing import flagsaver

from experiments.common import app, stderr_filter, train_arms
from jaxlook.training import multihost
from tests.faults import inputs
from tests.fixtures import base

BINARIES = {
  name: importlib.import_module(f"experiments.{name}")
  for name in (
    "gradient_anatomy",
    "gradients",
    "language",
    "memories",
    "microscope",
    "multiplication",
    "placebo",
    "planning",
    "precache",
    "scaling",
    "benchmarks.attention",
    "benchmarks.train_step",
  )
}
_TRAINING = "training begins"


class SampleTest(base.TestCase):
  @classmethod
  def setUpClass(cls):
    """Writes the files, and draws a case of every kind."""
    super().setUpClass()
    cls.root = pathlib.Path(
      cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    inputs.write_files(cls.root)
    known = {
      name: {
        flag: flags.FLAGS[flag].flag_type()
        for flag in app.read_by(module.__name__)
      }
      for name, module in BINARIES.items()
    }
    by_kind: dict[str, list[inputs.Case]] = {}
    for case in inputs.cases(cls.root, known):
      by_kind.setdefault(case.kind, []).append(case)
    # Those need trained runs.
    del by_kind["run folder"]
    draw = random.Random(0)
    cls.cases = [draw.choice(by_kind[kind]) for kind in sorted(by_kind)]

  def attempt(self, case: inputs.Case) -> str:
    """What a binary prints of its refusal, or `_TRAINING`."""
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for name, content in case.files.items():
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      (folder / name).write_bytes(content)
    module, argv = BINARIES[case.binary], [case.binary, *case.arguments]
    errors = io.StringIO()
    with (
      flagsaver.flagsaver(),
      contextlib.chdir(folder),
      contextlib.redirect_stderr(errors),
      contextlib.redirect_stdout(io.StringIO()),
      mock.patch.object(train_arms, "open_store", side_effect=EOFError),
      mock.patch.object(multihost, "join"),
      mock.patch.object(stderr_filter, "filter_stderr"),
      mock.patch.object(
        absl_app, "run", lambda main, flags_parser: main(flags_parser(argv))
      ),
    ):
      try:
        app.run(module.main)
      except EOFError:
        return _TRAINING
      except SystemExit as end:
        self.assertEqual(end.code, app.BAD_INPUT)
    return errors.getvalue()

  def test_every_kind(self):
    """One line that names the flag, or training that may begin."""
    for case in self.cases:
      with self.subTest(f"{case.kind}: {case.binary} {case.arguments}"):
        said = self.attempt(case)
        if said not in (_TRAINING, ""):
          self.assertRegex(said, r"\A(--\w+|unexpected argument).*\n\Z")
