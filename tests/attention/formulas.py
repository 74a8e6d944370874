"""Attention over a set of pairs, straight from the formulas, in NumPy."""

import numpy as np

from jaxlook.attention.pairs import chosen

SCALE = 0.5


def inputs(length, dtype=np.float64, batch=2):
  """Queries, keys, values and cotangents, [batch, length, 2, 3] each."""
  generator = np.random.default_rng(length)
  return generator.normal(size=(4, batch, length, 2, 3)).astype(dtype)


def mask(pairs, length):
  """Which pairs are in the set, [T, S]."""
  return chosen(np.arange(length)[:, None] - np.arange(length), pairs)


def dense(query, key, value, pairs):
  """Outputs and log-sum-exps by the formula, from all T x T scores."""
  scores_BxNxTxS = SCALE * np.einsum("btnh,bsnh->bnts", query, key)
  att_BxNxTxS = np.exp(scores_BxNxTxS) * mask(pairs, query.shape[1])
  total_BxNxT = att_BxNxTxS.sum(-1)
  with np.errstate(divide="ignore"):
    lse = np.log(total_BxNxT)
  att_BxNxTxS /= np.where(total_BxNxT > 0, total_BxNxT, 1.0)[..., None]
  return np.einsum("bnts,bsnh->btnh", att_BxNxTxS, value), lse


def dense_gradients(query, key, value, out, lse, grad, pairs):
  """Gradients of queries, keys and values through a set, by the formula."""
  scores_BxNxTxS = SCALE * np.einsum("btnh,bsnh->bnts", query, key)
  att_BxNxTxS = np.where(
    mask(pairs, query.shape[1]), np.exp(scores_BxNxTxS - lse[..., None]), 0.0
  )
  delta_BxNxT = np.einsum("btnh,btnh->bnt", grad, out)
  change_BxNxTxS = np.einsum("btnh,bsnh->bnts", grad, value)
  change_BxNxTxS = att_BxNxTxS * (change_BxNxTxS - delta_BxNxT[..., None])
  return (
    SCALE * np.einsum("bnts,bsnh->btnh", change_BxNxTxS, key),
    SCALE * np.einsum("bnts,btnh->bsnh", change_BxNxTxS, query),
    np.einsum("bnts,btnh->bsnh", att_BxNxTxS, grad),
  )
