"""Claims follow the numbers, and triggers are shown as a reader needs them."""

import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from experiments.reports import memories as memories_report
from experiments.reports import (
  memories_claims,
  memories_figures,
  memories_tables,
)
from jaxlook.circuits import memories
from jaxlook.circuits import memory_study as study
from jaxlook.circuits.memory_study import agreement_name, ending_name
from jaxlook.circuits.memory_triggers import Triggers
from jaxlook.circuits.memory_values import KINDS, NeuronValues
from tests.fixtures import base

CHANCE = {
  ending_name(n, name): 0.1
  for n in (1, 2, 3)
  for name in ("purity", "coverage", "number")
}
MEASURES = (
  *memories.SHARES,
  *(agreement_name(kind) for kind in KINDS),
  *(agreement_name(kind, study.OTHERS) for kind in KINDS),
  agreement_name("first", study.COMMONEST),
  *(study.RANK, study.RANK_OTHERS, study.LIVE, study.AMONG_CONFIDENT),
  *CHANCE,
)


def examined(variant, changed=None, seeds=(0, 1), layers=2):
  """Findings that are equal in all layers, but for what is added to some."""
  by_layer = {
    name: np.full((len(seeds), layers), 0.2) + np.arange(len(seeds))[:, None]
    for name in MEASURES
  }
  for name, value in (changed or {}).items():
    by_layer[name] = by_layer[name] + np.array([value])
  overall = {study.confident_name(k): np.zeros(len(seeds)) for k in KINDS}
  shape = (len(seeds), layers, 2)
  coefficient = np.tile([3.0, 1.5, -np.inf], (*shape, 1))
  coefficient[:, :, 1] = -np.inf

  def each(*numbers):
    return jnp.tile(jnp.array(numbers), (*shape, 1))

  triggers = Triggers(jnp.asarray(coefficient), each(0, 1, -1), each(1, 2, -1))
  spoken = NeuronValues(each(0, 3), each(0.75, 0.25), jnp.zeros(shape))
  following = np.tile([0, 4, 0], (*shape, 1))
  found = study.MemoryResults(by_layer, overall, triggers, spoken, following)
  return memories_claims.VariantMemories(variant, seeds, found)


class ClaimsTest(base.TestCase):
  def test_verdicts(self):
    """A rise supports, a fall contradicts; what is equal is not above 0."""
    rising = examined("causal", {agreement_name("first"): [0.0, 0.5]})
    found = memories_claims.claims([rising, examined("myopic/kv")], CHANCE)
    verdicts = {claim.id: claim.verdict for claim in found}
    self.assertEqual(
      {id: verdicts[id] for id in ("G2/rise", "G2/chance", "ahead/kv")},
      dict.fromkeys(("G2/rise", "G2/chance", "ahead/kv"), "supported"),
    )
    self.assertEqual(verdicts["G1/shallow"], "contradicted")
    self.assertNotIn("ahead/residual", verdicts)
    self.assertEqual(
      {claim.estimate for claim in found if claim.id == "G2/rise"}, {0.5}
    )
    falling = examined("causal", {agreement_name("first"): [0.5, 0.0]})
    (rise,) = (
      claim
      for claim in memories_claims.claims([falling], CHANCE)
      if claim.id == "G2/rise"
    )
    self.assertEqual(rise.verdict, "contradicted")

  @parameterized.parameters((0.1, 0.6), (0.9, -0.2))
  def test_endings_are_held_against_chance(self, by_chance, expected):
    """Endings of two tokens, shared by 0.2 and 1.2, count beyond chance."""
    chance = CHANCE | {ending_name(2, "coverage"): by_chance}
    (claim,) = (
      claim
      for claim in memories_claims.claims([examined("causal")], chance)
      if claim.id == "G1/endings"
    )
    self.assertAlmostEqual(claim.estimate, expected)

  def test_chance_is_reported(self):
    """The last row of a table, and rows of the measurements without a seed."""
    name = ending_name(1, "number")
    found, chance = [examined("causal")], CHANCE | {name: 0.7}
    *_, last = memories_tables.layer_table(found, {"number": name}, chance)
    self.assertEqual(last, ["-", memories_claims.RANDOM, "0.7", "-"])
    rows = memories_report.measurements(found, chance).to_pylist()
    values = {
      row["measure"]: row["value"] for row in rows if row["seed"] is None
    }
    self.assertContainsSubset(chance.items(), values.items())

  def test_what_cannot_be_claimed(self):
    """Nothing of one seed; nothing about depth of one layer."""
    one = examined("causal", seeds=(3,))
    self.assertEmpty(memories_claims.claims([one], CHANCE))
    self.assertEmpty(memories_tables.differences([one, one]))
    flat = memories_claims.claims([examined("causal", layers=1)], CHANCE)
    ids = {claim.id for claim in flat}
    self.assertIn("G2/chance", ids)
    self.assertNoCommonElements(ids, {"G2/rise", "G2/upper", "G1/shallow"})
    (row,) = memories_tables.layer_table(
      [examined("causal", seeds=(3,), layers=1)], {"live": study.LIVE}
    )[1:]
    self.assertEqual(row, ["0", "causal", "0.2", "1"])


class PagesTest(base.TestCase):
  def test_curves_have_their_controls(self):
    """Chance for endings; for agreement the first variant's other neurons."""
    chance = CHANCE | {ending_name(n, "coverage"): n / 8 for n in (1, 2, 3)}
    controls = (
      *(agreement_name(kind, study.OTHERS) for kind in ("first", "any")),
      study.RANK_OTHERS,
    )
    changed = {name: [n, 0.5] for n, name in enumerate(controls)}
    found = [examined("causal", changed), examined("myopic/kv")]
    panels = memories_figures.panels(found, chance)
    (endings,), (agreed,) = panels["patterns.png"], panels["agreement.png"]
    self.assertEqual(
      [panel.levels for panel in endings],
      [{memories_claims.RANDOM: level} for level in (1 / 8, 2 / 8, 3 / 8)],
    )
    for panel, name in zip(agreed, controls, strict=True):
      self.assertLen(panel.curves, 3)
      np.testing.assert_array_equal(
        panel.curves["causal, other neurons' triggers"],
        found[0].found.by_layer[name].T,
      )

  def test_value_table(self):
    """Ends of prefixes with what follows; neurons that never fire are none."""
    words = ["|", " a", "\n", "`", "\x03"]
    inputs = np.array([[[1, 0, 1], [1, 2, 3]]])
    text = study.StreamedText(inputs, inputs > 0, inputs[0], 0)
    head, *rows = memories_tables.value_table(
      examined("causal").found,
      text,
      lambda ids: [words[each] for each in ids],
      seed=0,
      rows=4,
      shown=3,
    )
    self.assertLen(rows, 2)
    row = dict(zip(head, rows[0], strict=True))
    self.assertEqual((row["layer"], row["neuron"]), ("0", "0"))
    self.assertEqual(row["value's tokens"], r"`\|` 0.75, `` ` `` 0.25")
    self.assertEqual(row["follow it, of k"], "1/2")
    self.assertEqual(row["trigger 1"], r"`␣a\|` → `\|` (3)")
    self.assertEqual(row["trigger 2"], "`` ␣a↵` `` → `<03>` (1.5)")
    self.assertEqual(row["trigger 3"], "-")


if __name__ == "__main__":
  absltest.main()
