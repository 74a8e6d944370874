"""Which models a study takes: its own, a run folder's, a pretrained one's."""

import contextlib
import io
import pathlib
import tempfile

# The text task imports it late: its flags would go when saved ones come back.
import grain  # noqa: F401
import jax
import numpy as np
from absl.testing import flagsaver, parameterized

from experiments import gradient_anatomy, horizon, local_myopia, placebo
from experiments.common import app, study_setup
from experiments.setups import gradient_anatomy_setup
from jaxlook.models import Decoder, DecoderConfig, huggingface, init
from tests.fixtures import base, binaries
from tests.fixtures.microscope_pages import write_run

VARIANTS = ("causal", "myopic/kv")


def _study():
  return study_setup.build(
    "test", "Test", VARIANTS, precache=gradient_anatomy_setup.PRECACHE
  )


class StudySetupTest(base.TestCase):
  @classmethod
  def setUpClass(cls):
    """Trains one run folder that all tests read."""
    super().setUpClass()
    cls.root = pathlib.Path(
      cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    cls.run_folder = str(cls.root / "trained")
    with (
      flagsaver.flagsaver(preset="smoke", out=cls.run_folder),
      contextlib.redirect_stdout(io.StringIO()),
    ):
      cls.study = _study()
      with cls.study.open_run() as store:
        cls.trained = cls.study.subjects(store)

  def setUp(self):
    super().setUp()
    self.out = self.enterContext(tempfile.TemporaryDirectory())

  def _flags(self, **values):
    """Sets flags until the test ends, with a place for what is written."""
    values = {
      "preset": "smoke",
      "out": self.out,
      "cache": str(self.root / "cache"),
    } | values
    self.enterContext(flagsaver.flagsaver(**values))
    self.enterContext(contextlib.redirect_stdout(io.StringIO()))

  def _subjects(self, **values):
    """The study and its subjects under some flags."""
    self._flags(**values)
    study = _study()
    with study.open_run() as store:
      return study, study.subjects(store)

  def test_a_run_folder_gives_the_models_that_it_trained(self):
    """Parameters by variant, and the very same task."""
    self.assertEqual([s.variant for s in self.trained], list(VARIANTS))
    study, read = self._subjects(model=self.run_folder)
    self.assertEqual(study.problem.task, self.study.problem.task)
    for one, other in zip(self.trained, read, strict=True):
      self.assertEqual(one.variant, other.variant)
      self.assert_close(other.params, one.params, atol=0.0)

  def test_a_step_is_a_checkpoint(self):
    """`--step` reads what `at` reads, and not the end of training."""
    _, (causal, _) = self._subjects(model=self.run_folder, step=5)
    self.assert_close(causal.params, self.trained[0].at(5).params, atol=0.0)
    moved = jax.tree.map(
      lambda x, y: np.abs(x - y).max(), causal.params, self.trained[0].params
    )
    self.assertGreater(max(jax.tree.leaves(moved)), 0.0)

  def test_untrained_models_are_the_initial_ones(self):
    """Step 0 of every variant is the same, drawn from the seed."""
    fresh = [each.untrained() for each in self.trained]
    self.assertEqual(fresh[0].variant, "untrained")
    self.assert_close(fresh[0].params, fresh[1].params, atol=0.0)
    init_key = jax.random.split(jax.random.key(0))[0]
    expected = init(self.study.problem.model, init_key)
    first = jax.tree.map(lambda x: x[0], fresh[0].params)
    self.assert_close(first, expected, atol=1e-7)

  def test_a_pretrained_folder_is_one_model_on_text(self):
    """Its weights and shape, its own length, one seed."""
    shape = DecoderConfig(
      layers=1, width=8, heads=2, max_length=12, vocab_size=300
    )
    params = init(shape, jax.random.key(0))
    folder = pathlib.Path(self.out) / "gpt2"
    huggingface.save(folder, shape, params)
    study, (subject,) = self._subjects(
      model=str(folder), tokenizer="bytes", out=str(self.root / "pretrained")
    )
    self.assertTrue(study.on_text)
    self.assertEqual(study.problem.model.max_length, 12)
    self.assertEqual(subject.decoder, Decoder(study.problem.model))
    self.assert_close(
      jax.tree.map(lambda x: x[0], subject.params),
      huggingface.load(folder).params,
      atol=0.0,
    )

  @parameterized.parameters(
    ({"step": 5}, "^--step: needs --model, a run folder"),
    ({"model": "/nowhere"}, "^--model: /nowhere is not a folder"),
    (
      {"model": "{run}", "step": 7},
      "^--step: must be 0 or a step with a checkpoint",
    ),
    (
      {"model": "{run}", "layers": 2},
      "^--layers: cannot be combined with --model",
    ),
    ({"model": "{run}", "attention": ["leak:0.5"]}, "^--attention: .* has no"),
    ({"p": ["0.5", "1"]}, "^--p: must be one probability, not 2"),
  )
  def test_refusals(self, values, message):
    """Each bad value is one line that names its flag."""
    if values.get("model") == "{run}":
      values = values | {"model": self.run_folder}
    self._flags(**values)
    with (
      self.assertRaisesRegex(app.UsageError, message),
      app.settings_of(gradient_anatomy.__name__),
    ):
      study_setup.build("test", "Test", VARIANTS)

  def test_a_study_of_tokens_takes_no_models_of_other_tasks(self):
    """Whatever trained them: without a flag it trains on text itself."""
    self._flags(model=self.run_folder)
    with self.assertRaisesRegex(app.UsageError, "^--model: must be text"):
      study_setup.build("test", "Test", VARIANTS, precache=None)

  @parameterized.parameters(
    {"p": 0.5, "delay": 2, "terms": 1, "length": 8},
    {"k": 3, "length": 8},
    {},
  )
  def test_a_run_of_another_task(self, **about):
    """No text is missing: the task is not known, whatever it has in common."""
    folder = write_run(pathlib.Path(self.out) / "other", about)
    self._flags(model=str(folder))
    with self.assertRaisesRegex(
      app.UsageError, "^--model: .*/other was trained on a task that studies do"
    ):
      _study()

  @parameterized.parameters(
    (horizon, {"model": "runs/x"}, "^--model: has no effect on this"),
    (horizon, {"horizons": ["1", "2"]}, "^--horizons: must begin"),
    (horizon, {"horizons": ["0", "far"]}, "^--horizons: must be whole"),
    (local_myopia, {"attention": ["myopic"]}, "^--attention: has no effect"),
    (placebo, {"task": "text"}, "^--task: has no effect on this binary"),
    (placebo, {"distributed": "auto"}, "^--distributed: has no effect on"),
  )
  def test_refusals_of_binaries(self, binary, values, message):
    """What an experiment cannot use is refused before it trains."""
    self._flags(**values)
    with self.assertRaisesRegex(app.UsageError, message):
      app.check_read(binary.__name__, values)
      binaries.run_main(binary)
    self.assertEmpty(list(pathlib.Path(self.out).glob("arms/*")))
