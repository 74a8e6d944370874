"""The benchmarks from end to end at tiny scale, and their arithmetic.

No time is asserted here: clocks are faked, and samples are made up.
"""

import contextlib
import io
import pathlib
import sys
import tempfile

import numpy as np
import pyarrow.parquet as pq
from absl import flags
from absl.testing import flagsaver, parameterized

from experiments.benchmarks import (
  attention,
  contenders,
  decoding,
  feeding,
  measuring,
  pieces,
  refit,
  step_memory,
  step_peak,
  targets,
  timing,
  train_report,
  train_step,
)
from experiments.benchmarks.contenders import Contender, Prepared, Shape
from experiments.benchmarks.pieces import Piece
from experiments.common import app
from jaxlook import stats
from tests.fixtures import base, binaries


class Clock:
  """A clock that stands still until it is pushed."""

  def __init__(self):
    self.now = 0.0

  def __call__(self) -> float:
    return self.now

  def work(self, seconds: float):
    """Work that takes this long, and counts its calls in `calls`."""

    def run() -> None:
      run.calls += 1
      self.now += seconds

    run.calls = 0
    return run


def samples(seconds) -> timing.Samples:
  """Samples of these times on one busy core."""
  seconds = np.asarray(seconds, np.float64)
  return timing.Samples(seconds, seconds, 1)


def around(middle: float, rounds: int = 15, spread: float = 0.01):
  """Samples within a spread of a middle."""
  steps = np.linspace(1 - spread, 1 + spread, rounds)
  return samples(middle * np.random.default_rng(0).permutation(steps))


class TimingTest(base.TestCase):
  def test_a_sample_is_the_time_of_one_call(self):
    """Short work is called several times, long work once; both are means."""
    clock = Clock()
    short, long = clock.work(0.003), clock.work(2.0)
    done = []
    found = timing.interleave(
      {"short": short, "long": long},
      3,
      clock=clock,
      cpu_clock=lambda: 1.5 * clock.now,
      tick=done.append,
    )
    self.assertEqual(done, [1, 2, 3])
    self.assertEqual(found["long"].calls, 1)
    self.assertGreaterEqual(found["short"].calls * 0.003, timing.SAMPLE_SECONDS)
    for name, seconds in (("short", 0.003), ("long", 2.0)):
      np.testing.assert_allclose(found[name].seconds, [seconds] * 3)
      self.assertAlmostEqual(found[name].busy_cores, 1.5)
    self.assertEqual(long.calls, 2 + 3)  # Two to warm up.
    part = found["long"].divided_by(4)
    np.testing.assert_allclose(part.seconds, [0.5] * 3)
    self.assertEqual(part.calls, 4)

  def test_a_clock_that_stands_still_ends(self):
    """Work that takes no measurable time is not repeated for ever."""
    found = timing.interleave(
      {"nothing": lambda: None}, 2, clock=Clock(), cpu_clock=Clock()
    )
    self.assertLessEqual(found["nothing"].calls, 1000)

  @parameterized.parameters(1, 2, 3, 4, 9)
  def test_order(self, count):
    """Everyone runs in every round, and first as often as last."""
    names = [str(index) for index in range(count)]
    rows = [timing.order(names, row) for row in range(2 * count)]
    for row in rows:
      self.assertCountEqual(row, names)
    firsts, lasts = ([row[i] for row in rows] for i in (0, -1))
    if count % 2:
      self.assertEqual({firsts.count(name) for name in names}, {2})
      self.assertCountEqual(firsts, lasts)
    if count > 2:
      pairs = {pair for row in rows for pair in zip(row, row[1:], strict=False)}
      self.assertGreater(len(pairs), count)

  def test_interleave_refuses_nothing(self):
    """No contender or no round is an error."""
    with self.assertRaisesRegex(ValueError, "rounds must be at least 1"):
      timing.interleave({}, 2)
    with self.assertRaisesRegex(ValueError, "rounds must be at least 1"):
      timing.interleave({"a": lambda: None}, 0)

  def test_ratio_cancels_what_slows_whole_rounds_down(self):
    """Rounds that are slow for both sides leave the interval narrow."""
    load = np.random.default_rng(1).uniform(1.0, 5.0, 21)
    found = timing.ratio(0.5 * load, load)
    self.assertAlmostEqual(found.estimate, 0.5)
    np.testing.assert_allclose(found.ci95, (0.5, 0.5))
    self.assertEqual((found.n, found.pairing), (21, "paired by round"))

  def test_ratio_of_noise_is_wide(self):
    """Independent noise of a half to double leaves no narrow interval."""
    noise = np.random.default_rng(2).uniform(0.5, 2.0, (2, 11))
    low, high = timing.ratio(*noise).ci95
    self.assertGreater(high - low, 0.1)

  def test_few_rounds_prove_nothing(self):
    """Five rounds that agree leave a target open, six reach it."""
    for rounds, verdict in ((5, "inconclusive"), (6, "supported")):
      shape = Shape(1, 4096, 4, 64)
      pair = {"causal": around(2.0, rounds), "myopic": around(1.0, rounds)}
      (claim,) = targets.time_claims({shape: pair}, "float32", "cpu")
      self.assertAlmostEqual(claim.estimate, 0.5, delta=0.01)
      self.assertEqual(claim.verdict, verdict)
      self.assertIn(
        "few samples" if rounds < 6 else "[", targets.table([claim])[1][2]
      )

  @parameterized.parameters(
    ([], [], "at least one round"),
    ([1.0, 2.0], [1.0], "for the same rounds"),
    ([1.0, np.nan], [1.0, 1.0], "finite"),
  )
  def test_ratio_refuses(self, over, under, message):
    """What has no interval is an error."""
    with self.assertRaisesRegex(ValueError, message):
      timing.ratio(np.array(over), np.array(under))


class TargetsTest(base.TestCase):
  @parameterized.parameters(
    (0.5, "supported"), (0.6, "inconclusive"), (0.9, "contradicted")
  )
  def test_verdict_follows_the_numbers(self, share, verdict):
    """Below, on and above the bound of 0.6."""
    shape = Shape(1, 4096, 4, 64)
    times = {
      shape: {
        "causal": around(2.0),
        "myopic": samples(around(2.0 * share, spread=0.02).seconds[::-1]),
      }
    }
    claims = targets.time_claims(times, "float32", "cpu")
    self.assertLen(claims, 1)
    self.assertEqual(claims[0].verdict, verdict)
    self.assertIn("1x4096x4x64", claims[0].id)
    words = {
      "supported": "reached",
      "contradicted": "missed",
      "inconclusive": "open",
    }
    self.assertEqual(targets.table(claims)[1][-1], words[verdict])

  def test_targets_speak_of_their_device_and_length(self):
    """All of a CPU in float32 at four shapes; cuDNN on a GPU in bfloat16."""
    everyone = (*contenders.OURS, contenders.JAX_NN, contenders.TORCH)
    names = dict.fromkeys((*everyone, contenders.CUDNN), around(1.0))
    times = {shape: names for shape in attention.PRESETS["cpu"].shapes}
    claims = targets.time_claims(times, "float32", "cpu")
    # 4 myopic / causal, 3 and 3 over jax.nn, 4 and 4 over torch, 2 horizons.
    self.assertLen(claims, 20)
    self.assertLen({claim.id for claim in claims}, 20)
    self.assertEmpty(targets.time_claims(times, "bfloat16", "cpu"))
    self.assertEmpty(targets.time_claims(times, "float32", "gpu"))
    self.assertLen(targets.time_claims(times, "bfloat16", "gpu"), 1)

  @parameterized.parameters(
    (200.0, 100.0, "supported", "supported"),
    (511.0, 500.0, "supported", "contradicted"),
    (900.0, 450.0, "contradicted", "supported"),
  )
  def test_memory(self, mib, half, bounded, linear):
    """Under 512 MiB, and twice that of half the length."""
    jitter = np.array([1.0, 1.0001, 0.9999]) * targets.MIB
    peaks = {
      Shape(1, 16384, 2, 64): {"myopic": mib * jitter},
      Shape(1, 8192, 2, 64): {"myopic": half * jitter},
    }
    verdicts = [
      claim.verdict for claim in targets.memory_claims(peaks, "float32", "cpu")
    ]
    self.assertEqual(verdicts, [bounded, linear])
    once = {shape: {"myopic": by["myopic"][:1]} for shape, by in peaks.items()}
    self.assertEmpty(targets.memory_claims(once, "float32", "cpu"))


class ShapeTest(base.TestCase):
  def test_shapes_are_read_as_they_are_written(self):
    """The flag's form goes there and back."""
    shape = contenders.parse_shape(" 1x4096x4x64 ")
    self.assertEqual(shape, Shape(1, 4096, 4, 64))
    self.assertEqual(str(shape), "1x4096x4x64")

  @parameterized.parameters(
    "",
    "1x2x3",
    "1x2x3x4x5",
    "1x2x3x0",
    "1x2x-3x4",
    "axbxcxd",
    "1 2 3 4",
    "²x1x1x1",
  )
  def test_malformed(self, text):
    """Anything but four positive numbers is refused with the form."""
    with self.assertRaisesRegex(ValueError, "BATCHxLENGTHxHEADSxWIDTH"):
      contenders.parse_shape(text)


class ContenderTest(base.TestCase):
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
    shape = Shape(1, 1024, 1, 1)
    config = measuring.ContendersConfig((shape,), rounds=2)
    with contextlib.redirect_stdout(io.StringIO()):
      found = measuring.measure(config, competing, limit=4.0 * 1024**2)
    self.assertEqual(list(found.times[shape]), ["small"])
    self.assertNotEmpty(ran)
    self.assertLen(found.notes, 2)
    self.assertIn("large is left out at 1x1024x1x1", found.notes[0])
    self.assertIn("RESOURCE_EXHAUSTED: no memory", found.notes[1])

  def test_quadratic_ones_are_estimated_so(self):
    """Naive attention at N = 16384 needs tens of GiB, ours does not."""
    shape = Shape(1, 16384, 2, 64)
    everyone = contenders.contenders("float32")
    naive = everyone[contenders.TWO_PATHS].bytes_needed(shape)
    self.assertGreater(naive, 20 * 2**30)
    self.assertLess(everyone["myopic"].bytes_needed(shape), 2**28)


class StepTest(base.TestCase):
  def test_flops_of_the_published_model(self):
    """Of its weights' products, the 151 MFLOP a sequence that are known."""
    setting = train_step.PRESETS["cpu"].settings[0]
    weights = sum(p.repeats * p.flops for p in pieces.products(setting))
    per_sequence = weights / setting.train.batch_size
    self.assertAlmostEqual(per_sequence / 1e6, 151, delta=1)
    causal, myopic = (
      pieces.step_flops(setting, v) - weights for v in ("causal", "myopic")
    )
    self.assertAlmostEqual(myopic / causal, 4 / 6)

  def test_what_is_left_unexplained(self):
    """A step of 10 with pieces of 2 x 3 and 1 leaves 0.3."""
    parts = [
      Piece("LayerNorm", 2, lambda: None),
      Piece("attention: causal", 1, lambda: None),
      Piece("attention: myopic", 1, lambda: None),
    ]
    times = {
      "causal": around(10.0),
      "LayerNorm": around(3.0),
      "attention: causal": around(1.0),
      "attention: myopic": around(5.0),
    }
    left = train_report.unexplained(parts, times, "causal")
    self.assertAlmostEqual(left.estimate, 0.3)

  @parameterized.parameters((0.5, "supported"), (1.0, "contradicted"))
  def test_verdicts_follow_the_numbers(self, seconds, verdict):
    """Half a second a step of 512 sequences is 1.75 times 584 or better."""
    setting = train_step.PRESETS["cpu"].settings[0]
    times = {
      "causal": around(seconds),
      "myopic": around(0.9 * seconds if seconds < 1 else seconds),
      "myopic/residual": around(seconds),
    }
    claims = targets.step_claims(setting, times, "cpu")
    self.assertEqual([c.verdict for c in claims], [verdict] * 4)
    self.assertEmpty(targets.step_claims(setting, times, "gpu"))


class SmokeTest(base.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.out = pathlib.Path(root) / "run"
    if not flags.FLAGS.is_parsed():
      flags.FLAGS(sys.argv[:1])

  def run_binary(self, binary, **values):
    """Runs a binary's main at smoke scale and returns what it printed."""
    values = {"preset": "smoke", "out": str(self.out)} | values
    with (
      flagsaver.flagsaver(**values),
      contextlib.redirect_stdout(io.StringIO()) as printed,
    ):
      binaries.run_main(binary)
    return printed.getvalue()

  def check_files(self, figure):
    """All files are there, and the table of cells agrees with the result."""
    result = binaries.result(self.out)
    self.assertEqual(result["preset"], "smoke")
    self.assertTrue((self.out / "figures" / figure).exists())
    self.assertIn(figure, (self.out / "report.md").read_text())
    table = pq.read_table(self.out / "cells.parquet")
    self.assertLen(result["cells"], table.num_rows)
    measured = pq.read_table(self.out / "measurements.parquet")
    self.assertContainsSubset(
      ["setting", "variant", "round", "seconds", "cpu_seconds"],
      measured.column_names,
    )
    return result, measured

  def test_attention(self):
    """Every contender has times, one has its memory, and ratios are shown."""
    printed = self.run_binary(attention, shapes=["1x32x1x4"])
    result, measured = self.check_files("attention.png")
    self.assertEqual(result["experiment"], "benchmarks.attention")
    self.assertEqual(result["config"]["shapes"], ["1x32x1x4"])
    times = {
      cell["variant"]: cell["metrics"]
      for cell in result["cells"]
      if cell["setting"] == "time 1x32x1x4"
    }
    self.assertContainsSubset(
      (*contenders.OURS, contenders.JAX_NN, contenders.TWO_PATHS), times
    )
    self.assertEqual(list(times), result["config"]["contenders"])
    for metrics in times.values():
      self.assertGreater(metrics["median_ms"], 0.0)
      self.assertEqual(metrics["rounds"], 2)
    memory = [c for c in result["cells"] if c["setting"] == "memory 1x16x2x8"]
    self.assertLen(memory, 1)
    self.assertEqual(memory[0]["metrics"]["processes"], 1)
    self.assertGreaterEqual(memory[0]["metrics"]["peak_mib"], 0.0)
    self.assertEqual(measured.num_rows, 2 * len(times) + 1)
    self.assertIn("over jax.nn causal", printed)
    self.assertIn(
      "myopic / causal <= 0.85 at 1x32x1x4", [c["id"] for c in result["claims"]]
    )

  def test_train_step(self):
    """Steps, pieces and seeds have times, and every share is shown."""
    printed = self.run_binary(train_step)
    result, _ = self.check_files("seeds.png")
    self.assertEqual(result["experiment"], "benchmarks.train_step")
    cells = {
      (c["setting"], c["variant"]): c["metrics"] for c in result["cells"]
    }
    setting = next(iter(cells))[0]
    for variant in ("causal", "myopic/residual"):
      metrics = cells[setting, variant]
      self.assertGreater(metrics["sequences_per_second"], 0.0)
      self.assertIn("unexplained", metrics)
      self.assertIn((setting, f"attention: {variant}"), cells)
    for piece in ("LayerNorm", "optimiser", "drawing the batch", "loss"):
      self.assertGreaterEqual(cells[setting, piece]["times_a_step"], 1)
    self.assertIn((f"{setting}, 2 seeds at once", "myopic"), cells)
    self.assertIn("unexplained", printed)
    self.assertEmpty(result["claims"])

  def test_refit(self):
    """Each changed limit is timed against those that are there."""
    printed = self.run_binary(refit)
    result = binaries.result(self.out)
    self.assertEqual(result["experiment"], "benchmarks.refit")
    self.assertEqual(
      [(c["setting"], c["variant"]) for c in result["cells"]],
      [
        (f"{own} at 2x16x2x8", name)
        for own in ("causal", "myopic")
        for name in ("as it is", "lanes=1")
      ],
    )
    self.assertIn("over as it is", printed)

  def test_decoding(self):
    """Each way is timed with a cache and without, by tokens added."""
    printed = self.run_binary(decoding)
    result = binaries.result(self.out)
    self.assertEqual(
      {(c["setting"], c["variant"]) for c in result["cells"]},
      {
        ("2 tokens", f"{way}, {how}")
        for way in ("greedy", "beam of 4")
        for how in ("with a cache", "anew")
      },
    )
    self.assertIn("tokens/s over anew", printed)
    self.assertTrue((self.out / "figures/tokens.png").exists())

  def test_step_memory(self):
    """Every part has its bytes, and the step was taken."""
    printed = self.run_binary(step_memory)
    result = binaries.result(self.out)
    self.assertEqual(result["experiment"], "benchmarks.step_memory")
    self.assertTrue((self.out / "figures/memory.png").exists())
    self.assertLen(result["cells"], 2)
    for cell in result["cells"]:
      found = cell["metrics"]
      total = 2 * found["params"] + found["optimizer"] + found["activations"]
      self.assertEqual(found["paper"], total)
      self.assertGreater(found["peak"], found["params"] + found["optimizer"])
    self.assertIn("and blocks again", printed)

  def test_a_step_that_does_not_fit(self):
    """It is compiled, and the report says what it would have taken."""
    size = step_memory.PRESETS["smoke"].long
    text = step_peak.told(step_peak.Case(step_memory.PLAIN, size), 100)
    found = step_peak.measure_here(*step_peak.parse(text))
    self.assertIsNone(found.peak)
    self.assertRegex(found.method, "not taken: needs .* of 9.31e-08 GiB")
    rows = step_memory.table({(size, "plain"): found, (size, "other"): "why"})
    self.assertEqual([row[-1] for row in rows[1:]], [found.method, "why"])

  def test_feeding(self):
    """Reading, steps and both are timed, and the ratios have targets."""
    printed = self.run_binary(feeding)
    result, _ = self.check_files("chunk.png")
    self.assertEqual(
      [c["variant"] for c in result["cells"]],
      ["reading", "reading, documents apart", "steps", "steps and reading"],
    )
    for cell in result["cells"]:
      self.assertGreater(cell["metrics"]["median_ms"], 0.0)
    self.assertLen(result["claims"], 2)
    self.assertIn("over the steps", printed)

  def test_feeding_holds_nothing_up_or_does(self):
    """A verdict for reading itself, one for steps with reading beside them."""
    steps = around(1.0)
    for read, both, wanted in (
      (around(0.01), steps, ["supported", "supported"]),
      (around(0.2), around(1.2), ["contradicted", "contradicted"]),
    ):
      found = feeding.claims(
        {
          ("m", feeding.READ): read,
          ("m", feeding.STEPS): steps,
          ("m", feeding.BOTH): both,
        }
      )
      self.assertEqual([claim.verdict for claim in found], wanted)

  @parameterized.parameters(
    (attention, {"shapes": ["1x2x3"]}, "^--shapes: a shape is BATCHx"),
    (attention, {"shapes": []}, "^--shapes: needs at least one"),
    (attention, {"memory_shapes": ["x"]}, "^--memory_shapes: a shape is"),
    (attention, {"out": "/proc/run"}, "^--out: cannot write"),
    (train_step, {"seed_counts": ["0"]}, "^--seed_counts: must be numbers"),
    (
      train_step,
      {"seed_counts": ["few"]},
      "^--seed_counts: must be whole",
    ),
    (train_step, {"out": "/dev/null/run"}, "^--out: .* no folder"),
    (step_memory, {"length": 0}, "^--length: must be at least 1, not 0"),
  )
  def test_bad_input_is_one_line(self, binary, values, message):
    """Refused by the flag's name before anything is compiled."""
    with self.assertRaisesRegex(app.UsageError, message) as caught:
      self.run_binary(binary, **values)
    self.assertLen(str(caught.exception).splitlines(), 1)
    self.assertFalse(self.out.exists())

  @parameterized.parameters(
    ("preset", "huge"), ("dtype", "float128"), ("rounds", "1")
  )
  def test_values_that_flags_know(self, name, value):
    """Unknown presets and dtypes, and a single round, are refused by absl."""
    with (
      self.assertRaisesRegex(flags.IllegalFlagValueError, f"--{name}="),
      flagsaver.as_parsed(**{name: value}),
    ):
      pass


class StatsTest(base.TestCase):
  def test_a_statistic_of_several_samples(self):
    """Rounds are drawn for all samples together."""
    a = np.arange(1.0, 9.0)
    found = timing.resampled(
      lambda x, y: np.median(x, axis=-1) - np.median(y, axis=-1), a, a
    )
    self.assertIsInstance(found, stats.Interval)
    self.assertEqual((found.estimate, *found.ci95), (0.0, 0.0, 0.0))
