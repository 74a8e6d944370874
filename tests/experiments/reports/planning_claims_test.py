"""Verdicts on readers whose answers are known, and the names of numbers."""

import numpy as np
from absl.testing import parameterized

from experiments.reports.planning_claims import claims, plan_place
from jaxlook.planning.couplets import measure_all, places
from jaxlook.planning.couplets.answers import Effect, LineParts
from jaxlook.planning.couplets.losses_and_lines import LossesAndLines
from jaxlook.planning.couplets.measure_all import CoupletResults, main_places
from jaxlook.planning.couplets.writing import FitShares, WrittenLines
from jaxlook.probing.linear import ClassScores
from jaxlook.tasks import couplets_oracle as oracle
from jaxlook.tasks.couplets import Couplets
from tests.fixtures import base

SEEDS, LAYERS = 3, 2
SETTINGS = {
  "open": Couplets(p=0.5, route="open"),
  "bottleneck": Couplets(p=0.5),
  "late": Couplets(p=0.5, late_genre=True),
  "tally": Couplets(p=0.5, key="tally", route="open", pairs=3),
}


def _shaped(task, fill):
  """A `CoupletResults` whose arrays come from `fill(name, shape)`."""
  every, main = (len(f(task)) for f in (places.places, main_places))
  few = len(measure_all.probed_places(task))

  def of(kind, parts, part, head, axes):
    return kind(
      *(
        part(*(fill(f"{head}/{p}/{x}", (SEEDS, *axes)) for x in part._fields))
        for p in parts._fields
      )
    )

  swaps, steers = (3, LAYERS), (2, 2, LAYERS)
  return CoupletResults(
    unedited=LossesAndLines(
      *(fill(f"loss/{g}", (SEEDS, task.length)) for g in ("RHY", "FREE")),
      *(fill(f"write/{n}", (SEEDS,)) for n in LossesAndLines._fields[2:]),
    ),
    swapped=of(LineParts, LineParts, Effect, "swap", (*swaps, every, 2)),
    rewritten=of(
      WrittenLines, WrittenLines, FitShares, "rewrite", (*swaps, main, 2)
    ),
    steered=of(LineParts, LineParts, Effect, "steer", (*steers, main, 2)),
    resteered=of(
      WrittenLines, WrittenLines, FitShares, "resteer", (*steers, main, 2)
    ),
    lost=fill("cut", (SEEDS, every, 2)),
    probed=ClassScores(
      *(
        fill(f"probe/{n}", (SEEDS, 2, LAYERS, few))
        for n in ("accuracy", "nats")
      )
    ),
  )


def _reader(task, reader):
  """All numbers of models that are a reader, its plan where it should be."""
  numbers = measure_all.named_values(
    task, _shaped(task, lambda _, s: np.zeros(s))
  )
  for genre, who in (("RHY", reader), ("FREE", "blind")):
    exact = oracle.losses(task, who, genre == "RHY")
    for name, value in exact.items():
      numbers[f"loss/{genre}/{name}"] = np.full(SEEDS, value)
    line2 = ("m1", "m2", "m3", "art", "e2")
    total = sum(exact[c] for c in line2)
    numbers[f"loss/{genre}/line 2"] = np.full(SEEDS, total)
  plans = reader == "planner"
  for name in numbers:
    if "/left/" in name:
      numbers[name] = np.ones(SEEDS)
    if plans and name.startswith("swap/other class") and "/topic/" in name:
      full = f"/{plan_place(task)}/layer1" in name or "/prompt/layer0" in name
      if full and name.endswith("RHY"):
        numbers[name] = np.full(SEEDS, 0.0 if "/left/" in name else 1.0)
    if f"/{plan_place(task)}/layer1" in name and plans:
      written = name.startswith(("rewrite/other", "resteer/mean"))
      if written and "/target/RHY" in name:
        numbers[name] = np.ones(SEEDS)
  place = "NL" if task.route == "bottleneck" else "e1"
  if plans:
    numbers[f"cut/{place}/RHY"] = np.full(SEEDS, np.log(16))
    numbers["probe/NL/layer1/accuracy"] = np.ones(SEEDS)
  return numbers


def _verdicts(task, plain, cut):
  found = {"causal": _reader(task, plain), "myopic/kv": _reader(task, cut)}
  fresh = {"probe/NL/layer1/accuracy": np.full(SEEDS, 0.1)}
  made = claims("name", task, found, fresh)
  return {claim.id.removeprefix("name/"): claim.verdict for claim in made}


class ClaimsTest(base.TestCase):
  @parameterized.parameters(*SETTINGS)
  def test_a_planner_and_what_a_cut_leaves(self, name):
    """Where planning is learned, and only without the cut, all holds."""
    task = SETTINGS[name]
    cut = "planner" if name == "open" else "blind"
    verdicts = _verdicts(task, "planner", cut)
    self.assertEqual(set(verdicts.values()), {"supported"}, verdicts)
    wanted = {
      "open": ("swap/NL", "swap/U", "trap", "cut/e1", "write/ends"),
      "bottleneck": ("swap/NL", "swap/NL/left", "cut/NL/net", "control/free"),
      "late": ("swap/NL", "control/same", "myopic/kv/swap/NL"),
      "tally": ("swap/pair ends/left", "myopic/kv/remainder", "control/idle"),
    }
    self.assertContainsSubset(wanted[name], verdicts)

  @parameterized.parameters(*SETTINGS)
  def test_who_does_not_plan(self, name):
    """A blind reader has neither bound nor plan, and a cut costs it nothing."""
    verdicts = _verdicts(SETTINGS[name], "blind", "blind")
    wrong = ["bound", "write/leads", "steer/ends"]
    if name == "tally":
      wrong += ["myopic/kv/gap/RHY", "swap/pair ends/left"]
    else:
      wrong += [f"swap/{plan_place(SETTINGS[name])}", "write/ends"]
    if name in ("bottleneck", "late"):
      wrong += ["myopic/kv/gap/RHY"]
    if name in ("open", "bottleneck"):
      wrong += [f"cut/{'e1' if name == 'open' else 'NL'}/net"]
    for id in wrong:
      # What nobody writes has no share.
      self.assertIn(verdicts.get(id, "none"), ("contradicted", "none"), id)
    self.assertEqual(verdicts["bound"], "contradicted")

  def test_end_only(self):
    """The improviser's row, and no plan to look for."""
    task = Couplets(p=0.5, route="open", end_only=True)
    numbers = _reader(task, "improviser")
    made = claims("end", task, {"causal": numbers}, {})
    self.assertEqual(
      {claim.id: claim.verdict for claim in made},
      {"end/bound": "supported", "end/free": "supported"},
    )
    numbers["loss/RHY/art"] = numbers["loss/RHY/art"] - 0.1
    made = claims("end", task, {"causal": numbers}, {})
    self.assertEqual(made[0].verdict, "contradicted")


class NumbersTest(base.TestCase):
  def test_names_belong_to_their_entries(self):
    """Every entry of every array is found under the labels of its axes."""
    task = SETTINGS["bottleneck"]
    arrays = {}

    def fill(name, shape):
      arrays[name] = np.arange(np.prod(shape), dtype=float).reshape(shape)
      return arrays[name]

    named = measure_all.named_values(task, _shaped(task, fill))
    every = [place.name for place in places.places(task)]
    main = [place.name for place in main_places(task)]
    few = [place.name for place in measure_all.probed_places(task)]
    for name, head, at in (
      (
        "swap/shuffled donor/U/layer1/article/left/FREE",
        "swap/article/left",
        (2, 1, every.index("U"), 1),
      ),
      (
        "rewrite/same class/e1/layer0/middle/own/RHY",
        "rewrite/middle/own",
        (1, 0, main.index("e1"), 0),
      ),
      (
        "steer/random direction/x1/NL/layer1/topic/moved/RHY",
        "steer/topic/moved",
        (1, 0, 1, main.index("NL"), 0),
      ),
      (
        "resteer/mean difference/x2/line1/layer0/ending/target/FREE",
        "resteer/ending/target",
        (0, 1, 0, main.index("line1"), 1),
      ),
      ("cut/NL/FREE", "cut", (every.index("NL"), 1)),
      ("shuffled/NL/layer1/nats", "probe/nats", (1, 1, few.index("NL"))),
      ("write/beam_gain", "write/beam_gain", ()),
    ):
      np.testing.assert_array_equal(named[name], arrays[head][:, *at], name)
    start = task.targets["m1"][0]
    np.testing.assert_array_equal(
      named["loss/FREE/m1"], arrays["loss/FREE"][:, start]
    )
