"""Couplets: a rhyming language in which planning at the line break shows.

  BOS genre line1 e1 NL U m1 .. mL art e2 EOS

In a rhyming couplet (RHY) the class of the end word e2 equals the key, which
line 1 determines. In a FREE couplet the class is random. The modifiers m depend
on e2's topic and the article on e2's article, so both depend, through the
class, on line 1. A planner uses the key from m1 on, an improviser only at e2, a
blind reader never. The loss of each is known exactly.

  key    lookup  line 1 is random fillers; the key is the class of e1
         tally   line 1 is K pairs (a, b); bit k of the key says whether the sum
                 of T_k(a, b) over the pairs is positive, so each pair must be
                 looked up in tables at its own position
  route  open        every position may attend to all earlier positions
         bottleneck  positions from U on may attend only to positions from NL
                     on, so line 2 gets line 1 only through NL

A `barrier` of the decoder makes the bottleneck. Storing a plan at NL never
saves serial depth: lookup with an open route needs no stored plan.

With `end_only` the modifiers and the article belong to another, random word. So
all the value of line 1, ln 16, is at e2, and improvising is optimal. With
`late_genre` the genre and U change places: NL must prepare without knowing
whether the couplet will rhyme.

Tokens, tables: `couplets_language`. Losses: `couplets_oracle`. Source: ours,
after the rhyming couplets of Lindsey et al. (2025), "On the Biology of a Large
Language Model", section "Planning in Poems".
"""

import dataclasses
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.attention import Spec, masks
from jaxlook.errors import SettingError
from jaxlook.tasks import couplets_language as language
from jaxlook.tasks import couplets_oracle as oracle
from jaxlook.tasks.couplets_oracle import Reader
from jaxlook.tasks.losses import DeferredLogits, cross_entropy
from jaxlook.tasks.task import Batch

Key = Literal["lookup", "tally"]
Route = Literal["open", "bottleneck"]


class Truth(NamedTuple):
  """The hidden variables of couplets, each [B]; bool, then int32.

  Attributes:
    rhymes: whether the genre is RHY.
    key: the class that line 1 determines, in 0..15, also for FREE couplets.
    end: the class of e2.
    topic: the topic of the modifiers, in 0..7.
    article: the article, 0 or 1.
  """

  rhymes: jax.Array
  key: jax.Array
  end: jax.Array
  topic: jax.Array
  article: jax.Array


@dataclasses.dataclass(frozen=True)
class Couplets:
  """The language of one arm.

  Attributes:
    p: probability that a couplet rhymes.
    key: how line 1 determines the class, `lookup` or `tally`.
    route: which positions line 2 may attend to, `open` or `bottleneck`.
    end_only: whether modifiers and article are independent of e2.
    late_genre: whether the genre comes after NL, in the place of U.
    fillers: number of random fillers in line 1 under `lookup`; 16 kinds.
    pairs: K, the number of pairs in line 1 under `tally`, odd.
    modifiers: L, the number of modifiers in line 2.

  Raises:
    SettingError: a field is out of range.
  """

  p: float = 1.0
  key: Key = "lookup"
  route: Route = "bottleneck"
  end_only: bool = False
  late_genre: bool = False
  fillers: int = 4
  pairs: int = 5
  modifiers: int = 3

  def __post_init__(self):
    """Checks the fields."""
    if not 0.0 <= self.p <= 1.0:
      raise SettingError("p", f"must lie in [0, 1], not {self.p}")
    for field, allowed in (("key", Key), ("route", Route)):
      if getattr(self, field) not in get_args(allowed):
        raise SettingError(
          field,
          f"must be one of {', '.join(get_args(allowed))}, not"
          f" {getattr(self, field)!r}",
        )
    if self.fillers < 0:
      raise SettingError("fillers", f"must be at least 0, not {self.fillers}")
    if self.pairs < 1 or self.pairs % 2 == 0:
      raise SettingError(
        "pairs", f"must be odd, so that a tally has no ties, not {self.pairs}"
      )
    if self.modifiers < 1:
      raise SettingError(
        "modifiers", f"must be at least 1, not {self.modifiers}"
      )

  @property
  def vocab_size(self) -> int:
    """Number of tokens, the same for all arms; see `language.NAMES`."""
    return language.VOCAB_SIZE

  @property
  def line1(self) -> int:
    """Number of tokens in line 1 before e1."""
    return self.fillers if self.key == "lookup" else 2 * self.pairs

  @property
  def length(self) -> int:
    """T, the number of input positions; a couplet has T + 1 tokens."""
    return self.line1 + self.modifiers + 7

  @property
  def places(self) -> dict[str, tuple[int, ...]]:
    """The positions of each class of tokens in a couplet, from left to right.

    These are positions of inputs; EOS is not an input. The loss of predicting a
    token is one position to the left; see `targets`.
    """
    end = 2 + self.line1
    second = end + 3
    early, late = ("U", "genre") if self.late_genre else ("genre", "U")
    return {
      "BOS": (0,),
      early: (1,),
      "line1": tuple(range(2, end)),
      "e1": (end,),
      "NL": (end + 1,),
      late: (end + 2,),
      **{f"m{i + 1}": (second + i,) for i in range(self.modifiers)},
      "art": (second + self.modifiers,),
      "e2": (second + self.modifiers + 1,),
      "EOS": (second + self.modifiers + 2,),
    }

  @property
  def targets(self) -> dict[str, tuple[int, ...]]:
    """The positions in `loss` where each class is predicted; BOS never is."""
    return {
      name: tuple(place - 1 for place in places)
      for name, places in self.places.items()
      if name != "BOS"
    }

  @property
  def barrier(self) -> tuple[int, int] | None:
    """(U, NL): queries from U on see keys from NL on only; None if open."""
    newline = 3 + self.line1
    return None if self.route == "open" else (newline + 1, newline)

  def visible(self) -> np.ndarray:
    """Marks the keys that a query sees on this route; bool [T, S], T = S."""
    return masks.visible(Spec("causal"), self.length, self.barrier)

  def batch(
    self, key: jax.Array, size: int, fed: jax.Array | None = None
  ) -> Batch:
    """Draws couplets.

    Args:
      key: a PRNG key, consumed.
      size: number of couplets B.
      fed: not used.

    Returns:
      Tokens and next tokens, int32 [B, T].
    """
    del fed
    keys = iter(jax.random.split(key, 8))

    def draw(count: int, *shape: int) -> jax.Array:
      return jax.random.randint(next(keys), (size, *shape), 0, count, jnp.int32)

    first = draw(language.WORDS)
    line1 = self._line1(draw)
    rhymes = jax.random.bernoulli(next(keys), self.p, (size,))
    end = jnp.where(
      rhymes, self._key_class(line1, first), draw(language.CLASSES)
    )
    word = language.WORDS_EACH * end + draw(language.WORDS_EACH)
    lead = draw(language.WORDS) if self.end_only else word
    topic, article = (
      jnp.asarray(table.reshape(-1), jnp.int32)[lead]
      for table in (language.TOPIC_OF, language.ARTICLE_OF)
    )
    modifiers = draw(language.MODIFIERS_EACH, self.modifiers)
    genre = jnp.where(rhymes, language.RHY, language.FREE).astype(jnp.int32)
    neutral = jnp.full_like(genre, language.U)
    early, late = (neutral, genre) if self.late_genre else (genre, neutral)
    columns = (
      jnp.full_like(genre, language.BOS),
      early,
      line1,
      language.WORD + first,
      jnp.full_like(genre, language.NL),
      late,
      language.MODIFIER + language.MODIFIERS_EACH * topic[:, None] + modifiers,
      language.ARTICLE + article,
      language.WORD + word,
      jnp.full_like(genre, language.EOS),
    )
    tokens = jnp.concatenate(
      [column.reshape(size, -1) for column in columns], axis=1
    )
    return Batch(inputs=tokens[:, :-1], targets=tokens[:, 1:])

  def _line1(self, draw) -> jax.Array:
    if self.key == "lookup":
      return language.FILLER + draw(language.FILLERS, self.fillers)
    pairs = draw(language.SYMBOLS, self.pairs, 2)
    first = jnp.asarray([language.LEFT, language.RIGHT], pairs.dtype)
    return (first[None, None] + pairs).reshape(pairs.shape[0], -1)

  def _key_class(self, line1: jax.Array, first: jax.Array) -> jax.Array:
    """Computes the key from line 1's tokens and the number of e1."""
    if self.key == "lookup":
      return first // language.WORDS_EACH
    tables = jnp.asarray(language.tally_tables(), jnp.int32)
    a, b = line1[:, ::2] - language.LEFT, line1[:, 1::2] - language.RIGHT
    bits = tables[:, a, b].sum(axis=-1) > 0
    places = jnp.asarray([[1], [2], [4], [8]], jnp.int32)
    return jnp.sum(jnp.where(bits, places, 0), axis=0, dtype=jnp.int32)

  def loss(
    self, outputs: jax.Array | DeferredLogits, batch: Batch
  ) -> jax.Array:
    """The cross-entropy, nats per token, [B, T]."""
    return cross_entropy(outputs, batch.targets)

  def truth(self, batch: Batch) -> Truth:
    """Reads each couplet's hidden variables from its tokens."""
    tokens = jnp.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)
    places = self.places

    def at(name: str) -> jax.Array:
      return tokens[:, places[name][0]]

    line1 = tokens[:, 2 : 2 + self.line1]
    return Truth(
      rhymes=at("genre") == language.RHY,
      key=self._key_class(line1, at("e1") - language.WORD),
      end=(at("e2") - language.WORD) // language.WORDS_EACH,
      topic=(at("m1") - language.MODIFIER) // language.MODIFIERS_EACH,
      article=at("art") - language.ARTICLE,
    )

  def expected(self, reader: Reader, rhymes: bool) -> np.ndarray:
    """Returns the exact loss of a reader by position, nats per token, [T].

    Args:
      reader: planner, improviser or blind.
      rhymes: True for RHY couplets, False for FREE ones.

    Returns:
      The mean over couplets of that genre. Where the genre is predicted, it is
      infinite if that genre has probability 0.
    """
    by_class, result = (
      oracle.losses(self, reader, rhymes),
      np.zeros(self.length),
    )
    for name, places in self.targets.items():
      result[list(places)] = by_class[name]
    return result

  def mean_loss(self, reader: Reader) -> float:
    """Returns a reader's exact mean loss over positions and genres, nats."""
    return sum(
      share * float(self.expected(reader, rhymes).mean())
      for rhymes, share in ((True, self.p), (False, 1.0 - self.p))
      if share > 0.0
    )

  @property
  def chance(self) -> float:
    """The mean loss of the blind reader, nats per token."""
    return self.mean_loss("blind")

  @property
  def bound(self) -> float:
    """The mean loss of the planner, which is optimal; nats per token."""
    return self.mean_loss("planner")
