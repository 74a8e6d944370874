"""Checkpoint folders: exact round trips, and one-line errors."""

import dataclasses
import json
import math
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl.testing import absltest, parameterized

from jaxlook.models import Decoder, DecoderConfig, huggingface
from jaxlook.models.huggingface import safetensors_files
from tests.fixtures import base
from tests.fixtures.checkpoints import (
  GPT2,
  LFS_POINTER,
  NEOX,
  random_params,
)

_BOTH = (("gpt2", GPT2), ("gpt_neox", NEOX))

# Float32 rounding of logits of size 1, after two layers.
LOGITS_ATOL = 2e-5


@st.composite
def _configs(draw):
  """Draws small decoders of both families."""
  heads, layers = draw(st.integers(1, 3)), draw(st.integers(1, 2))
  fields = {
    "layers": layers,
    "heads": heads,
    "width": heads * 4 * draw(st.integers(1, 2)),
    "max_length": draw(st.integers(1, 6)),
    "vocab_size": draw(st.integers(1, 6)),
    "mlp_width": draw(st.sampled_from([None, 1, 5])),
    "activation": draw(st.sampled_from(["gelu_tanh", "gelu", "relu"])),
    "tied_head": draw(st.booleans()),
    "norm_epsilon": draw(st.sampled_from([1e-5, 1e-6])),
  }
  if draw(st.booleans()):
    fields |= {
      "positions": "rotary",
      "rotary_fraction": draw(st.sampled_from([0.5, 1.0])),
      "rotary_base": draw(st.sampled_from([100.0, 10_000.0])),
      "parallel_residual": draw(st.booleans()),
    }
  return DecoderConfig(**fields)


class PretrainedTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.folder = self.root / "model"

  def write(self, config=GPT2, tensors=None, **settings):
    """Writes a folder by `save`, then changes tensors and settings.

    None removes a tensor, "gone" removes a setting.
    """
    params = random_params(config)
    huggingface.save(self.folder, config, params)
    file = self.folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(file) | (tensors or {})
    tensors = {name: x for name, x in tensors.items() if x is not None}
    safetensors.numpy.save_file(tensors, file)
    file = self.folder / "config.json"
    settings = json.loads(file.read_text()) | settings
    settings = {k: v for k, v in settings.items() if v != "gone"}
    file.write_text(json.dumps(settings))
    return params

  @hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
  @hypothesis.given(config=_configs(), max_shard_bytes=st.integers(1, 4000))
  def test_round_trip(self, config, max_shard_bytes):
    """Config, names and weights are loaded as saved, to the last bit."""
    params = random_params(config)
    shutil.rmtree(self.folder, ignore_errors=True)
    huggingface.save(
      self.folder, config, params, max_shard_bytes=max_shard_bytes
    )
    loaded = huggingface.load(self.folder)
    self.assertEqual(loaded.config, config)
    chex.assert_trees_all_equal(loaded.params, params, strict=True)
    tensors = huggingface.to_checkpoint(loaded, params)
    back = huggingface.from_checkpoint(loaded, tensors)
    chex.assert_trees_all_equal(back, params, strict=True)

  @parameterized.named_parameters(*_BOTH)
  def test_any_dtype_is_converted_exactly(self, config):
    """Float64 gradients keep every bit, also NaN and both zeros."""
    tree = random_params(config)
    bias = np.linspace(0.0, 1.0, config.width) / 3
    bias[:3] = np.nan, -0.0, 0.0
    tree["block_1"]["attention"]["key"]["bias"] = bias
    layout = huggingface.layout_for(config)
    back = huggingface.from_checkpoint(
      layout, huggingface.to_checkpoint(layout, tree)
    )
    result = back["block_1"]["attention"]["key"]["bias"]
    self.assertEqual(result.tobytes(), bias.tobytes())

  def test_gpt2_names_and_orientation(self):
    """Names and shapes are GPT-2's; query, key and value are in columns."""
    config = dataclasses.replace(GPT2, layers=1)
    params = random_params(config)
    tensors = huggingface.to_checkpoint(huggingface.layout_for(config), params)
    self.assertEqual(
      {name: x.shape for name, x in tensors.items()},
      {
        "transformer.wte.weight": (17, 12),
        "transformer.wpe.weight": (10, 12),
        "transformer.h.0.ln_1.weight": (12,),
        "transformer.h.0.ln_1.bias": (12,),
        "transformer.h.0.attn.c_attn.weight": (12, 36),
        "transformer.h.0.attn.c_attn.bias": (36,),
        "transformer.h.0.attn.c_proj.weight": (12, 12),
        "transformer.h.0.attn.c_proj.bias": (12,),
        "transformer.h.0.ln_2.weight": (12,),
        "transformer.h.0.ln_2.bias": (12,),
        "transformer.h.0.mlp.c_fc.weight": (12, 48),
        "transformer.h.0.mlp.c_fc.bias": (48,),
        "transformer.h.0.mlp.c_proj.weight": (48, 12),
        "transformer.h.0.mlp.c_proj.bias": (12,),
        "transformer.ln_f.weight": (12,),
        "transformer.ln_f.bias": (12,),
      },
    )
    block = params["block_0"]
    self.assertEqual(
      tensors["transformer.h.0.attn.c_attn.weight"][3, 12 + 7],
      block["attention"]["key"]["kernel"][3, 7],
    )
    self.assertEqual(
      tensors["transformer.h.0.attn.c_attn.bias"][24 + 7],
      block["attention"]["value"]["bias"][7],
    )
    np.testing.assert_array_equal(
      tensors["transformer.h.0.attn.c_proj.weight"],
      block["attention"]["out"]["kernel"],
    )
    np.testing.assert_array_equal(
      tensors["transformer.h.0.ln_2.weight"], block["mlp_norm"]["scale"]
    )

  def test_neox_names_and_orientation(self):
    """Names and shapes are NeoX's; query, key and value alternate by head."""
    config = dataclasses.replace(NEOX, layers=1)
    params = random_params(config)
    tensors = huggingface.to_checkpoint(huggingface.layout_for(config), params)
    block = "gpt_neox.layers.0."
    self.assertEqual(
      {name: x.shape for name, x in tensors.items()},
      {
        "gpt_neox.embed_in.weight": (17, 24),
        f"{block}input_layernorm.weight": (24,),
        f"{block}input_layernorm.bias": (24,),
        f"{block}attention.query_key_value.weight": (72, 24),
        f"{block}attention.query_key_value.bias": (72,),
        f"{block}attention.dense.weight": (24, 24),
        f"{block}attention.dense.bias": (24,),
        f"{block}post_attention_layernorm.weight": (24,),
        f"{block}post_attention_layernorm.bias": (24,),
        f"{block}mlp.dense_h_to_4h.weight": (96, 24),
        f"{block}mlp.dense_h_to_4h.bias": (96,),
        f"{block}mlp.dense_4h_to_h.weight": (24, 96),
        f"{block}mlp.dense_4h_to_h.bias": (24,),
        "gpt_neox.final_layer_norm.weight": (24,),
        "gpt_neox.final_layer_norm.bias": (24,),
        "embed_out.weight": (17, 24),
      },
    )
    attention = params["block_0"]["attention"]
    # Head 1 of 3, dimension 5 of 8, input 9: row 1 * 3 * 8 + part * 8 + 5.
    weight = tensors[f"{block}attention.query_key_value.weight"]
    bias = tensors[f"{block}attention.query_key_value.bias"]
    for part, name in enumerate(("query", "key", "value")):
      row = 24 + part * 8 + 5
      self.assertEqual(weight[row, 9], attention[name]["kernel"][9, 8 + 5])
      self.assertEqual(bias[row], attention[name]["bias"][8 + 5])
    np.testing.assert_array_equal(
      tensors[f"{block}attention.dense.weight"], attention["out"]["kernel"].T
    )

  def test_memory_order(self):
    """Column-major arrays are written correctly.

    safetensors would write their memory, which is another matrix.
    """
    for config in (GPT2, NEOX):
      columns = jax.tree.map(np.asfortranarray, random_params(config))
      layout = huggingface.layout_for(config)
      for name, array in huggingface.to_checkpoint(layout, columns).items():
        self.assertTrue(array.flags.c_contiguous, name)
    file = self.root / "x"
    array = np.asfortranarray(np.float32([[1, 2], [3, 4]]))
    safetensors_files.write_tensors(file, {"x": array}, {})
    np.testing.assert_array_equal(safetensors.numpy.load_file(file)["x"], array)

  @parameterized.named_parameters(("parallel", True), ("serial", False))
  def test_neox_definition(self, parallel):
    """The paper's formulas on a written folder give the decoder's logits."""
    config = dataclasses.replace(
      NEOX, parallel_residual=parallel, norm_epsilon=1e-3
    )
    params = random_params(config)
    huggingface.save(self.folder, config, params)
    tokens = np.random.default_rng(1).integers(0, 17, (2, 10))
    logits = Decoder(config).apply(
      {"params": huggingface.load(self.folder).params}, tokens
    )
    tensors = safetensors.numpy.load_file(self.folder / "model.safetensors")
    expected = _neox(tensors, tokens, config)
    self.assertGreater(np.std(expected), 0.5)
    np.testing.assert_allclose(logits, expected, atol=LOGITS_ATOL)

  @parameterized.product(
    config=[GPT2, NEOX], dtype=[np.float16, jnp.bfloat16, np.float32]
  )
  def test_dtypes(self, config, dtype):
    """Half-precision weights become float32 without loss."""
    layout = huggingface.layout_for(config)
    params = random_params(config)
    halves = {
      name: x.astype(dtype)
      for name, x in huggingface.to_checkpoint(layout, params).items()
    }
    self.write(config, halves)
    loaded = huggingface.load(self.folder)
    chex.assert_trees_all_equal(
      loaded.params,
      jax.tree.map(lambda x: x.astype(dtype).astype(np.float32), params),
      strict=True,
    )

  def test_bare_model(self):
    """Files without the prefix are read, and written without it."""
    params = random_params(GPT2)
    layout = huggingface.Layout(GPT2, "gpt2", "")
    bare = huggingface.to_checkpoint(layout, params)
    self.assertIn("h.1.attn.c_attn.bias", bare)
    prefixed = {f"transformer.{name}": None for name in bare}
    self.write(GPT2, bare | prefixed)
    loaded = huggingface.load(self.folder)
    chex.assert_trees_all_equal(loaded.params, params)
    copy = self.root / "copy"
    huggingface.save(copy, GPT2, params, like=loaded)
    written = safetensors.numpy.load_file(copy / "model.safetensors")
    self.assertEqual(set(written), set(bare))

  def test_other_settings_are_kept(self):
    """Other settings of the checkpoint are kept, except the dtype."""
    self.write(GPT2, eos_token_id=5, torch_dtype="float16", n_ctx=3)
    loaded = huggingface.load(self.folder)
    config = dataclasses.replace(GPT2, activation="relu")
    copy = self.root / "copy"
    huggingface.save(copy, config, loaded.params, like=loaded)
    settings = json.loads((copy / "config.json").read_text())
    self.assertEqual(settings["eos_token_id"], 5)
    self.assertEqual(settings["torch_dtype"], "float32")
    self.assertNotIn("n_ctx", settings)
    self.assertEqual(huggingface.load(copy).config, config)

  def test_buffers_are_ignored(self):
    """Masks and rotary tables of old files, and a tied head, are ignored."""
    mask = np.ones((1, 1, 10, 10), bool)
    head = random_params(GPT2)["token_embedding"]["embedding"]
    extra = {
      "transformer.h.0.attn.bias": mask,
      "transformer.h.1.attn.masked_bias": np.array(-1e4, np.float32),
      "lm_head.weight": head,
    }
    self.write(GPT2, extra)
    huggingface.load(self.folder)
    shutil.rmtree(self.folder)
    block = "gpt_neox.layers.1.attention."
    extra = {
      f"{block}bias": mask,
      f"{block}masked_bias": np.array(-1e4, np.float32),
      f"{block}rotary_emb.inv_freq": np.ones(2, np.float32),
    }
    self.write(NEOX, extra)
    huggingface.load(self.folder)

  @parameterized.named_parameters(
    ("missing", {"transformer.ln_f.bias": None}, "lacks transformer.ln_f.bias"),
    (
      "missing_lookalike",
      {f"transformer.h.{i}.attn.c_attn.bias": None for i in range(2)},
      r"lacks transformer.h.0.attn.c_attn.bias and 1 more",
    ),
    (
      "unexpected",
      {"score.weight": np.zeros(3, np.float32)},
      "has unexpected score.weight",
    ),
    (
      "shape",
      {"transformer.wpe.weight": np.zeros((9, 12), np.float32)},
      r"has transformer.wpe.weight of shape \[9, 12\], not \[10, 12\]",
    ),
    (
      "dtype",
      {"transformer.wpe.weight": np.zeros((10, 12))},
      "transformer.wpe.weight is F64; must be one of F32, F16, BF16",
    ),
    (
      "untied",
      {"lm_head.weight": np.zeros((17, 12), np.float32)},
      "lm_head.weight differs from transformer.wte.weight",
    ),
  )
  def test_wrong_tensors_are_refused(self, tensors, message):
    """The error names the tensor and the file."""
    self.write(GPT2, tensors)
    with self.assertRaisesRegex(ValueError, f"model.safetensors.* {message}"):
      huggingface.load(self.folder)

  @parameterized.named_parameters(
    ("no_folder", None, None, "model is not a folder$"),
    ("pointer", "model.safetensors", LFS_POINTER, "safetensors is a Git LFS"),
    ("config_pointer", "config.json", LFS_POINTER, "config.json is a Git LFS"),
    ("nested", "config.json", b"[" * 200_000, "config.json: is nested too d"),
    ("no_config", "config.json", None, "config.json is missing"),
    ("broken_json", "config.json", b"{", "config.json: Expecting property"),
    ("latin1", "config.json", b'"\xe9"', "config.json: 'utf-8' codec"),
    (
      "list",
      "config.json",
      b"[]",
      "config.json: must be a JSON object, not",
    ),
    ("family", "config.json", b"{}", "config.json: unknown model_type None"),
    (
      "no_weights",
      "model.safetensors",
      None,
      "model has neither model.safetensors nor model.safetensors.index.json",
    ),
    ("corrupt", "model.safetensors", b"\0" * 20, "model.safetensors: Error"),
    ("empty", "model.safetensors", b"", "model.safetensors: Error"),
  )
  def test_bad_folders_are_refused(self, name, content, message):
    """Missing, incomplete and damaged folders are one-line errors."""
    if name is not None:
      self.write()
      (self.folder / name).unlink()
      if content is not None:
        (self.folder / name).write_bytes(content)
    with self.assertRaisesRegex(ValueError, message) as caught:
      huggingface.load(self.folder)
    self.assertNotIn("\n", str(caught.exception))

  @parameterized.parameters("gpt2", "EleutherAI/pythia-70m")
  def test_names_of_the_hub_are_no_folders(self, name):
    """The message says how to get a folder."""
    with self.assertRaisesRegex(
      ValueError,
      rf"^{name} is not a folder.*snapshot_download\('{name}', local_dir=",
    ):
      huggingface.load(name)

  @parameterized.parameters(np.nan, np.inf, -np.inf)
  def test_weights_that_are_no_numbers_are_refused(self, value):
    """The error names the tensor, and counts."""
    weights = np.zeros((10, 12), np.float32)
    weights[3, :2] = value
    self.write(GPT2, {"transformer.wpe.weight": weights})
    with self.assertRaisesRegex(
      ValueError, "transformer.wpe.weight has 2 of 120 numbers that are NaN or"
    ):
      huggingface.load(self.folder)

  @parameterized.parameters(
    ("vocab_size", 10**11),
    ("n_layer", 10**6),
    ("n_positions", 10**12),
    ("n_embd", 3 * 10**11),
    ("n_inner", 10**400),
  )
  def test_sizes_far_from_the_weights_are_refused(self, field, size):
    """Before anything of that size is traced."""
    self.write()
    file = self.folder / "config.json"
    settings = json.loads(file.read_text()) | {field: size}
    file.write_text(json.dumps(settings))
    with self.assertRaisesRegex(
      ValueError, "config.json describes a decoder of .* holds [0-9]+ numbers$"
    ):
      huggingface.load(self.folder)

  def test_truncated_files_are_refused(self):
    """A truncated file is an error."""
    self.write()
    file = self.folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with self.assertRaisesRegex(ValueError, "model.safetensors: Error"):
      huggingface.load(self.folder)

  def test_shards(self):
    """No shard exceeds the limit; the index lists each tensor's shard."""
    params = random_params(NEOX)
    limit = 3 * 24 * 24 * 4 + 1
    huggingface.save(self.folder, NEOX, params, max_shard_bytes=limit)
    index = json.loads(
      (self.folder / "model.safetensors.index.json").read_text()
    )
    files = sorted(self.folder.glob("model-*"))
    self.assertGreater(len(files), 2)
    self.assertEqual(
      files[0].name, f"model-00001-of-{len(files):05}.safetensors"
    )
    total = 0
    for file in files:
      tensors = safetensors.numpy.load_file(file)
      size = sum(x.nbytes for x in tensors.values())
      self.assertTrue(size <= limit or len(tensors) == 1, file)
      total += size
      for name in tensors:
        self.assertEqual(index["weight_map"][name], file.name)
    self.assertEqual(index["metadata"], {"total_size": total})

  @parameterized.named_parameters(
    ("no_map", {"weight_map": None}, "index.json has no weight_map"),
    (
      "outside",
      {"weight_map": {"a": "../b.safetensors"}},
      "index.json: '../b.safetensors' is not a file's name",
    ),
    (
      "no_shard",
      {"weight_map": {"a": "b.safetensors"}},
      "b.safetensors is missing",
    ),
    ("lacking", {"weight_map": {"a": "c"}}, "c lacks a"),
  )
  def test_bad_indexes_are_refused(self, index, message):
    """An index with missing files or tensors is an error."""
    self.write()
    (self.folder / "model.safetensors").rename(self.folder / "c")
    (self.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with self.assertRaisesRegex(ValueError, message):
      huggingface.load(self.folder)

  @parameterized.named_parameters(
    ("positions", {"positions": "none"}, "positions must be 'learned'"),
    ("parallel", {"parallel_residual": True}, "parallel_residual must be Fal"),
    ("mlp", {"mlp_width": 0}, "mlp_width must be at least 1"),
    ("outputs", {"output_features": 3}, "output_features must be None"),
    (
      "inputs",
      {"vocab_size": None, "input_features": 2, "output_features": 2},
      "vocab_size must be a number of tokens",
    ),
  )
  def test_unsupported_decoders_are_refused(self, changes, message):
    """The error names the field that neither family supports."""
    config = dataclasses.replace(GPT2, **changes)
    with self.assertRaisesRegex(ValueError, message):
      huggingface.save(self.folder, config, random_params(config))
    self.assertEmpty(list(self.root.iterdir()))

  def test_bad_layouts_are_refused(self):
    """Unknown families and prefixes are errors."""
    with self.assertRaisesRegex(ValueError, "unknown family 'gpt3'"):
      huggingface.Layout(GPT2, "gpt3", "")
    with self.assertRaisesRegex(ValueError, "positions must be 'rotary'"):
      huggingface.Layout(GPT2, "gpt_neox", "")
    with self.assertRaisesRegex(ValueError, "prefix must be '' or 'transf"):
      huggingface.Layout(GPT2, "gpt2", "gpt_neox.")

  def test_wrong_trees_are_refused(self):
    """A tree or tensors of another model are errors."""
    layout = huggingface.layout_for(GPT2)
    with self.assertRaisesRegex(ValueError, "the tree lacks block_0/"):
      huggingface.to_checkpoint(layout, {})
    seeds = jax.tree.map(lambda x: np.stack([x, x]), random_params(GPT2))
    with self.assertRaisesRegex(ValueError, r"the tree has .* of shape \[2, "):
      huggingface.to_checkpoint(layout, seeds)
    with self.assertRaisesRegex(ValueError, "the checkpoint lacks transf"):
      huggingface.from_checkpoint(layout, {})

  def test_bad_arguments_of_save_are_refused(self):
    """Existing content, wide dtypes and a limit of 0 are errors."""
    params = random_params(GPT2)
    with self.assertRaisesRegex(ValueError, "max_shard_bytes must be >= 1"):
      huggingface.save(self.folder, GPT2, params, max_shard_bytes=0)
    wide = jax.tree.map(np.float64, params)
    with self.assertRaisesRegex(ValueError, "is float64, which float32 cannot"):
      huggingface.save(self.folder, GPT2, wide)
    self.folder.mkdir()
    huggingface.save(self.folder, GPT2, params)
    with self.assertRaisesRegex(ValueError, "exists and is not an empty fold"):
      huggingface.save(self.folder, GPT2, params)
    file = self.root / "file"
    file.touch()
    with self.assertRaisesRegex(ValueError, "exists and is not an empty fold"):
      huggingface.save(file, GPT2, params)

  def test_a_failed_save_leaves_nothing(self):
    """If the second file cannot be written, no folder is left."""
    write_json = mock.Mock(side_effect=OSError("disk full"))
    with mock.patch.object(safetensors_files, "write_json", write_json):
      with self.assertRaisesRegex(OSError, "disk full"):
        huggingface.save(self.folder, GPT2, random_params(GPT2))
    write_json.assert_called_once()
    self.assertEmpty(list(self.root.iterdir()))


def _neox(tensors, tokens, config):
  """Computes GPT-NeoX's logits from its tensors, in float64, head by head.

  Source: Black et al. (2022), arXiv 2204.06745, sections 2.1.1 and 2.1.2;
  Su et al. (2021), arXiv 2104.09864, equation 34, on the first dimensions of
  each head, in pairs (i, i + width / 2) as in the published code.
  """
  w = {
    name.removeprefix("gpt_neox."): np.float64(x) for name, x in tensors.items()
  }
  size, rotary = config.width // config.heads, config.rotary_width

  def norm(x, name):
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    unit = centred / np.sqrt(variance + config.norm_epsilon)
    return unit * w[f"{name}.weight"][None] + w[f"{name}.bias"][None]

  def linear(x, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"][None]

  def rotate(x):
    out = x.copy()
    for m in range(len(x)):
      for i in range(rotary // 2):
        angle = m * config.rotary_base ** (-2 * i / rotary)
        pair = x[m, i] + 1j * x[m, i + rotary // 2]
        rotated = pair * np.exp(1j * angle)
        out[m, i], out[m, i + rotary // 2] = rotated.real, rotated.imag
    return out

  def gelu(x):
    erf = np.vectorize(math.erf)
    return x / 2 * (1 + erf(x / np.sqrt(2)))

  def attend(x, name):
    fused = linear(x, f"{name}.query_key_value")
    outs = []
    for head in range(config.heads):
      parts = fused[:, 3 * size * head : 3 * size * (head + 1)]
      q, k, v = np.split(parts, 3, axis=1)
      q, k = rotate(q), rotate(k)
      out = np.zeros_like(v)
      for i in range(len(x)):
        scores = np.exp(k[: i + 1] @ q[i] / np.sqrt(size))
        out[i] = scores @ v[: i + 1] / scores.sum()
      outs.append(out)
    return linear(np.concatenate(outs, -1), f"{name}.dense")

  def mlp(x, name):
    hidden = gelu(linear(x, f"{name}.dense_h_to_4h"))
    return linear(hidden, f"{name}.dense_4h_to_h")

  logits = []
  for sequence in tokens:
    x = w["embed_in.weight"][sequence]
    for layer in range(config.layers):
      block = f"layers.{layer}"
      attended = attend(
        norm(x, f"{block}.input_layernorm"), f"{block}.attention"
      )
      read = x if config.parallel_residual else x + attended
      x = x + attended
      x = x + mlp(
        norm(read, f"{block}.post_attention_layernorm"), f"{block}.mlp"
      )
    logits.append(norm(x, "final_layer_norm") @ w["embed_out.weight"].T)
  return np.stack(logits)


if __name__ == "__main__":
  absltest.main()
