"""All workers take the same time, always."""

import numpy as np

from lc_asgd_tf.delays import delays


@delays.serializable
class Constant(delays.Delays):
  """Every step takes 1: workers take turns, and staleness is M - 1.

  Args:
    seed: not read; for the sake of one signature.
  """

  def _draw(self, rng, num_workers):
    del rng
    return np.ones((num_workers, delays.LENGTH))
