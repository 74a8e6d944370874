"""An induction circuit with weights set by hand, beside a duplicate-token head.

The residual stream has slots: the token, its position, the token before, and
what to say. Each holds a one-hot vector or nothing, so the mean and deviation
that LayerNorm takes out are the same everywhere.
"""

import jax
import jax.numpy as jnp

from jaxlook import models
from jaxlook.models import Decoder, DecoderConfig

VOCAB, LENGTH = 8, 16
_TOKEN = slice(0, VOCAB)
_POSITION = slice(VOCAB, VOCAB + LENGTH)
_BEFORE = slice(VOCAB + LENGTH, 2 * VOCAB + LENGTH)
_SAY = slice(2 * VOCAB + LENGTH, 3 * VOCAB + LENGTH)
WIDTH = 3 * VOCAB + LENGTH + 8
# Softmax of scores this far apart is 0 and 1 to float64's last digits.
SHARP = 60.0

CONFIG = DecoderConfig(
  layers=2,
  width=WIDTH,
  heads=2,
  max_length=LENGTH,
  vocab_size=VOCAB,
  mlp_width=0,
  tied_head=False,
)
DECODER = Decoder(CONFIG)
PREVIOUS, DUPLICATE, INDUCTION = (0, 0), (0, 1), (1, 0)


def induction_params():
  """Parameters of a model that copies what followed its last token.

  Head (0, 0) writes the token before into its slot; head (0, 1) attends to
  earlier copies of the token and writes nothing; head (1, 0) finds the query's
  token among the tokens before and says what stands there; (1, 1) is idle.
  """
  params = jax.tree.map(
    lambda x: jnp.zeros(x.shape), models.init(CONFIG, jax.random.key(0))
  )
  for norm in _norms(params):
    norm["scale"] = jnp.ones(WIDTH)
  tokens, positions = jnp.eye(VOCAB), jnp.eye(LENGTH)
  is_first = positions[:, :1]
  params["token_embedding"]["embedding"] = (
    jnp.zeros((VOCAB, WIDTH)).at[:, _TOKEN].set(tokens)
  )
  params["position_embedding"] = (
    jnp.zeros((LENGTH, WIDTH)).at[:, _POSITION].set(positions)
  )
  first, second = (params[f"block_{layer}"]["attention"] for layer in range(2))
  # The query at i asks for the position i - 1; the first one for itself.
  shifted = jnp.roll(positions, -1, axis=1).at[0].set(positions[0])
  _read(first["query"], 0, _POSITION, SHARP * shifted)
  _read(first["key"], 0, _POSITION, positions)
  _read(first["value"], 0, _TOKEN, tokens)
  _write(first["out"], 0, _BEFORE, tokens)
  # Twice the weight for the token, so that position only breaks ties: a query
  # that has an earlier copy does not attend to itself.
  _read(first["query"], 1, _TOKEN, 2.0 * SHARP * tokens, start=LENGTH)
  _read(first["key"], 1, _TOKEN, tokens, start=LENGTH)
  _read(first["query"], 1, _POSITION, -SHARP * positions)
  _read(first["key"], 1, _POSITION, positions)
  _read(second["query"], 0, _TOKEN, SHARP * tokens)
  _read(second["key"], 0, _BEFORE, tokens)
  # The first position took itself for the one before, so nobody reads there.
  second["query"]["bias"] = second["query"]["bias"].at[VOCAB].set(SHARP)
  _read(second["key"], 0, _POSITION, -is_first, start=VOCAB)
  _read(second["value"], 0, _TOKEN, tokens)
  _write(second["out"], 0, _SAY, tokens)
  params["head"]["kernel"] = (
    jnp.zeros((WIDTH, VOCAB)).at[_SAY].set(SHARP * tokens)
  )
  return params


def repeats(key, count=8):
  """Sequences of a permutation of all tokens, twice, int [count, LENGTH]."""
  keys = jax.random.split(key, count)
  halves = jax.vmap(lambda k: jax.random.permutation(k, VOCAB))(keys)
  return jnp.concatenate([halves, halves], axis=1)


def _norms(params):
  yield params["final_norm"]
  for layer in range(2):
    yield params[f"block_{layer}"]["attention_norm"]


def _read(part, head, slot, matrix, start=0):
  """A head's kernel from a slot of the stream to its dimensions from start."""
  start += head * CONFIG.head_width
  part["kernel"] = (
    part["kernel"].at[slot, start : start + matrix.shape[1]].set(matrix)
  )


def _write(part, head, slot, matrix):
  """A head's kernel from its first dimensions to a slot of the stream."""
  start = head * CONFIG.head_width
  part["kernel"] = (
    part["kernel"].at[start : start + matrix.shape[0], slot].set(matrix)
  )
