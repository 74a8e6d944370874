"""The definition equals sums written as loops over positions."""

from absl.testing import parameterized

import jaxlook
from jaxlook.attention import reference
from tests.fixtures import attention_cases, base


class ReferenceTest(base.Float64TestCase):
  @parameterized.parameters(
    "causal",
    "window:2",
    "zero_context",
    "zero_context/keys",
    "zero_context/values",
    "teacher",
    "teacher/keys",
    "teacher/values",
  )
  def test_definition_equals_a_loop(self, spec):
    """Own pairs are read in the window, context pairs elsewhere."""
    arrays = attention_cases.inputs(41, (2, 6, 2, 3))
    context = (arrays["other_key"], arrays["other_value"])
    out = reference.attend_reference(
      arrays["query"],
      arrays["key"],
      arrays["value"],
      spec=jaxlook.parse(spec),
      context=context if spec.startswith("teacher") else None,
      scale=0.7,
    )
    self.assert_close(out, attention_cases.by_loop(spec, arrays, scale=0.7))

  @parameterized.parameters(0.0, 0.25, 1.0)
  def test_leak_mixes_the_gradient_paths(self, share):
    """`leak:beta` gives (1 - beta) myopic + beta causal gradients."""
    arrays = attention_cases.inputs(43, (2, 5, 2, 3))
    grads = {
      spec: attention_cases.value_and_grads(spec, arrays, "reference")[1]
      for spec in ("myopic", "causal", f"leak:{share}")
    }
    for name in ("query", "key", "value"):
      mixed = (1 - share) * grads["myopic"][name] + share * grads["causal"][
        name
      ]
      self.assert_close(grads[f"leak:{share}"][name], mixed)
