"""All workers take the same time, always."""

import keras
import numpy as np

from lc_asgd_tf.delays import delays


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class Constant(delays.Delays):
  """Every step takes 1: workers take turns, and staleness is M - 1.

  Args:
    seed: not read; for the sake of one signature.
  """

  def _draw(self, rng, num_workers):
    del rng
    return np.ones((num_workers, delays.LENGTH))
