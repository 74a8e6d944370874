"""Attention variants of one head, and their flag form.

A `Spec` describes one head: the keys and values that it sees, the distances
d = i - j through which they receive gradient (the gradient window), and what
the head reads at all other distances (the context). It has no arrays;
`jaxlook.attend` applies it.

Flag form: `variant[:argument][/stop][/blocked]`, for example `myopic`,
`myopic/residual`, `horizon:4`, `leak:0.3/kv/values`. `jaxlook.Variant` holds
the specs of a whole model.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, get_args

from jaxlook import numerals
from jaxlook.errors import SettingError

Stop = Literal["kv", "residual"]
Blocked = Literal["both", "keys", "values"]
Source = Literal["own", "zeros", "teacher"]


@dataclasses.dataclass(frozen=True)
class Spec:
  """One head's attention: what is visible, and which gradients flow.

  A query at i reads the keys and values at j <= i. At distances d = i - j in
  `low..high` it reads the model's own key and value, which receive gradient. At
  all other distances it reads the context, where gradient is blocked.

  Attributes:
    name: the flag form.
    low: smallest distance of the gradient window; at least 0.
    high: largest distance of the gradient window; None for no bound.
    reach: largest distance that the forward pass sees; None for all. Unlike the
      window it hides keys, so it changes the output.
    source: source of the context: the model's `own` keys and values, without
      gradient; `zeros`; or the keys and values of a `teacher`.
    leak: share of the gradient, in [0, 1], that passes through the context.
    stop: the stop point of blocked gradient. `kv`: at the keys and values.
      `residual`: below W_K and W_V, which still learn from every query.
    blocked: whether `keys`, `values` or `both` are replaced by the context.

  Raises:
    SettingError: a field is out of range.
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
    """Checks the fields."""
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
    """Whether the context is read at any distance."""
    return self.low > 0 or self.high is not None

  @property
  def needs_context(self) -> bool:
    """Whether `attend` needs context keys and values."""
    return self.blocks and (self.source == "teacher" or self.stop == "residual")

  @property
  def keeps_forward(self) -> bool:
    """Whether the output equals that of ordinary causal attention."""
    return self.reach is None and self.source == "own"


def _count(text: str) -> int:
  value = numerals.read_whole(text)
  if value < 0:
    raise ValueError
  return value


def _share(text: str) -> float:
  value = numerals.read_real(text)
  if not 0.0 <= value <= 1.0:
    raise ValueError
  return value


@dataclasses.dataclass(frozen=True)
class _Form:
  """A variant's flag form, and the fields that it sets."""

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
  """Parses the flag form of one head's attention.

  Args:
    text: `variant[:argument][/stop][/blocked]`; see the module's docstring.
      Stop is `kv` (the default) or `residual`; blocked is `keys` or `values`;
      without it both are blocked.

  Returns:
    The spec; its name includes the stop point.

  Raises:
    SettingError: the variant is unknown (the message lists the known ones), its
      argument is missing, not allowed or out of range, or it does not allow a
      suffix.
  """
  head, *suffixes = text.strip().split("/")
  variant, colon, argument = head.partition(":")
  form = _FORMS.get(variant)
  if form is None:
    raise SettingError(
      "attention",
      f"{text!r} is unknown; use one of {', '.join(KNOWN)}, with /kv or"
      " /residual and /keys or /values to choose what is blocked",
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
        f"{text!r} has the unknown suffix /{suffix}; use /kv, /residual, /keys"
        " or /values",
      )
    if field not in form.suffixes:
      raise SettingError(
        "attention",
        f"{text!r} cannot end in /{suffix}: {variant} blocks no gradient there",
      )
    if field in fields:
      raise SettingError(
        "attention", f"{text!r} gives two values for {field}; give one"
      )
    fields[field] = suffix
  # Names include the stop point, because the two are easily confused.
  stop = fields.get("stop", "kv") if "stop" in form.suffixes else None
  parts = [head_name, stop, fields.get("blocked")]
  return Spec(name="/".join(part for part in parts if part), **fields)


def _argument(text: str, form: _Form, argument: str | None) -> Any:
  if form.argument is None:
    if argument is not None:
      raise SettingError("attention", f"{text!r} takes no argument; remove it")
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
