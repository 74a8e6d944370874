"""The result: plain data, the contract, the table of cells."""

import copy
import json
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlook import stats
from jaxlook.runs import result_schema
from tests.fixtures import base

_JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text(), inner, max_size=3)
  ),
  max_leaves=8,
)


def _result() -> dict[str, Any]:
  """A result that follows the contract and uses all of it."""
  gap = stats.claim(
    "gap", "The gap is positive.", "a paper", "nats", _INTERVAL, low=0.0
  )
  return {
    "experiment": "precache",
    "preset": "smoke",
    "config": {"steps": 10, "arms": ("causal", "myopic")},
    "environment": {"jax": "0.10.2", "device": "cpu", "commit": None},
    "cells": [
      {
        "setting": "p=0.3",
        "variant": "myopic",
        "seed": 0,
        "metrics": {"loss": np.float32(0.5), "r2": 0.25},
        "status": "done",
      },
      {
        "variant": "myopic",
        "seed": 1,
        "metrics": {"loss": math.nan},
        "status": "diverged",
      },
    ],
    "claims": [gap.as_json()],
  }


_INTERVAL = stats.Interval(2.0, (1.0, 3.0), 5, "paired by seed")


class PlainTest(base.TestCase):
  @settings(max_examples=100, deadline=None)
  @given(_JSON)
  def test_is_what_a_reader_gets_back(self, value):
    """Writing plain data as strict JSON and reading it changes nothing."""
    tree = result_schema.plain(value)
    text = json.dumps(tree, allow_nan=False)
    self.assertEqual(json.loads(text), tree)
    self.assertEqual(result_schema.plain(tree), tree)

  def test_arrays_and_scalars(self):
    """NumPy and JAX values become Python numbers of the same value."""
    found = result_schema.plain(
      {
        "numpy": np.array([[1.5, math.nan]]),
        "jax": jnp.array([1, 2]),
        "float": np.float32(0.5),
        "int": np.int64(3),
        "bool": np.bool_(True),
        "half": jnp.bfloat16(2.0),
      }
    )
    self.assertEqual(
      found,
      {
        "numpy": [[1.5, None]],
        "jax": [1, 2],
        "float": 0.5,
        "int": 3,
        "bool": True,
        "half": 2.0,
      },
    )
    self.assertIs(type(found["float"]), float)
    self.assertIs(type(found["int"]), int)
    self.assertIs(found["bool"], True)

  @parameterized.parameters(
    ({"a": {1: 2}}, False, "^value.a: expected string keys, got 1$"),
    ({"a": [0, {1}]}, False, r"^value.a\[1\]: expected .* got set$"),
    (b"x", False, "^value: expected what JSON can hold, got bytes$"),
    ({"a": math.inf}, True, "^value.a: expected a finite number, got inf$"),
    (
      np.array([0.0, math.nan]),
      True,
      r"^value\[1\]: expected a finite number, got nan$",
    ),
  )
  def test_refuses(self, value, finite, message):
    with self.assertRaisesRegex(ValueError, message):
      result_schema.plain(value, finite=finite)


class ValidateResultTest(base.TestCase):
  def test_accepts_before_and_after_writing(self):
    """The contract holds for a result and for what JSON makes of it."""
    result = _result()
    result_schema.validate_result(result)
    result_schema.validate_result(
      json.loads(json.dumps(result_schema.plain(result)))
    )

  def test_accepts_an_inconclusive_claim_without_evidence(self):
    """An estimate that is not finite goes with "inconclusive"."""
    nothing = stats.Interval(math.nan, (-math.inf, math.inf), 1, "unpaired")
    result = _result()
    result["claims"] = [
      stats.claim("gap", "", "", "", nothing, low=0.0).as_json()
    ]
    result_schema.validate_result(result)

  def test_every_key_is_needed(self):
    """Leaving out any key of the contract is refused by its path."""
    paths = [(key,) for key in _result()]
    paths += [("environment", key) for key in ("jax", "device", "commit")]
    paths += [("claims", 0, key) for key in _result()["claims"][0]]
    paths += [
      ("cells", 1, key) for key in ("variant", "seed", "metrics", "status")
    ]
    self.assertLen(paths, 6 + 3 + 8 + 4)
    for path in paths:
      result = _result()
      _walk(result, path[:-1]).pop(path[-1])
      with self.assertRaisesRegex(ValueError, rf"{path[-1]}: is missing$"):
        result_schema.validate_result(result)

  def test_no_other_key_is_taken(self):
    """A key outside the contract is refused by its path."""
    for path in ((), ("cells", 0), ("claims", 0)):
      result = _result()
      _walk(result, path)["extra"] = 1
      with self.assertRaisesRegex(ValueError, r"extra: is not part of the"):
        result_schema.validate_result(result)

  @parameterized.parameters(
    (("experiment",), 1, "result.experiment: expected str, got 1"),
    (("preset",), None, "result.preset: expected str, got None"),
    (("config",), [], r"result.config: expected dict, got \[\]"),
    (("config", "f"), {1}, "result.config.f: expected what JSON can hold"),
    (("environment", "jax"), None, "result.environment.jax: expected str"),
    (("environment", "commit"), 7, "result.environment.commit: expected str"),
    (("cells",), {}, "result.cells: expected list"),
    (("cells", 1), "x", r"result.cells\[1\]: expected dict, got 'x'"),
    (("cells", 1, "seed"), True, r"cells\[1\].seed: expected int, got True"),
    (("cells", 1, "seed"), 1.0, r"cells\[1\].seed: expected int, got 1.0"),
    (("cells", 1, "variant"), 3, r"cells\[1\].variant: expected str, got 3"),
    (("cells", 0, "setting"), 3, r"cells\[0\].setting: expected str, got 3"),
    (
      ("cells", 1, "status"),
      "failed",
      r"result.cells\[1\].status: expected one of done, diverged, got 'failed'",
    ),
    (
      ("cells", 1, "metrics", "loss"),
      "low",
      r"result.cells\[1\].metrics.loss: expected a number or null, got 'low'",
    ),
    (
      ("cells", 1, "metrics", "loss"),
      False,
      r"cells\[1\].metrics.loss: expected a number or null, got False",
    ),
    (
      ("cells", 1, "metrics", "seed"),
      1.0,
      r"cells\[1\].metrics.seed: the name of another column",
    ),
    (("claims", 0, "unit"), None, r"claims\[0\].unit: expected str"),
    (("claims", 0, "n"), 2.5, r"claims\[0\].n: expected int, got 2.5"),
    (("claims", 0, "n"), 0, r"claims\[0\].n: expected at least 1, got 0"),
    (("claims", 0, "estimate"), "1", r"claims\[0\].estimate: expected a num"),
    (("claims", 0, "ci95"), 1.0, r"claims\[0\].ci95: expected list, got 1.0"),
    (("claims", 0, "ci95"), [1.0], r"ci95: expected \[lo, hi\], got 1 num"),
    (("claims", 0, "ci95"), [2, 1], r"claims\[0\].ci95: expected lo <= hi"),
    (("claims", 0, "ci95", 1), "x", r"claims\[0\].ci95\[1\]: expected a num"),
    (
      ("claims", 0, "ci95", 1),
      math.inf,
      r"claims\[0\].verdict: expected inconclusive without finite evidence",
    ),
    (
      ("claims", 0, "verdict"),
      "true",
      r"claims\[0\].verdict: expected one of supported, contradicted, inc",
    ),
  )
  def test_refuses_by_path(self, path, value, message):
    result = _result()
    _walk(result, path[:-1])[path[-1]] = value
    with self.assertRaisesRegex(ValueError, message):
      result_schema.validate_result(result)

  def test_refuses_doubles(self):
    """A cell or a claim that appears twice is refused; a setting parts two."""
    result = _result()
    double = copy.deepcopy(result["cells"][1])
    result["cells"].append({**double, "setting": "p=1"})
    result_schema.validate_result(result)
    result["cells"].append(double)
    with self.assertRaisesRegex(
      ValueError, r"cells\[3\]: a second cell of variant 'myopic', seed 1"
    ):
      result_schema.validate_result(result)
    result = _result()
    result["claims"] *= 2
    with self.assertRaisesRegex(
      ValueError, r"claims\[1\].id: a second claim 'gap'"
    ):
      result_schema.validate_result(result)


class CellsTableTest(base.TestCase):
  def test_columns(self):
    """One float column per metric; what is missing or not finite is null."""
    expected = pa.table(
      {
        "setting": pa.array(["p=0.3", None], pa.string()),
        "variant": pa.array(["myopic", "myopic"], pa.string()),
        "seed": pa.array([0, 1], pa.int64()),
        "status": pa.array(["done", "diverged"], pa.string()),
        "loss": pa.array([0.5, None], pa.float64()),
        "r2": pa.array([0.25, None], pa.float64()),
      }
    )
    found = result_schema.cells_table(_result()["cells"])
    self.assertTrue(found.equals(expected), found)

  def test_same_after_writing(self):
    """A rerun that reads its cells back gets the same table."""
    cells = _result()["cells"]
    again = json.loads(json.dumps(result_schema.plain(cells)))
    self.assertTrue(
      result_schema.cells_table(again).equals(result_schema.cells_table(cells))
    )

  def test_setting_is_optional(self):
    """Without settings there is no such column; integers become floats."""
    # The second is no float64, and pyarrow alone would refuse to round it.
    cells = [
      {"variant": "a", "seed": seed, "metrics": {"hits": n}, "status": "done"}
      for seed, n in enumerate((3, 2**53 + 1))
    ]
    found = result_schema.cells_table(cells)
    self.assertEqual(found.column_names, ["variant", "seed", "status", "hits"])
    self.assertEqual(found["hits"].type, pa.float64())

  def test_empty(self):
    """No cells give an empty table that still has its columns."""
    found = result_schema.cells_table([])
    self.assertEqual(found.column_names, ["variant", "seed", "status"])
    self.assertEqual(found.num_rows, 0)

  def test_refuses(self):
    with self.assertRaisesRegex(ValueError, r"^cells\[0\].seed: is missing"):
      result_schema.cells_table(
        [{"variant": "a", "metrics": {}, "status": "done"}]
      )


def _walk(tree: Any, path: tuple[str | int, ...]) -> Any:
  for key in path:
    tree = tree[key]
  return tree


if __name__ == "__main__":
  absltest.main()
