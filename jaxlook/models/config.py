"""The shape of a decoder: everything that determines its parameters."""

import dataclasses
import math
from typing import Literal, get_args

from jaxlook.errors import SettingError

Positions = Literal["learned", "rotary", "none"]
Activation = Literal["gelu_tanh", "gelu", "relu"]

_MOST_HEADS = 1024  # That a message proposes.


def scaled_init_std(width: int) -> float:
  """Returns GPT-2's 0.02 at its width of 768, scaled as 1 / sqrt(width).

  Args:
    width: width of the residual stream.

  Raises:
    SettingError: the width is not positive.
  """
  if width < 1:
    raise SettingError("width", f"must be at least 1, not {width}")
  return 0.02 * math.sqrt(768 / width)


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """The shape of a pre-LayerNorm causal decoder like GPT-2 or GPT-NeoX.

  The attention variant is not part of it: all variants have the same
  parameters.

  Attributes:
    layers: number of blocks.
    width: width of the residual stream.
    heads: attention heads per layer; divides `width`.
    max_length: longest sequence; number of learned position embeddings.
    vocab_size: number of tokens; None for continuous inputs.
    input_features: width of a continuous input; None for tokens.
    output_features: width of a continuous output; None for logits over the
      vocabulary.
    mlp_width: width of the feed-forward layer; 0 for attention-only blocks,
      None for 4 * width.
    activation: GELU in its tanh form (GPT-2) or exact form (NeoX), or ReLU.
    positions: learned (GPT-2), rotary (NeoX) or none.
    rotary_fraction: share of each head's dimensions that rotate.
    rotary_base: base of the rotary wavelengths.
    parallel_residual: attention and MLP both read the block's input (NeoX).
    tied_head: the head reuses the token embedding (GPT-2).
    norm_epsilon: added to the variance in LayerNorm.
    init_std: standard deviation of the initial kernels and embeddings. For
      kernels that write to the residual stream it is divided by
      sqrt(2 * layers), as in GPT-2 (Radford et al. 2019, section 2.3).

  Raises:
    SettingError: the fields do not describe a model.
  """

  layers: int
  width: int
  heads: int
  max_length: int
  vocab_size: int | None = None
  input_features: int | None = None
  output_features: int | None = None
  mlp_width: int | None = None
  activation: Activation = "gelu_tanh"
  positions: Positions = "learned"
  rotary_fraction: float = 1.0
  rotary_base: float = 10_000.0
  parallel_residual: bool = False
  tied_head: bool = True
  norm_epsilon: float = 1e-5
  init_std: float = 0.02

  def __post_init__(self):
    """Checks the fields."""
    for field in ("layers", "width", "heads", "max_length"):
      if getattr(self, field) < 1:
        raise SettingError(
          field, f"must be at least 1, not {getattr(self, field)}"
        )
    if self.width % self.heads:
      most = min(self.width, _MOST_HEADS)
      divisors = [n for n in range(1, most + 1) if self.width % n == 0]
      raise SettingError(
        "heads",
        f"must divide width={self.width}, so use one of"
        f" {', '.join(map(str, divisors))}, not {self.heads}",
      )
    if (self.vocab_size is None) == (self.input_features is None):
      raise SettingError(
        "input_features", "must be given if and only if vocab_size is None"
      )
    if self.vocab_size is None and self.output_features is None:
      raise SettingError(
        "output_features", "must be given if vocab_size is None"
      )
    if self.mlp_width is not None and self.mlp_width < 0:
      raise SettingError(
        "mlp_width", f"must be at least 0, not {self.mlp_width}"
      )
    for field, allowed in (
      ("activation", Activation),
      ("positions", Positions),
    ):
      if getattr(self, field) not in get_args(allowed):
        raise SettingError(
          field,
          f"must be one of {', '.join(get_args(allowed))}, not"
          f" {getattr(self, field)!r}",
        )
    if not 0.0 < self.rotary_fraction <= 1.0:
      raise SettingError(
        "rotary_fraction", f"must lie in (0, 1], not {self.rotary_fraction}"
      )
    if self.positions == "rotary" and (
      self.rotary_width < 2 or self.rotary_width % 2
    ):
      raise SettingError(
        "positions",
        "must be learned or none, because the number of rotated dimensions per"
        f" head is odd or 0: it is {self.rotary_width}",
      )

  @property
  def head_width(self) -> int:
    """Width of one head's queries, keys and values."""
    return self.width // self.heads

  @property
  def hidden_width(self) -> int:
    """Width of the feed-forward layer, with the default filled in."""
    return 4 * self.width if self.mlp_width is None else self.mlp_width

  @property
  def rotary_width(self) -> int:
    """Number of dimensions of a head that rotate."""
    return int(self.head_width * self.rotary_fraction)

  @property
  def shares_embedding(self) -> bool:
    """Whether the head is the token embedding, transposed."""
    return (
      self.tied_head
      and self.vocab_size is not None
      and self.output_features is None
    )
