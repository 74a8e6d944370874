"""Couplets: a rhyming language in which planning at the line break can be told.

  BOS genre line1 e1 NL U m1 .. mL art e2 EOS

On a rhyming line (RHY) the class of the end word e2 is a key that line 1 gives;
on a FREE line it is random. The modifiers m and the article lead up to e2: they
depend on its topic and its article, and so, through the class, on line 1. Who
uses the key from m1 on is a planner, who uses it only at e2 an improviser, who
never does is blind; the loss of each is known exactly.

  key    lookup  line 1 is random fillers and the key is the class of e1
         tally   line 1 is K pairs (a, b); bit k of the key says whether the sum
                 of T_k(a, b) over the pairs is positive: line 1 cannot be read
                 at a glance, so its pairs must be worked out where they stand
  route  open        every position may attend to all before it
         bottleneck  positions from U on may attend only to those from NL on, so
                     what line 2 needs of line 1 must be stored at NL

A `barrier` of the decoder decides the route. Storing at NL never
saves serial depth: lookup with an open route needs no plan to be stored.

With `end_only` the modifiers and the article lead up to a random word instead,
so all that line 1 is worth, ln 16, it is worth at e2, and improvising is
optimal. With `late_genre` the genre and U trade places: NL must prepare without
knowing whether the line will rhyme.

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
from jaxlook.tasks.losses import DeferredLogits
from jaxlook.tasks.task import Batch
from jaxlook.tasks.text import cross_entropy

Key = Literal["lookup", "tally"]
Route = Literal["open", "bottleneck"]


class Truth(NamedTuple):
  """What a couplet is made of, each [B]; bool, then int32.

  Attributes:
    rhymes: whether its genre is RHY.
    key: the class that line 1 gives, in 0..15, used or not.
    end: the class of e2.
    topic: the topic of its modifiers, in 0..7.
    article: its article, 0 or 1.
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
    key: how line 1 gives the class.
    route: what line 2 may attend to.
    end_only: whether modifiers and article are independent of e2.
    late_genre: whether the genre comes after NL, in the place of U.
    fillers: length of line 1 before e1 under `lookup`, random tokens of 16.
    pairs: K, an odd number of pairs in line 1 under `tally`.
    modifiers: L, how many modifiers line 2 has.

  Raises:
    SettingError: a field is out of range; the message names it.
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
    """Refuses what is not a probability, an arm or a length."""
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
        "pairs", f"must be odd, for a tally to have no ties, not {self.pairs}"
      )
    if self.modifiers < 1:
      raise SettingError(
        "modifiers", f"must be at least 1, not {self.modifiers}"
      )

  @property
  def vocab_size(self) -> int:
    """Number of tokens; the same for all arms. `language.NAMES` shows them."""
    return language.VOCAB_SIZE

  @property
  def line1(self) -> int:
    """Number of tokens in line 1 before e1."""
    return self.fillers if self.key == "lookup" else 2 * self.pairs

  @property
  def length(self) -> int:
    """T, the number of input positions; a couplet has one token more."""
    return self.line1 + self.modifiers + 7

  @property
  def places(self) -> dict[str, tuple[int, ...]]:
    """Where each class of tokens stands in a couplet, from left to right.

    A class's activations are those of the inputs there (EOS is no input). The
    loss of predicting it stands one to the left: see `targets`.
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
    """Where in `loss` each class is predicted; BOS never is."""
    return {
      name: tuple(place - 1 for place in places)
      for name, places in self.places.items()
      if name != "BOS"
    }

  @property
  def barrier(self) -> tuple[int, int] | None:
    """The first query that sees no key before the second; None if open."""
    newline = 3 + self.line1
    return None if self.route == "open" else (newline + 1, newline)

  def visible(self) -> np.ndarray:
    """Where a query may attend on this route; bool [T, S], T = S."""
    return masks.visible(Spec("causal"), self.length, self.barrier)

  def batch(
    self, key: jax.Array, size: int, fed: jax.Array | None = None
  ) -> Batch:
    """Draws couplets; nothing is fed.

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
    """The class that line 1 gives, from its tokens and the number of e1."""
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
    """What each couplet is made of, read from its tokens."""
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
    """The exact loss of a reader by position, nats per token, [T].

    Args:
      reader: planner, improviser or blind.
      rhymes: on RHY couplets, or on FREE ones.

    Returns:
      The mean over couplets of that genre; infinite where the genre itself is
      predicted if it never comes.
    """
    by_class, result = (
      oracle.losses(self, reader, rhymes),
      np.zeros(self.length),
    )
    for name, places in self.targets.items():
      result[list(places)] = by_class[name]
    return result

  def mean_loss(self, reader: Reader) -> float:
    """A reader's exact loss over all positions and genres, nats per token."""
    return sum(
      share * float(self.expected(reader, rhymes).mean())
      for rhymes, share in ((True, self.p), (False, 1.0 - self.p))
      if share > 0.0
    )

  @property
  def chance(self) -> float:
    """The mean loss of who ignores line 1, nats per token."""
    return self.mean_loss("blind")

  @property
  def bound(self) -> float:
    """The mean loss of the optimal predictor, the planner; nats per token."""
    return self.mean_loss("planner")
