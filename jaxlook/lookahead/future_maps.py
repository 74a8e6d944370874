"""The linear maps of the future lens: to a later state, and to logits.

Source: Pal et al. (2023), arXiv 2311.04897, section 3.2.
"""

import jax
import jax.numpy as jnp
import optax

from jaxlook import models
from jaxlook.lookahead.future_pairs import LensSetup, StatePairs
from jaxlook.lookahead.soft_prompt import minimise
from jaxlook.models import Decoder, residual_site
from jaxlook.models.decoder import Params
from jaxlook.probing import linear

_ROWS = 256  # Read at a time; bounds the memory for the logits.


def read_out(decoder: Decoder, params: Params, states: jax.Array) -> jax.Array:
  """What the model's final norm and head make of states [n, D]; [n, V]."""
  site = residual_site(decoder.config, decoder.config.layers)
  inputs = jnp.zeros((states.shape[0], 1), jnp.int32)
  edits = {site: lambda _: states[:, None]}
  return models.apply(decoder, params, inputs, edits=edits)[:, 0]


def hidden_guesses(
  decoder: Decoder,
  params: Params,
  fitted: StatePairs,
  others: StatePairs,
  layer: jax.Array | int,
  penalty: float = linear.PENALTY,
) -> jax.Array:
  """The linear map to the later state: fits on some pairs and decodes others.

  Args:
    decoder: the model, whose final norm and head read the result.
    params: its parameters.
    fitted: n pairs to fit on.
    others: m pairs to decode.
    layer: of the states, in 0..L; may be traced.
    penalty: of `jaxlook.probing.linear.fit_ridge`.

  Returns:
    The most likely tokens, integer [m, K].

  Source: Pal et al. (2023), section 3.2. Differs from it in the fit, which is
  ridge regression in closed form.
  """
  later_shape = fitted.later.shape[1:]
  probe = linear.fit_ridge(
    fitted.states[:, layer],
    fitted.later.reshape(len(fitted.later), -1),
    penalty=penalty,
  )

  def guess(state: jax.Array) -> jax.Array:
    later_KxD = linear.predict(probe, state).reshape(later_shape)
    return jnp.argmax(read_out(decoder, params, later_KxD), axis=-1)

  return jax.lax.map(guess, others.states[:, layer], batch_size=_ROWS)


def logits_guesses(
  key: jax.Array,
  vocab_size: int,
  fitted: StatePairs,
  others: StatePairs,
  layer: jax.Array | int,
  setup: LensSetup,
) -> jax.Array:
  """The linear map to logits: fits on some pairs and decodes others.

  Softmax regression on standardised states from zero weights, by `minimise`.

  Args:
    key: a PRNG key, consumed; decides the batches.
    vocab_size: number of tokens, V.
    fitted: n pairs to fit on.
    others: m pairs to decode.
    layer: of the states, in 0..L; may be traced.
    setup: gives steps, batch size and learning rate.

  Returns:
    The most likely tokens, integer [m, K].

  Source: Pal et al. (2023), section 3.2.
  """
  scale = linear.scaling(fitted.states[:, layer])
  z_nxD = scale(fitted.states[:, layer])
  dtype, width = z_nxD.dtype, z_nxD.shape[1]
  horizon = fitted.tokens.shape[1]

  def logits(weights: tuple[jax.Array, jax.Array], z: jax.Array) -> jax.Array:
    return jnp.einsum("nd,dkv->nkv", z, weights[0]) + weights[1][None]

  def nats(weights: tuple[jax.Array, jax.Array], picks: jax.Array) -> jax.Array:
    losses_BxK = optax.softmax_cross_entropy_with_integer_labels(
      logits(weights, z_nxD[picks]), fitted.tokens[picks]
    )
    # A sum over tau, for these are separate maps fitted side by side.
    return jnp.sum(jnp.mean(losses_BxK, axis=0))

  weights = minimise(
    nats,
    (
      jnp.zeros((width, horizon, vocab_size), dtype),
      jnp.zeros((horizon, vocab_size), dtype),
    ),
    key,
    rows=len(z_nxD),
    steps=setup.map_steps,
    batch_size=setup.map_batch,
    learning_rate=setup.map_rate,
  )
  return jax.lax.map(
    lambda state: jnp.argmax(logits(weights, scale(state[None]))[0], axis=-1),
    others.states[:, layer],
    batch_size=_ROWS,
  )
