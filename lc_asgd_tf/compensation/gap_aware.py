"""Gap-Aware: a gradient counts less, the further its weights have moved."""

import keras
import tensorflow as tf

from lc_asgd_tf.compensation import compensation


def gap_aware_update(
  gradient: tf.Tensor, displacement: tf.Tensor, step_size: tf.Tensor
) -> tf.Tensor:
  """Returns u = g / (1 + abs(d) / C), elementwise.

  Args:
    gradient: g, any shape.
    displacement: d = w - w_m, same shape.
    step_size: C, shape=(): how far one update moves a weight. 0 before the
      first update, when nothing has moved.
  """
  step_size = tf.cast(step_size, gradient.dtype)
  gap = tf.math.divide_no_nan(tf.abs(displacement), step_size)
  return gradient / (1.0 + gap)


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class GapAware(compensation.Compensation):
  """u <- g / (1 + abs(w - w_m) / C), elementwise.

  C is the root mean square, over all weights, of the inner optimizer's latest
  step. For SGD with momentum that is lr times the RMS of the momentum buffer.

  Source: Barkai, Hakimi, Schuster, "Gap-Aware Mitigation of Gradient
  Staleness", ICLR 2020, arXiv 1909.10802. That C is taken from the latest step
  itself, so that any inner optimizer has one, is this project's choice.
  """

  elementwise = True
  uses_displacement = True
  measures = True
  uses_step_size = True

  def measure(self, gradient, displacement, second_moment):
    """Returns nothing: the shard adds what it knows of its latest step."""
    del gradient, displacement, second_moment
    return tf.zeros([0])

  def coefficients(self, sums, arrival):
    """Returns (C,)."""
    del arrival
    squares, count = tf.unstack(sums, num=2)
    return (tf.sqrt(squares / count),)

  def compensate(self, gradient, displacement, second_moment, coefficients):
    """Returns u for one variable."""
    del second_moment
    return gap_aware_update(gradient, displacement, *coefficients)
