"""The training config."""

import dataclasses

from absl.testing import absltest, parameterized

from jaxlook.training import TrainConfig
from tests.fixtures import base

_CONFIG = TrainConfig(
  steps=100, batch_size=2, learning_rate=0.01, warmup_fraction=0.1
)


class TrainConfigTest(base.TestCase):
  @parameterized.parameters(
    ({"steps": 0}, "steps must be at least 1, not 0"),
    ({"steps": 2**31}, "steps must be at most 2147483647, not 2147483648"),
    ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
    ({"log_every": -1}, "log_every must be at least 1, not -1"),
    ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, not 0"),
    ({"eval_batches": 0}, "eval_batches must be at least 1, not 0"),
    ({"microbatches": 0}, "microbatches must be at least 1, not 0"),
    ({"microbatches": 3}, "microbatches must divide batch_size=2, not 3"),
    ({"loss_tokens": 0}, "loss_tokens must be at least 1, not 0"),
    ({"learning_rate": 0.0}, "learning_rate must be positive, not 0.0"),
    ({"learning_rate": float("nan")}, "learning_rate must be positive, not"),
    ({"weight_decay": -0.1}, "weight_decay must be at least 0, not -0.1"),
    ({"warmup_fraction": 1.0}, r"warmup_fraction must lie in \[0, 1\), not 1"),
    ({"warmup_fraction": -0.1}, r"must lie in \[0, 1\), not -0.1"),
    ({"clip_norm": 0.0}, "clip_norm must be positive, not 0.0"),
    (
      {"optimizer": "adam"},
      "optimizer must be one of adamw, muon, sgd, l",
    ),
    (
      {"schedule": "linear"},
      "schedule must be one of cosine, wsd, not",
    ),
    ({"warmup_steps": 100}, r"warmup_steps must lie in 0..99, not 100"),
    ({"warmup_steps": -1}, r"warmup_steps must lie in 0..99, not -1"),
    ({"decay_fraction": 0.0}, r"decay_fraction must lie in \(0, 1\), not 0.0"),
    ({"decay_fraction": 1.0}, r"decay_fraction must lie in \(0, 1\), not 1.0"),
  )
  def test_bad_fields_are_refused(self, changes, message):
    """The error names the field."""
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(_CONFIG, **changes)

  def test_smallest_values_are_accepted(self):
    """The smallest value of every field is accepted."""
    config = TrainConfig(
      steps=1,
      batch_size=1,
      weight_decay=0.0,
      warmup_fraction=0.0,
      log_every=1,
      checkpoint_every=1,
      eval_batches=1,
    )
    self.assertIsNone(config.clip_norm)


if __name__ == "__main__":
  absltest.main()
