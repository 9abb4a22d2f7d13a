"""Staleness-aware ASGD: the later a gradient, the less it counts."""

import keras
import tensorflow as tf

from lc_asgd_tf.compensation import compensation


def staleness_aware_factor(staleness: tf.Tensor) -> tf.Tensor:
  """Returns 1 / max(tau, 1), what the learning rate is multiplied by.

  Args:
    staleness: tau, shape=(), in updates.
  """
  return 1.0 / tf.maximum(staleness, 1.0)


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class StalenessAware(compensation.Compensation):
  """u <- g;  lr <- lr / max(tau, 1), for this update.

  Source: Zhang, Gupta, Lian, Liu, "Staleness-aware Async-SGD for Distributed
  Deep Learning", arXiv 1511.05950, equation 6, with their n-softsync's n = M.
  """

  elementwise = True

  def coefficients(self, sums, arrival):
    """Returns (1 / max(tau, 1),)."""
    del sums
    return (staleness_aware_factor(arrival.staleness),)

  def compensate(self, gradient, displacement, second_moment, coefficients):
    """Returns g itself."""
    del displacement, second_moment, coefficients
    return gradient

  def rate_factor(self, coefficients):
    """Returns 1 / max(tau, 1)."""
    return coefficients[0]
