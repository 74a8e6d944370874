"""The claims of `planning`: exact bounds, gaps, and where plans are stored."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from jaxlook import stats
from jaxlook.planning.couplets import places
from jaxlook.planning.couplets.measure_all import NamedValues, main_places
from jaxlook.planning.couplets.swaps import OTHER, SAME, SHUFFLED
from jaxlook.stats.claims import ABOVE_0, PAIRED, Statement, judged
from jaxlook.stats.myopia_gap import CAUSAL
from jaxlook.tasks import couplets_oracle as oracle
from jaxlook.tasks.couplets import Couplets

ByVariant = Mapping[str, NamedValues]

_OURS = "jaxlook's own language; pilot with one seed before it was built"
_MA = "Ma and Rui 2026, arXiv 2605.07984, on models of text"
_LINDSEY = "Lindsey et al. 2025, 70% of injected rhymes in one model of text"
_NEAR = {"lookup": 0.02, "tally": 0.05}
_ZERO = 0.05
_LN16 = math.log(16)


def claims(
  name: str,
  task: Couplets,
  found: ByVariant,
  untrained: NamedValues,
  layer: int = 1,
) -> list[stats.Claim]:
  """The acceptance list of a language, and its controls.

  Args:
    name: name of the language, the prefix of the claims' ids.
    task: the language.
    found: `named_values` by variant, including `CAUSAL`.
    untrained: `named_probe_values` of the seeds before training.
    layer: the layer whose input is swapped; at layer 0 a place contains only
      its own token.

  Returns:
    The claims with at least two seeds.
  """
  made = [*_bounds(task, found[CAUSAL]), *_gaps(task, found)]
  if not task.end_only:
    made += [
      *_swaps(task, found[CAUSAL], f"layer{layer}"),
      *_controls(task, found[CAUSAL], f"layer{layer}"),
      *_written(task, found[CAUSAL], f"layer{layer}"),
      *_routes(task, found[CAUSAL], untrained, f"layer{layer}"),
    ]
    for variant, mine in found.items():
      if variant != CAUSAL:
        made += _of_cut(task, variant, mine, f"layer{layer}")
  return judged(each._replace(id=f"{name}/{each.id}") for each in made)


def plan_place(task: Couplets) -> str:
  """Where ordinary training stores the plan when line 2 begins."""
  if task.key == "tally":
    return "pair ends"
  # With an open route, the position that predicts m1 reads e1 itself.
  return "NL" if task.route == "bottleneck" else main_places(task)[-2].name


def modifiers(task: Couplets) -> list[str]:
  """The classes of the modifiers."""
  return [f"m{i + 1}" for i in range(task.modifiers)]


def decided(mine: NamedValues, at: str, part: str, head: str = "rewrite"):
  """Of the tokens that fit exactly one class, the share that fits r', [E]."""
  target, own = (mine[f"{head}/{at}/{part}/{x}/RHY"] for x in ("target", "own"))
  with np.errstate(invalid="ignore"):
    return target / (target + own)


def _bounds(task: Couplets, plain: NamedValues) -> Iterator[Statement]:
  """Ordinary training reaches the exact loss of the best reader."""
  best: oracle.Reader = "improviser" if task.end_only else "planner"
  near = _NEAR[task.key]
  wanted: list[tuple[str, str, oracle.Reader, float]] = [
    ("bound", "RHY", best, near)
  ]
  if task.p < 1.0:
    wanted.append(("free", "FREE", "blind", 0.05))
  for id, genre, reader, most in wanted:
    exact = oracle.losses(task, reader, genre == "RHY")
    off = [
      np.abs(plain[f"loss/{genre}/{c}"] - exact[c])
      for c in (*modifiers(task), "art", "e2")
    ]
    yield Statement(
      id,
      f"on {genre} couplets the loss of {CAUSAL} is within {most} nats of the"
      f" exact loss of the {reader} for every class of tokens of line 2; the"
      " estimate is the largest distance",
      _OURS,
      "nats/token",
      np.max(off, axis=0),
      {"high": most},
    )


def _gaps(task: Couplets, found: ByVariant) -> Iterator[Statement]:
  """How far a cut raises the loss of line 2, for each genre."""
  for variant, mine in found.items():
    if variant == CAUSAL:
      continue
    for genre in ("RHY", "FREE") if task.p < 1.0 else ("RHY",):
      words, bounds = _expected_gap(task, genre)
      line = f"loss/{genre}/line 2"
      yield Statement(
        f"{variant}/gap/{genre}",
        f"{variant} minus {CAUSAL}, line 2 of {genre} couplets: {words}",
        _OURS,
        "nats/couplet",
        mine[line] - found[CAUSAL][line],
        bounds,
        PAIRED,
      )
    if task.key == "tally":
      blind = oracle.losses(task, "blind", True)
      whole = sum(blind[c] for c in (*modifiers(task), "art", "e2"))
      yield Statement(
        f"{variant}/remainder",
        f"{variant} gains less than 0.2 nats from line 1, through features that"
        " were not trained for this; so this arm can serve as ground truth",
        _OURS,
        "nats/couplet",
        whole - mine["loss/RHY/line 2"],
        {"high": 0.2},
      )


def _expected_gap(task: Couplets, genre: str) -> tuple[str, dict[str, float]]:
  if genre == "FREE":
    words = "within 0.05, because there is nothing to plan"
    return words, {"low": -0.05, "high": 0.05}
  if task.key == "tally":
    words = "above 1, because the pairs are not computed where they end"
    return words, {"low": 1.0}
  if task.route == "open":
    words = "at most 0.01, because every position can read e1 itself"
    return words, {"high": 0.01}
  whole = oracle.value(task, "planner")
  least = 2.6 * whole / _LN16
  words = f"at least {least:.3g} of the {whole:.3g} nats that line 1 is worth"
  return f"{words}, because the line break stores no plan", {"low": least}


def _topic(mine: NamedValues, place: str, layer: str, field: str, **of: str):
  kind, genre = of.get("kind", OTHER), of.get("genre", "RHY")
  return mine[f"swap/{kind}/{place}/{layer}/topic/{field}/{genre}"]


def _swaps(
  task: Couplets, plain: NamedValues, layer: str
) -> Iterator[Statement]:
  """Where ordinary training stores the plan: moved and left."""

  def swap(id: str, words: str, field: str, values: np.ndarray, **bounds):
    return Statement(f"swap/{id}", words, _OURS, field, values, bounds)

  plan = plan_place(task)
  moved, left = (_topic(plain, plan, layer, x) for x in ("moved", "left"))
  if task.key == "tally":
    words = f"swaps of the states at all {plan} into {layer} move m1 more than"
    words += " halfway to the donor's class: `left` is below 0.5"
    yield swap(f"{plan}/left", words, "left", left, high=0.5)
    return
  words = f"a swap at {plan} into {layer} moves m1 fully, by at least 0.95"
  yield swap(plan, words, "moved", moved, low=0.95)
  words = f"a swap at {plan} into {layer} moves m1 to the donor's class: `left`"
  words += f" is at most {_ZERO} higher than with the donor's whole prompt"
  whole = _topic(plain, places.PROMPT, "layer0", "left")
  yield swap(f"{plan}/left", words, "left", left - whole, high=_ZERO)
  if task.route == "open":
    words = f"a swap at NL into {layer} moves m1 by at most 0.1"
    at_break = _topic(plain, "NL", layer, "moved")
    yield swap("NL", words, "moved", at_break, high=0.1)


def _controls(
  task: Couplets, plain: NamedValues, layer: str
) -> Iterator[Statement]:
  """Swaps that must not move m1, or not towards the target class."""
  plan = plan_place(task)
  idle = "line1" if task.key == "lookup" else "e1"
  nothing = [("idle", "another class's donor", OTHER, idle, "RHY")]
  if task.key == "lookup":
    # With a tally key, a donor of the same class has other pairs.
    nothing.append(("same", "a donor of the same class", SAME, plan, "RHY"))
  if task.p < 1.0:
    nothing.append(("free", "another class's donor", OTHER, plan, "FREE"))
  for id, donor, kind, place, genre in nothing:
    yield Statement(
      f"control/{id}",
      f"on {genre} couplets, {donor} at {place} into {layer} shifts m1 by at"
      f" most {_ZERO}",
      _OURS,
      "shift",
      _topic(plain, place, layer, "shift", kind=kind, genre=genre),
      {"high": _ZERO},
    )
  if task.key == "lookup":
    yield Statement(
      "control/shuffled",
      f"a donor chosen without regard to the target class, at {plan} into"
      f" {layer}, leaves m1 as far from that class as chance: `left` is at"
      " least 0.85 (15/16 by chance)",
      _OURS,
      "left",
      _topic(plain, plan, layer, "left", kind=SHUFFLED),
      {"low": 0.85},
    )


def _written(
  task: Couplets, plain: NamedValues, layer: str
) -> Iterator[Statement]:
  """What the model writes under swaps and under steering."""
  plan = plan_place(task)
  at = f"{OTHER}/{plan}/{layer}"
  ends = plain[f"rewrite/{at}/ending/target/RHY"]
  if task.key == "lookup":
    yield Statement(
      "write/ends",
      f"after a swap at {plan} into {layer}, at least 70% of lines end in the"
      " donor's class",
      _LINDSEY,
      "share of lines",
      ends,
      {"low": 0.7},
    )
  yield Statement(
    "write/leads",
    f"after a swap at {plan} into {layer}, the line leads up to the donor's"
    " class: of the modifiers that fit exactly one of the two classes, more"
    " than half fit the donor's",
    _OURS,
    "share of modifiers",
    decided(plain, at, "middle"),
    {"low": 0.5},
  )
  steered, drawn = (
    plain[f"resteer/{kind}/x1/{plan}/{layer}/ending/target/RHY"]
    for kind in ("mean difference", "random direction")
  )
  yield Statement(
    "steer/ends",
    f"the mean difference of two classes, added at {plan} into {layer}, makes"
    " more lines end in the other class than a random direction of the same"
    " length; the estimate is the difference of shares, above 0",
    "Maar et al. 2026, arXiv 2601.20164, on models of text",
    "share of lines",
    steered - drawn,
    ABOVE_0,
    "within a seed",
  )


def _routes(
  task: Couplets, plain: NamedValues, untrained: NamedValues, layer: str
) -> Iterator[Statement]:
  """Through which place line 2 gets the class, compared with a probe.

  A model whose attention is cut may do worse than a blind reader, because it
  was not trained without line 1. So its loss rises by at least ln 16.
  """
  if task.key == "tally":
    return
  place, other = ("NL", "e1") if task.route == "bottleneck" else ("e1", "NL")
  by_design = "; with a bottleneck this holds by construction"
  yield Statement(
    f"cut/{place}",
    f"the class comes from {place}: if attention to it is cut, the loss of line"
    " 2 of RHY couplets rises by at least ln 16 - 0.1 nats, where ln 16 = 2.773"
    f" nats is what line 1 is worth{by_design}",
    _OURS,
    "nats/couplet",
    plain[f"cut/{place}/RHY"],
    {"low": _LN16 - 0.1},
  )
  yield Statement(
    f"cut/{other}",
    f"the class does not come from {other}: if attention to it is cut, the loss"
    f" of line 2 of RHY couplets rises by at most 0.1{by_design}",
    _OURS,
    "nats/couplet",
    plain[f"cut/{other}/RHY"],
    {"high": 0.1},
  )
  if task.p < 1.0:
    yield Statement(
      f"cut/{place}/net",
      f"the rises for {place} and {other} on RHY couplets, each minus the rise"
      " on FREE couplets, which need nothing from line 1, add up to what line 1"
      " is worth, ln 16, within 0.1",
      _OURS,
      "nats/couplet",
      np.sum(
        [
          plain[f"cut/{each}/RHY"] - plain[f"cut/{each}/FREE"]
          for each in (place, other)
        ],
        axis=0,
      ),
      {"low": _LN16 - 0.1, "high": _LN16 + 0.1},
      "within a seed",
    )
  if task.route == "open":
    yield from _traps(plain, untrained, layer)


def _traps(
  plain: NamedValues, untrained: NamedValues, layer: str
) -> Iterator[Statement]:
  """What a probe reads at a place that the model does not use."""
  name = f"probe/NL/{layer}/accuracy"
  yield Statement(
    "trap",
    f"a linear probe at NL into {layer}, where a swap moves nothing, still"
    " finds the class, at least twice as often as chance; the tables have the"
    " same probe on untrained models",
    _MA,
    "accuracy",
    plain[name],
    {"low": 2 / 16},
  )
  yield Statement(
    "trap/trained",
    f"training puts the class at NL: the accuracy of the probe at NL into"
    f" {layer} is above that of the same probe before training",
    _OURS,
    "accuracy",
    plain[name] - untrained[name],
    ABOVE_0,
    PAIRED,
  )


def _of_cut(
  task: Couplets, variant: str, mine: NamedValues, layer: str
) -> Iterator[Statement]:
  """A cut model has no plan where ordinary training has one."""
  if task.key == "lookup" and task.route == "open":
    return
  plan = plan_place(task)
  yield Statement(
    f"{variant}/swap/{plan}",
    f"{variant}: a swap at {plan} into {layer} shifts m1 by at most {_ZERO}",
    _OURS,
    "shift",
    _topic(mine, plan, layer, "shift"),
    {"high": _ZERO},
  )
