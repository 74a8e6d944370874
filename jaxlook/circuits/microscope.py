"""The microscope: all that a few models compute on one text, as plain data.

`page_data` takes the models apart; `jaxlook.circuits.page` shows what it
returns, and documents it key by key. Influence is of the function that a model
computes (`forward_only`), not of the gradients that its training kept: those
are zero wherever the variant cuts them.
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
from jaxlook.tasks.losses import cross_entropy
from jaxlook.text.tokenizer import Tokenizer

TOP = 6
"""How many next tokens, neurons, triggers and written tokens are kept."""

_DIGITS = 4  # Behind the point, of nats and probabilities.


@dataclasses.dataclass(frozen=True, eq=False)
class Specimen:
  """The models of one variant.

  Attributes:
    name: the attention's flag form, or what else they are called.
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
  """Takes one or two variants' models apart on a text of T tokens.

  Args:
    specimens: the models; two are of one shape and are compared over the seeds
      that both have.
    text: what they read.
    tokenizer: makes its tokens, as the models know them.
    seed: whose inside is shown; None for the first that all have.
    title: what is looked at.
    about: its settings, in a line.

  Returns:
    Plain data for `jaxlook.circuits.page.html`, which lists the keys.

  Raises:
    ValueError: there are fewer than two tokens, or more than the model has
      positions; the seed is not in every specimen; or a loss is not finite.
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
  """The seed whose inside is shown.

  Args:
    specimens: the models.
    asked: the seed, or None for the first that all of them have.

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
  """The tokens of a text, if a model can read them.

  Args:
    config: the model's shape.
    text: what it is to read.
    tokenizer: makes the tokens.

  Returns:
    Ids, int32 [T].

  Raises:
    ValueError: the text is not Unicode, there are fewer than two tokens, of
      which none is predicted, or more than the model has positions; or an id is
      not in its vocabulary.
  """
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise ValueError(f"is not Unicode text: {error.reason}") from error
  tokens = np.concatenate(list(tokenizer.encode([text]))).astype(np.int32)
  if not 2 <= len(tokens) <= config.max_length:
    raise ValueError(
      f"has {len(tokens)} tokens; the model reads 2 to {config.max_length}"
    )
  if tokens.max() >= (config.vocab_size or 0):
    raise SettingError(
      "tokenizer",
      f"makes the token {tokens.max()}, but the model knows only ids"
      f" below {config.vocab_size}",
    )
  return tokens


def _spelling(tokenizer: Tokenizer, ids: Sequence[int]) -> dict[str, str]:
  """How tokens are shown, by id; nothing for ids that only the model has."""
  known = [token for token in ids if token < tokenizer.vocab_size]
  shown = dict(zip(known, tokenizer.show(known), strict=True))
  return {str(token): shown.get(token, "") for token in ids}


def _parts(shown: Sequence[str]) -> dict[str, str]:
  """By place, the characters that tokens shown by their bytes are part of.

  Args:
    shown: consecutive tokens, as `Tokenizer.show` has them.

  Returns:
    Characters by place, written as the keys of JSON; without those that are
    incomplete.
  """
  found: dict[str, str] = {}
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
    found |= {str(part): whole for part in waiting}
    waiting = {}
  return found


def _shared(specimens: Sequence[Specimen]) -> list[int]:
  first, *others = (specimen.seeds for specimen in specimens)
  return [seed for seed in first if all(seed in each for each in others)]


def _losses(
  specimen: Specimen, seeds: Sequence[int], tokens_1xT: jax.Array
) -> np.ndarray:
  """Nats for each token but the first, float64 [E, T - 1]."""
  kept = np.array([specimen.seeds.index(seed) for seed in seeds])
  params = jax.tree.map(lambda x: jnp.asarray(x)[kept], specimen.params)
  losses_ExT = _next_losses(forward_only(specimen.decoder), params, tokens_1xT)
  found = np.asarray(losses_ExT, np.float64)
  if not np.isfinite(found).all():
    raise ValueError(f"{specimen.name} gives losses that are not finite")
  return found


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
  """What the page shows of a variant; `at` is the row of the seed's losses."""
  index = specimen.seeds.index(seed)
  params = jax.tree.map(lambda x: jnp.asarray(x[index]), specimen.params)
  decoder = forward_only(specimen.decoder)
  seen = jax.tree.map(
    np.asarray, observe_model(decoder, params, tokens_1xT, TOP)
  )
  out = np.asarray(unembedding(decoder.config, params, fold_norms=True))
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
      _neurons(activation_TxF, params[f"block_{layer}"], out)
      for layer, activation_TxF in enumerate(seen.neurons)
    ],
    "influence": [_significant(each[_below(each)]) for each in seen.influence],
  }


def _neurons(
  activation_TxF: np.ndarray, block: Any, out_DxV: np.ndarray
) -> dict[str, Any]:
  """The most active neurons of a layer at each place, and what those do."""
  if not activation_TxF.shape[1]:
    return {"top": [], "activation": [], "found": {}}
  top_TxK = _largest(activation_TxF)
  asked = np.unique(top_TxK)
  values = np.asarray(block["mlp"]["down"]["kernel"])[asked] @ out_DxV
  writes, places = _largest(values), _largest(activation_TxF.T[asked])
  found = {
    str(neuron): {
      "places": places[row].tolist(),
      "activations": _significant(activation_TxF[places[row], neuron]),
      "writes": writes[row].tolist(),
      "logits": _significant(values[row, writes[row]]),
    }
    for row, neuron in enumerate(asked.tolist())
  }
  chosen = np.take_along_axis(activation_TxF, top_TxK, axis=1)
  return {
    "top": top_TxK.tolist(),
    "activation": [_significant(row) for row in chosen],
    "found": found,
  }


def _mentioned(variant: Mapping[str, Any]) -> set[int]:
  """The token ids that are shown of a variant."""
  named = set(np.ravel(variant["lens"]["top"]).tolist())
  for layer in variant["neurons"]:
    for neuron in layer["found"].values():
      named.update(neuron["writes"])
  return named


def _difference(
  first_ExT: np.ndarray, second_ExT: np.ndarray
) -> dict[str, Any]:
  """The second's losses minus the first's, with intervals over seeds."""
  paid_ExT = second_ExT - first_ExT
  mean = [None, *_rounded(paid_ExT.mean(axis=0))]
  total = {
    "mean": round(float(paid_ExT.mean()), _DIGITS),
    "low": None,
    "high": None,
  }
  found = {"mean": mean, "low": None, "high": None, "total": total}
  if len(paid_ExT) < 2:
    return found
  bounds = np.array([stats.mean_interval(column).ci95 for column in paid_ExT.T])
  low, high = stats.mean_interval(paid_ExT.mean(axis=1)).ci95
  return found | {
    "low": [None, *_rounded(bounds[:, 0])],
    "high": [None, *_rounded(bounds[:, 1])],
    "total": total | {"low": round(low, _DIGITS), "high": round(high, _DIGITS)},
  }


def _largest(x: np.ndarray) -> np.ndarray:
  """Places of the `TOP` largest numbers of each row, the largest first."""
  count = min(TOP, x.shape[1])
  some = np.argpartition(-x, count - 1, axis=1)[:, :count]
  order = np.argsort(
    -np.take_along_axis(x, some, axis=1), axis=1, kind="stable"
  )
  return np.take_along_axis(some, order, axis=1)


def _below(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Where the lower triangle is, row by row."""
  return np.tril_indices(len(x))


def _rounded(x: np.ndarray) -> list[Any]:
  return np.round(np.asarray(x, np.float64), _DIGITS).tolist()


def _significant(x: np.ndarray) -> list[float]:
  return [float(f"{each:.3g}") for each in x.tolist()]
