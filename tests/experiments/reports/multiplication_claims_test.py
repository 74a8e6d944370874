"""What is claimed of products whose numbers are known."""

import numpy as np

from experiments.reports import multiplication_claims as products_claims
from jaxlook.planning.products import plans
from jaxlook.planning.products.measures import ProductResults
from jaxlook.stats.myopia_gap import CAUSAL, RESIDUAL
from jaxlook.tasks.multiplication import Multiplication
from tests.fixtures import base

_TASKS = {f"pad={pad}": Multiplication(digits=2, pad=pad) for pad in (2, 4)}
# Around 0, over three seeds; another one for every number that is compared.
_NOISE = np.array([-0.001, 0.0, 0.001])


def _wide(values: np.ndarray, *shape: int) -> np.ndarray:
  """Values of every seed, the same all over the other axes."""
  at = values.reshape(-1, *(1,) * len(shape))
  return np.broadcast_to(at, (len(values), *shape)).copy()


def measured(
  setting: str,
  right: float,
  *,
  planned: float = 0.0,
  gain: float = 0.0,
  spread: float = 1.0,
) -> ProductResults:
  """Of three seeds and two layers; `planned` is what is there before `=`."""
  task, noise = _TASKS[setting], spread * _NOISE
  where, digits = list(plans.places(task)), task.answer_digits
  shape = (2, len(where), digits)
  last = where.index(plans.before_equals(task))
  moved, read = _wide(0.1 + noise, *shape), _wide(0.2 + noise, 3, *shape[1:])
  # Of the last layer's input and output; elsewhere there is nothing.
  moved[:, -1, last] += planned
  read[:, -1, last] += planned
  share = right + noise
  steps = _wide(share, digits)
  return ProductResults(
    losses=1 - steps,
    full_losses=1 - steps,
    accuracies=steps,
    grid=_wide(share, 2, 2),
    gain=gain + noise,
    found=share,
    written=share,
    moved=moved,
    left=1 - moved,
    differ=np.ones((3, digits)),
    probe=read,
    shuffled=_wide(0.2 + noise, 3, *shape[1:]),
  )


def judged(found) -> dict[str, str]:
  """Verdicts by id, beside models before training that know nothing."""
  fresh = {setting: measured(setting, 0.0, spread=3) for setting in _TASKS}
  made = products_claims.claims(_TASKS, found, fresh)
  verdicts = {claim.id: claim.verdict for claim in made}
  assert len(verdicts) == len(made), "an id is used twice"
  return verdicts


class ProductsClaimsTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.published = {
      ("pad=2", CAUSAL): measured("pad=2", 0.5),
      ("pad=2", RESIDUAL): measured("pad=2", 0.5, spread=2),
      ("pad=4", CAUSAL): measured("pad=4", 0.9, planned=0.6, spread=2),
      ("pad=4", RESIDUAL): measured("pad=4", 0.3, gain=0.5),
    }

  def test_models_that_plan(self):
    """All that was published, and a plan that the cut takes away."""
    self.assertEqual(
      judged(self.published),
      {
        f"W8/padding/{CAUSAL}": "supported",
        f"W8/padding/full/{CAUSAL}": "supported",
        f"W8/padding/loss/{CAUSAL}": "supported",
        f"W8/padding/{RESIDUAL}": "supported",
        f"W8/padding/full/{RESIDUAL}": "supported",
        f"W8/padding/loss/{RESIDUAL}": "supported",
        f"W8/gap/pad=4/{RESIDUAL}": "supported",
        f"W8/gap/pad=2/{RESIDUAL}": "supported",
        f"W8/interaction/{RESIDUAL}": "supported",
        f"probe/{CAUSAL}": "supported",
        f"swap/{CAUSAL}": "supported",
        f"swap/place/{CAUSAL}": "supported",
        f"probe/{RESIDUAL}": "inconclusive",
        f"swap/{RESIDUAL}": "contradicted",
        f"swap/place/{RESIDUAL}": "contradicted",
        f"probe/less/{RESIDUAL}": "supported",
        f"swap/less/{RESIDUAL}": "supported",
        f"beam/{RESIDUAL}": "supported",
      },
    )

  def test_nothing_is_helped_where_nothing_is_right(self):
    """Whole products are compared where one padding gets some of them."""
    few = {arm: measured(arm[0], 0.01) for arm in self.published}
    for some, wanted in ((0.01, []), (0.3, [f"W8/padding/full/{CAUSAL}"])):
      few["pad=4", CAUSAL] = measured("pad=4", some, spread=2)
      found = [id for id in judged(few) if "full" in id]
      self.assertEqual(found, wanted)

  def test_models_that_do_not_plan(self):
    """With the table the other way round nothing is supported."""
    found = judged(
      {
        ("pad=2", CAUSAL): measured("pad=2", 0.9),
        ("pad=2", RESIDUAL): measured("pad=2", 0.3, spread=2),
        ("pad=4", CAUSAL): measured("pad=4", 0.5, gain=0.5),
        ("pad=4", RESIDUAL): measured("pad=4", 0.6, planned=0.3, spread=2),
      }
    )
    # The cut has some of the answer ready, but ordinary training has none.
    kept = {f"probe/{RESIDUAL}", f"swap/place/{RESIDUAL}"}
    self.assertEqual(
      {id for id, verdict in found.items() if verdict == "supported"}, kept
    )
    self.assertEqual(
      {id for id, verdict in found.items() if verdict == "inconclusive"},
      {f"probe/{CAUSAL}"},
    )

  def test_words_name_both_paddings(self):
    """A statement says what is compared; no padding is called so."""
    tasks = {f"pad={pad}": Multiplication(digits=2, pad=pad) for pad in (0, 4)}
    bare = measured("pad=2", 0.5)
    found = {
      (setting, variant): self.published[f"pad={max(task.pad, 2)}", variant]
      for setting, task in tasks.items()
      for variant in (CAUSAL, RESIDUAL)
    }
    words = {
      claim.id: claim.statement
      for claim in products_claims.claims(
        tasks, found, {setting: bare for setting in tasks}
      )
    }
    self.assertIn(
      "padded to 4 minus that not padded", words[f"W8/padding/{CAUSAL}"]
    )
    self.assertStartsWith(words[f"W8/gap/pad=4/{RESIDUAL}"], "padded to 4: ")
    self.assertStartsWith(words[f"W8/gap/pad=0/{RESIDUAL}"], "not padded: ")

  def test_no_seed_is_dropped_by_its_outcome(self):
    """Seeds with nothing right have a difference, diverged ones have none."""
    found = dict(self.published)
    for setting in _TASKS:
      one = found[setting, CAUSAL]
      one.grid[0] = 0.0
      one.grid[2] = np.nan
    fresh = {setting: measured(setting, 0.0) for setting in _TASKS}
    made = products_claims.claims(_TASKS, found, fresh)
    claim = next(x for x in made if x.id == f"W8/padding/full/{CAUSAL}")
    self.assertEqual(claim.n, 2)
    self.assertAlmostEqual(claim.estimate, 0.2)
