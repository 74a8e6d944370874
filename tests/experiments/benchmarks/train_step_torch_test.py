"""The PyTorch step trains the same model as ours.

PyTorch is optional: where it is not installed only refusals are tested.
"""

from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import machine, train_step_torch
from experiments.benchmarks.train_step_setting import RandomTokens, StepSetting
from jaxlook import models
from jaxlook.models import DecoderConfig
from jaxlook.training import TrainConfig
from tests.fixtures import base

_MODEL = DecoderConfig(2, 8, 2, max_length=6, vocab_size=11)


def _setting(model):
  train = TrainConfig(steps=4, batch_size=4, microbatches=2, clip_norm=1.0)
  return StepSetting(
    "tiny", RandomTokens(vocab_size=11, length=6), model, train, chunk=2
  )


def _name(path):
  """Where the PyTorch module has a parameter of ours."""
  text = jax.tree_util.keystr(path, simple=True, separator=".")
  for ours, theirs in (
    ("block_", "blocks."),
    ("kernel", "weight"),
    ("scale", "weight"),
    ("mlp_norm", "mlp.0"),
    ("mlp.up", "mlp.1"),
    ("mlp.down", "mlp.3"),
    ("attention.out", "attention_out"),
    ("token_embedding.embedding", "tokens.weight"),
    ("position_embedding", "positions"),
    ("final_norm", "norm"),
  ):
    text = text.replace(ours, theirs)
  return text


class TorchStepTest(base.TestCase):
  def test_available(self):
    """Only GPT-2's kind of model over tokens, and only with PyTorch."""
    with mock.patch.object(machine, "torch_module", mock.MagicMock):
      for other in (
        DecoderConfig(2, 8, 2, 6, input_features=1, output_features=1),
        DecoderConfig(2, 8, 2, 6, vocab_size=11, positions="rotary"),
        DecoderConfig(2, 8, 2, 6, vocab_size=11, tied_head=False),
      ):
        self.assertFalse(train_step_torch.available(_setting(other)))
    with mock.patch.object(machine, "torch_module", lambda: None):
      self.assertFalse(train_step_torch.available(_setting(_MODEL)))

  def test_is_the_same_model(self):
    """With our weights it has our logits; and its steps learn."""
    torch: Any = machine.torch_module()
    if torch is None:
      self.skipTest("PyTorch is not installed")
    self.assertTrue(train_step_torch.available(_setting(_MODEL)))
    params = jax.jit(models.init, static_argnums=0)(_MODEL, jax.random.key(0))
    module = train_step_torch.build(_MODEL)
    state = {}
    joined = {}
    for path, x in jax.tree_util.tree_leaves_with_path(params):
      name, x = _name(path), np.asarray(x)
      part = name.split(".")[-2] if "attention." in name else ""
      if part in ("query", "key", "value"):
        end = name.rsplit(".", 1)[1]
        flat = x.reshape(8, 8).T if end == "weight" else x.reshape(8)
        whole = name.replace(f"attention.{part}", "query_key_value")
        joined.setdefault(whole, {})[part] = flat
        continue
      if name.endswith("attention_out.weight"):
        x = x.reshape(8, 8)
      linear = x.ndim == 2 and "tokens" not in name and name != "positions"
      state[name] = x.T if linear else x
    for name, parts in joined.items():
      state[name] = np.concatenate(
        [parts[p] for p in ("query", "key", "value")]
      )
    module.load_state_dict(
      {name: torch.tensor(np.array(x)) for name, x in state.items()}
    )
    tokens = np.random.default_rng(0).integers(0, 11, (3, 6))
    apply = jax.jit(models.apply, static_argnums=0)
    ours = apply(models.Decoder(_MODEL), params, jnp.asarray(tokens))
    theirs = module(torch.tensor(tokens)).detach().numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-5)

    torch.manual_seed(0)
    built = []
    keep = lambda config: built.append(module) or module  # noqa: E731
    with mock.patch.object(train_step_torch, "build", keep):
      train_step_torch.compile_steps(_setting(_MODEL))()
    moved = built[0](torch.tensor(tokens)).detach().numpy()
    self.assertGreater(np.abs(moved - theirs).max(), 0.0)
