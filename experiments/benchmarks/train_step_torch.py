"""The same training step in PyTorch, written like nanoGPT.

It is PyTorch written for speed: one product for queries, keys and values,
`scaled_dot_product_attention`, cross-entropy over the whole batch, one kernel
for AdamW, `torch.compile` and, where the setting says so, autocast to bfloat16.
Model, batch and optimiser are those of the setting, so a ratio of times
compares the same work.

Source: Karpathy (2022), nanoGPT.
"""

import functools
import shutil
from collections.abc import Callable
from typing import Any

import jax

from experiments.benchmarks import machine
from experiments.benchmarks.train_step_setting import StepSetting
from jaxlook.models import DecoderConfig

# On a CPU `torch.compile` needs a C++ compiler.
COMPILES = any(map(shutil.which, ("g++", "clang++")))
TORCH = "PyTorch causal" if COMPILES else "PyTorch causal, not compiled"


def available(setting: StepSetting) -> bool:
  """Whether PyTorch supports the device, and this module the model.

  Args:
    setting: what is timed; this module has GPT-2's architecture, over tokens.
  """
  torch, model = machine.torch_module(), setting.model
  gpt2 = DecoderConfig(
    model.layers,
    model.width,
    model.heads,
    model.max_length,
    vocab_size=model.vocab_size or 1,
    init_std=model.init_std,
  )
  return (
    torch is not None
    and (torch.cuda.is_available() or jax.default_backend() != "gpu")
    and model == gpt2
  )


def compile_steps(setting: StepSetting) -> Callable[[], None]:
  """Prepares a chunk of training steps.

  Args:
    setting: what to train; `available` for it.

  Returns:
    A function that trains for one chunk and waits for the result.
  """
  torch: Any = machine.torch_module()
  gpu = torch.cuda.is_available() and jax.default_backend() == "gpu"
  device = "cuda" if gpu else "cpu"
  torch.set_num_threads(machine.cores())
  # Allows TF32, as JAX does by default on a GPU.
  torch.set_float32_matmul_precision("high")
  train, model = setting.train, build(setting.model).to(device)
  optimizer = torch.optim.AdamW(
    model.parameters(),
    lr=train.learning_rate,
    weight_decay=train.weight_decay,
    fused=True,
  )
  called = torch.compile(model) if COMPILES else model
  precision = functools.partial(
    torch.autocast, device, torch.bfloat16, enabled=train.bfloat16
  )
  parts = train.microbatches
  shape = train.batch_size // parts, setting.model.max_length + 1

  def step() -> None:
    for _ in range(parts):
      tokens = torch.randint(setting.model.vocab_size, shape, device=device)
      with precision():
        logits = called(tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(
          logits.flatten(0, 1), tokens[:, 1:].flatten()
        )
      (loss / parts).backward()
    if train.clip_norm is not None:
      torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

  def run() -> None:
    for _ in range(setting.chunk):
      step()
    if gpu:
      torch.cuda.synchronize()

  return run


def build(config: DecoderConfig) -> Any:
  """A decoder with GPT-2's architecture as a `torch.nn.Module`.

  Args:
    config: its shape.

  Returns:
    The module, from tokens to logits. PyTorch's defaults draw the weights,
    except those of the embeddings.
  """
  torch: Any = machine.torch_module()
  nn, width = torch.nn, config.width

  class Block(nn.Module):
    def __init__(self):
      super().__init__()
      self.attention_norm = nn.LayerNorm(width, config.norm_epsilon)
      self.query_key_value = nn.Linear(width, 3 * width)
      self.attention_out = nn.Linear(width, width)
      self.mlp = nn.Sequential(
        nn.LayerNorm(width, config.norm_epsilon),
        nn.Linear(width, config.hidden_width),
        nn.GELU(approximate="tanh"),
        nn.Linear(config.hidden_width, width),
      )

    def forward(self, x_BxTxD):
      heads_3xBxNxTxH = (
        self.query_key_value(self.attention_norm(x_BxTxD))
        .unflatten(2, (3, config.heads, config.head_width))
        .permute(2, 0, 3, 1, 4)
      )
      attended_BxNxTxH = nn.functional.scaled_dot_product_attention(
        *heads_3xBxNxTxH, is_causal=True
      )
      joined_BxTxD = attended_BxNxTxH.transpose(1, 2).flatten(2)
      x_BxTxD = x_BxTxD + self.attention_out(joined_BxTxD)
      return x_BxTxD + self.mlp(x_BxTxD)

  class Decoder(nn.Module):
    def __init__(self):
      super().__init__()
      self.tokens = nn.Embedding(config.vocab_size, width)
      self.positions = nn.Parameter(torch.zeros(config.max_length, width))
      self.blocks = nn.Sequential(*(Block() for _ in range(config.layers)))
      self.norm = nn.LayerNorm(width, config.norm_epsilon)
      nn.init.normal_(self.tokens.weight, std=config.init_std)

    def forward(self, tokens_BxT):
      x_BxTxD = self.tokens(tokens_BxT)
      x_BxTxD = x_BxTxD + self.positions[: tokens_BxT.shape[1]]
      return self.norm(self.blocks(x_BxTxD)) @ self.tokens.weight.T

  return Decoder()
