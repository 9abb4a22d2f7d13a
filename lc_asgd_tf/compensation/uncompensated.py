"""ASGD: a late gradient is applied as it is."""

import keras

from lc_asgd_tf.compensation import compensation


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class Uncompensated(compensation.Compensation):
  """u <- g.

  Source: Downpour SGD; Dean et al., "Large Scale Distributed Deep Networks",
  NIPS 2012.
  """

  elementwise = True

  def compensate(self, gradient, displacement, second_moment, coefficients):
    """Returns g itself."""
    del displacement, second_moment, coefficients
    return gradient
