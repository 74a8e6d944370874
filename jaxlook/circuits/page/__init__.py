"""The microscope's page: one HTML file that needs no server and no network.

Its styles and scripts are the other files of this folder; `html` puts them and
the data of `jaxlook.circuits.microscope.gather` into one text. The keys of the
data, for a text of T tokens and models of L layers:

- `title`, `about`: what is looked at, and by which settings; a line each.
- `text`, `ids`: the text, and the ids of its tokens, [T].
- `parts`: by place, of the tokens that hold only a part of a character, the
  characters that they belong to.
- `spelling`: by token id, how it is shown; see `Tokenizer.show`.
- `layers`, `heads`, `hidden`: L, N and F of the models.
- `seed`, `seeds`: whose inside is shown; whom losses are averaged over.
- `variants`: one or two, see below.
- `difference`: None for one variant; else what each token cost the second
  beyond the first, in nats: `mean` [T] with the 95% interval `low` and `high`,
  by itself for each token, paired by seed (None for one seed); and `total`,
  the same of the mean over tokens.

The keys of a variant:

- `name`: the attention's flag form.
- `loss`, `loss_mean`: nats that each token cost given those before it, [T],
  None for the first: of the seed, and the mean over seeds.
- `pattern`: thousandths of attention by layer and head, lower triangles.
- `lens`: by depth 0..L and place, the likeliest next tokens, `top` ids and
  their `share`; and of the token that came, `next_share` and `next_rank`.
- `neurons`: by layer, `top` neurons by place, their `activation`, and `found`:
  by neuron, `places` in the text with its largest `activations`, and the tokens
  that its value `writes`, with the `logits` that it adds at activation 1.
- `influence`: by layer, the norm of dL_i/dx_j at the layer's input, in nats per
  unit of the stream, lower triangles.

Lower triangles are lists, row by row. Numbers are rounded, so that the file
stays small.
"""

import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

_SCRIPTS = ("colours", "tokens", "maps", "panels", "main")


def html(data: Mapping[str, Any]) -> str:
  """Puts the page together.

  Args:
    data: from `jaxlook.circuits.microscope.gather`.

  Returns:
    The page, to be written as UTF-8; it loads nothing from anywhere.

  Raises:
    ValueError: the data hold what JSON cannot.
  """
  folder = importlib.resources.files(__name__)

  def read(name: str) -> str:
    return (folder / name).read_text("utf-8")

  # In a script element only "<" could end it or open a comment.
  encoded = json.dumps(data, allow_nan=False, separators=(",", ":"))
  filled = {
    "STYLE": read("style.css"),
    "SCRIPT": "\n".join(read(f"{name}.js") for name in _SCRIPTS),
    "DATA": encoded.replace("<", "\\u003c"),
  }
  # Taken apart before anything is put in, so that no data are read as a mark.
  first, *rest = read("page.html").split("%%")
  whole = [first]
  for name, plain in zip(rest[::2], rest[1::2], strict=True):
    whole += [filled[name], plain]
  return "".join(whole)
