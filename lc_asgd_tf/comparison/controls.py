"""Controls: rules without which a comparison would flatter LC-ASGD."""

import keras
import tensorflow as tf

from lc_asgd_tf import compensation
from lc_asgd_tf.compensation import delay_compensated, loss_compensated

# How many ratios a shuffled one is drawn from.
_RING = 64


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class ShuffledRatio(compensation.LossCompensated):
  """LC-ASGD whose ratio r is that of another push, drawn from the latest 64.

  It has the distribution of the predictions, and nothing of what they know of
  this push. Brake and window stay as they are.
  """

  @property
  def initial_signals(self):
    """The rule's own, then the latest ratios."""
    return super().initial_signals + (1.0,) * _RING

  def observe(self, sums, arrival):
    """Puts this push's ratio in front of the others."""
    own = arrival.signals[:-_RING]
    if self.window:
      own = super().observe(sums, arrival)
    parts = loss_compensated.Sums(*tf.unstack(sums))
    ratio = super().delivered_ratio(parts, arrival._replace(signals=own))
    latest = arrival.signals[-_RING:-1]
    return tf.concat([own, ratio[tf.newaxis], latest], axis=0)

  def delivered_ratio(self, sums, arrival):
    """Returns the ratio of another push."""
    # The loss's last bits are as good as a die.
    seed = tf.stack([tf.bitcast(arrival.loss, tf.int32), 0])
    place = tf.random.stateless_uniform([], seed, 1, _RING, tf.int32)
    return tf.gather(arrival.signals[-_RING:], place)


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class SingleDrawMetric(compensation.LossCompensated):
  """LC-ASGD with DC-ASGD-a's D = diag(g*g / sqrt(MS + 1e-7)).

  What this project's reconstruction began with.
  """

  def bend(self, gradient, displacement, second_moment):
    """Returns D d of one variable."""
    root = tf.math.rsqrt(second_moment + 1e-7)
    return gradient * gradient * root * displacement


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class CappedDelayCompensated(compensation.DelayCompensatedAdaptive):
  """DC-ASGD-a with LC-ASGD's norm cap: u is never longer than g."""

  measures = True

  def measure(self, gradient, displacement, second_moment):
    """Returns this variable's share of the squared norms of g and u."""
    u = delay_compensated.adaptive_update(
      gradient, displacement, second_moment, self.lambda_0
    )
    pair = (tf.cast(part, tf.float32) for part in (gradient, u))
    return tf.stack([tf.reduce_sum(part * part) for part in pair])

  def accepts(self, sums):
    """Returns whether g and u are finite."""
    return tf.reduce_all(tf.math.is_finite(sums))

  def coefficients(self, sums, arrival):
    """Returns (the factor of u,)."""
    del arrival
    squares = tf.unstack(sums, num=2)
    return (tf.minimum(1.0, tf.sqrt(tf.math.divide_no_nan(*squares))),)

  def compensate(self, gradient, displacement, second_moment, coefficients):
    """Returns u for one variable."""
    u = super().compensate(gradient, displacement, second_moment, ())
    return tf.cast(coefficients[0], u.dtype) * u


@keras.saving.register_keras_serializable(package="lc_asgd_tf")
class LossScaled(compensation.Compensation):
  """The literal reading: u <- g (predicted loss at w) / (loss at w_m).

  That is g max(1 + Delta / l, 0), where the typical loss l stands for the one
  at w_m, so that the minibatch's noise stays out of it.
  """

  uses_prediction = True

  def coefficients(self, sums, arrival):
    """Returns (the ratio of the two losses,)."""
    del sums
    ratio = 1.0 + arrival.predicted_change / (arrival.typical_loss + 1e-3)
    return (tf.maximum(ratio, 0.0),)

  def compensate(self, gradient, displacement, second_moment, coefficients):
    """Returns u for one variable."""
    del displacement, second_moment
    return tf.cast(coefficients[0], gradient.dtype) * gradient
