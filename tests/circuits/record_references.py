"""Records the numbers of TransformerLens on two small random models.

    python -m venv /tmp/lens
    /tmp/lens/bin/pip install torch==2.13.0
    /tmp/lens/bin/pip install transformers==5.23.0 transformer_lens==3.9.0
    /tmp/lens/bin/python tests/circuits/record_references.py

It needs its own environment, as above, because torch is not a dependency of
jaxlook. 3.9.0 is the last TransformerLens with a `HookedTransformer`. The
script does not import jaxlook. It runs in seconds on a CPU without a network.
It writes `tests/testdata/circuits/{gpt2,gpt_neox}`: a Hugging Face folder with
random weights, and `references.npz`. The numbers in that file were computed in
float64 and rounded to float32. They use the weights as stored, except where a
name says `folded`. The axes are those of jaxlook:

| name | shape | what it is |
| --- | --- | --- |
| `tokens` | [B, T] | two repeated random sequences, one of few tokens |
| `logits` | [B, T, V] | the model's; checked to equal those of transformers |
| `pattern` | [L, B, N, T, S] | attention patterns |
| `lens` | [L + 1, B, T, V] | `accumulated_resid`, final norm, unembedding |
| `qk`, `ov` | [L, N, H] | eigenvalues of `model.QK`, `model.OV` |
| `full_qk`, `full_ov` | [L, N, H] | of W_E QK W_E^T and of W_E OV W_U |
| `folded_...` | [L, N, H] | of `ov`, `full_ov` after `fold_ln` |
| `copying` | [L, N] | sum of eigenvalues over sum of moduli of `full_ov` |
| `composition_query`, `_key`, `_value` | [L, N, L, N] | writer, then reader |
| `X_head` | [B, L, N] | scores of `head_detector` |
| `X_head_pattern` | [B, T, S] | where its detection pattern is 1 |

X is `previous_token`, `duplicate_token` and `induction`. The scores use the
measure "mul" with `exclude_current_token`: of a head's attention to positions
other than the query's own, over all queries, the share on the detection
pattern.
"""

import functools
import shutil
from pathlib import Path

import numpy as np
import torch
import transformer_lens.loading_from_pretrained as loading
from transformer_lens import FactoredMatrix, HookedTransformer, head_detector
from transformers import (
  GPT2Config,
  GPT2LMHeadModel,
  GPTNeoXConfig,
  GPTNeoXForCausalLM,
)

_DATA = Path(__file__).parents[1] / "testdata" / "circuits"
_VOCAB, _CONTEXT, _LENGTH = 40, 24, 20
_HEADS = ("previous_token_head", "duplicate_token_head", "induction_head")


def models() -> dict[str, torch.nn.Module]:
  """The two models; some of their settings are unusual."""
  return {
    "gpt2": GPT2LMHeadModel(
      GPT2Config(
        vocab_size=_VOCAB,
        n_positions=_CONTEXT,
        n_ctx=_CONTEXT,
        n_embd=16,
        n_layer=3,
        n_head=4,
        bos_token_id=None,
        eos_token_id=None,
      )
    ),
    "gpt_neox": GPTNeoXForCausalLM(
      GPTNeoXConfig(
        vocab_size=_VOCAB,
        max_position_embeddings=_CONTEXT,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        layer_norm_eps=1e-3,
        # TransformerLens always uses a base of 10,000 for NeoX models.
        rope_parameters={
          "rope_type": "default",
          "rope_theta": 10_000.0,
          "partial_rotary_factor": 0.5,
        },
        bos_token_id=None,
        eos_token_id=None,
      )
    ),
  }


def randomize(model: torch.nn.Module, generator: torch.Generator) -> None:
  """Draws weights with sharp patterns; no parameter is exactly 0 or 1."""
  for name, parameter in model.named_parameters():
    drawn = torch.randn(parameter.shape, generator=generator)
    if parameter.ndim == 2:
      # Large, so that a query attends to few keys.
      drawn *= 1.8 / model.config.hidden_size**0.5
    else:
      drawn *= 0.3
      if name.endswith("weight"):
        drawn += 1.0
    parameter.data.copy_(drawn)


def draw_tokens(generator: torch.Generator) -> torch.Tensor:
  """Two repeated random sequences, and one of only five different tokens."""
  half = _LENGTH // 2
  once = torch.randint(_VOCAB, (2, half), generator=generator)
  few = torch.randint(5, (1, _LENGTH), generator=generator)
  return torch.cat([once.repeat(1, 2), few])


def hooked(folder: Path, model: torch.nn.Module, *, fold_ln: bool):
  """A HookedTransformer in float64, without processing except `fold_ln`."""
  config = loading.get_pretrained_model_config(
    str(folder), fold_ln=fold_ln, device="cpu", dtype=torch.float64
  )
  config.tokenizer_name = None
  weights = loading.get_pretrained_state_dict(
    str(folder), config, model, dtype=torch.float64
  )
  found = HookedTransformer(config)
  found.load_and_process_state_dict(
    weights,
    fold_ln=fold_ln,
    center_writing_weights=False,
    center_unembed=False,
    fold_value_biases=False,
  )
  return found


def activations(model, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
  """All numbers that depend on the tokens."""
  logits, cache = model.run_with_cache(tokens)
  stream = cache.apply_ln_to_stack(cache.accumulated_resid(), recompute_ln=True)
  layers = range(model.cfg.n_layers)
  pattern = torch.stack([cache["pattern", layer] for layer in layers])
  found = {
    "logits": logits,
    "pattern": pattern,
    "lens": torch.stack([model.unembed(each) for each in stream]),
  }
  for name in _HEADS:
    detect = getattr(head_detector, f"get_{name}_detection_pattern")
    sought = torch.stack([detect(sequence[None]) for sequence in tokens])
    found[f"{name}_pattern"] = sought.bool()
    found[name] = shares(pattern, sought)
  return found


def shares(pattern: torch.Tensor, sought: torch.Tensor) -> torch.Tensor:
  """The share of each head's attention to others on the detection pattern."""
  score = functools.partial(
    head_detector.compute_head_attention_similarity_score,
    exclude_bos=False,
    exclude_current_token=True,
    error_measure="mul",
  )
  return torch.tensor(
    [
      [
        [score(head, detection_pattern=wanted) for head in layer[row]]
        for layer in pattern
      ]
      for row, wanted in enumerate(sought)
    ]
  )


def circuits(model) -> dict[str, FactoredMatrix]:
  """QK and OV circuits, between residual streams and between tokens."""
  return {
    "qk": model.QK,
    "ov": model.OV,
    "full_qk": model.W_E @ model.QK @ model.W_E.T,
    "full_ov": model.W_E @ model.OV @ model.W_U,
  }


def record(name: str, model: torch.nn.Module, tokens: torch.Tensor) -> None:
  """Writes the folder of one model."""
  folder = _DATA / name
  shutil.rmtree(folder, ignore_errors=True)
  model.save_pretrained(folder)
  (folder / "generation_config.json").unlink(missing_ok=True)
  model = model.double().eval()

  plain = hooked(folder, model, fold_ln=False)
  found = {"tokens": tokens} | activations(plain, tokens)
  error = (model(tokens).logits - found["logits"]).abs().max()
  if error > 1e-6:  # Rotary angles are float32 in transformers.
    raise ValueError(f"{name}: transformers' logits differ by {error}")
  for circuit, product in circuits(plain).items():
    found[circuit] = product.eigenvalues
  moduli = found["full_ov"].abs().sum(-1)
  found["copying"] = found["full_ov"].sum(-1).real / moduli
  folded = circuits(hooked(folder, model, fold_ln=True))
  for circuit in ("ov", "full_ov"):
    found[f"folded_{circuit}"] = folded[circuit].eigenvalues
  for kind in ("query", "key", "value"):
    scores = plain.all_composition_scores(kind[0].upper())
    found[f"composition_{kind}"] = scores

  narrow = {"f": np.float32, "c": np.complex64, "i": np.int32, "b": np.bool_}
  arrays = {key: value.detach().numpy() for key, value in found.items()}
  np.savez_compressed(
    folder / "references.npz",
    **{key: x.astype(narrow[x.dtype.kind]) for key, x in arrays.items()},
  )


def main() -> None:
  """Writes the folders of both models."""
  generator = torch.Generator().manual_seed(0)
  tokens = draw_tokens(generator)
  for name, model in models().items():
    randomize(model, generator)
    record(name, model, tokens)


if __name__ == "__main__":
  with torch.no_grad():
    main()
