"""Specs and their flag form."""

from absl.testing import parameterized

from jaxlook.attention import spec as spec_lib
from jaxlook.attention.spec import Spec, parse
from tests.fixtures import base


class ParseTest(base.TestCase):
  @parameterized.parameters(*base.VARIANTS)
  def test_form_round_trips(self, text):
    """A spec prints as a form that makes it again, and is hashable."""
    spec = parse(text)
    self.assertEqual(parse(str(spec)), spec)
    self.assertEqual(hash(parse(str(spec))), hash(spec))

  @parameterized.parameters(
    ("causal", {}),
    ("self_only", {"reach": 0}),
    ("window:3", {"reach": 3}),
    ("myopic", {"high": 0}),
    ("myopic/residual", {"high": 0, "stop": "residual"}),
    ("horizon:4/keys", {"high": 4, "blocked": "keys"}),
    ("offset:2", {"low": 2, "high": 2}),
    ("future_only", {"low": 1}),
    ("leak:0.3/values", {"high": 0, "leak": 0.3, "blocked": "values"}),
    ("zero_context", {"high": 0, "source": "zeros"}),
    (
      "teacher/residual",
      {"high": 0, "source": "teacher", "stop": "residual"},
    ),
  )
  def test_variant_means_its_row_of_the_design_table(self, text, fields):
    """Each variant sets the window, reach and context of the design."""
    spec = parse(text)
    self.assertEqual(spec, Spec(name=spec.name, **fields))

  @parameterized.parameters(
    ("causal", "causal"),
    ("myopic", "myopic/kv"),
    ("horizon:04/values", "horizon:4/kv/values"),
    ("leak:0.30/values/residual", "leak:0.3/residual/values"),
    ("leak:1", "leak:1/kv"),
    ("zero_context/keys", "zero_context/keys"),
  )
  def test_name_spells_the_stop_point_out(self, text, name):
    """One variant has one name, whichever way it was written."""
    self.assertEqual(str(parse(text)), name)

  @parameterized.parameters(
    ("nonsense", "'nonsense' is unknown; known are causal, self_only"),
    ("", "attention '' is unknown"),
    ("horizon", "needs h, an integer >= 0"),
    ("horizon:-1", "needs h, an integer >= 0"),
    ("horizon:1.5", "needs h, an integer >= 0"),
    ("window:-2", "needs w, an integer >= 0"),
    ("offset:", "needs d, an integer >= 0"),
    ("leak:1.5", r"needs beta, a number in \[0, 1\]"),
    ("leak:nan", r"needs beta, a number in \[0, 1\]"),
    ("leak:x", r"needs beta, a number in \[0, 1\]"),
    ("causal:3", "takes no argument"),
    ("causal/kv", "'causal/kv' cannot end in /kv: causal cuts no"),
    ("window:3/keys", "'window:3/keys' cannot end in /keys: window cuts no"),
    ("zero_context/residual", "cannot end in /residual: zero_context cuts no"),
    ("myopic/nowhere", "has the unknown suffix /nowhere"),
    ("myopic/kv/residual", "two values for its stop"),
    ("myopic/keys/values", "two values for its blocked"),
  )
  def test_bad_form_is_refused(self, text, message):
    """A form that means nothing is refused with what was allowed."""
    with self.assertRaisesRegex(ValueError, message):
      parse(text)

  @parameterized.parameters(
    ({"low": -1}, "0 <= low <= high"),
    ({"low": 2, "high": 1}, "0 <= low <= high"),
    ({"reach": -1}, "reach must be at least 0"),
    ({"leak": 1.1}, r"leak must lie in \[0, 1\]"),
    ({"stop": "here"}, "stop must be one of kv, residual, not 'here'"),
    ({"source": "thin air"}, "source must be one of .*, not 'thin air'"),
    ({"blocked": "queries"}, "blocked must be one of .*, not 'queries'"),
  )
  def test_bad_fields_are_refused(self, fields, message):
    """A spec built by hand is checked like a parsed one."""
    with self.assertRaisesRegex(ValueError, message):
      Spec(name="by hand", **fields)

  def test_known_lists_every_variant(self):
    """The list shown to users is what the parser takes."""
    for form in spec_lib.KNOWN:
      name, colon, _ = form.partition(":")
      parse(name + (":1" if colon else ""))
