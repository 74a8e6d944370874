"""Arms as tasks of Ray: lost workers, errors, stopping."""

import contextlib
import dataclasses
import io
import logging
import os
import pathlib
import signal
import tempfile
import threading
import time
import unittest
import warnings

import numpy as np
import pytest

from experiments.common import app, ray_launcher
from jaxlook.attention import parse_variant
from jaxlook.models import DecoderConfig
from jaxlook.runs.arm import Arm
from jaxlook.runs.store import open_store
from jaxlook.tasks.precache import Precache
from jaxlook.training import (
  FinishedArm,
  Problem,
  TrainConfig,
  read_arm,
  run_arm,
)
from tests.fixtures import base

try:
  import ray
except ImportError:
  ray = None

TASK = Precache(p=0.5, terms=2, frequency=2.0, length=6)
# The one that is quickest to compile.
VARIANT = parse_variant("self_only", layers=1, heads=2)
ARMS = 12
STEPS = 8


def problem(seed: int) -> Problem:
  """A few steps with one seed, so that all arms are one compiled program."""
  return Problem(
    setting=f"seed {seed}",
    task=TASK,
    model=DecoderConfig(
      layers=1,
      width=8,
      heads=2,
      max_length=6,
      input_features=2,
      output_features=1,
    ),
    train=TrainConfig(
      steps=STEPS, batch_size=4, log_every=2, checkpoint_every=4, eval_batches=2
    ),
    seeds=(seed,),
    score=lambda loss: {"loss": loss},
    about=dataclasses.asdict(TASK),
  )


@dataclasses.dataclass(frozen=True)
class Workers:
  """A feed of nothing, by which a test sees who works, and where it acts.

  Attributes:
    folder: gets a file `SETTING@PROCESS` from each worker of an arm, with the
      step that it began at.
    setting: of the arm.
    together: workers that the first arms wait for.
  """

  folder: pathlib.Path
  setting: str
  together: int = 1

  def __call__(self, steps, seeds, rows) -> np.ndarray:
    mine = self.folder / f"{self.setting}@{os.getpid()}"
    if not mine.exists():
      mine.write_text(str(steps.start))
    deadline = time.monotonic() + 60
    while len(workers(self.folder)) < self.together:
      if time.monotonic() > deadline:
        raise TimeoutError("the other workers did not come")
      time.sleep(0.02)
    self.act(steps)
    return np.zeros((len(steps), len(seeds), len(rows), 1), np.float32)

  def act(self, steps: range) -> None:
    """What else happens before these steps."""


class Killed(Workers):
  """Kills its worker in the middle of the arm, the first time."""

  def act(self, steps):
    mine = self.folder.glob(f"{self.setting}@*")
    if steps.start >= 6 and len(list(mine)) == 1:
      os.kill(os.getpid(), signal.SIGKILL)


class Broken(Workers):
  """Raises an error in the middle of the arm, always."""

  def act(self, steps):
    if steps.start >= 6:
      raise RuntimeError("no such thing\nand more of it")


@dataclasses.dataclass(frozen=True)
class Waiting(Workers):
  """Waits from a step on until workers have been told to stop."""

  since: int = 6

  def act(self, steps):
    run = self.folder.parent / "run"
    while steps.start >= self.since and not list(run.glob(".stop*")):
      time.sleep(0.02)


def workers(folder: pathlib.Path) -> set[str]:
  """The processes that have worked on any arm."""
  return {path.name.partition("@")[2] for path in folder.iterdir()}


@pytest.mark.multiprocess
@unittest.skipIf(ray is None, "needs Ray: pip install jaxlook[cluster]")
class SweepTest(base.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    # Ray and these tests install handlers.
    old = signal.getsignal(signal.SIGTERM)
    cls.addClassCleanup(signal.signal, signal.SIGTERM, old)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with warnings.catch_warnings():
      # As in `ray_cluster.connected`.
      warnings.filterwarnings("ignore", r"os\.fork\(\)", RuntimeWarning)
      ray.init(
        "local",
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
      )
    cls.addClassCleanup(ray.shutdown)

  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.root = pathlib.Path(root)
    self.folder = self.root / "workers"
    self.folder.mkdir()

  def launch(self, problems, later=()) -> list[FinishedArm]:
    """Runs a sweep on three workers, into the folder `run`."""
    self.printed, self.refused = io.StringIO(), io.StringIO()
    with (
      open_store(self.root / "run", {"sweep": ARMS}) as store,
      contextlib.redirect_stdout(self.printed),
      contextlib.redirect_stderr(self.refused),
    ):
      todo = [(problem, VARIANT) for problem in problems]
      return ray_launcher.train_on_ray(store, todo, {"CPU": 1.0}, later=later)

  def signalled(self, problems, workers_first: int, later=()) -> None:
    """Runs a sweep that gets SIGTERM once there are so many workers."""
    # As on a command line, but harmless should the sweep be over.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def end():
      while len(workers(self.folder)) < workers_first:
        time.sleep(0.02)
      os.kill(os.getpid(), signal.SIGTERM)

    ending = threading.Thread(target=end)
    ending.start()
    with self.assertRaises(SystemExit) as caught:
      self.launch(problems, later)
    ending.join()
    self.assertEqual(caught.exception.code, 128 + signal.SIGTERM)

  def fed(self, seed: int, feed: type[Workers], **values) -> Problem:
    """A problem with a feed that acts."""
    plain = problem(seed)
    return dataclasses.replace(
      plain, feed=feed(self.folder, plain.setting, **values)
    )

  def test_a_sweep_that_loses_a_worker_equals_one_in_turn(self):
    """Three workers, 12 arms, one SIGKILL: the same to the last bit."""
    with open_store(self.root / "turn", {"sweep": ARMS}) as store:
      expected = [
        run_arm(store, problem(seed), VARIANT) for seed in range(ARMS)
      ]
    found = self.launch(
      self.fed(seed, Killed if seed == 1 else Workers, together=3)
      for seed in range(ARMS)
    )
    self.assertLen(found, ARMS)
    for one, other in zip(found, expected, strict=True):
      self.assertEqual(one.cells, other.cells)
      np.testing.assert_array_equal(one.losses, other.losses)
      np.testing.assert_array_equal(one.steps, other.steps)
      params = read_arm(one.root).params(), read_arm(other.root).params()
      self.assert_close(*params, atol=0.0)
    self.assertGreaterEqual(len(workers(self.folder)), 3)
    for seed in range(ARMS):
      files = self.folder.glob(f"seed {seed}@*")
      begun = sorted(path.read_text() for path in files)
      # From the last checkpoint before it was killed.
      self.assertEqual(begun, ["0", "4"] if seed == 1 else ["0"])
    self.assertRegex(self.printed.getvalue(), f"seed 1 {VARIANT}: its worker")
    self.assertRegex(
      self.printed.getvalue(), f"{STEPS * ARMS}/{STEPS * ARMS} steps: "
    )
    self.assertEmpty(list((self.root / "run").rglob("*.jaxlook-tmp")))

  def test_an_error_is_one_line_and_not_tried_again(self):
    """Where one arm fails the others stop; the traceback is kept."""
    with self.assertRaises(SystemExit) as caught:
      self.launch([self.fed(0, Waiting), self.fed(1, Broken)])
    self.assertEqual(caught.exception.code, 1)
    line = self.refused.getvalue()
    self.assertRegex(
      line,
      rf"^seed 1 {VARIANT}: RuntimeError: no such thing \(.*error.txt\)\n$",
    )
    path = self.root / f"run/arms/seed~1~{VARIANT}/error.txt"
    self.assertIn("in act", path.read_text())
    self.assertLen(list(self.folder.glob("seed 1@*")), 1)

  def test_a_signal_stops_workers_at_a_checkpoint(self):
    """Those at work save, the rest is not begun, and the sweep goes on."""
    problems = [self.fed(seed, Waiting, together=3) for seed in range(ARMS)]
    self.signalled(problems, 3)
    self.assertStartsWith(
      self.refused.getvalue(), f"stopped with 0 of {ARMS} arms finished;"
    )
    arms = self.root / "run/arms"
    self.assertLen(list(self.folder.iterdir()), 3)
    self.assertLen(list(arms.glob("*/checkpoints/[246]")), 3)
    found = self.launch([problem(0)])
    self.assertTrue(Arm(found[0].root).finished)
    self.assertLen(found[0].steps, STEPS // 2)

  def test_a_signal_before_the_next_call(self):
    """It stops what comes later, although all arms of this call are done."""
    plain = self.fed(0, Waiting, since=0)
    # A stop is obeyed between chunks, of which there is one.
    train = dataclasses.replace(plain.train, log_every=STEPS)
    problems = [dataclasses.replace(plain, train=train)]
    self.signalled(problems, 1, later=[(problem(1), VARIANT)])
    self.assertStartsWith(
      self.refused.getvalue(), "stopped with 1 of 2 arms finished; continue"
    )
    self.assertTrue(Arm(self.root / f"run/arms/seed~0~{VARIANT}").finished)

  def test_a_machine_without_the_resources(self):
    """A machine that lacks what is asked for is not waited for."""
    with open_store(self.root / "run", {"sweep": 1}) as store:
      with self.assertRaisesRegex(
        app.UsageError, "^--launcher_resources: this machine .* CPU:4$"
      ):
        ray_launcher.train_on_ray(store, [(problem(0), VARIANT)], {"CPU": 4.0})
    self.assertFalse((self.root / "run/arms").exists())
