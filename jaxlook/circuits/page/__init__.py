"""The microscope's page: one HTML file that needs no server and no network.

The other files of this folder hold its styles and scripts. `html` combines them
with the data of `jaxlook.circuits.microscope.page_data`. The keys of the data,
for a text of T tokens and models of L layers:

- `title`, `about`: the title, and the settings; one line each.
- `text`, `ids`: the text, and the ids of its tokens, [T].
- `parts`: for tokens that hold only a part of a character, the characters that
  they belong to; by place.
- `spelling`: how a token is shown, by token id; see `Tokenizer.show`.
- `layers`, `heads`, `hidden`: L, N and F of the models.
- `seed`, `seeds`: the seed whose model is shown; the seeds over which losses
  are averaged.
- `variants`: one or two, see below.
- `difference`: None for one variant; else the second variant's loss minus the
  first's, in nats. `mean` [T] is the difference on each token, with the 95%
  interval `low` and `high` over seeds, paired by seed (None for one seed).
  `total` is the same for the mean over tokens.

The keys of a variant:

- `name`: the variant as in the flag.
- `loss`, `loss_mean`: the loss on each token in nats, [T], None for the first
  token: of the seed, and the mean over seeds.
- `pattern`: thousandths of attention by layer and head, lower triangles.
- `lens`: by depth 0..L and place: the ids of the most probable next tokens
  (`top`) and their probabilities (`share`); probability and rank of the text's
  next token (`next_share`, `next_rank`).
- `neurons`: by layer: the most active neurons at each place (`top`), their
  `activation`, and `found`. `found` has for each neuron the `places` in the
  text with its largest `activations`, and the tokens that its value `writes`,
  with the `logits` that it adds at activation 1.
- `influence`: by layer, the norm of dL_i/dx_j at the layer's input, in nats per
  unit of the stream, lower triangles.

A lower triangle is a list, row by row. Numbers are rounded to keep the file
small.
"""

import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

_SCRIPTS = ("colours", "tokens", "maps", "panels", "main")


def html(data: Mapping[str, Any]) -> str:
  """Makes the page.

  Args:
    data: from `jaxlook.circuits.microscope.page_data`.

  Returns:
    The page, to be written as UTF-8. It loads no other files.

  Raises:
    ValueError: the data cannot be written as JSON.
  """
  folder = importlib.resources.files(__name__)

  def read(name: str) -> str:
    return (folder / name).read_text("utf-8")

  # Only "<" could end the script element or open a comment in it.
  encoded = json.dumps(data, allow_nan=False, separators=(",", ":"))
  filled = {
    "STYLE": read("style.css"),
    "SCRIPT": "\n".join(read(f"{name}.js") for name in _SCRIPTS),
    "DATA": encoded.replace("<", "\\u003c"),
  }
  # Split before filling in, so that "%%" in the data is not read as a mark.
  first, *rest = read("page.html").split("%%")
  whole = [first]
  for name, plain in zip(rest[::2], rest[1::2], strict=True):
    whole += [filled[name], plain]
  return "".join(whole)
