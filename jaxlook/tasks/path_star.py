"""Path-star graphs in context: the first step needs the whole path.

  u v | u v | .. u v / start goal = p_1 p_2 .. p_{l-1}

`degree` arms leave one start. The prompt lists their edges, shuffled, with
random labels. The answer is the path from the start to the goal p_{l-1}, the
end of one arm. Given the true path so far, every step except the first follows
from one edge. So under teacher forcing only the first step needs a plan, and a
predictor that only follows edges ("Clever Hans") is at chance there. In the
other direction, from the goal to the start, each step follows from one edge.

The published training hides the path in two ways. `teacherless` replaces every
input of the answer by a dummy token. `masked` replaces each input with a
probability that is uniform over [0, 1] for each sequence. The start is not part
of the answer.

Source: Bachmann and Nagarajan (2024), "The Pitfalls of Next-Token Prediction",
arXiv 2403.06963; masking at a uniform rate: Kitouni et al. (2024), arXiv
2406.05183. In `path_star_weights` a model memorizes the edges instead.
"""

import dataclasses
import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.errors import SettingError
from jaxlook.tasks.losses import DeferredLogits, cross_entropy
from jaxlook.tasks.task import Batch

Direction = Literal["forward", "reversed"]
AnswerInputs = Literal["forced", "teacherless", "masked"]


@dataclasses.dataclass(frozen=True)
class PathStar:
  """Graphs of one shape.

  Attributes:
    degree: d, the number of arms.
    path_length: l, the nodes of a path, including start and goal.
    node_count: number of labels, which are the tokens 0, 1, ..
    direction: `forward` for p_1 .. goal, `reversed` for goal .. p_1.
    teacher: the inputs of the answer: `forced` (the true path), `teacherless`
      or `masked`.

  Raises:
    SettingError: a field is out of range.
  """

  degree: int = 2
  path_length: int = 5
  node_count: int = 50
  direction: Direction = "forward"
  teacher: AnswerInputs = "forced"

  def __post_init__(self):
    """Checks the fields."""
    check_shape(self.degree, self.path_length)
    if self.node_count < self.nodes:
      raise SettingError(
        "node_count",
        f"must be at least {self.nodes}, the nodes of a graph, not"
        f" {self.node_count}",
      )
    for field, allowed in (("direction", Direction), ("teacher", AnswerInputs)):
      if getattr(self, field) not in get_args(allowed):
        raise SettingError(
          field,
          f"must be one of {', '.join(get_args(allowed))}, not"
          f" {getattr(self, field)!r}",
        )

  @property
  def nodes(self) -> int:
    """Number of nodes of a graph."""
    return self.degree * self.steps + 1

  @property
  def steps(self) -> int:
    """Number of edges of a path, which is the number of answer tokens."""
    return self.path_length - 1

  @property
  def edge_mark(self) -> int:
    """The token between two edges; the three other marks follow it."""
    return self.node_count

  @property
  def query_mark(self) -> int:
    """The token before start and goal."""
    return self.node_count + 1

  @property
  def answer_mark(self) -> int:
    """The token before the answer."""
    return self.node_count + 2

  @property
  def dummy(self) -> int:
    """The token that hides an input of the answer."""
    return self.node_count + 3

  @property
  def vocab_size(self) -> int:
    """Number of tokens."""
    return self.node_count + 4

  @property
  def prompt_length(self) -> int:
    """Number of tokens before the answer; the first step is predicted there."""
    return 3 * self.degree * self.steps + 3

  @property
  def length(self) -> int:
    """T, the number of input positions."""
    return self.prompt_length + self.steps - 1

  def batch(
    self, key: jax.Array, size: int, fed: jax.Array | None = None
  ) -> Batch:
    """Draws graphs, each with one path.

    Args:
      key: a PRNG key, consumed.
      size: number of graphs B.
      fed: not used.

    Returns:
      Tokens and next tokens, int32 [B, T].
    """
    del fed
    key_graph, key_hide = jax.random.split(key)
    tokens = jax.vmap(self._sequence)(jax.random.split(key_graph, size))
    inputs = hide(
      key_hide, tokens[:, :-1], self.prompt_length, self.teacher, self.dummy
    )
    return Batch(inputs=inputs, targets=tokens[:, 1:])

  def _sequence(self, key: jax.Array) -> jax.Array:
    """Draws a graph, and a path in the answer's direction; int32 [T + 1]."""
    key_label, key_arm, key_edge = jax.random.split(key, 3)
    labels = jax.random.permutation(
      key_label, jnp.arange(self.node_count, dtype=jnp.int32)
    )
    arms = labels[1 : self.nodes].reshape(self.degree, self.steps)
    start = jnp.broadcast_to(labels[:1], (self.degree, 1))
    before = jnp.concatenate([start, arms[:, :-1]], axis=1)
    marks = jnp.full((self.degree * self.steps,), self.edge_mark, jnp.int32)
    edges = jnp.stack([before.reshape(-1), arms.reshape(-1)], axis=1)
    edges = jax.random.permutation(key_edge, edges)
    edges = jnp.concatenate([edges, marks[:, None]], axis=1).reshape(-1)
    path = arms[jax.random.randint(key_arm, (), 0, self.degree)]
    query = [self.query_mark, labels[0], path[-1], self.answer_mark]
    return jnp.concatenate(
      [
        edges[:-1],
        jnp.stack([jnp.asarray(token, jnp.int32) for token in query]),
        path if self.direction == "forward" else path[::-1],
      ]
    )

  def loss(
    self, outputs: jax.Array | DeferredLogits, batch: Batch
  ) -> jax.Array:
    """The cross-entropy at the answer, 0 elsewhere, [B, T].

    It is multiplied by T / (l - 1), so that the mean over all positions, which
    training and evaluation use, is in nats per token of the answer.
    """
    losses = cross_entropy(outputs, batch.targets)
    asked = jnp.arange(self.length)[None] >= self.prompt_length - 1
    return jnp.where(asked, losses, 0.0) * (self.length / self.steps)

  def correct(self, tokens: jax.Array, batch: Batch) -> jax.Array:
    """Marks the steps that are right; bool [B, l - 1], in the answer's order.

    The mean over graphs of the first column is the first-step accuracy; the
    mean of `all` over steps is the accuracy of whole paths. If `tokens` are the
    most likely ones given the true path so far, a whole path is right exactly
    if greedy decoding gets it right.

    Args:
      tokens: a model's predictions of the targets, [B, T].
      batch: from `batch`.
    """
    return (tokens == batch.targets)[:, self.prompt_length - 1 :]

  @property
  def first_step_chance(self) -> float:
    """The first-step accuracy of a uniform guess among the arms."""
    return 1.0 / self.degree

  def clever_hans(self) -> np.ndarray:
    """The loss of a predictor that only follows edges, by step, nats [l - 1].

    See the function `clever_hans`.
    """
    return clever_hans(self.degree, self.steps, self.direction, self.teacher)

  @property
  def chance(self) -> float:
    """The mean of `clever_hans`, nats per token of the answer."""
    return float(self.clever_hans().mean())

  @property
  def bound(self) -> float:
    """The loss of the optimal predictor: the prompt determines the path."""
    return 0.0


def check_shape(degree: int, path_length: int) -> None:
  """Raises an error if the shape is not a star.

  Args:
    degree: number of arms.
    path_length: nodes from the start to the end of an arm, both included.

  Raises:
    SettingError: one of them is below 2.
  """
  for name, value in (("degree", degree), ("path_length", path_length)):
    if value < 2:
      raise SettingError(name, f"must be at least 2, not {value}")


def hide(
  key: jax.Array,
  inputs: jax.Array,
  first: int,
  teacher: AnswerInputs,
  dummy: int,
) -> jax.Array:
  """Replaces inputs of the answer by a dummy token.

  Args:
    key: a PRNG key, consumed.
    inputs: tokens, integer [B, T].
    first: position where the answer begins; earlier inputs are kept.
    teacher: `forced` hides nothing, `teacherless` everything, `masked` each
      token with a probability that is uniform over [0, 1] for the sequence.
    dummy: the dummy token.

  Returns:
    Tokens, integer [B, T].
  """
  if teacher == "forced":
    return inputs
  hidden = jnp.arange(inputs.shape[1])[None] >= first
  if teacher == "masked":
    key_rate, key_token = jax.random.split(key)
    rate = jax.random.uniform(key_rate, (inputs.shape[0], 1))
    hidden &= jax.random.uniform(key_token, inputs.shape) < rate
  return jnp.where(hidden, dummy, inputs)


def clever_hans(
  degree: int, steps: int, direction: Direction, teacher: AnswerInputs
) -> np.ndarray:
  """Returns the loss of a predictor that only follows edges, by step.

  It continues from the last node of the path in its input. If there is none, it
  knows only its distance from the start and guesses among d nodes, at ln d.
  This happens at the first step; at every step if `teacherless`; and at step t
  if `masked` with probability 1 / t, the probability that all t - 1 earlier
  inputs are hidden. If `reversed`, it continues from the goal in the prompt.

  Args:
    degree: d, number of arms.
    steps: l - 1, number of tokens of the answer.
    direction: direction of the answer.
    teacher: inputs of the answer.

  Returns:
    Nats per token, [l - 1].
  """
  if direction == "reversed":
    return np.zeros(steps)
  step = np.arange(1, steps + 1)
  guesses = {"forced": step == 1, "teacherless": step > 0, "masked": 1 / step}
  return math.log(degree) * guesses[teacher]
