"""ASGD: a late gradient is applied as it is."""

from lc_asgd_tf.compensation import compensation


@compensation.serializable
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
