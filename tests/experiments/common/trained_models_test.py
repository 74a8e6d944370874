"""What is read of a run folder and of a pretrained one, as the flags say."""

import contextlib
import pathlib
import tempfile
from unittest import mock

import jax
import numpy as np
from absl.testing import flagsaver, parameterized

from experiments.common import app, trained_models
from jaxlook.attention import parse_variant
from jaxlook.errors import SettingError
from jaxlook.models import Decoder, DecoderConfig, huggingface, init
from jaxlook.runs import open_store
from jaxlook.training import read_arm, run_arm
from tests.fixtures import base
from tests.fixtures.precache_problem import problem

CAUSAL, MYOPIC, TEACHER = (
  parse_variant(name, layers=1, heads=2)
  for name in ("causal", "myopic/kv", "teacher/kv")
)


class TrainedModelsTest(base.TestCase):
  @classmethod
  def setUpClass(cls):
    """Trains one run folder that all tests read."""
    super().setUpClass()
    cls.folder = pathlib.Path(
      cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    with open_store(cls.folder / "run", {"experiment": "test"}) as store:
      for variant in (MYOPIC, CAUSAL):
        run_arm(store, problem(), variant)
      teacher = read_arm(cls.folder / "run" / "arms" / "causal")
      run_arm(store, problem(), TEACHER, teacher=teacher)
    cls.run_folder = cls.folder / "run"

  def setUp(self):
    super().setUp()
    self.arms = trained_models.finished_arms(self.run_folder)

  def choose(self, *asked, default=()):
    """Names of the arms that `--attention` chooses."""
    with flagsaver.flagsaver(attention=list(asked) or None):
      chosen = trained_models.chosen_arms(self.arms, self.run_folder, default)
    return [arm.variant for arm in chosen]

  def test_arms_carry_their_variants(self):
    """Each is the one that it was trained under."""
    self.assertTrue(trained_models.is_run(self.run_folder))
    self.assertEqual(
      {arm.attention for arm in self.arms}, {CAUSAL, MYOPIC, TEACHER}
    )
    for arm in self.arms:
      self.assertEqual(arm.decoder, Decoder(problem().model, arm.attention))

  def test_arms_are_chosen_by_any_form_in_the_order_asked_for(self):
    """Without a flag all are, or the default, but none with a teacher."""
    self.assertEqual(self.choose(), ["causal", "myopic/kv"])
    self.assertEqual(self.choose(default=[MYOPIC]), ["myopic/kv"])
    self.assertEqual(
      self.choose("myopic", "causal", "myopic/kv"), ["myopic/kv", "causal"]
    )
    self.assertEqual(self.choose("causal", default=[MYOPIC]), ["causal"])

  @parameterized.parameters("leak:0.5", "teacher")
  def test_arms_that_are_not_there_are_refused(self, form):
    """Nor is a model that reads a teacher among those to take apart."""
    with self.assertRaisesRegex(app.UsageError, "^--attention: "):
      self.choose(form)

  @parameterized.parameters("magic", "causal,causal")
  def test_forms_of_no_variant_are_refused(self, form):
    """As the library does it, by the setting's name."""
    with self.assertRaisesRegex(SettingError, "^attention '"):
      self.choose(form)

  def test_subjects_at_steps(self):
    """The last step by default; step 0 is what the seeds draw."""
    (arm,) = (arm for arm in self.arms if arm.attention == CAUSAL)
    subject = trained_models.trained(arm)
    self.assertEqual((subject.variant, subject.seeds), ("causal", (0, 3)))
    self.assert_close(subject.params, arm.params(), atol=0.0)
    fresh = subject.untrained()
    self.assertEqual(fresh.variant, trained_models.UNTRAINED)
    self.assert_close(fresh.params, subject.at(0).params, atol=0.0)
    self.assertEqual(trained_models.diverged_seeds([subject, fresh]), {})
    with flagsaver.flagsaver(step=0):
      first = trained_models.trained(arm)
    self.assertEqual(first.variant, trained_models.UNTRAINED)
    self.assert_close(first.params, fresh.params, atol=0.0)
    with flagsaver.flagsaver(step=5):
      with self.assertRaisesRegex(
        SettingError, "^step must be 0 or a step with a checkpoint"
      ):
        trained_models.trained(arm)

  def test_a_pretrained_model_is_one_seed(self):
    """Under causal attention; there is no other step of it."""
    shape = DecoderConfig(
      layers=1, width=8, heads=2, max_length=12, vocab_size=30
    )
    folder = self.folder / "gpt2"
    params = init(shape, jax.random.key(3))
    huggingface.save(folder, shape, params)
    self.assertFalse(trained_models.is_run(folder))
    subject = trained_models.pretrained(folder)
    self.assertEqual(subject.variant, trained_models.PRETRAINED)
    self.assertEqual(subject.decoder.config, huggingface.load(folder).config)
    self.assertEqual(subject.decoder.variant, CAUSAL)
    first = jax.tree.map(lambda x: x[0], subject.params)
    self.assert_close(first, huggingface.load(folder).params, atol=0.0)
    fresh = subject.untrained()
    self.assertEqual(fresh.seeds, (0,))
    self.assertFalse(
      np.array_equal(
        fresh.params["token_embedding"]["embedding"],
        subject.params["token_embedding"]["embedding"],
      )
    )
    with self.assertRaisesRegex(ValueError, "no other steps"):
      subject.at(1)

  def test_folders_without_models_are_refused(self):
    """No arm, or nothing of either kind."""
    empty = self.folder / "empty"
    (empty / "arms").mkdir(parents=True)
    with self.assertRaisesRegex(app.UsageError, "^--model: .* no finished arm"):
      trained_models.finished_arms(empty)
    with self.assertRaisesRegex(app.UsageError, "^--model: .* not a folder"):
      trained_models.pretrained(self.folder / "nowhere")

  @parameterized.parameters("arms", "arms/causal", "arms/causal/checkpoints")
  def test_a_part_of_a_run_is_not_the_run(self, part):
    """Its config.json describes no model; the message says what to give."""
    with self.assertRaisesRegex(
      app.UsageError, "^--model: .* is a part of the run folder .*/run; give th"
    ):
      trained_models.pretrained(self.run_folder / part)

  def test_a_run_is_no_pretrained_model(self):
    """Where only those are taken."""
    with self.assertRaisesRegex(
      app.UsageError, "^--from: .*/run is a run folder; give a Hugging Face fol"
    ):
      with trained_models.reading_weights("from", self.run_folder):
        huggingface.load(self.run_folder)

  def test_a_model_that_overflows(self):
    """Measures of it would mean nothing."""
    subject = mock.Mock(params={"x": np.zeros(1)}, decoder=None)
    task = mock.Mock(loss=lambda outputs, batch: outputs)
    for loss, refused in ((1.0, False), (np.inf, True), (np.nan, True)):
      with (
        mock.patch.object(trained_models, "held_out_batch"),
        mock.patch.object(
          trained_models, "position_losses", lambda *_, x=loss: np.array(x)
        ),
        self.assertRaisesRegex(app.UsageError, "^--model: x gives losses that")
        if refused
        else contextlib.nullcontext(),
      ):
        trained_models.check_losses(
          subject, mock.Mock(task=task), pathlib.Path("x")
        )
