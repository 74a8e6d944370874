"""What an attention variant is, and the flag form that names one.

A `Spec` describes one head: which keys and values it sees, through which
distances d = i - j they receive gradient (the gradient window), and what it
reads elsewhere (the context). It holds no arrays; `jaxlook.attend` applies it.

Flag form: `variant[:argument][/stop][/blocked]`, for example `myopic`,
`myopic/residual`, `horizon:4`, `leak:0.3/kv/values`. `jaxlook.Variant` holds
the specs of a whole model.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

from jaxlook.errors import SettingError

Stop = Literal["kv", "residual"]
Blocked = Literal["both", "keys", "values"]
Source = Literal["own", "zeros", "teacher"]


@dataclasses.dataclass(frozen=True)
class Spec:
  """One head's attention: what is visible, and which gradients flow.

  A query at i reads the key and value at j <= i. Pairs whose distance d = i - j
  lies in `low..high` read the model's own, live key and value; all other pairs
  read the context, which is where gradient is blocked.

  Attributes:
    name: the flag form.
    low: smallest distance of the gradient window; at least 0.
    high: largest distance of the gradient window; None for no bound.
    reach: largest distance that the forward pass sees; None for all. Unlike the
      window this hides keys, so it changes the value of the output.
    source: where the context comes from: the model's `own` keys and values with
      gradient blocked, `zeros`, or those of a `teacher`.
    leak: the share of the gradient, in [0, 1], that the context lets through.
    stop: where blocked gradient stops. `kv`: at the keys and values themselves.
      `residual`: below W_K and W_V, which still learn from every query.
    blocked: whether keys, values or both are replaced by context.

  Raises:
    SettingError: a field lies outside the range given above.
  """

  name: str
  low: int = 0
  high: int | None = None
  reach: int | None = None
  source: Source = "own"
  leak: float = 0.0
  stop: Stop = "kv"
  blocked: Blocked = "both"

  def __post_init__(self):
    """Refuses windows, reaches and shares that mean nothing."""
    if self.low < 0 or (self.high is not None and self.high < self.low):
      raise SettingError(
        "low", f"must satisfy 0 <= low <= high, not {self.low} and {self.high}"
      )
    if self.reach is not None and self.reach < 0:
      raise SettingError("reach", f"must be at least 0, not {self.reach}")
    if not 0.0 <= self.leak <= 1.0:
      raise SettingError("leak", f"must lie in [0, 1], not {self.leak}")
    for field, allowed in (
      ("source", Source),
      ("stop", Stop),
      ("blocked", Blocked),
    ):
      value = getattr(self, field)
      if value not in get_args(allowed):
        raise SettingError(
          field, f"must be one of {', '.join(get_args(allowed))}, not {value!r}"
        )

  def __str__(self) -> str:
    """The flag form."""
    return self.name

  @property
  def blocks(self) -> bool:
    """Whether any pair reads context instead of the own key and value."""
    return self.low > 0 or self.high is not None

  @property
  def needs_context(self) -> bool:
    """Whether `attend` must be given context keys and values."""
    return self.blocks and (self.source == "teacher" or self.stop == "residual")

  @property
  def keeps_forward(self) -> bool:
    """Whether the output has the value of ordinary causal attention."""
    return self.reach is None and self.source == "own"


def _count(text: str) -> int:
  value = int(text)
  if value < 0:
    raise ValueError
  return value


def _share(text: str) -> float:
  value = float(text)
  if not (math.isfinite(value) and 0.0 <= value <= 1.0):
    raise ValueError
  return value


@dataclasses.dataclass(frozen=True)
class _Form:
  """How one variant is written, and the fields that it sets."""

  fields: Callable[[Any], dict[str, Any]]
  argument: str | None = None
  read: Callable[[str], Any] = _count
  allowed: str = "an integer >= 0"
  suffixes: tuple[str, ...] = ("stop", "blocked")


_FORMS = {
  "causal": _Form(lambda _: {}, suffixes=()),
  "self_only": _Form(lambda _: {"reach": 0}, suffixes=()),
  "window": _Form(lambda w: {"reach": w}, argument="w", suffixes=()),
  "myopic": _Form(lambda _: {"high": 0}),
  "horizon": _Form(lambda h: {"high": h}, argument="h"),
  "offset": _Form(lambda d: {"low": d, "high": d}, argument="d"),
  "future_only": _Form(lambda _: {"low": 1}),
  "leak": _Form(
    lambda beta: {"high": 0, "leak": beta},
    argument="beta",
    read=_share,
    allowed="a number in [0, 1]",
  ),
  "zero_context": _Form(
    lambda _: {"high": 0, "source": "zeros"}, suffixes=("blocked",)
  ),
  "teacher": _Form(lambda _: {"high": 0, "source": "teacher"}),
}

KNOWN = tuple(
  f"{name}:{form.argument}" if form.argument else name
  for name, form in _FORMS.items()
)


def parse(text: str) -> Spec:
  """Reads the flag form of one head's attention.

  Args:
    text: `variant[:argument][/stop][/blocked]`; see the module's docstring.
      Stop is `kv` (the default) or `residual`; blocked is `keys` or `values`
      (without it, both).

  Returns:
    The spec, named by the form with its stop point spelled out.

  Raises:
    SettingError: the variant is unknown (the message lists the known ones), its
      argument is missing, superfluous or out of range, or a suffix does not
      apply to it.
  """
  head, *suffixes = text.strip().split("/")
  variant, colon, argument = head.partition(":")
  form = _FORMS.get(variant)
  if form is None:
    raise SettingError(
      "attention",
      f"{text!r} is unknown; known are {', '.join(KNOWN)}, each cut with /kv or"
      " /residual and /keys or /values",
    )
  value = _argument(text, form, argument if colon else None)
  fields = form.fields(value)
  head_name = variant
  if value is not None:
    head_name += f":{str(value).removesuffix('.0')}"
  for suffix in suffixes:
    if suffix in get_args(Stop):
      field = "stop"
    elif suffix in ("keys", "values"):
      field = "blocked"
    else:
      raise SettingError(
        "attention",
        f"{text!r} has the unknown suffix /{suffix}; known are /kv, /residual,"
        " /keys, /values",
      )
    if field not in form.suffixes:
      raise SettingError(
        "attention",
        f"{text!r} cannot end in /{suffix}: {variant} cuts no gradient there",
      )
    if field in fields:
      raise SettingError(
        "attention", f"{text!r} gives two values for its {field}"
      )
    fields[field] = suffix
  # The stop point is always spelled out: the two are easily confused.
  stop = fields.get("stop", "kv") if "stop" in form.suffixes else None
  shown = [head_name, stop, fields.get("blocked")]
  return Spec(name="/".join(part for part in shown if part), **fields)


def _argument(text: str, form: _Form, argument: str | None) -> Any:
  if form.argument is None:
    if argument is not None:
      raise SettingError("attention", f"{text!r} takes no argument")
    return None
  try:
    if argument is None:
      raise ValueError
    return form.read(argument)
  except ValueError:
    raise SettingError(
      "attention",
      f"{text!r} needs {form.argument}, {form.allowed}, after a colon",
    ) from None
