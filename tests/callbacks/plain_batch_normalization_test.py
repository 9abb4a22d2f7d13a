"""Tests for moving statistics of shared and of separate workers."""

import keras
import numpy as np
from absl.testing import absltest, parameterized

import lc_asgd_tf

_WORKERS = 4
_STEPS = 8
_MOMENTUM = 0.9


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
    x, y = np.ones((2 * _STEPS, 3)), np.zeros((2 * _STEPS, 1))
    model.fit(x, y, batch_size=2, verbose=0, callbacks=[callback()])
    np.testing.assert_allclose(
      model.layers[0].moving_mean, 1 - _MOMENTUM**moves, rtol=1e-5
    )


if __name__ == "__main__":
  absltest.main()
