"""Staleness-aware ASGD: the later a gradient, the less it counts."""

import tensorflow as tf

from lc_asgd_tf.compensation import compensation


def staleness_aware_update(
  gradient: tf.Tensor, staleness: tf.Tensor
) -> tf.Tensor:
  """Returns u = g / max(tau, 1).

  Args:
    gradient: g, any shape.
    staleness: tau, shape=(), in updates.
  """
  return gradient / tf.cast(tf.maximum(staleness, 1), gradient.dtype)


@compensation.serializable
class StalenessAware(compensation.Compensation):
  """u <- g / max(tau, 1).

  Source: Zhang, Gupta, Lian, Liu, "Staleness-aware Async-SGD for Distributed
  Deep Learning", arXiv 1511.05950, equation 6, with their n-softsync's n = M.
  """

  elementwise = True

  def coefficients(self, sums, arrival):
    """Returns (tau,)."""
    del sums
    return (arrival.staleness,)

  def compensate(self, gradient, displacement, second_moment, coefficients):
    """Returns g / max(tau, 1)."""
    del displacement, second_moment
    return staleness_aware_update(gradient, *coefficients)
