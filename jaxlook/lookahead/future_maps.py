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

_ROWS = 256  # States decoded at a time; bounds the memory for the logits.


def read_out(decoder: Decoder, params: Params, states: jax.Array) -> jax.Array:
  """The logits [n, V] of states [n, D], by the model's final norm and head."""
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
  """The linear map to the later state: fits on some pairs, decodes others.

  Args:
    decoder: the model; its final norm and head read the result.
    params: its parameters.
    fitted: n pairs to fit on.
    others: m pairs to decode.
    layer: of the states, in 0..L; may be traced.
    penalty: see `jaxlook.probing.linear.fit_ridge`.

  Returns:
    The most likely tokens, integer [m, K].

  Source: Pal et al. (2023), section 3.2. We fit by ridge regression in closed
  form.
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
  """The linear map to logits: fits on some pairs, decodes others.

  Softmax regression on standardised states from zero weights, by `minimise`.

  Args:
    key: a PRNG key, consumed; draws the batches.
    vocab_size: number of tokens, V.
    fitted: n pairs to fit on.
    others: m pairs to decode.
    layer: of the states, in 0..L; may be traced.
    setup: gives the settings of the optimiser.

  Returns:
    The most likely tokens, integer [m, K].

  Source: Pal et al. (2023), section 3.2.
  """
  states_nxD = fitted.states[:, layer]
  scale = linear.scaling(states_nxD, linear.PENALTY_LOGISTIC)
  z_nxD = scale(states_nxD)
  dtype, width = z_nxD.dtype, z_nxD.shape[1]
  horizon = fitted.tokens.shape[1]

  def logits(weights: tuple[jax.Array, jax.Array], z: jax.Array) -> jax.Array:
    return jnp.einsum("nd,dkv->nkv", z, weights[0]) + weights[1][None]

  def nats(weights: tuple[jax.Array, jax.Array], picks: jax.Array) -> jax.Array:
    losses_BxK = optax.softmax_cross_entropy_with_integer_labels(
      logits(weights, z_nxD[picks]), fitted.tokens[picks]
    )
    # The maps of different tau are separate, so the sum fits each of them.
    return jnp.sum(jnp.mean(losses_BxK, axis=0))

  weights = minimise(
    nats,
    (
      jnp.zeros((width, horizon, vocab_size), dtype),
      jnp.zeros((horizon, vocab_size), dtype),
    ),
    key,
    rows=len(z_nxD),
    adam=setup.map_adam,
  )
  return jax.lax.map(
    lambda state: jnp.argmax(logits(weights, scale(state[None]))[0], axis=-1),
    others.states[:, layer],
    batch_size=_ROWS,
  )
