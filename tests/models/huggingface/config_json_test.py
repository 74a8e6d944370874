"""config.json is read and written; unsupported options are errors."""

import dataclasses

from absl.testing import absltest, parameterized

from jaxlook.models import DecoderConfig
from jaxlook.models.huggingface.config_json import read_settings, write_settings
from tests.fixtures import base
from tests.fixtures.checkpoints import GPT2, NEOX

# EleutherAI/pythia-70m's config.json, from transformers 4.24.
_PYTHIA = {
  "architectures": ["GPTNeoXForCausalLM"],
  "bos_token_id": 0,
  "eos_token_id": 0,
  "hidden_act": "gelu",
  "hidden_size": 512,
  "initializer_range": 0.02,
  "intermediate_size": 2048,
  "layer_norm_eps": 1e-05,
  "max_position_embeddings": 2048,
  "model_type": "gpt_neox",
  "num_attention_heads": 8,
  "num_hidden_layers": 6,
  "rotary_emb_base": 10000,
  "rotary_pct": 0.25,
  "tie_word_embeddings": False,
  "torch_dtype": "float16",
  "use_cache": True,
  "use_parallel_residual": True,
  "vocab_size": 50304,
}


def _settings(config=NEOX, **changes):
  """Returns a decoder's settings with changes; "gone" removes one."""
  family = "gpt_neox" if config.positions == "rotary" else "gpt2"
  settings = write_settings(config, family, {}) | changes
  return {name: value for name, value in settings.items() if value != "gone"}


_OLD_ROTARY = {
  "rope_parameters": "gone",
  "rotary_pct": 0.25,
  "rotary_emb_base": 500,
}
_NEW_ROTARY = {
  "rope_parameters": {
    "rope_type": "default",
    "rope_theta": 500.0,
    "partial_rotary_factor": 0.25,
  },
  "rotary_pct": "gone",
  "rotary_emb_base": "gone",
}


class SettingsTest(base.TestCase):
  def test_pythia(self):
    """A published Pythia's settings give its published shape."""
    family, config = read_settings(_PYTHIA)
    self.assertEqual(family, "gpt_neox")
    self.assertEqual(
      config,
      DecoderConfig(
        layers=6,
        width=512,
        heads=8,
        max_length=2048,
        vocab_size=50304,
        activation="gelu",
        positions="rotary",
        rotary_fraction=0.25,
        parallel_residual=True,
        tied_head=False,
      ),
    )

  def test_defaults(self):
    """Settings that old files lack have transformers' defaults."""
    names = ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size")
    sizes = dict(zip(names, (2, 12, 3, 10, 17), strict=True))
    self.assertEqual(
      read_settings({"model_type": "gpt2", **sizes}), ("gpt2", GPT2)
    )
    least = {
      name: value
      for name, value in _PYTHIA.items()
      if name
      not in (
        "hidden_act",
        "layer_norm_eps",
        "rotary_emb_base",
        "rotary_pct",
        "tie_word_embeddings",
        "use_parallel_residual",
      )
    }
    self.assertEqual(read_settings(least), read_settings(_PYTHIA))

  @parameterized.named_parameters(
    ("mlp", {"mlp_width": 7}),
    ("same_mlp", {"mlp_width": 48}, {"mlp_width": None}),
    ("activation", {"activation": "relu"}),
    ("exact_gelu", {"activation": "gelu"}),
    ("untied", {"tied_head": False}),
    ("epsilon", {"norm_epsilon": 1e-3}),
    ("std", {"init_std": 0.1}),
  )
  def test_round_trip(self, changes, read=None):
    """Every field of the shape is written and read back."""
    config = dataclasses.replace(GPT2, **changes)
    expected = dataclasses.replace(config, **(read or {}))
    self.assertEqual(read_settings(_settings(config))[1], expected)

  @parameterized.named_parameters(
    ("old", _OLD_ROTARY),
    ("new", _NEW_ROTARY),
    ("between", _OLD_ROTARY | {"rope_theta": 500.0}),
    ("scaling", _OLD_ROTARY | {"rope_scaling": {"type": "default"}}),
    ("null", _OLD_ROTARY | {"rope_scaling": None, "rope_parameters": None}),
  )
  def test_rotary(self, changes):
    """All forms of the rotary settings are read."""
    _, config = read_settings(_settings(NEOX, hidden_size=48, **changes))
    self.assertEqual((config.rotary_fraction, config.rotary_base), (0.25, 500))

  @parameterized.parameters(
    ("gelu_new", "gelu_tanh"),
    ("gelu_fast", "gelu_tanh"),
    ("gelu_pytorch_tanh", "gelu_tanh"),
    ("gelu", "gelu"),
    ("relu", "relu"),
  )
  def test_activation(self, name, expected):
    """Each name of an activation is read, and kept when written."""
    settings = _settings(GPT2, activation_function=name)
    _, config = read_settings(settings)
    self.assertEqual(config.activation, expected)
    again = write_settings(config, "gpt2", settings)
    self.assertEqual(again["activation_function"], name)

  @parameterized.named_parameters(
    (
      "family",
      GPT2,
      {"model_type": "llama"},
      "unknown model_type 'llama'; us",
    ),
    ("type", GPT2, {"model_type": ["gpt2"]}, r"unknown model_type \['gpt2'\]"),
    ("unscaled", GPT2, {"scale_attn_weights": False}, "scale_attn_weights=Fal"),
    (
      "by_layer",
      GPT2,
      {"scale_attn_by_inverse_layer_idx": True},
      "scale_attn_by_inverse_layer_idx=True; must be False",
    ),
    ("cross", GPT2, {"add_cross_attention": True}, "add_cross_attention=True"),
    ("pruned", GPT2, {"pruned_heads": {"0": [1]}}, "pruned_heads="),
    (
      "activation",
      GPT2,
      {"activation_function": "silu"},
      "activation_function='silu'; use one of gelu_new,",
    ),
    ("hidden_act", NEOX, {"hidden_act": None}, "unsupported hidden_act=None"),
    ("no_bias", NEOX, {"attention_bias": False}, "attention_bias=False"),
    (
      "scaling",
      NEOX,
      {"rope_scaling": {"type": "linear", "factor": 2.0}},
      "unsupported rope_scaling=.*linear",
    ),
    (
      "yarn",
      NEOX,
      {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
      "unsupported rope_parameters=.*yarn",
    ),
    ("nested", NEOX, {"rope_parameters": {"a": {}}}, "rope_parameters={'a'"),
    ("rope_list", NEOX, {"rope_parameters": [1]}, "rope_parameters="),
    ("contradiction", NEOX, {"rotary_pct": 0.25}, "contradictory rotary sett"),
    ("missing", GPT2, {"n_layer": "gone"}, "n_layer must be a whole number >="),
    (
      "zero",
      GPT2,
      {"n_layer": 0},
      "n_layer must be a whole number >= 1, not 0",
    ),
    ("float", GPT2, {"n_embd": 12.0}, "n_embd must be a whole number"),
    ("bool", GPT2, {"n_head": True}, "n_head must be a whole number"),
    ("vocabulary", NEOX, {"vocab_size": -1}, "vocab_size must be a whole"),
    ("inner", GPT2, {"n_inner": "x"}, "n_inner must be a whole number"),
    ("heads", GPT2, {"n_head": 5}, "heads must divide width=12, .* not 5"),
    (
      "epsilon",
      GPT2,
      {"layer_norm_epsilon": 0.0},
      "layer_norm_epsilon must be a finite number > 0",
    ),
    (
      "nan",
      NEOX,
      {"layer_norm_eps": float("nan")},
      "layer_norm_eps must be a finite number > 0, not nan",
    ),
    (
      "parallel",
      NEOX,
      {"use_parallel_residual": "yes"},
      "use_parallel_residual must be true or false, not 'yes'",
    ),
    (
      "tied",
      GPT2,
      {"tie_word_embeddings": 1},
      "tie_word_embeddings must be tr",
    ),
  )
  def test_unsupported_options_are_refused(self, config, changes, message):
    """The error names the option."""
    with self.assertRaisesRegex(ValueError, message) as caught:
      read_settings(_settings(config, **changes))
    self.assertNotIn("\n", str(caught.exception))


if __name__ == "__main__":
  absltest.main()
