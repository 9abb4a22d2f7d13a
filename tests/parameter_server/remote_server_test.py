"""Tests for what lies on ps tasks, which are all this process here."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import lc_asgd_tf
from lc_asgd_tf import compensation, server
from lc_asgd_tf.parameter_server import remote_server

_DEVICE = "/job:localhost/replica:0/task:0/device:CPU:0"
_WORKERS = 3
_PUSHES = 30


def _model():
  keras.utils.set_random_seed(0)
  return keras.Sequential(
    [keras.Input((5,)), keras.layers.Dense(4), keras.layers.Dense(3)]
  )


class RemoteServerTest(parameterized.TestCase):
  @parameterized.parameters(
    (compensation.GapAware(), 2, "float32"),
    (compensation.DelayCompensatedAdaptive(), 2, "bfloat16"),
    (
      compensation.LossCompensated(ratio=0.5, brake=0.0, window=False),
      2,
      "float32",
    ),
    (compensation.DelayCompensatedConstant(), 1, "bfloat16"),
  )
  def test_every_worker_has_its_own_snapshot(self, rule, num_ps, pull_dtype):
    """As a server on one device, which is shown what every worker pulled."""
    model = _model()
    optimizer = lc_asgd_tf.AsyncOptimizer(
      keras.optimizers.SGD(0.02, momentum=0.9), rule
    )
    model.compile(optimizer, loss="mse")
    remote = remote_server.RemoteServer(
      model, _WORKERS, [_DEVICE] * num_ps, pull_dtype
    )
    remote.load_from_model()
    # In either the last bit of what travels may be rounded up or down.
    tolerance = {"float32": 1e-5, "bfloat16": 2e-2}[pull_dtype]
    handles = remote.snapshot_handles()
    host = server.Server(
      [_model().trainable_variables],
      [optimizer.new_inner_optimizer(_WORKERS)],
      rule,
      _WORKERS,
      jit_compile=False,
      pull_dtype=pull_dtype,
    )
    workers = [tf.constant(worker, tf.int64) for worker in range(_WORKERS)]
    replies = [remote.pull(worker, handles) for worker in workers]
    expected = [host.pull(worker) for worker in workers]
    generator = np.random.default_rng(0)
    for _ in range(_PUSHES):
      worker = generator.integers(_WORKERS)
      pulled, version, _ = remote.open_replies(replies[worker])
      (weights,), expected_version, _ = host.open_replies(expected[worker])
      self.assertEqual(int(version), int(expected_version))
      for ours, theirs in zip(pulled, weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance)
      noise = [generator.normal(size=w.shape, scale=0.1) for w in weights]
      gradients = [
        2.0 * w + tf.cast(n, w.dtype)
        for w, n in zip(weights, noise, strict=True)
      ]
      loss = tf.constant(1.0)
      messages = remote.messages(gradients, loss, worker=workers[worker])
      replies[worker] = remote.push(messages, [], handles)
      expected[worker] = host.push(
        workers[worker], host.messages([gradients], loss), expected[worker]
      )
    remote.copy_to_model()
    for ours, theirs in zip(
      model.trainable_variables, host.shards[0].weights, strict=True
    ):
      np.testing.assert_allclose(ours, theirs, atol=tolerance)


if __name__ == "__main__":
  absltest.main()
