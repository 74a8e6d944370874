"""Which variants are trained: what `--attention` says, or the default."""

from absl.testing import flagsaver, parameterized

from experiments.common import app, train_arms
from jaxlook.attention import parse_variant
from jaxlook.errors import SettingError
from jaxlook.models import DecoderConfig
from tests.fixtures import base

MODEL = DecoderConfig(layers=2, width=8, heads=2, max_length=4, vocab_size=3)


class ChosenVariantsTest(base.TestCase):
  def choose(self, choose, asked, default=(), **options):
    """Names of the variants that a function chooses under `--attention`."""
    with flagsaver.flagsaver(attention=asked):
      chosen = choose(default, MODEL, **options)
    for each in chosen:
      self.assertEqual(
        parse_variant(each.name, MODEL.layers, MODEL.heads), each
      )
    return [each.name for each in chosen]

  @parameterized.parameters(
    (None, (), ["causal"]),
    (None, ("myopic", "causal", "myopic/kv"), ["causal", "myopic/kv"]),
    (["horizon:2", "causal"], ("myopic",), ["causal", "horizon:2/kv"]),
    (["causal,causal", "leak:0.50"], (), ["causal", "leak:0.5/kv"]),
    (["self_only"], (), ["causal", "self_only"]),
  )
  def test_causal_comes_first_and_nothing_twice(self, asked, default, names):
    """The flag replaces the default; equal variants are one arm."""
    found = self.choose(train_arms.chosen_variants, asked, default)
    self.assertEqual(found, names)

  @parameterized.parameters("teacher", "causal,teacher/residual")
  def test_variants_with_a_teacher(self, form):
    """They are chosen where causal is trained before them, and only there."""
    with self.assertRaisesRegex(app.UsageError, "^--attention: .* a teacher"):
      self.choose(train_arms.chosen_variants, [form])
    found = self.choose(train_arms.chosen_variants, [form], trains_teacher=True)
    self.assertLen(found, 2)

  @parameterized.parameters("window:1", "self_only+causal", "zero_context")
  def test_variants_that_only_cut(self, form):
    """What changes the forward pass is refused, even in one head."""
    choose = train_arms.variants_that_only_cut
    self.assertLen(self.choose(choose, ["leak:0.5", "myopic,causal"]), 3)
    with self.assertRaisesRegex(app.UsageError, "^--attention: .* changes the"):
      self.choose(choose, ["myopic", form])

  @parameterized.parameters("magic", "causal,causal,causal", "")
  def test_forms_that_do_not_fit_are_refused(self, form):
    """By the name of the setting, which is the flag's."""
    with self.assertRaisesRegex(SettingError, "^attention '"):
      self.choose(train_arms.chosen_variants, [form])

  def test_a_run_folder_that_cannot_be_named(self):
    """Other libraries could not write it, and would say so after training."""
    with (
      flagsaver.flagsaver(out="\udcff"),
      self.assertRaisesRegex(app.UsageError, "^--out: must be a name in UTF-8"),
    ):
      train_arms.open_run("test", {})

  def test_named_variants_fit_the_model(self):
    """One a name, in order, whatever the flag says."""
    with flagsaver.flagsaver(attention=["myopic"]):
      found = train_arms.named_variants(["teacher/kv", "causal"], MODEL)
    self.assertEqual([each.name for each in found], ["teacher/kv", "causal"])
    self.assertEqual({(each.layers, each.heads) for each in found}, {(2, 2)})
