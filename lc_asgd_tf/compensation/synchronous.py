"""SSGD: nobody is late, because everybody waits."""

import keras

from lc_asgd_tf.compensation import compensation


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class Synchronous(compensation.Compensation):
  """u <- the mean of M gradients at the same w, one update per round.

  A round lasts as long as its slowest worker. The inner optimizer accumulates
  the round's gradients (Keras's `gradient_accumulation_steps`).

  Source: standard synchronous data parallelism.
  """

  elementwise = True
  synchronous = True

  def compensate(self, gradient, displacement, second_moment, coefficients):
    """Returns g itself, which the inner optimizer averages."""
    del displacement, second_moment, coefficients
    return gradient
