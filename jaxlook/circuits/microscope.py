"""The microscope: what one or two models compute on one text, as plain data.

`page_data` measures the models. `jaxlook.circuits.page` shows the result and
documents its keys. Influence is the gradient of the function that a model
computes (`forward_only`), not the gradient of its training, which is zero
wherever the variant cuts it.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook import models, stats
from jaxlook.circuits.inside import observe_model
from jaxlook.circuits.weights import unembedding
from jaxlook.errors import SettingError
from jaxlook.interventions.forward import forward_only
from jaxlook.models import Decoder
from jaxlook.numerals import counted
from jaxlook.tasks.losses import cross_entropy
from jaxlook.text.tokenizer import Tokenizer

TOP = 6
"""How many next tokens, neurons, triggers and written tokens are kept."""

_DIGITS = 4  # Decimals of nats and probabilities.


@dataclasses.dataclass(frozen=True, eq=False)
class Specimen:
  """The models of one variant.

  Attributes:
    name: the variant as in the flag, or another name of the models.
    decoder: the model, over tokens, without a teacher.
    params: parameters with a leading seed axis E.
    seeds: the seeds of that axis.
  """

  name: str
  decoder: Decoder
  params: Any
  seeds: tuple[int, ...]


def page_data(
  specimens: Sequence[Specimen],
  text: str,
  tokenizer: Tokenizer,
  *,
  seed: int | None,
  title: str,
  about: str,
) -> dict[str, Any]:
  """Measures the models of one or two variants on a text of T tokens.

  Args:
    specimens: one or two. Two must have the same shape; they are compared over
      the seeds that both have.
    text: the text that the models read.
    tokenizer: the tokenizer with which the models were trained.
    seed: the seed whose model is shown; None for the first seed that all have.
    title: title of the page.
    about: the settings, in one line.

  Returns:
    Plain data for `jaxlook.circuits.page.html`; `jaxlook.circuits.page` lists
    the keys.

  Raises:
    ValueError: the text has fewer than two tokens, or more than the model has
      positions; the seed is not in every specimen; or a number is not finite.
  """
  config = specimens[0].decoder.config
  tokens = encode_text(config, text, tokenizer)
  shared = _shared(specimens)
  seed = choose_seed(specimens, seed)
  tokens_1xT = jnp.asarray(tokens, jnp.int32)[None]
  losses = [_losses(each, shared, tokens_1xT) for each in specimens]
  variants = [
    _variant(each, loss, seed, shared.index(seed), tokens_1xT)
    for each, loss in zip(specimens, losses, strict=True)
  ]
  ids = tokens.tolist()
  named = sorted(set(ids).union(*map(_mentioned, variants)))
  return {
    "title": title,
    "about": about,
    "text": text,
    "ids": ids,
    "parts": _parts(tokenizer.show(ids)),
    "spelling": _spelling(tokenizer, named),
    "layers": config.layers,
    "heads": config.heads,
    "hidden": config.hidden_width,
    "seed": seed,
    "seeds": shared,
    "variants": variants,
    "difference": _difference(*losses) if len(losses) == 2 else None,
  }


def choose_seed(specimens: Sequence[Specimen], asked: int | None) -> int:
  """Chooses the seed whose model is shown.

  Args:
    specimens: the models.
    asked: the requested seed, or None for the first that all of them have.

  Raises:
    ValueError: not every specimen has the seed, or they have none in common.
  """
  shared = _shared(specimens)
  if not shared:
    raise ValueError("the models have no seed in common that did not diverge")
  if asked is not None and asked not in shared:
    raise SettingError("seed", f"must be one of {shared}, not {asked}")
  return shared[0] if asked is None else asked


def encode_text(
  config: models.DecoderConfig, text: str, tokenizer: Tokenizer
) -> np.ndarray:
  """Encodes a text and checks that a model can read it.

  Args:
    config: the model's shape.
    text: the text to encode.
    tokenizer: makes the tokens.

  Returns:
    Ids, int32 [T].

  Raises:
    ValueError: the text is not Unicode; it has fewer than two tokens, so that
      no token is predicted; it has more tokens than the model has positions; or
      an id is not in the model's vocabulary.
  """
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise ValueError(f"is not Unicode text: {error.reason}") from error
  tokens = np.concatenate(list(tokenizer.encode([text]))).astype(np.int32)
  if not 2 <= len(tokens) <= config.max_length:
    raise ValueError(
      f"has {counted(len(tokens), 'token')}; the model reads 2 to"
      f" {config.max_length}"
    )
  if tokens.min() < 0 or tokens.max() >= (config.vocab_size or 0):
    raise SettingError(
      "tokenizer",
      f"makes the token {tokens.max()}, but the model knows only ids"
      f" below {config.vocab_size}",
    )
  return tokens


def _spelling(tokenizer: Tokenizer, ids: Sequence[int]) -> dict[str, str]:
  """How tokens are shown, by id; "" for ids that the tokenizer lacks."""
  known = [token for token in ids if token < tokenizer.vocab_size]
  shown = dict(zip(known, tokenizer.show(known), strict=True))
  return {str(token): shown.get(token, "") for token in ids}


def _parts(shown: Sequence[str]) -> dict[str, str]:
  """The whole characters to which tokens that hold only some bytes belong.

  Args:
    shown: consecutive tokens, as `Tokenizer.show` writes them.

  Returns:
    Characters by place. Places are strings, because JSON needs strings as keys.
    Incomplete characters are left out.
  """
  characters: dict[str, str] = {}
  waiting: dict[int, bytes] = {}
  for place, text in enumerate(shown):
    if not re.fullmatch("(<[0-9A-F]{2}>)+", text):
      waiting = {}
      continue
    waiting[place] = bytes.fromhex(re.sub("[<>]", "", text))
    try:
      whole = b"".join(waiting.values()).decode()
    except UnicodeDecodeError:
      continue
    characters |= {str(part): whole for part in waiting}
    waiting = {}
  return characters


def _shared(specimens: Sequence[Specimen]) -> list[int]:
  first, *others = (specimen.seeds for specimen in specimens)
  return [seed for seed in first if all(seed in each for each in others)]


def _losses(
  specimen: Specimen, seeds: Sequence[int], tokens_1xT: jax.Array
) -> np.ndarray:
  """The loss on each token but the first in nats, float64 [E, T - 1]."""
  kept = np.array([specimen.seeds.index(seed) for seed in seeds])
  params = jax.tree.map(lambda x: jnp.asarray(x)[kept], specimen.params)
  losses_ExT = _next_losses(forward_only(specimen.decoder), params, tokens_1xT)
  losses = np.asarray(losses_ExT, np.float64)
  if not np.isfinite(losses).all():
    raise ValueError(f"{specimen.name} gives losses that are not finite")
  return losses


@functools.partial(jax.jit, static_argnums=0)
def _next_losses(
  decoder: Decoder, params: Any, tokens_1xT: jax.Array
) -> jax.Array:
  def one(params: Any) -> jax.Array:
    logits = models.apply(decoder, params, tokens_1xT)
    return cross_entropy(logits[:, :-1], tokens_1xT[:, 1:])[0]

  return jax.vmap(one)(params)


def _variant(
  specimen: Specimen,
  losses_ExT: np.ndarray,
  seed: int,
  at: int,
  tokens_1xT: jax.Array,
) -> dict[str, Any]:
  """The page's data on a variant; `at` is the row of the seed's losses."""
  index = specimen.seeds.index(seed)
  params = jax.tree.map(lambda x: jnp.asarray(x[index]), specimen.params)
  decoder = forward_only(specimen.decoder)
  seen = jax.tree.map(
    np.asarray, observe_model(decoder, params, tokens_1xT, TOP)
  )
  out = np.asarray(unembedding(decoder.config, params, fold_norms=True))
  for what, array in (
    ("attention", seen.pattern),
    ("neurons", seen.neurons),
    ("next tokens", seen.share),
    ("influence", seen.influence),
    ("the unembedding", out),
  ):
    _check_finite(specimen.name, what, array)
  return {
    "name": specimen.name,
    "loss": [None, *_rounded(losses_ExT[at])],
    "loss_mean": [None, *_rounded(losses_ExT.mean(axis=0))],
    "pattern": [
      [
        np.rint(1000 * each[_below(each)]).astype(int).tolist()
        for each in layer
      ]
      for layer in seen.pattern
    ],
    "lens": {
      "top": seen.top.tolist(),
      "share": _rounded(seen.share),
      "next_share": _rounded(seen.next_share),
      "next_rank": seen.next_rank.tolist(),
    },
    "neurons": [
      _neurons(specimen.name, activation_TxF, params[f"block_{layer}"], out)
      for layer, activation_TxF in enumerate(seen.neurons)
    ],
    "influence": [_significant(each[_below(each)]) for each in seen.influence],
  }


def _check_finite(name: str, what: str, array: np.ndarray) -> None:
  """Raises ValueError for numbers that JSON cannot hold."""
  bad = array.size - np.count_nonzero(np.isfinite(array))
  if bad:
    raise ValueError(
      f"{name} gives {what} of which {bad} of {array.size} numbers are not"
      " finite: its weights are too large"
    )


def _neurons(
  name: str, activation_TxF: np.ndarray, block: Any, out_DxV: np.ndarray
) -> dict[str, Any]:
  """The most active neurons of a layer at each place, and what they do."""
  if not activation_TxF.shape[1]:
    return {"top": [], "activation": [], "found": {}}
  top_TxK = _largest(activation_TxF)
  shown = np.unique(top_TxK)
  with np.errstate(over="ignore", invalid="ignore"):
    values = np.asarray(block["mlp"]["down"]["kernel"])[shown] @ out_DxV
  _check_finite(name, "what neurons write", values)
  writes, places = _largest(values), _largest(activation_TxF.T[shown])
  found = {
    str(neuron): {
      "places": places[row].tolist(),
      "activations": _significant(activation_TxF[places[row], neuron]),
      "writes": writes[row].tolist(),
      "logits": _significant(values[row, writes[row]]),
    }
    for row, neuron in enumerate(shown.tolist())
  }
  chosen = np.take_along_axis(activation_TxF, top_TxK, axis=1)
  return {
    "top": top_TxK.tolist(),
    "activation": [_significant(row) for row in chosen],
    "found": found,
  }


def _mentioned(variant: Mapping[str, Any]) -> set[int]:
  """The token ids that the data of a variant mention."""
  ids = set(np.ravel(variant["lens"]["top"]).tolist())
  for layer in variant["neurons"]:
    for neuron in layer["found"].values():
      ids.update(neuron["writes"])
  return ids


def _difference(
  first_ExT: np.ndarray, second_ExT: np.ndarray
) -> dict[str, Any]:
  """The second model's losses minus the first's, with intervals over seeds."""
  extra_ExT = second_ExT - first_ExT
  mean = [None, *_rounded(extra_ExT.mean(axis=0))]
  total = {
    "mean": round(float(extra_ExT.mean()), _DIGITS),
    "low": None,
    "high": None,
  }
  found = {"mean": mean, "low": None, "high": None, "total": total}
  if len(extra_ExT) < 2:
    return found
  bounds = np.array(
    [stats.mean_interval(column).ci95 for column in extra_ExT.T]
  )
  low, high = stats.mean_interval(extra_ExT.mean(axis=1)).ci95
  return found | {
    "low": [None, *_rounded(bounds[:, 0])],
    "high": [None, *_rounded(bounds[:, 1])],
    "total": total | {"low": round(low, _DIGITS), "high": round(high, _DIGITS)},
  }


def _largest(x: np.ndarray) -> np.ndarray:
  """Indices of the `TOP` largest numbers of each row, the largest first."""
  count = min(TOP, x.shape[1])
  some = np.argpartition(-x, count - 1, axis=1)[:, :count]
  order = np.argsort(
    -np.take_along_axis(x, some, axis=1), axis=1, kind="stable"
  )
  return np.take_along_axis(some, order, axis=1)


def _below(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The indices of the lower triangle, row by row."""
  return np.tril_indices(len(x))


def _rounded(x: np.ndarray) -> list[Any]:
  return np.round(np.asarray(x, np.float64), _DIGITS).tolist()


def _significant(x: np.ndarray) -> list[float]:
  return [float(f"{each:.3g}") for each in x.tolist()]
