"""Steers line 2 by the mean difference between two rhyme classes.

The edit adds a vector to the residual stream of a RHY couplet of class r, at
one place, at the input of one layer. At each position the vector is strength
times (mean stream of RHY couplets of class r' minus mean stream of class r).
The means are over a separate set of couplets. The control is a random direction
of the same length. FREE couplets are steered by the classes of their keys. The
target class r' is that of `swaps.donors`. The axes K of the arrays of
`stream_edits` are the kind of direction (`KINDS`) and the strength.

Source: Maar et al. (2026), arXiv 2601.20164, who steer language models from one
rhyme family to another at the end of line 1.
"""

import flax.struct
import jax
import jax.numpy as jnp

from jaxlook.models import Decoder
from jaxlook.models.decoder import Params
from jaxlook.planning.couplets.stream_edits import StreamEdits, residual_streams
from jaxlook.planning.couplets.swaps import donors
from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Couplets
from jaxlook.tasks.task import Batch

MEAN_DIFFERENCE, RANDOM = KINDS = ("mean difference", "random direction")
"""The kinds of directions, in the order of the first axis K."""


@flax.struct.dataclass
class Steering:
  """Steers every couplet towards its target class.

  Attributes:
    reference: couplets for the means, with about 20 or more RHY couplets per
      class. A steered couplet does not count if its class or its target class
      has no RHY couplet here.
    strengths: factors of the direction, float [A].
    key: a PRNG key, consumed; draws the random directions.
  """

  reference: Batch
  strengths: jax.Array
  key: jax.Array

  def edits(
    self, decoder: Decoder, task: Couplets, params: Params, batch: Batch
  ) -> StreamEdits:
    """The edits of a batch, for each of `KINDS` and each strength.

    Args:
      decoder: the model.
      task: the language.
      params: parameters of one seed.
      batch: couplets to steer.

    Returns:
      Edits with two axes of kinds: direction and strength.
    """
    truth, known = task.truth(batch), task.truth(self.reference)
    aimed = donors(truth)
    own_LxBxTxD = residual_streams(decoder, params, batch.inputs)
    read_LxRxTxD = residual_streams(decoder, params, self.reference.inputs)
    member_RxC = (
      jax.nn.one_hot(known.key, language.CLASSES) * known.rhymes[:, None]
    )
    size_C = jnp.sum(member_RxC, axis=0)
    share_RxC = member_RxC / jnp.maximum(size_C, 1.0)[None]
    mean_LxCxTxD = jnp.einsum("lrtd,rc->lctd", read_LxRxTxD, share_RxC)
    has_means = (size_C[truth.key] > 0) & (size_C[aimed.target] > 0)
    difference = mean_LxCxTxD[:, aimed.target] - mean_LxCxTxD[:, truth.key]
    random = jax.random.normal(self.key, difference.shape, difference.dtype)
    length, random_length = (
      jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (difference, random)
    )
    directions = jnp.stack([difference, random * length / random_length])

    def values(kind: jax.Array) -> jax.Array:
      direction, strength = jnp.divmod(kind, len(self.strengths))
      return own_LxBxTxD + self.strengths[strength] * directions[direction]

    valid = aimed.valid[0] & has_means
    shape = (len(KINDS), len(self.strengths), len(valid))
    return StreamEdits(
      values, jnp.broadcast_to(valid[None, None], shape), aimed.target
    )
