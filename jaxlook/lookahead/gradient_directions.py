"""Do the present and the future push parameters in the same direction?

A path from the loss to a parameter passes through keys and values of the own
position, of earlier positions, of both (in different layers) or of neither.
Four gradients separate these: vanilla g (all paths), myopic g_m (no path
through earlier positions), `future_only` g_f (no path through the own
position), and g_0, in which no key or value passes gradient. Both g_m and g_f
contain g_0. So

    g = g_m + strict + mixed,  strict = g_f - g_0,  future = strict + mixed,

where strict paths use keys and values of earlier positions only, and mixed
paths use both kinds. A model of one layer has no mixed paths. The published
"future" gradient is g - g_m. The sum of the two cuts, g_m + g_f, counts g_0
twice, so it differs from g even in one layer. Under the stop point `residual`,
a path may end in W_K or W_V of any position; only paths that go below them are
sorted.

Source: Wu, Morris and Levine (2024), arXiv 2404.00859, code, grad_angle
notebook, with the stop point `residual`. The notebook also excludes the untied
output embedding: pass `excluded=(*EMBEDDINGS, "head")` for that.
"""

from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp

from jaxlook.attention.attend import Implementation
from jaxlook.models import Decoder, apply
from jaxlook.models.decoder import Params

Loss = Callable[[jax.Array], jax.Array]

STOPS = ("kv", "residual")
EMBEDDINGS = ("token_embedding", "position_embedding", "input")


def compare_gradients(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  loss: Loss,
  excluded: Collection[str] = EMBEDDINGS,
) -> dict[str, jax.Array]:
  """Norms and cosines of the vanilla, myopic, future and mixed gradients.

  Args:
    decoder: the model. Gradient cuts are removed.
    params: its parameters.
    inputs: tokens [B, T] or features [B, T, F].
    loss: maps the outputs to a floating scalar.
    excluded: top-level names of parameters to leave out.

  Returns:
    Scalars by name. `norm_vanilla`; and for each stop point, prefixed with
    `kv/` or `residual/`: `norm_X` and `ratio_X` (divided by the vanilla norm)
    of the parts `myopic`, `future`, `strict` and `mixed`; `ratio_two_cuts`, the
    norm of g - g_m - g_f; and the cosines `cos_myopic_future` and
    `cos_vanilla_myopic`. Norms are in units of loss per unit of parameter. A
    cosine with a zero gradient is NaN, for example for sequences of length 1,
    which have no future.

  Raises:
    ValueError: the variant changes the forward pass.
  """
  plain = without_cuts(decoder, decoder.implementation)

  def gradient(attention: str) -> Params:
    variant = plain.clone(attention=attention)
    found = jax.grad(lambda p: loss(apply(variant, p, inputs)))(params)
    return {name: x for name, x in found.items() if name not in excluded}

  vanilla = gradient("causal")
  size = _norm(vanilla)
  metrics = {"norm_vanilla": size}
  for stop in STOPS:
    myopic = gradient(f"myopic/{stop}")
    future = _minus(vanilla, myopic)
    future_only = gradient(f"future_only/{stop}")
    # No pair has a distance equal to the length of the sequence.
    neither = gradient(f"offset:{inputs.shape[1]}/{stop}")
    strict = _minus(future_only, neither)
    mixed = _minus(future, strict)
    parts = {
      "myopic": myopic,
      "future": future,
      "strict": strict,
      "mixed": mixed,
    }
    found = {f"norm_{name}": _norm(x) for name, x in parts.items()}
    found |= {f"ratio_{name}": found[f"norm_{name}"] / size for name in parts}
    found["ratio_two_cuts"] = _norm(_minus(future, future_only)) / size
    found["cos_myopic_future"] = _cosine(myopic, future)
    found["cos_vanilla_myopic"] = _cosine(vanilla, myopic)
    metrics |= {f"{stop}/{name}": x for name, x in found.items()}
  return metrics


def without_cuts(decoder: Decoder, implementation: Implementation) -> Decoder:
  """The decoder under `causal`, if its variant has the same forward pass.

  Args:
    decoder: the model under a variant.
    implementation: of the returned decoder.

  Returns:
    The decoder with all of its gradients.

  Raises:
    ValueError: the variant changes the forward pass.
  """
  for spec in decoder.variant.distinct:
    if not spec.keeps_forward:
      raise ValueError(
        f"attention {spec.name!r} changes the forward pass, so ordinary"
        " gradients are not its own; use a variant that only cuts gradient"
      )
  return decoder.clone(attention="causal", implementation=implementation)


def _minus(a: Params, b: Params) -> Params:
  return jax.tree.map(jnp.subtract, a, b)


def _inner(a: Params, b: Params) -> jax.Array:
  products = jax.tree.map(lambda x, y: (x * y).sum(), a, b)
  return jnp.stack(jax.tree.leaves(products)).sum()


def _norm(x: Params) -> jax.Array:
  return jnp.sqrt(_inner(x, x))


def _cosine(a: Params, b: Params) -> jax.Array:
  return _inner(a, b) / (_norm(a) * _norm(b))
