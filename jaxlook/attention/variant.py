"""The attention of a whole model: a spec for every head of every layer."""

import dataclasses
from typing import Any

from jaxlook.attention.spec import Spec, parse
from jaxlook.errors import SettingError


@dataclasses.dataclass(frozen=True)
class Variant:
  """One attention spec for each head of each layer of a model.

  A variant is parsed once, from a flag or a file; all other code uses this
  object. Its name is only for tables, files and messages.

      variant = parse_variant("causal,myopic/kv", layers=2, heads=4)
      Decoder(DecoderConfig(layers=2, heads=4, ...), variant)

  Attributes:
    specs: specs by layer (outer) and head (inner).

  Raises:
    SettingError: there is no layer or no head, or layers differ in their
      number of heads.
  """

  specs: tuple[tuple[Spec, ...], ...]

  def __post_init__(self):
    """Checks the numbers of layers and heads."""
    counts = {len(layer) for layer in self.specs}
    if len(counts) != 1 or 0 in counts:
      raise SettingError(
        "specs",
        "must have at least 1 layer, with equally many heads in each, at least"
        f" 1; not {[len(layer) for layer in self.specs]} heads",
      )

  @classmethod
  def uniform(cls, spec: Spec, layers: int, heads: int) -> "Variant":
    """Returns the variant with one spec for all heads.

    Args:
      spec: the spec of every head.
      layers: number of layers of the model, at least 1.
      heads: number of heads of each layer, at least 1.

    Raises:
      SettingError: a number is below 1.
    """
    return cls(((spec,) * heads,) * layers)

  @property
  def name(self) -> str:
    """The shortest flag form of this variant."""
    return _join([_join([s.name for s in layer], "+") for layer in self.specs])

  @property
  def layers(self) -> int:
    """Number of layers."""
    return len(self.specs)

  @property
  def heads(self) -> int:
    """Number of heads of each layer."""
    return len(self.specs[0])

  @property
  def distinct(self) -> tuple[Spec, ...]:
    """The distinct specs, in the order of layers and heads."""
    return tuple(dict.fromkeys(s for layer in self.specs for s in layer))

  @property
  def needs_teacher(self) -> bool:
    """Whether any head reads a teacher's context."""
    return any(spec.source == "teacher" for spec in self.distinct)

  @property
  def keeps_forward(self) -> bool:
    """Whether the output equals that of ordinary causal attention."""
    return all(spec.keeps_forward for spec in self.distinct)

  def __str__(self) -> str:
    """The name."""
    return self.name


def parse_variant(text: str, layers: int, heads: int) -> Variant:
  """Parses the flag form of a whole model's attention.

      parse_variant("horizon:4", layers=2, heads=4)
      parse_variant("causal,myopic+causal", layers=2, heads=2)

  Args:
    text: one form for all layers, or one per layer joined by `,`; for each
      layer one form for all heads, or one per head joined by `+`. See
      `jaxlook.parse` for the form of one head.
    layers: number of layers of the model.
    heads: number of heads of each layer.

  Returns:
    The variant.

  Raises:
    SettingError: see `jaxlook.parse`; or the number of forms is neither 1 nor
      the number of layers or heads.
  """

  def repeat(parts: list[Any], count: int, what: str) -> tuple[Any, ...]:
    if len(parts) not in (1, count):
      raise SettingError(
        "attention",
        f"{text!r} gives {len(parts)} {what}, the model has {count}",
      )
    return tuple(parts * count if len(parts) == 1 else parts)

  def read(layer: str) -> tuple[Spec, ...]:
    return repeat([parse(form) for form in layer.split("+")], heads, "heads")

  return Variant(
    repeat([read(layer) for layer in text.split(",")], layers, "layers")
  )


def _join(names: list[str], mark: str = ",") -> str:
  """Joins names, or returns the one name that all have."""
  return names[0] if len(set(names)) == 1 else mark.join(names)
