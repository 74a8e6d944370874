"""Memories as a reader sees them: curves, notes, and triggers as text."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.reports.memories import ENDINGS, RANDOM, Examined
from jaxlook.circuits import memories
from jaxlook.circuits import memory_study as study
from jaxlook.circuits.memory_study import (
  MemoryResults,
  StreamedText,
  agreement_name,
  ending_name,
)
from jaxlook.circuits.memory_triggers import REPEATED
from jaxlook.models import DecoderConfig
from jaxlook.reporting.figures import Curves
from jaxlook.reporting.tables import Rows, code, number

Show = Callable[[Sequence[int]], list[str]]

CAPTIONS = {
  "agreement.png": "How often the most probable token of a neuron's value"
  " follows the prefixes that trigger it, and where their next token ranks; and"
  " the same with the triggers of other neurons of the layer.",
  "patterns.png": "How many of a neuron's k triggers end in the same tokens as"
  " at least two of the others.",
  "activity.png": "Memories with a positive coefficient; the number of equal"
  " contributions that would be spread as wide; and how often no active memory"
  " by itself says what their sum does.",
  "refinement.png": "How the most probable token after a layer comes about.",
}

_TAIL = 32  # Characters of a prefix that are shown.


def panels(
  found: Sequence[Examined], chance: Mapping[str, float]
) -> dict[str, list[list[Curves]]]:
  """Curves by layer, by the figure's file name.

  Args:
    found: every variant.
    chance: of endings.

  Returns:
    Rows of panels for `figures.panels_figure`.
  """
  first = found[0]
  layers = np.arange(first.layers)

  def drawn(title, ylabel, curves, levels=None) -> Curves:
    return Curves(
      title, layers, "layer", ylabel, curves, levels or {}, scale="steps"
    )

  def by_variant(title, ylabel, measure, control=None, level=None) -> Curves:
    curves = {e.variant: e.found.by_layer[measure].T for e in found}
    if control:
      values = first.found.by_layer[control].T
      curves[f"{first.variant}, other neurons' triggers"] = values
    return drawn(title, ylabel, curves, level)

  share, positions = "share of live neurons", "share of positions"
  agreed = [
    by_variant(
      f"value's token follows {words}",
      share,
      agreement_name(kind),
      agreement_name(kind, study.OTHERS),
    )
    for kind, words in (
      ("first", "the first trigger"),
      ("any", "any of the k triggers"),
    )
  ]
  agreed.append(
    by_variant(
      "rank of the first trigger's next token",
      "mean rank, 0 most to 1 least probable",
      *(study.RANK, study.RANK_OTHERS),
    )
  )
  shared = [
    by_variant(
      f"same last {n} token{'s' * (n > 1)} as {REPEATED - 1} others",
      "share of triggers",
      ending_name(n, "coverage"),
      level={RANDOM: chance[ending_name(n, "coverage")]},
    )
    for n in ENDINGS
  ]
  active = [
    by_variant(memories.ACTIVE, "share of neurons", memories.ACTIVE),
    by_variant(memories.EFFECTIVE, "memories", memories.EFFECTIVE),
    by_variant(memories.COMPOSED, positions, memories.COMPOSED),
  ]
  cases = (memories.BOTH, memories.RESIDUAL, memories.FF, memories.NEITHER)
  refined = [
    drawn(
      each.variant,
      positions,
      {
        name: each.found.by_layer[name].T
        for name in (memories.RESIDUAL_FINAL, *cases)
      },
    )
    for each in found
  ]
  # Four side by side would be too small to read.
  columns = 2 if len(refined) == 4 else len(refined)
  return {
    "agreement.png": [agreed],
    "patterns.png": [shared],
    "activity.png": [active],
    "refinement.png": [
      refined[n : n + columns] for n in range(0, len(refined), columns)
    ],
  }


def notes(
  text: StreamedText, setup: study.MemorySetup, config: DecoderConfig
) -> list[str]:
  """How to read the tables.

  Args:
    text: the text that was streamed.
    setup: what was kept.
    config: the models' shape.

  Returns:
    Paragraphs.
  """
  windows, length = np.shape(text.following)
  counted = int(np.sum(text.counted))
  return [
    f"Triggers are the {setup.top} prefixes with the largest coefficients among"
    f" the {counted} of {windows} held-out windows of {length} tokens: every"
    " prefix from a window's start counts, once where windows begin alike. The"
    " paper takes prefixes of training sentences.",
    f"Coefficients are those after the nonlinearity ({config.activation}). A"
    " memory is active where its coefficient is above 0, and live if it is"
    " anywhere. The effective number is (sum w)^2 / sum w^2 of w = (coefficient"
    " |value|)^2.",
    "Agreement: the share of live neurons whose value's most probable token"
    " follows the first trigger (the paper's rate), its mean over all k"
    " triggers, or the share where it follows any of them. 'Others' is the same"
    " with another neuron's triggers, the mean over all pairs in the layer; the"
    " commonest token is the text's, the same for all neurons. Ranks go from 0,"
    " most probable, to 1.",
    "Endings: coverage is the share of a neuron's triggers that end in the same"
    f" n tokens as at least {REPEATED - 1} others, number is how many such"
    " endings there are, purity the share of the commonest ending. They count"
    " what can be counted of the patterns that the paper's experts name.",
    "A value's probabilities are softmax(value W_U), with the final LayerNorm's"
    " gain and centring folded into W_U. They are uncalibrated, as in the"
    " paper: what a value adds is scaled by its coefficient. Uniform would be"
    f" {number(1 / (config.vocab_size or 1))}.",
  ]


def value_table(
  found: MemoryResults,
  text: StreamedText,
  show: Show,
  *,
  seed: int,
  rows: int,
  shown: int,
) -> Rows:
  """The most confident values of one model, with what triggers them.

  Args:
    found: what was found of a variant's models.
    text: the text that triggers lie in.
    show: the text of each token by itself.
    seed: which of the models, a place on the seed axis.
    rows: how many neurons, the most confident first.
    shown: triggers of each.

  Returns:
    A header and the rows. A trigger is the end of its prefix, an arrow, the
    token that follows it in the text, and the coefficient.
  """
  inputs = np.asarray(text.inputs).reshape(-1, text.inputs.shape[-1])
  values, triggers = found.values, found.triggers
  confidence = np.where(
    np.asarray(triggers.coefficient)[seed, ..., 0] > 0.0,
    np.asarray(values.probability)[seed, ..., 0],
    -np.inf,
  )
  order = np.argsort(-confidence, axis=None, kind="stable")[:rows]
  head = ["layer", "neuron", "value's tokens", "follow it, of k"]
  table = [[*head, *(f"trigger {n + 1}" for n in range(shown))]]
  for place in order:
    layer, neuron = np.unravel_index(place, confidence.shape)
    at = (seed, layer, neuron)
    if confidence[layer, neuron] == -np.inf:
      break
    best = zip(values.token[at], values.probability[at], strict=True)
    fired = np.asarray(triggers.coefficient[at]) > 0.0
    follow = found.following[at][fired] == values.token[at][0]
    cells = []
    for k in range(min(shown, int(fired.sum()))):
      window, position = triggers.window[at][k], triggers.position[at][k]
      before = "".join(show(inputs[window, : position + 1].tolist()))
      after = _name(show, found.following[at][k])
      cells.append(
        f"{code(before, _TAIL)} → {code(after)}"
        f" ({number(float(triggers.coefficient[at][k]))})"
      )
    cells += ["-"] * (shown - len(cells))
    table.append(
      [
        *(str(layer), str(neuron)),
        ", ".join(
          f"{code(_name(show, t))} {number(float(p))}" for t, p in best
        ),
        f"{int(follow.sum())}/{len(follow)}",
        *cells,
      ]
    )
  return table


def _name(show: Show, token: np.integer) -> str:
  """A token's text; ids that the tokenizer does not use have none."""
  return show([int(token)])[0] or f"#{token}"
