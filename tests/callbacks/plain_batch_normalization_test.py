"""Tests for moving statistics of shared and of separate workers."""

import keras
import numpy as np
from absl.testing import absltest, parameterized

import lc_asgd_tf
from lc_asgd_tf import errors

_WORKERS = 4
_STEPS = 8
_MOMENTUM = 0.9
_X, _Y = np.ones((2 * _STEPS, 3)), np.zeros((2 * _STEPS, 1))


class PlainBatchNormalizationTest(parameterized.TestCase):
  @parameterized.product(
    case=(
      # Async-BN: every push moves the one mean.
      (lc_asgd_tf.callbacks.ServerWeights, _STEPS),
      # Plain: a worker's mean moves only by its own pushes.
      (lc_asgd_tf.callbacks.PlainBatchNormalization, _STEPS // _WORKERS),
    ),
    jit_compile=(False, True),
  )
  def test_moves_by_the_pushes_that_count(self, case, jit_compile):
    callback, moves = case
    model = keras.Sequential(
      [
        keras.Input((3,)),
        keras.layers.BatchNormalization(momentum=_MOMENTUM),
        keras.layers.Dense(1),
      ]
    )
    model.compile(
      lc_asgd_tf.ASGD(
        0.0, num_workers=_WORKERS, delays=lc_asgd_tf.delays.Constant()
      ),
      "mse",
      jit_compile=jit_compile,
    )
    model.fit(_X, _Y, batch_size=2, verbose=0, callbacks=[callback()])
    np.testing.assert_allclose(
      model.layers[0].moving_mean, 1 - _MOMENTUM**moves, rtol=1e-5
    )

  def _unbuilt(self):
    model = keras.Sequential(
      [keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    )
    model.compile(lc_asgd_tf.ASGD(0.01, num_workers=_WORKERS), "mse")
    return model

  def test_refuses_layers_that_have_no_statistics_yet(self):
    plain = lc_asgd_tf.callbacks.PlainBatchNormalization()
    with self.assertRaisesRegex(errors.UserError, "begin with keras.Input"):
      self._unbuilt().fit(_X, _Y, verbose=0, callbacks=[plain])

  def test_refuses_statistics_that_workers_have_shared(self):
    model = self._unbuilt()
    shared = lc_asgd_tf.callbacks.ServerWeights()
    model.fit(_X, _Y, verbose=0, callbacks=[shared])
    plain = lc_asgd_tf.callbacks.PlainBatchNormalization()
    with self.assertRaisesRegex(errors.UserError, "from the first call on"):
      model.fit(_X, _Y, verbose=0, callbacks=[plain])


if __name__ == "__main__":
  absltest.main()
