"""Law 10: a loaded GPT-2 has the published PyTorch code's loss and gradients.

The oracle's checkpoint lacks three tensors; `recover_oracle` computed them from
some of its `vanilla` gradients. So the loss, the other vanilla gradients and
everything under `myopic_kv` and `myopic_residual` test the implementation. The
`vanilla` gradients of biases, LayerNorms and `attn.c_proj` are a weaker test:
288 unknowns cannot satisfy 8640 equations by chance.
"""

import functools
import itertools
import json
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np
import safetensors.numpy
from absl.testing import absltest, parameterized

from jaxlook.models import Decoder, huggingface
from jaxlook.models.gradients import loss_and_gradients
from tests.fixtures import base

_DATA = Path(__file__).parents[1] / "testdata"
_SPECS = {
  "vanilla": "causal",
  "myopic_kv": "myopic",
  "myopic_residual": "myopic/residual",
}

# The bounds of the laws. Actual errors are float32 rounding.
LOSS_ATOL = 1e-5
GRADIENT_RTOL = 1e-4


@functools.cache
def _published():
  with np.load(_DATA / "gpt2" / "gradients.npz") as arrays:
    return dict(arrays)


def oracle_errors(case: str, implementation, folder: Path, dtype=np.float32):
  """Returns the loss's error, and the relative error of every gradient."""
  published = _published()
  cases = json.loads((_DATA / "gpt2" / "cases.json").read_text())
  model = huggingface.load(folder)
  decoder = Decoder(model.config, _SPECS[case], implementation)
  loss, gradients = jax.jit(loss_and_gradients, static_argnums=0)(
    decoder, jax.tree.map(dtype, model.params), published["input_ids"]
  )
  errors = {}
  for name, actual in huggingface.to_checkpoint(model, gradients).items():
    expected = np.float64(published[f"{case}/{name}"])
    errors[name] = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
  return abs(float(loss) - cases[case]["loss"]), errors


class OracleTest(base.TestCase):
  def setUp(self):
    super().setUp()
    folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    shutil.copy(_DATA / "gpt2" / "config.json", folder)
    tensors = safetensors.numpy.load_file(_DATA / "gpt2" / "model.safetensors")
    tensors |= safetensors.numpy.load_file(_DATA / "gpt2_lost.safetensors")
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    self.folder = folder

  @parameterized.product(
    case=list(_SPECS), implementation=["reference", "fused"]
  )
  def test_published_gradients(self, case, implementation):
    """The loss and every parameter's gradient equal the published ones."""
    loss_error, errors = oracle_errors(case, implementation, self.folder)
    self.assertLess(loss_error, LOSS_ATOL)
    self.assertEqual(
      {f"{case}/{name}" for name in errors},
      {name for name in _published() if name.startswith(f"{case}/")},
    )
    name, worst = max(errors.items(), key=lambda item: item[1])
    self.assertLess(worst, GRADIENT_RTOL, name)

  def test_cases_differ(self):
    """The cases differ by far more than the tolerance."""
    published = _published()
    for layer in range(2):
      name = f"transformer.h.{layer}.attn.c_attn.weight"
      gradients = [published[f"{case}/{name}"] for case in _SPECS]
      for a, b in itertools.combinations(gradients, 2):
        self.assertGreater(
          np.linalg.norm(a - b), 1000 * GRADIENT_RTOL * np.linalg.norm(b)
        )

  def test_lost_tensors(self):
    """The original checkpoint is incomplete; the error names the tensors."""
    with self.assertRaisesRegex(
      ValueError, r"lacks transformer\.h\.0\.attn\.c_attn\.bias and 2 more"
    ):
      huggingface.load(_DATA / "gpt2")


if __name__ == "__main__":
  absltest.main()
