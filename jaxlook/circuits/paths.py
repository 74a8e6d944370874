"""The logits of an attention-only decoder as a sum over paths.

Attention patterns and the deviations that LayerNorm divides by are held
constant, at their values on the given tokens. Then the map from embeddings to
logits is affine, and it splits exactly into a sum of terms: the direct path to
the unembedding, the paths through one head, the paths through two heads in a
row (virtual heads), and so on. A deviation is one number per position at each
of the L + 1 places where the stream is read. The rest of LayerNorm (gain,
centring and bias) is part of the affine map. Because patterns are constant, no
term shows what a head does for the queries and keys of later heads.

Every bias belongs to one term. A head's term holds its value bias and the bias
of the LayerNorm before it. A layer's output bias is part of the stream after
that layer. `PathTerms.bias` holds its direct path to the logits; the terms of
later heads hold what they read of it.

Source: Elhage et al. (2021), "A Mathematical Framework for Transformer
Circuits", sections "One-layer" and "Two-layer attention-only transformers".
Their models have no LayerNorm in the terms and no output bias.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.circuits.weights import HeadWeights, head_weights, unembedding
from jaxlook.interventions.forward import capture, forward_only
from jaxlook.models import Decoder, residual_sites

Head = tuple[int, int]


class Frozen(NamedTuple):
  """An attention-only decoder on some tokens, as an affine function.

  Attributes:
    start: embeddings of tokens and positions, [B, T, D].
    patterns: attention, [L, B, N, T, S].
    deviations: what LayerNorm divides by, before each layer and at the end,
      [L + 1, B, T, 1].
    weights: the weights of every head, with the rest of LayerNorm folded in.
    unembed: W_U with the rest of the last LayerNorm folded in, [D, V].
    bias: what the last LayerNorm's bias adds to the logits, [V].
  """

  start: jax.Array
  patterns: jax.Array
  deviations: jax.Array
  weights: HeadWeights
  unembed: jax.Array
  bias: jax.Array


class PathTerms(NamedTuple):
  """Logits by path, up to single heads.

  Attributes:
    direct: from the embeddings, through no head, [B, T, V].
    bias: from output biases and the last LayerNorm's bias, through no head,
      [B, T, V].
    heads: from the embeddings and earlier layers' output biases through one
      head, with its own biases, [L, N, B, T, V].
  """

  direct: jax.Array
  bias: jax.Array
  heads: jax.Array


def freeze(decoder: Decoder, params: Any, tokens: jax.Array) -> Frozen:
  """Runs a decoder and keeps everything that its path terms need.

  Args:
    decoder: an attention-only model over tokens; gradient cuts do not matter.
    params: its parameters, of one seed.
    tokens: integer [B, T].

  Returns:
    The frozen model, for the other functions of this module.

  Raises:
    ValueError: the model has feed-forward layers, has no logits, or does not
      read its own keys and values (for example the variant `teacher`).
  """
  config = decoder.config
  if config.hidden_width:
    raise ValueError(
      f"hidden_width must be 0, not {config.hidden_width}: a feed-forward layer"
      " is not a sum over paths"
    )
  if config.vocab_size is None or config.output_features is not None:
    raise ValueError("paths lead from tokens to logits: the model has none")
  plain = forward_only(decoder)
  for spec in plain.variant.distinct:
    if spec.source != "own":
      raise ValueError(
        f"attention {spec} does not read the model's own keys and values"
      )
  streams = residual_sites(config)
  patterns = [f"block_{i}/attention/pattern" for i in range(config.layers)]
  _, seen = capture(plain, params, tokens, (*streams, *patterns))
  variances = [jnp.var(seen[at], axis=-1, keepdims=True) for at in streams]
  return Frozen(
    start=seen[streams[0]],
    patterns=jnp.stack([seen[at] for at in patterns]),
    deviations=jnp.sqrt(jnp.stack(variances) + config.norm_epsilon),
    weights=head_weights(config, params, fold_norms=True),
    unembed=unembedding(config, params, fold_norms=True),
    bias=params["final_norm"]["bias"] @ unembedding(config, params),
  )


def path_terms(frozen: Frozen) -> PathTerms:
  """The logits of the direct path, of the biases and of every single head.

  In a one-layer model they sum to the logits. In deeper models the virtual
  heads are missing: `virtual_head` gives one of them, `order_terms` their sum.

  Args:
    frozen: from `freeze`.

  Returns:
    The terms. The array of heads has L N B T V numbers.
  """
  layers = len(frozen.patterns)
  stream = _stream(frozen, layers)
  heads = [
    _logits(frozen, _write(frozen, layer, _stream(frozen, layer), biased=True))
    for layer in range(layers)
  ]
  return PathTerms(
    direct=_logits(frozen, frozen.start),
    bias=_logits(frozen, stream - frozen.start) + frozen.bias[None, None],
    heads=jnp.stack(heads),
  )


def virtual_head(frozen: Frozen, first: Head, second: Head) -> jax.Array:
  """The logits of the paths through two heads, one after the other.

  Args:
    frozen: from `freeze`.
    first: layer and index of the head that the path passes first.
    second: layer and index of the head that reads the first one's output.

  Returns:
    [B, T, V], with the first head's biases. The second head's biases are in its
    term of `path_terms`.

  Raises:
    ValueError: the second head is not in a later layer than the first.
  """
  (early, m), (late, n) = first, second
  if not 0 <= early < late < len(frozen.patterns):
    raise ValueError(
      f"the second head must be in a later layer than the first, of"
      f" {len(frozen.patterns)} layers; got layers {early} and {late}"
    )
  wrote = _write(frozen, early, _stream(frozen, early), biased=True)[m]
  return _logits(frozen, _write(frozen, late, wrote, biased=False)[n])


def order_terms(frozen: Frozen) -> jax.Array:
  """The logits of all paths through exactly n heads, for every n.

  Iterates the affine map: in each round, heads read what the heads of earlier
  layers wrote in the round before.

  Args:
    frozen: from `freeze`.

  Returns:
    [L + 1, B, T, V]: order 0 (direct path and biases) to order L. Their sum is
    the model's logits.
  """
  layers = len(frozen.patterns)
  wrote = _single(frozen)
  terms = [_logits(frozen, _stream(frozen, layers)) + frozen.bias[None, None]]
  for _ in range(layers):
    terms.append(_logits(frozen, sum(wrote, jnp.zeros_like(frozen.start))))
    wrote = [
      _write(
        frozen,
        layer,
        sum(wrote[:layer], jnp.zeros_like(wrote[0])),
        biased=False,
      ).sum(axis=0)
      for layer in range(layers)
    ]
  return jnp.stack(terms)


def order_logits(frozen: Frozen) -> jax.Array:
  """The logits of all paths through at most n heads, for every n.

  They equal those of the published ablation. It runs the model with frozen
  patterns several times. In each run, later layers read the heads' outputs of
  the run before; in the first run these are zero.

  Args:
    frozen: from `freeze`.

  Returns:
    [L + 1, B, T, V]; the last entry is the model's logits.

  Source: Elhage et al. (2021), "Term importance analysis".
  """
  return jnp.cumsum(order_terms(frozen), axis=0)


def at_own_position(frozen: Frozen) -> Frozen:
  """The same model, but heads move nothing between positions.

  Args:
    frozen: from `freeze`.

  Returns:
    A frozen model whose terms are the paths that never leave their position.
  """
  own = jnp.eye(frozen.patterns.shape[-1], dtype=frozen.patterns.dtype)
  return frozen._replace(patterns=frozen.patterns * own[None, None, None])


def layer_terms(frozen: Frozen) -> jax.Array:
  """The logits of the single heads of each layer: order 1, split by layer.

  Args:
    frozen: from `freeze`.

  Returns:
    [L, B, T, V]; the sum is order 1 of `order_terms`.
  """
  return jnp.stack([_logits(frozen, wrote) for wrote in _single(frozen)])


def _stream(frozen: Frozen, layer: int) -> jax.Array:
  """The stream before a layer without heads: embeddings and output biases."""
  return frozen.start + frozen.weights.out_bias[:layer].sum(axis=0)[None, None]


def _single(frozen: Frozen) -> list[jax.Array]:
  """What the heads of each layer write if they read no head, [B, T, D]."""
  return [
    _write(frozen, layer, _stream(frozen, layer), biased=True).sum(axis=0)
    for layer in range(len(frozen.patterns))
  ]


def _write(
  frozen: Frozen, layer: int, x_BxTxD: jax.Array, *, biased: bool
) -> jax.Array:
  """The outputs of a layer's heads for a part of the stream, [N, B, T, D]."""
  w = frozen.weights
  read = x_BxTxD / frozen.deviations[layer]
  value_BxSxNxH = jnp.einsum("bsd,ndh->bsnh", read, w.value[layer])
  if biased:
    value_BxSxNxH += w.value_bias[layer][None, None]
  z = jnp.einsum("bnts,bsnh->nbth", frozen.patterns[layer], value_BxSxNxH)
  return jnp.einsum("nbth,nhd->nbtd", z, w.out[layer])


def _logits(frozen: Frozen, x: jax.Array) -> jax.Array:
  """The logits [..., B, T, V] of parts of the last stream [..., B, T, D]."""
  deviation = frozen.deviations[-1]
  missing = tuple(range(x.ndim - deviation.ndim))
  return x / jnp.expand_dims(deviation, missing) @ frozen.unembed
