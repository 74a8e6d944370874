"""Lists, shows and compares run folders."""

import contextlib
import errno
import io
import pathlib
import tempfile
from unittest import mock

from absl.testing import parameterized

from experiments import runs
from experiments.common import app
from experiments.reports import runs as report
from experiments.reports import runs_compared
from jaxlook.runs import inventory
from tests.fixtures import base, binaries, run_folders


class RunsTestCase(base.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.root = pathlib.Path(root)

  def say(self, *arguments) -> tuple[int, str, str]:
    """Runs the binary here; returns status, output and errors."""
    status = 0
    with (
      contextlib.redirect_stdout(io.StringIO()) as printed,
      contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
      try:
        runs.main(*map(str, arguments))
      except SystemExit as error:
        status = error.code
    return status, printed.getvalue(), errors.getvalue()

  def made(self, name, *, config=None, seeds=(0, 1, 2), add=0.0, **values):
    """A run of two finished arms."""
    run = run_folders.run(self.root / name, config)
    for variant, gap in (("causal", 0.0), ("myopic/kv", 0.5)):
      run_folders.training(
        run / "arms" / variant.replace("/", "+"),
        variant,
        seeds,
        losses=[1.0 + add + gap + 0.01 * seed**2 for seed in seeds],
        **values,
      )
    return run


class RealRunTest(RunsTestCase):
  def test_a_smoke_run(self):
    """Read as it was written, from another process, and left as it was."""
    out = self.root / "runs/precache-smoke"
    done = binaries.run(
      "precache", "--preset=smoke", "--attention=self_only", f"--out={out}"
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    before = {
      path: path.stat().st_mtime_ns for path in sorted(self.root.rglob("*"))
    }
    listed = binaries.run("runs", "list", str(self.root))
    self.assertEqual((listed.returncode, listed.stderr), (0, ""))
    header, row = listed.stdout.splitlines()
    self.assertEqual(header.split()[:4], ["changed", "size", "arms", "seeds"])
    self.assertRegex(row, r"^20\d\d-\d\d-\d\d \d\d:\d\d  \d\S*[BKM] ")
    self.assertIn("  2/2   0-1    20     yes     precache  ", row)
    self.assertEndsWith(row, f"  {out}")
    status, printed, errors = self.say("show", out)
    self.assertEqual((status, errors), (0, ""))
    losses = {
      variant: [
        cell["metrics"]["loss"]
        for cell in binaries.result(out)["cells"]
        if cell["variant"] == variant
      ]
      for variant in ("causal", "self_only")
    }
    for variant, values in losses.items():
      self.assertRegex(
        printed,
        rf"{variant} +│ 0-1 +│ 20 +│ finished │ {sum(values) / 2:.4g} ",
      )
    self.assertRegex(printed, r"  train\.steps +20\n")
    self.assertRegex(printed, r"2 checkpoints, \d")
    self.assertIn("  add seeds: the same command with --seeds=", printed)
    status, printed, errors = self.say("compare", out, out)
    self.assertEqual((status, errors), (0, ""))
    self.assertIn("Settings that differ: none", printed)
    self.assertIn("0 [0, 0]", printed)
    self.assertIn("paired by seed, n=2", printed)
    self.assertIn("Exploratory: ", printed)
    after = {
      path: path.stat().st_mtime_ns for path in sorted(self.root.rglob("*"))
    }
    self.assertEqual(before, after)


class ListTest(RunsTestCase):
  def test_damaged_runs_have_rows(self):
    """What is wrong stands there, and the others follow."""
    self.made("a")
    (self.made("b") / "config.json").write_text("{")
    (self.made("c") / "result.json").write_text("[]")
    self.made("d")
    status, printed, errors = self.say("list", self.root)
    self.assertEqual((status, errors), (0, ""))
    _, a, b, c, d = printed.splitlines()
    self.assertIn("2/2   0-2    400    no      precache  ", a)
    self.assertStartsWith(b, "damaged: config.json does not hold JSON: ")
    self.assertStartsWith(c, "damaged: result.json does not hold a JSON object")
    for line, name in ((a, "a"), (b, "b"), (c, "c"), (d, "d")):
      self.assertEndsWith(line, f"  {self.root / name}")

  def test_a_terminal_of_80_columns(self):
    """Long names lose their middle, and the preset gives way."""
    entries = []
    for name in ("short", "a_rather_long_name_" * 4):
      config = run_folders.CONFIG | {"experiment": "gradient_anatomy"}
      run = run_folders.run(self.root / name, config)
      run_folders.training(run / "arms/causal", "causal", (0, 1, 4))
      run_folders.report(run)
      entries.append((pathlib.Path(name), inventory.read_run(run)))
    entries.append((pathlib.Path("x" * 90), "it is damaged " * 9))
    lines = report.listing(entries, 80)
    self.assertLen(lines, 4)
    for line in lines:
      self.assertLessEqual(len(line), 80, line)
    self.assertNotIn("preset", lines[0])
    self.assertRegex(lines[2], r"0-1,4 .* gradi…tomy  a_rat\w+…\w+name_$")
    wide = report.listing(entries[:1], 120)
    self.assertEndsWith(wide[1], "  yes     gradient_anatomy  cpu     short")

  def test_a_folder_that_may_not_be_read(self):
    """A row of the list; for `show` a fault of the machine, with status 1."""
    run = self.made("a")
    denied = PermissionError(errno.EACCES, "Permission denied", str(run))
    with mock.patch.object(inventory, "read_run", side_effect=denied):
      status, printed, errors = self.say("list", run)
      self.assertEqual((status, errors), (0, ""))
      self.assertRegex(printed, "\ndamaged: .*: Permission denied ")
      status, printed, errors = self.say("show", run)
    self.assertEqual((status, printed), (1, ""))
    self.assertEqual(errors, f"{run}: Permission denied\n")

  def test_what_cannot_be_listed(self):
    """One line each; the other folders are listed."""
    self.made("runs/a")
    status, printed, errors = self.say(
      "list", self.root / "none", self.root / "runs"
    )
    self.assertEqual(status, app.BAD_INPUT)
    self.assertEqual(errors, f"{self.root / 'none'} is not there\n")
    self.assertLen(printed.splitlines(), 2)
    (self.root / "empty").mkdir()
    status, printed, errors = self.say("list", self.root / "empty")
    self.assertEqual((status, errors), (0, ""))
    self.assertEqual(printed, f"no runs in {self.root / 'empty'}\n")


class ShowTest(RunsTestCase):
  def test_how_far_trainings_are(self):
    """Begun, stopped, finished, diverged; of any folder of an arm."""
    run = self.made("run", seeds=(0, 1))
    arm = run / "arms/myopic+kv"
    run_folders.training(
      arm / "seeds~2-3", "myopic/kv", (2, 3), losses=(4.0, None)
    )
    late = run_folders.training(
      arm / "steps~800", "myopic/kv", (0, 1), steps=800
    )
    (late / "checkpoints/450").mkdir(parents=True)
    run_folders.training(run / "arms/x", "x", (0, 1))
    rows = report.training_table(inventory.read_run(run))
    self.assertEqual(
      [row[:4] for row in rows],
      [
        ["variant", "seeds", "steps", "status"],
        ["causal", "0-1", "400", "finished"],
        ["myopic/kv", "0-1", "400", "finished"],
        ["myopic/kv", "2-3", "400", "finished; diverged: seeds 3"],
        ["myopic/kv", "0-1", "450/800", "stopped at step 450"],
        ["x", "0-1", "0/400", "begun"],
      ],
    )
    self.assertEqual([row[4] for row in rows[3:]], ["4", "-", "-"])
    _, printed, _ = self.say("show", run)
    self.assertIn(f"  continue: the same command with --out={run}\n", printed)
    self.assertNotIn("add seeds", printed)

  def test_verdicts_and_what_to_do_next(self):
    """At most 20 verdicts, and how many more."""
    run = self.made("run")
    steps = list(report.next_steps(inventory.read_run(run)))
    self.assertEqual(
      steps,
      [
        f"write the report: the same command with --out={run}",
        "add seeds: the same command with --seeds=6",
      ],
    )
    run_folders.report(run, claims=23)
    found = inventory.read_run(run)
    rows = report.claims_table(found)
    self.assertLen(rows, 22)
    self.assertEqual(
      rows[1], ["claim0", "0.25 nats", "[-0.5, 1]", "2", "inconclusive"]
    )
    self.assertEqual(rows[-1][0], "and 3 more in report.md")
    self.assertEqual(
      list(report.next_steps(found)),
      [
        "add seeds: the same command with --seeds=7",
        f"plan seeds: python -m experiments.placebo --plan={run}",
      ],
    )

  def test_a_longer_run(self):
    """Only a schedule with a stable part can go on."""
    train = run_folders.CONFIG["train"] | {"schedule": "wsd"}
    run = self.made("run", config=run_folders.CONFIG | {"train": train})
    self.assertIn(
      "train longer: the same command with --steps=800",
      list(report.next_steps(inventory.read_run(run))),
    )

  def test_damage(self):
    """One line a folder, status 2, and the rest is shown."""
    good, bad = self.made("good"), self.made("bad")
    (bad / "result.json").write_text("{")
    none = self.root / "none"
    status, printed, errors = self.say("show", none, bad, good)
    self.assertEqual(status, app.BAD_INPUT)
    first, second = errors.splitlines()
    self.assertEqual(first, f"{none} is not there")
    self.assertStartsWith(second, f"{bad} is damaged: result.json does not")
    self.assertEqual(printed.count("Trainings"), 2)


class CompareTest(RunsTestCase):
  def compared(self, *folders):
    """The tables of runs A, B, ..."""
    found = {
      name: inventory.read_run(folder)
      for name, folder in zip("ABC", folders, strict=False)
    }
    return (
      runs_compared.config_table(found),
      runs_compared.loss_table(found),
      runs_compared.gap_table(found),
    )

  def test_paired_by_seed(self):
    """The same task, data and model: equal seeds are pairs."""
    train = run_folders.CONFIG["train"] | {"steps": 800}
    config = run_folders.CONFIG | {"train": train}
    a = self.made("a")
    b = self.made("b", config=config, seeds=(1, 2, 3), add=0.25, steps=800)
    changed, losses, gaps = self.compared(a, b)
    self.assertEqual(changed[1:], [["train.steps", "400", "800"]])
    self.assertEqual(
      [[row[place] for place in (0, 1, 2, 3, 5, 6)] for row in losses[1:]],
      [
        ["causal", "A", "400", "3", "", "first"],
        ["causal", "B", "800", "3", "0.25 [0.25, 0.25]", "paired by seed, n=2"],
        ["myopic/kv", "A", "400", "3", "", "first"],
        ["myopic/kv", "B", "800", "3", "0.25 [0.25, 0.25]"]
        + ["paired by seed, n=2"],
      ],
    )
    self.assertEqual(
      gaps,
      [
        ["variant - causal", "run", "steps", "n", "gap [95%]"],
        ["myopic/kv", "A", "400", "3", "0.5 [0.5, 0.5]"],
        ["myopic/kv", "B", "800", "3", "0.5 [0.5, 0.5]"],
      ],
    )

  def test_unpaired(self):
    """Another model, or other seeds: said, with Welch's interval."""
    a = self.made("a")
    b = self.made("b", model={"width": 16}, add=1.0)
    c = self.made("c", seeds=(7, 8, 9))
    _, losses, _ = self.compared(a, b, c)
    self.assertEqual(losses[2][6], "unpaired: other model.width")
    self.assertRegex(losses[2][5], r"^1 \[0\.9\d*, 1\.0\d*\]$")
    self.assertEqual(losses[3][6], "unpaired: other seeds")

  def test_equal_steps_are_compared_where_there_are_some(self):
    """A longer training of one run does not hide the one in common."""
    a, b = self.made("a"), self.made("b", add=0.5)
    arm = a / "arms/causal"
    run_folders.training(
      arm / "steps~800", "causal", (0, 1, 2), losses=(0, 0, 0), steps=800
    )
    run_folders.training(arm / "seeds~3-4", "causal", (3, 4), losses=(9.0, 9.0))
    _, losses, _ = self.compared(a, b)
    self.assertEqual([row[2] for row in losses[1:3]], ["400", "400"])
    self.assertEqual([row[3] for row in losses[1:3]], ["5", "3"])

  def test_damaged_runs_are_not_compared(self):
    """One line each, status 2, and no table."""
    a, b = self.made("a"), self.made("b")
    (b / "result.json").write_text("{")
    status, printed, errors = self.say("compare", a, b)
    self.assertEqual((status, printed), (app.BAD_INPUT, ""))
    self.assertStartsWith(errors, f"{b} is damaged: result.json does not hold")
    self.assertLen(errors.splitlines(), 1)


class UsageTest(RunsTestCase):
  @parameterized.parameters(
    ((), "^give list, show or compare, and then folders$"),
    (("lst",), "^give list, show or compare, not 'lst'$"),
    (("show",), "^show needs a run folder$"),
    (("compare", "a"), "^compare needs two run folders or more$"),
    (("compare", *"abcdefghijklmnopqrstuvwxyz1"), "^compare takes at most 26"),
    (("list", ""), "^list: the name of a folder is empty$"),
    (("list", "~nobody-here/x"), "^~nobody-here/x needs a home folder"),
  )
  def test_wrong_usage(self, arguments, message):
    """One line that says what to give."""
    with self.assertRaisesRegex(app.UsageError, message):
      runs.main(*arguments)


class WordsTest(base.TestCase):
  @parameterized.parameters(
    (0, "0B"), (999, "999B"), (1024, "1.0K"), (20_480, "20K"), (2**40, "1.0T")
  )
  def test_sizes(self, count, text):
    """Short enough for a column."""
    self.assertEqual(report.size(count), text)

  def test_middle(self):
    """A name keeps both of its ends."""
    self.assertEqual(report.middle("abcdefgh", 8), "abcdefgh")
    self.assertEqual(report.middle("abcdefghi", 8), "abcd…ghi")
    self.assertLen(report.middle("a" * 50, 16), 16)

  def test_a_long_config_ends_with_a_count(self):
    """In 80 columns."""
    lines = report.config_lines({f"name{i}": "x" * 99 for i in range(50)})
    self.assertLen(lines, 41)
    self.assertEqual(lines[-1], "  and 10 more in config.json")
    for line in lines:
      self.assertLessEqual(len(line), 80)
