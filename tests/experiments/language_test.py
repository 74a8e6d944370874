"""The language binary from end to end, on the generated text."""

import json
import pathlib
import tempfile

# The text task imports it late: its flags would go when saved ones come back.
import grain  # noqa: F401
import numpy as np
from absl.testing import parameterized

from experiments import language
from experiments.reports import language as report
from jaxlook.training import start_from
from tests.fixtures import base, binaries, hf_folders


class LanguageTest(base.TestCase):
  def test_smoke_run_writes_what_it_promises(self):
    """Losses in two units, beside counts, on a text said to be generated."""
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    done = binaries.run(
      "language",
      "--preset=smoke",
      f"--out={root / 'run'}",
      f"--cache={root / 'cache'}",
      "--attention=myopic/kv",
      "--attention=zero_context",
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn("a generated text", done.stdout)
    result = binaries.result(root / "run")
    report = (root / "run/report.md").read_text()
    self.assertIn("a generated text", report)
    # 20 steps of training, against counts of all of the text.
    self.assertIn("\nUnder-trained: causal attention (", report)
    metrics = {
      (cell["variant"], cell["seed"]): cell["metrics"]
      for cell in result["cells"]
    }
    trained = ("causal", "myopic/kv", "zero_context")
    counts = ("unigram counts", "bigram counts") + tuple(
      f"{n}-gram counts" for n in (3, 4, 5)
    )
    self.assertEqual(
      set(metrics),
      {(v, seed) for v in trained for seed in (0, 1)}
      | {(c, 0) for c in counts},
    )
    for found in metrics.values():
      # The generated text is ASCII: a byte is a token.
      self.assertAlmostEqual(
        found["bits_per_byte"], found["loss"] / np.log(2.0), places=6
      )
    losses = [metrics[name, 0]["loss"] for name in counts]
    self.assertEqual(losses, sorted(losses, reverse=True))
    # 20 steps from ln 256: the model has begun to learn.
    self.assertLess(metrics["causal", 0]["loss"], np.log(256.0))
    claims = {claim["id"] for claim in result["claims"]}
    self.assertEqual(claims, {"gap", "bigram"})


class PrecisionTest(binaries.RefusalTestCase):
  def test_every_arm_in_both_precisions(self):
    """Both are reported, rounded differently, and their gaps compared."""
    result, report = self.run_here(
      language,
      cache=str(self.root / "cache"),
      attention=["myopic/kv"],
      steps=5,
      both_precisions=True,
    )
    losses = {}
    for cell in result["cells"]:
      if "counts" not in cell["variant"]:
        key = cell["setting"], cell["variant"], cell["seed"]
        losses[key] = cell["metrics"]["loss"]
    self.assertLen(losses, 8)
    for (setting, *arm), loss in losses.items():
      if setting == "float32":
        other = losses["bfloat16", *arm]
        self.assertNotEqual(loss, other)
        self.assertAlmostEqual(loss, other, delta=0.05)
    self.assertEqual(
      [claim["id"] for claim in result["claims"]],
      ["float32/gap", "bfloat16/gap", "precision/myopic/kv"],
    )
    shares = []
    for e in (0, 1):
      wide, narrow = (
        losses[setting, "myopic/kv", e] - losses[setting, "causal", e]
        for setting in ("float32", "bfloat16")
      )
      shares.append(narrow / wide - 1)
    np.testing.assert_allclose(
      result["claims"][-1]["estimate"], np.mean(shares), rtol=1e-3
    )
    self.assertIn("## Claims across settings", report)

  @parameterized.parameters(
    ({"bfloat16": True}, "^--both_precisions: cannot be combined"),
    ({"valid": ["a", "b"]}, "^--valid: must be one text with --both"),
  )
  def test_refuses(self, values, message):
    """Before any text is read."""
    self.refuse(language, message, both_precisions=True, **values)

  def test_agreement_is_a_share_of_the_gap(self):
    """Of 0.5 nats more than 0.05 do not agree."""
    plain = {"causal": {0: 1.0, 1: 1.1, 2: 1.2}}
    plain["myopic/kv"] = {0: 1.5, 1: 1.6, 2: 1.7}
    for change, verdict in ((0.04, "supported"), (-0.06, "contradicted")):
      moved = {
        "causal": plain["causal"],
        "myopic/kv": {
          seed: loss + change + 1e-4 * seed
          for seed, loss in plain["myopic/kv"].items()
        },
      }
      (claim,) = report.precision_claims({"float32": plain, "bfloat16": moved})
      self.assertEqual(claim.verdict, verdict)
    self.assertEqual(report.precision_claims({"": plain}), [])


class FineTuningTest(binaries.RefusalTestCase):
  def test_fine_tuning_with_a_local_arm_on_several_texts(self):
    """All seeds share a start, which the arm names; every text is scored."""
    root = self.root
    model = hf_folders.folder(root / "tiny")
    texts = []
    for name in ("train", "first", "second"):
      texts.append(root / name)
      texts[-1].write_text(
        f"the {name} thing that they thought of, then\n" * 200
      )
    first, *held_out = map(str, texts)
    result, report = self.run_here(
      language,
      cache=str(root / "cache"),
      corpus=first,
      valid=held_out,
      attention=["teacher/residual"],
      steps=10,
      learning_rate=1e-3,
      **{"from": [model]},
    )
    cells = [
      cell for cell in result["cells"] if "counts" not in cell["variant"]
    ]
    self.assertEqual(
      [(cell["variant"], cell["seed"]) for cell in cells],
      [(v, seed) for v in ("causal", "teacher/residual") for seed in (0, 1)],
    )
    for cell in result["cells"]:
      # The texts differ in a few words, and so do the losses, if little.
      metrics = cell["metrics"]
      self.assertNotEqual(metrics["loss"], metrics["loss on second"])
      self.assertAlmostEqual(
        metrics["loss"], metrics["loss on second"], delta=0.5
      )
    claims = {claim["id"] for claim in result["claims"]}
    self.assertEqual(claims, {"teacher/residual/bonus"})
    self.assertIn("Paired differences on second", report)
    self.assertIn("same pretrained weights", report)
    config = json.loads((root / "run/arms/causal/config.json").read_text())
    self.assertEqual(config["start"], start_from(model)[1].about)
    self.assertEqual(config["model"]["max_length"], 20)
