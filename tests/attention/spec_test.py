"""Specs, and their flag form."""

from absl.testing import parameterized

from jaxlook.attention import spec as spec_lib
from jaxlook.attention.spec import Spec, parse
from tests.fixtures import base


class ParseTest(base.TestCase):
  @parameterized.parameters(*base.VARIANTS)
  def test_form_round_trips(self, text):
    """A spec's name parses to an equal spec with an equal hash."""
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
  def test_variants_equal_the_design_table(self, text, fields):
    """Each variant sets the window, reach and context that it is defined by."""
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
  def test_name_includes_the_stop_point(self, text, name):
    """All forms of a variant give the same name."""
    self.assertEqual(str(parse(text)), name)

  @parameterized.parameters(
    ("nonsense", "'nonsense' is unknown; use one of causal, self_only"),
    ("", "attention '' is unknown"),
    ("horizon", "needs h, an integer >= 0"),
    ("horizon:-1", "needs h, an integer >= 0"),
    ("horizon:1.5", "needs h, an integer >= 0"),
    ("window:-2", "needs w, an integer >= 0"),
    ("horizon:1_000", "needs h, an integer >= 0"),
    ("horizon:+1", "needs h, an integer >= 0"),
    ("offset:٣", "needs d, an integer >= 0"),
    ("leak:1e-400", r"needs beta, a number in \[0, 1\]"),
    ("leak:0_1", r"needs beta, a number in \[0, 1\]"),
    ("offset:", "needs d, an integer >= 0"),
    ("leak:1.5", r"needs beta, a number in \[0, 1\]"),
    ("leak:nan", r"needs beta, a number in \[0, 1\]"),
    ("leak:x", r"needs beta, a number in \[0, 1\]"),
    ("causal:3", "takes no argument"),
    ("causal/kv", "'causal/kv' cannot end in /kv: causal blocks no"),
    ("window:3/keys", "'window:3/keys' cannot end in /keys: window bloc"),
    ("zero_context/residual", "cannot end in /residual: zero_context blocks"),
    ("myopic/nowhere", "has the unknown suffix /nowhere"),
    ("myopic/kv/residual", "two values for stop"),
    ("myopic/keys/values", "two values for blocked"),
  )
  def test_bad_form_is_refused(self, text, message):
    """The error lists what is allowed."""
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
    """A spec made by hand is checked like a parsed spec."""
    with self.assertRaisesRegex(ValueError, message):
      Spec(name="by hand", **fields)

  def test_known_lists_every_variant(self):
    """Every form in the list is parsed."""
    for form in spec_lib.KNOWN:
      name, colon, _ = form.partition(":")
      parse(name + (":1" if colon else ""))
