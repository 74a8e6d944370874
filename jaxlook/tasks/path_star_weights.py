"""A path-star graph in the weights: its edges are memorized, not shown.

  PATH goal p_1 p_2 .. p_{l-1}     the path from the start to a leaf
  NEXT u v                         an edge: v follows u
  BACK v u                         the same edge, against its direction

There is one graph, drawn once. Training shows all edges in both directions and
the paths to some of the leaves; the test asks for the paths to the others. A
predictor that has memorized only edges is at chance at the first step.
Published runs still find the held-out paths. Their authors argue that models do
not compute these paths backwards from the goal, so gradient from later tokens
is not needed. This predicts that training without such gradient works, too.

NEXT of the start has `degree` answers, so the optimal training loss is not 0
(see `bound`). Directions and hidden inputs are those of `path_star`.

Source: Noroozizadeh et al. (2025), arXiv 2510.26745; after Bachmann and
Nagarajan (2024), arXiv 2403.06963. The tokens and the mixture of edges and
paths are ours.
"""

import dataclasses
import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.errors import SettingError
from jaxlook.keys import make_key
from jaxlook.tasks.losses import DeferredLogits, cross_entropy
from jaxlook.tasks.path_star import (
  AnswerInputs,
  Direction,
  check_shape,
  clever_hans,
  hide,
)
from jaxlook.tasks.task import Batch

Split = Literal["train", "test"]


@dataclasses.dataclass(frozen=True)
class PathStarWeights:
  """One graph, and the items drawn from it.

  Attributes:
    degree: d, the number of arms.
    path_length: l, the nodes of a path, including start and leaf.
    held_out: the share of leaves whose paths are kept for the test, rounded to
      whole leaves.
    split: `train` draws edges, and paths to the leaves of training; `test`
      draws only paths to the held-out leaves.
    edge_share: probability that a training item is an edge; half of the edges
      are asked for against their direction.
    direction: direction of a path's answer; see `PathStar`.
    teacher: inputs of a path's answer; see `PathStar`.
    graph_seed: seed of the nodes' labels.

  Raises:
    SettingError: a field is out of range.
  """

  degree: int = 64
  path_length: int = 5
  held_out: float = 0.25
  split: Split = "train"
  edge_share: float = 0.5
  direction: Direction = "forward"
  teacher: AnswerInputs = "forced"
  graph_seed: int = 0

  def __post_init__(self):
    """Checks the fields."""
    check_shape(self.degree, self.path_length)
    if not 0 < self.held_out < 1 or not 0 < self.test_leaves < self.degree:
      raise SettingError(
        "held_out",
        f"must leave leaves on both sides of {self.degree}, not"
        f" {self.held_out}",
      )
    if not 0.0 <= self.edge_share <= 1.0:
      raise SettingError(
        "edge_share", f"must lie in [0, 1], not {self.edge_share}"
      )
    if self.graph_seed < 0:
      raise SettingError(
        "graph_seed", f"must be at least 0, not {self.graph_seed}"
      )
    for field, allowed in (
      ("split", Split),
      ("direction", Direction),
      ("teacher", AnswerInputs),
    ):
      if getattr(self, field) not in get_args(allowed):
        raise SettingError(
          field,
          f"must be one of {', '.join(get_args(allowed))}, not"
          f" {getattr(self, field)!r}",
        )

  @property
  def test_leaves(self) -> int:
    """The number of leaves that are held out."""
    return round(self.held_out * self.degree)

  @property
  def steps(self) -> int:
    """Number of edges of a path, which is the number of answer tokens."""
    return self.path_length - 1

  @property
  def nodes(self) -> int:
    """Number of nodes; they are the tokens 0, 1, .."""
    return self.degree * self.steps + 1

  @property
  def marks(self) -> tuple[int, int, int]:
    """The tokens PATH, NEXT and BACK."""
    return self.nodes, self.nodes + 1, self.nodes + 2

  @property
  def dummy(self) -> int:
    """The token that hides an input of the answer, and pads edges."""
    return self.nodes + 3

  @property
  def vocab_size(self) -> int:
    """Number of tokens."""
    return self.nodes + 4

  @property
  def length(self) -> int:
    """T, the number of input positions: mark, goal, and l - 2 answer tokens."""
    return self.steps + 1

  def graph(self) -> tuple[int, np.ndarray]:
    """Returns the start, and the arms from it outwards, int32 [d, l - 1].

    The paths of the last `test_leaves` arms are held out.
    """
    with jax.ensure_compile_time_eval():
      labels = np.asarray(
        jax.random.permutation(make_key(self.graph_seed), self.nodes)
      ).astype(np.int32)
    return int(labels[0]), labels[1:].reshape(self.degree, self.steps)

  def batch(
    self, key: jax.Array, size: int, fed: jax.Array | None = None
  ) -> Batch:
    """Draws items.

    Args:
      key: a PRNG key, consumed.
      size: number of items B.
      fed: not used.

    Returns:
      Tokens and next tokens, int32 [B, T]; edges are padded with `dummy`.
    """
    del fed
    key_kind, key_path, key_edge, key_hide = jax.random.split(key, 4)
    paths = self._paths(key_path, size)
    inputs = hide(key_hide, paths[:, :-1], 2, self.teacher, self.dummy)
    items = Batch(inputs=inputs, targets=paths[:, 1:])
    if self.split == "test" or self.edge_share == 0.0:
      return items
    edges = self._edges(key_edge, size)
    is_edge = jax.random.bernoulli(key_kind, self.edge_share, (size, 1))
    return Batch(
      inputs=jnp.where(is_edge, edges[:, :-1], items.inputs),
      targets=jnp.where(is_edge, edges[:, 1:], items.targets),
    )

  def _paths(self, key: jax.Array, size: int) -> jax.Array:
    """Draws paths to leaves of the split, int32 [B, T + 1]."""
    _, arms = self.graph()
    trained = self.degree - self.test_leaves
    arms = arms[:trained] if self.split == "train" else arms[trained:]
    chosen = jax.random.randint(key, (size,), 0, len(arms))
    path = jnp.asarray(arms)[chosen]
    answer = path if self.direction == "forward" else path[:, ::-1]
    mark = jnp.full((size, 1), self.marks[0], jnp.int32)
    return jnp.concatenate([mark, path[:, -1:], answer], axis=1)

  def _edges(self, key: jax.Array, size: int) -> jax.Array:
    """Draws edges in both directions, int32 [B, T + 1]."""
    start, arms = self.graph()
    before = np.insert(arms[:, :-1], 0, start, axis=1)
    _, forward, back = self.marks
    items = np.full((2, arms.size, self.length + 1), self.dummy, np.int32)
    items[0, :, :3] = np.stack(
      [np.full(arms.size, forward), before.ravel(), arms.ravel()], axis=1
    )
    items[1, :, :3] = np.stack(
      [np.full(arms.size, back), arms.ravel(), before.ravel()], axis=1
    )
    chosen = jax.random.randint(key, (size,), 0, 2 * arms.size)
    return jnp.asarray(items.reshape(2 * arms.size, -1))[chosen]

  def asked(self, batch: Batch) -> jax.Array:
    """Marks the targets that are asked for; bool [B, T]."""
    place = jnp.arange(self.length)[None]
    is_path = batch.inputs[:, :1] == self.marks[0]
    return jnp.where(is_path, place >= 1, place == 1)

  def loss(
    self, outputs: jax.Array | DeferredLogits, batch: Batch
  ) -> jax.Array:
    """The cross-entropy at `asked` positions, 0 elsewhere, [B, T].

    Each item is multiplied by T / the number of nodes it asks for, so that the
    mean over all positions is the mean over items of their nats per node.
    """
    asked = self.asked(batch)
    count = jnp.sum(asked, axis=1, keepdims=True)
    losses = cross_entropy(outputs, batch.targets)
    return jnp.where(asked, losses, 0.0) * (self.length / count)

  def correct(self, tokens: jax.Array, batch: Batch) -> jax.Array:
    """Marks the steps of paths that are right; see `PathStar.correct`.

    Args:
      tokens: a model's predictions of the targets, [B, T].
      batch: from a task without edges: the `test` split, or `edge_share` 0.
    """
    return (tokens == batch.targets)[:, 1:]

  @property
  def first_step_chance(self) -> float:
    """The first-step accuracy, forward, of a uniform guess among the arms."""
    return 1.0 / self.degree

  @property
  def bound(self) -> float:
    """The loss of a predictor that knows the graph and finds all paths.

    The unit is that of `loss`. One of l - 1 edges leaves the start; NEXT of the
    start can only be guessed among d nodes.
    """
    if self.split == "test":
      return 0.0
    return self.edge_share / 2 / self.steps * math.log(self.degree)

  @property
  def chance(self) -> float:
    """The loss of a predictor that knows only the edges, in the unit of `loss`.

    On paths it is `path_star.clever_hans`, which guesses the first step.
    """
    steps = clever_hans(self.degree, self.steps, self.direction, self.teacher)
    share = 1.0 if self.split == "test" else 1.0 - self.edge_share
    return self.bound + share * float(steps.mean())
