"""Descriptions of tasks: equal for equal tasks, and only for these."""

import collections
import dataclasses
import fractions
import functools
import json
import pathlib
import tempfile
import threading

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlook import runs
from jaxlook.attention import Spec, Variant
from jaxlook.errors import SettingError
from jaxlook.tasks.precache import Precache
from jaxlook.training import arms
from jaxlook.training.identity import describe
from tests.fixtures import base, precache_problem


@dataclasses.dataclass(frozen=True)
class Parity:
  """A user's task."""

  k: int
  scale: float = 1.0
  table: np.ndarray | None = None
  kind: type = int


class Plain:
  """A task that is no dataclass."""

  def __init__(self, k):
    """Keeps a setting."""
    self.k = k

  def score(self, loss):
    """A score that depends on the setting."""
    return {"loss": loss * self.k}


def _score(factor, loss):
  return {"loss": factor * loss}


def _closure(factor):
  return lambda loss: {"loss": factor * loss}


def _task_of(k):
  class Task:
    def batch(self, key):
      return k * key

  return Task


def _exec_class(k):
  names = {"__name__": "__main__"}
  exec(f"class Task:\n  def batch(self, key): return {k} * key", names)
  return names["Task"]


def _with_attribute(k):
  class Task:
    factor = k

  return Task


class Slots:
  """A task without a dictionary."""

  __slots__ = ("k",)

  def __init__(self, k):
    """Keeps a setting."""
    self.k = k


def _reads_global(k):
  names = {"__name__": "__main__", "factor": k}
  exec("def score(loss): return [factor for _ in loss]", names)
  return names["score"]


_TABLE = np.arange(6.0).reshape(2, 3)


class DescribeTest(base.TestCase):
  @parameterized.parameters(
    lambda: Parity(3),
    lambda: Parity(3, table=_TABLE.copy()),
    lambda: Parity(3, table=jnp.arange(4)),
    lambda: Plain(3),
    lambda: Plain(3).score,
    lambda: functools.partial(_score, 2.0),
    lambda: {"a": (1, Parity(3)), "b": frozenset({3, 1})},
    lambda: Precache(terms=4),
  )
  def test_equal_tasks(self, make):
    """Made twice, they are described alike, as JSON can hold it."""
    text = json.dumps(describe(make()))
    self.assertEqual(text, json.dumps(describe(make())))
    self.assertEqual(json.loads(text), describe(make()))

  @parameterized.parameters(
    (Parity(3), Parity(5)),
    (Parity(3), Plain(3)),
    (Parity(3), Parity(True)),
    (Parity(3, scale=float("nan")), Parity(3)),
    (Parity(3, table=_TABLE), Parity(3, table=_TABLE.T)),
    (Parity(3, table=_TABLE), Parity(3, table=_TABLE + 1)),
    (Parity(3, table=_TABLE), Parity(3, table=_TABLE.astype(np.float32))),
    (Parity(3, kind=str), Parity(3)),
    (Plain(3).score, Plain(5).score),
    (_score, functools.partial(_score, 2.0)),
    (functools.partial(_score, 2.0), functools.partial(_score, 3.0)),
    (Precache(terms=4), Precache(terms=5)),
  )
  def test_other_tasks(self, one, other):
    """Fields, classes, arrays and bound objects tell."""
    self.assertNotEqual(json.dumps(describe(one)), json.dumps(describe(other)))

  @parameterized.parameters(
    lambda k: _closure(k),
    lambda k: jax.jit(_closure(k)),
    lambda k: lambda loss, factor=k: {"loss": factor * loss},
    lambda k: _task_of(k)(),
    lambda k: _exec_class(k)(),
    lambda k: _with_attribute(k)(),
    lambda k: Slots(k),
    lambda k: _reads_global(k),
    lambda k: [fractions.Fraction(k), pathlib.Path(str(k)), complex(k)],
    lambda k: collections.deque([k]),
    lambda k: {k, "a"},
    lambda k: np.asarray([k, None], object),
    lambda k: jax.random.key(k),
    lambda k: slice(0, k),
    lambda k: np.dtype(f"f{4 * k}"),
    lambda k: (np.sin, np.cos)[k - 1],
  )
  def test_what_code_and_odd_fields_hold(self, make):
    """Closures, defaults, attributes, globals, slots, and other packages'."""
    one, again, other = describe(make(1)), describe(make(1)), describe(make(2))
    self.assertEqual(one, again)
    self.assertEqual(json.loads(json.dumps(one)), one)
    self.assertNotEqual(one, other)

  def test_what_holds_itself(self):
    """It has a description, too."""
    items = [1]
    items.append(items)
    self.assertEqual(describe(items), [1, {"again": 1}])

  def test_a_field_of_a_later_version(self):
    """In this project a new field changes nothing while it has its default."""

    def named(kind):
      kind.__module__, kind.__qualname__ = "jaxlook.tasks.parity", "Parity"
      return kind

    @named
    @dataclasses.dataclass(frozen=True)
    class Before:
      k: int

    @named
    @dataclasses.dataclass(frozen=True)
    class After:
      k: int
      scale: float = 1.0

    self.assertEqual(describe(Before(3)), describe(After(3)))
    self.assertNotEqual(describe(After(3)), describe(After(3, scale=2.0)))

  def test_what_is_no_data_is_refused(self):
    """Its arm could not be told from another."""
    problem = dataclasses.replace(
      precache_problem.problem(), score=_closure(threading.Lock())
    )
    path = self.enterContext(tempfile.TemporaryDirectory())
    with (
      runs.open_store(path, {}) as store,
      self.assertRaisesRegex(SettingError, "score holds what .* a lock is not"),
    ):
      arms.begin_arm(
        store, problem, Variant.uniform(Spec("causal"), layers=1, heads=2)
      )

  def test_an_arm_of_another_task_is_not_returned(self):
    """Also if the user's own words about the tasks are the same."""
    problem = dataclasses.replace(
      precache_problem.problem(), about={"task": "parity"}
    )
    variant = Variant.uniform(Spec("causal"), layers=1, heads=2)
    path = self.enterContext(tempfile.TemporaryDirectory())
    with runs.open_store(path, {}) as store:
      arms.begin_arm(store, problem, variant)
      arms.begin_arm(store, problem, variant)
      for changes, what in (
        ({"task": Parity(5)}, r"identity\.task\.name is .* there"),
        ({"score": _score}, r"identity\.score\.\w+ is .* there"),
      ):
        other = dataclasses.replace(problem, **changes)
        with self.assertRaisesRegex(ValueError, what):
          arms.begin_arm(store, other, variant)

  def test_an_arm_of_an_earlier_version(self):
    """A config without identities is continued."""
    problem = precache_problem.problem()
    variant = Variant.uniform(Spec("causal"), layers=1, heads=2)
    path = self.enterContext(tempfile.TemporaryDirectory())
    with runs.open_store(path, {}) as store:
      arm = arms.begin_arm(store, problem, variant)
      config = arm.config()
      del config["identity"]
      (arm.root / "config.json").write_text(json.dumps(config))
      arms.begin_arm(store, problem, variant)
